"""Sends what connections have written, all at the end of a turn of the reactor.

For each write, Twisted tells epoll to wait until the connection can be written, is told that it
can, and tells epoll to wait no more: two system calls and an event. A connection with nothing
unsent can nearly always be written. So what is written here goes out in the next turn, as Twisted's
would, without asking epoll.
"""

from typing import Any

from attrs import define, field
from twisted.internet.interfaces import IReactorTime
from twisted.internet.tcp import Connection
from twisted.python.failure import Failure

from chatgpt_source.log import get_logger, log_unexpected

log = get_logger(__name__)


@define(eq=False, repr=False)
class Sending:
    """The connections that have something to send in the next turn.

    Args:
        clock: The reactor.
    """

    _clock: IReactorTime
    _ready: "list[Sender]" = field(init=False, factory=list)

    def soon(self, sender: "Sender") -> None:
        """Flush a sender in the next turn."""
        if not self._ready:
            self._clock.callLater(0, self._flush)
        self._ready.append(sender)

    def _flush(self) -> None:
        ready, self._ready = self._ready, []
        for sender in ready:
            _flush_or_abort(sender)


class Sender:
    """Writes to one connection, in order.

    Once the connection has not taken all at once, Twisted writes all that follows, as it does from
    the start over TLS.

    Args:
        transport: The connection's. `leave` comes before others write to it, or close it.
        sending: Says when.
    """

    __slots__ = ("_is_direct", "_sending", "_transport", "_unsent")

    def __init__(self, transport: Any, sending: Sending) -> None:
        self._transport = transport
        self._sending = sending
        self._unsent = b""
        # By its class: the attributes of what encrypts lead to the connection below it.
        self._is_direct = isinstance(transport, Connection) and not transport.TLS

    def send(self, data: bytes) -> None:
        """Send in the next turn."""
        if not self._is_direct:
            self._transport.write(data)
        elif self._unsent:
            self._unsent += data
        else:
            self._unsent = data
            self._sending.soon(self)

    def leave(self) -> None:
        """Send what waits, and leave the connection to Twisted."""
        self.flush()
        self._is_direct = False

    def flush(self) -> None:
        """Send what waits."""
        data, self._unsent = self._unsent, b""
        if not data or not self._transport.connected:
            return
        sent = self._transport.writeSomeData(data)
        if sent != len(data):
            self._is_direct = False
            # Twisted meets an error again, and ends the connection.
            self._transport.write(data[sent:] if isinstance(sent, int) else data)

    def drop(self) -> None:
        """Forget what waits."""
        self._unsent = b""

    def abort(self) -> None:
        """Forget what waits, and end the connection."""
        self.drop()
        self._transport.abortConnection()


def _flush_or_abort(sender: Sender) -> None:
    """Send what waits; an exception must not keep others from sending."""
    try:
        sender.flush()
    except Exception:  # noqa: BLE001 - whatever it is, it is this connection's alone
        log_unexpected(log, "sending", Failure())
        sender.abort()
