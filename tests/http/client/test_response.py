"""What a peer may send; over real sockets, and by itself."""

from collections.abc import Iterator
from time import process_time

from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.http.client import NoReply
from chatgpt_source.http.client.connection import PIECE
from chatgpt_source.http.client.response import (
    MOST_CHUNKS,
    MOST_HEAD,
    MOST_LINES,
    MOST_WIRE,
    NotHTTP,
    ResponseReader,
    TooLongBody,
    TooLongHead,
    TooManyChunks,
)
from tests.certificates import issue
from tests.http.client.test_client import OK, ClientCase, Peer

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class HeadTests(ClientCase):
    async def test_a_head_without_end(self) -> None:
        peer = Peer(b"HTTP/1.1 200 OK\r\n" + b"X-Flood: x\r\n" * (MOST_HEAD // 12 + 1))
        self.assertIn("head is too long", await self.error(NoReply, self.post(self.serve(peer))))

    async def test_interim_responses_without_end(self) -> None:
        peer = Peer(b"HTTP/1.1 100 Continue\r\n\r\n" * (MOST_HEAD // 25 + 1))
        self.assertIn("head is too long", await self.error(NoReply, self.post(self.serve(peer))))

    async def test_lines_without_end(self) -> None:
        peer = Peer(b"HTTP/1.1 200 OK\r\n" + b"a:\r\n" * (MOST_LINES + 2))
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


class ReaderTests(SynchronousTestCase):
    def read(self, answer: bytes) -> ResponseReader:
        reader = ResponseReader()
        reader.feed(answer)
        return reader

    def test_in_pieces_of_any_size(self) -> None:
        final = b"HTTP/1.1 201 All Made\r\nX: y\r\nContent-Length: 4\r\n\r\nbody"
        answer = b"HTTP/1.1 103 Early Hints\r\nX: z\r\n\r\n" + final
        for size in range(1, len(answer) + 1):
            reader = ResponseReader()
            for piece in _pieces(answer, size):
                self.assertFalse(reader.complete)
                reader.feed(piece)
            self.assertTrue(reader.complete)
            self.assertTrue(reader.keeps_connection)
            self.assertEqual((reader.status, reader.phrase), (201, b"All Made"))
            self.assertEqual(reader.headers.getRawHeaders(b"x"), [b"y"])
            self.assertEqual(b"".join(reader.body), b"body")

    def test_which_keep_the_connection(self) -> None:
        for head, keeps in (
            (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n", True),
            (b"HTTP/1.1 204 No Content\r\n", True),
            (b"HTTP/1.1 304 Not Modified\r\n", True),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", True),
            (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n", False),
            (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n", False),
        ):
            reader = self.read(head + b"\r\n")
            self.assertEqual((reader.complete, reader.keeps_connection), (True, keeps), head)

    def test_more_than_the_answer(self) -> None:
        for surplus in (OK, b"x", b"\r\nHTTP/1.1 200 OK\r\n"):
            reader = self.read(OK + surplus)
            self.assertEqual((reader.complete, reader.keeps_connection), (True, False))
            self.assertEqual((reader.status, reader.body), (200, [b"ok"]))

    def test_the_connections_end(self) -> None:
        """Only a body without a length ends with it (RFC 9112, section 6.3)."""
        for answer, whole in (
            (b"HTTP/1.1 200 OK\r\n\r\nabc", True),
            (b"HTTP/1.1 200 OK\r\n\r\n", True),
            (b"HTTP/1.1 200 OK\r\n", False),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabc", False),
            (CHUNKED + b"3\r\nabc\r\n", False),
            (b"HTTP/1.1 100 Continue\r\n\r\n", False),
        ):
            reader = self.read(answer)
            self.assertFalse(reader.complete)
            self.assertEqual(reader.connection_ended(), whole, answer)

    def test_lines_that_end_with_lf_alone(self) -> None:
        """RFC 9112, section 2.2, allows to read them."""
        reader = self.read(OK.replace(b"\r\n", b"\n"))
        self.assertEqual((reader.status, reader.body, reader.complete), (200, [b"ok"], True))

    def test_no_http(self) -> None:
        for answer in (
            b"SSH-2.0\r\n",
            b"HTTP/2 200 OK\r\n\r\n",
            b"HTTP/1.1 OK 200\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nX Y: z\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\nx",
            CHUNKED + b"-5\r\nabc",
        ):
            self.assertRaises(NotHTTP, self.read, answer)

    def test_in_bytes(self) -> None:
        """To search all of a head at each byte of it would take a minute."""
        reader = ResponseReader()
        reader.feed(b"HTTP/1.1 200 OK\r\nX: ")
        started = process_time()
        with self.assertRaises(TooLongHead):
            for _ in range(MOST_HEAD):
                reader.feed(b"x")
        self.assertLess(process_time() - started, 10)

    def test_chunks_are_counted_in_pieces_of_any_size(self) -> None:
        chunks = b"1\r\nx\r\n" * (MOST_CHUNKS + 2)
        for size in (5, 7, 11, 4096):
            reader = self.read(CHUNKED)
            with self.assertRaises(TooManyChunks):
                for piece in _pieces(chunks, size):
                    reader.feed(piece)

    def test_a_trailer_without_end(self) -> None:
        with self.assertRaises(TooManyChunks):
            self.read(CHUNKED + b"0\r\n" + b"X: y\r\n" * (MOST_CHUNKS + 1))

    def test_on_the_wire(self) -> None:
        reader = self.read(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n")
        for _ in range(MOST_WIRE // 65536):
            reader.feed(b"x" * 65536)
        with self.assertRaises(TooLongBody):
            reader.feed(b"x")


def _pieces(data: bytes, size: int) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))
