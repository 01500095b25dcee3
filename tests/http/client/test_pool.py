"""Which connection a request goes out on, over real sockets."""

from itertools import product
from typing import Any

from twisted.internet import reactor
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.http.client import NoReply, pool
from chatgpt_source.http.client.agent import AT_ONCE
from chatgpt_source.http.client.connection import Connection as HTTPConnection
from chatgpt_source.http.client.pool import CLOSED_AT_ONCE, FRESH, KEEP_IDLE, SWEEP, Pool
from chatgpt_source.http.client.work_queue import WorkQueue
from chatgpt_source.http.sending import Sending
from tests.http.client.test_client import OK, ClientCase, Connection, Peer, _a_moment, certificate


class ReuseTests(ClientCase):
    async def test_not_after_an_answer_of_http_1_0(self) -> None:
        """It closes, and its end may come after the next request is written."""
        peer = Peer(OK.replace(b"HTTP/1.1", b"HTTP/1.0"))
        url = self.serve(peer)
        for _ in range(4):
            self.assertEqual((await self.post(url)).status, 200)
        self.assertGreaterEqual(len(peer.connections), 3)

    async def test_not_when_its_end_lies_unread(self) -> None:
        self.patch(pool, "FRESH", 0.0)
        peer = Peer()
        url = self.serve(peer)
        await self.post(url)
        (idle,) = self.idle()
        idle.transport.stopReading()  # as if the reactor had not come round to it
        peer.connections[0].transport.abortConnection()
        gone = peer.connections[0]
        while gone.transport.connected:
            await _a_moment()
        self.assertEqual((await self.post(url)).status, 200)
        self.assertEqual(len(peer.connections), 2)

    async def test_not_once_its_end_was_read(self) -> None:
        for tls, end in product((False, True), ("loseConnection", "abortConnection")):
            self.remake(authorities=[certificate().pem])
            peer = Peer()
            url = self.serve(peer, tls=tls)
            await self.post(url)
            (idle,) = self.idle()
            getattr(peer.connections[0].transport, end)()
            while idle.transport.connected:
                await _a_moment()
            self.assertEqual((await self.post(url, timeout=2.0)).status, 200)
            self.assertEqual(len(peer.connections), 2)

    async def test_not_one_that_we_have_given_up(self) -> None:
        peer = Peer()
        url = self.serve(peer)
        await self.post(url)
        (idle,) = self.idle()
        idle._sending.soon(idle._sender)  # else it is lost before anything is sent
        idle.dataReceived(b"unasked for")
        self.assertEqual((await self.post(url)).status, 200)
        self.assertEqual([len(peer.connections), len(peer.requests)], [2, 2])

    async def test_the_one_used_last(self) -> None:
        """So that those that are not needed any more get old, and close."""
        peer = Peer(None)
        url = self.serve(peer)
        done = [self.post(url) for _ in range(3)]
        while len(peer.requests) < 3:
            await _a_moment()
        first, _, last = peer.connections
        for connection in (first, peer.connections[1], last):
            connection.transport.write(OK)
        for reply in done:
            await reply
        used: list[Connection] = []

        def answer(connection: Connection) -> None:
            used.append(connection)
            connection.transport.write(OK)

        peer.on_request = answer
        for _ in range(2):
            await self.post(url)
        self.assertEqual(used, [last, last])

    async def test_those_handed_out_alone_are_looked_at(self) -> None:
        self.patch(pool, "FRESH", 0.0)
        peer = Peer(None)
        url = self.serve(peer)
        done = [self.post(url) for _ in range(3)]
        while len(peer.requests) < 3:
            await _a_moment()
        for connection in peer.connections:
            connection.transport.write(OK)
        for reply in done:
            await reply
        *others, _ = self.idle()
        for idle in others:
            idle.transport.getHandle = None  # that it is looked at would be an error
        peer.on_request = lambda connection: connection.transport.write(OK)
        self.assertEqual((await self.post(url)).status, 200)
        self.assertEqual(len(peer.connections), 3)
        for idle in others:
            del idle.transport.getHandle


