"""What the client needs of Twisted's inside, under names of its own: here and nowhere else.

A pool has no public way to choose among the connections it keeps, nor to keep one out; a trust root
none to be put together of others; a response's transport none to be ended at once; and two of the
errors that a call fails with have no public name. `tests/http/client/test_twisted.py` holds this to
the installed release.
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
"""What a call fails with whose answer can't be parsed."""


class OpenPool(HTTPConnectionPool):
    """A pool that can be asked for the connections it keeps, and asks which it may keep."""

    def take_kept(self, key: Any) -> Any:
        """Take out the connection of a key that was used last; None if none is kept."""
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
        """Whether a connection that has no request any more may be kept."""
        del connection
        return True

    def _putConnection(self, key: Any, connection: Any) -> None:
        if self.may_keep(connection):
            super()._putConnection(key, connection)
        else:
            connection.transport.loseConnection()


def log_no_connections(pool: HTTPConnectionPool) -> None:
    """Have no line in the log for each connection of a pool."""
    pool._factory.noisy = False


@implementer(IOpenSSLTrustRoot)
class TrustRoots:
    """Trusts whom any of these trusts.

    Args:
        roots: Twisted's trust roots.
    """

    def __init__(self, *roots: Any) -> None:
        self._roots = roots

    def prepare(self, context: SSL.Context) -> None:
        """Change the context once all are in it."""

    def _addCACertsToContext(self, context: SSL.Context) -> None:
        for root in self._roots:
            root._addCACertsToContext(context)
        self.prepare(context)


def abort(transport: ITransport) -> None:
    """End the connection that a response's body comes on, at once.

    A body's transport can only close politely, which a stuck peer that speaks TLS may never answer.
    """
    producer = getattr(transport, "_producer", None)
    getattr(producer, "abortConnection", transport.loseConnection)()
