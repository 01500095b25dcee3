"""Reads one response by llhttp, through `httptools`, within bounds (RFC 9112)."""

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser
from twisted.web.http_headers import Headers

MOST_HEAD = 128 * 2**10
"""Bytes that a response may have before its body, with those of interim responses."""
MOST_LINES = 4096
"""Lines that it may have there."""
MOST_WIRE = 4 * 2**20
"""Bytes that a body may take on the wire: compressed, with the framing of its chunks."""
MOST_CHUNKS = 2**15
"""Chunks that a body may have, with the lines of its trailer."""


class BadResponse(Exception):
    """A response that is not what it may be."""


class NotHTTP(BadResponse):
    """A response that is not HTTP."""


class TooLongHead(BadResponse):
    """A response whose head does not end."""


class TooLongBody(BadResponse):
    """A body that takes too many bytes on the wire."""


class TooManyChunks(BadResponse):
    """A body in too many chunks."""


class ResponseReader:
    """Reads the bytes that follow one request; interim responses are skipped.

    The methods that begin with `on_` are called by the parser.

    Args:
        bounds_body: Whether a body is bounded by `MOST_WIRE` and `MOST_CHUNKS`.

    Attributes:
        started: Whether a byte was read.
        status: The status, once `has_head`.
        phrase: The reason phrase.
        headers: The headers.
        has_head: Whether the head is complete.
        body: The pieces of the body that were read last; whoever takes them empties the list.
        complete: Whether the response is complete.
        keeps_connection: Whether the connection may be used again (RFC 9112, section 9.3).
    """

    def __init__(self, *, bounds_body: bool = True) -> None:
        self._bounds_body = bounds_body
        self._parser = HttpResponseParser(self)
        self._parser.set_dangerous_leniencies(lenient_optional_cr_before_lf=True)  # section 2.2
        self._count = self._lines = 0
        self._ends_with_connection = False
        self.started = self.has_head = self.complete = self.keeps_connection = False
        self.status = 0
        self.phrase = b""
        self.headers = Headers()
        self.body: list[bytes] = []

    def feed(self, data: bytes) -> None:
        """Read the next bytes.

        Raises:
            BadResponse: If they are not HTTP, or more than a response may have.
        """
        self.started = True
        self._count += len(data)
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade):
            if not self.complete:
                raise NotHTTP from None
            self.keeps_connection = False  # more bytes than the response has
        if self.complete:
            del self._parser  # it has this reader's methods, which would be a cycle
        if not self.has_head:
            if self._count > MOST_HEAD or self._lines > MOST_LINES:
                raise TooLongHead
        elif not self._bounds_body:
            return
        elif self._count > MOST_WIRE:
            raise TooLongBody
        elif self._lines > MOST_CHUNKS:
            raise TooManyChunks

    def connection_ended(self) -> bool:
        """Take the connection's end for the end of the body, if nothing else says where that is."""
        self.complete |= self.has_head and self._ends_with_connection
        return self.complete

    def on_message_begin(self) -> None:
        """End the parsing if the response is complete."""
        if self.complete:
            raise NotHTTP

    def on_status(self, phrase: bytes) -> None:
        """Add to the reason phrase."""
        self.phrase += phrase

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header, or count a line of the trailer."""
        self._lines += 1
        if not self.has_head:
            self.headers.addRawHeader(name, value)

    def on_headers_complete(self) -> None:
        """Take the status, unless it is an interim response's."""
        self.status = self._parser.get_status_code()
        self._lines += 1
        if self.status < 200:
            self.phrase, self.headers = b"", Headers()
            return
        self.has_head = True
        self._count = self._lines = 0
        self._ends_with_connection = self.status not in {204, 304} and not (
            self.headers.hasHeader(b"Content-Length")
            or self.headers.hasHeader(b"Transfer-Encoding")
        )

    def on_chunk_header(self) -> None:
        """Count a chunk."""
        self._lines += 1

    def on_body(self, piece: bytes) -> None:
        """Take a piece of the body."""
        self.body.append(piece)

    def on_message_complete(self) -> None:
        """Take the end, unless it is an interim response's."""
        self.complete = self.has_head
        self.keeps_connection = self._parser.should_keep_alive()
