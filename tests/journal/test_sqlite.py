"""The SQLite journal, held to what `Journal` promises."""

import os
import sqlite3
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import attrs
from chatgpt_source.journal.sqlite.operations import MOST_CLAIMED
from twisted.internet.defer import Deferred

from chatgpt_source.errors import (
    BacklogFull,
    JournalError,
    JournalInUse,
    JournalUnavailable,
    QuotaUsedUp,
)
from chatgpt_source.journal.sqlite import (
    WATCH_EVERY,
    check_journal,
    open_beside,
    open_journal,
)
from chatgpt_source.journal.sqlite.look import look
from chatgpt_source.journal.sqlite.schema import VERSION
from chatgpt_source.journal.sqlite.transact import PATIENCE, PATIENCE_LEFT
from chatgpt_source.journal.sqlite.upkeep import KEPT_DAYS, PRUNE_STEP
from chatgpt_source.prompt import State, Trace
from chatgpt_source.quota import Day
from tests.journal.common import DAY, NOON, JournalTestCase, Threads, prompt


class AcceptTests(JournalTestCase):
    def test_keeps_the_prompt_and_takes_a_unit(self) -> None:
        self.assertEqual(self.accept(prompt()), 99)
        self.assertEqual(self.used(), 1)
        record = self.record()
        self.assertEqual((record.state, record.accepted), (State.ACCEPTED, NOON))
        self.assertEqual((record.asks, record.deliveries, record.error), (0, 0, None))

    def test_survives_a_crash(self) -> None:
        self.accept(prompt())
        self.crash()
        (ask,) = self.asks().claimed
        self.assertEqual(ask.prompt, prompt())
        self.assertEqual(self.used(), 1)

    def test_the_limit_is_exact(self) -> None:
        for n in range(3):
            self.assertEqual(self.accept(prompt(f"p{n}"), limit=3), 2 - n)
        refusal = self.failureResultOf(self.admit(prompt("p3"), 3, 1000), QuotaUsedUp)
        self.assertEqual(refusal.value.retry_after, DAY.end - NOON)
        self.assertIsNone(self.record("p3"))
        self.assertEqual(self.used(), 3)

    def test_each_day_has_its_own(self) -> None:
        self.accept(prompt(), limit=1)
        tomorrow = Day("2027-01-16", DAY.end, DAY.end + 86400)
        admitted = self.admit(prompt("p2", accepted=DAY.end), 1, day=tomorrow)
        self.assertEqual(self.successResultOf(admitted).left, 0)
        self.assertEqual((self.used(), self.used("2027-01-16")), (1, 1))

    def test_a_lowered_limit_admits_none(self) -> None:
        self.accept(prompt("p1"), prompt("p2"))
        self.failureResultOf(self.admit(prompt("p3"), 1, 1000), QuotaUsedUp)

    def test_a_full_backlog_takes_no_unit(self) -> None:
        self.accept(prompt("p1"), prompt("p2"))
        self.asks(1)
        self.answer("p1")
        self.failureResultOf(self.admit(prompt("p3"), 100, 2), BacklogFull)
        self.assertEqual(self.used(), 2)

    def test_what_ended_is_no_backlog(self) -> None:
        self.accept(prompt("p1"), prompt("p2"))
        self.successResultOf(self.journal.delivered("p1"))
        self.successResultOf(self.journal.failed("p2", NOON, "why", give_back=False))
        self.accept(prompt("p3"), max_backlog=1)

    def test_text_of_any_kind(self) -> None:
        text = "nul \0, quote ', emoji 🐍, " + "x" * 2_000_000
        self.accept(prompt(text=text))
        self.assertEqual(self.asks().claimed[0].prompt.text, text)


