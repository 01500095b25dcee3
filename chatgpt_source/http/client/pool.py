"""Chooses the connection for a request: a kept one that is still open, or a new one."""

import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from twisted.python.failure import Failure
from twisted.web.client import (
    HTTPConnectionPool,
    RequestTransmissionFailed,
    ResponseNeverReceived,
)

AT_ONCE = 1.0
"""If a kept connection ends within these seconds after a request, it was closing already."""


class LivePool(HTTPConnectionPool):
    """A pool that returns the connection used last, of those that the peer has not closed.

    Twisted notices that a peer closed a connection only when it next reads. A request that is
    written before that is lost, and looks as if it might have been answered. If the end is still
    on its way and can't be seen, `_Kept` sends the request again.
    """

    def getConnection(self, key: Any, endpoint: IStreamClientEndpoint) -> Deferred[Any]:
        """A live connection, kept or new."""
        kept = self._connections.get(key)
        while kept:
            connection = kept.pop()
            self._timeouts.pop(connection).cancel()
            if connection.state == "QUIESCENT" and _is_quiet(connection):
                return succeed(
                    _Kept(connection, lambda: self._newConnection(key, endpoint), self._reactor)
                )
            connection.transport.loseConnection()
        return self._newConnection(key, endpoint)

    def _putConnection(self, key: Any, connection: Any) -> None:
        if connection.guard.closes:
            connection.transport.loseConnection()
        else:
            super()._putConnection(key, connection)


class _Kept:
    """A kept connection for one request; sends it again on a new one if this one is closing.

    Args:
        connection: The connection.
        renew: Makes a new one.
        clock: Measures whether it ended at once.
    """

    def __init__(
        self, connection: Any, renew: Callable[[], Deferred[Any]], clock: IReactorTime
    ) -> None:
        self._connection = connection
        self._renew = renew
        self._clock = clock

    def request(self, request: Any) -> Deferred[Any]:
        """Send a request."""
        sent = self._clock.seconds()

        def failed(failure: Failure) -> Any:
            at_once = self._clock.seconds() - sent < AT_ONCE or request.bodyProducer is None
            if not (at_once and _died_unanswered(failure.value)):
                return failure
            return self._renew().addCallback(lambda connection: connection.request(request))

        response: Deferred[Any] = self._connection.request(request)
        return response.addErrback(failed)


def _died_unanswered(error: BaseException | None) -> bool:
    """Whether a connection ended, by its peer, before one byte of an answer came."""
    if not isinstance(error, (RequestTransmissionFailed, ResponseNeverReceived)):
        return False
    reasons = getattr(error, "reasons", [])
    return not any(reason.check(CancelledError) for reason in reasons)


def _is_quiet(connection: Any) -> bool:
    """Whether an idle connection has received neither its end nor unrequested bytes."""
    transport = connection.transport
    try:
        handle = getattr(transport, "transport", transport).getHandle()  # below TLS, if any
        handle.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return True
    except (OSError, AttributeError):
        return False
    return False
