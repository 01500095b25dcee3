"""Bodies that are streamed: over real sockets, and how long they may be silent."""

import gzip
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from hyperlink import EncodedURL
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock, deferLater
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import ResponseDone
from twisted.web.http_headers import Headers

from chatgpt_source.http.client import NoReply, NotSent, Reply
from chatgpt_source.http.client.body import MOST_HELD, Passer, StreamedBody
from chatgpt_source.http.client.response import MOST_CHUNKS, MOST_WIRE
from tests.certificates import issue
from tests.http.client.test_client import OK, ClientCase, Connection, Peer

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"
MUCH = 8 * 2**20
"""More than the buffers of a connection hold."""


class StreamCase(ClientCase):
    timeout = 60

    def send(
        self, url: EncodedURL, length: int, pieces: AsyncIterator[bytes], silence: float = 10.0
    ) -> Deferred[Reply]:
        headers = Headers({b"Authorization": [b"TOKENMARK"]})
        return Deferred.fromCoroutine(
            self.client.send(url, headers, length, pieces, silence=silence, most=1000)
        )

    def receive(
        self,
        url: EncodedURL,
        take: Callable[[bytes], Awaitable[None]] | None = None,
        silence: float = 10.0,
    ) -> Deferred[Reply]:
        self.taken: list[bytes] = []

        async def keep(piece: bytes) -> None:
            self.taken.append(piece)

        headers = Headers({b"Authorization": [b"TOKENMARK"]})
        return Deferred.fromCoroutine(
            self.client.receive(url, headers, take or keep, silence=silence, most=1000)
        )

    def secured(self, peer: Any) -> EncodedURL:
        """Serve by TLS that the client trusts."""
        authority = issue(None)
        self.remake(authorities=[authority.pem])
        return self.serve(peer, options=issue("127.0.0.1", authority).options())

    async def until(self, holds: Callable[[], Any]) -> None:
        for _ in range(2000):
            if holds():
                return
            await deferLater(reactor, 0.005)
        self.fail("it did not happen")


def _pause_at_first(connection: Connection) -> None:
    """Let a connection read no more once something has come: with TLS, the handshake is done."""
    receive = connection.dataReceived

    def first(data: bytes) -> None:
        connection.dataReceived = receive  # type: ignore[method-assign]
        receive(data)
        connection.transport.pauseProducing()

    connection.dataReceived = first  # type: ignore[method-assign]


class Source:
    """Writes a body as fast as it may."""

    def __init__(self, transport: Any, size: int) -> None:
        self.transport, self.left, self.is_paused = transport, size, False
        transport.write(HEAD % size)
        transport.registerProducer(self, streaming=True)
        self.resumeProducing()

    def resumeProducing(self) -> None:
        self.is_paused = False
        while self.left and not self.is_paused:
            size = min(self.left, 10_000)
            self.left -= size
            self.transport.write(b"x" * size)
        if not self.left:
            self.transport.unregisterProducer()

    def pauseProducing(self) -> None:
        self.is_paused = True

    stopProducing = pauseProducing


async def pieces(count: int, size: int, made: list[int] | None = None) -> AsyncIterator[bytes]:
    for number in range(count):
        if made is not None:
            made.append(number)
        yield b"%d" % (number % 10) * size


