"""The SQLite journal: held to what `Journal` promises, and what is its own."""

import contextlib
import os
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.errors import (
    JournalError,
    JournalInUse,
    JournalUnavailable,
    QuotaUsedUp,
)
from chatgpt_source.journal import Answered, Delivered, PeerState, sqlite
from chatgpt_source.journal.sqlite import (
    OpenJournal,
    SqliteJournal,
    check_journal,
    file,
    open_beside,
    open_journal,
    records,
    transact,
)
from chatgpt_source.journal.sqlite.background import WATCH_EVERY
from chatgpt_source.journal.sqlite.look import look
from chatgpt_source.journal.sqlite.operator import purge
from chatgpt_source.journal.sqlite.rows import MOST_CLAIMED
from chatgpt_source.journal.sqlite.schema import VERSION
from chatgpt_source.journal.sqlite.transact import PATIENCE, PATIENCE_LEFT
from chatgpt_source.journal.sqlite.upkeep import PRUNE_STEP
from chatgpt_source.prompt import State
from chatgpt_source.quota import Day
from chatgpt_source.tiers import Tiers
from tests.contracts.driver import TO
from tests.contracts.engine import EngineContract
from tests.journal.common import ANSWER, DAY, NOON, PEERS, JournalTestCase, Threads, at_once, prompt


class ContractTests(
    EngineContract,
    SynchronousTestCase,
):
    def open_journal(self) -> SqliteJournal:
        if not hasattr(self, "path"):
            self.path = Path(self.mktemp())
        return self.opened_by(open_journal)

    def open_second(self) -> SqliteJournal:
        """As two daemons would, if no lock kept them from it."""
        return self.opened_by(open_beside)

    def opened_by(self, opening: Callable[[Path], OpenJournal]) -> SqliteJournal:
        opened = opening(self.path)
        self.addCleanup(shut, opened)
        return SqliteJournal(opened, self.clock, at_once)

    def abandon(self, journal: Any) -> None:
        shut(journal._opened)


def shut(opened: OpenJournal) -> None:
    with contextlib.suppress(OSError):  # it is closed already
        opened.close()


class FailureTests(JournalTestCase):
    """Failures are grouped and found by one index, which has all that is read of a group."""

    def plan_of(self, run: Any) -> list[str]:
        """How SQLite reads prompts for a call."""
        sent: list[str] = []
        db = self.opened.connection
        db.set_trace_callback(sent.append)
        found = self.successResultOf(run())
        self.assertTrue(found)
        db.set_trace_callback(None)
        rows = db.execute(f"EXPLAIN QUERY PLAN {next(each for each in sent if 'failed' in each)}")
        return [row[3] for row in rows if "prompts" in row[3]]

    def test_by_their_index(self) -> None:
        self.accept(prompt())
        self.fail_it()
        plan = self.plan_of(lambda: self.journal.failure_groups(10))
        self.assertEqual(len(plan), 3)
        for step in plan:
            self.assertRegex(step, "SEARCH prompts USING (COVERING )?INDEX failures_by_reason")
        plan = self.plan_of(lambda: self.journal.latest(None, None, 10, "why"))
        self.assertIn("failures_by_reason (<expr>=? AND seq<?)", plan[1], plan)

    def test_no_prompt_is_read_for_a_group(self) -> None:
        """SQLite before 3.41 does not call that index covering, and yet reads nothing else."""
        self.accept(*(prompt(f"p{n}") for n in range(3)))
        for n in range(3):
            self.fail_it(f"p{n}", "why: code")
        rows = self.opened.connection.execute(f"EXPLAIN {records._GROUPS}", (10,)).fetchall()
        table = {row[2] for row in rows if row[1] == "OpenRead" and row[3] == self.root("prompts")}
        self.assertEqual([row for row in rows if row[1] == "Column" and row[2] in table], [])

    def root(self, name: str) -> int:
        found = "SELECT rootpage FROM sqlite_master WHERE name = ?"
        return int(self.opened.connection.execute(found, (name,)).fetchone()[0])


