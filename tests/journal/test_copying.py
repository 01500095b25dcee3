"""A journal in a file that is moved into PostgreSQL: nothing is lost, doubled or changed."""

import contextlib
import json
import os
import signal
import sqlite3
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from io import StringIO
from pathlib import Path
from typing import Any

import attrs
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from chatgpt_source.errors import JournalError, JournalUnavailable, KeyReused, QuotaUsedUp
from chatgpt_source.journal import (
    Answered,
    AuditEntry,
    Batched,
    Delivered,
    Failed,
    Key,
    Pause,
    PeerState,
    Postponed,
    Submission,
    Terms,
    Underway,
)
from chatgpt_source.journal.command import run_copy
from chatgpt_source.journal.command.parser import parsed
from chatgpt_source.journal.period import MINUTE, Period
from chatgpt_source.journal.sqlite import SqliteJournal
from chatgpt_source.journal.sqlite import open_journal as open_file
from chatgpt_source.prompt import Details, Leftover, State
from tests.clocks import Clocks
from tests.contracts.attempts import ASKED, FAILED_ASK, SENT, UNSENT, USED
from tests.contracts.driver import ANSWER, DAY, DEAD_LETTERS, NOON, PEERS, JournalDriver, prompt
from tests.contracts.engine import EngineContract
from tests.journal.common import at_once
from tests.journal.postgres_server import server

with contextlib.suppress(ImportError):  # the tests are skipped then: `server` says why
    from chatgpt_source.journal.copying import command, source, target
    from chatgpt_source.journal.copying.counting import compare
    from chatgpt_source.journal.postgres import PostgresJournal, connect, open_journal
    from chatgpt_source.journal.postgres.connect import Database
    from chatgpt_source.journal.postgres.engine import PostgresEngine

AHEAD = 1000.25
"""Seconds by which the database's clock is ahead."""
LONG = "what is vanus? ä " * 1000
TABLES = (
    *("prompts", "texts", "outbox", "keys", "attempts", "days", "terms", "batches", "leftovers"),
    *("peers", "history", "pauses", "audit"),
)


class Stopped(Exception):
    """The copy is killed."""


class Moving:
    """A journal in a file, and a copy of it in a schema of the test's own."""

    addCleanup: Any
    clock: Any
    mktemp: Any
    patch: Any
    path: Path
    url: str
    ahead = AHEAD

    def date(self, _: Any = None) -> float:
        """The database's clock."""
        return float(self.clock.seconds()) + self.ahead

    def make(self) -> Any:
        """The journal in a file."""
        self.crashed: list[Any] = []
        self.url = server().schema()
        self.path = Path(self.mktemp())
        return self.start_on_file()

    def start_on_file(self) -> Any:
        opened = open_file(self.path)
        journal = SqliteJournal(opened, self.clock, at_once)
        self.addCleanup(self.crash, journal)
        return journal

    def crash(self, journal: Any) -> None:
        """Once: the numbers of its descriptors are others' afterwards."""
        if journal not in self.crashed:
            self.crashed.append(journal)
            journal._opened.close()

    def copy(self, url: str | None = None, has_copied: Any = lambda _: None) -> list[Any]:
        """Copy it; returns what differs."""
        with source.opened(self.path) as of, target.opened(Database(url or self.url)) as to:
            target.copy(of, to, has_copied, self.clock.seconds, self.date)
            differing = [each for each in compare(of, to) if not each.is_same]
            if not differing:
                to.end()
            return differing

    def open_copy(self) -> Any:
        opened = open_journal(Database(self.url))
        self.addCleanup(opened[1].close)
        return PostgresJournal(opened, self.clock, at_once, self.date)


class ContractTests(
    Moving,
    EngineContract,
    SynchronousTestCase,
):
    """What a journal promises of a start, it promises of one after a move."""

    def open_journal(self) -> Any:
        if not hasattr(self, "path"):
            self.patch(source, "ROWS", 1)
            self.is_copied = False
            return self.make()
        if not self.is_copied:
            self.assertEqual(self.copy(), [])
            self.is_copied = True
        return self.open_copy()

    def abandon(self, journal: Any) -> None:
        if isinstance(journal, SqliteJournal):
            self.crash(journal)
            return
        journal._background.stop()
        connection = journal._session.connection
        connection.execute("UPDATE owners SET until = '-infinity'")
        connection.close()

    def open_second(self) -> Any:
        raise SkipTest("no other run can have a journal that is moved")


