"""Decompresses gzip bodies in bounded memory."""

import zlib
from typing import Any

from twisted.internet.interfaces import IProtocol
from twisted.internet.protocol import connectionDone
from twisted.python.components import proxyForInterface
from twisted.python.failure import Failure
from twisted.web.client import ResponseFailed
from twisted.web.iweb import UNKNOWN_LENGTH, IResponse

ACCEPT_ENCODING = b"Accept-Encoding: gzip"
"""The header line that says what is decompressed here."""
PIECE = 64 * 2**10
"""Bytes that are decompressed at a time."""


class BadlyPacked(Exception):
    """A body that is not valid gzip (RFC 1952)."""


def unpacked(response: Any) -> Any:
    """A response with its body decompressed, if it was compressed once with gzip.

    treq would decompress all of a piece at once, and as often as the peer says that it compressed
    it: a few hundred bytes could take gigabytes. Other encodings are not changed.
    """
    codings = b",".join(response.headers.getRawHeaders(b"Content-Encoding", []))
    response.headers.removeHeader(b"Content-Encoding")
    return _Unpacked(response) if codings.strip().lower() in {b"gzip", b"x-gzip"} else response


class _Unpacked(proxyForInterface(IResponse)):  # type: ignore[misc]
    def __init__(self, response: Any) -> None:
        self.original = response
        self.length = UNKNOWN_LENGTH

    def deliverBody(self, protocol: Any) -> None:
        self.original.deliverBody(_Unpacking(protocol))


class _Unpacking(proxyForInterface(IProtocol)):  # type: ignore[misc]
    def __init__(self, protocol: Any) -> None:
        self.original = protocol
        self._inflate: Any = None
        self.transport: Any = None

    def makeConnection(self, transport: Any) -> None:
        self.transport = transport
        self.original.makeConnection(transport)

    def dataReceived(self, data: bytes) -> None:
        while data and not self.transport.disconnecting:  # else the receiver has enough
            if self._inflate is None or self._inflate.eof:  # there may be several members
                self._inflate = zlib.decompressobj(16 + zlib.MAX_WBITS)
            try:
                piece = self._inflate.decompress(data, PIECE)
            except zlib.error:
                self.original.connectionLost(Failure(ResponseFailed([Failure(BadlyPacked())])))
                self.transport.abortConnection()
                return
            data = self._inflate.unconsumed_tail or self._inflate.unused_data
            if piece:
                self.original.dataReceived(piece)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._inflate is not None and not self._inflate.eof:
            reason = Failure(ResponseFailed([Failure(BadlyPacked()), reason]))
        self.original.connectionLost(reason)
