"""Faults of the database: lost commits, restarts, locks, standbys, foreign tables."""

import contextlib
import itertools
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event
from typing import Any

import attrs
from twisted.internet import reactor
from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.errors import JournalError, JournalUnavailable
from chatgpt_source.journal import (
    Answered,
    Delivered,
    Key,
    Submission,
    Terms,
)
from chatgpt_source.journal.group_commit import Operation
from chatgpt_source.prompt import State
from tests.contracts.driver import JournalDriver
from tests.journal.common import ANSWER, DAY, NOON, PEERS, Threads, at_once, prompt
from tests.journal.postgres_server import ask, begin, server

with contextlib.suppress(ImportError):  # the tests are skipped then: `server` says why
    import psycopg

    from chatgpt_source.journal.postgres import (
        PostgresJournal,
        open_journal,
        recovery,
    )
    from chatgpt_source.journal.postgres.accept import Accept
    from chatgpt_source.journal.postgres.connect import Database, Patient, Trouble
    from chatgpt_source.journal.postgres.engine import PostgresEngine
    from chatgpt_source.journal.postgres.runner import AGAIN_EVERY
    from chatgpt_source.journal.postgres.transact import LONGEST_DELAY, of_bounded_size

from tests.journal.postgres_case import LastWords, LostCommit, Opening, PostgresTestCase

TERMS = Terms(DAY, 100, 100)


