"""A connection to a peer: sends a request at a time, and reads its response in small pieces."""

from collections.abc import Callable
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IHandshakeListener, IProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone, ResponseFailed, ResponseNeverReceived
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IBodyProducer, IResponse
from zope.interface import implementer

from chatgpt_source.http.client.body import Body
from chatgpt_source.http.client.response import BadResponse, ResponseReader
from chatgpt_source.http.client.work_queue import SLOW, WorkQueue
from chatgpt_source.http.sending import Sender, Sending

PIECE = 16 * 2**10
"""Bytes that are read in one step; in the smallest chunks, that takes about 0.5 ms."""
CLOSE_TIMEOUT = 5.0
"""Seconds that closing may take: what is unsent must go out and, with TLS, the peer must close."""


@implementer(IResponse)
@define(eq=False, repr=False)
class Response:
    """A response, whose body follows; keeps what came of it until `deliverBody`."""

    code: int
    phrase: bytes
    headers: Headers
    _transport: Any
    length: Any = UNKNOWN_LENGTH
    version: Any = (b"HTTP", 1, 1)
    request: Any = None
    previousResponse: Any = None
    _receiver: Any = field(init=False, default=None)
    _pieces: list[bytes] = field(init=False, factory=list)
    _reason: Failure | None = field(init=False, default=None)

    def setPreviousResponse(self, response: IResponse) -> None:
        """Keep the response before a redirect."""
        self.previousResponse = response

    def deliverBody(self, protocol: IProtocol) -> None:
        """Pass the body to a protocol; its transport ends the connection."""
        self._receiver = protocol
        protocol.makeConnection(self._transport)
        self.pass_on()

    def pass_on(self, pieces: list[bytes] | None = None, reason: Failure | None = None) -> None:
        """Pass on further pieces of the body, and the reason of its end."""
        self._pieces += pieces or ()
        self._reason = reason or self._reason
        receiver = self._receiver
        if receiver is None:
            return
        ready, self._pieces = self._pieces, []
        for piece in ready:
            receiver.dataReceived(piece)
        if self._reason is not None:
            self._receiver = None  # it may have this response, which would be a cycle
            receiver.connectionLost(self._reason)