class AgeTests(SynchronousTestCase):
    """Connections that nobody uses."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.pool = Pool(self.clock, 3)  # type: ignore[arg-type]

    def keep(self, kind: str) -> StringTransport:
        clock: Any = Clock()
        connection = HTTPConnection(WorkQueue(clock), Sending(clock))
        transport = StringTransport()
        connection.makeConnection(transport)
        self.pool.keep(kind, connection)
        return transport

    def test_are_closed_by_age(self) -> None:
        first = self.keep("a")
        self.clock.advance(2)
        second = self.keep("b")
        for _ in range(5):
            self.clock.advance(SWEEP)
        self.assertEqual((first.disconnecting, second.disconnecting), (True, False))
        for _ in range(5):
            self.clock.advance(SWEEP)
        self.assertTrue(second.disconnecting)
        self.assertLessEqual(self.clock.seconds() - 2, KEEP_IDLE + SWEEP * 2)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_many_are_closed_in_several_turns(self) -> None:
        self.pool.most = CLOSED_AT_ONCE * 2
        kept = [self.keep(kind) for _ in range(CLOSED_AT_ONCE) for kind in "abc"]
        seen: list[int] = []

        def look() -> None:
            seen.append(sum(each.disconnecting for each in kept))
            if seen[-1] < len(kept):
                self.clock.callLater(0, look)

        self.clock.callLater(KEEP_IDLE, look)
        for _ in range(10):
            self.clock.advance(SWEEP)
        self.assertEqual(seen, [CLOSED_AT_ONCE * turn for turn in range(4)])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_those_beyond_the_limit_are_closed(self) -> None:
        kept = [self.keep("a") for _ in range(4)] + [self.keep("b")]
        self.assertEqual([each.disconnecting for each in kept], [False, False, False, True, False])

    def test_one_that_was_just_used_is_not_looked_at(self) -> None:
        used = self.keep("a")  # looked at, it would not be taken for open: it is no socket
        self.clock.advance(FRESH * 0.9)
        connection = self.pool.take("a")
        self.assertIs(connection and connection.transport, used)
        self.keep("a")
        self.clock.advance(FRESH * 1.1)
        self.assertIsNone(self.pool.take("a"))

    def test_one_that_was_just_used_and_is_lost(self) -> None:
        self.keep("a").connected = False
        self.assertIsNone(self.pool.take("a"))

    def test_none_is_kept_after_the_end(self) -> None:
        before = self.keep("a")
        closing = self.pool.close()
        self.assertTrue(before.disconnecting)
        self.assertNoResult(closing)
        self.assertTrue(self.keep("a").disconnecting)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class DyingTests(ClientCase):
    """A kept connection that ends just as a request goes out on it."""

    async def kept(self, fate: Any) -> tuple[Peer, Any]:
        """A peer with one idle connection, on which the next request meets its fate."""
        peer = Peer()
        url = self.serve(peer)
        await self.post(url)
        answer = peer.on_request

        def once(connection: Connection) -> None:
            peer.on_request = answer
            fate(connection)

        peer.on_request = once
        return peer, url

    async def test_is_sent_again_on_a_new_one(self) -> None:
        for fate in (
            lambda connection: connection.transport.abortConnection(),
            lambda connection: connection.transport.loseConnection(),
        ):
            peer, url = await self.kept(fate)
            self.assertEqual((await self.post(url)).body, b"ok")
            self.assertEqual((len(peer.requests), len(peer.connections)), (3, 2))
            self.assertEqual(peer.requests[1], peer.requests[2])

    async def test_but_once(self) -> None:
        peer, url = await self.kept(None)
        peer.on_request = lambda connection: connection.transport.abortConnection()
        await self.error(NoReply, self.post(url))
        self.assertEqual((len(peer.requests), len(peer.connections)), (3, 2))

    async def test_not_once_a_byte_of_an_answer_came(self) -> None:
        def cut(connection: Connection) -> None:
            connection.transport.write(b"H")
            connection.transport.loseConnection()

        peer, url = await self.kept(cut)
        await self.error(NoReply, self.post(url))
        self.assertEqual(len(peer.requests), 2)

    async def test_not_later(self) -> None:
        def late(connection: Connection) -> None:
            reactor.callLater(  # type: ignore[attr-defined]
                AT_ONCE * 1.1, connection.transport.abortConnection
            )

        peer, url = await self.kept(late)
        await self.error(NoReply, self.post(url))
        self.assertEqual(len(peer.requests), 2)

    async def test_not_when_we_gave_up(self) -> None:
        peer, url = await self.kept(lambda _: None)
        await self.error(NoReply, self.post(url, timeout=AT_ONCE / 2))
        self.assertEqual(len(peer.requests), 2)

    async def test_not_on_a_new_one(self) -> None:
        peer = Peer(None, close=True)
        await self.error(NoReply, self.post(self.serve(peer)))
        self.assertEqual(len(peer.requests), 1)

    async def test_who_refuses_connections_then(self) -> None:
        peer, url = await self.kept(lambda connection: connection.transport.abortConnection())
        await self.ports.pop().stopListening()
        self.assertEqual(await self.error(NoReply, self.post(url)), "connection refused")
        self.assertEqual(len(peer.requests), 2)


class FreshTests(ClientCase):
    async def test_a_connection_of_its_own(self) -> None:
        peer = Peer()
        url = self.serve(peer)
        await self.post(url)
        for _ in range(2):
            reply = await self.post(url, fresh=True)
            self.assertEqual(reply.body, b"ok")
        self.assertEqual(len(peer.connections), 3)
        self.assertIn(b"connection: close", peer.requests[1][0].lower())
        await self.post(url)
        self.assertEqual(len(peer.connections), 3)