class FaultTests(PostgresTestCase):
    def lose_commit(self, *, arrives: bool) -> None:
        session = self.journal._session
        session.connection = LostCommit(session.connection, arrives=arrives)

    def test_a_commit_that_arrived_is_not_repeated(self) -> None:
        for n in range(2):
            self.lose_commit(arrives=True)
            self.assertEqual(self.accept(prompt(f"p{n}")), 99 - n)
        self.assertEqual(self.used(), 2)

    def test_a_commit_that_did_not_arrive_fails(self) -> None:
        self.lose_commit(arrives=False)
        self.failureResultOf(self.admit(prompt()), JournalUnavailable)
        self.assertIsNotNone(self.journal.fault)
        self.assertEqual(self.accept(prompt()), 99)
        self.assertIsNone(self.journal.fault)

    def test_a_connection_that_ends_is_left_in_silence(self) -> None:
        session = self.journal._session
        pid = session.connection.info.backend_pid
        with psycopg.connect(server().url, autocommit=True) as other:
            other.execute("SELECT pg_terminate_backend(%s, 10000)", (pid,))
        with self.assertNoLogs("psycopg", "WARNING"):
            for run in (lambda: self.admit(prompt()), lambda: self.journal.ids("p", 10)):
                self.failureResultOf(run(), JournalUnavailable)
                session.connection.close()
                self.successResultOf(self.journal.probe())
                pid = session.connection.info.backend_pid
                with psycopg.connect(server().url, autocommit=True) as other:
                    other.execute("SELECT pg_terminate_backend(%s, 10000)", (pid,))

    def test_a_commit_that_is_lost_at_a_start(self) -> None:
        for arrives in (True, False):
            with self.subTest(arrives=arrives):
                journal = self.open_journal()
                session = journal._session
                session.connection = LostCommit(session.connection, arrives=arrives)
                began = journal.recover(100, "UTC", PEERS, 60.0)
                if arrives:
                    self.successResultOf(began)
                else:
                    self.assertNoResult(began)
                    self.assertIsNone(session.owner)
                    self.clock.advance(AGAIN_EVERY)
                    self.successResultOf(began)
                owners = session.connection.execute(
                    "SELECT count(*) AS n FROM owners WHERE NOT ended"
                )
                self.assertEqual(owners.fetchall(), [{"n": 2}])
                self.successResultOf(journal.probe())
                self.successResultOf(journal.close())

    def test_who_holds_the_day_s_row_is_waited_for_with_a_bound(self) -> None:
        self.accept(prompt("p1"))
        self.journal._session.connection.execute("SET lock_timeout = '100 ms'")
        with psycopg.connect(self.url) as half_open:
            half_open.execute("UPDATE days SET used = used")
            refusal = self.failureResultOf(self.admit(prompt("p2")), JournalUnavailable)
            self.assertIn("LockNotAvailable", refusal.value.reason)
            self.assertEqual(self.journal.fault, refusal.value.reason)
            self.assertEqual(self.asks().claimed[0].prompt.id, "p1")
            half_open.rollback()
        self.assertEqual(self.accept(prompt("p2")), 98)
        self.assertIsNone(self.journal.fault)

    def test_who_holds_it_for_long_is_cut_off(self) -> None:
        half_open = self.open_journal()._session.connection
        half_open.execute("SET idle_in_transaction_session_timeout = '100 ms'")
        self.accept(prompt("p1"))
        half_open.execute("BEGIN; UPDATE days SET used = used")
        self.assertEqual(self.accept(prompt("p2")), 98)

    def test_who_stands_still_with_it_is_cut_off(self) -> None:
        """Between two statements of a pipeline, where no timeout of the server does it."""
        self.accept(prompt("p1"))
        other = self.open_journal()._session.connection
        pipeline = other.pipeline()
        pipeline.__enter__()
        other.execute("BEGIN")
        other.execute("UPDATE days SET used = used")
        connection = self.journal._session.connection
        free = "SELECT day FROM days FOR UPDATE SKIP LOCKED"
        latest = time.monotonic() + 10
        while connection.execute(free).fetchall():
            self.assertLess(time.monotonic(), latest)
        connection.execute("SET lock_timeout = '100 ms'")
        self.failureResultOf(self.admit(prompt("p2")), JournalUnavailable)
        self.patch(recovery, "PATIENCE", 0.0)
        self.assertEqual(self.accept(prompt("p2")), 98)
        self.assertRaises(psycopg.OperationalError, pipeline.__exit__, None, None, None)

    def test_who_waits_for_it_in_vain_keeps_the_lease_and_fails_nothing_else(self) -> None:
        self.accept(prompt("p1"))
        threads = Threads(self.clock)
        journal = self.open_journal(threads.defer)
        begun = journal.recover(100, "UTC", PEERS, 60.0)
        threads.work()
        self.successResultOf(begun)
        connection, owner = journal._session.connection, journal._session.owner
        connection.execute("SET lock_timeout = '100 ms'")
        renewed = "SELECT until FROM owners WHERE id = %s"
        with psycopg.connect(self.url) as half_open:
            half_open.execute("UPDATE days SET used = used")
            for claims in (True, False):
                before = connection.execute(renewed, (owner,)).fetchall()[0]["until"]
                first = journal.ids("p", 1)
                claimed = journal.claim_asks(self.clock.seconds(), 1) if claims else None
                refused = journal.accept([Submission(prompt("p2"))], TERMS)
                while threads.waiting:
                    threads.work()
                self.successResultOf(first)
                failure = self.failureResultOf(refused, JournalUnavailable)
                self.assertIn("LockNotAvailable", failure.value.reason)
                if claimed is not None:
                    (each,) = self.successResultOf(claimed).claimed
                    self.assertEqual(each.prompt.id, "p1")
                after = connection.execute(renewed, (owner,)).fetchall()[0]["until"]
                self.assertGreater(after, before)
            half_open.rollback()

    def test_a_group_that_was_given_up_is_not_committed_later(self) -> None:
        """What was sent on a lost connection may arrive after the next one was asked for it."""
        session = self.journal._session
        session.connection = lost = LostCommit(session.connection, arrives=False)
        self.failureResultOf(self.admit(prompt("p1")), JournalUnavailable)
        _, late = open_journal(Database(self.url))
        self.addCleanup(late.close)

        def arrive() -> None:
            for query, values in lost.sent:
                late.execute(query, values)

        self.assertRaises(psycopg.errors.DivisionByZero, arrive)
        late.execute("ROLLBACK")
        self.assertEqual(self.accept(prompt("p2")), 99)
        self.assertEqual(self.used(), 1)

    def test_a_commit_before_the_end_of_its_session_is_not_repeated(self) -> None:
        """The server's last words come before the end of the connection."""
        session = self.journal._session
        session.connection = real = LastWords(session.connection)
        self.assertEqual(self.accept(prompt("p1")), 99)
        self.assertTrue(real.closed)
        self.assertEqual(self.used(), 1)

    def test_a_restart_of_the_server_loses_nothing(self) -> None:
        self.accept(prompt("p1"))
        (ask,) = self.claimed_by(self.journal)
        transactor = self.journal._transactor
        now = 0.0
        transactor.monotonic = lambda: now
        server().control("stop", "-m", "fast")
        try:
            refusal = self.failureResultOf(self.admit(prompt("p2")), JournalUnavailable)
            again = self.failureResultOf(self.admit(prompt("p2")), JournalUnavailable)
        finally:
            server().start()
        self.assertIn("the database can't be reached", again.value.reason)
        self.assertNotIn("p2", refusal.value.reason)
        now += LONGEST_DELAY
        self.assertEqual(self.accept(prompt("p2")), 98)
        self.assertTrue(self.end(ask, Answered(ANSWER, b"e")).kept)

    def test_a_connection_on_which_nothing_comes_is_given_up(self) -> None:
        """Something between may keep it open for ever, and a server's process may stand still."""
        self.accept(prompt("p1"))
        (ask,) = self.claimed_by(self.journal)
        for run in (self.journal._write, self.journal._read):
            patience = self.patch(Patient, "SILENCE", 0.3)
            silent = run(lambda db: (yield db.execute("SELECT pg_sleep(1)")))
            refusal = self.failureResultOf(silent, JournalUnavailable)
            self.assertEqual(
                refusal.value.reason, "the database can't be reached (nothing came for 0 s)"
            )
            patience.restore()  # a start of a process, and statements, may take longer
            self.assertEqual(self.record("p1").state, State.ACCEPTED)
        # The old process has locked our owner's row for the rest of its second.
        self.assertEqual(self.accept(prompt("p2")), 98)
        self.assertTrue(self.end(ask, Answered(ANSWER, b"e")).kept)

    def test_one_on_which_something_comes_is_not(self) -> None:
        self.patch(Patient, "SILENCE", 1.0)
        rows = "SELECT repeat('x', 1000000), pg_sleep(0.1) FROM generate_series(1, 13)"
        self.successResultOf(self.journal._read(lambda db: (yield db.execute(rows)), None))

    def test_a_start_goes_on_once_the_database_is_there_again(self) -> None:
        opened = open_journal(Database(self.url))
        opened[1].close()
        journal = PostgresJournal(opened, self.clock, at_once, lambda _: self.clock.seconds())
        transactor = journal._transactor
        reconnect = transactor._reconnect
        self.addCleanup(self.shut, journal)

        def fail() -> None:
            raise psycopg.OperationalError("connection failed: it restarts")

        transactor._reconnect = fail
        begun = journal.recover(100, "UTC", PEERS, 60.0)
        self.assertNoResult(begun)
        transactor._reconnect, transactor._next_attempt = reconnect, 0.0
        self.clock.advance(AGAIN_EVERY)
        self.successResultOf(begun)

    def test_a_server_that_takes_no_writes_any_more_is_left(self) -> None:
        connection = self.journal._session.connection
        connection.execute("SET default_transaction_read_only = on")
        refusal = self.failureResultOf(self.admit(prompt()), JournalUnavailable)
        self.assertIn("ReadOnlySqlTransaction", refusal.value.reason)
        self.assertTrue(connection.closed)
        self.assertEqual(self.accept(prompt()), 99)

    def test_it_begins_in_the_journal_s_thread(self) -> None:
        """A database that does not answer must not hold the reactor."""
        opened = open_journal(Database(self.url))
        opened[1].close()
        PostgresJournal(opened, self.clock, at_once)  # asks nothing

    def test_what_may_be_over_soon(self) -> None:
        for error, is_passing in (
            (psycopg.OperationalError("connection failed: refused"), True),
            (psycopg.errors.ReadOnlySqlTransaction(), True),
            (psycopg.errors.IdleInTransactionSessionTimeout(), True),
            (psycopg.errors.DeadlockDetected(), True),
            (psycopg.errors.TooManyConnections(), True),
            (psycopg.errors.LockNotAvailable(), True),
            (psycopg.errors.AdminShutdown(), True),
            (psycopg.errors.InsufficientPrivilege(), False),
            (psycopg.errors.ActiveSqlTransaction(), False),
            (psycopg.InterfaceError("the connection is closed"), False),
            (ZeroDivisionError(), False),
        ):
            with self.subTest(error=error):
                told = Trouble.of(error).error()
                self.assertEqual(told.is_passing, is_passing)

    def test_a_start_that_may_not_write_ends(self) -> None:
        journal = self.open_journal()
        connection = journal._session.connection
        connection.execute("CREATE ROLE rightless")
        self.addCleanup(ask, server(), "DROP ROLE rightless")
        connection.execute("SET ROLE rightless")
        failure = self.failureResultOf(journal.recover(100, "UTC", PEERS, 60.0), JournalError)
        self.assertIn("can't be written: the database refused it", str(failure.value))

    def test_data_that_can_t_be_stored_fails_nothing_else(self) -> None:
        threads = Threads(self.clock)
        journal = self.open_journal(threads.defer)
        terms = Terms(DAY, 100, 100)
        for bad in ("nul \0", "a lone surrogate \ud800"):
            with self.subTest(bad=bad):
                first = journal.probe()
                good, worse, other = (
                    journal.accept([Submission(attrs.evolve(prompt(name), source=source))], terms)
                    for name, source in (
                        (f"good {len(bad)}", "s"),
                        ("bad", bad),
                        (f"other {len(bad)}", "s"),
                    )
                )
                threads.work()
                threads.work()
                for each in (first, good, other):
                    self.successResultOf(each)
                refusal = self.failureResultOf(worse, JournalUnavailable)
                self.assertNotIn(bad, refusal.value.reason)
        self.assertEqual(self.used(), 4)

    def test_what_is_wrong_with_a_url_is_told(self) -> None:
        for url, told in (
            ("postgresql://u@h/db?sslmod=require", "it has no sslmod"),
            ("postgresql://u@h:99999/db", "a port is a number"),
            ("postgresql://u@127.0.0.1/db?sslmode=on", "invalid sslmode value"),
            ("postgresql://u@db.nowhere.invalid/db", "failed to resolve host"),
            ("postgresql://u@127.0.0.1:1/db", "Connection refused"),
            ("postgresql://u:p/w@h/db", "Write @ and / in a password as %40 and %2F"),
            ("postgresql://u:p%e4@h/db", "what it has behind % must be UTF-8"),
            ("postgresql://u:p\udce4@h/db", "what it has behind % must be UTF-8"),
        ):
            with self.subTest(url=url):
                error = str(self.assertRaises(JournalError, open_journal, Database(url)))
                self.assertIn(told, error)
                self.assertNotIn("\n", error)
        both = Database("postgresql://u:MARKED@h/db", lambda: "MARKED")
        error = str(self.assertRaises(JournalError, open_journal, both))
        self.assertIn("`journal` must be without a password", error)
        self.assertNotIn("MARKED", error)

    def test_no_password_is_told(self) -> None:
        for url in (
            "postgresql://u:hunter2@127.0.0.1:1/db",
            "postgresql://u:hunter2@127.0.0.1:port/db",
            "postgresql://u:hunter2@h/db?hunter2=1",
            "postgresql://u:hun/hunter2@h/db",
            "postgresql://u:hun@hunter2@h/db",
            "postgresql://u:1/hunter2@h/db",
            "postgresql://u:h@hunter2/x@h:1/db",
        ):
            error = self.assertRaises(JournalError, open_journal, Database(url))
            self.assertNotIn("hunter2", f"{error}{error!r}{error.__cause__}")