@implementer(IHandshakeListener)
class Connection(Protocol):
    """A connection to a peer, for HTTP/1.1.

    Bytes that can't be read in this turn of the reactor wait, and the connection is not read
    meanwhile. So it holds at most the bytes of one read (64 KiB).

    Args:
        queue: Says when bytes are read.
        sending: Says when they are sent.
        secured: Fires when the TLS handshake has ended; None without TLS.
    """

    transport: Any

    def __init__(
        self, queue: WorkQueue, sending: Sending, secured: Deferred[None] | None = None
    ) -> None:
        self._queue = queue
        self._sending = sending
        self._secured = secured
        self._reader: ResponseReader | None = None
        self._waiting: Deferred[IResponse] | None = None
        self._response: Response | None = None
        self._release: Callable[[Connection], object] = Connection.close
        self._unread = bytearray()
        self._is_put_off = False
        self._is_paused = False
        self._lost: Failure | None = None
        self._gone: list[Deferred[None]] = []
        self._cut_off: IDelayedCall | None = None
        self._aborted = False

    def connectionMade(self) -> None:
        """Prepare to send."""
        self._sender = Sender(self.transport, self._sending)

    def request(
        self,
        head: bytes,
        body: Body | IBodyProducer | None,
        release: Callable[["Connection"], object] | None,
        *,
        bounds_body: bool = True,
    ) -> Deferred[IResponse]:
        """Send a request. Cancelling it ends the connection.

        Args:
            head: The request's head.
            body: Its body, which writes all of itself at once, or heeds the transport's pauses.
            release: Called with this connection at the end, if it can be used again; None: close.
            bounds_body: Whether the response's body is bounded.

        Returns:
            The response, as soon as its head has come.

        Raises:
            ResponseNeverReceived: If the connection ended before a byte of a response came.
            ResponseFailed: If it ended later, or the response is not what it may be.
        """
        self._reader = ResponseReader(bounds_body=bounds_body)
        self._release = release or Connection.close
        self._waiting = Deferred(self._cancel)
        waiting = self._waiting
        if isinstance(body, Body):
            self._sender.send(head + body.whole())
        else:
            self._sender.send(head)
            if body is not None:
                self._sender.leave()
                body.startProducing(self.transport)
        return waiting

    def _cancel(self, _: object) -> None:
        self._waiting = None
        self.abortConnection()

    # What the receiver of a body has as its transport.

    @property
    def is_open(self) -> bool:
        """Whether neither side is known to have ended the connection."""
        return bool(self.transport.connected) and not self.disconnecting

    @property
    def disconnecting(self) -> bool:
        """Whether we have ended the connection."""
        return self._aborted or bool(self.transport.disconnecting)

    def abortConnection(self) -> None:
        """End the connection at once, and read no more of it."""
        self._aborted = True
        self._sender.drop()
        if self.transport.connected:  # TLS that is lost raises an AttributeError
            self.transport.abortConnection()

    def pauseProducing(self) -> None:
        """Read nothing until `resumeProducing`."""
        self._is_paused = True
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        """Read on, in a later turn."""
        if self._is_paused:
            self._is_paused = False
            if not self._is_put_off:
                self._put_off()

    def close(self) -> Deferred[None]:
        """Close, or abort after `CLOSE_TIMEOUT`; fires once that is done."""
        if not self.transport.connected:
            return succeed(None)
        gone: Deferred[None] = Deferred()
        self._gone.append(gone)
        self._sender.leave()
        self.transport.loseConnection()
        if self._cut_off is None:
            later = self._queue.clock.callLater
            self._cut_off = later(CLOSE_TIMEOUT, self.abortConnection)
        return gone

    def handshakeCompleted(self) -> None:
        """Say that the TLS handshake has ended."""
        if self._secured is not None:
            secured, self._secured = self._secured, None
            secured.callback(None)

    # When bytes are read.

    def dataReceived(self, data: bytes) -> None:
        """Read at once, or in a later turn."""
        if self._reader is None:  # would be taken for the next response
            self.abortConnection()
            return
        self._unread += data
        if self._is_put_off or self._is_paused:
            self.transport.pauseProducing()  # TLS passes on what it had read before the pause
        elif self._queue.free:
            self._queue.do(self._read)
        if self._unread and not (self._is_put_off or self._is_paused):
            self._put_off()

    def _put_off(self) -> None:
        self._is_put_off = True
        self.transport.pauseProducing()
        self._queue.put_off(self._read_on)

    def _read_on(self) -> None:
        self._is_put_off = False
        self._read()
        if self._is_paused:
            return
        if self._unread:
            self._put_off()
        elif self._lost is not None:
            self._end(self._lost)
        else:
            self.transport.resumeProducing()  # TLS reads the peer's end after our own

    def _read(self) -> None:
        """Read pieces until none is left, or one took long, or the receiver has enough."""
        started = self._queue.measure()
        while self._unread and not self._is_paused:
            if self._reader is None or self.disconnecting:
                self._unread.clear()
                return
            piece = bytes(self._unread[:PIECE])
            del self._unread[:PIECE]
            self._read_piece(self._reader, piece)
            if self._queue.measure() - started >= SLOW:
                return

    def _read_piece(self, reader: ResponseReader, piece: bytes) -> None:
        flaw = None
        try:
            reader.feed(piece)
        except BadResponse as error:
            flaw = Failure(error)
        if reader.has_head and self._waiting is not None:
            waiting, self._waiting = self._waiting, None
            self._response = Response(reader.status, reader.phrase, reader.headers, self)
            waiting.callback(self._response)
        response = self._response
        if response is not None and reader.body:
            pieces, reader.body = reader.body, []
            response.pass_on(pieces)
        if flaw is not None:
            self._unread.clear()
            self.abortConnection()
            self._end(flaw)
        elif reader.complete and response is not None:
            self._reader = self._response = None
            ended = self._unread or self._lost or self.disconnecting
            (self._release if reader.keeps_connection and not ended else Connection.close)(self)
            response.pass_on(reason=Failure(ResponseDone()))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Say so, once all that came before is read."""
        if self._secured is not None:
            secured, self._secured = self._secured, None
            secured.errback(reason)
        if self._cut_off is not None and self._cut_off.active():
            self._cut_off.cancel()
        for gone in self._gone:
            gone.callback(None)
        if (self._is_put_off or self._is_paused) and not self.disconnecting:
            self._lost = reason
        else:
            self._unread.clear()
            self._end(reason)

    def _end(self, reason: Failure) -> None:
        reader, self._reader = self._reader, None
        response, self._response = self._response, None
        if reader is not None and response is not None:
            whole = not reason.check(BadResponse) and reader.connection_ended()
            response.pass_on(reason=Failure(ResponseDone() if whole else ResponseFailed([reason])))
        elif reader is not None and self._waiting is not None:
            waiting, self._waiting = self._waiting, None
            waiting.errback((ResponseFailed if reader.started else ResponseNeverReceived)([reason]))


@define(eq=False, repr=False)
class Connections(Factory):
    """Builds connections.

    Args:
        queue: Says when bytes are read.
        sending: Says when they are sent.
        secured: Fires when the first one's TLS handshake has ended; None without TLS.
    """

    noisy = False
    _queue: WorkQueue
    _sending: Sending
    _secured: Deferred[None] | None = None

    def buildProtocol(self, addr: object) -> Connection:
        """Build a connection."""
        del addr
        return Connection(self._queue, self._sending, self._secured)
