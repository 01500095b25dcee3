"""The only use of Twisted's private parts in the HTTP client.

Twisted has no public way to combine trust roots.
`tests/http/client/test_twisted.py` checks this against the installed release.
"""

from typing import Any

from OpenSSL import SSL
from twisted.internet._sslverify import IOpenSSLTrustRoot
from zope.interface import implementer


@implementer(IOpenSSLTrustRoot)
class TrustRoots:
    """Trusts all authorities of several trust roots.

    Args:
        roots: Twisted's trust roots.
    """

    def __init__(self, *roots: Any) -> None:
        self._roots = roots

    def prepare(self, context: SSL.Context) -> None:
        """Change the context after all roots were added."""

    def _addCACertsToContext(self, context: SSL.Context) -> None:
        for root in self._roots:
            root._addCACertsToContext(context)
        self.prepare(context)