class MovingCase(Moving, JournalDriver, SynchronousTestCase):
    """A journal with something in each state."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(source, "ROWS", 3)
        self.journal = self.make()
        self.recover(self.journal)
        self.fill()
        self.before = self.details()
        self.crash(self.journal)
        self.clock.advance(2)

    def fill(self) -> None:
        for name in ("delivered", "failed", "lettered", "cancelled", "claimed", "submitted"):
            self.successResultOf(self.admit(prompt(name, LONG + name), key=f"key of {name}"))
        self.successResultOf(
            self.admit(prompt("event"), key=Key(("event", "s", "1"), any_content=True))
        )
        later = attrs.evolve(
            prompt("later", "in an hour"),
            not_before=NOON + 3600,
            deadline=NOON + 7200,
            details=Details(attributes={"subject": "a subject"}),
        )
        batch = self.successResultOf(self.journal.open_batch("a key"))
        self.successResultOf(self.journal.store_batch(attrs.evolve(batch, deadline=NOON + 50)))
        self.asks()
        self.deliver("delivered")
        self.fail_it("failed", "why", give_back=True)
        refused = attrs.evolve(FAILED_ASK, error="why \0")
        lettered = Failed("why \0", dead_letter=b"a letter " * 1000, calls=[refused])
        self.end_of("lettered", lettered)
        self.answer("event", event=b"\0 an event " * 1000)
        self.postpone("cancelled")
        self.successResultOf(self.journal.cancel("cancelled"))
        self.end_of("submitted", Underway("resp-1", NOON + 500, provider="second"))
        self.successResultOf(self.admit(later))
        for name in ("batched", "postponed", "kept", "undelivered", "left"):
            self.accept(prompt(name))
        self.asks()
        self.end_of("batched", Batched(batch.id))
        calls = [FAILED_ASK, attrs.evolve(FAILED_ASK, number=2, status=None, request_id=None)]
        self.postpone("postponed", NOON + 30, possibly_billed=True, held=NOON - 1, calls=calls)
        answered = Answered(attrs.evolve(ANSWER, usage=USED), b"k", calls=[ASKED])
        kept = self.end_of("kept", answered, claim=True)
        self.end(kept.delivery, Delivered(90, calls=[SENT]))
        self.answer("undelivered")
        self.deliveries(1)  # `event` stays claimed
        down = Postponed(NOON + 40, "down", held=NOON, calls=[UNSENT])
        self.end(self.deliveries().claimed[0], down)
        left = Leftover("resp-2", None, stop=True, forget=True)
        self.end(self.hand["left"], Failed("why"), leftover=left)
        state = PeerState("down", NOON - 5, 2, NOON + 7, None, failing=True)
        self.successResultOf(self.journal.remember("target", state))
        for what in ("asking", "intake"):
            self.successResultOf(self.journal.pause(what, "alice"))
        self.successResultOf(self.journal.audit(AuditEntry("alice", "purged p1")))
        periods = [Period(MINUTE, int(NOON), owner, accepted=1) for owner in (1, 2)]
        self.successResultOf(self.journal.keep_history(periods))
        self.successResultOf(self.journal.resume("intake", "bob"))
        for n in range(5):
            self.accept(prompt(f"due {n}"))

    def dump(self, url: str) -> dict[str, list[Any]]:
        """All rows of a copy."""
        with closing(open_journal(Database(url))[1]) as connection:
            connection.execute("UPDATE peers SET version = 0")
            connection.execute("UPDATE copy SET whole = 'epoch' WHERE whole IS NOT NULL")
            return {
                table: sorted(map(str, connection.execute(f"SELECT * FROM {table}").fetchall()))
                for table in (*TABLES, "secret", "copy")
            }

    def details(self) -> list[Any]:
        names = ("postponed", "kept", "undelivered", "delivered")
        told = [self.successResultOf(self.journal.detail(name)) for name in names]
        return [attrs.evolve(each, kept_until=None) for each in told]  # a start shortens it

    def moved(self) -> None:
        self.assertEqual(self.copy(), [])
        self.journal = self.open_copy()
        self.hand.clear()
        self.recovered = self.recover(self.journal)


class MovedTests(MovingCase):
    def test_every_state_is_there(self) -> None:
        before = self.path.read_bytes()
        self.moved()
        self.assertEqual(self.path.read_bytes(), before)
        tally = self.successResultOf(self.journal.tally(DAY.date))
        self.assertEqual(
            {state.value: n for state, n in tally.prompts.items()},
            {
                "accepted": 8,
                "submitted": 2,
                "answered": 2,
                "delivered": 2,
                "failed": 3,
                "cancelled": 1,
            },
        )
        self.assertEqual((tally.used, tally.leftovers), (16, 1))

    def test_what_is_due_is_claimed_as_it_was(self) -> None:
        self.moved()
        claimed = self.asks(100).claimed
        names = ["claimed", *(f"due {n}" for n in range(5))]
        self.assertEqual([ask.prompt.id for ask in claimed], names)
        self.assertEqual(claimed[0].prompt.text, LONG + "claimed")
        self.assertEqual((claimed[0].attempt, claimed[0].total), (2, 2))
        self.assertEqual(self.asks().next_due, NOON + 30)
        (ask,) = self.asks(now=NOON + 30).claimed
        self.assertEqual(
            (ask.prompt.id, ask.attempt, ask.held, ask.possibly_billed, ask.since),
            ("postponed", 2, NOON - 1, 1, NOON),
        )
        (ask,) = self.asks(now=NOON + 3600).claimed
        self.assertEqual(
            (ask.prompt.id, ask.prompt.not_before, ask.prompt.deadline, ask.prompt.details),
            ("later", NOON + 3600, NOON + 7200, Details(attributes={"subject": "a subject"})),
        )

    def test_what_happened_is_told_call_by_call(self) -> None:
        self.moved()
        self.assertEqual(self.details(), self.before)
        self.assertEqual([len(each.attempts) for each in self.before], [2, 2, 1, 0])
        (call,) = self.successResultOf(self.journal.detail("lettered")).attempts
        self.assertEqual(call.error, "why \ufffd")

    def test_what_was_under_way_is_due_though_the_clock_was_set_back(self) -> None:
        self.clock = Clocks()
        self.clock.advance(NOON - 50)
        self.moved()
        claims = self.asks()
        self.assertEqual([ask.prompt.id for ask in claims.claimed], ["claimed"])
        self.assertEqual((claims.claimed[0].since, claims.next_due), (NOON - 50, NOON))
        self.assertEqual([each.id for each in self.deliveries().claimed], ["event"])

    def test_what_was_under_way_may_have_been_paid(self) -> None:
        self.moved()
        self.fail_it("claimed", give_back=True)
        self.assertEqual(self.used(), 16)
        self.fail_it("due 0", give_back=True)
        self.assertEqual(self.used(), 15)

    def test_what_is_to_be_delivered_is_delivered(self) -> None:
        self.moved()
        self.assertEqual(self.recovered.destinations, [DEAD_LETTERS, "target"])
        claims = self.deliveries()
        (event,) = claims.claimed
        self.assertEqual((event.id, event.event), ("event", b"\0 an event " * 1000))
        self.assertEqual((event.attempt, claims.next_due), (2, NOON + 40))
        (later,) = self.deliveries(now=NOON + 40).claimed
        self.assertEqual((later.id, later.attempt, later.held), ("undelivered", 2, NOON))
        (letter,) = self.dead_letters().claimed
        self.assertEqual((letter.id, letter.event), ("lettered", b"a letter " * 1000))
        for each in (event, later, letter):
            self.assertTrue(self.end(each, Delivered()).kept)

    def test_keys_are_known(self) -> None:
        self.moved()
        for name in ("delivered", "failed", "cancelled", "claimed"):
            again = self.admit(prompt("again", LONG + name), key=f"key of {name}")
            told = self.successResultOf(again)
            self.assertEqual((told.id, told.repeated), (name, True))
            other = self.admit(prompt("again", "another text"), key=f"key of {name}")
            self.failureResultOf(other, KeyReused)
        event = self.admit(prompt("again", "other"), key=Key(("event", "s", "1"), any_content=True))
        self.assertEqual(self.successResultOf(event).id, "event")

    def test_the_limit_still_counts(self) -> None:
        self.moved()
        self.successResultOf(self.admit(prompt("one more"), 17))
        self.failureResultOf(self.admit(prompt("too many"), 17), QuotaUsedUp)

    def test_what_the_provider_has_is_found(self) -> None:
        self.moved()
        (poll,) = self.successResultOf(self.journal.claim_submitted(NOON + 12, 10)).claimed
        self.assertEqual(
            (poll.prompt.id, poll.submitted, poll.provider), ("submitted", "resp-1", "second")
        )
        (batch,) = self.successResultOf(self.journal.claim_batches())
        self.assertEqual((batch.key, batch.deadline), ("a key", NOON + 50))
        ((_, batched),) = self.successResultOf(self.journal.batched(batch.id, 0, 10))
        self.assertEqual(batched.id, "batched")
        (left,) = self.successResultOf(self.journal.claim_leftovers(NOON + 2, 10)).claimed
        self.assertEqual((left.submitted, left.stop, left.forget), ("resp-2", True, True))

    def test_pauses_go_on(self) -> None:
        self.moved()
        self.assertEqual(
            self.recovered.pauses,
            {
                "asking": Pause("asking", "alice", NOON),
                "intake": Pause("intake", "bob", NOON, resumed=True),
            },
        )

    def test_peers_are_known(self) -> None:
        self.moved()
        state = PeerState("down", NOON - 5, 2, NOON + 7, None, failing=True)
        self.assertEqual(self.recovered.peers, {"target": state})

    def test_operators_act(self) -> None:
        self.moved()
        self.assertEqual(self.successResultOf(self.journal.redrive("failed")), State.ACCEPTED)
        self.assertFalse(self.successResultOf(self.journal.cancel("due 0")).repeated)
        self.assertTrue(self.successResultOf(self.journal.cancel("cancelled")).repeated)
        self.assertTrue(self.successResultOf(self.journal.purge("lettered")))
        kept = self.successResultOf(self.journal.kept("kept"))
        self.assertEqual((kept.event, kept.record.state), (b"k", State.DELIVERED))

    def test_sizes_are_those_that_a_claim_goes_by(self) -> None:
        self.moved()
        connection = self.journal._session.connection
        event = "octet_length(CASE destination WHEN 'target' THEN event ELSE letter END)"
        for table, size, count in (
            ("prompts", "octet_length(prompt) + coalesce(octet_length(details), 0)", 16),
            ("outbox", event, 3),
        ):
            query = f"SELECT size, {size} AS real FROM {table} JOIN texts USING (seq)"
            found = connection.execute(query).fetchall()
            self.assertEqual(len(found), count)
            self.assertEqual([row["size"] for row in found], [row["real"] for row in found])

    def test_new_rows_have_new_numbers(self) -> None:
        self.moved()
        batch = self.successResultOf(self.journal.open_batch("another"))
        self.assertEqual(batch.id, 2)
        self.accept(prompt("new"))
        latest = self.successResultOf(self.journal.latest(None, None, 1))
        self.assertEqual([each.id for each in latest], ["new"])
        self.successResultOf(self.journal.cancel("submitted"))
        claims = self.successResultOf(self.journal.claim_leftovers(NOON + 2, 10))
        self.assertEqual([each.id for each in claims.claimed], [1, 2])

    def test_long_texts_a_few_in_a_transaction(self) -> None:
        self.patch(source, "ROWS", 1000)
        self.patch(source, "BYTES", 2 * len((LONG + "delivered").encode()))
        pages: list[int] = []
        self.copy(has_copied=pages.append)
        self.assertEqual((sum(pages), pages[:4]), (18, [0, 0, 3, 4]))

    def test_a_nul_in_a_message_is_replaced(self) -> None:
        self.moved()
        self.assertEqual(self.record("lettered").error, "why \ufffd")


class CollationTests(Moving, JournalDriver, SynchronousTestCase):
    def test_a_database_that_sorts_texts_its_own_way(self) -> None:
        journal = self.make()
        self.recover(journal)
        for what in ("target.a-z", "target.ab"):
            self.successResultOf(journal.pause(what, "alice"))
        self.crash(journal)
        with closing(open_journal(Database(self.url))[1]) as connection:
            # As en_US.UTF-8 does, which a server has of its system: hyphens count for little.
            connection.execute("CREATE COLLATION own (provider = icu, locale = 'und-u-ka-shifted')")
            connection.execute("ALTER TABLE pauses ALTER what TYPE text COLLATE own")
        self.assertEqual(self.copy(), [])


class ResumedTests(MovingCase):
    def stop_after(self, transactions: int) -> bool:
        """Copy, and be killed after some transactions; returns whether it was."""
        left = transactions

        def has_copied(_: int) -> None:
            nonlocal left
            left -= 1
            if not left:
                raise Stopped

        try:
            self.copy(has_copied=has_copied)
        except Stopped:
            return True
        return False

    def test_after_each_transaction(self) -> None:
        whole = server().schema()
        self.copy(whole)
        runs = 1
        while self.stop_after(2):  # the first one only says where it goes on
            runs += 1
            self.clock.advance(1)
            self.ahead += 0.5  # one of the clocks was set
        self.assertGreater(runs, 5)
        self.assertEqual(self.dump(self.url), self.dump(whole))

    def test_within_each_transaction(self) -> None:
        whole = server().schema()
        self.copy(whole)
        real = target.Target._write
        for n in range(100):
            left = n

            def fail(of: Any, rows: Any) -> None:
                nonlocal left
                real(of, rows)
                left -= 1
                if left < 0:
                    raise Stopped

            with contextlib.suppress(Stopped):
                self.patch(target.Target, "_write", fail)
                self.copy()
                break
        self.assertGreater(n, 3)
        self.assertEqual(self.dump(self.url), self.dump(whole))

    def test_slowly(self) -> None:
        """A daemon that paused so long in a transaction would be cut off."""
        real = target.Target._write

        def write(of: Any, rows: Any) -> None:
            real(of, rows)
            pause.execute("SELECT pg_sleep(0.05)")

        self.patch(target.Target, "_write", write)
        with closing(open_journal(Database(self.url))[1]) as pause:
            self.patch(connect, "_SESSION", {"idle_in_transaction_session_timeout": "10ms"})
            self.assertEqual(self.copy(), [])

    def test_no_daemon_starts_on_a_part(self) -> None:
        opened = open_journal(Database(self.url))
        early = PostgresJournal(opened, self.clock, at_once, self.date)
        self.addCleanup(opened[1].close)
        self.assertTrue(self.stop_after(3))
        engine = PostgresEngine.of(self.url, None)
        for start in (engine.open, engine.open_beside, lambda: engine.look(DAY.date, NOON)):
            error = str(self.assertRaises(JournalError, start))
            self.assertIn("finish it by `chatgpt-source-journal copy`", error)
            self.assertNotIn("\n", error)
        recovery = early.recover(100, "UTC", PEERS, 60.0)
        self.assertIn("can't be written", str(self.failureResultOf(recovery, JournalError).value))
        self.assertEqual(self.copy(), [])
        self.recover(self.open_copy())

    def test_none_goes_on_on_a_part(self) -> None:
        """One that was paused past its lease, while nothing was in its journal."""
        daemon = self.open_copy()
        self.recover(daemon)
        daemon._session.connection.execute("UPDATE owners SET until = '-infinity'")
        self.assertTrue(self.stop_after(3))
        self.failureResultOf(daemon.probe(), JournalUnavailable)
        daemon.forsake()
        self.failureResultOf(daemon.claim_asks(NOON, 1), JournalUnavailable)
        self.assertEqual(self.copy(), [])
        self.assertTrue(self.successResultOf(daemon.claim_asks(NOON + 2, 1)).claimed)

    def test_a_whole_copy_is_counted_again(self) -> None:
        self.copy()
        before = self.dump(self.url)
        self.assertEqual(self.copy(), [])
        self.assertEqual(self.dump(self.url), before)

    def test_what_was_used_meanwhile(self) -> None:
        self.assertTrue(self.stop_after(3))
        journal = self.start_on_file()
        self.crash(journal)
        error = str(self.assertRaises(JournalError, self.copy))
        self.assertIn("was used since its copy began: drop its tables", error)

    def test_what_was_started_on_since(self) -> None:
        self.moved()
        error = str(self.assertRaises(JournalError, self.copy))
        self.assertIn("a daemon has started on it since", error)


class RefusedTests(MovingCase):
    def why(self) -> str:
        error = str(self.assertRaises(JournalError, self.copy))
        self.assertNotIn("\n", error)
        return error

    def test_a_source_that_a_daemon_uses(self) -> None:
        journal = self.start_on_file()
        self.assertIn(f"{self.path} is in use by a daemon: stop", self.why())
        self.crash(journal)
        self.assertEqual(self.copy(), [])

    def test_no_daemon_starts_on_the_source_meanwhile(self) -> None:
        refused: list[str] = []

        def start(_: int) -> None:
            refused.append(str(self.assertRaises(JournalError, open_file, self.path)))

        self.copy(has_copied=start)
        self.assertIn("in use", refused[-1])

    def test_no_operator_changes_the_source_meanwhile(self) -> None:
        def change(_: int) -> None:
            with closing(sqlite3.connect(self.path, timeout=0)) as db:
                self.assertRaises(sqlite3.OperationalError, db.execute, "DELETE FROM prompts")

        self.assertEqual(self.copy(has_copied=change), [])

    def test_no_source(self) -> None:
        self.path = self.path.with_name("other")
        self.assertEqual(self.why(), f"there is no journal {self.path}: name the file with --from")
        self.assertFalse(self.path.exists())

    def test_a_source_that_is_no_journal(self) -> None:
        self.path = self.path.with_name("other")
        sqlite3.connect(self.path).execute("CREATE TABLE other (x)")
        self.assertIn("another program's", self.why())
        self.path.write_bytes(b"something else" * 1000)
        self.assertIn("can't be used", self.why())

    def test_a_source_that_is_damaged(self) -> None:
        with closing(sqlite3.connect(self.path)) as db:
            db.execute("UPDATE prompts SET error = CAST(x'7365637265743aff' AS TEXT)")
            db.commit()
        why = self.why()
        self.assertIn(f"journal {self.path} can't be read", why)
        self.assertNotIn("secret:", why)

    def test_a_source_of_another_version(self) -> None:
        for version, told in ((5, "start this release's daemon on it once"), (99, "newer")):
            with closing(sqlite3.connect(self.path)) as db:
                db.execute(f"PRAGMA user_version = {version}")
            self.assertIn(told, self.why())

    def test_a_target_that_a_daemon_uses(self) -> None:
        self.recover(self.open_copy())
        self.assertIn("a daemon uses it", self.why())

    def test_a_start_and_a_copy_at_the_same_time(self) -> None:
        def start(later: int) -> bool:
            try:
                daemon = self.open_copy()
                for _ in range(later):  # so that they meet at other places
                    daemon._session.connection.execute("SELECT 1")
                self.recover(daemon)
            except (JournalError, self.failureException):
                return False
            return True

        def copy() -> bool:
            try:
                return self.copy(has_copied=stop) == []
            except Stopped:
                return True
            except JournalError:
                return False

        def stop(_: int) -> None:
            raise Stopped

        with ThreadPoolExecutor(1) as threads:
            for n in range(12):
                self.url = server().schema()
                open_journal(Database(self.url))[1].close()
                starting = threads.submit(start, n)
                self.assertNotEqual(copy(), starting.result(10))

    def test_a_target_that_one_has_used_for_nothing(self) -> None:
        daemon = self.open_copy()
        self.recover(daemon)
        self.successResultOf(daemon.close())
        self.assertEqual(self.copy(), [])
        self.moved()

    def test_a_target_with_prompts(self) -> None:
        daemon = self.open_copy()
        self.recover(daemon)
        self.successResultOf(daemon.accept([Submission(prompt())], Terms(DAY, 100, 100)))
        self.successResultOf(daemon.close())
        self.assertIn("it has prompts of its own", self.why())

    def test_a_target_with_another_copy(self) -> None:
        self.copy()
        self.path = self.path.with_name("other")
        self.crash(self.start_on_file())
        self.assertIn("another journal was copied to it", self.why())

    def test_a_target_that_another_copy_is_under_way_to(self) -> None:
        refused = []
        first, self.path = self.path, self.path.with_name("other")
        self.crash(self.start_on_file())
        other, self.path = self.path, first

        def copy_too(_: int) -> None:
            self.path = other
            refused.append(self.why())
            self.path = first

        self.patch(target, "SESSION", {**target.SESSION, "lock_timeout": "10ms"})
        self.copy(has_copied=copy_too)
        self.assertIn("another copy to it is under way", refused[0])

    def test_a_target_of_a_newer_release(self) -> None:
        with closing(open_journal(Database(self.url))[1]) as connection:
            connection.execute("UPDATE schema SET version = 99")
        self.assertIn("newer", self.why())

    def test_a_target_that_can_t_be_reached(self) -> None:
        self.url = "postgresql://u:hunter2@127.0.0.1:1/db"
        self.assertIn("can't be reached", self.why())
        self.assertNotIn("hunter2", self.why())


class CommandTests(MovingCase):
    def run_command(self, *argv: str, err: Any = None) -> tuple[int, str, str]:
        out, err = StringIO(), err or StringIO()
        options = parsed(["copy", "--from", str(self.path), "--to", self.url, *argv])
        status = run_copy(options, {}, out, err)
        for text in (out.getvalue(), err.getvalue()):
            self.assertNotIn("vanus", text)
            self.assertNotIn("tests@", text)
        return status, out.getvalue(), err.getvalue()

    def test_counts_are_told(self) -> None:
        status, out, err = self.run_command()
        self.assertEqual((status, err), (0, ""))
        lines = [line.split() for line in out.splitlines()]
        for expected in (
            "prompts accepted 8 8",
            "units of 2027-01-15 16 16",
            "events for target 2 2",
            "keys 7 7",
            "keys, row by row 7 7",
            "prompts, row by row 18 18",
            "pauses, row by row 2 2",
            "periods of the history 2 2",
            "history, row by row 2 2",
        ):
            self.assertIn(expected.split(), lines)
        self.assertIn(f"{self.path.absolute()} is as it was", out)
        self.recover(self.open_copy())

    def test_as_json(self) -> None:
        status, out, _ = self.run_command("--json")
        *counts, end = map(json.loads, out.splitlines())
        self.assertEqual((status, end["same"], end["prompts"]), (0, True, 18))
        self.assertIn({"counted": "keys", "from": 7, "to": 7, "same": True}, counts)

    def test_what_differs_is_told_and_keeps_daemons_out(self) -> None:
        for change in (
            "DELETE FROM keys WHERE seq = 1",
            "UPDATE keys SET fingerprint = '' WHERE seq = 1",
            "UPDATE days SET used = used + 1",
            "UPDATE outbox SET attempts = attempts + 1",
            "UPDATE texts SET prompt = prompt || 'x' WHERE seq = 5",
            "UPDATE prompts SET state = 'failed' WHERE id = 'due 0'",
            "DELETE FROM prompts WHERE id = 'due 0'",
            "DELETE FROM batches",
            "DELETE FROM peers",
            "DELETE FROM leftovers",
            "DELETE FROM pauses WHERE resumed",
            "UPDATE pauses SET resumed = TRUE",
            "UPDATE pauses SET since = since + 1",
            "DELETE FROM history WHERE owner = -2",
            "UPDATE history SET counts = ''",
            "DELETE FROM audit",
            "DELETE FROM attempts WHERE error = 'why \ufffd'",
        ):
            with self.subTest(change=change):
                self.url = server().schema()
                real = target.copy

                def copy(
                    of: Any, to: Any, *rest: Any, change: str = change, real: Any = real
                ) -> Any:
                    done = real(of, to, *rest)
                    to.connection.execute(change)
                    return done

                patched = self.patch(command.targets, "copy", copy)
                status, out, err = self.run_command()
                patched.restore()
                self.assertEqual(status, 1)
                self.assertIn("differ", out)
                self.assertIn("no daemon starts on the latter", err)
                self.assertNotIn("is as it was", out)
                self.assertRaises(JournalError, PostgresEngine.of(self.url, None).open)

    def test_what_an_operator_has_changed_since_is_told(self) -> None:
        self.run_command()
        self.successResultOf(self.open_copy().purge("failed"))
        status, _, err = self.run_command()
        self.assertEqual(status, 1)
        self.assertIn("was whole, and was changed since", err)
        self.recover(self.open_copy())

    def test_a_terminal_sees_the_progress(self) -> None:
        terminal = StringIO()
        terminal.isatty = lambda: True  # type: ignore[method-assign]
        _, _, err = self.run_command(err=terminal)
        self.assertIn("\r\x1b[K3 of 18 prompts", err)
        self.assertTrue(err.endswith("\r\x1b[K"))

    def test_a_signal_stops_it_and_it_goes_on(self) -> None:
        real = target.Target.add

        def add(of: Any, what: str, page: Any) -> None:
            real(of, what, page)
            os.kill(os.getpid(), signal.SIGTERM)

        patched = self.patch(target.Target, "add", add)
        before = signal.getsignal(signal.SIGTERM)
        status, out, err = self.run_command()
        self.assertEqual((status, out), (128 + signal.SIGTERM, ""))
        self.assertIn("start it again, and it goes on", err)
        self.assertEqual(signal.getsignal(signal.SIGTERM), before)
        patched.restore()
        status, out, _ = self.run_command()
        self.assertEqual(status, 0, out)

    def test_a_signal_stops_the_counting(self) -> None:
        real = target.copy

        def copy(*given: Any) -> Any:
            done = real(*given)
            os.kill(os.getpid(), signal.SIGINT)
            return done

        patched = self.patch(command.targets, "copy", copy)
        self.assertEqual(self.run_command()[0], 128 + signal.SIGINT)
        self.assertRaises(JournalError, PostgresEngine.of(self.url, None).open)
        patched.restore()
        self.assertEqual(self.run_command()[0], 0)

    def test_without_the_driver(self) -> None:
        name = "chatgpt_source.journal.postgres.engine"
        self.addCleanup(sys.modules.update, {name: sys.modules[name]})
        sys.modules[name] = None  # type: ignore[assignment]
        error = str(self.assertRaises(JournalError, self.run_command))
        self.assertIn("pip install '.[postgres]'", error)

    def test_what_is_no_place(self) -> None:
        for argv, told in (
            (["--to", "other.sqlite"], "--to must be postgresql://"),
            (["--from", self.url], "--from must be a file"),
            (["--to", "postgresql://h/d?x=hunter2"], "can't be read"),
        ):
            error = str(self.assertRaises(JournalError, self.run_command, *argv))
            self.assertIn(told, error)
            self.assertNotIn("hunter2", error)

    def test_the_config_s_journal_is_where_to(self) -> None:
        config = Path(self.mktemp())
        config.write_text(f"journal: {self.url}\n")
        out = StringIO()
        options = parsed(["--journal", str(self.path), "copy"])
        status = run_copy(options, {"CONNECTOR_CONFIG": str(config)}, out, StringIO())
        self.assertEqual(status, 0)
        self.assertIn("is as it was", out.getvalue())
