"""The only uses of Twisted's private parts in the HTTP server.

`HTTPChannel` has no public way to read in turns, to check a whole head, or to refuse with our own
text. `tests/http/server/test_twisted.py` checks this against the installed release.
"""

from typing import Any

from twisted.web.http import HTTPChannel


class OpenChannel(HTTPChannel):
    """Twisted's channel, with public names for its private state and steps."""

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
        """Method, target and version of the current request; empty before the first."""
        if not hasattr(self, "_command"):
            return b"", b"", b""
        return self._command, self._path, self._version

    @property
    def has_unread(self) -> bool:
        """Whether some data has arrived and is not parsed."""
        return bool(self._buffer) or any(self._dataBuffer)

    def keep_unread(self, data: bytes) -> None:
        """Buffer this, after the data that is buffered already."""
        self._buffer += data

    def pause_reading(self) -> None:
        """Stop reading from the transport."""
        self._networkProducer.pauseProducing()

    def resume_reading(self) -> None:
        """Read from the transport again."""
        self._networkProducer.resumeProducing()

    def stop_reading_in_step(self) -> None:
        """Go on reading even if the caller does not read: the data is dropped."""
        self._networkProducer.unregisterProducer()  # type: ignore[attr-defined]
        self._networkProducer.resumeProducing()

    def may_frame(self, header: bytes, data: bytes) -> bool:
        """Whether a Content-Length or Transfer-Encoding may be parsed."""
        del header, data
        return True

    def refuse_unparsable(self) -> None:
        """Refuse what Twisted can't parse."""
        super()._respondToBadRequestAndDisconnect()

    def leave_to_twisted(self) -> None:
        """Do what must be done before Twisted writes."""

    def write(self, data: bytes) -> None:
        """Write a part of a response."""
        self.leave_to_twisted()
        super().write(data)

    def writeSequence(self, iovec: Any) -> None:
        """Write parts of a response."""
        self.leave_to_twisted()
        super().writeSequence(iovec)

    def writeHeaders(self, version: bytes, code: bytes, reason: bytes, headers: Any) -> None:
        """Write the head of a response."""
        self.leave_to_twisted()
        super().writeHeaders(version, code, reason, headers)

    def _send100Continue(self) -> None:
        self.leave_to_twisted()
        super()._send100Continue()

    def _maybeChooseTransferDecoder(self, header: bytes, data: bytes) -> bool:
        if header in {b"Content-Length", b"Transfer-Encoding"} and not self.may_frame(header, data):
            return self._failChooseTransferDecoder()
        chosen: bool = super()._maybeChooseTransferDecoder(header, data)
        return chosen

    def _respondToBadRequestAndDisconnect(self) -> None:
        self.refuse_unparsable()
