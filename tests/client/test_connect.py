"""Connections, over real sockets; and the limit of a step, by a clock."""

from time import process_time
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.client import NoReply
from chatgpt_source.client.connect import AFTER_STALL, MOST_HEAD, _HeadGuard, limited
from tests.client.test_client import OK, ClientCase, Connection, Peer


class HeadTests(ClientCase):
    async def test_a_head_without_end(self) -> None:
        peer = Peer(b"HTTP/1.1 200 OK\r\n" + b"X-Flood: x\r\n" * (MOST_HEAD // 12 + 1))
        self.assertIn("head is too long", await self.error(NoReply, self.post(self.serve(peer))))

    async def test_interim_responses_without_end(self) -> None:
        peer = Peer(b"HTTP/1.1 100 Continue\r\n\r\n" * (MOST_HEAD // 25 + 1))
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


class Guarded:
    """A protocol under a guard, that takes what comes; its own transport."""

    def __init__(self) -> None:
        self.transport = self
        self.ended = False
        self.dataReceived = self.request = self.connectionLost = lambda _: None
        _HeadGuard(self)

    def abortConnection(self) -> None:
        self.ended = True


class GuardTests(SynchronousTestCase):
    def test_in_pieces_of_any_size(self) -> None:
        final = b"HTTP/1.0 200 OK\r\nX: y\r\n\r\n"
        answer = b"HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n" + final
        for size in range(1, len(answer) + 1):
            guarded: Any = Guarded()
            for start in range(0, len(answer), size):
                self.assertFalse(guarded.closes)
                guarded.dataReceived(answer[start : start + size])
            self.assertTrue(guarded.closes, size)

    def test_in_bytes(self) -> None:
        """To search all of a head at each byte of it would take a minute."""
        guarded: Any = Guarded()
        started = process_time()
        while not guarded.ended:
            guarded.dataReceived(b"x")
        self.assertLess(process_time() - started, 10)


class ReuseTests(ClientCase):
    async def test_not_after_an_answer_of_http_1_0(self) -> None:
        """It closes, and its end may come after the next request is written."""
        peer = Peer(OK.replace(b"HTTP/1.1", b"HTTP/1.0"))
        url = self.serve(peer)
        for _ in range(4):
            self.assertEqual((await self.post(url)).status, 200)
        self.assertGreaterEqual(len(peer.connections), 3)

    async def test_not_when_its_end_lies_unread(self) -> None:
        peer = Peer()
        url = self.serve(peer)
        await self.post(url)
        (idle,) = next(iter(self.pool._connections.values()))
        idle.transport.stopReading()  # as if the reactor had not come round to it
        peer.connections[0].transport.abortConnection()
        gone = peer.connections[0]
        while gone.transport.connected:
            await self.a_moment()
        self.assertEqual((await self.post(url)).status, 200)
        self.assertEqual(len(peer.connections), 2)

    async def a_moment(self) -> None:
        from twisted.internet import reactor  # noqa: PLC0415 - the real one, for real sockets

        moment: Deferred[None] = Deferred()
        reactor.callLater(0.01, moment.callback, None)  # type: ignore[attr-defined]
        await moment


class LimitedTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.step: Deferred[str] = Deferred()
        self.ended = limited(self.step, 10, self.clock)

    def test_in_time(self) -> None:
        self.step.callback("done")
        self.assertEqual(self.successResultOf(self.ended), "done")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_too_late(self) -> None:
        self.clock.advance(10)
        self.failureResultOf(self.ended, TimeoutError)

    def test_a_failure_in_time(self) -> None:
        self.step.errback(ZeroDivisionError())
        self.failureResultOf(self.ended, ZeroDivisionError)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_cancelled_by_another(self) -> None:
        self.ended.cancel()
        self.failureResultOf(self.ended, CancelledError)

    def test_after_a_stall_there_is_time_to_read(self) -> None:
        self.clock.advance(60)
        self.assertNoResult(self.ended)
        self.step.callback("it lay in the socket")
        self.assertEqual(self.successResultOf(self.ended), "it lay in the socket")

    def test_after_a_stall_with_nothing_to_read(self) -> None:
        self.clock.advance(60)
        self.clock.advance(AFTER_STALL)
        self.failureResultOf(self.ended, TimeoutError)


__all__ = ["Connection"]
