"""How long reading may take, and how a response is passed on."""

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Protocol
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import ResponseDone, ResponseFailed, ResponseNeverReceived

from chatgpt_source.http.client.connection import CLOSE_TIMEOUT, PIECE, Connection
from chatgpt_source.http.client.response import MOST_WIRE
from chatgpt_source.http.client.work_queue import WorkQueue
from tests.http.client.test_client import OK
from tests.http.client.test_work_queue import Turning

LONG = 7 * PIECE
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LONG


class Transport(StringTransport):
    """Remembers whether it was ended at once; as TLS does, reads on until the peer has closed."""

    aborted = False

    def abortConnection(self) -> None:
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
        self.connection = Connection(WorkQueue(self.clock, lambda: self.clock.now))
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