class TextTests(PostgresTestCase):
    """Long ones, many keys, and ones that can't be sent."""

    def test_long_ones_are_sent_in_parts(self) -> None:
        text = "x" * (2 * 2**20)
        operations: list[Operation[Any]] = [
            Operation(
                Accept([Submission(prompt(f"p{n}", text))], TERMS, claim=False, now=NOON),
                writes=True,
            )
            for n in range(5)
        ]
        self.assertEqual([len(part) for part in of_bounded_size(operations)], [2, 2, 1])

    def test_many_keys_need_few_locks(self) -> None:
        threads = Threads(self.clock)
        journal = self.open_journal(threads.defer)
        # What it makes of 10,000 rows may take a busy machine longer.
        journal._session.connection.execute("SET idle_in_transaction_session_timeout = 0")
        first = journal.probe()
        told = [
            journal.accept(
                [Submission(prompt(f"{n}-{m}"), Key((f"{n}-{m}",))) for m in range(100)],
                Terms(DAY, 10**6, 10**6),
            )
            for n in range(100)
        ]
        while threads.waiting:
            threads.work()
        self.successResultOf(first)
        for each in told:
            self.assertEqual(len(self.successResultOf(each)), 100)

    def test_one_that_can_not_be_sent_fails_no_other_read(self) -> None:
        self.accept(prompt())
        threads = Threads(self.clock)
        journal = self.open_journal(threads.defer)
        first = journal.ids("p", 1)
        surrogate, other = (journal.record(each) for each in ("p\ud800", "p1"))
        nul = journal.ended_asking(["p\0"])
        while threads.waiting:
            threads.work()
        self.successResultOf(first)
        for each in (nul, surrogate):
            self.failureResultOf(each, JournalUnavailable)
        self.assertEqual(self.successResultOf(other).id, "p1")


