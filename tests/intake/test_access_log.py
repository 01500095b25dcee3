"""The access log: a line a request, with the reason of a refusal and no word of the caller's."""

from typing import Any

import attrs
from twisted.internet.defer import Deferred, fail
from twisted.logger import capturedLogs, formatEvent
from twisted.python.failure import Failure

from chatgpt_source.errors import JournalUnavailable
from chatgpt_source.http.server.request import DROPPED_AT_MOST
from chatgpt_source.journal import Admitted
from chatgpt_source.journal.group_commit import Withdrawable
from chatgpt_source.log import set_level
from tests.door import CONFIG, DoorTestCase

LINE = r"request: method={} route={} status={} seconds=0\.000 bytes=[1-9]\d*{}"


class AccessTests(DoorTestCase):
    def told(self, *request: Any, **headers: str | bytes) -> list[str]:
        with capturedLogs() as logged:
            self.request(*request, **headers)
        return [formatEvent(event) for event in logged]

    def assert_line(
        self, lines: list[str], method: str, route: str, status: int, more: str = ""
    ) -> None:
        (line,) = lines
        self.assertRegex(line, f"^{LINE.format(method, route, status, more)}$")

    def accepted(self) -> str:
        return str(self.post().json["id"])

    def test_an_accepted_prompt_has_one_line(self) -> None:
        (line,) = self.told("POST", "/", b"text")
        self.assertRegex(line, r"^accepted: id=\S{36} bytes=4 status=202 seconds=0\.000$")

    def test_one_whose_caller_waits_has_another_with_the_status(self) -> None:
        with capturedLogs() as logged:
            self.channel.dataReceived(
                b"POST / HTTP/1.1\r\nHost: x\r\nPrefer: wait=9\r\nContent-Length: 1\r\n\r\nx"
            )
            self.clock.advance(9)
            self.clock.advance(0)
        accepted, request = map(formatEvent, logged)
        self.assertRegex(accepted or "", r"^accepted: id=\S{36} bytes=1 seconds=0\.000$")
        id_ = (accepted or "").split()[1]
        line = LINE.format("POST", "/", 202, f" {id_}").replace("0\\.000", "9\\.000")
        self.assertRegex(request or "", f"^{line}$")

    def test_a_repeated_one_has_the_first_ones_id(self) -> None:
        (line,) = self.told("POST", "/", b"text", idempotency_key="k")
        id_ = line.split()[1]
        again = self.told("POST", "/", b"text", idempotency_key="k")
        self.assert_line(again, "POST", "/", 202, f" {id_}")

    def test_the_state_of_a_prompt(self) -> None:
        id_ = self.accepted()
        self.assert_line(
            self.told("GET", f"/prompts/{id_}?x=MARKED"),
            "GET",
            "/prompts/<id>",
            200,
            f" id={id_}",
        )
        self.assert_line(
            self.told("GET", "/prompts/MARKED"), "GET", "/prompts/<id>", 404, " why=unknown"
        )

    def test_probes_have_none(self) -> None:
        for method in ("GET", "HEAD", "POST"):
            for path in ("/healthz", "/readyz", "/readyz?verbose"):
                self.assertEqual(self.told(method, path), [])

    def test_nothing_of_the_callers_own(self) -> None:
        for request, method, route, status, why in (
            (("GET", "/MARKED?MARKED=MARKED"), "GET", "another", 404, "unknown"),
            (("MARKED", "/"), "another", "/", 405, "method"),
            (("OPTIONS", "*"), "OPTIONS", "another", 404, "unknown"),
            (("POST", "/prompts/MARKED"), "POST", "/prompts/<id>", 405, "method"),
            (("PUT", "/prompts/MARKED/event"), "PUT", "/prompts/<id>/event", 405, "method"),
            (("PUT", "/prompts"), "PUT", "/prompts", 405, "method"),
            (("GET", "/prompts/MARKED/MARKED"), "GET", "another", 404, "unknown"),
            (("POST", "http://MARKED/", b""), "POST", "/", 400, "invalid"),
        ):
            lines = self.told(*request, user_agent="MARKED", referer="MARKED")
            self.assert_line(lines, method, route, status, f" why={why}")
            self.assertNotIn("MARKED", lines[0])

    def test_why_a_prompt_is_refused(self) -> None:
        refused = [
            (400, "invalid", (b" ", {})),
            (400, "invalid", (b"x", {"vanus_source": "no uri"})),
            (413, "too_large", (b"x" * (CONFIG.max_body_size + 1), {})),
            (415, "charset", (b"x", {"content_type": "text/plain; charset=MARKED"})),
        ]
        for status, why, (body, headers) in refused:
            lines = self.told("POST", "/", body, **headers)
            self.assert_line(lines, "POST", "/", status, f" why={why}")
        self.told("POST", "/", b"x", idempotency_key="k")
        lines = self.told("POST", "/", b"y", idempotency_key="k")
        self.assert_line(lines, "POST", "/", 422, " why=key_reused")
        for _ in range(CONFIG.everyday_limit):
            self.post()
        self.assert_line(self.told("POST", "/", b"x"), "POST", "/", 429, " why=quota")

    def refused_now(self) -> list[str]:
        return self.told("POST", "/", b"x")

    def test_the_backlog_is_full(self) -> None:
        full = attrs.evolve(self.config, max_backlog=0)
        self.site.handler = attrs.evolve(self.intake, config=full).answer
        self.assert_line(self.refused_now(), "POST", "/", 503, " why=backlog")

    def test_the_journal_can_not_be_written(self) -> None:
        failed = fail(JournalUnavailable("disk full", retry_after=1))
        self.patch(self.journal, "accept", lambda *_, **__: failed)
        self.assert_line(self.refused_now(), "POST", "/", 503, " why=journal")

    def test_the_daemon_is_stopping(self) -> None:
        self.pipeline.draining = True
        self.assert_line(self.refused_now(), "POST", "/", 503, " why=draining")

    def test_a_defect(self) -> None:
        def broken(*_: object, **__: object) -> None:
            raise KeyError("MARKED")

        self.patch(self.journal, "accept", broken)
        where, line = self.told("POST", "/", b"x")
        self.assertIn("KeyError (its text is withheld)", where)
        self.assert_line([line], "POST", "/", 500, " why=defect")

    def test_a_caller_who_hangs_up(self) -> None:
        written: Deferred[list[Admitted]] = Withdrawable(lambda _: None)  # it has begun
        self.patch(self.journal, "accept", lambda *_, **__: written)
        self.channel.dataReceived(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx")
        self.channel.connectionLost(Failure(ConnectionResetError()))
        with capturedLogs() as logged:
            written.errback(JournalUnavailable("disk full", retry_after=1))
        (line,) = map(formatEvent, logged)
        self.assertTrue(line.endswith("status=503 seconds=0.000 bytes=0 why=hung_up"), line)
        self.connect()

    def test_an_answer_before_the_bodys_end(self) -> None:
        size = DROPPED_AT_MOST * CONFIG.max_body_size + 1000
        with capturedLogs() as logged:
            self.channel.dataReceived(
                b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size
            )
        self.assert_line(
            [formatEvent(event) for event in logged], "POST", "/", 413, " why=too_large"
        )

    def test_what_can_not_be_parsed(self) -> None:
        for head in (b"MARKED", b"POST /MARKED HTTP/1.1\r\nMARKED", b"GET / HTTP/1.1\r\nX: y"):
            with capturedLogs() as logged:
                self.channel.dataReceived(head + b"\r\n\r\n")
            (line,) = map(formatEvent, logged)
            self.assertRegex(line, r"status=400 seconds=0\.000 bytes=[1-9]\d* why=invalid$")
            self.assertNotIn("MARKED", line)
            self.connect()

    def test_the_time_it_took(self) -> None:
        written: Deferred[list[Admitted]] = Withdrawable(lambda _: None)  # it has begun
        self.patch(self.journal, "accept", lambda *_, **__: written)
        self.channel.dataReceived(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx")
        self.clock.advance(1.5)
        with capturedLogs() as logged:
            written.callback([Admitted("p1", 1)])
        (line,) = map(formatEvent, logged)
        self.assertTrue(line.endswith("seconds=1.500"), line)

    def test_off_below_info(self) -> None:
        self.addCleanup(set_level, "info")
        set_level("warn")
        self.assertEqual(self.told("GET", "/MARKED"), [])
        self.assertEqual(self.told("POST", "/", b"text"), [])
