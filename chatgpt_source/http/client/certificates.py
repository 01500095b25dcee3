"""Whose certificates are trusted: the platform's authorities', and those that a user adds."""

from collections.abc import Sequence

from OpenSSL import SSL
from OpenSSL.crypto import X509StoreFlags
from twisted.internet._sslverify import IOpenSSLTrustRoot
from twisted.internet.ssl import platformTrust, trustRootFromCertificates
from zope.interface import implementer

from chatgpt_source.http.pem import read_certificates


@implementer(IOpenSSLTrustRoot)
class PlatformAndThese:
    """Trusts the platform's authorities, and the given ones.

    One of these may be intermediate, without the one that signed it, as with curl.

    Args:
        authorities: PEM texts.

    Raises:
        ValueError: As `read_certificates`.
    """

    def __init__(self, authorities: Sequence[bytes]) -> None:
        added = [each for pem in authorities for each in read_certificates(pem)]
        self._roots = (platformTrust(), trustRootFromCertificates(added))

    def _addCACertsToContext(self, context: SSL.Context) -> None:
        for root in self._roots:
            root._addCACertsToContext(context)
        store = context.get_cert_store()
        if store is not None:
            store.set_flags(X509StoreFlags.PARTIAL_CHAIN)