class SchemaTests(SynchronousTestCase):
    def test_two_first_starts_at_once(self) -> None:
        for _ in range(5):
            url = server().schema()
            both = Barrier(2)

            def start(url: str = url, both: Barrier = both) -> Any:
                both.wait(20)
                return open_journal(Database(url))[1]

            with ThreadPoolExecutor(2) as pool:
                for started in [pool.submit(start) for _ in range(2)]:
                    connection = started.result()
                    (row,) = connection.execute("SELECT count(*) AS n FROM secret").fetchall()
                    connection.close()
                    self.assertEqual(row["n"], 1)

    def test_who_may_make_no_tables(self) -> None:
        url = server().schema()
        ask(server(), "CREATE ROLE tableless LOGIN")
        self.addCleanup(ask, server(), "DROP OWNED BY tableless; DROP ROLE tableless")
        name = url.rpartition("%3D")[2]
        ask(server(), f"GRANT USAGE ON SCHEMA {name} TO tableless")
        database = Database(url.replace("//tests@", "//tableless@"))
        for start in (open_journal, lambda each: PostgresEngine.of(each.url, None).look("d", 0.0)):
            refusal = str(self.assertRaises(JournalError, start, database))
            self.assertIn("its user may not create tables there", refusal)

    def test_a_database_that_lacks_characters(self) -> None:
        template = "TEMPLATE template0 LOCALE 'C'"
        ask(server(), f"CREATE DATABASE latin ENCODING 'LATIN1' {template}")
        self.addCleanup(ask, server(), "DROP DATABASE latin")
        database = Database(server().url.replace("/postgres", "/latin"))
        for start in (open_journal, lambda each: PostgresEngine.of(each.url, None).look("d", 0.0)):
            refusal = str(self.assertRaises(JournalError, start, database))
            self.assertIn("has LATIN1 as its encoding: create it with ENCODING 'UTF8'", refusal)
            self.assertIn(template, refusal)

    def test_a_newer_one_is_refused_in_one_line(self) -> None:
        url = server().schema()
        _, connection = open_journal(Database(url))
        connection.execute("UPDATE schema SET version = 99")
        connection.close()
        refusal = self.assertRaises(JournalError, open_journal, Database(url))
        self.assertRegex(str(refusal), r"^[^\n]*newer chatgpt-source \(schema 99,[^\n]*upgrade$")


