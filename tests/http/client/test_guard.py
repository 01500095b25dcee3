"""What a peer may send, and how long reading it may take; over real sockets, and by itself."""

from collections.abc import Iterator
from time import process_time
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.http.client import NoReply
from chatgpt_source.http.client.guard import (
    MOST_CHUNKS,
    MOST_HEAD,
    MOST_LINES,
    MOST_WIRE,
    PIECE,
    Guard,
    TooLongBody,
    TooManyChunks,
)
from chatgpt_source.http.client.work_queue import WorkQueue
from tests.certificates import issue
from tests.http.client.test_client import OK, ClientCase, Peer
from tests.http.client.test_work_queue import Turning

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class HeadTests(ClientCase):
    async def test_a_head_without_end(self) -> None:
        peer = Peer(b"HTTP/1.1 200 OK\r\n" + b"X-Flood: x\r\n" * (MOST_HEAD // 12 + 1))
        self.assertIn("head is too long", await self.error(NoReply, self.post(self.serve(peer))))

    async def test_interim_responses_without_end(self) -> None:
        peer = Peer(b"HTTP/1.1 100 Continue\r\n\r\n" * (MOST_HEAD // 25 + 1))
        self.assertIn("head is too long", await self.error(NoReply, self.post(self.serve(peer))))

    async def test_lines_without_end(self) -> None:
        peer = Peer(b"HTTP/1.1 200 OK\r\n" + b"a:\r\n" * MOST_LINES)
        self.assertIn("head is too long", await self.error(NoReply, self.post(self.serve(peer))))

    async def test_a_few_interim_responses(self) -> None:
        url = self.serve(Peer(b"HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n" * 3 + OK))
        self.assertEqual((await self.post(url)).status, 200)

    async def test_each_response_has_a_head_of_its_own(self) -> None:
        padding = b"X-Pad: " + b"x" * 10000 + b"\r\n"
        head, _, body = OK.partition(b"\r\n\r\n")
        peer = Peer(head + b"\r\n" + padding + b"\r\n" + body)
        url = self.serve(peer)
        for _ in range(MOST_HEAD // 10000 + 2):
            self.assertEqual((await self.post(url)).status, 200)
        self.assertEqual(len(peer.connections), 1)

    async def test_a_long_body_is_no_head(self) -> None:
        size = 2 * MOST_HEAD
        peer = Peer(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size)
        reply = await self.post(self.serve(peer), most=size)
        self.assertEqual((len(reply.body), reply.flaw), (size, None))


class BodyTests(ClientCase):
    async def flaw(self, answer: bytes, most: int = MOST_WIRE) -> str | None:
        reply = await self.post(self.serve(Peer(answer)), most=most)
        return reply.flaw

    async def test_in_tiny_chunks(self) -> None:
        size = MOST_CHUNKS - 1
        reply = await self.post(
            self.serve(Peer(CHUNKED + b"1\r\nx\r\n" * size + b"0\r\n\r\n")), most=size
        )
        self.assertEqual((reply.body, reply.flaw), (b"x" * size, None))

    async def test_in_tiny_chunks_over_tls(self) -> None:
        """What TLS has read already can't be held back."""
        authority = issue(None)
        self.remake(authorities=[authority.pem])
        peer = Peer(CHUNKED + b"1\r\nx\r\n" * 20000 + b"0\r\n\r\n")
        url = self.serve(peer, options=issue("127.0.0.1", authority).options())
        for _ in range(2):
            reply = await self.post(url, most=20000)
            self.assertEqual((reply.body, reply.flaw), (b"x" * 20000, None))
        self.assertEqual(len(peer.connections), 1)

    async def test_in_too_many_chunks(self) -> None:
        for chunk in (b"1\r\nx\r\n", b"0002;a=b\r\nxx\r\n"):
            flaw = await self.flaw(CHUNKED + chunk * (MOST_CHUNKS + 10))
            self.assertEqual(flaw, "was cut short (it comes in too many chunks)")

    async def test_with_more_between_chunks_than_in_them(self) -> None:
        chunk = b"1;" + b"x" * 1000 + b"\r\nx\r\n"
        flaw = await self.flaw(CHUNKED + chunk * (MOST_WIRE // 1000))
        self.assertEqual(flaw, "was cut short (it has too many bytes on the wire)")

    async def test_lines_in_a_body_are_no_chunks(self) -> None:
        body = b"\r\n" * (MOST_CHUNKS * 3)
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        self.assertIsNone(await self.flaw(answer))

    async def test_bytes_after_the_answer(self) -> None:
        """They would be taken for the answer to the next request."""
        peer = Peer(OK + b"x" * 10 * PIECE + OK.replace(b"ok", b"no"))
        url = self.serve(peer)
        for _ in range(3):
            self.assertEqual((await self.post(url)).body, b"ok")


class Read:
    """A protocol under a guard, that takes what comes; its own transport.

    Args:
        seconds: What each piece takes, by the clock that turns go by.
    """

    def __init__(self, seconds: float = 0.0) -> None:
        self.transport = self
        self.seconds = seconds
        self.now = 0.0
        self.pieces: list[bytes] = []
        self.ended = self.paused = self.disconnecting = False
        self.lost: list[Failure] = []
        self.request = lambda _: None
        self.connectionLost = self.lost.append
        self.clock = Turning()
        self.guard = Guard(self, WorkQueue(self.clock, lambda: self.now))

    def dataReceived(self, data: bytes) -> None:
        self.pieces.append(data)
        self.now += self.seconds

    def abortConnection(self) -> None:
        self.ended = self.disconnecting = True

    def pauseProducing(self) -> None:
        self.paused = True

    def resumeProducing(self) -> None:
        self.paused = False


class GuardTests(SynchronousTestCase):
    def test_in_pieces_of_any_size(self) -> None:
        final = b"HTTP/1.0 200 OK\r\nX: y\r\n\r\n"
        answer = b"HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n" + final
        for size in range(1, len(answer) + 1):
            read: Any = Read()
            for piece in _pieces(answer, size):
                self.assertFalse(read.guard.closes)
                read.dataReceived(piece)
            self.assertTrue(read.guard.closes, size)

    def test_in_bytes(self) -> None:
        """To search all of a head at each byte of it would take a minute."""
        read: Any = Read()
        started = process_time()
        while not read.ended:
            read.dataReceived(b"x")
        self.assertLess(process_time() - started, 10)

    def test_chunks_are_counted_in_pieces_of_any_size(self) -> None:
        chunks = b"1\r\nx\r\n" * (MOST_CHUNKS + 2)
        for size in (5, 7, 11, 4096):
            read: Any = Read()
            read.dataReceived(CHUNKED)
            for piece in _pieces(chunks, size):
                read.dataReceived(piece)
            self.assertTrue(read.ended, size)
            read.connectionLost(Failure(ConnectionDone()))
            self.assertIsInstance(read.lost[0].value, TooManyChunks)

    def test_on_the_wire(self) -> None:
        read: Any = Read()
        read.dataReceived(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n")
        for _ in range(MOST_WIRE // 65536):
            read.dataReceived(b"x" * 65536)
        self.assertFalse(read.ended)
        read.dataReceived(b"x")
        self.assertTrue(read.ended)
        read.connectionLost(Failure(ConnectionDone()))
        self.assertIsInstance(read.lost[0].value, TooLongBody)

    def test_what_is_read_quickly_is_read_at_once(self) -> None:
        read: Any = Read()
        read.dataReceived(CHUNKED + b"x" * 65000)
        self.assertEqual(sum(map(len, read.pieces)), len(CHUNKED) + 65000)
        self.assertFalse(read.paused)
        self.assertEqual(read.clock.getDelayedCalls(), [])

    def test_what_takes_long_is_read_over_several_turns(self) -> None:
        read: Any = Read(seconds=0.002)
        data = CHUNKED + bytes(range(256)) * 200
        read.dataReceived(data)
        self.assertEqual(len(read.pieces), 1)
        self.assertTrue(read.paused)
        self.assertTrue(read.guard.closes)
        turns = 0
        while read.paused:
            before = len(read.pieces)
            read.clock.turn()
            turns += 1
            self.assertLessEqual(len(read.pieces) - before, 3)
        self.assertGreater(turns, 5)
        self.assertEqual(b"".join(read.pieces), data)
        self.assertFalse(read.guard.closes)
        for _ in range(3):
            read.clock.turn()
        self.assertEqual(read.clock.getDelayedCalls(), [])

    def test_what_comes_all_the_same_waits_too(self) -> None:
        """TLS passes on what it had read before it was paused."""
        read: Any = Read(seconds=0.002)
        read.dataReceived(CHUNKED + b"a" * 2 * PIECE)
        read.paused = False  # as its protocol may ask for
        read.dataReceived(b"b" * 2 * PIECE)
        self.assertTrue(read.paused)
        while read.paused:
            read.clock.turn()
        self.assertEqual(b"".join(read.pieces), CHUNKED + b"a" * 2 * PIECE + b"b" * 2 * PIECE)

    def test_the_end_comes_last(self) -> None:
        read: Any = Read(seconds=0.002)
        read.dataReceived(CHUNKED + b"a" * 5 * PIECE)
        read.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(read.lost, [])
        while not read.lost:
            read.clock.turn()
        self.assertEqual(b"".join(read.pieces), CHUNKED + b"a" * 5 * PIECE)

    def test_what_nobody_wants_any_more_is_not_read(self) -> None:
        read: Any = Read(seconds=0.002)
        read.dataReceived(CHUNKED + b"a" * 5 * PIECE)
        read.abortConnection()
        read.connectionLost(Failure(ConnectionDone()))
        self.assertEqual((len(read.pieces), len(read.lost)), (1, 1))
        for _ in range(3):
            read.clock.turn()
        self.assertEqual((len(read.pieces), len(read.lost)), (1, 1))
        self.assertEqual(read.clock.getDelayedCalls(), [])


def _pieces(data: bytes, size: int) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))