class SizeTests(JournalTestCase):
    def test_long_texts_a_few_at_a_time(self) -> None:
        self.accept(*(prompt(f"p{n}", "x" * (MOST_CLAIMED // 2)) for n in range(3)))
        self.accept(prompt("p3", "x" * 2 * MOST_CLAIMED), prompt("p4"))
        claims = [self.asks() for _ in range(4)]
        told = [[ask.prompt.id for ask in each.claimed] for each in claims]
        self.assertEqual(told, [["p0", "p1"], ["p2", "p3"], ["p4"], []])
        self.assertEqual([each.next_due for each in claims], [NOON, NOON, None, None])


class OwnerTests(JournalTestCase):
    def owners(self) -> list[tuple[int]]:
        return self.opened.connection.execute("SELECT id FROM owners").fetchall()

    def test_each_run_is_one_of_its_own(self) -> None:
        (first,) = self.owners()
        self.crash()
        (second,) = self.owners()
        self.assertGreater(second, first)
        self.assertEqual((self.journal.owner,), second)

    def test_no_operator_is_one(self) -> None:
        beside = SqliteJournal(open_beside(self.path), self.clock, at_once)
        self.assertRaises(RuntimeError, beside.claim_asks, NOON, 1)
        self.assertIsNone(beside.owner)
        self.successResultOf(beside.close())

    def test_the_settings_of_a_peer_are_in_no_file(self) -> None:
        self.successResultOf(self.journal.remember("model", PeerState()))
        self.successResultOf(self.journal.close())
        self.assertNotIn(PEERS["model"].encode(), self.path.read_bytes())


class RecoveryTests(JournalTestCase):
    """A start takes up a little at once, and much in the journal's thread."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(transact, "OFTEN", 1)
        self.patch(sqlite, "BRIEFLY", 60.0)
        self.accept(prompt("p1"))
        self.asks()
        self.shut(self.opened)
        self.opened = open_journal(self.path)
        self.addCleanup(self.shut, self.opened)
        self.threads = Threads(self.clock)
        self.journal = SqliteJournal(self.opened, self.clock, self.threads.defer)

    def begin(self) -> Any:
        return self.journal.recover(100, "UTC", PEERS, 60.0)

    def owners(self) -> int:
        (owners,) = self.opened.connection.execute("SELECT count(*) FROM prompts WHERE owner > 0")
        return int(owners[0])

    def test_a_little_at_once(self) -> None:
        self.successResultOf(self.begin())
        self.assertEqual((self.owners(), self.threads.waiting), (0, []))

    def test_much_in_the_thread(self) -> None:
        self.patch(sqlite, "BRIEFLY", -1.0)
        recovering = self.begin()
        self.assertNoResult(recovering)
        self.assertEqual(self.owners(), 1)  # nothing was changed
        self.assertFalse(self.opened.connection.in_transaction)
        self.threads.work()
        self.successResultOf(recovering)
        self.assertEqual(self.owners(), 0)

    def test_another_process_is_waited_for_in_the_thread(self) -> None:
        with closing(sqlite3.connect(self.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            recovering = self.begin()
        self.assertNoResult(recovering)
        self.threads.work()
        self.successResultOf(recovering)

    def test_a_failure_in_the_thread(self) -> None:
        self.journal = SqliteJournal(self.opened, self.clock, maybeDeferred)
        self.journal._transactor.patience = 0.0
        with closing(sqlite3.connect(self.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            error = self.failureResultOf(self.begin(), JournalError).value
        self.assertIn("can't be written: database is locked", str(error))

    def test_the_file_is_closed_in_the_thread(self) -> None:
        self.successResultOf(self.begin())
        closing = self.journal.close()
        self.assertNoResult(closing)
        self.assertRaises(JournalInUse, open_journal, self.path)
        self.threads.work()
        self.successResultOf(closing)
        open_journal(self.path).close()


class PlanTests(JournalTestCase):
    """What runs often finds its rows by an index, whatever else is in the journal."""

    def plans(self) -> list[str]:
        db = self.opened.connection
        statements: list[str] = []
        db.set_trace_callback(statements.append)
        self.accept(prompt("p1"), prompt("p2"), prompt("p3"))
        self.asks()
        self.answer("p1", claim=True)
        self.deliver("p1")
        self.answer("p2")
        self.deliveries()
        self.postpone("p2")
        self.fail_it("p3", dead_letter=b"l")
        self.dead_letters()
        for state in State:
            self.successResultOf(self.journal.latest(state, None, 1))
        self.successResultOf(self.journal.tally(DAY.date))
        self.successResultOf(self.journal.tally_tiers())
        self.successResultOf(self.journal.move_up(NOON, Tiers(3600.0, 7200.0)))
        self.successResultOf(self.journal.claim_expired(NOON, 5))
        self.successResultOf(self.journal.claim_leftovers(NOON, 5))
        self.successResultOf(self.journal.redrive("p3"))
        self.recover(SqliteJournal(self.opened, self.clock, at_once))
        db.set_trace_callback(None)
        kinds = ("SELECT", "UPDATE", "DELETE", "INSERT")
        return [
            f"{row[3]}: {statement}"
            for statement in statements
            if statement.startswith(kinds)
            for row in db.execute(f"EXPLAIN QUERY PLAN {statement}")
        ]

    def test_none_looks_at_all_prompts(self) -> None:
        plans = self.plans()
        for step in (
            "INDEX to_ask (owner=? AND tier=? AND due<?)",
            "INDEX to_ask (owner>?)",
            "INDEX to_deliver (destination=? AND due<?)",
            "INDEX failures",
            "INDEX waiting (seq<?)",
            "INDEX finished (state=? AND seq<?)",
            "INDEX put_off",
            "INDEX claimed (owner>?)",
            "INDEX tried (destination=?)",
            "INDEX to_expire (ends>? AND ends<?)",
            "INDEX to_give_up (owner=? AND ends>? AND ends<?)",
            "INDEX to_tidy_up (due<?)",
            "INDEX to_move_up (tier=? AND deadline<?)",
            "INDEX in_batch (batch=?)",
        ):
            self.assertTrue(any(step in plan for plan in plans), (step, "\n".join(plans)))
        bad = [plan for plan in plans if re.match(r"SCAN (prompts|texts|outbox)( AS \w+)?:", plan)]
        self.assertEqual(bad, [])


class StateTests(JournalTestCase):
    def test_the_table_takes_each_state_and_no_other(self) -> None:
        db = self.opened.connection
        self.accept(prompt())
        for state in State:
            db.execute("UPDATE prompts SET state = ?", (state.value,))
        self.assertRaises(
            sqlite3.IntegrityError, db.execute, "UPDATE prompts SET state = 'elsewhere'"
        )
        self.assertEqual({name for (name,) in db.execute("SELECT state FROM counts")}, set(State))


class DetailTests(JournalTestCase):
    def test_purged_meanwhile(self) -> None:
        self.accept(prompt())
        self.fail_it("p1")
        read = records.record

        def record_and_purge(db: sqlite3.Connection, *given: Any) -> Any:
            found = read(db, *given)
            with closing(sqlite3.connect(self.path)) as other:  # the journal command's process
                purge(other, "p1")
                other.commit()
            return found

        self.patch(records, "record", record_and_purge)
        self.assertIsNone(self.successResultOf(self.journal.detail("p1")))


class PruneTests(JournalTestCase):
    def test_in_small_steps(self) -> None:
        many = 2 * PRUNE_STEP + 1
        self.accept(*(prompt(f"p{n}") for n in range(many)), limit=many, max_backlog=many)
        for n in range(many):
            self.fail_it(f"p{n}")
        threads = Threads(self.clock)
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

    def test_keeps_the_count_of_every_day(self) -> None:
        days = [str(date(2027, 1, 1) + timedelta(days=n)) for n in range(500)]
        for day in days:
            admitted = self.admit(prompt(day), 1, day=Day(day, NOON, NOON * 2))
            self.successResultOf(admitted)
        self.successResultOf(self.journal.prune(NOON * 2))
        self.assertEqual({self.used(day) for day in days}, {1})


class GroupTests(JournalTestCase):
    """Many operations, one commit."""

    def setUp(self) -> None:
        super().setUp()
        self.open_in_threads()

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

    def test_a_bug_after_a_write_is_its_own(self) -> None:
        def half(db: sqlite3.Connection) -> None:
            db.execute("INSERT INTO days VALUES ('half', 1)")
            raise ZeroDivisionError

        first = self.start("p1")
        before, broken, after = self.start("p2"), self.journal._write(half), self.start("p3")
        self.threads.work()
        self.threads.work()
        self.successResultOf(first)
        self.assertEqual([self.successResultOf(each) for each in (before, after)], [98, 97])
        self.failureResultOf(broken, ZeroDivisionError)
        db = self.journal._opened.connection
        self.assertEqual(db.execute("SELECT sum(used) FROM days").fetchone(), (3,))

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
        self.threads = Threads(self.clock)
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

    def test_found_out_by_the_minutes_work_where_nobody_writes(self) -> None:
        self.disk.full = True
        self.failureResultOf(self.journal.prune(0), JournalUnavailable)
        self.assertEqual(self.journal.fault, "database or disk is full")

    def test_a_refusal_is_no_fault(self) -> None:
        self.failureResultOf(self.admit(prompt(), 0, 1000), QuotaUsedUp)
        self.assertIsNone(self.journal.fault)


class FileTests(JournalTestCase):
    def message(self) -> str:
        by_reading, by_writing = (
            str(self.assertRaises(JournalError, check_journal, self.path, by_writing=writes))
            for writes in (False, True)
        )
        self.assertEqual(by_reading, by_writing)
        return by_writing

    def assert_one_line(self, message: str) -> None:
        self.assertIn(str(self.path), message)
        self.assertNotIn("\n", message)

    def in_use(self, path: Path) -> None:
        message = str(self.assertRaises(JournalInUse, open_journal, path))
        self.assert_one_line(message)
        self.assertIn("another daemon", message)

    def test_a_python_with_an_old_sqlite(self) -> None:
        self.shut(self.opened)
        self.patch(sqlite3, "sqlite_version_info", (3, 34, 1))
        self.patch(sqlite3, "sqlite_version", "3.34.1")
        for path in (self.path, self.path.with_name("new")):
            for use in (check_journal, lambda each: look(each, DAY.date, NOON)):
                message = str(self.assertRaises(JournalError, use, path))
                self.assertIn(f"/{path.name} can't be used by this Python", message)
                self.assertIn("SQLite is 3.34.1, and must be 3.35 or newer", message)
        self.assertFalse(path.exists())

    def test_one_daemon_a_journal(self) -> None:
        self.in_use(self.path)

    def test_one_that_is_in_use_may_be_ours_later(self) -> None:
        check_journal(self.path)
        self.opened.connection.execute(f"PRAGMA user_version = {VERSION + 1}")
        self.assertIn("newer", self.message())

    def test_a_log_that_vanishes_leaves_nothing_open(self) -> None:
        made: list[sqlite3.Connection] = []

        def connect(path: Path, begin: Any) -> sqlite3.Connection:
            made.append(connection := make(path, begin))
            Path(f"{path}-wal").unlink()
            return connection

        make = file._connect
        self.patch(file, "_connect", connect)
        path = self.path.with_name(f"{self.path.name}-other")
        self.assertIn("can't be written", str(self.assertRaises(JournalError, open_journal, path)))
        self.assertRaises(sqlite3.ProgrammingError, made[0].execute, "SELECT 1")
        self.patch(file, "_connect", make)
        open_journal(path).close()

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
        for writes in (False, True):
            check_journal(self.path, by_writing=writes)
        self.assertEqual(open_files(), before)

    def test_what_is_found_by_writing_alone(self) -> None:
        self.opened.connection.execute("DROP TABLE probes")
        self.shut(self.opened)
        content = self.path.read_bytes()
        check_journal(self.path, by_writing=False)
        self.assertEqual(self.path.read_bytes(), content)
        message = str(self.assertRaises(JournalError, check_journal, self.path))
        self.assertIn("no such table: probes", message)

    def test_a_new_one_is_made_by_writing_alone(self) -> None:
        path = self.path.with_name(f"{self.path.name}-new")
        check_journal(path, by_writing=False)
        self.assertEqual(path.stat().st_size, 0)
        check_journal(path)
        self.assertGreater(path.stat().st_size, 0)


class LossTests(JournalTestCase):
    """What is written to a file that nobody will find again is refused."""

    def setUp(self) -> None:
        super().setUp()
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

    def test_removed_until_the_end(self) -> None:
        self.accept(prompt())
        self.path.unlink()
        self.successResultOf(self.journal.close())
        self.assertRaises(sqlite3.ProgrammingError, self.opened.connection.execute, "SELECT 1")

    def test_an_end_that_was_refused_at_its_commit_can_be_repeated(self) -> None:
        self.accept(prompt())
        (ask,) = self.asks().claimed
        self.lose_before_the_next_commit()
        outcome = Answered(ANSWER, b"e")
        lost = self.journal.ask_ended(ask, outcome, NOON, claim=True)
        self.failureResultOf(lost, JournalUnavailable)
        ended = self.end(ask, outcome, claim=True)
        self.assertEqual((ended.kept, ended.delivery.event), (True, b"e"))
        self.assertFalse(self.end(ask, outcome).kept)
        self.lose_before_the_next_commit()
        lost = self.journal.delivery_ended(ended.delivery, Delivered(), NOON)
        self.failureResultOf(lost, JournalUnavailable)
        self.assertTrue(self.end(ended.delivery, Delivered()).kept)
        self.assertEqual((self.record().state, self.record().deliveries), (State.DELIVERED, 1))

    def test_a_claim_that_was_refused_at_its_commit_claims_nothing(self) -> None:
        self.accept(prompt("p1"), prompt("p2"))
        self.lose_before_the_next_commit()
        self.failureResultOf(self.journal.claim_asks(NOON, 1), JournalUnavailable)
        self.assertEqual(self.record("p1").asks, 0)
        self.assertEqual(
            [(ask.prompt.id, ask.attempt) for ask in self.asks().claimed], [("p1", 1), ("p2", 1)]
        )
        self.answer("p1")
        self.lose_before_the_next_commit()
        self.failureResultOf(self.journal.claim_deliveries(TO, NOON, 1), JournalUnavailable)
        self.assertEqual([each.attempt for each in self.deliveries().claimed], [1])
        self.assertEqual(list(self.asks().claimed), [])

    def test_an_acceptance_that_was_refused_at_its_commit_accepts_nothing(self) -> None:
        self.lose_before_the_next_commit()
        self.failureResultOf(self.admit(prompt(), claim=True), JournalUnavailable)
        self.assertEqual((self.record(), self.used()), (None, 0))
        self.accept(prompt())

    def lose_before_the_next_commit(self) -> None:
        losses = iter([None, "its file was removed"])
        self.patch(OpenJournal, "loss", lambda _: next(losses, None))

    def test_replaced(self) -> None:
        self.away.touch()
        self.away.replace(self.path)
        self.refused("replaced")

    def test_its_log_removed(self) -> None:
        self.accept(prompt("p1"))
        Path(f"{self.path}-wal").unlink()
        self.refused("-wal")
        # What was in it is in the file, so that not even a crash takes it along.
        uri = f"{self.path.absolute().as_uri()}?mode=ro&immutable=1"
        with closing(sqlite3.connect(uri, uri=True)) as db:
            self.assertEqual(db.execute("SELECT id FROM prompts").fetchall(), [("p1",)])
        self.shut(self.opened)
        self.journal = self.open()
        self.accept(prompt("p3"))

    def test_nobody_opens_the_file_that_replaced_it(self) -> None:
        self.accept(prompt("p1"))
        self.path.rename(self.away)
        self.path.write_bytes(self.away.read_bytes())
        content = self.path.read_bytes()
        for refuse in (open_beside, lambda path: look(path, "2027-01-15", NOON)):
            message = str(self.assertRaises(JournalInUse, refuse, self.path))
            self.assertIn("replaced", message)
        check_journal(self.path)
        self.assertEqual(self.path.read_bytes(), content)
        self.away.replace(self.path)
        self.accept(prompt("p3"))

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


def open_files() -> set[str]:
    """This process's descriptors, where the system tells; the empty set elsewhere."""
    fds = Path("/proc/self/fd")
    return {fd.name for fd in fds.iterdir()} if fds.is_dir() else set()