class Load:
    """Prompts that are accepted, answered and delivered, one after the other, in a thread."""

    def __init__(self, journal: Any, number: int) -> None:
        self.journal = journal
        self.number = number
        self.delivered: list[str] = []
        self.refused: list[str] = []
        self.goes_on = Event()
        self.stop = Event()

    def run(self) -> None:
        for n in itertools.count():
            if self.stop.is_set():
                return
            each = prompt(f"{self.number}-{n}")
            terms = Terms(DAY, 10**6, 10**6)
            told = self.told(self.journal.accept([Submission(each)], terms, claim=True))
            if told is None:
                self.refused.append(each.id)
            else:
                delivery = self.end(self.journal.ask_ended, told[0].ask, Answered(ANSWER, b"e"))
                self.end(self.journal.delivery_ended, delivery, Delivered())
                self.delivered.append(each.id)
                self.goes_on.set()

    def told(self, done: Any) -> Any:
        """What an operation has come to; None if the journal is unavailable."""
        told: list[Any] = []
        done.addErrback(lambda failure: failure.trap(JournalUnavailable) and None)
        done.addCallback(told.append)
        if told[0] is None:
            self.stop.wait(0.01)
        return told[0]

    def end(self, end: Any, work: Any, outcome: Any) -> Any:
        """End a claim, again and again while the journal is unavailable."""
        options = {"claim": True} if isinstance(outcome, Answered) else {}
        until = time.monotonic() + 60
        while time.monotonic() < until:
            ended = self.told(end(work, outcome, NOON, **options))
            if ended is not None:
                assert ended.kept, f"{outcome} was written before"
                return ended.delivery
        raise AssertionError("the journal stays unavailable")


