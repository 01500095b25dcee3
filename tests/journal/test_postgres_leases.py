"""Leases in PostgreSQL: renewed, ended, taken over, and left to others in time."""

import contextlib
import time
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError
from twisted.logger import capturedLogs

from chatgpt_source.journal import (
    Answered,
    Failed,
)
from tests.contracts.driver import TO
from tests.journal.common import ANSWER, DAY, NOON, PEERS, Threads, prompt

with contextlib.suppress(ImportError):  # the tests are skipped then: `server` says why
    import psycopg

    from chatgpt_source.journal.postgres import (
        recovery,
    )
    from chatgpt_source.journal.postgres.background import RENEW_EVERY
    from chatgpt_source.journal.postgres.recovery import LEASE

from tests.journal.postgres_case import AtCommit, PostgresTestCase

HOUR = 3600.0


class LeaseTests(PostgresTestCase):
    def test_the_claims_of_one_whose_lease_has_ended_are_taken_over(self) -> None:
        self.accept(prompt())
        self.answer(claim=True)
        self.accept(prompt("p2"))
        (old,) = self.claimed_by(self.journal)
        second = self.another()
        self.end_leases()
        self.assertEqual((self.claimed_by(second), second.takeovers), ([], 0))
        self.successResultOf(second.probe())  # renews its own
        self.successResultOf(second._background.sweep())
        self.assertEqual(second.takeovers, 1)
        self.successResultOf(second._background.sweep())
        self.assertEqual(second.takeovers, 1)
        (new,) = self.claimed_by(second)
        self.assertEqual((new.prompt.id, new.total), ("p2", 2))
        late = self.end(old, Failed("late", give_back=True))
        self.assertFalse(late.kept)
        self.assertEqual(self.used(), 2)
        ended = second.ask_ended(new, Answered(ANSWER, b"e"), NOON)
        self.assertTrue(self.successResultOf(ended).kept)

    def test_how_many_daemons_there_are(self) -> None:
        def told() -> int:
            return self.successResultOf(self.journal.tally(DAY.date)).daemons

        second, beside = self.another(), self.open_journal()
        self.assertEqual((told(), beside.owner), (2, None))
        self.assertNotIn(second.owner, {None, self.journal.owner})
        self.successResultOf(second.close())
        self.assertEqual(told(), 1)

    def test_one_that_lives_keeps_its_own(self) -> None:
        self.accept(prompt())
        (ask,) = self.claimed_by(self.journal)
        second = self.another()
        self.successResultOf(second._background.sweep())
        self.assertEqual(self.claimed_by(second), [])
        self.assertTrue(self.end(ask, Answered(ANSWER, b"e")).kept)

    def test_one_that_comes_back_is_another(self) -> None:
        before = self.journal._session.owner
        self.end_leases()
        second = self.another()
        self.accept(prompt())
        (ask,) = self.claimed_by(self.journal)
        self.assertNotIn(self.journal._session.owner, {before, second._session.owner})
        self.assertTrue(self.end(ask, Answered(ANSWER, b"e")).kept)

    def test_an_idle_one_renews_it(self) -> None:
        self.end_leases()
        self.clock.advance(RENEW_EVERY)
        owners = self.journal._session.connection.execute(
            "SELECT until > clock_timestamp() + interval '15 s' AS renewed, ended FROM owners"
        )
        self.assertEqual(owners.fetchall(), [{"renewed": True, "ended": False}])

    def test_after_an_outage_all_have_time_to_renew_theirs(self) -> None:
        self.accept(prompt())
        self.claimed_by(self.journal)
        second = self.another()
        second._session.connection.close()
        self.successResultOf(second.probe())
        self.abandon(self.journal)
        self.successResultOf(second._background.sweep())
        self.assertEqual(self.claimed_by(second), [])
        self.clock.advance(LEASE)
        self.assertEqual([ask.total for ask in self.claimed_by(second)], [2])

    def start_after(self, name: str, since: str) -> Any:
        """Start another when the lease of the first has just ended."""
        self.accept(prompt())
        self.claimed_by(self.journal)
        self.journal._session.connection.execute(
            "UPDATE owners SET until = clock_timestamp() - interval '1 s'"
        )
        self.patch(recovery, "UP_SINCE", "clock_timestamp() - interval '1 h'")
        self.patch(recovery, name, since)
        return self.another()

    def test_a_start_takes_over_from_those_that_had_time_to_renew_theirs(self) -> None:
        second = self.start_after("UP_SINCE", f"clock_timestamp() - interval '{LEASE + 1} s'")
        self.assertEqual([ask.total for ask in self.claimed_by(second)], [2])

    def test_a_start_right_after_the_database_s_leaves_them_a_lease(self) -> None:
        second = self.start_after("UP_SINCE", f"clock_timestamp() - interval '{LEASE - 1} s'")
        self.clock.advance(RENEW_EVERY)
        self.assertEqual(self.claimed_by(second), [])
        self.abandon(self.journal)
        self.clock.advance(LEASE)
        self.assertEqual([ask.total for ask in self.claimed_by(second)], [2])

    def test_a_start_on_a_promoted_standby_leaves_them_a_lease(self) -> None:
        second = self.start_after("REPLAYED", f"clock_timestamp() - interval '{LEASE} s'")
        self.clock.advance(RENEW_EVERY)
        self.assertEqual(self.claimed_by(second), [])

    def test_no_claim_is_returned_after_its_end(self) -> None:
        transactor = self.journal._transactor
        self.accept(prompt("p1"))
        self.answer("p1")
        ticks = iter(range(0, 10**6, int(LEASE)))
        transactor.monotonic = lambda: float(next(ticks))
        before = self.journal._session.owner
        transactor._session.connection.execute("INSERT INTO batches (key, created) VALUES ('', 0)")
        self.assertIsNone(self.successResultOf(self.admit(prompt("p2"), claim=True)).ask)
        self.assertEqual(self.deliveries().claimed, [])
        self.assertEqual(self.successResultOf(self.journal.claim_batches()), [])
        self.assertNotEqual(self.journal._session.owner, before)
        transactor.monotonic = lambda: 0.0
        self.end_leases()
        self.successResultOf(self.journal.probe())
        self.successResultOf(self.journal._background.sweep())
        self.assertEqual([ask.total for ask in self.asks().claimed], [2])
        self.assertEqual([each.attempt for each in self.deliveries().claimed], [2])

    def test_what_is_left_of_it_goes_by_the_time_of_this_machine(self) -> None:
        transactor, now = self.journal._transactor, 100.0
        transactor.monotonic = lambda: now
        self.successResultOf(self.journal.probe())
        self.assertEqual(self.journal.lease_left, LEASE)
        now += 15
        self.assertEqual(self.journal.lease_left, LEASE - 15)
        self.successResultOf(self.journal.probe())
        self.assertEqual(self.journal.lease_left, LEASE)

    def test_one_that_forsakes_its_claims_can_still_end_them(self) -> None:
        self.accept(prompt("p1"), prompt("p2"))
        before = self.journal._session.owner
        first, second = self.claimed_by(self.journal)
        self.journal.forsake()
        self.assertTrue(self.end(first, Answered(ANSWER, b"e")).kept)
        self.assertNotEqual(self.journal._session.owner, before)
        self.assertEqual(self.claimed_by(self.journal), [])
        self.end_leases()
        self.successResultOf(self.journal.probe())
        self.successResultOf(self.journal._background.sweep())
        self.assertEqual([ask.prompt.id for ask in self.claimed_by(self.journal)], ["p2"])
        self.assertFalse(self.end(second, Answered(ANSWER, b"e")).kept)

    def test_no_claim_is_returned_of_an_owner_that_was_forsaken_meanwhile(self) -> None:
        self.accept(prompt("p1"))
        self.answer("p1")
        before = self.journal._session.owner
        for claim, what in (
            (lambda: self.successResultOf(self.admit(prompt("p2"), claim=True)).ask, None),
            (lambda: self.deliveries().claimed, []),
        ):
            session = self.journal._session
            real = session.connection
            session.connection = AtCommit(real, self.journal.forsake)
            self.assertEqual(claim(), what)
            session.connection = real
            self.assertNotEqual(session.owner, before)
            before = session.owner
        self.end_leases()
        self.successResultOf(self.journal.probe())
        self.successResultOf(self.journal._background.sweep())
        self.assertEqual([ask.total for ask in self.asks().claimed], [2])
        self.assertEqual([each.attempt for each in self.deliveries().claimed], [2])

    def test_nothing_is_claimed_for_whom_nobody_waits_any_more(self) -> None:
        """As when a daemon whose lease ends gives up what it does about its batches."""
        self.accept(prompt("p1"), prompt("p2"))
        (ask,) = self.claimed_by(self.journal, 1)
        threads = Threads(self.clock)
        self.patch(self.journal._executor._group, "_in_thread", threads.defer)
        self.journal.probe()  # the thread is busy
        now, answered = self.clock.seconds(), Answered(ANSWER, b"e")
        waiting = [
            self.journal.ask_ended(ask, answered, now, claim=True),
            self.journal.claim_asks(now, 10),
            self.journal.claim_batches(),
            self.journal.open_batch("a-key"),
        ]
        self.journal.forsake()
        for each in waiting:
            each.cancel()
            self.failureResultOf(each, CancelledError)
        asks, deliveries = (
            self.journal.claim_asks(now, 10),
            self.journal.claim_deliveries(TO, now, 10),
        )
        while threads.waiting:
            threads.work()
        self.assertEqual([ask.prompt.id for ask in self.successResultOf(asks).claimed], ["p2"])
        self.assertEqual([each.id for each in self.successResultOf(deliveries).claimed], ["p1"])
        opened = self.journal.batches()
        threads.work()
        self.assertEqual(self.successResultOf(opened), [])

    def test_a_stop_gives_claims_back_at_once(self) -> None:
        self.accept(prompt())
        self.claimed_by(self.journal)
        second = self.another()
        self.successResultOf(self.journal.close())
        self.assertEqual([ask.total for ask in self.claimed_by(second)], [2])

    def test_it_is_counted_when_it_is_lost(self) -> None:
        self.successResultOf(self.journal.probe())
        self.end_leases()
        second = self.another()
        self.successResultOf(second._background.sweep())
        self.assertEqual(self.journal.losses, 0)
        self.successResultOf(self.journal.probe())
        self.assertEqual(self.journal.losses, 1)
        self.journal.forsake()
        self.successResultOf(self.journal.probe())
        self.assertEqual(self.journal.losses, 1)

    def test_the_sweep_that_connects_again_ends_none(self) -> None:
        self.accept(prompt())
        self.claimed_by(self.journal)
        second = self.another()
        self.abandon(self.journal)
        second._session.connection.close()
        self.successResultOf(second._background.sweep())
        self.assertEqual(self.claimed_by(second), [])

    def test_once_the_database_s_clock_is_set_all_have_time_to_renew_theirs(self) -> None:
        self.accept(prompt())
        self.claimed_by(self.journal)
        second = self.another()
        self.successResultOf(second._background.renew())
        self.end_leases()
        self.ahead = 3600.0
        self.successResultOf(second.probe())
        self.successResultOf(second._background.sweep())
        self.assertEqual(self.claimed_by(second), [])

    def test_who_stands_still_in_a_transaction_is_cut_off(self) -> None:
        """Between two statements of a pipeline, where no timeout of the server ends it."""
        self.accept(prompt())
        self.claimed_by(self.journal)
        second = self.another()
        self.journal._session.connection.execute(
            "UPDATE owners SET until = clock_timestamp() - interval '1 s'"
        )
        self.successResultOf(second.probe())  # renews its own
        self.stand_still(self.journal)
        self.wait(lambda: self.is_held(second))
        self.patch(recovery, "PATIENCE", HOUR)
        self.successResultOf(second._background.sweep())
        self.assertTrue(self.is_held(second))
        self.patch(recovery, "PATIENCE", 0.0)

        def is_taken_over() -> bool:
            self.successResultOf(second._background.sweep())
            return bool(second.takeovers)

        self.wait(is_taken_over)
        self.assertEqual([ask.total for ask in self.claimed_by(second)], [2])

    def stand_still(self, journal: Any) -> None:
        """Let its process stop after it has sent the first statements of a group."""
        session = journal._session
        pipeline = session.connection.pipeline()
        pipeline.__enter__()

        def end() -> None:
            with contextlib.suppress(psycopg.OperationalError):
                pipeline.__exit__(None, None, None)

        self.addCleanup(end)
        session.execute("BEGIN")
        session.execute("UPDATE owners SET number = number + 1 WHERE id = %s", (session.owner,))

    def is_held(self, journal: Any) -> bool:
        """Whether another process holds the row of an owner."""
        free = journal._session.execute("SELECT id FROM owners FOR UPDATE SKIP LOCKED")
        return len(free.fetchall()) == 1

    def wait(self, condition: Callable[[], bool]) -> None:
        """Wait for what the server does."""
        latest = time.monotonic() + LEASE
        while not condition():
            self.assertLess(time.monotonic(), latest)

    def test_another_limit_is_told(self) -> None:
        with capturedLogs() as logs:
            journal = self.open_journal()
            self.successResultOf(journal.recover(99, "UTC", PEERS, 60.0))
            other = self.open_journal()
            self.successResultOf(other.recover(99, "UTC", PEERS, 60.0))
        self.assertEqual(sum("each goes by its own" in each["log_format"] for each in logs), 1)
