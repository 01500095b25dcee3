"""The only uses of Twisted's private parts in the HTTP client.

Twisted has no public way to choose among a pool's connections or to keep one out, to combine trust
roots, or to end a response's transport at once; and two errors of calls have no public name.
`tests/http/client/test_twisted.py` checks this against the installed release.
"""

from typing import Any

from OpenSSL import SSL
from twisted.internet._sslverify import IOpenSSLTrustRoot
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IStreamClientEndpoint, ITransport
from twisted.web._newclient import ParseError
from twisted.web.client import HTTPConnectionPool
from twisted.web.http import _MalformedChunkedDataError
from zope.interface import implementer

NOT_HTTP: tuple[type[Exception], ...] = (ParseError, _MalformedChunkedDataError)
"""The error of a call whose response can't be parsed."""


class OpenPool(HTTPConnectionPool):
    """A pool whose subclass chooses among its connections, and says which may be kept."""

    def take_kept(self, key: Any) -> Any:
        """Remove and return a key's connection that was used last; None if none is kept."""
        kept = self._connections.get(key)
        if not kept:
            return None
        connection = kept.pop()
        self._timeouts.pop(connection).cancel()
        return connection

    def connect(self, key: Any, endpoint: IStreamClientEndpoint) -> Deferred[Any]:
        """A new connection, which the pool may keep once its request is done."""
        return self._newConnection(key, endpoint)

    def may_keep(self, connection: Any) -> bool:
        """Whether a connection may be kept after its request."""
        del connection
        return True

    def _putConnection(self, key: Any, connection: Any) -> None:
        if self.may_keep(connection):
            super()._putConnection(key, connection)
        else:
            connection.transport.loseConnection()


def log_no_connections(pool: HTTPConnectionPool) -> None:
    """Log no line for each connection of a pool."""
    pool._factory.noisy = False


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


def abort(transport: ITransport) -> None:
    """End the connection of a response's body at once.

    A body's transport can only close gracefully, and a stuck TLS peer may never respond to that.
    """
    producer = getattr(transport, "_producer", None)
    getattr(producer, "abortConnection", transport.loseConnection)()