class OtherServerTests(Opening, JournalDriver, SynchronousTestCase):
    """With a server of their own, which they stop and change."""

    other: Any = None

    def setUp(self) -> None:
        super().setUp()
        if OtherServerTests.other is None:
            OtherServerTests.other = begin("fsync=off max_connections=50")
            end = OtherServerTests.other.end
            reactor.addSystemEventTrigger("after", "shutdown", end)  # type: ignore[attr-defined]
        self.url = self.other.schema()
        self.journal = self.open_journal()
        self.recover(self.journal)

    def test_a_crash_of_the_server_under_load_loses_nothing(self) -> None:
        loads = [Load(self.another(), number) for number in range(4)]
        witness = self.another()
        down: list[str] = []
        with ThreadPoolExecutor(4) as pool:
            ends = [pool.submit(each.run) for each in loads]
            try:
                for crash in range(3):
                    for each in loads:
                        each.goes_on.clear()
                    for each in loads:
                        self.assertTrue(each.goes_on.wait(60))
                    self.other.control("stop", "-m", "immediate")
                    down.append(f"while it is down {crash}")
                    refusal = witness.accept([Submission(prompt(down[-1]))], TERMS)
                    self.failureResultOf(refusal, JournalUnavailable)
                    self.other.start()
            finally:
                for each in loads:
                    each.stop.set()
            for each in ends:
                each.result(90)
        delivered = [name for each in loads for name in each.delivered]
        refused = [*down, *(name for each in loads for name in each.refused)]
        self.journal = self.another()
        tally = self.successResultOf(self.journal.tally(DAY.date))
        self.assertEqual(tally.prompts[State.DELIVERED], len(delivered))
        self.assertEqual((sum(tally.prompts.values()), tally.used), (len(delivered),) * 2)
        for name in delivered[-20:]:
            self.assertEqual(self.record(name).state, State.DELIVERED)
        for name in refused:
            self.assertIsNone(self.record(name))

    def another(self) -> Any:
        journal = self.open_journal()
        self.recover(journal)
        return journal

    def set_standbys(self, names: str) -> None:
        with psycopg.connect(self.other.url, autocommit=True) as connection:
            connection.execute("SET synchronous_commit = local")
            connection.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{names}'")
            connection.execute("SELECT pg_reload_conf()")

    def cancel_wait_for_standby(self) -> None:
        with psycopg.connect(self.other.url, autocommit=True) as connection:
            until = time.monotonic() + 20
            while time.monotonic() < until:
                if connection.execute(
                    "SELECT pg_cancel_backend(pid) FROM pg_stat_activity"
                    " WHERE wait_event = 'SyncRep'"
                ).fetchone():
                    return
        raise AssertionError("no COMMIT waits")

    def test_a_commit_waits_for_its_standby_though_somebody_cancels_the_wait(self) -> None:
        self.set_standbys("missing")
        confirmed = Event()

        def cancel() -> None:
            for _ in range(3):
                self.cancel_wait_for_standby()
            confirmed.set()
            self.set_standbys("")

        with ThreadPoolExecutor(1) as pool:
            cancelling = pool.submit(cancel)
            for number in range(10_000):  # it takes the server a while to go by the setting
                before = self.journal._session.connection
                self.accept(prompt(f"q{number}"), limit=10**6, max_backlog=10**6)
                if self.journal._session.connection is not before:
                    break
            self.assertTrue(confirmed.is_set())
            cancelling.result()
        self.assertEqual(self.used(), number + 1)
