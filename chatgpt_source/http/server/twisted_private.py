"""What the server needs of Twisted's inside, under names of its own: here and nowhere else.

`HTTPChannel` has no public way to read in turns, to see a head as a whole, or to refuse in words of
our own, and `Request` none to leave `OPTIONS *` to the site. `tests/http/server/test_twisted.py`
holds this to the installed release.
"""

from twisted.web.http import HTTPChannel
from twisted.web.server import Request


class OpenChannel(HTTPChannel):
    """Twisted's channel, with names for its private state and for the steps it takes."""

    @property
    def write_stalled(self) -> bool:
        """Whether what was written waits for the caller to read it."""
        return self._waitingForTransport

    @property
    def head_size(self) -> int:
        """Bytes of the head that have been read."""
        return self._receivedHeaderSize

    @property
    def head_fields(self) -> int:
        """Header fields that have been read."""
        return self._receivedHeaderCount

    @property
    def request_line(self) -> tuple[bytes, bytes, bytes]:
        """Method, target and version of the request under way; empty before there was one."""
        if not hasattr(self, "_command"):
            return b"", b"", b""
        return self._command, self._path, self._version

    @property
    def has_unread(self) -> bool:
        """Whether there is something that arrived and was not parsed."""
        return bool(self._buffer) or any(self._dataBuffer)

    def keep_unread(self, data: bytes) -> None:
        """Parse this later, after what is kept already."""
        self._buffer += data

    def pause_reading(self) -> None:
        """Read no more from the transport."""
        self._networkProducer.pauseProducing()

    def resume_reading(self) -> None:
        """Read from the transport again."""
        self._networkProducer.resumeProducing()

    def stop_reading_in_step(self) -> None:
        """Go on reading whether or not the caller reads: what comes is thrown away."""
        self._networkProducer.unregisterProducer()  # type: ignore[attr-defined]
        self._networkProducer.resumeProducing()

    def may_frame(self, header: bytes, data: bytes) -> bool:
        """Whether a Content-Length or Transfer-Encoding may be parsed at all."""
        del header, data
        return True

    def refuse_unparsable(self) -> None:
        """Refuse what Twisted can't parse."""
        super()._respondToBadRequestAndDisconnect()

    def _maybeChooseTransferDecoder(self, header: bytes, data: bytes) -> bool:
        if header in {b"Content-Length", b"Transfer-Encoding"} and not self.may_frame(header, data):
            return self._failChooseTransferDecoder()
        chosen: bool = super()._maybeChooseTransferDecoder(header, data)
        return chosen

    def _respondToBadRequestAndDisconnect(self) -> None:
        self.refuse_unparsable()


class OpenRequest(Request):
    """Twisted's request, which leaves `OPTIONS *` to its site as any other path."""

    def _handleStar(self) -> None:
        self.render(self.channel.site.resource)  # type: ignore[attr-defined]
