"""Bounds the size of a response, and the time that reading it may block the reactor."""

import re
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.protocols.policies import WrappingFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from chatgpt_source.http.client.work_queue import SLOW, WorkQueue

MOST_HEAD = 128 * 2**10
"""Bytes that a response may have before its body, with those of interim responses."""
MOST_LINES = 4096
"""Lines that it may have there."""
MOST_WIRE = 4 * 2**20
"""Bytes that a body may take on the wire: compressed, with the framing of its chunks."""
MOST_CHUNKS = 2**15
"""Chunks that a body may have, and lines of a trailer: at 64 bytes each, these are 2 MiB."""
PIECE = 2 * 2**10
"""Bytes that are read in one step; in the smallest chunks, that takes about 2 ms."""


class TooLongHead(Exception):
    """A response whose head does not end."""


class TooLongBody(Exception):
    """A body that takes too many bytes on the wire."""


class TooManyChunks(Exception):
    """A body in too many chunks."""


@implementer(IStreamClientEndpoint)
@frozen
class Guarded:
    """An endpoint whose connections end when a response goes beyond the bounds above.

    Args:
        endpoint: Makes the connections.
        queue: Says when data is read.
    """

    _endpoint: IStreamClientEndpoint
    _queue: WorkQueue

    def connect(self, protocolFactory: Any) -> Deferred[Any]:  # noqa: N803
        """Connect."""
        return self._endpoint.connect(_GuardingFactory(protocolFactory, self._queue))


class _GuardingFactory(WrappingFactory):
    noisy = False

    def __init__(self, factory: Any, queue: WorkQueue) -> None:
        super().__init__(factory)
        self._queue = queue

    def buildProtocol(self, addr: Any) -> Any:
        protocol = self.wrappedFactory.buildProtocol(addr)
        protocol.guard = Guard(protocol, self._queue)
        return protocol


class Guard:
    """Counts the data for a connection's protocol, and passes it on in small pieces.

    Data that can't be passed on in this turn of the reactor waits, and the connection is not read
    meanwhile. So a connection holds at most the data of one read (64 KiB).

    Args:
        protocol: The connection's; its `dataReceived`, `request` and `connectionLost` are replaced.
        queue: Says when data is read.
    """

    _INTERIM = re.compile(rb"\S+ 1\d\d")
    _END = re.compile(rb"\r?\n\r?\n")
    _CHUNKED = re.compile(rb"(?i)\ntransfer-encoding:")

    def __init__(self, protocol: Any, queue: WorkQueue) -> None:
        self._protocol = protocol
        self._queue = queue
        self._received, self._request = protocol.dataReceived, protocol.request
        self._lost = protocol.connectionLost
        protocol.dataReceived, protocol.request = self._data_received, self._new_request
        protocol.connectionLost = self._connection_lost
        self._unread = bytearray()
        self._waits = False
        self._reason: Failure | None = None
        self._flaw: Exception | None = None
        self._http_1_0 = False
        self._await_head()

    @property
    def closes(self) -> bool:
        """Whether the connection can't be used again.

        A peer that uses HTTP/1.0 closes it (RFC 9112, section 9.3), which Twisted does not know.
        Bytes that come without a request would be taken for the next response.
        """
        return self._http_1_0 or bool(self._unread) or self._reason is not None

    def _new_request(self, request: Any) -> Any:
        self._await_head()
        return self._request(request)

    def _await_head(self) -> None:
        self._head: bytearray | None = bytearray()
        self._count = self._lines = 0
        self._chunked = self._half = False

    # When data is read.

    def _data_received(self, data: bytes) -> None:
        self._unread += data
        if not self._waits and self._queue.free:
            self._queue.do(self._read)
        if self._unread and not self._waits:
            self._wait()
        elif self._waits:  # the protocol has asked for more meanwhile
            self._protocol.transport.pauseProducing()

    def _wait(self) -> None:
        self._waits = True
        self._protocol.transport.pauseProducing()
        self._queue.put_off(self._read_on)

    def _read_on(self) -> None:
        self._waits = False
        self._read()
        if self._unread:
            self._wait()
        elif self._reason is not None:
            self._lost(self._reason)
        elif not self._ended:
            self._protocol.transport.resumeProducing()

    def _read(self) -> None:
        """Pass on pieces until none is left, or one took long."""
        started = self._queue.measure()
        while self._unread:
            if self._ended:  # we ended it: the rest is not needed
                self._unread.clear()
                return
            piece = bytes(self._unread[:PIECE])
            del self._unread[:PIECE]
            self._pass_on(piece)
            if self._queue.measure() - started >= SLOW:
                return

    @property
    def _ended(self) -> bool:
        return bool(self._flaw or getattr(self._protocol.transport, "disconnecting", False))

    def _connection_lost(self, reason: Failure) -> None:
        if self._flaw is not None:
            reason = Failure(self._flaw)
        if self._unread and not self._ended:
            self._reason = reason  # the protocol is told once all earlier data is read
        else:
            self._unread.clear()
            self._lost(reason)

    # The bounds.

    def _pass_on(self, piece: bytes) -> None:
        self._flaw = (
            self._beyond_head(piece) if self._head is not None else self._beyond_body(piece)
        )
        if self._flaw is not None:
            self._unread.clear()
            self._protocol.transport.abortConnection()
        else:
            self._received(piece)

    def _beyond_head(self, piece: bytes) -> Exception | None:
        head = self._head
        assert head is not None  # noqa: S101 - the caller has looked
        seen = max(0, len(head) - 3)  # the part before that was searched already
        self._count += len(piece)
        self._lines += piece.count(b"\n")
        head += piece
        while end := self._END.search(head, seen):
            seen = 0
            if not self._INTERIM.match(head):
                self._http_1_0 = head.startswith(b"HTTP/1.0")
                self._chunked = bool(self._CHUNKED.search(head, 0, end.end()))
                self._head, self._count, self._lines = None, 0, 0
                return self._beyond_body(bytes(head[end.end() :]))
            del head[: end.end()]
        return TooLongHead() if self._count > MOST_HEAD or self._lines > MOST_LINES else None

    def _beyond_body(self, piece: bytes) -> Exception | None:
        self._count += len(piece)
        if self._count > MOST_WIRE:
            return TooLongBody()
        if self._chunked and piece:
            # A chunk has two line ends, beside those in its data. One may span two pieces.
            self._lines += piece.count(b"\r\n")
            if self._half and piece.startswith(b"\n"):
                self._lines += 1
            self._half = piece.endswith(b"\r")
            if self._lines > 2 * MOST_CHUNKS:
                return TooManyChunks()
        return None
