"""A connection: what is no request, and what takes too long."""

import json
from typing import Any, cast

from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from chatgpt_source.http.server import BoundedRequest, Problem
from chatgpt_source.http.server.channel import (
    BODY_AT_MOST,
    BODY_RATE,
    BODY_WITHIN,
    CLOSE_WITHIN,
    FIRST_WITHIN,
    HEAD_WITHIN,
    IDLE_FOR,
    MOST_HEADERS,
    SLICE,
    TAKEN_AT_MOST,
    TAKEN_RATE,
    Channel,
)
from chatgpt_source.http.server.connections import Stage
from chatgpt_source.http.server.scheduler import SHARE, UNTIMED
from tests.http.server.test_request import SiteTestCase


class HalfTransport(StringTransport):
    """One whose writing half can be closed, as that of a socket."""

    half_closed = False
    aborted = False

    def loseWriteConnection(self) -> None:
        self.half_closed = True

    def abortConnection(self) -> None:
        self.aborted = True
        super().abortConnection()


class ChannelTestCase(SiteTestCase):
    def connect(self) -> None:
        self.transport: Any = HalfTransport()
        self.channel = cast(Any, self.site.buildProtocol(None))
        self.channel.makeConnection(self.transport)
        self.addCleanup(self.channel.connectionLost, Failure(ConnectionResetError()))

    async def handle(self, request: BoundedRequest) -> None:
        self.bodies.append(request.body())
        request.answer(200, b"{}")

    def wait(self, seconds: float) -> None:
        """Let time pass as it does, second by second."""
        self.clock.pump([1.0] * int(seconds))

    def assert_refused(self, raw: bytes, status: int) -> None:
        """One refusal, the last thing this connection says."""
        head, _, body = raw.partition(b"\r\n\r\n")
        self.assertTrue(head.startswith(b"HTTP/1.1 %d " % status), raw)
        self.assertIn(b"Content-Type: application/problem+json", head)
        self.assertIn(b"Connection: close", head)
        self.assertIn(b"Content-Length: %d" % len(body), head)
        self.assertEqual(json.loads(body)["status"], status)
        self.assertTrue(self.transport.half_closed)
        before = len(self.bodies)
        self.assertEqual(self.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"), b"")
        self.assertEqual(len(self.bodies), before)


NEXT = b"GET /second HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"

NO_REQUESTS = {
    "two lengths": POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nx",
    "two equal lengths": POST + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\nx",
    "a list of lengths": POST + b"Content-Length: 1, 1\r\n\r\nx",
    "length and chunked": POST
    + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked and length": POST
    + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "a bad field before a good length": POST + b"a b: c\r\nContent-Length: 0\r\n\r\n",
    "a signed length": POST + b"Content-Length: +1\r\n\r\nx",
    "a negative length": POST + b"Content-Length: -1\r\n\r\nx",
    "a length in hex": POST + b"Content-Length: 0x1\r\n\r\nx",
    "a length that is none": POST + b"Content-Length: \r\n\r\n",
    "a length of thousands of digits": POST + b"Content-Length: " + b"1" * 5000 + b"\r\n\r\n",
    "a length after thousands of zeros": POST + b"Content-Length: " + b"0" * 5000 + b"\r\n\r\n",
    "folded": POST + b"A: b\r\n c\r\n\r\n",
    "folded with a tab": POST + b"Transfer-Encoding:\r\n\tchunked\r\n\r\n0\r\n\r\n",
    "space before the first field": b"GET / HTTP/1.1\r\n Host: x\r\n\r\n",
    "space before the colon": POST + b"Content-Length : 1\r\n\r\nx",
    "no name": POST + b": x\r\n\r\n",
    "no colon": POST + b"abc\r\n\r\n",
    "NUL in a value": POST + b"A: b\0c\r\n\r\n",
    "NUL in a name": POST + b"A\0: b\r\n\r\n",
    "CR in a value": POST + b"A: b\rContent-Length: 5\r\n\r\n",
    "LF in a value": POST + b"A: b\nContent-Length: 5\r\n\r\n",
    "identity": POST + b"Transfer-Encoding: identity\r\nContent-Length: 1\r\n\r\nx",
    "gzip": POST + b"Transfer-Encoding: gzip\r\n\r\n",
    "gzip, chunked": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked twice": POST
    + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "xchunked": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "vertical tab in chunked": POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "chunked in HTTP/1.0": b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a chunk's size that is none": CHUNKED + b"xyz\r\n",
    "a chunk's size in C": CHUNKED + b"0x1\r\nx\r\n0\r\n\r\n",
    "a chunk's size with a sign": CHUNKED + b"+1\r\nx\r\n0\r\n\r\n",
    "a chunk's size with an underscore": CHUNKED + b"1_0\r\nx\r\n0\r\n\r\n",
    "a chunk longer than it says": CHUNKED + b"1\r\nxy\r\n0\r\n\r\n",
    "a chunk ended by LF": CHUNKED + b"1\nx\n0\n\n" + b"x" * 1100,
    "a huge chunk extension": CHUNKED + b"1;" + b"a" * 5000,
    "LF in a chunk extension": CHUNKED + b"1;a\nb\r\nx\r\n0\r\n\r\n",
    "huge trailers": CHUNKED + b"0\r\n" + b"a: " + b"b" * 70000,
    "no Host": b"GET / HTTP/1.1\r\n\r\n",
    "two Hosts": b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
    "two Hosts in HTTP/1.0": b"GET / HTTP/1.0\r\nHost: x\r\nHost: y\r\n\r\n",
    "HTTP/0.9": b"GET /\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/1.2": b"GET / HTTP/1.2\r\n\r\n",
    "a lower-case version": b"GET / http/1.1\r\n\r\n",
    "no method": b" / HTTP/1.1\r\n\r\n",
    "a method that is no token": b"GE(T / HTTP/1.1\r\n\r\n",
    "two spaces": b"GET  / HTTP/1.1\r\n\r\n",
    "a tab": b"GET\t/\tHTTP/1.1\r\n\r\n",
    "NUL in the path": b"GET /\0 HTTP/1.1\r\nHost: x\r\n\r\n",
    "LF in the first line": b"GET / HTTP/1.1\nHost: x\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n",
}


class NoRequestTests(ChannelTestCase):
    """What another reader could read otherwise is refused, and nothing after it is read."""

    def test_refused_whole_or_byte_by_byte(self) -> None:
        for name, raw in NO_REQUESTS.items():
            pieces = [[raw + NEXT]]
            if len(raw) < 3000:
                pieces.append([bytes([byte]) for byte in raw + NEXT])
            for sent in pieces:
                with self.subTest(name):
                    self.connect()
                    self.bodies.clear()
                    self.assert_refused(self.send(*sent), 400)
                    self.assertEqual(self.bodies, [])

    def test_line_feeds_alone_end_nothing(self) -> None:
        self.assertEqual(self.send(b"GET / HTTP/1.1\nHost: x\n\n"), b"")
        self.wait(HEAD_WITHIN)
        self.assert_refused(self.transport.value(), 408)

    def test_too_large_a_head(self) -> None:
        for name, raw in {
            "one line": b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"b" * 20000,
            "a whole line": b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"b" * 20000 + b"\r\n\r\n",
            "the first": b"GET /" + b"a" * 20000,
            "many lines": b"GET / HTTP/1.1\r\nHost: x\r\n" + (b"A: " + b"b" * 500 + b"\r\n") * 40,
            "many fields": b"GET / HTTP/1.1\r\nHost: x\r\n" + b"a:\r\n" * MOST_HEADERS + b"\r\n",
        }.items():
            with self.subTest(name):
                self.connect()
                self.assert_refused(self.send(raw), 431)
        self.connect()
        self.assertIn(b"200 OK", self.send(POST + b"a:\r\n" * (MOST_HEADERS - 1) + b"\r\n"))

    def test_an_expectation_nobody_can_meet(self) -> None:
        for value in (b"200-ok", b"100-continue, x", b"", b"100-continue\r\nExpect: 100-continue"):
            self.connect()
            raw = POST + b"Expect: " + value + b"\r\nContent-Length: 1\r\n\r\nx"
            self.assert_refused(self.send(raw), 417)
        self.connect()
        answer = self.send(b"HEAD / HTTP/1.1\r\nHost: x\r\nExpect: y\r\n\r\n")
        self.assertTrue(answer.startswith(b"HTTP/1.1 417 "))
        self.assertTrue(answer.endswith(b"\r\n\r\n"))  # a HEAD has no body

    def test_of_http_1_0_nothing_is_expected(self) -> None:
        head = b"POST / HTTP/1.0\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n"
        self.assertEqual(self.send(head), b"")
        self.assertTrue(self.send(b"x").startswith(b"HTTP/1.0 200 "))


class RequestTests(ChannelTestCase):
    def test_pipelined_in_order(self) -> None:
        raw = b"".join(POST + b"Content-Length: 3\r\n\r\n%03d" % n for n in range(500))
        answer = self.send(raw)
        self.assertEqual(answer.count(b"HTTP/1.1 200 OK"), 500)
        self.assertEqual(self.bodies, [b"%03d" % n for n in range(500)])

    def test_the_system_is_asked_for_our_address_once(self) -> None:
        self.send(NEXT)
        self.patch(self.transport, "getHost", None)
        self.assertTrue(self.send(NEXT).startswith(b"HTTP/1.1 200 OK"))

    def test_the_refusal_comes_in_its_turn(self) -> None:
        answer = self.send(POST + b"Content-Length: 1\r\n\r\nx" + b"nonsense\r\n\r\n")
        self.assertTrue(answer.startswith(b"HTTP/1.1 200 OK"))
        self.assertEqual(answer.count(b"HTTP/1.1 400 "), 1)

    def test_http_1_0_is_closed(self) -> None:
        for connection in (b"", b"Connection: keep-alive\r\n"):
            self.connect()
            answer = self.send(b"GET / HTTP/1.0\r\n" + connection + b"\r\n" + NEXT)
            self.assertEqual(answer.count(b"HTTP/1."), 1)
            self.assertTrue(answer.startswith(b"HTTP/1.0 200 OK"))
            self.assertTrue(self.transport.half_closed)

    def test_asked_to_close(self) -> None:
        for value in (b"close", b"Close", b"TE, close", b"close,TE", b"x\r\nConnection: close"):
            self.connect()
            answer = self.send(POST + b"Connection: " + value + b"\r\n\r\n" + NEXT)
            self.assertEqual(answer.count(b"HTTP/1."), 1)
            self.assertIn(b"Connection: close", answer)
            self.assertTrue(self.transport.half_closed)

    def test_chunks(self) -> None:
        chunks = b"1;a=b\r\nx\r\n2\r\nyz\r\n0\r\nTrailer: t\r\n\r\n"
        self.assertIn(b"200 OK", self.send(CHUNKED + chunks))
        self.assertEqual(self.bodies, [b"xyz"])

    def test_one_empty_line_before_a_request_is_no_matter(self) -> None:
        self.assertIn(b"200 OK", self.send(b"\r\n" + NEXT))
        self.connect()
        self.assert_refused(self.send(b"\r\n\r\n" + NEXT), 400)


class TurnTests(ChannelTestCase):
    """What callers send at once is answered in many turns."""

    def step(self) -> bytes:
        """What one turn of the reactor brings; a Clock's also runs what is due by then."""
        self.transport.clear()
        self.turn()
        return self.transport.value()

    def turn(self) -> None:
        for call in [c for c in self.clock.calls if c.getTime() <= self.clock.rightNow]:
            run, args = call.func, call.args
            call.cancel()
            run(*args)

    def test_one_request_a_turn(self) -> None:
        self.channel.dataReceived(NEXT * 3 + NEXT[:10])
        self.assertEqual(self.transport.value().count(b"200 OK"), 1)
        for answers in (1, 1, 0, 0):
            self.assertEqual(self.step().count(b"200 OK"), answers)
        self.assertEqual(self.channel.stage, Stage.HEAD)
        self.assertIn(b"200 OK", self.send(NEXT[10:]))

    def test_nothing_more_is_read_meanwhile(self) -> None:
        self.channel.dataReceived(NEXT * 2)
        self.assertEqual(self.transport.producerState, "producing")
        self.channel.dataReceived(NEXT)
        self.assertEqual(self.transport.producerState, "paused")
        self.channel.resumeProducing()
        self.channel.dataReceived(NEXT)
        self.assertEqual(self.transport.producerState, "paused")
        for _ in range(3):
            self.assertEqual(self.step().count(b"200 OK"), 1)
        self.assertEqual(self.transport.producerState, "producing")
        self.assertEqual(self.clock.getDelayedCalls()[1:], [])  # the sweep's alone

    def test_refusals_and_bodies_take_their_turns_too(self) -> None:
        one = POST + b"Content-Length: 200\r\n\r\n" + b"x" * 200
        two = CHUNKED + b"1\r\nx\r\n0\r\n\r\n"
        self.site.admits = lambda request: Problem(401, "no") if request.method == b"GET" else None
        self.channel.dataReceived((one + two + NEXT) * 2)
        statuses = [self.transport.value()[9:12], *(self.step()[9:12] for _ in range(5))]
        self.assertEqual(statuses, [b"413", b"200", b"401"] * 2)

    def test_one_that_hangs_up_has_no_turn(self) -> None:
        self.channel.dataReceived(NEXT * 3)
        self.channel.connectionLost(Failure(ConnectionResetError()))
        self.assertEqual(self.step(), b"")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_after_a_refusal_nothing_is_answered(self) -> None:
        self.channel.dataReceived(NEXT + b"nonsense\r\n\r\n" + NEXT)
        self.assert_refused(self.step(), 400)
        self.assertEqual(self.step(), b"")

    def test_nothing_is_answered_to_one_that_does_not_read(self) -> None:
        self.channel.dataReceived(NEXT * 3)
        self.channel.pauseProducing()  # as the transport calls it
        self.assertEqual(self.step(), b"")
        self.channel.resumeProducing()
        self.assertEqual(self.step().count(b"200 OK"), 1)
        self.channel.pauseProducing()
        self.assertEqual(self.step(), b"")
        self.channel.resumeProducing()
        self.assertEqual(self.step().count(b"200 OK"), 1)
        self.assertEqual(self.transport.producerState, "producing")

    def test_an_answer_that_is_not_read_ends_the_reading(self) -> None:
        asked: list[BoundedRequest] = []

        async def wait(request: BoundedRequest) -> None:
            asked.append(request)

        self.site.__init__(self.clock, wait, 100)  # type: ignore[misc]
        self.connect()
        self.channel.dataReceived(NEXT)
        self.channel.pauseProducing()
        asked.pop().answer(200, b"{}")
        self.assertEqual(self.transport.producerState, "paused")
        self.channel.dataReceived(NEXT)  # was on its way
        self.assertEqual((asked, self.step()), ([], b""))
        self.channel.resumeProducing()
        self.step()
        self.assertEqual(len(asked), 1)

    def test_a_busy_turn_reads_no_more(self) -> None:
        """And a new request comes before the rest of many."""

        async def toil(request: BoundedRequest) -> None:
            self.clock.rightNow += SHARE / 2
            request.answer(200, b"{}")

        self.site.__init__(self.clock, toil, 100)  # type: ignore[misc]
        transports, channels = [], []
        for _ in range(UNTIMED + 20):
            self.connect()
            transports.append(self.transport)
            channels.append(self.channel)

        def answers() -> int:
            return sum(transport.value().count(b"200 OK") for transport in transports)

        for channel in channels:
            channel.dataReceived(NEXT * 2)
        self.assertLessEqual(answers(), UNTIMED + 3)
        before = answers()
        self.turn()
        self.assertIn(answers() - before, {3, 4})
        self.connect()
        self.channel.dataReceived(NEXT)
        self.assertEqual(self.transport.value(), b"")
        for _ in range(21):  # so many at the most have a first request that waits
            self.turn()
        self.assertIn(b"200 OK", self.transport.value())
        self.assertLess(answers(), 2 * (UNTIMED + 20))
        for _ in range(2 * UNTIMED + 40):
            self.turn()
        self.assertEqual(answers(), 2 * (UNTIMED + 20))

    def test_tiny_chunks_are_decoded_by_turns(self) -> None:
        chunks = b"1\r\nx\r\n" * 50_000
        self.site.__init__(self.clock, self.handle, 10**6)  # type: ignore[misc]
        self.connect()
        counted = self.clock.seconds

        def seconds() -> float:
            self.clock.rightNow += SHARE / 10
            return counted()

        self.patch(self.clock, "seconds", seconds)
        self.channel.dataReceived(CHUNKED + chunks)
        first = self.channel.arrived
        self.assertLess(first, 60 * SLICE)
        self.turn()
        self.assertLess(self.channel.arrived - first, 20 * SLICE)
        for _ in range(100):
            self.turn()
        self.channel.dataReceived(b"0\r\n\r\n" + NEXT)
        self.turn()
        self.assertEqual(self.bodies, [b"x" * 50_000, b""])

    def test_a_step_that_fails_ends_its_connection_alone(self) -> None:
        other = self.channel
        self.channel.dataReceived(NEXT * 2)
        self.patch(other, "lineReceived", lambda _: 1 / 0)
        first = self.transport
        self.connect()
        self.channel.dataReceived(NEXT * 2)
        self.turn()
        self.assertTrue(first.aborted)
        self.assertEqual(self.transport.value().count(b"200 OK"), 2)


class TimeTests(ChannelTestCase):
    """Nothing may go on for ever."""

    def test_no_first_byte(self) -> None:
        self.wait(FIRST_WITHIN - 1)
        self.assertFalse(self.transport.half_closed)
        self.wait(1)
        self.assertTrue(self.transport.half_closed)
        self.assertEqual(self.transport.value(), b"")  # it would answer what comes next

    def test_a_head_that_dribbles_in(self) -> None:
        for byte in (POST + b"A: " + b"a" * 100)[: int(HEAD_WITHIN)]:
            self.assertEqual(self.send(bytes([byte])), b"")
            self.wait(1)
        self.assert_refused(self.transport.value(), 408)

    def test_the_head_of_a_later_request(self) -> None:
        self.assertIn(b"200 OK", self.send(NEXT + POST[:20]))
        self.transport.clear()
        self.wait(HEAD_WITHIN)
        self.assert_refused(self.transport.value(), 408)

    def test_a_body_that_stalls(self) -> None:
        self.send(POST + b"Content-Length: 50\r\n\r\n", b"x" * 20)
        self.wait(BODY_WITHIN)
        self.assertEqual(self.transport.value(), b"")
        self.wait(1)
        self.assert_refused(self.transport.value(), 408)
        self.assertEqual(self.bodies, [])

    def test_a_body_may_take_longer_the_more_has_come(self) -> None:
        self.site.__init__(self.clock, self.handle, 10**7)  # type: ignore[misc]
        self.connect()
        self.send(POST + b"Content-Length: 900000\r\n\r\n")
        for _ in range(int(BODY_AT_MOST) - 1):
            self.assertEqual(self.send(b"x" * BODY_RATE * 2), b"")
            self.wait(1)
        self.assertEqual(self.transport.value(), b"")
        self.wait(1)
        self.assert_refused(self.transport.value(), 408)

    def test_an_answer_may_take_its_time(self) -> None:
        asked: list[BoundedRequest] = []

        async def wait(request: BoundedRequest) -> None:
            asked.append(request)

        self.site.__init__(self.clock, wait, 100)  # type: ignore[misc]
        self.connect()
        self.send(NEXT + b"GET")
        self.wait(1000)
        self.assertFalse(self.transport.half_closed)
        asked[0].answer(200, b"{}")
        self.assertIn(b"200 OK", self.transport.value())
        self.transport.clear()
        self.clock.advance(0)
        self.wait(HEAD_WITHIN)
        self.assert_refused(self.transport.value(), 408)

    def test_idle(self) -> None:
        self.send(NEXT)
        self.wait(IDLE_FOR - 1)
        self.assertFalse(self.transport.half_closed)
        self.send(NEXT)
        self.wait(IDLE_FOR - 1)
        self.assertFalse(self.transport.half_closed)
        self.wait(1)
        self.assertTrue(self.transport.half_closed)

    def test_a_connection_that_does_not_close(self) -> None:
        for raw in (b"GET / HTTP/1.0\r\n\r\n", b"nonsense\r\n"):
            self.connect()
            self.send(raw)
            self.wait(CLOSE_WITHIN - 1)
            self.assertFalse(self.transport.aborted)
            self.wait(2)
            self.assertTrue(self.transport.aborted)

    def test_a_long_response_may_be_taken_slowly(self) -> None:
        seconds = 0.0

        async def handle(request: BoundedRequest) -> None:
            request.answer(200, b"x" * int(TAKEN_RATE * seconds))

        self.site.__init__(self.clock, handle, 100)  # type: ignore[misc]
        for seconds in (60.0, TAKEN_AT_MOST):
            self.connect()
            self.send(b"GET / HTTP/1.0\r\n\r\n")
            self.wait(CLOSE_WITHIN + seconds - 1)
            self.assertFalse(self.transport.aborted)
            self.wait(2)
            self.assertTrue(self.transport.aborted)

    def test_nothing_is_left_behind(self) -> None:
        for raw in (b"", b"GE", POST, POST + b"Content-Length: 9\r\n\r\nx", NEXT, b"x\r\n"):
            self.send(raw)
            self.channel.connectionLost(Failure(ConnectionResetError()))
            self.assertEqual(len(self.site.connections), 0)
            self.assertEqual(self.clock.getDelayedCalls(), [])
            self.connect()


class FullTests(ChannelTestCase):
    def test_a_new_caller_takes_the_place_of_an_idle_one(self) -> None:
        self.site.connections.at_most = 1
        first = self.transport
        self.send(NEXT)
        self.connect()
        self.assertTrue(first.aborted)
        self.assertIn(b"200 OK", self.send(NEXT))

    def test_when_all_wait_probes_are_answered(self) -> None:
        waiting: list[BoundedRequest] = []

        async def handle(request: BoundedRequest) -> None:
            if request.route() == "/probe":
                request.answer(200, b"{}")
            else:
                waiting.append(request)

        refused: list[Problem] = []
        self.site.__init__(  # type: ignore[misc]
            self.clock,
            handle,
            100,
            lambda _: None,
            8,
            lambda _, problem: refused.append(problem),
            probes=("/probe",),
        )
        for _ in range(7):
            self.connect()
            self.send(NEXT)
        self.connect()
        for _ in range(2):
            answer = self.send(b"GET /probe HTTP/1.1\r\nHost: x\r\n\r\n")
            self.assertIn(b"200 OK", answer)
        self.connect()
        answer = self.send(POST + b"Content-Length: 5\r\n\r\nx")
        self.assertIn(b"Retry-After: 5", answer)
        self.assert_refused(answer, 503)
        self.assertEqual([problem.status for problem in refused], [503])
        waiting.pop().answer(200, b"{}")
        self.connect()
        self.assertEqual(self.send(NEXT), b"")
        self.assertEqual(len(waiting), 7)

    def test_without_room_a_new_one_is_closed(self) -> None:
        self.site.connections.at_most = 1
        self.site.connections.move(self.channel, Stage.ANSWERING)
        self.connect()
        self.assertTrue(self.transport.aborted)
        self.assertEqual(self.send(NEXT), b"")
        self.assertIsInstance(self.channel, Channel)
