"""chatgpt-source-journal, on a journal that a daemon is using too."""

import json
import sys
from io import StringIO
from typing import Any, cast

from twisted.internet.defer import Deferred, succeed

from chatgpt_source.errors import JournalError
from chatgpt_source.journal.command import PAUSE, Operator, parser
from chatgpt_source.journal.sqlite import SqliteJournal, open_beside
from tests.journal.common import JournalTestCase, at_once, prompt


class CommandTests(JournalTestCase):
    everyday_limit = 3

    def setUp(self) -> None:
        super().setUp()
        self.pauses: list[float] = []
        self.in_thread: Any = at_once
        for name, give_back in (("p1", True), ("p2", True), ("p3", False)):
            self.accept(prompt(name, "a secret"))
            self.asks()
            if name == "p3":
                self.answer("p3", claim=True)
            self.fail_it(name, "the reason", give_back=give_back)
        self.accept(prompt("p4"))

    def pause(self, seconds: float) -> Deferred[None]:
        self.pauses.append(seconds)
        return succeed(None)

    def run_command(self, *argv: str) -> tuple[int, str]:
        options = parser().parse_args(argv)
        beside = SqliteJournal(open_beside(self.path), cast(Any, self.clock), self.in_thread)
        out = StringIO()
        operator = Operator(beside, cast(Any, self.clock), out, options.json, self.pause)
        status = self.successResultOf(Deferred.fromCoroutine(operator.do(options)))
        self.successResultOf(beside.close())
        self.assertNotIn("secret", out.getvalue())
        return status, out.getvalue()

    def test_list(self) -> None:
        status, text = self.run_command("list")
        lines = text.splitlines()
        self.assertEqual((status, [line.split()[0] for line in lines]), (0, ["p1", "p2", "p3"]))
        self.assertIn("the reason", lines[0])
        _, text = self.run_command("list", "--state", "all")
        self.assertEqual(len(text.splitlines()), 4)
        _, text = self.run_command("list", "--state", "accepted")
        self.assertEqual(text.split()[0], "p4")
        self.assertEqual(self.run_command("list", "--state", "delivered"), (0, ""))

    def test_list_as_json(self) -> None:
        _, text = self.run_command("--json", "list")
        first = json.loads(text.splitlines()[0])
        self.assertEqual(first["id"], "p1")
        self.assertEqual((first["state"], first["error"]), ("failed", "the reason"))
        self.assertEqual(first["accepted"], "2027-01-15T12:00:00Z")

    def test_list_in_many_pages(self) -> None:
        many = [prompt(f"q{n}") for n in range(1200)]
        self.accept(*many, limit=5000, max_backlog=5000)
        _, text = self.run_command("list", "--state", "accepted")
        self.assertEqual(len(text.splitlines()), 1201)

    def test_show(self) -> None:
        status, text = self.run_command("show", "p3")
        self.assertEqual(status, 0)
        self.assertRegex(text, r"(?m)^state: +failed$")
        self.assertRegex(text, r"(?m)^error: +the reason$")
        status, text = self.run_command("show", "--json", "p3")
        self.assertEqual(json.loads(text)["deliveries"], 1)
        status, text = self.run_command("show", "nobody")
        self.assertEqual(status, 1)

    def test_redrive(self) -> None:
        status, text = self.run_command("redrive", "p1", "p3")
        self.assertEqual(status, 0)
        self.assertEqual(text.splitlines(), ["p1  to be asked again", "p3  to be delivered again"])
        self.assertEqual(self.record("p1").state, "accepted")
        self.assertEqual([ask.prompt.id for ask in self.asks().claimed], ["p1", "p4"])
        self.assertEqual([each.id for each in self.deliveries().claimed], ["p3"])

    def test_redrive_all_goes_as_far_as_the_day_does(self) -> None:
        status, text = self.run_command("redrive", "--all")
        self.assertEqual(status, 1)
        self.assertIn("p1  to be asked again", text)
        self.assertIn("p2  not redriven: asking again takes a unit", text)
        self.assertIn("p3  to be delivered again", text)
        self.assertEqual(self.used(), 3)

    def test_redrive_what_has_not_failed(self) -> None:
        status, text = self.run_command("--json", "redrive", "p4", "nobody")
        self.assertEqual(status, 1)
        self.assertEqual([json.loads(line)["done"] for line in text.splitlines()], [False] * 2)

    def test_purge(self) -> None:
        status, _ = self.run_command("purge", "p1")
        self.assertEqual((status, self.record("p1")), (0, None))
        status, _ = self.run_command("purge", "p4")
        self.assertEqual(status, 1)
        status, _ = self.run_command("purge", "--all")
        self.assertEqual((status, self.record("p2"), self.record("p3")), (0, None, None))
        self.assertIsNotNone(self.record("p4"))

    def fail_many(self) -> None:
        names = [f"q{n}" for n in range(120)]
        self.accept(*map(prompt, names), limit=5000, max_backlog=5000)
        self.asks(1000)
        for name in names:
            self.fail_it(name)

    def test_pauses_between_transactions_of_more_and_more(self) -> None:
        self.fail_many()
        _, text = self.run_command("purge", "--all")
        self.assertEqual(len(text.splitlines()), 123)
        self.assertEqual(self.pauses, [PAUSE] * 7)  # 1, 2, 4, 8, 16, 32, 50, and 10

    def test_pauses_for_longer_where_they_are_slow(self) -> None:
        self.fail_many()
        self.in_thread = lambda run: at_once(run).addCallback(lambda _: self.clock.advance(0.02))
        self.run_command("purge", "--all")
        self.assertEqual(len(self.pauses), 122)
        self.assertAlmostEqual(max(self.pauses), 0.08, places=3)

    def test_all_and_ids_do_not_go_together(self) -> None:
        for argv in (["redrive"], ["redrive", "p1", "--all"], ["purge"], []):
            self.patch(sys, "stderr", StringIO())
            self.assertRaises(SystemExit, parser().parse_args, argv)

    def test_looking_writes_nothing(self) -> None:
        before = self.opened.connection.execute("PRAGMA data_version").fetchone()
        self.run_command("list")
        self.run_command("show", "p1")
        after = self.opened.connection.execute("PRAGMA data_version").fetchone()
        self.assertEqual(after, before)

    def test_an_empty_file_stays_one(self) -> None:
        empty = self.path.with_name(f"{self.path.name}-empty")
        empty.touch()
        self.assertRaises(JournalError, open_beside, empty)
        self.assertEqual(empty.stat().st_size, 0)

    def test_no_journal_is_made(self) -> None:
        nowhere = self.path.with_name("nowhere")
        self.assertRaises(JournalError, open_beside, nowhere)
        self.assertFalse(nowhere.exists())
