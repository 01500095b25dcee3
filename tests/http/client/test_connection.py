"""How long reading may take, and how a response is passed on."""

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Protocol
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import ResponseDone, ResponseFailed, ResponseNeverReceived

from chatgpt_source.http.client.body import Collector
from chatgpt_source.http.client.connection import CLOSE_TIMEOUT, PIECE, Connection
from chatgpt_source.http.client.response import MOST_WIRE
from chatgpt_source.http.client.work_queue import WorkQueue
from chatgpt_source.http.sending import Sending
from tests.cycles import left_by
from tests.http.client.test_client import OK
from tests.http.client.test_work_queue import Turning

LONG = 7 * PIECE
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LONG


class Transport(StringTransport):
    """Remembers whether it was ended at once.

    As with TLS, it reads on until the peer has closed, and can't be aborted once it is lost.
    """

    aborted = False

    def abortConnection(self) -> None:
        if not self.connected:
            raise AttributeError("'NoneType' object has no attribute 'shutdown'")
        self.aborted = self.disconnecting = True

    def resumeProducing(self) -> None:
        self.producerState = "producing"


class Body(Protocol):
    """Collects a body.

    Args:
        clock: Its time goes on with each piece.
        seconds: By so much.
    """

    def __init__(self, clock: "Slow", seconds: float) -> None:
        self.clock, self.seconds = clock, seconds
        self.pieces: list[bytes] = []
        self.reasons: list[type[BaseException]] = []

    def dataReceived(self, data: bytes) -> None:
        self.pieces.append(data)
        self.clock.now += self.seconds

    def connectionLost(self, reason: Failure = ...) -> None:  # type: ignore[assignment]
        self.reasons.append(reason.type)


class Slow(Turning):
    """A clock by which work takes time."""

    now = 0.0


class ConnectionCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock: Any = Slow()
        queue = WorkQueue(self.clock, lambda: self.clock.now)
        self.connection = Connection(queue, Sending(self.clock))
        self.transport = Transport()
        self.connection.makeConnection(self.transport)
        self.released: list[Connection] = []

    def request(self, seconds: float = 0.0) -> Deferred[Any]:
        """Send a request, and collect its response in `self.body`."""
        self.body = Body(self.clock, seconds)
        response = self.connection.request(b"head\r\n\r\n", None, self.released.append)
        return response.addCallback(lambda response: response.deliverBody(self.body))

    def data(self) -> bytes:
        return b"".join(self.body.pieces)


class ReadingTests(ConnectionCase):
    def test_what_is_read_quickly_is_read_at_once(self) -> None:
        self.request()
        self.connection.dataReceived(HEAD + b"x" * LONG)
        self.assertEqual((len(self.data()), self.body.reasons), (LONG, [ResponseDone]))
        self.assertEqual(self.released, [self.connection])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_response_leaves_no_cycles(self) -> None:
        def call() -> None:
            collector = Collector(100)
            response = self.connection.request(b"head\r\n\r\n", None, self.released.append)
            done = response.addCallback(collector.begin)
            self.connection.dataReceived(OK)
            self.successResultOf(done)
            self.assertEqual(collector.body, b"ok")

        self.assertEqual(left_by(call), 0)

    def test_what_takes_long_is_read_over_several_turns(self) -> None:
        self.request(seconds=0.002)
        self.connection.dataReceived(HEAD + b"x" * (LONG - 1))
        self.assertEqual(len(self.body.pieces), 1)
        self.assertEqual(self.transport.producerState, "paused")
        turns = 0
        while self.transport.producerState == "paused":
            before = len(self.body.pieces)
            self.clock.turn()
            turns += 1
            self.assertLessEqual(len(self.body.pieces) - before, 3)
        self.assertGreater(turns, 2)
        self.assertEqual(len(self.data()), LONG - 1)
        self.connection.dataReceived(b"x")
        for _ in range(3):
            self.clock.turn()
        self.assertEqual(self.body.reasons, [ResponseDone])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_what_comes_all_the_same_waits_too(self) -> None:
        """TLS passes on what it had read before it was paused."""
        self.request(seconds=0.002)
        self.connection.dataReceived(HEAD + b"a" * 3 * PIECE)
        self.transport.resumeProducing()
        self.connection.dataReceived(b"b" * 3 * PIECE)
        self.assertEqual(self.transport.producerState, "paused")
        while self.transport.producerState == "paused":
            self.clock.turn()
        self.assertEqual(self.data(), b"a" * 3 * PIECE + b"b" * 3 * PIECE)

    def test_the_end_comes_last(self) -> None:
        self.request(seconds=0.002)
        self.connection.dataReceived(HEAD + b"a" * 5 * PIECE)
        self.connection.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.body.reasons, [])
        while not self.body.reasons:
            self.clock.turn()
        self.assertEqual((len(self.data()), self.body.reasons), (5 * PIECE, [ResponseFailed]))

    def test_what_nobody_wants_any_more_is_not_read(self) -> None:
        self.request(seconds=0.002)
        self.connection.dataReceived(HEAD + b"a" * 5 * PIECE)
        self.transport.abortConnection()
        self.connection.connectionLost(Failure(ConnectionDone()))
        for _ in range(3):
            self.clock.turn()
        self.assertEqual((len(self.body.pieces), len(self.body.reasons)), (1, 1))
        self.assertEqual(self.clock.getDelayedCalls(), [])


