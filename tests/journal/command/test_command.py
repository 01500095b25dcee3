"""chatgpt-source-journal, on a journal that a daemon is using too."""

import json
import os
import pwd
import shlex
import subprocess
import sys
from base64 import b64encode
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any, cast

from twisted.internet.defer import Deferred, fail, succeed

from chatgpt_source import __version__
from chatgpt_source.clock import rfc3339, wall
from chatgpt_source.errors import JournalError, JournalUnavailable
from chatgpt_source.journal import Key
from chatgpt_source.journal.command import credentials_of, engine_for, run_backup
from chatgpt_source.journal.command.operator import PAUSE, Operator, login
from chatgpt_source.journal.command.parser import IN_A_TERMINAL, parsed, parser
from chatgpt_source.journal.sqlite import SqliteJournal, open_beside
from chatgpt_source.terminal import Look
from tests.journal.common import JournalTestCase, at_once, prompt

NO_DRIVER = None if find_spec("psycopg") else "psycopg is not installed"


class CommandTests(JournalTestCase):
    everyday_limit = 3

    def setUp(self) -> None:
        super().setUp()
        self.pauses: list[float] = []
        self.in_thread: Any = at_once
        self.look = Look()
        self.environ: dict[str, str] = {}
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

    def begin(self, *argv: str) -> Deferred[int]:
        options, clock = parsed(argv), cast(Any, self.clock)
        self.beside = SqliteJournal(open_beside(self.path), clock, self.in_thread)
        self.out, self.err = StringIO(), StringIO()
        operator = Operator(
            *(self.beside, clock, self.out, options.json, self.pause, self.err, self.look),
            credentials_of(options, self.environ),
        )
        return Deferred.fromCoroutine(operator.do(options)).addBoth(self.end_command)

    def end_command(self, result: Any) -> Any:
        self.successResultOf(self.beside.close())
        self.assertNotIn("secret", self.out.getvalue())
        return result

    def run_command(self, *argv: str) -> tuple[int, str]:
        return self.successResultOf(self.begin(*argv)), self.out.getvalue()

    def test_list(self) -> None:
        status, text = self.run_command("list")
        lines = text.splitlines()
        self.assertEqual((status, [line.split()[0] for line in lines]), (0, ["p3", "p2", "p1"]))
        self.assertIn("the reason", lines[0])
        _, text = self.run_command("list", "--state", "all")
        self.assertEqual(len(text.splitlines()), 4)
        _, text = self.run_command("list", "--state", "accepted")
        self.assertEqual(text.split()[0], "p4")
        self.assertEqual(self.run_command("list", "--state", "delivered"), (0, ""))
        self.assertEqual(self.err.getvalue(), "no delivered prompts\n")

    def test_no_failed_prompts_while_others_wait(self) -> None:
        self.run_command("purge", "--all")
        self.assertEqual(self.run_command("list"), (0, ""))
        told = "no failed prompts; some are accepted: --state shows them\n"
        self.assertEqual(self.err.getvalue(), told)
        self.fail_it("p4", "another reason")
        self.run_command("purge", "--all")
        self.assertEqual(self.run_command("list"), (0, ""))
        self.assertEqual(self.err.getvalue(), "no failed prompts\n")

    def test_list_as_json(self) -> None:
        _, text = self.run_command("--json", "list")
        first = json.loads(text.splitlines()[0])
        self.assertEqual(first["id"], "p3")
        self.assertEqual((first["state"], first["error"]), ("failed", "the reason"))
        self.assertEqual(first["accepted"], "2027-01-15T12:00:00Z")

    def test_list_in_many_pages(self) -> None:
        many = [prompt(f"q{n}") for n in range(1200)]
        self.accept(*many, limit=5000, max_backlog=5000)
        _, text = self.run_command("list", "--state", "accepted")
        self.assertEqual(len(text.splitlines()), 1201)

    def test_list_some(self) -> None:
        self.clock.advance(3600)
        self.asks()
        self.fail_it("p4", "another Reason")
        for choice, names in (
            (["--limit", "2"], "p4 p3"),
            (["--limit", "0"], "p4 p3 p2 p1"),
            (["--since", "59m"], "p4"),
            (["--since", "2h"], "p4 p3 p2 p1"),
            (["--since", "2027-01-15T12:30:00Z"], "p4"),
            (["--reason", "the reason"], "p3 p2 p1"),
            (["--reason", "REASON", "--limit", "1"], "p4"),
        ):
            _, text = self.run_command("list", *choice)
            self.assertEqual([line.split()[0] for line in text.splitlines()], names.split())
        self.assertIn("--limit shows more than 1", self.err.getvalue())

    def test_list_in_a_terminal(self) -> None:
        self.look = Look(44, colour=False)
        self.clock.advance(200)
        _, text = self.run_command("list")
        self.assertEqual(
            text.splitlines()[:2],
            [
                "ID        STATE        SINCE  ASKS  SENT  R…",
                "p3        failed       3 min     1     1  t…",
            ],
        )
        self.look = Look(80, colour=True)
        _, text = self.run_command("list")
        self.assertIn("\x1b[31mfailed\x1b[0m  ", text)
        self.assertIn("  the reason\n", text)

    def test_a_terminal_shows_some_at_once(self) -> None:
        self.look = Look(80)
        self.accept(*[prompt(f"q{n}") for n in range(50)], limit=5000, max_backlog=5000)
        _, text = self.run_command("list", "--state", "accepted")
        self.assertEqual(len(text.splitlines()), 1 + IN_A_TERMINAL)
        self.assertIn("--limit shows more than 30", self.err.getvalue())

    def test_the_beginning_of_an_id(self) -> None:
        self.accept(prompt("abc-1"), prompt("abc-2"), prompt("abc"))
        for given, status, said in (
            ("abc-1", 0, "abc-1"),
            ("abc", 0, "abc"),
            ("p4", 0, "p4"),
            ("ab", 1, "several ids begin so"),
            ("x", 1, "not in this journal"),
            ("p4\udcff", 1, "not in this journal"),  # what argv has of a byte that is not UTF-8
            ("", 1, "not in this journal"),
        ):
            got, text = self.run_command("show", given)
            self.assertEqual(got, status, given)
            self.assertIn(said, text)
        self.fail_it("p4")
        status, text = self.run_command("purge", "p4", "abc-")
        self.assertEqual(status, 1)
        self.assertIn("p4  forgotten", text)
        self.assertIn("abc-  several ids begin so", text)
        for command in ("show", "purge", "redrive"):
            status, text = self.run_command(command, "\udcff")
            self.assertEqual((status, text), (1, "\ufffd  not in this journal\n"))

    def test_an_idempotency_key(self) -> None:
        config = Path(self.mktemp())
        config.write_text("auth: {bearer: [sesame-sesame-sesame], basic: {alice: hunter2hunter2}}")
        basic = f"Basic {b64encode(b'alice:hunter2hunter2').decode()}"
        for name, key in (
            ("q1", Key(("order 1",))),
            ("q2", Key(("Bearer sesame-sesame-sesame", "order-2"))),
            ("q3", Key((basic, "order-3"))),
            ("q4", Key(("Bearer sesame-sesame-sesame", "order-3"))),
        ):
            self.successResultOf(self.admit(prompt(name), limit=100, key=key))
        self.assertRegex(self.run_command("show", "order 1")[1], r"(?m)^id: +q1$")
        self.assertRegex(self.run_command("show", '"order 1"')[1], r"(?m)^id: +q1$")
        self.assertEqual(self.run_command("show", "order-2"), (1, "order-2  not in this journal\n"))
        self.environ["CONNECTOR_CONFIG"] = str(config)
        self.assertRegex(self.run_command("show", "order-2")[1], r"(?m)^id: +q2$")
        self.assertEqual(
            self.run_command("show", "order-3"), (1, "order-3  several have this key: q3, q4\n")
        )
        config.write_text("auth: {bearer: 1}")
        self.assertEqual(self.run_command("show", "order-2")[0], 1)
        self.assertRegex(self.run_command("show", "order 1")[1], r"(?m)^id: +q1$")

    def audited(self) -> list[str]:
        """What the daemon is to log."""
        taken = self.successResultOf(self.journal.take_audit_entries())
        self.assertLessEqual({each.who for each in taken}, {login()})
        parts = [each.did.partition(" at ") for each in taken]
        dates = {when for _, _, when in parts}
        self.assertLessEqual(dates, {rfc3339(int(wall(cast(Any, self.clock))))})
        return [did for did, _, _ in parts]

    def test_what_was_done_is_for_the_log(self) -> None:
        self.run_command("list")
        self.run_command("purge", "p1", "nobody")
        self.assertEqual(self.audited(), ["purged p1"])
        self.run_command("redrive", "p2", "p3")
        self.assertEqual(self.audited(), ["redrove p2", "redrove p3"])
        self.run_command("redrive", "p2")  # it is not failed any more
        self.assertEqual(self.audited(), [])

    def test_what_was_done_to_many_is_one_line_of_the_log(self) -> None:
        self.run_command("redrive", "--all", "--reason", "reason")
        self.assertEqual(self.audited(), ["redrove 2 failed prompts"])  # and no unit is left
        self.asks()
        self.fail_it("p1", "another: reason")
        self.run_command("purge", "--all", "--reason", "another")
        self.assertEqual(self.audited(), ["purged 1 failed prompt (another)"])
        for told in (["purged 1 failed prompt"], []):
            self.run_command("purge", "--all")
            self.assertEqual(self.audited(), told)

    def test_what_was_done_before_the_journal_broke_is_for_the_log(self) -> None:
        whole = SqliteJournal.purge

        def broken(journal: SqliteJournal, prompt_id: str) -> Deferred[bool]:
            if prompt_id == "p1":
                return whole(journal, prompt_id)
            return fail(JournalUnavailable("it is full", retry_after=5))

        self.patch(SqliteJournal, "purge", broken)
        failure = self.failureResultOf(self.begin("purge", "--all"), JournalUnavailable)
        self.assertEqual(failure.value.reason, "it is full")
        self.assertEqual(self.audited(), ["purged 1 failed prompt"])

    def test_all_with_a_reason(self) -> None:
        self.asks()
        self.fail_it("p4", "another reason")
        status, text = self.run_command("purge", "--all", "--reason", "another")
        self.assertEqual((status, text), (0, "p4  forgotten\n"))
        self.assertEqual(self.run_command("purge", "--all", "--since", "1s")[0], 0)
        self.clock.advance(60)
        self.run_command("redrive", "--all", "--since", "1s")
        self.assertEqual(self.err.getvalue(), "no failed prompts of that time\n")

    def test_none_of_a_choice_is_not_none_at_all(self) -> None:
        for choice, said in (
            (["list", "--reason", "nothing of that"], "no failed prompts of that reason\n"),
            (["list", "--state", "all", "--since", "1s"], "no prompts of that time\n"),
            (["purge", "--all", "--reason", "x", "--since", "1s"], " of that time and reason\n"),
        ):
            self.clock.advance(60)
            self.run_command(*choice)
            self.assertTrue(self.err.getvalue().endswith(said), self.err.getvalue())

    def test_mistakes(self) -> None:
        for argv, said in (
            (["list", "--since", "yesterday"], "neither a duration like 90s"),
            (["purge", "p1", "--reason", "x"], "leave out the ids"),
            (["purge", "--all", "--reason", ""], "give some text, or leave out --reason"),
            (["purge", "p1", "--reason", ""], "give some text, or leave out --reason"),
        ):
            self.patch(sys, "stderr", StringIO())
            self.assertRaises(SystemExit, parsed, argv)
            self.assertIn(said, sys.stderr.getvalue())  # type: ignore[attr-defined]

    def test_options_before_and_after_the_command(self) -> None:
        for argv in (["--journal", "x", "--json", "list"], ["list", "--json", "--journal", "x"]):
            options = parsed(argv)
            self.assertEqual((str(options.journal), options.json), ("x", True))
        self.assertIsNone(parsed(["list"]).journal)

    def test_which_journal(self) -> None:
        config = Path(self.mktemp())
        environ = {"CONNECTOR_CONFIG": str(config)}

        def location(*argv: str) -> str:
            return engine_for(parsed([*argv, "list"]), environ).location

        here = str(Path("journal.sqlite").absolute())
        self.assertIn("does not exist", str(self.assertRaises(JournalError, location)))
        config.write_text("journal: /data/j.sqlite")
        self.assertEqual(location(), here)
        self.assertEqual(location("--journal", "/data/j.sqlite"), "/data/j.sqlite")
        url = "postgresql://u:MARKED@db.example:5433/prompts"
        config.write_text(f"journal: {url}")
        self.assertEqual(location(), "postgresql://db.example:5433/prompts")
        self.assertEqual(location("--journal", "x.sqlite"), str(Path("x.sqlite").absolute()))
        self.assertEqual(location("--journal", url), "postgresql://db.example:5433/prompts")
        options = parsed(["--journal", url, "backup", "copy"])
        engine = engine_for(options, environ)
        said = str(self.assertRaises(SystemExit, run_backup, engine, options, StringIO()))
        self.assertIn("pg_dump", said)
        self.assertNotIn("MARKED", said)

    test_which_journal.skip = NO_DRIVER  # type: ignore[attr-defined]

    def test_its_version(self) -> None:
        self.patch(sys, "stdout", StringIO())
        self.assertRaises(SystemExit, parsed, ["--version"])
        said = sys.stdout.getvalue()  # type: ignore[attr-defined]
        self.assertEqual(said, f"chatgpt-source-journal {__version__}\n")

    def test_completions(self) -> None:
        program = Path(sys.executable).with_name("chatgpt-source-journal")
        for begun, completions in (
            ("li", ["list"]),
            ("pause a", ["asking"]),
            ("resume ta", ["target"]),
        ):
            line = f"chatgpt-source-journal {begun}"
            asked = {
                "_ARGCOMPLETE": "1",
                "_ARGCOMPLETE_STDOUT_FILENAME": str(self.path.with_name("completions")),
                "_ARGCOMPLETE_IFS": "\n",
                "COMP_LINE": line,
                "COMP_POINT": str(len(line)),
            }
            subprocess.run([program], env={**os.environ, **asked}, timeout=60, check=True)
            told = self.path.with_name("completions").read_text()
            self.assertEqual(told.split(), completions)

    def test_help_fits_in_80_columns(self) -> None:
        self.patch(os, "environ", {**os.environ, "COLUMNS": "80"})
        helps = [parser().format_help()]
        (commands,) = (each for each in parser()._actions if isinstance(each.choices, dict))
        helps += [each.format_help() for each in cast("dict[str, Any]", commands.choices).values()]
        self.assertGreater(len(helps), 5)
        lines = [line for text in helps for line in text.splitlines()]
        self.assertEqual([line for line in lines if len(line) > 80], [])

    def test_each_help_says_what_it_does_with_examples(self) -> None:
        (commands,) = (each for each in parser()._actions if isinstance(each.choices, dict))
        for name, each in cast("dict[str, Any]", commands.choices).items():
            told, examples = each.format_help().split("\nexamples:\n")
            self.assertRegex(told, r"(?m)\n\n[A-Z][^\n]+(\n[^\n]+)*\.\n\n", name)
            for example in filter(None, examples.splitlines()):
                program, *argv = shlex.split(example)
                self.assertEqual(program, "chatgpt-source-journal")
                self.assertEqual(parsed(argv).command, name)

    def test_show(self) -> None:
        status, text = self.run_command("show", "p3")
        self.assertEqual(status, 0)
        self.assertRegex(text, r"(?m)^state: +failed$")
        self.assertRegex(text, r"(?m)^error: +the reason$")
        status, text = self.run_command("show", "--json", "p3")
        self.assertEqual(json.loads(text)["deliveries"], 1)
        status, text = self.run_command("show", "nobody")
        self.assertEqual(status, 1)

    def test_show_in_a_terminal(self) -> None:
        self.look = Look(40)
        self.asks()
        self.fail_it("p4", "a reason that does not fit into a line")
        _, text = self.run_command("show", "p4")
        self.assertIn(f"error:         a reason that does not\n{' ' * 15}fit into a line\n", text)

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

    def fail_for_reasons(self) -> None:
        for name in ("p1", "p2", "p3"):
            self.successResultOf(self.journal.purge(name))
        self.clock.advance(60)
        self.accept(*(prompt(f"q{n}") for n in range(6)), limit=100)
        self.asks()
        for n, error in enumerate(
            (
                "the target answered 400",
                "the model refused it: code_1",
                "the model refused it: code_2 (while others succeed)",
                "the target answered 4001",
                "the model refused it",
                "the model can't be reached",
            )
        ):
            self.fail_it(f"q{n}", error)
        self.clock.advance(120)

    def test_reasons(self) -> None:
        self.fail_for_reasons()
        at = "2027-01-15T12:01:00Z"
        status, text = self.run_command("reasons")
        told = [(3, "the model refused it"), (1, "the model can't be reached")]
        told += [(1, "the target answered 400"), (1, "the target answered 4001")]
        self.assertEqual(
            (status, text.splitlines()), (0, [f"{n}  {at}  {at}  {reason}" for n, reason in told])
        )
        _, text = self.run_command("reasons", "--json")
        first = {"reason": "the model refused it", "count": 3, "first": at, "last": at}
        self.assertEqual(json.loads(text.splitlines()[0]), first)
        self.look = Look(40)
        _, text = self.run_command("reasons")
        self.assertEqual(
            text.splitlines()[:2],
            [
                " FAILED    FIRST     LAST  REASON",
                "      3    2 min    2 min  the model re…",
            ],
        )

    def test_no_reasons(self) -> None:
        self.run_command("purge", "--all")
        for json_, told in (([], "no failed prompts\n"), (["--json"], "")):
            self.assertEqual(self.run_command("reasons", *json_), (0, ""))
            self.assertEqual(self.err.getvalue(), told)

    def test_a_reason_that_there_is_means_that_alone(self) -> None:
        self.fail_for_reasons()
        for reason, names in (
            ("the model refused it", "q4 q2 q1"),
            ("the target answered 400", "q0"),
            ("the target answered 40", "q3 q0"),
            ("The Target answered 400", "q3 q0"),
            ("code_2", "q2"),
        ):
            _, text = self.run_command("list", "--reason", reason)
            self.assertEqual([each.split()[0] for each in text.splitlines()], names.split(), reason)
        _, text = self.run_command("purge", "--all", "--reason", "the target answered 400")
        self.assertEqual(text, "q0  forgotten\n")

    def test_paused_and_resumed(self) -> None:
        who, at = login(), "2027-01-15T12:00:00Z"
        self.assertRegex(who, r"^.+ \(chatgpt-source-journal\)$")
        self.assertEqual(self.run_command("paused"), (0, ""))
        self.assertEqual(self.err.getvalue(), "nothing is paused\n")
        told = self.run_command("pause", "asking")
        self.assertEqual(told, (0, f"asking  paused since {at} by {who}\n"))
        self.clock.advance(5)
        told = self.run_command("pause", "asking")
        self.assertEqual(told, (0, f"asking  paused since {at} by {who}\n"))
        self.run_command("pause", "target.audit")
        _, text = self.run_command("paused")
        later = "2027-01-15T12:00:05Z"
        self.assertEqual(text, f"asking  {at}  {who}\ntarget.audit  {later}  {who}\n")
        _, text = self.run_command("--json", "paused")
        pause = {"what": "asking", "who": who, "since": at}
        self.assertEqual(json.loads(text.splitlines()[0]), pause)
        self.look = Look(80)
        _, text = self.run_command("paused")
        self.assertEqual(
            text.splitlines()[:2],
            [
                "PAUSED                  SINCE  BY",
                f"asking                    5 s  {who}",
            ],
        )
        self.assertEqual(self.run_command("resume", "asking"), (0, "asking  resumed\n"))
        self.assertEqual(self.run_command("resume", "asking"), (1, "asking  not paused\n"))
        _, text = self.run_command("resume", "target.audit", "--json")
        self.assertEqual(
            json.loads(text), {"what": "target.audit", "done": True, "detail": "resumed"}
        )
        self.assertEqual(self.run_command("--json", "paused"), (0, ""))

    def test_what_can_be_paused(self) -> None:
        for what in ("intake", "asking", "target", "target.a-b", "dead_letter"):
            self.assertEqual(parsed(["pause", what]).what, what)
        for what in ("model", "Target", "target.", "target.A", "asking ", ""):
            self.patch(sys, "stderr", err := StringIO())
            self.assertRaises(SystemExit, parsed, ["pause", what])
            self.assertIn("is none of intake, asking, target, target.<name>", err.getvalue())

    def test_without_a_login_name(self) -> None:
        def unknown(_: int) -> Any:
            raise KeyError

        self.patch(pwd, "getpwuid", unknown)
        self.assertEqual(login(), f"user {os.getuid()} (chatgpt-source-journal)")

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
            self.assertRaises(SystemExit, parsed, argv)

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