class SendingTests(StreamCase):
    async def test_whole(self) -> None:
        peer = Peer()
        for url in (self.serve(peer), self.secured(peer)):
            reply = await self.send(url, 30, pieces(3, 10))
            self.assertEqual((reply.status, reply.body, reply.flaw), (200, b"ok", None))
            head, body = peer.requests[-1]
            self.assertEqual(body, b"0" * 10 + b"1" * 10 + b"2" * 10)
            self.assertTrue(head.startswith(b"POST /x HTTP/1.1\r\n"))
            self.assertIn(b"\r\ncontent-length: 30\r\n", head.lower())
            self.assertNotIn(b"transfer-encoding", head.lower())

    async def test_no_faster_than_the_peer_reads(self) -> None:
        for serve in (self.serve, self.secured):
            peer = Peer()
            peer.on_connect = _pause_at_first
            made: list[int] = []
            count = MUCH // 10_000
            done = self.send(serve(peer), count * 10_000, pieces(count, 10_000, made))
            await self.until(lambda made=made: made)
            before = -1
            while len(made) > before:
                before = len(made)
                await deferLater(reactor, 0.1)
            self.assertLess(len(made), count)
            peer.connections[0].transport.resumeProducing()
            self.assertEqual((await done).status, 200)
            self.assertEqual(len(peer.requests[0][1]), count * 10_000)

    async def test_each_on_a_new_connection(self) -> None:
        """What was sent can't be sent again, if a kept one turns out to be closed."""
        peer = Peer()
        url = self.serve(peer)
        await self.get(url)
        await self.send(url, 10, pieces(1, 10))
        self.assertEqual(len(peer.connections), 2)
        self.assertIn(b"connection: close", peer.requests[1][0].lower())

    async def test_a_peer_that_takes_nothing(self) -> None:
        peer = Peer()
        peer.on_connect = lambda connection: connection.transport.pauseProducing()
        done = self.send(self.serve(peer), MUCH, pieces(MUCH // 10_000, 10_000), 0.3)
        self.assertEqual(await self.error(NoReply, done), "no answer in time")

    async def test_a_peer_that_takes_a_little_now_and_then(self) -> None:
        async def slow() -> AsyncIterator[bytes]:
            for _ in range(8):
                await deferLater(reactor, 0.1)
                yield b"x"

        self.assertEqual((await self.send(self.serve(Peer()), 8, slow(), 0.4)).status, 200)

    async def test_what_the_pieces_raise(self) -> None:
        async def broken() -> AsyncIterator[bytes]:
            yield b"x"
            raise ZeroDivisionError

        for serve in (self.serve, self.secured):
            peer = Peer()
            await self.assertFailure(self.send(serve(peer), 9, broken()), ZeroDivisionError)
            await peer.connections[0].gone
            self.assertEqual(peer.requests, [])

    async def test_another_length_than_was_said(self) -> None:
        for length in (29, 31):
            peer = Peer()
            done = self.send(self.serve(peer), length, pieces(3, 10))
            await self.assertFailure(done, ValueError)
            await peer.connections[0].gone

    async def test_an_answer_before_the_end(self) -> None:
        for serve in (self.serve, self.secured):
            peer = Peer()

            def refuse(connection: Connection) -> None:
                connection.transport.write(OK.replace(b"200", b"413"))

            peer.on_connect = refuse
            waiting: Deferred[None] = Deferred()

            async def stuck(waiting: Deferred[None] = waiting) -> AsyncIterator[bytes]:
                yield b"x"
                await waiting

            self.assertEqual((await self.send(serve(peer), 9, stuck())).status, 413)
            self.assertTrue(waiting.called)
            await peer.connections[0].gone

    async def test_giving_up(self) -> None:
        peer = Peer()
        waiting: Deferred[None] = Deferred()

        async def stuck() -> AsyncIterator[bytes]:
            yield b"x"
            await waiting

        done = self.send(self.serve(peer), 9, stuck())
        await self.until(lambda: peer.connections)
        done.cancel()
        await self.assertFailure(done, CancelledError)
        await peer.connections[0].gone
        self.assertTrue(waiting.called)

    async def test_not_sent(self) -> None:
        await self.error(NotSent, self.send(self.serve(Peer(), tls=True), 10, pieces(1, 10)))


class ReceivingTests(StreamCase):
    async def test_more_than_is_read_into_memory(self) -> None:
        for serve in (self.serve, self.secured):
            peer = Peer(HEAD % (3 * MOST_WIRE) + b"x" * 3 * MOST_WIRE)
            reply = await self.receive(serve(peer))
            self.assertEqual((reply.status, reply.body, reply.flaw), (200, b"", None))
            self.assertEqual(sum(map(len, self.taken)), 3 * MOST_WIRE)
            self.assertLess(max(map(len, self.taken)), 2 * MOST_HELD)
            self.assertTrue(peer.requests[0][0].startswith(b"GET /x HTTP/1.1\r\n"))
            await peer.connections[0].gone

    async def test_in_many_chunks(self) -> None:
        chunks = b"1\r\nx\r\n" * (MOST_CHUNKS + 10) + b"0\r\n\r\n"
        peer = Peer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks)
        self.assertIsNone((await self.receive(self.serve(peer))).flaw)
        self.assertEqual(sum(map(len, self.taken)), MOST_CHUNKS + 10)

    async def test_gzip(self) -> None:
        packed = gzip.compress(bytes(range(256)) * 10_000)
        head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"
        reply = await self.receive(self.serve(Peer(head % len(packed) + packed)))
        self.assertIsNone(reply.flaw)
        self.assertEqual(zlib.crc32(b"".join(self.taken)), zlib.crc32(bytes(range(256)) * 10_000))

    async def test_no_faster_than_it_is_taken(self) -> None:
        for serve in (self.serve, self.secured):
            peer, sources, taken = Peer(None), [], []
            blocked: Deferred[None] = Deferred()

            async def take(
                piece: bytes, taken: list[int] = taken, blocked: Deferred[None] = blocked
            ) -> None:
                taken.append(len(piece))
                if not blocked.called:
                    await blocked

            peer.on_request = lambda connection, sources=sources: sources.append(
                Source(connection.transport, 2 * MUCH)
            )
            done = self.receive(serve(peer), take, silence=0.3)
            await self.until(lambda taken=taken: taken)
            before = 0
            while sources[0].left != before:
                before = sources[0].left
                await deferLater(reactor, 0.2)
            self.assertGreater(before, MUCH)
            self.assertEqual(len(taken), 1)
            self.assertNoResult(done)  # that it is silent is not the peer's fault
            blocked.callback(None)
            self.assertIsNone((await done).flaw)
            self.assertEqual(sum(taken), 2 * MUCH)

    async def test_a_peer_that_falls_silent(self) -> None:
        for answer in (None, HEAD % 9 + b"x"):
            done = self.receive(self.serve(Peer(answer)), silence=0.2)
            if answer is None:
                self.assertEqual(await self.error(NoReply, done), "no answer in time")
            else:
                self.assertEqual((await done).flaw, "did not end in time")

    async def test_a_peer_that_sends_a_little_now_and_then(self) -> None:
        peer = Peer(HEAD % 8)
        done = self.receive(self.serve(peer), silence=0.4)
        connection = await peer.requested
        for _ in range(8):
            await deferLater(reactor, 0.1)
            connection.transport.write(b"x")
        self.assertIsNone((await done).flaw)

    async def test_cut(self) -> None:
        reply = await self.receive(self.serve(Peer(HEAD % 9 + b"x", close=True)))
        self.assertEqual(reply.flaw, "was cut short (the connection was closed)")
        self.assertEqual(self.taken, [b"x"])

    async def test_another_status(self) -> None:
        for status in (b"404", b"302", b"204"):
            reply = await self.receive(self.serve(Peer(OK.replace(b"200", status))))
            self.assertEqual(reply.status, int(status))
            self.assertEqual(self.taken, [])
        self.assertEqual((await self.receive(self.serve(Peer(OK)))).body, b"")
        big = (HEAD % 2000).replace(b"200 OK", b"500 X") + b"x" * 2000
        reply = await self.receive(self.serve(Peer(big)))
        self.assertEqual((len(reply.body), reply.flaw), (1000, "was longer than it may be"))

    async def test_what_the_taker_raises(self) -> None:
        for later in (False, True):

            async def take(_: bytes, *, later: bool = later) -> None:
                if later:
                    await deferLater(reactor, 0.01)
                raise ZeroDivisionError

            peer = Peer(HEAD % MUCH + b"x" * (MUCH - 1))
            await self.assertFailure(self.receive(self.serve(peer), take), ZeroDivisionError)
            await peer.connections[0].gone

    async def test_giving_up(self) -> None:
        waiting: Deferred[None] = Deferred()

        async def take(_: bytes) -> None:
            await waiting

        peer = Peer(HEAD % 9 + b"x")
        done = self.receive(self.serve(peer), take)
        await peer.requested
        for _ in range(9):
            await deferLater(reactor, 0.001)
        done.cancel()
        await self.assertFailure(done, CancelledError)
        await peer.connections[0].gone
        self.assertTrue(waiting.called)


class PasserTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.taken: list[bytes] = []
        self.taking: list[Deferred[None]] = []
        self.passer = Passer(9, self.take, self.clock)
        self.transport = StringTransport()

        class Response:
            code = 200

            def deliverBody(_, passer: Passer) -> None:  # noqa: N805
                passer.makeConnection(self.transport)

        self.done = self.passer.begin(Response())  # type: ignore[arg-type]

    async def take(self, piece: bytes) -> None:
        self.taken.append(piece)
        taking: Deferred[None] = Deferred()
        self.taking.append(taking)
        await taking

    def test_one_piece_after_the_other_and_then_the_end(self) -> None:
        for piece in (b"a", b"b", b"c"):
            self.passer.dataReceived(piece)
        self.passer.connectionLost(Failure(ResponseDone()))
        self.assertEqual(self.taken, [b"a"])
        self.taking[0].callback(None)
        self.assertEqual(self.taken, [b"a", b"bc"])
        self.assertNoResult(self.done)
        self.taking[1].callback(None)
        self.successResultOf(self.done)
        self.assertIsNone(self.passer.flaw)

    def test_reading_is_paused_while_much_waits(self) -> None:
        self.passer.dataReceived(b"a")
        self.passer.dataReceived(b"b" * (MOST_HELD - 1))
        self.assertEqual(self.transport.producerState, "producing")
        self.passer.dataReceived(b"c")
        self.assertEqual(self.transport.producerState, "paused")
        self.taking[0].callback(None)
        self.assertEqual(self.transport.producerState, "producing")
        self.assertEqual(len(self.taken[1]), MOST_HELD)

    def test_when_it_moved(self) -> None:
        self.clock.advance(5)
        self.assertEqual(self.passer.moved(), 0.0)
        self.passer.dataReceived(b"a")
        self.clock.advance(5)
        self.assertEqual(self.passer.moved(), 10.0)
        self.taking[0].callback(None)
        self.clock.advance(5)
        self.assertEqual(self.passer.moved(), 10.0)


class StreamedBodyTests(SynchronousTestCase):
    def test_it_moves_as_it_is_written(self) -> None:
        clock, transport = Clock(), StringTransport()
        body = StreamedBody(30, pieces(3, 10), clock)
        self.assertFalse(body.started)
        body.pauseProducing()
        body.startProducing(transport)
        self.assertTrue(body.started)
        self.assertEqual(transport.value(), b"")
        clock.advance(7)
        self.assertEqual(body.moved(), 0.0)
        body.resumeProducing()
        self.assertEqual(len(transport.value()), 30)
        self.assertEqual(body.moved(), 7.0)
        self.assertIsNone(transport.producer)

    def test_it_is_written_no_more_once_it_is_stopped(self) -> None:
        transport = StringTransport()
        body = StreamedBody(30, pieces(3, 10), Clock())
        body.pauseProducing()
        body.startProducing(transport)
        body.stopProducing()
        self.assertEqual((transport.value(), transport.producer), (b"", None))
        self.assertIsNone(body.error)
