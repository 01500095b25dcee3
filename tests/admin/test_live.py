"""The page as the admin site serves it, and what reaches its stream."""

import json

from twisted.internet.defer import Deferred

from chatgpt_source import admin
from chatgpt_source.admin import page, past
from chatgpt_source.errors import PeerFailure, Permanent
from chatgpt_source.journal import Tally
from chatgpt_source.journal.sqlite import SqliteJournal
from chatgpt_source.telemetry.observer import RefusalReason
from tests.admin.common import AdminTestCase
from tests.admin.test_page import Reader
from tests.admin.test_stream import Viewer


class LiveTestCase(AdminTestCase):
    def page(self, query: str = "") -> str:
        answer = self.get(f"/{query}")
        self.assertEqual(answer.status, 200)
        return Reader(answer.body.decode()).text

    def view(self, query: bytes = b"") -> Viewer:
        viewer = Viewer(self.back, query, b"localhost")
        self.addCleanup(viewer.hang_up)
        return viewer


class PageTests(LiveTestCase):
    def test_headers(self) -> None:
        answer = self.get("/")
        for name, value in {**admin.HEADERS, **page.HEADERS}.items():
            self.assertEqual(answer.headers[name.lower()], value)
        self.assertEqual(answer.headers["content-type"], "text/html; charset=utf-8")
        self.assertEqual(self.get("/?state=failed").status, 200)

    def test_one_whose_history_is_drawn_reads_the_counts_once(self) -> None:
        self.page()
        read = []
        tally = type(self.journal).tally

        def counting(journal: SqliteJournal, day: str) -> Deferred[Tally]:
            read.append(day)
            return tally(journal, day)

        self.patch(type(self.journal), "tally", counting)
        self.page()
        self.assertEqual(len(read), 1)

    def test_one_is_drawn_a_turn(self) -> None:
        self.assertEqual(self.get("/").status, 200)
        self.site = self.back
        transports = []
        for _ in range(3):
            self.connect()
            transports.append(self.transport)
            self.channel.dataReceived(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self.assertEqual([bool(each.value()) for each in transports], [True, False, False])
        self.clock.advance(0)
        for each in transports:
            self.assertTrue(each.value().startswith(b"HTTP/1.1 200 "))

    def test_who_come_together_get_one_drawing_of_the_history(self) -> None:
        drawn = []
        section = past.section
        self.patch(past, "section", lambda seen: drawn.append(seen.range.name) or section(seen))
        self.site = self.back
        transports = []
        for path in (b"/", b"/?state=failed", b"/?range=7d", b"/"):
            self.connect()
            transports.append(self.transport)
            self.channel.dataReceived(b"GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n" % path)
        self.clock.advance(0)
        self.assertTrue(all(each.value() for each in transports))
        self.assertEqual(drawn, ["1h", "7d"])

    def test_what_it_shows(self) -> None:
        prompt_id = self.ask(b"a secret prompt").json["id"]
        self.model.answer(Permanent("the model answered 400: it refuses this prompt", status=400))
        text = self.page(f"?state=failed&tried={prompt_id}")
        self.assertIn("The last prompt failed: the model answered 400.Since 12:00", text)
        self.assertIn("the model answered 400: it refuses this prompt", text)
        self.assertIn(f"The way of {prompt_id}", text)
        self.assertIn("1The model answered 40012:00, just now", text)
        self.assertNotIn("secret", text)
        self.assertIn("No prompt is delivered.", self.page("?state=delivered"))

    def test_a_trouble(self) -> None:
        self.ask()
        self.model.answer(PeerFailure("the model answered 401: check `token`", status=401))
        self.assertIn("The model answered 401.Since 12:00. 1 prompt waits", self.page())

    def test_a_journal_that_can_not_be_read(self) -> None:
        self.ask()
        self.page()
        self.opened.connection.close()
        self.assertIn("The journal can't be read now.", self.page("?prompt=x"))
        text = self.page()
        self.assertIn("The journal can't be read", text)
        self.assertIn("1 of 3 prompts used today", text)  # as last known

    def test_a_journal_that_does_not_answer(self) -> None:
        self.ask()
        self.page()
        self.journal._executor._group._in_thread = lambda _: Deferred()
        self.site = self.back
        self.connect()
        self.channel.dataReceived(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self.clock.pump([0.1] * 11)
        body = self.transport.value().decode()
        self.assertIn("The journal can't be read: it has not answered for 1 s", body)
        self.assertIn("1 of 3 prompts used today", body)  # as last known
        self.assertIn("The journal can't be read now.", body)


class EventsTests(LiveTestCase):
    def test_the_way_of_a_prompt_as_it_happens(self) -> None:
        prompt_id = str(self.ask().json["id"])
        viewer = self.view(f"?tried={prompt_id}".encode())
        self.pass_time(1)
        self.assertIn("Asking the model", viewer.changes[-1]["way"])
        self.model.answer()
        self.pass_time(1)
        self.assertIn("Delivering the event", viewer.changes[-1]["way"])
        self.target.answer()
        self.pass_time(1)
        told = [change["way"] for change in viewer.changes if "way" in change][-1]
        self.assertIn(f"Prompt {prompt_id[:8]} is delivered.", told)
        self.pass_time(2)
        charts = [change["traffic"] for change in viewer.changes if "traffic" in change]
        self.assertIn("1 accepted, 1 delivered, 0 failed", charts[-1])

    def test_the_history_is_drawn_now_and_then(self) -> None:
        viewer = self.view()
        self.pass_time(2)
        seen = len(viewer.changes)
        for _ in range(10):
            self.intake.observer.refused(reason=RefusalReason.BUSY)
            self.ask()
            self.pass_time(0.5)
        drawn = [change for change in viewer.changes[seen:] if "refusals" in change]
        self.assertIn(len(drawn), {2, 3})
        self.assertGreater(len(viewer.changes) - seen, len(drawn))

    def test_each_viewer_sees_its_range(self) -> None:
        hour, week = self.view(), self.view(b"?range=7d")
        self.pass_time(1)
        self.assertIn("The last hour", hour.changes[0]["numbers"])
        self.assertIn("The last 7 days", week.changes[0]["numbers"])

    def test_everything_that_happens_is_shown_soon(self) -> None:
        viewer = self.view()
        self.pass_time(1)
        steps = (
            ("accepted", self.ask),
            ("asked", lambda: self.model.answer(PeerFailure("the model answered 401", status=401))),
        )
        for name, step in steps:
            seen = len(viewer.changes)
            step()
            self.pass_time(0.6)
            self.assertGreater(len(viewer.changes), seen, name)
        self.assertIn("The model answered 401", viewer.changes[-1]["health"])

    def test_only_what_changed(self) -> None:
        viewer = self.view()
        self.pass_time(1)
        self.assertNotIn("cost", viewer.changes[-1] if len(viewer.changes) > 1 else {})
        seen = len(viewer.changes)
        self.pass_time(5)
        self.assertEqual({*viewer.changes[seen]}, {"about", "quota"} & {*viewer.changes[seen]})

    def test_a_stop_ends_it(self) -> None:
        viewer = self.view()
        self.pass_time(1)
        self.admin.stop()
        self.assertTrue(viewer.transport.aborted)

    def test_needs_a_host_as_all_else_does(self) -> None:
        viewer = Viewer(self.back, b"", b"evil.example")
        self.addCleanup(viewer.hang_up)
        self.assertEqual(viewer.status, 403)
        self.assertNotIn("data:", json.dumps(viewer.transport.value().decode()))

    def test_another_sites_page_takes_none_up(self) -> None:
        self.assert_problem(self.get("/api/events", Sec_Fetch_Site="cross-site"), 403)
