"""Bounded bodies, problems, and requests refused for their heads."""

import json
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.http.server import BoundedRequest, BoundedSite, Problem, request
from chatgpt_source.http.server.connections import Stage
from chatgpt_source.http.server.request import DROPPED_AT_MOST, DROPPED_FOR, SMALL_BODY

LIMIT = 100


class SiteTestCase(SynchronousTestCase):
    """A site over a connection in memory."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.site = BoundedSite(cast(Any, self.clock), self.handle, LIMIT)
        self.bodies: list[bytes] = []
        self.connect()

    def connect(self) -> None:
        self.transport = StringTransport()
        self.channel = cast(Protocol, self.site.buildProtocol(None))
        self.channel.callLater = self.clock.callLater  # type: ignore[attr-defined]
        self.channel.makeConnection(self.transport)
        self.addCleanup(self.channel.connectionLost, Failure(ConnectionResetError()))

    async def handle(self, request: BoundedRequest) -> None:
        self.bodies.append(request.body())
        request.answer(200, b"{}")

    def send(self, *pieces: bytes) -> bytes:
        self.transport.clear()
        for piece in pieces:
            self.channel.dataReceived(piece)
            while cast(Any, self.channel).paused and not self.closing():
                self.clock.advance(0)
        return self.transport.value()

    def closing(self) -> bool:
        return cast(Any, self.channel).stage is Stage.CLOSING

    def head(self, *lines: bytes) -> bytes:
        return b"\r\n".join((b"POST / HTTP/1.1", b"Host: x", *lines, b"", b""))


class ResponseTests(SiteTestCase):
    async def handle(self, request: BoundedRequest) -> None:
        request.setHeader("X-Of-Each", "one")
        request.setHeader("X-Of-This", "one")
        request.answer(200, b"{}", {"X-Of-This": "another"})

    def test_a_field_of_its_own_comes_before_what_each_has(self) -> None:
        answer = self.send(self.head(b"Content-Length: 0"))
        self.assertIn(b"X-Of-Each: one\r\n", answer)
        self.assertIn(b"X-Of-This: another\r\n", answer)
        self.assertEqual(answer.count(b"X-Of-This"), 1)


class EmptyTests(SiteTestCase):
    status = 202

    async def handle(self, request: BoundedRequest) -> None:
        request.answer(self.status, b"", {"X-Of-This": "one"})

    def test_no_media_type(self) -> None:
        answer = self.send(self.head(b"Content-Length: 0"))
        self.assertIn(b"\r\nContent-Length: 0\r\n", answer)
        self.assertIn(b"X-Of-This: one", answer)
        self.assertNotIn(b"Content-Type", answer)

    def test_no_content(self) -> None:
        self.status = 204
        answer = self.send(self.head(b"Content-Length: 0"))
        self.assertTrue(answer.startswith(b"HTTP/1.1 204 No Content\r\n"), answer)
        self.assertNotIn(b"Content-", answer)
        self.assertTrue(answer.endswith(b"\r\n\r\n"))


class RefusalTests(SiteTestCase):
    async def handle(self, request: BoundedRequest) -> None:
        del request
        raise Problem(503, "no more here", {"Connection": "close"})

    def test_one_that_ends_the_connection(self) -> None:
        request = self.head(b"Content-Length: 0")
        answer = self.send(request + request)
        self.assertEqual(answer.count(b"HTTP/1.1 503 "), 1)
        self.assertIn(b"\r\nConnection: close\r\n", answer)
        self.assertTrue(self.closing())


class HangUpTests(SiteTestCase):
    async def handle(self, request: BoundedRequest) -> None:
        self.request = request
        self.told: list[str] = []
        await Deferred()

    def test_the_last_call_alone_is_made(self) -> None:
        self.send(self.head(b"Content-Length: 0"))
        self.request.when_gone(lambda: self.told.append("first"))
        self.request.when_gone(lambda: self.told.append("last"))
        self.assertEqual(self.told, [])
        self.channel.connectionLost(Failure(ConnectionResetError()))
        self.assertEqual(self.told, ["last"])
        self.request.when_gone(lambda: self.told.append("late"))
        self.assertEqual(self.told, ["last", "late"])
        self.connect()

    def test_a_body_that_is_held_no_more(self) -> None:
        self.site.max_body_size = 2 * SMALL_BODY
        self.send(self.head(b"Content-Length: 9000"), b"x" * 9000)
        self.assertEqual(self.site.held, 9000)
        self.request.release()
        self.assertEqual(self.site.held, 0)


class BodyTests(SiteTestCase):
    def test_within_the_limit(self) -> None:
        answer = self.send(self.head(b"Content-Length: 100"), b"x" * 60, b"y" * 40)
        self.assertTrue(answer.startswith(b"HTTP/1.1 200 OK"))
        self.assertEqual(self.bodies, [b"x" * 60 + b"y" * 40])

    def test_a_large_one_is_answered_at_its_end_and_the_connection_lives_on(self) -> None:
        answer = self.send(self.head(b"Content-Length: 150"), b"x" * 149)
        self.assertEqual(answer, b"")
        answer = self.send(b"x")
        self.assertTrue(answer.startswith(b"HTTP/1.1 413 "), answer)
        self.assertEqual(json.loads(answer.partition(b"\r\n\r\n")[2])["status"], 413)
        self.assertFalse(self.transport.disconnecting)
        answer = self.send(self.head(b"Content-Length: 2"), b"ok")
        self.assertTrue(answer.startswith(b"HTTP/1.1 200 OK"))
        self.assertEqual(self.bodies, [b"ok"])

    def test_a_large_one_in_chunks(self) -> None:
        chunk = b"3c\r\n" + b"x" * 60 + b"\r\n"
        answer = self.send(self.head(b"Transfer-Encoding: chunked"), chunk, chunk, b"0\r\n\r\n")
        self.assertTrue(answer.startswith(b"HTTP/1.1 413 "), answer)
        self.assertFalse(self.transport.disconnecting)

    def test_the_excess_is_not_held(self) -> None:
        self.send(self.head(b"Content-Length: 1000"), b"x" * 90, b"x" * 800)
        request = self.channel.requests[0]  # type: ignore[attr-defined]
        self.assertLessEqual(len(request.body()), LIMIT)

    def test_far_too_large_is_cut_off(self) -> None:
        size = DROPPED_AT_MOST * LIMIT
        answer = self.send(self.head(b"Content-Length: %d" % (size * 2)), b"x" * size)
        self.assertEqual(answer, b"")
        answer = self.send(b"x")
        self.assertTrue(answer.startswith(b"HTTP/1.1 413 "))
        self.assertIn(b"Connection: close", answer)
        self.assertTrue(self.transport.disconnecting)
        self.assertEqual(self.send(b"x" * 100), b"")

    def test_a_slow_large_one_is_cut_off(self) -> None:
        self.send(self.head(b"Content-Length: 150"), b"x" * 120)
        self.clock.advance(DROPPED_FOR - 1)
        self.assertEqual(self.transport.value(), b"")
        self.clock.advance(1)
        self.assertTrue(self.transport.value().startswith(b"HTTP/1.1 413 "))
        self.assertTrue(self.transport.disconnecting)

    def test_one_that_waits_for_our_word_is_refused_at_once(self) -> None:
        answer = self.send(self.head(b"Content-Length: 101", b"Expect: 100-continue"))
        self.assertTrue(answer.startswith(b"HTTP/1.1 413 "), answer)
        self.assertNotIn(b"100 Continue", answer)

    def test_one_that_may_come_is_told_so(self) -> None:
        answer = self.send(self.head(b"Content-Length: 100", b"Expect: 100-continue"))
        self.assertEqual(answer, b"HTTP/1.1 100 Continue\r\n\r\n")

    def test_no_timer_outlives_its_request(self) -> None:
        self.send(self.head(b"Content-Length: 150"), b"x" * 150)
        self.send(self.head(b"Content-Length: 150"), b"x" * 140)
        self.channel.connectionLost(Failure(ConnectionResetError()))
        names = [str(call.func) for call in self.clock.getDelayedCalls()]
        self.assertEqual([name for name in names if "_refuse" in name], [])
        self.connect()

    def test_a_form_is_a_body_like_any_other(self) -> None:
        form = b"Content-Type: application/x-www-form-urlencoded"
        self.send(self.head(form, b"Content-Length: 7"), b"a=b&c=d")
        self.assertEqual(self.bodies, [b"a=b&c=d"])


class AnswerTests(SiteTestCase):
    async def handle(self, request: BoundedRequest) -> None:
        if request.route() == "/bug":
            raise ValueError("a secret")
        if request.route() == "/problem":
            raise Problem(503, "busy", {"Retry-After": "5"}, "urn:x")
        request.answer(200, b'{"a": 1}', {"X-Test": "1"})

    def get(self, path: bytes, method: bytes = b"GET") -> tuple[bytes, bytes]:
        answer = self.send(method + b" " + path + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        head, _, body = answer.partition(b"\r\n\r\n")
        return head, body

    def test_answer(self) -> None:
        head, body = self.get(b"/")
        self.assertIn(b"Content-Type: application/json", head)
        self.assertIn(b"X-Test: 1", head)
        self.assertEqual(body, b'{"a": 1}')

    def test_head_has_no_body(self) -> None:
        head, body = self.get(b"/", b"HEAD")
        self.assertIn(b"Content-Length: 8", head)
        self.assertEqual(body, b"")

    def test_problem(self) -> None:
        head, body = self.get(b"/problem")
        self.assertIn(b"503 Service Unavailable", head)
        self.assertIn(b"Content-Type: application/problem+json", head)
        self.assertIn(b"Retry-After: 5", head)
        expected = {
            "type": "urn:x",
            "title": "Service Unavailable",
            "status": 503,
            "detail": "busy",
        }
        self.assertEqual(json.loads(body), expected)

    def test_a_bug_is_a_500_that_tells_nothing(self) -> None:
        head, body = self.get(b"/bug")
        self.assertIn(b"500 Internal Server Error", head)
        self.assertNotIn(b"secret", body)
        self.assertEqual(json.loads(body)["status"], 500)

    def test_the_absolute_form_of_a_path(self) -> None:
        self.assertIn(b"503 ", self.get(b"http://proxy.example:80/problem")[0])
        self.assertIn(b"200 ", self.get(b"HTTPS://proxy.example")[0])

    def test_a_star_is_passed_on_like_any_path(self) -> None:
        self.assertIn(b"200 ", self.get(b"*", b"OPTIONS")[0])

    def test_a_query_is_no_part_of_the_route(self) -> None:
        self.assertIn(b"503 ", self.get(b"/problem?x=1")[0])

    def test_a_caller_who_hung_up_is_no_error(self) -> None:
        self.channel.dataReceived(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n")
        request = self.channel.requests[0]  # type: ignore[attr-defined]
        self.channel.connectionLost(Failure(ConnectionResetError()))
        request.answer(200, b"late")
        self.connect()


class AdmitsTests(SiteTestCase):
    """Requests refused for their heads."""

    def connect(self) -> None:
        self.site = BoundedSite(cast(Any, self.clock), self.handle, LIMIT, self.admits)
        super().connect()

    def admits(self, request: BoundedRequest) -> Problem | None:
        self.assertEqual(request.method, b"POST")
        if request.route() == "/open":
            return None
        return Problem(401, "no", {"X-Test": ("a", "b")})

    def test_the_body_is_never_held_and_the_answer_comes_at_its_end(self) -> None:
        self.assertEqual(self.send(self.head(b"Content-Length: 50"), b"x" * 49), b"")
        request = self.channel.requests[0]  # type: ignore[attr-defined]
        self.assertEqual(request.body(), b"")
        answer = self.send(b"x")
        self.assertTrue(answer.startswith(b"HTTP/1.1 401 "), answer)
        self.assertIn(b"X-Test: a\r\nX-Test: b\r\n", answer)
        self.assertEqual(self.bodies, [])
        self.assertFalse(self.transport.disconnecting)
        answer = self.send(self.head(b"Content-Length: 1").replace(b"/ ", b"/open?x ", 1), b"y")
        self.assertTrue(answer.startswith(b"HTTP/1.1 200 "), answer)
        self.assertEqual(self.bodies, [b"y"])

    def test_no_body(self) -> None:
        self.assertTrue(self.send(self.head()).startswith(b"HTTP/1.1 401 "))

    def test_in_chunks(self) -> None:
        chunks = self.head(b"Transfer-Encoding: chunked"), b"1\r\nx\r\n0\r\n\r\n"
        self.assertTrue(self.send(*chunks).startswith(b"HTTP/1.1 401 "))

    def test_one_that_waits_for_our_word_is_refused_at_once(self) -> None:
        answer = self.send(self.head(b"Content-Length: 50", b"Expect: 100-continue"))
        self.assertTrue(answer.startswith(b"HTTP/1.1 401 "), answer)
        self.assertIn(b"Connection: close", answer)
        self.assertIn(b"X-Test: a\r\nX-Test: b\r\n", answer)
        self.assertEqual(self.send(b"x" * 50), b"")

    def test_far_too_large_is_cut_off(self) -> None:
        size = DROPPED_AT_MOST * LIMIT
        self.send(self.head(b"Content-Length: %d" % (size + 1)), b"x" * size)
        self.assertTrue(self.send(b"x").startswith(b"HTTP/1.1 401 "))
        self.assertTrue(self.transport.disconnecting)


class MemoryTests(SynchronousTestCase):
    """What all bodies together may have in memory."""

    def setUp(self) -> None:
        self.patch(request, "BODIES_AT_MOST", 0)  # so twice the largest
        self.clock = Clock()
        self.asked: list[BoundedRequest] = []
        self.site = BoundedSite(cast(Any, self.clock), self.take, 10 * SMALL_BODY)

    async def take(self, request: BoundedRequest) -> None:
        self.asked.append(request)

    def begin(self, sent: int) -> Any:
        channel: Any = self.site.buildProtocol(None)
        channel.makeConnection(StringTransport())
        self.addCleanup(channel.connectionLost, Failure(ConnectionResetError()))
        head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
        channel.dataReceived(head % (10 * SMALL_BODY) + b"x" * sent)
        return channel

    def test_what_is_too_much_is_refused_but_not_small_ones(self) -> None:
        first, second = self.begin(10 * SMALL_BODY), self.begin(10 * SMALL_BODY - 1)
        self.assertEqual(self.site.held, 20 * SMALL_BODY - 1)
        self.assertIsNone(self.begin(SMALL_BODY).requests[0].refusal)
        third = self.begin(10 * SMALL_BODY)
        self.assertTrue(third.transport.value().startswith(b"HTTP/1.1 503 "))
        self.assertIn(b"Retry-After: 5", third.transport.value())
        self.asked[0].answer(200, b"{}")
        self.assertEqual(self.site.held, 10 * SMALL_BODY - 1)
        second.connectionLost(Failure(ConnectionResetError()))
        self.assertEqual(self.site.held, 0)
        first.dataReceived(b"")
        fourth = self.begin(10 * SMALL_BODY)
        self.assertEqual(fourth.transport.value(), b"")
        self.asked[1].answer(200, b"{}")
        self.assertEqual(self.site.held, 0)

    def test_chunks_that_are_mostly_wrapping_are_cut_off(self) -> None:
        channel = self.begin(0)
        channel.connectionLost(Failure(ConnectionResetError()))
        channel = self.site.buildProtocol(None)
        channel.makeConnection(StringTransport())
        channel.dataReceived(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        chunk = b"1;" + b"a" * 1000 + b"\r\nx\r\n"
        for _ in range(DROPPED_AT_MOST * 10 * SMALL_BODY // len(chunk) + 1):
            channel.dataReceived(chunk)
        self.assertTrue(channel.transport.value().startswith(b"HTTP/1.1 413 "))
        channel.connectionLost(Failure(ConnectionResetError()))