class PausingTests(ConnectionCase):
    """A receiver that has enough for now."""

    def receive(self, data: bytes) -> None:
        """Let it pause after each piece."""
        receive = self.body.dataReceived

        def paused(piece: bytes) -> None:
            receive(piece)
            self.connection.pauseProducing()

        self.patch(self.body, "dataReceived", paused)
        self.connection.dataReceived(data)

    def test_a_piece_at_a_time(self) -> None:
        self.request()
        self.receive(HEAD + b"x" * LONG)
        for pieces in range(1, LONG // PIECE + 1):
            self.assertEqual(len(self.body.pieces), pieces)
            self.assertEqual(self.transport.producerState, "paused")
            for _ in range(3):
                self.clock.turn()
            self.assertEqual(len(self.body.pieces), pieces)
            self.connection.resumeProducing()
            self.connection.resumeProducing()
            self.assertEqual(len(self.body.pieces), pieces)  # not within the receiver
            self.clock.turn()
        self.assertEqual((len(self.data()), self.body.reasons), (LONG, [ResponseDone]))
        self.connection.resumeProducing()
        for _ in range(3):
            self.clock.turn()
        self.assertEqual(self.transport.producerState, "producing")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_what_comes_all_the_same_waits(self) -> None:
        self.request()
        self.receive(HEAD + b"a" * 10)
        self.transport.resumeProducing()
        self.connection.dataReceived(b"b" * 10)
        self.assertEqual(self.data(), b"a" * 10)
        self.assertEqual(self.transport.producerState, "paused")
        self.connection.resumeProducing()
        self.clock.turn()
        self.assertEqual(self.data(), b"a" * 10 + b"b" * 10)

    def test_the_end_comes_last(self) -> None:
        self.request()
        self.receive(HEAD + b"x" * LONG)
        self.connection.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.body.reasons, [])
        while not self.body.reasons:
            self.connection.resumeProducing()
            self.clock.turn()
        self.assertEqual((len(self.data()), self.body.reasons), (LONG, [ResponseDone]))

    def test_the_end_of_one_that_waits_for_nothing(self) -> None:
        self.request()
        self.receive(HEAD + b"x")
        self.connection.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.body.reasons, [])
        self.connection.resumeProducing()
        self.clock.turn()
        self.assertEqual(self.body.reasons, [ResponseFailed])


class LostTests(ConnectionCase):
    """What ends while bytes of a connection that is lost wait to be read."""

    def lose(self) -> None:
        self.transport.connected = False
        self.connection.connectionLost(Failure(ConnectionDone()))

    def put_off(self, data: bytes) -> None:
        """Let bytes wait, and lose the connection."""
        self.connection._queue.put_off(lambda: None)
        self.connection.dataReceived(data)
        self.assertEqual(self.transport.producerState, "paused")
        self.lose()

    def turn(self) -> None:
        while self.clock.getDelayedCalls():
            self.clock.turn()

    def test_giving_up_the_response(self) -> None:
        answer = self.request()
        self.put_off(OK)
        answer.cancel()
        self.failureResultOf(answer, CancelledError)
        self.turn()
        self.assertEqual((self.body.pieces, self.released), ([], []))

    def test_giving_up_the_body(self) -> None:
        collector = Collector(LONG)
        answer = self.connection.request(b"", None, None).addCallback(collector.begin)
        self.connection.dataReceived(HEAD)
        self.put_off(b"x" * PIECE)
        answer.cancel()
        self.failureResultOf(answer, CancelledError)
        self.turn()
        self.assertEqual((collector.body, collector.flaw), (b"", "did not end in time"))

    def test_a_response_that_is_not_http(self) -> None:
        answer = self.request()
        self.put_off(b"nonsense")
        self.turn()
        self.failureResultOf(answer, ResponseFailed)

    def test_a_body_that_is_longer_than_it_may_be(self) -> None:
        collector = Collector(3)
        answer = self.connection.request(b"", None, None).addCallback(collector.begin)
        self.put_off(HEAD + b"x" * 3 * PIECE)
        self.turn()
        self.successResultOf(answer)
        self.assertEqual((collector.body, collector.flaw), (b"xxx", "was longer than it may be"))

    def test_one_that_is_complete_is_not_kept(self) -> None:
        self.request()
        self.put_off(OK)
        self.turn()
        self.assertEqual((self.body.reasons, self.released), ([ResponseDone], []))