class ClaimTests(JournalTestCase):
    def test_in_order_of_acceptance_and_once(self) -> None:
        self.accept(*(prompt(f"p{n}") for n in range(5)))
        first, second = self.asks(2), self.asks(2)
        self.assertEqual([ask.prompt.id for ask in first.claimed], ["p0", "p1"])
        self.assertEqual([ask.prompt.id for ask in second.claimed], ["p2", "p3"])
        self.assertEqual(second.next_due, NOON)
        self.assertEqual([ask.prompt.id for ask in self.asks().claimed], ["p4"])
        self.assertEqual(self.asks().claimed, [])
        self.assertIsNone(self.asks().next_due)

    def test_long_texts_a_few_at_a_time(self) -> None:
        self.accept(*(prompt(f"p{n}", "x" * (MOST_CLAIMED // 2)) for n in range(3)))
        self.accept(prompt("p3", "x" * 2 * MOST_CLAIMED), prompt("p4"))
        claims = [self.asks() for _ in range(4)]
        told = [[ask.prompt.id for ask in each.claimed] for each in claims]
        self.assertEqual(told, [["p0", "p1"], ["p2", "p3"], ["p4"], []])
        self.assertEqual([each.next_due for each in claims], [NOON, NOON, None, None])

    def test_after_a_crash_in_the_old_order(self) -> None:
        self.accept(*(prompt(f"p{n}", accepted=NOON + n) for n in range(5)))
        self.clock.advance(60)
        self.asks(2)
        self.crash()
        self.assertEqual([ask.prompt.id for ask in self.asks(3).claimed], ["p0", "p1", "p2"])

    def test_counts_the_attempt(self) -> None:
        self.accept(prompt())
        self.assertEqual(self.asks().claimed[0].attempt, 1)
        self.assertEqual(self.record().asks, 1)

    def test_a_claim_is_taken_up_after_a_crash(self) -> None:
        self.accept(prompt())
        self.asks()
        self.crash()
        self.assertEqual(self.asks().claimed[0].attempt, 2)

    def test_postponed_until_it_is_due(self) -> None:
        self.accept(prompt())
        self.asks()
        self.successResultOf(
            self.journal.postpone("p1", NOON + 5, "why", maybe_billed=True, held=NOON)
        )
        claims = self.asks(now=NOON + 4.9)
        self.assertEqual((claims.claimed, claims.next_due), ([], NOON + 5))
        self.assertEqual(self.record().error, "why")
        (ask,) = self.asks(now=NOON + 5).claimed
        self.assertEqual((ask.attempt, ask.maybe_billed, ask.held), (2, 1, NOON))

    def test_postponed_survives_a_crash(self) -> None:
        self.accept(prompt())
        self.asks()
        self.successResultOf(self.journal.postpone("p1", NOON + 5, "why"))
        self.crash()
        self.assertEqual(self.asks().next_due, NOON + 5)

    def test_asks_and_deliveries_do_not_mix(self) -> None:
        self.accept(prompt("p1"), prompt("p2"))
        self.asks(1)
        self.answer("p1")
        self.assertEqual([each.id for each in self.deliveries().claimed], ["p1"])
        self.assertEqual([ask.prompt.id for ask in self.asks().claimed], ["p2"])


class AnsweredTests(JournalTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.accept(prompt())
        self.asks()

    def test_waits_for_its_delivery(self) -> None:
        self.answer()
        (delivery,) = self.deliveries().claimed
        self.assertEqual(
            (delivery.id, delivery.event, delivery.since, delivery.attempt),
            ("p1", b"the event", NOON, 1),
        )
        self.assertEqual((self.record().state, self.record().deliveries), (State.ANSWERED, 1))

    def test_claimed_at_once(self) -> None:
        self.answer(claim=True)
        self.assertEqual(self.record().deliveries, 1)
        self.assertEqual(self.deliveries().claimed, [])
        self.crash()
        self.assertEqual(self.deliveries().claimed[0].attempt, 2)

    def test_is_not_asked_again_after_a_crash(self) -> None:
        self.answer()
        self.crash()
        self.assertEqual(self.asks().claimed, [])
        self.assertEqual(self.deliveries().claimed[0].event, b"the event")

    def test_untried_since(self) -> None:
        self.answer()
        self.assertEqual(self.deliveries(untried_since=NOON + 1).claimed, [])
        (delivery,) = self.deliveries(untried_since=NOON).claimed
        self.successResultOf(self.journal.postpone(delivery.id, NOON, "why"))
        self.assertEqual(self.deliveries(untried_since=NOON).claimed, [])
        self.assertEqual(len(self.deliveries().claimed), 1)

    def test_delivered(self) -> None:
        self.successResultOf(self.journal.postpone("p1", NOON, "an old error"))
        self.answer()
        self.clock.advance(3)
        self.successResultOf(self.journal.delivered("p1"))
        record = self.record()
        self.assertEqual((record.state, record.delivered), (State.DELIVERED, NOON + 3))
        self.assertIsNone(record.error)
        self.crash()
        self.assertEqual((self.asks().claimed, self.deliveries().claimed), ([], []))


class FailedTests(JournalTestCase):
    def test_gives_the_unit_back_to_the_day_it_was_of(self) -> None:
        self.accept(prompt("p1"), prompt("p2"))
        later = DAY.end + 5
        self.successResultOf(self.journal.failed("p1", later, "why", give_back=True))
        self.assertEqual((self.used(), self.used("2027-01-16")), (1, 0))
        self.successResultOf(self.journal.failed("p2", later, "why", give_back=False))
        self.assertEqual(self.used(), 1)

    def test_keeps_the_reason_and_the_text(self) -> None:
        self.accept(prompt())
        self.asks()
        self.successResultOf(self.journal.failed("p1", NOON, "why", give_back=True))
        record = self.record()
        self.assertEqual((record.state, record.error), (State.FAILED, "why"))
        self.assertIsNone(record.delivered)
        self.crash()
        self.assertEqual(self.asks().claimed, [])
        text = self.opened.connection.execute("SELECT prompt FROM texts").fetchone()
        self.assertEqual(text, ("what is vanus",))


class TallyTests(JournalTestCase):
    def test_counts_every_state(self) -> None:
        self.accept(*(prompt(f"p{n}") for n in range(5)))
        self.answer("p0")
        self.answer("p1")
        self.successResultOf(self.journal.delivered("p1"))
        self.successResultOf(self.journal.failed("p2", NOON, "why", give_back=True))
        tally = self.successResultOf(self.journal.tally(DAY.date))
        expected = {State.ACCEPTED: 2, State.ANSWERED: 1, State.DELIVERED: 1, State.FAILED: 1}
        self.assertEqual((tally.prompts, tally.used, tally.backlog), (expected, 4, 3))

    def test_of_an_unknown_day_and_prompt(self) -> None:
        self.assertEqual(self.used("1999-12-31"), 0)
        self.assertIsNone(self.record("nobody"))


class PruneTests(JournalTestCase):
    def test_forgets_what_ended_long_ago(self) -> None:
        self.accept(*(prompt(f"p{n}") for n in range(4)))
        self.answer("p0")
        self.successResultOf(self.journal.delivered("p0"))
        self.successResultOf(self.journal.failed("p1", NOON, "why", give_back=False))
        self.clock.advance(10)
        self.successResultOf(self.journal.failed("p2", NOON + 10, "why", give_back=False))
        self.successResultOf(self.journal.prune(NOON + 1))
        known = [self.record(f"p{n}") is not None for n in range(4)]
        self.assertEqual(known, [False, False, True, True])
        texts = self.opened.connection.execute("SELECT count(*) FROM texts").fetchone()
        self.assertEqual(texts, (2,))

    def test_in_small_steps(self) -> None:
        many = 2 * PRUNE_STEP + 1
        self.accept(*(prompt(f"p{n}") for n in range(many)), limit=many, max_backlog=many)
        for n in range(many):
            self.successResultOf(self.journal.failed(f"p{n}", NOON, "why", give_back=False))
        threads = Threads()
        self.shut(self.opened)
        journal = self.open(threads.defer)
        pruned = journal.prune(NOON + 1)
        steps = 0
        while threads.waiting:
            threads.work()
            steps += 1
        self.successResultOf(pruned)
        self.assertGreaterEqual(steps, 3)
        left = self.opened.connection.execute("SELECT count(*) FROM prompts").fetchone()
        self.assertEqual(left, (0,))

    def test_keeps_the_counts_of_the_latest_days_whatever_the_clock_says(self) -> None:
        self.accept(prompt())
        ahead = Day("2037-01-15", NOON, NOON * 2)
        self.successResultOf(self.admit(prompt("p2"), day=ahead))
        self.clock.advance(10 * 365 * 86400)
        self.successResultOf(self.journal.prune(self.clock.seconds()))
        self.assertEqual((self.used(), self.used(ahead.date)), (1, 1))

    def test_forgets_the_counts_of_days_long_gone(self) -> None:
        days = [str(date(2027, 1, 1) + timedelta(days=n)) for n in range(KEPT_DAYS + 2)]
        for day in days:
            admitted = self.admit(prompt(day), 1, day=Day(day, NOON, NOON * 2))
            self.successResultOf(admitted)
        self.successResultOf(self.journal.prune(NOON))
        self.assertEqual([self.used(day) for day in days], [0, 0] + [1] * KEPT_DAYS)


class GroupTests(JournalTestCase):
    """Many operations, one commit."""

    def setUp(self) -> None:
        super().setUp()
        self.shut(self.opened)
        self.threads = Threads()
        self.journal = self.open(self.threads.defer)
        self.statements: list[str] = []
        self.opened.connection.set_trace_callback(self.statements.append)

    def commits(self) -> int:
        return self.statements.count("COMMIT")

    def start(self, name: str, limit: int = 100) -> Deferred[int]:
        return self.admit(prompt(name), limit).addCallback(lambda admitted: admitted.left)

    def test_alone_commits_at_once(self) -> None:
        accepted = self.start("p1")
        self.assertEqual(len(self.threads.waiting), 1)
        self.assertNoResult(accepted)
        self.threads.work()
        self.successResultOf(accepted)
        self.assertEqual((self.commits(), self.threads.waiting), (1, []))

    def test_what_arrives_during_a_commit_rides_the_next(self) -> None:
        first = self.start("p1")
        others = [self.start(f"q{n}") for n in range(20)]
        self.threads.work()
        self.successResultOf(first)
        for other in others:
            self.assertNoResult(other)
        self.threads.work()
        self.assertEqual([self.successResultOf(each) for each in others], list(range(98, 78, -1)))
        self.assertEqual(self.commits(), 2)

    def test_one_refused_does_not_take_its_neighbours_along(self) -> None:
        first = self.start("p1", limit=3)
        others = [self.start(f"q{n}", limit=3) for n in range(4)]
        self.threads.work()
        self.threads.work()
        self.successResultOf(first)
        self.assertEqual([self.successResultOf(each) for each in others[:2]], [1, 0])
        for other in others[2:]:
            self.failureResultOf(other, QuotaUsedUp)

    def test_one_that_breaks_does_not_take_its_neighbours_along(self) -> None:
        first = self.start("p1")
        good, twin = self.start("p2"), self.start("p1")  # an id twice: SQLite refuses
        self.threads.work()
        self.threads.work()
        self.successResultOf(first)
        self.assertEqual(self.successResultOf(good), 98)
        self.failureResultOf(twin, JournalUnavailable)

    def test_a_bug_in_one_is_its_own(self) -> None:
        first = self.start("p1")
        good = self.start("p2")
        broken = self.journal._write(lambda _db: 1 / 0)
        self.threads.work()
        self.threads.work()
        self.successResultOf(first)
        self.successResultOf(good)
        self.failureResultOf(broken, ZeroDivisionError)

    def test_close_waits_for_what_was_asked_for(self) -> None:
        accepted = self.start("p1")
        closed = self.journal.close()
        self.failureResultOf(self.start("p2"), JournalUnavailable)
        self.assertNoResult(closed)
        self.threads.work()
        self.successResultOf(accepted)
        self.threads.work()
        self.successResultOf(closed)
        self.journal = self.open()
        self.assertIsNotNone(self.record("p1"))


class BusyTests(JournalTestCase):
    """Another process writes."""

    def setUp(self) -> None:
        super().setUp()
        self.shut(self.opened)
        self.threads = Threads()
        self.journal = self.open(self.threads.defer)
        self.waited = 0.0
        self.journal._transactor.monotonic = lambda: self.waited
        self.journal._transactor.sleep = self.wait
        self.opened.connection.execute("PRAGMA busy_timeout = 0")
        self.other = sqlite3.connect(self.path, isolation_level=None)
        self.addCleanup(self.other.close)
        self.other.execute("BEGIN IMMEDIATE")
        self.ends_after = float("inf")

    def wait(self, seconds: float) -> None:
        self.waited += seconds
        if self.waited >= self.ends_after:
            self.ends_after = float("inf")
            self.other.execute("COMMIT")

    def test_is_waited_for_once_however_many_ask(self) -> None:
        accepted = [self.admit(prompt(f"p{n}")) for n in range(6)]
        self.threads.work()
        self.threads.work()
        for each in accepted:
            self.failureResultOf(each, JournalUnavailable)
        self.assertAlmostEqual(self.waited, PATIENCE + PATIENCE_LEFT, places=1)

    def test_one_that_ends_soon_delays_only(self) -> None:
        self.ends_after = 0.9 * PATIENCE
        accepted = self.admit(prompt())
        self.threads.work()
        self.successResultOf(accepted)

    def test_those_who_read_get_on_once_it_was_waited_for_in_vain(self) -> None:
        first = self.admit(prompt("p1"))
        self.threads.work()
        self.failureResultOf(first, JournalUnavailable)
        before = self.waited
        second, read = self.admit(prompt("p2")), self.journal.tally(DAY.date)
        self.threads.work()
        self.threads.work()
        self.failureResultOf(second, JournalUnavailable)
        self.assertEqual(self.successResultOf(read).used, 0)
        self.assertLess(self.waited - before, 2 * PATIENCE_LEFT)
        self.other.execute("COMMIT")
        third = self.admit(prompt("p3"))
        self.threads.work()
        self.successResultOf(third)


EMPTY = ["BEGIN IMMEDIATE", "UPDATE probes SET count = count + 1", "COMMIT"]


class Disk:
    """A connection on a disk that may be full; all else is the real one's."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.full = False
        self.statements: list[str] = []

    def execute(self, sql: str, *args: Any) -> Any:
        if not sql.startswith("PRAGMA"):
            self.statements.append(sql)
        if self.full and sql == "COMMIT":
            raise sqlite3.OperationalError("database or disk is full")
        return self._connection.execute(sql, *args)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


class FaultTests(JournalTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.disk = Disk(self.opened.connection)
        object.__setattr__(self.opened, "connection", self.disk)

    def test_a_full_disk_refuses_and_heals(self) -> None:
        self.accept(prompt("p1"))
        self.disk.full = True
        refusal = self.failureResultOf(self.admit(prompt("p2"), 100, 1000), JournalUnavailable)
        self.assertEqual(refusal.value.reason, "database or disk is full")
        self.assertEqual(self.journal.fault, "database or disk is full")
        self.assertIsNotNone(self.record("p1"))  # what is there can still be read
        self.assertIsNone(self.record("p2"))
        self.assertEqual(self.used(), 1)
        self.failureResultOf(self.journal.probe(), JournalUnavailable)
        self.disk.full = False
        self.successResultOf(self.journal.probe())
        self.assertIsNone(self.journal.fault)
        self.accept(prompt("p2"))

    def test_a_failed_commit_is_written_over_before_it_is_told(self) -> None:
        """Its frames may be whole in the log, and a crash would bring them to life."""
        self.disk.full = True
        seen: list[list[str]] = []
        self.admit(prompt("p1")).addErrback(lambda _: seen.append(list(self.disk.statements)))
        self.assertEqual(seen[0][-4:], [*EMPTY, "ROLLBACK"])

    def test_nothing_else_is_written_before_that_is_done(self) -> None:
        self.disk.full = True
        self.failureResultOf(self.admit(prompt("p1")), JournalUnavailable)
        self.disk.statements.clear()
        self.failureResultOf(self.admit(prompt("p2")), JournalUnavailable)
        self.assertEqual(self.disk.statements, [*EMPTY, "ROLLBACK"])
        self.disk.full = False
        self.disk.statements.clear()
        self.accept(prompt("p3"))
        self.assertEqual(self.disk.statements[:4], [*EMPTY, "BEGIN IMMEDIATE"])
        self.disk.statements.clear()
        self.accept(prompt("p4"))
        self.assertNotIn(EMPTY[1], self.disk.statements)

    def test_a_refusal_is_no_fault(self) -> None:
        self.failureResultOf(self.admit(prompt(), 0, 1000), QuotaUsedUp)
        self.assertIsNone(self.journal.fault)


class FileTests(JournalTestCase):
    def message(self) -> str:
        return str(self.assertRaises(JournalError, check_journal, self.path))

    def assert_one_line(self, message: str) -> None:
        self.assertIn(str(self.path), message)
        self.assertNotIn("\n", message)

    def in_use(self, path: Path) -> None:
        message = str(self.assertRaises(JournalInUse, open_journal, path))
        self.assert_one_line(message)
        self.assertIn("another daemon", message)

    def test_one_daemon_a_journal(self) -> None:
        self.in_use(self.path)

    def test_one_that_is_in_use_may_be_ours_later(self) -> None:
        check_journal(self.path)
        self.opened.connection.execute(f"PRAGMA user_version = {VERSION + 1}")
        self.assertIn("newer", self.message())

    def test_a_link_admits_no_second_daemon(self) -> None:
        link = self.path.with_name(f"{self.path.name}-link")
        link.symlink_to(self.path.absolute())
        self.in_use(link)

    def test_links_in_a_circle(self) -> None:
        self.path = self.path.with_name(f"{self.path.name}-circle")
        self.path.symlink_to(self.path.absolute())
        self.assert_one_line(self.message())

    def test_no_file_with_two_names(self) -> None:
        other = self.path.with_name(f"{self.path.name}-other")
        os.link(self.path, other)
        for refuse in (open_journal, open_beside, lambda path: look(path, "2027-01-15", NOON)):
            message = str(self.assertRaises(JournalError, refuse, other))
            self.assertIn("hard links", message)
            self.assertNotIn("\n", message)

    def test_no_file_that_is_none(self) -> None:
        pipe = self.path.with_name(f"{self.path.name}-pipe")
        os.mkfifo(pipe)
        for path, kind in ((pipe, "a pipe"), (Path("/dev/null"), "a device")):
            for refuse in (open_journal, open_beside, lambda path: look(path, "d", NOON)):
                self.assertIn(kind, str(self.assertRaises(JournalError, refuse, path)))
            self.assertFalse(Path(f"{path}.lock").exists())

    def test_free_once_closed(self) -> None:
        self.successResultOf(self.journal.close())
        check_journal(self.path)
        check_journal(self.path)

    def test_not_a_database(self) -> None:
        self.shut(self.opened)
        junk = b"this is no journal at all, but somebody's notes" * 100
        self.path.write_bytes(junk)
        self.assert_one_line(self.message())
        self.assertEqual(self.path.read_bytes(), junk)

    def test_another_programs_database(self) -> None:
        self.shut(self.opened)
        self.path.unlink()
        other = sqlite3.connect(self.path)
        other.execute("CREATE TABLE songs (title)")
        other.close()
        self.assertIn("another program's", self.message())

    def test_a_newer_schema(self) -> None:
        self.opened.connection.execute(f"PRAGMA user_version = {VERSION + 1}")
        self.shut(self.opened)
        message = self.message()
        self.assert_one_line(message)
        self.assertIn("newer", message)

    def test_no_such_folder(self) -> None:
        self.path = self.path.with_name("nowhere") / "journal"
        message = self.message()
        self.assert_one_line(message)
        self.assertIn("create its folder", message)

    def test_a_folder(self) -> None:
        self.shut(self.opened)
        self.path.unlink()
        self.path.mkdir()
        self.assert_one_line(self.message())

    def test_nothing_is_left_open(self) -> None:
        self.successResultOf(self.journal.close())
        before = open_files()
        check_journal(self.path)
        self.assertEqual(open_files(), before)


class LossTests(JournalTestCase):
    """What is written to a file that nobody will find again is refused."""

    def setUp(self) -> None:
        super().setUp()
        self.journal.recover(100, "UTC")
        self.away = self.path.with_name(f"{self.path.name}-away")

    def refused(self, word: str) -> None:
        failure = self.failureResultOf(self.admit(prompt("p2")), JournalUnavailable)
        self.assertIn(word, failure.value.reason)
        self.assertIn(word, self.journal.fault)
        self.flushLoggedErrors()

    def test_removed_and_put_back(self) -> None:
        self.path.rename(self.away)
        self.refused("removed")
        self.away.rename(self.path)
        self.accept(prompt("p3"))
        self.assertIsNone(self.journal.fault)

    def test_replaced(self) -> None:
        self.away.touch()
        self.away.replace(self.path)
        self.refused("replaced")

    def test_a_second_name(self) -> None:
        os.link(self.path, self.away)
        self.refused("hard link")

    def test_found_out_where_nobody_writes(self) -> None:
        self.path.rename(self.away)
        self.clock.advance(WATCH_EVERY)
        self.assertIn("removed", self.journal.fault)
        self.away.rename(self.path)
        self.clock.advance(WATCH_EVERY)
        self.assertIsNone(self.journal.fault)

    def test_nobody_looks_once_it_is_closed(self) -> None:
        self.successResultOf(self.journal.close())
        self.assertEqual(self.clock.getDelayedCalls(), [])


class FailingTests(JournalTestCase):
    def failing(self) -> list[State]:
        self.shut(self.opened)
        self.journal = self.open()
        return list(self.journal.recover(100, "UTC"))

    def test_states_whose_last_attempt_failed(self) -> None:
        self.accept(prompt())
        self.assertEqual(self.failing(), [])
        self.asks()
        self.assertEqual(self.failing(), [])  # a crash is no failure of the model's
        self.successResultOf(self.journal.postpone("p1", NOON + 9, "the model answered 429"))
        self.assertEqual(self.failing(), [State.ACCEPTED])
        self.answer()
        self.assertEqual(self.failing(), [])
        self.deliveries()
        self.successResultOf(self.journal.postpone("p1", NOON + 9, "the target answered 410"))
        self.assertEqual(self.failing(), [State.ANSWERED])
        self.successResultOf(self.journal.failed("p1", NOON, "x", give_back=False))
        self.assertEqual(self.failing(), [])


class BilledTests(JournalTestCase):
    """A unit comes back only if no call of its prompt can have been billed."""

    def end(self) -> int:
        """Units spent once the prompt has failed for a reason that costs nothing."""
        self.successResultOf(self.journal.failed("p1", NOON, "x", give_back=True))
        return self.used()

    def postpone(self, *, maybe_billed: bool) -> None:
        self.successResultOf(self.journal.postpone("p1", NOON, "why", maybe_billed=maybe_billed))

    def test_none(self) -> None:
        self.accept(prompt())
        for _ in range(2):
            self.asks()
            self.postpone(maybe_billed=False)
        self.crash()  # while none is under way
        self.asks()
        self.assertEqual(self.end(), 0)

    def test_one_among_others(self) -> None:
        self.accept(prompt())
        for maybe_billed in (False, True, False):
            self.asks()
            self.postpone(maybe_billed=maybe_billed)
        self.crash()
        self.asks()
        self.assertEqual(self.end(), 1)

    def test_one_that_was_under_way(self) -> None:
        self.accept(prompt())
        self.asks()
        self.crash()
        self.asks()
        self.assertEqual(self.end(), 1)


class HeldTests(JournalTestCase):
    """When a call first met a hold: of the kind of call that a prompt waits for."""

    def hold(self, at: float) -> None:
        self.successResultOf(self.journal.postpone("p1", NOON, "why", held=at))

    def test_the_first_counts(self) -> None:
        self.accept(prompt())
        for expected in (None, 1.0, 1.0):
            (ask,) = self.asks().claimed
            self.assertEqual(ask.held, expected)
            self.hold(2.0 if expected else 1.0)

    def test_asking_and_delivering_are_two_things(self) -> None:
        self.accept(prompt())
        self.asks()
        self.hold(1.0)
        self.answer()
        for expected in (None, 2.0):
            (delivery,) = self.deliveries().claimed
            self.assertEqual(delivery.held, expected)
            self.hold(2.0)

    def test_so_is_the_dead_letter(self) -> None:
        self.accept(prompt())
        self.asks()
        self.hold(1.0)
        self.successResultOf(self.journal.failed("p1", NOON, "x", give_back=True, letter=b"l"))
        for expected in (None, 2.0):
            (letter,) = self.successResultOf(self.journal.claim_letters(NOON, 9)).claimed
            self.assertEqual(letter.held, expected)
            self.successResultOf(self.journal.letter_ended("p1", NOON, NOON, held=2.0))


class TraceTests(JournalTestCase):
    def test_survives_a_crash(self) -> None:
        for trace in (None, Trace("00-a-b-01"), Trace("00-a-b-01", "x=1")):
            self.accept(attrs.evolve(prompt(f"{trace!s}{trace and trace.state}"), trace=trace))
        self.crash()
        claimed = self.asks().claimed
        traces = [ask.prompt.trace for ask in claimed]
        self.assertEqual(traces, [None, Trace("00-a-b-01"), Trace("00-a-b-01", "x=1")])
        for ask in claimed:
            self.answer(ask.prompt.id)
        self.crash()
        self.assertEqual([each.trace for each in self.deliveries().claimed], traces)
        self.assertEqual(self.deliveries().claimed, [])

    def test_goes_with_the_dead_letter(self) -> None:
        self.accept(attrs.evolve(prompt(), trace=Trace("00-a-b-01", "x=1")))
        self.successResultOf(self.journal.failed("p1", NOON, "x", give_back=True, letter=b"l"))
        (letter,) = self.successResultOf(self.journal.claim_letters(NOON, 9)).claimed
        self.assertEqual(letter.trace, Trace("00-a-b-01", "x=1"))

    def test_request_id_goes_with_the_delivery(self) -> None:
        self.accept(prompt())
        self.answer()
        self.assertEqual(self.deliveries().claimed[0].request_id, "req-1")


def open_files() -> set[str]:
    """This process's descriptors, where the system tells; the empty set elsewhere."""
    fds = Path("/proc/self/fd")
    return {fd.name for fd in fds.iterdir()} if fds.is_dir() else set()
