"""The door in, row by row."""

import json
import re
import time
from typing import Any
from zoneinfo import ZoneInfo

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import capturedLogs, formatEvent
from twisted.python.failure import Failure

from chatgpt_source.errors import JournalUnavailable
from chatgpt_source.http.server import Problem
from chatgpt_source.intake.reading import read_text
from chatgpt_source.journal import Admitted
from chatgpt_source.journal.group_commit import Withdrawable
from chatgpt_source.prompt import State, Trace
from tests.door import CONFIG, DoorTestCase, ParsedResponse
from tests.intake.memory_door import MemoryDoorTestCase
from tests.journal.common import NOON, JournalTestCase

ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


class AcceptTests(DoorTestCase):
    def test_accepted(self) -> None:
        answer = self.post()
        self.assertEqual(answer.status, 202)
        self.assertEqual(answer.headers["content-type"], "application/json")
        self.assertEqual(set(answer.json), {"id", "status"})
        self.assertEqual(answer.json["status"], "accepted")
        prompt_id = answer.json["id"]
        self.assertTrue(ID.fullmatch(prompt_id))
        self.assertEqual(answer.headers["location"], f"/prompts/{prompt_id}")
        self.assertEqual(answer.headers["ratelimit-policy"], '"daily";q=3;w=86400')
        self.assertEqual(answer.headers["ratelimit"], '"daily";r=2;t=43200')
        (ask,) = self.asks().claimed
        self.assertEqual((ask.prompt.id, ask.prompt.text), (prompt_id, "what is vanus"))
        self.assertEqual(ask.prompt.source, "vanus-chatGPT-source")
        self.assertEqual(ask.prompt.type, "vanus-chatGPT-type")
        self.assertEqual(ask.prompt.accepted, NOON)

    def test_trace(self) -> None:
        parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        self.post(traceparent=parent, tracestate="a=1")
        self.post(traceparent="nonsense", tracestate="a=1")
        traces = [ask.prompt.trace for ask in self.asks().claimed]
        self.assertEqual(traces, [Trace(parent, "a=1"), None])

    def test_not_before_it_is_on_disk(self) -> None:
        written: Deferred[list[Admitted]] = Deferred()
        self.patch(self.journal, "accept", lambda *_, **__: written)
        self.channel.dataReceived(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx")
        self.assertEqual(self.transport.value(), b"")
        written.callback([Admitted("p1", 1)])
        self.assertIn(b"202", self.transport.value())

    def test_a_caller_who_hangs_up_before_the_202(self) -> None:
        written: Deferred[list[Admitted]] = Withdrawable(lambda _: None)  # it has begun
        self.patch(self.journal, "accept", lambda *_, **__: written)
        self.channel.dataReceived(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx")
        self.channel.connectionLost(Failure(ConnectionResetError()))
        with capturedLogs() as logged:
            written.callback([Admitted("p1", 1)])
        self.assertEqual(len(logged), 1)
        self.connect()

    def test_what_has_not_begun_goes_with_its_caller(self) -> None:
        withdrawn: list[str] = []
        written: Deferred[list[Admitted]] = Withdrawable(lambda _: withdrawn.append("it"))
        self.patch(self.journal, "accept", lambda *_, **__: written)
        body = b"x" * 9000
        self.site.__init__(self.clock, self.intake.answer, 10**4)  # type: ignore[misc]
        self.connect()
        head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9000\r\n\r\n"
        self.channel.dataReceived(head + body)
        self.channel.connectionLost(Failure(ConnectionResetError()))
        self.assertEqual(withdrawn, ["it"])
        self.assertEqual(self.site.held, 9000)
        written.errback(CancelledError())
        self.assertEqual(self.site.held, 0)
        self.assertEqual(self.flushLoggedErrors(), [])
        self.connect()

    def test_the_headers_of_the_event(self) -> None:
        self.post(vanus_source="/my/app?x=1#y", vanus_type="com.example.größe".encode())
        self.post(vanus_source="", vanus_type=" ")
        first, second = (ask.prompt for ask in self.asks().claimed)
        self.assertEqual((first.source, first.type), ("/my/app?x=1#y", "com.example.größe"))
        self.assertEqual(
            (second.source, second.type), ("vanus-chatGPT-source", "vanus-chatGPT-type")
        )

    def test_invalid_headers_of_the_event(self) -> None:
        for headers in (
            {"vanus_source": "not a uri"},
            {"vanus_source": "%zz"},
            {"vanus_source": "1a:b"},
            {"vanus_source": "ä".encode()},
            {"vanus_type": "a\x01b"},
            {"vanus_type": b"\xff"},
        ):
            with self.subTest(headers=headers):
                name = next(iter(headers)).replace("_", "-")
                self.assertIn(name, self.assert_problem(self.post(**headers), 400))
        self.assertEqual(self.used(), 0)

    def test_any_media_type(self) -> None:
        for media_type in ("application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
            self.assertEqual(self.post(Content_Type=media_type).status, 202)

    def test_charsets(self) -> None:
        for charset, body in (
            ("UTF-8", "grüße".encode()),
            ('"iso-8859-1"', "grüße".encode("latin-1")),
            ("us-ascii", b"gruesse"),
        ):
            self.assertEqual(
                self.post(body, Content_Type=f"text/plain; charset={charset}").status, 202
            )
        texts = [ask.prompt.text for ask in self.asks().claimed]
        self.assertEqual(texts, ["grüße", "grüße", "gruesse"])


class RefuseTests(DoorTestCase):
    def test_blank(self) -> None:
        for body in (b"", b" \r\n\t", "\u2003\u3000".encode()):
            self.assertIn("empty", self.assert_problem(self.post(body), 400))

    def test_not_text(self) -> None:
        self.assertIn("UTF-8", self.assert_problem(self.post(b"\xff\xfe"), 400))
        answer = self.post("ü".encode(), Content_Type="text/plain;charset=us-ascii")
        self.assert_problem(answer, 400)

    def test_another_charset(self) -> None:
        for charset in ("utf-16", "punycode", "utf-7", "rot13", "x" * 1000, '"'):
            answer = self.post(Content_Type=f"text/plain; Charset={charset}")
            self.assertIn("UTF-8", self.assert_problem(answer, 415))

    def test_too_large(self) -> None:
        self.assertEqual(self.post(b"x" * 1000).status, 202)
        self.assertIn("1000", self.assert_problem(self.post(b"x" * 1001), 413))

    def test_a_batch_that_the_day_has_too_little_left_for(self) -> None:
        event = {"specversion": "1.0", "source": "/s", "type": "t", "data": "x"}
        batch = json.dumps([{**event, "id": str(number)} for number in range(4)]).encode()
        answer = self.post(batch, Content_Type="application/cloudevents-batch+json")
        told = self.assert_problem(answer, 429)
        self.assertIn("has 3 of its 3 prompts left, and these are 4: send no more than that", told)
        self.assertEqual(answer.headers["ratelimit"], '"daily";r=3;t=43200')

    def test_the_day_is_used_up(self) -> None:
        for left in (2, 1, 0):
            self.assertIn(f"r={left}", self.post().headers["ratelimit"])
        answer = self.post()
        self.assertIn("midnight", self.assert_problem(answer, 429))
        self.assertTrue(answer.json["type"].endswith("#quota-exceeded"))
        self.assertEqual(answer.headers["retry-after"], "43200")
        self.assertEqual(answer.headers["ratelimit"], '"daily";r=0;t=43200')
        self.clock.advance(43199.5)
        self.connect()  # the old one was idle for too long
        self.assertEqual(self.post().headers["retry-after"], "1")
        self.clock.advance(0.5)
        answer = self.post()
        self.assertEqual((answer.status, answer.headers["ratelimit"]), (202, '"daily";r=2;t=86400'))

    def test_the_journal_can_not_be_written(self) -> None:
        def full(*_: object, **__: object) -> Deferred[int]:
            failed: Deferred[int] = Deferred()
            failed.errback(JournalUnavailable("disk full", retry_after=5))
            return failed

        self.patch(self.journal, "accept", full)
        answer = self.post()
        self.assertIn("disk full", self.assert_problem(answer, 503))
        self.assertEqual(answer.headers["retry-after"], "5")

    def test_draining(self) -> None:
        Deferred.fromCoroutine(self.pipeline.drain())
        answer = self.post()
        self.assertIn("stopping", self.assert_problem(answer, 503))
        self.assertIn("retry-after", answer.headers)
        self.assertNotIn("connection", answer.headers)
        self.assertEqual(self.used(), 0)

    def test_another_method(self) -> None:
        for method in ("GET", "PUT", "DELETE", "OPTIONS", "PATCH", "BREW"):
            answer = self.request(method, "/", b"x")
            self.assert_problem(answer, 405)
            self.assertEqual(answer.headers["allow"], "POST")
        for path in ("/healthz", "/readyz", "/prompts/x/event"):
            answer = self.request("POST", path, b"x")
            self.assert_problem(answer, 405)
            self.assertEqual(answer.headers["allow"], "GET, HEAD")
        for method, path, allowed in (
            ("POST", "/prompts/x", "GET, HEAD, DELETE"),
            ("GET", "/prompts", "POST"),
        ):
            answer = self.request(method, path)
            self.assert_problem(answer, 405)
            self.assertEqual(answer.headers["allow"], allowed)
        self.assertEqual(self.request("HEAD", "/").status, 405)

    def test_another_path(self) -> None:
        for path in ("/x", "/prompts/", "/prompts/a/b", "/prompts/a/event/b", "//", "/%2e"):
            self.assert_problem(self.request("POST", path, b"x"), 404)
            self.assert_problem(self.request("GET", path), 404)

    def test_no_refusal_shows_what_was_sent(self) -> None:
        for answer in (
            self.post(b"\xffsecret"),
            self.post(vanus_source="secret secret"),
            self.post(vanus_type="secret\x01"),
            self.post(Content_Type="text/secret; charset=secret"),
            self.request("POST", "/secret"),
            self.request("GET", "/prompts/secret"),
        ):
            self.assertNotIn(b"secret", answer.body)


class KeyTests(DoorTestCase):
    def test_the_first_answer_again(self) -> None:
        first = self.post(Idempotency_Key='"k-1"')
        again = self.post(Idempotency_Key="k-1")
        self.assertEqual(self.post(Idempotency_Key='"k \\"1"').status, 202)
        self.assertEqual((again.status, again.json), (202, first.json))
        self.assertEqual(again.headers["location"], first.headers["location"])
        self.assertEqual(again.headers["ratelimit"], '"daily";r=2;t=43200')
        self.assertEqual(len(self.asks().claimed), 2)

    def test_with_anything_else_in_it(self) -> None:
        self.post(Idempotency_Key="k")
        for answer in (
            self.post(b"another", Idempotency_Key="k"),
            self.post(Idempotency_Key="k", vanus_source="/other"),
            self.post(Idempotency_Key="k", vanus_type="other"),
        ):
            self.assertIn("new key", self.assert_problem(answer, 422))
        self.assertEqual(self.used(), 1)

    def test_when_none_is_left_and_while_draining(self) -> None:
        first = self.post(Idempotency_Key="k")
        self.post()
        self.post()
        self.assertEqual(self.post().status, 429)
        self.assertEqual(self.post(Idempotency_Key="k").json, first.json)
        Deferred.fromCoroutine(self.pipeline.drain())
        self.assertEqual(self.post(Idempotency_Key="k").json, first.json)
        self.assert_problem(self.post(Idempotency_Key="new"), 503)

    def test_what_is_no_key(self) -> None:
        for key in ("", '""', "x" * 256, '"open', 'a"b', "\xe4".encode("latin-1")):
            with self.subTest(key=key):
                self.assertIn("255", self.assert_problem(self.post(Idempotency_Key=key), 400))
        self.assertEqual(self.used(), 0)
        self.assertEqual(self.post(Idempotency_Key="x" * 255).status, 202)


class SharedPortTests(DoorTestCase):
    config = attrs.evolve(CONFIG, listen="tcp:8080:reusePort=yes")

    def test_draining_leads_to_another_daemon(self) -> None:
        Deferred.fromCoroutine(self.pipeline.drain())
        answer = self.post()
        self.assert_problem(answer, 503)
        self.assertEqual(answer.headers["connection"], "close")


class BacklogTests(DoorTestCase):
    config = attrs.evolve(CONFIG, max_backlog=1)

    def test_a_full_backlog(self) -> None:
        self.post()
        answer = self.post()
        self.assertIn("1 prompts wait", self.assert_problem(answer, 503))
        self.assertIn("retry-after", answer.headers)


class ZoneTests(DoorTestCase):
    config = attrs.evolve(CONFIG, timezone=ZoneInfo("America/New_York"))

    def test_midnight_is_local(self) -> None:
        self.assertEqual(self.post().headers["ratelimit"], '"daily";r=2;t=61200')


class StatusTests(DoorTestCase):
    def status(self, prompt_id: str) -> Any:
        answer = self.request("GET", f"/prompts/{prompt_id}")
        self.assertEqual(answer.status, 200)
        return answer.json

    def test_the_way_of_a_prompt(self) -> None:
        prompt_id = self.post().json["id"]
        expected = {
            "id": prompt_id,
            "state": "accepted",
            "accepted": "2027-01-15T12:00:00Z",
            "answered": None,
            "delivered": None,
            "failed": None,
            "asks": 0,
            "deliveries": 0,
            "error": None,
            "next_attempt": "2027-01-15T12:00:00Z",
            "request_id": None,
            "target": "target",
        }
        self.assertEqual(self.status(prompt_id), expected)
        self.asks()
        self.clock.advance(1.5)
        self.answer(prompt_id)
        self.deliveries()
        expected |= {
            "state": "answered",
            "answered": "2027-01-15T12:00:01.500000Z",
            "asks": 1,
            "deliveries": 1,
            "next_attempt": None,
            "request_id": "req-1",
        }
        self.assertEqual(self.status(prompt_id), expected)
        self.deliver(prompt_id)
        expected |= {"state": "delivered", "delivered": "2027-01-15T12:00:01.500000Z"}
        self.assertEqual(self.status(prompt_id), expected)

    def test_failed(self) -> None:
        prompt_id = self.post().json["id"]
        self.fail_it(prompt_id, give_back=True)
        status = self.status(prompt_id)
        self.assertEqual((status["state"], status["error"]), ("failed", "why"))

    def test_cancelled(self) -> None:
        prompt_id = self.post().json["id"]
        self.assertEqual(self.request("DELETE", f"/prompts/{prompt_id}").status, 204)
        self.assertEqual(self.status(prompt_id)["state"], "cancelled")
        self.assertEqual(self.used(), 0)

    def test_head(self) -> None:
        prompt_id = self.post().json["id"]
        self.assertEqual(self.request("HEAD", f"/prompts/{prompt_id}").body, b"")

    def test_unknown(self) -> None:
        self.assert_problem(self.request("GET", "/prompts/nobody"), 404)


class CancelTests(MemoryDoorTestCase):
    def cancel(self, prompt_id: str = "") -> ParsedResponse:
        return self.request("DELETE", f"/prompts/{prompt_id or self.prompt_id}")

    def test_cancelled_and_told_once(self) -> None:
        self.post()
        with capturedLogs() as logged:
            answers = [self.cancel(), self.cancel()]
        for answer in answers:
            self.assertEqual((answer.status, answer.body), (204, b""))
            self.assertFalse({"content-type", "content-length"} & set(answer.headers))
        told = [what for what in self.recorder.told if what[0] == "cancelled"]
        self.assertEqual(told, [("cancelled", {"prompt_id": self.prompt_id})])
        lines = [formatEvent(event) for event in logged]
        self.assertEqual(lines[0], f"cancelled: id={self.prompt_id}")

    def test_the_provider_is_told_of_a_submitted_one(self) -> None:
        woken = []
        self.patch(self.pipeline, "cancelled", lambda: woken.append(self.prompt_id))
        self.post()
        self.end(self.prompt_id, State.SUBMITTED)
        self.assertEqual([self.cancel().status, self.cancel().status], [204, 204])
        self.assertEqual(woken, [self.prompt_id])
        self.assertEqual(self.journal.forgotten, [])

    def test_too_late(self) -> None:
        self.post()
        self.answered()
        with capturedLogs() as logged:
            answer = self.cancel()
        self.assertIn("it was answered", self.assert_problem(answer, 409))
        self.assertIn(f"id={self.prompt_id}", formatEvent(logged[-1]))

    def test_unknown(self) -> None:
        self.assert_problem(self.cancel("p"), 404)


class ReadTextTests(JournalTestCase):
    @settings(max_examples=300, deadline=None)
    @given(st.binary(), st.none() | st.binary(max_size=60))
    def test_text_or_a_problem(self, body: bytes, content_type: bytes | None) -> None:
        try:
            text = read_text(body, content_type)
        except Problem as problem:
            self.assertIn(problem.status, {400, 415})
        else:
            self.assertTrue(text.strip())

    def test_a_long_content_type_takes_no_time(self) -> None:
        began = time.process_time()
        for more in (b" " * 16000, b"a" * 16000, b"a" + b" " * 16000 + b"x", b'"\\"' * 5000):
            self.assertEqual(read_text(b"text", b"text/plain;" + more), "text")
        self.assertLess(time.process_time() - began, 0.2)
