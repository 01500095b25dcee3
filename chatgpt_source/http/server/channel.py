"""One caller's connection: reads HTTP/1 strictly and within time limits.

Twisted's channel parses. This class also refuses requests that two readers could read differently
(RFC 9112, section 11.2), and those that take too long. A refusal before the whole request has
arrived closes the connection. What still arrives is read and dropped for a while, otherwise the
response would be lost (RFC 9112, section 9.6).

Twisted's channel would answer all requests of one read before other connections get a turn. Here a
connection answers one request a turn, and decodes a chunked body in slices. The rest waits in its
buffer, and at most one further read is added to it meanwhile.
"""

from typing import Any

from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from chatgpt_source.http.sending import Sender, Sending
from chatgpt_source.http.server.connections import Connections, Stage
from chatgpt_source.http.server.problem import PROBLEM, Problem
from chatgpt_source.http.server.response import encode_head
from chatgpt_source.http.server.scheduler import ReadScheduler
from chatgpt_source.http.server.twisted_private import OpenChannel

FIRST_WITHIN = 20.0
"""Seconds from connecting to the first byte of a request, with the TLS handshake."""
HEAD_WITHIN = 20.0
"""Seconds from the first byte of a request to the end of its head."""
BODY_WITHIN = 20.0
"""The time limit of a body, in seconds, is this ..."""
BODY_RATE = 500
"""... plus a second for each so many bytes that have arrived, ..."""
BODY_AT_MOST = 300.0
"""... and at most this."""
IDLE_FOR = 60.0
"""Seconds from a response to the next request."""
CLOSE_WITHIN = 10.0
"""The time limit of closing a connection, in seconds, is this ..."""
TAKEN_RATE = 16 * 2**10
"""... plus a second for each so many bytes of its last response, ..."""
TAKEN_AT_MOST = 300.0
"""... but no more than this for these."""
MOST_HEADERS = 100
SLICE = 2048
"""Bytes of a chunked body that are decoded in one step; a chunk takes at least six bytes."""
LATE = "the request did not arrive in time: send it again, and faster"


