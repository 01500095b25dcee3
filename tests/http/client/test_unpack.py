"""Bodies packed with gzip, and those that only say so."""

import gzip

from twisted.internet.protocol import Protocol
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http_headers import Headers

from chatgpt_source.http.client import Reply
from chatgpt_source.http.client.unpack import PIECE, unpacked
from tests.http.client.test_client import ClientCase, Peer

HEAD = b"HTTP/1.1 200 OK\r\nContent-Encoding: %s\r\nContent-Length: %d\r\n\r\n"


class UnpackTests(ClientCase):
    async def reply_of(self, packed: bytes, codings: bytes = b"gzip") -> Reply:
        return await self.post(self.serve(Peer(HEAD % (codings, len(packed)) + packed)))

    async def capped(self, packed: bytes) -> Reply:
        """What comes of a body that never ends, of which 10 bytes are taken."""
        peer = Peer(HEAD % (b"gzip", 999999) + packed)
        reply = await self.post(self.serve(peer), most=10)
        await peer.connections[0].gone
        return reply

    async def test_gzip(self) -> None:
        packed = gzip.compress(b"a" * 900)
        peer = Peer(HEAD % (b"gzip", len(packed)) + packed)
        reply = await self.post(self.serve(peer))
        self.assertEqual((reply.body, reply.flaw), (b"a" * 900, None))
        self.assertIn(b"accept-encoding: gzip", peer.requests[0][0].lower())

    async def test_several_members(self) -> None:
        packed = gzip.compress(b"a" * 900) + gzip.compress(b"b")
        reply = await self.reply_of(packed, b"x-GZIP")
        self.assertEqual((reply.body, reply.flaw), (b"a" * 900 + b"b", None))

    async def test_nothing(self) -> None:
        reply = await self.reply_of(b"")
        self.assertEqual((reply.body, reply.flaw), (b"", None))

    async def test_no_gzip(self) -> None:
        reply = await self.reply_of(b"MODELMARK")
        self.assertEqual((reply.status, reply.body), (200, b""))
        self.assertEqual(reply.flaw, "was cut short (it is not valid gzip)")

    async def test_cut_within(self) -> None:
        reply = await self.reply_of(gzip.compress(b"a" * 900)[:-9])
        self.assertEqual(reply.flaw, "was cut short (it is not valid gzip)")

    async def test_more_behind_it(self) -> None:
        reply = await self.capped(gzip.compress(b"a" * 5) + b"MODELMARK")
        self.assertEqual(reply.flaw, "was cut short (it is not valid gzip)")

    async def test_cap_is_that_of_the_unpacked(self) -> None:
        reply = await self.capped(gzip.compress(bytes(10**6)))
        self.assertEqual((len(reply.body), reply.flaw), (10, "was longer than it may be"))

    async def test_packed_otherwise(self) -> None:
        packed = gzip.compress(gzip.compress(b"a" * 900))
        for codings in (b"gzip, gzip", b"gzip\r\nContent-Encoding: gzip", b"br"):
            reply = await self.reply_of(packed, codings)
            self.assertEqual((reply.body, reply.flaw), (packed, None))


class BoundTests(SynchronousTestCase):
    def test_a_piece_at_a_time(self) -> None:
        """Else what comes at once could unpack to a thousand times its size at once."""
        sizes: list[int] = []

        class Receiver(Protocol):
            def dataReceived(self, data: bytes) -> None:
                sizes.append(len(data))

        class Response:
            headers = Headers({"Content-Encoding": ["gzip"]})

            def deliverBody(self, protocol: Protocol) -> None:
                protocol.makeConnection(StringTransport())
                protocol.dataReceived(gzip.compress(bytes(10**6)))

        unpacked(Response()).deliverBody(Receiver())
        self.assertEqual((sum(sizes), max(sizes)), (10**6, PIECE))