class PassingOnTests(ConnectionCase):
    def test_a_body_that_is_asked_for_later(self) -> None:
        response = self.connection.request(b"", None, self.released.append)
        self.connection.dataReceived(OK)
        self.body = Body(self.clock, 0.0)
        self.successResultOf(response).deliverBody(self.body)
        self.assertEqual((self.data(), self.body.reasons), (b"ok", [ResponseDone]))

    def test_a_flaw_in_the_same_piece_as_the_head(self) -> None:
        self.request()
        self.connection.dataReceived(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n")
        self.assertEqual(self.body.reasons, [ResponseFailed])
        self.assertTrue(self.transport.aborted)

    def test_one_that_is_too_long_is_not_whole_at_the_end_that_we_make(self) -> None:
        self.request()
        self.connection.dataReceived(b"HTTP/1.1 200 OK\r\n\r\n")
        self.connection.dataReceived(b"x" * (MOST_WIRE + 1))
        self.assertTrue(self.transport.aborted)
        self.connection.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.body.reasons, [ResponseFailed])

    def test_one_that_its_receiver_ended_is_not_released(self) -> None:
        self.request()
        self.patch(self.body, "dataReceived", lambda _: self.transport.abortConnection())
        self.connection.dataReceived(OK)
        self.assertEqual((self.released, self.body.reasons), ([], [ResponseDone]))

    def test_bytes_that_nobody_asked_for(self) -> None:
        self.connection.dataReceived(OK)
        self.assertTrue(self.transport.aborted)

    def test_what_is_lost(self) -> None:
        for data, error in ((b"", ResponseNeverReceived), (b"H", ResponseFailed)):
            self.setUp()
            answer = self.request()
            if data:
                self.connection.dataReceived(data)
            self.connection.connectionLost(Failure(ConnectionDone()))
            self.assertIs(self.failureResultOf(answer).type, error)

    def test_giving_up(self) -> None:
        answer = self.request()
        answer.cancel()
        self.failureResultOf(answer, CancelledError)
        self.assertTrue(self.transport.aborted)
        self.connection.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.released, [])


class ClosingTests(ConnectionCase):
    def lose(self) -> None:
        self.transport.connected = False
        self.connection.connectionLost(Failure(ConnectionDone()))

    def test_a_peer_that_never_closes_is_cut_off(self) -> None:
        self.request()
        self.connection.dataReceived(OK.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
        self.assertEqual(self.body.reasons, [ResponseDone])
        self.assertTrue(self.transport.disconnecting)
        self.assertFalse(self.transport.aborted)
        self.clock.advance(CLOSE_TIMEOUT + 1)
        self.assertTrue(self.transport.aborted)

    def test_a_peer_that_closes_leaves_no_timer(self) -> None:
        closed = self.connection.close()
        again = self.connection.close()
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.lose()
        self.successResultOf(closed)
        self.successResultOf(again)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertFalse(self.transport.aborted)

    def test_one_that_is_gone_already(self) -> None:
        self.lose()
        self.successResultOf(self.connection.close())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_the_peers_end_is_read_after_a_response_that_took_long(self) -> None:
        self.request(seconds=0.002)
        head = HEAD.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
        self.connection.dataReceived(head + b"x" * LONG)
        self.assertEqual(self.transport.producerState, "paused")
        while not self.body.reasons:
            self.clock.turn()
        self.assertTrue(self.transport.disconnecting)
        self.assertEqual(self.transport.producerState, "producing")