class Channel(OpenChannel):
    """A caller's connection.

    Args:
        connections: All connections.
        scheduler: Says when it may read.
        sending: Says when it sends.
    """

    site: Any  # the site that made it
    maxHeaders = MOST_HEADERS
    timeOut = None  # Twisted's timeout starts again with each byte

    def __init__(
        self, connections: Connections, scheduler: ReadScheduler, sending: Sending
    ) -> None:
        super().__init__()
        self.stage = Stage.IDLE
        self.deadline = connections.now() + FIRST_WITHIN
        self._connections = connections
        self._scheduler = scheduler
        self._sending = sending
        self._began = 0.0
        self._until: float | None = None
        self._granted = self._stopped = False
        self._sent = 0
        self.arrived = 0
        """Bytes of the current body, as they came on the wire."""

    def connectionMade(self) -> None:
        """Start, if there is room."""
        super().connectionMade()
        self._sender = Sender(self.transport, self._sending)
        self._host: IAddress = super().getHost()
        if not self._connections.admit(self):
            self.abort()

    def getHost(self) -> IAddress:
        """Our address: each request asks for it, but the system is asked once a connection."""
        return self._host

    def send(self, response: bytes) -> None:
        """Send a whole response."""
        self._sent = len(response)
        self._sender.send(response)

    def leave_to_twisted(self) -> None:
        """Send what waits, before Twisted writes."""
        self._sender.leave()

    def dataReceived(self, data: bytes) -> None:
        """Read on, unless others come first; drop what comes after a refusal."""
        if self.stage is Stage.CLOSING:
            return
        if self.paused:  # this is kept too, but no more is read
            self._stop_reading()
        elif self.stage is not Stage.ANSWERING and not self._may_read():
            self._wait(more=False)
        if self.stage is Stage.IDLE and not self.paused:
            self._enter(Stage.HEAD, HEAD_WITHIN)
        super().dataReceived(data)  # which buffers it while paused

    def read_on(self) -> None:
        """Continue with the buffered data."""
        if self.stage is Stage.CLOSING or self.write_stalled:
            return  # while paused, `resumeProducing` does it
        self.paused = False
        self._granted = self.stage is Stage.BODY
        if self._stopped:
            self._stopped = False
            self.resume_reading()
        if self.stage is Stage.IDLE:
            self._enter(Stage.HEAD, HEAD_WITHIN)
        super().dataReceived(b"")
        self._granted = False

    def resumeProducing(self) -> None:
        """Go on, now that the caller has read its response."""
        super().resumeProducing()
        self._stopped = False
        if self.paused and self.stage is not Stage.CLOSING:
            self._wait(more=True)

    def _may_read(self, *, more: bool = False) -> bool:
        return not self.write_stalled and self._scheduler.may_read(more=more)

    def _wait(self, *, more: bool) -> None:
        """Read on in a later turn, once the caller has read its response."""
        self.paused = True
        if not self.write_stalled:
            self._scheduler.wait(self, more=more)

    def _stop_reading(self) -> None:
        self._stopped = True
        self.pause_reading()

    def lineReceived(self, line: bytes) -> None:
        """Read a line of a head; refuse one that continues the last (RFC 9112, section 5.2)."""
        if line[:1] in {b" ", b"\t"}:
            self.refuse_unparsable()
        else:
            super().lineReceived(line)

    def lineLengthExceeded(self, line: bytes) -> None:
        """Refuse a head with a line that is too long."""
        del line
        self._reject(431, f"the request's head must have at most {self.totalHeadersSize} bytes")

    def may_frame(self, header: bytes, data: bytes) -> bool:
        """Check the body's length; Twisted fails at a number with thousands of digits."""
        return data.lower() == b"chunked" if header == b"Transfer-Encoding" else len(data) <= 20

    def allHeadersReceived(self) -> None:
        """Check the whole head, and prepare for the body."""
        if self.stage is Stage.CLOSING:
            return
        request = self.requests[-1]
        request.method, target, version = self.request_line
        request.clientproto, request.path = version, target.partition(b"?")[0]
        fields = request.requestHeaders
        hosts = fields.getRawHeaders(b"host", [])
        modern = version == b"HTTP/1.1"
        expected = [value.lower() for value in fields.getRawHeaders(b"expect", [])]
        if len(hosts) > 1 or (modern and not hosts):  # RFC 9112, section 3.2
            self._reject(400, "the request must have one Host header")
        elif not modern and fields.hasHeader(b"transfer-encoding"):  # RFC 9112, section 6.1
            self._reject(400, "an HTTP/1.0 request can't be chunked: send a Content-Length")
        elif modern and expected not in ([], [b"100-continue"]):
            self._reject(417, "the Expect header must be 100-continue")
        else:
            if not modern or self.length == 0:
                fields.removeHeader(b"expect")
            if self.length != 0:
                self._began, self._until, self.arrived = self._connections.now(), None, 0
                self._enter(Stage.BODY, BODY_WITHIN)
            super().allHeadersReceived()

    def checkPersistence(self, request: Any, version: bytes) -> bool:
        """Whether another request may follow (RFC 9112, section 9.3)."""
        fields = request.requestHeaders.getRawHeaders(b"connection", [])
        options = {option.strip().lower() for option in b",".join(fields).split(b",")}
        if b"close" in options and version == b"HTTP/1.1":
            request.setHeader("Connection", "close")
        return version == b"HTTP/1.1" and b"close" not in options

    def rawDataReceived(self, data: bytes) -> None:
        """Read a body, or buffer what comes while a request is answered."""
        rest = b""
        if self.stage is Stage.BODY and self.length is None:
            if not self._granted and not self._may_read(more=True):
                self.keep_unread(data)
                self._wait(more=True)
                return
            self._granted = False
            data, rest = data[:SLICE], data[SLICE:]
            self.arrived += len(data)
        elif self.stage is Stage.BODY and self.length is not None:
            self.arrived += min(len(data), self.length - self.arrived)
        if self.stage is not Stage.CLOSING:
            super().rawDataReceived(data)
        if rest and self.stage is not Stage.CLOSING:
            self.keep_unread(rest)
            if self.stage is Stage.IDLE and not self.paused:  # answered, with nothing more to read
                self._wait(more=True)

    def allContentReceived(self) -> None:
        """Pass the request to its handler."""
        if self.stage is not Stage.CLOSING:
            self._enter(Stage.ANSWERING, float("inf"))
            super().allContentReceived()

    def requestDone(self, request: Any) -> None:
        """Go on to the next request, in a later turn."""
        if self.stage is Stage.ANSWERING:
            self._enter(Stage.IDLE, IDLE_FOR)
        self.paused = self.has_unread
        super().requestDone(request)
        if self.stage is Stage.CLOSING:
            return
        if self.paused:
            self._wait(more=True)
        elif self.write_stalled:  # Twisted would read on, and responses would pile up
            self._stop_reading()

    def let_end_within(self, seconds: float) -> None:
        """Set a time limit for the current body, independent of its speed."""
        self._until = self.deadline = self._connections.now() + seconds

    def expire(self, now: float) -> None:
        """End a request or a connection that has taken too long."""
        if self.stage is Stage.CLOSING:
            self.abort()
        elif self.stage is Stage.IDLE:
            self.loseConnection()
        elif self.stage is Stage.HEAD:
            self._reject(408, LATE)
        elif self._body_deadline() <= now:
            self.refuse(self.requests[-1].refusal or Problem(408, LATE))

    def _body_deadline(self) -> float:
        if self._until is None:
            longer = min(BODY_WITHIN + self.arrived / BODY_RATE, BODY_AT_MOST)
            self.deadline = self._began + longer
        return self.deadline

    def _reject(self, status: int, detail: str) -> None:
        self.refuse(Problem(status, detail))

    def refuse(self, refusal: Problem) -> None:
        """Answer a request that is not complete, and close the connection."""
        if self.stage is Stage.CLOSING:
            return
        body = refusal.body()
        for request in self.requests[-1:]:
            request.why = refusal.word
            request.tell(refusal.status, len(body))
        own = {"Content-Type": PROBLEM, "Content-Length": str(len(body)), "Connection": "close"}
        head = encode_head(b"HTTP/1.1", refusal.status, {**own, **refusal.headers})
        self.send(head if self.request_line[0] == b"HEAD" else head + body)
        self.loseConnection()

    def refuse_unparsable(self) -> None:
        """Refuse what Twisted can't parse, or finds too large."""
        if self.head_size > self.totalHeadersSize:
            self.lineLengthExceeded(b"")
        elif self.head_fields > self.maxHeaders:
            self._reject(431, f"the request must have at most {self.maxHeaders} header fields")
        else:
            self._reject(400, "this is not a valid HTTP/1.1 request (RFC 9112)")

    def loseConnection(self) -> None:
        """Close, once the written data is sent and the caller has closed too.

        Closing at once with unread data would reset the connection, and lose the response.
        """
        if self.stage is Stage.CLOSING:
            return
        taking = min(self._sent / TAKEN_RATE, TAKEN_AT_MOST)
        self._enter(Stage.CLOSING, CLOSE_WITHIN + taking)
        self._scheduler.leave(self)
        self.clearLineBuffer()
        self.stop_reading_in_step()
        self._sender.leave()
        # Over TLS, loseConnection closes one direction.
        half = None if self.isSecure() else getattr(self.transport, "loseWriteConnection", None)
        (half or self.transport.loseConnection)()  # type: ignore[union-attr]

    def abort(self) -> None:
        """Close at once."""
        self._connections.discard(self)
        self._scheduler.leave(self)
        self.stage = Stage.CLOSING
        self._sender.drop()
        self.transport.abortConnection()  # type: ignore[union-attr]

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Note the end of the connection."""
        self._connections.discard(self)
        self._scheduler.leave(self)
        self.stage = Stage.CLOSING
        super().connectionLost(reason)

    def _enter(self, stage: Stage, seconds: float) -> None:
        self.deadline = self._connections.now() + seconds
        self._connections.move(self, stage)
