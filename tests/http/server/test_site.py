"""A site over real sockets: all that it writes arrives, in order."""

import re

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from chatgpt_source.http.server import BoundedRequest, BoundedSite

LARGE = 8 * 2**20
"""Bytes of a response that no socket takes at once."""


class Caller(Protocol):
    """Keeps what it receives.

    Attributes:
        received: All of it.
        gone: Fires when the connection has ended.
    """

    def __init__(self) -> None:
        self.received = b""
        self.gone: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        del reason
        self.gone.callback(None)


class OrderTests(TestCase):
    timeout = 60

    async def handle(self, request: BoundedRequest) -> None:
        size = LARGE if request.route() == "/large" else 5
        request.answer(200, b"<%s>" % request.route()[1:].encode() + b"x" * size)

    async def all_of(self, *requests: bytes) -> bytes:
        """What a caller receives who sends requests at once, the last of which closes."""
        site = BoundedSite(reactor, self.handle, 100)
        port = reactor.listenTCP(0, site, interface="127.0.0.1")  # type: ignore[attr-defined]
        self.addCleanup(port.stopListening)
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port)
        caller: Caller = await connectProtocol(endpoint, Caller())
        assert caller.transport is not None
        caller.transport.write(b"".join(requests))
        await caller.gone
        return caller.received

    def post(self, path: bytes, *lines: bytes, body: bytes = b"") -> bytes:
        length = b"Content-Length: %d" % len(body)
        head = (b"POST /" + path + b" HTTP/1.1", b"Host: x", length, *lines)
        return b"\r\n".join((*head, b"", body))

    async def test_responses_and_what_twisted_writes_between_them(self) -> None:
        received = await self.all_of(
            self.post(b"first"),
            self.post(b"second", b"Expect: 100-continue", body=b"abc"),
            self.post(b"third"),
            self.post(b"last", b"Connection: close"),
        )
        said = re.findall(rb"<\w+>|100 Continue", received)
        self.assertEqual(said, [b"<first>", b"100 Continue", b"<second>", b"<third>", b"<last>"])
        self.assertEqual(received.count(b"x" * 5), 4)

    async def test_more_than_a_socket_takes(self) -> None:
        received = await self.all_of(
            self.post(b"large"), self.post(b"next"), self.post(b"large", b"Connection: close")
        )
        self.assertEqual(re.findall(rb"<\w+>", received), [b"<large>", b"<next>", b"<large>"])
        self.assertEqual(received.count(b"x" * 1000), 2 * (LARGE // 1000))

    async def test_a_refusal_after_a_response(self) -> None:
        received = await self.all_of(self.post(b"first"), b"nonsense\r\n\r\n")
        self.assertEqual(re.findall(rb"HTTP/1.1 (\d+)", received), [b"200", b"400"])
