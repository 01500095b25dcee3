"""Keeps idle connections, and chooses the one for the next request."""

import socket
from collections import deque
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from chatgpt_source.http.client.connection import Connection

KEEP_IDLE = 4.0
"""Seconds that an idle connection is kept; common servers close theirs after 5 s."""
FRESH = 0.05
"""Seconds for which the system is not asked about one: a peer that closes at once has said so."""
SWEEP = 0.5
"""Seconds between two looks for connections that were idle for so long."""
CLOSED_AT_ONCE = 20
"""Connections that a look closes; the next one follows in the next turn. Each takes 0.05 ms."""


@define(eq=False, repr=False)
class Pool:
    """Idle connections, by what they lead to.

    Args:
        clock: The time.
        most: How many to keep of each kind.
    """

    _clock: IReactorTime
    most: int
    _idle: dict[object, deque[tuple[float, Connection]]] = field(init=False, factory=dict)
    _sweep_call: IDelayedCall | None = field(init=False, default=None)
    _is_closed: bool = field(init=False, default=False)

    def take(self, kind: object) -> Connection | None:
        """The connection of a kind that was used last, of those that are open; None without one.

        Twisted notices that a peer closed a connection only when it next reads. A request that is
        written before that is lost, and looks as if it might have been answered.
        """
        idle = self._idle.get(kind)
        while idle:
            since, connection = idle.pop()
            is_fresh = self._clock.seconds() - since < FRESH
            if connection.is_open and (is_fresh or _is_quiet(connection.transport)):
                return connection
            connection.close()
        return None

    def keep(self, kind: object, connection: Connection) -> None:
        """Keep a connection whose request is done, or close it."""
        idle = self._idle.setdefault(kind, deque())
        if self._is_closed or len(idle) >= self.most:
            connection.close()
            return
        idle.append((self._clock.seconds(), connection))
        if self._sweep_call is None:
            self._sweep_call = self._clock.callLater(SWEEP, self._sweep)

    def close(self) -> Deferred[None]:
        """Close the idle connections, and keep no more; fires once they are closed."""
        self._is_closed = True
        if self._sweep_call is not None:
            self._sweep_call.cancel()
            self._sweep_call = None
        closed = [connection.close() for idle in self._idle.values() for _, connection in idle]
        self._idle.clear()
        return gatherResults(closed).addCallback(lambda _: None)

    def _sweep(self) -> None:
        until, room = self._clock.seconds() - KEEP_IDLE, CLOSED_AT_ONCE
        for idle in self._idle.values():
            while room and idle and idle[0][0] <= until:
                _, connection = idle.popleft()
                connection.close()
                room -= 1
        again = any(self._idle.values())
        soon = SWEEP if room else 0.0
        self._sweep_call = self._clock.callLater(soon, self._sweep) if again else None


def _is_quiet(transport: Any) -> bool:
    """Whether an idle connection has received neither its end nor unrequested bytes."""
    try:
        handle = getattr(transport, "transport", transport).getHandle()  # below TLS, if any
        handle.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return True
    except (OSError, AttributeError):
        return False
    return False
