"""Chooses the connection for a request: a kept one that is still open, or a new one."""

import socket
from collections.abc import Callable
from typing import Any

from attrs import frozen
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from twisted.python.failure import Failure
from twisted.web.client import RequestTransmissionFailed, ResponseNeverReceived

from chatgpt_source.http.client.twisted_private import OpenPool

AT_ONCE = 1.0
"""If a kept connection ends within these seconds after a request, it was closing already."""


class LivePool(OpenPool):
    """A pool that returns the connection used last, of those that the peer has not closed.

    Twisted notices that a peer closed a connection only when it next reads. A request that is
    written before that is lost, and looks as if it might have been answered. If the end is still
    on its way and can't be seen, `_Kept` sends the request again.

    Args:
        reactor: Tells the time.
    """

    def __init__(self, reactor: Any) -> None:
        super().__init__(reactor)
        self._clock: IReactorTime = reactor

    def getConnection(self, key: Any, endpoint: IStreamClientEndpoint) -> Deferred[Any]:
        """A live connection, kept or new."""
        while (connection := self.take_kept(key)) is not None:
            if connection.state == "QUIESCENT" and _is_quiet(connection):
                kept = _Kept(connection, lambda: self.connect(key, endpoint), self._clock)
                return succeed(kept)
            connection.transport.loseConnection()
        return self.connect(key, endpoint)

    def may_keep(self, connection: Any) -> bool:
        """Whether it can be used again."""
        return not connection.guard.closes


@frozen
class _Kept:
    """A kept connection for one request; sends it again on a new one if this one is closing.

    Args:
        connection: The connection.
        renew: Makes a new one.
        clock: Measures whether it ended at once.
    """

    _connection: Any
    _renew: Callable[[], Deferred[Any]]
    _clock: IReactorTime

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
