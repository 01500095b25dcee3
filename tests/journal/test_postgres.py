"""The PostgreSQL journal: held to what `Journal` promises, and what is its own."""

import contextlib
import itertools
import random
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Barrier, Event
from typing import Any

import attrs
from twisted.internet import reactor
from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.errors import JournalError, JournalUnavailable, NotCancelled, QuotaUsedUp
from chatgpt_source.journal import (
    Answered,
    Delivered,
    Failed,
    Key,
    PeerState,
    Postponed,
    Submission,
    Terms,
)
from chatgpt_source.prompt import NOWHERE, State
from chatgpt_source.tiers import Tiers
from tests.clocks import Clocks
from tests.contracts.answers import AnswersContract
from tests.contracts.driver import JournalDriver
from tests.contracts.journal import JournalContract
from tests.journal.common import ANSWER, DAY, NOON, PEERS, Threads, at_once, prompt
from tests.journal.postgres_server import ask, begin, server

with contextlib.suppress(ImportError):  # the tests are skipped then: `server` says why
    import psycopg

    from chatgpt_source.journal.postgres import (
        RECOVER_EVERY,
        RENEW_EVERY,
        PostgresJournal,
        open_journal,
        recovery,
    )
    from chatgpt_source.journal.postgres.connect import Database, Patient
    from chatgpt_source.journal.postgres.recovery import LEASE
    from chatgpt_source.journal.postgres.session import Session
    from chatgpt_source.journal.postgres.transact import LONGEST_DELAY, Transactor


class Opening:
    """Opens journals in a schema of the test's own; their database's clock is the test's."""

    addCleanup: Any
    clock: Any

    def open_journal(self, in_thread: Any = at_once) -> Any:
        if not hasattr(self, "url"):
            self.url = server().schema()
        opened = open_journal(Database(self.url))
        journal = PostgresJournal(opened, self.clock, in_thread, lambda _: self.clock.seconds())
        self.addCleanup(self.shut, journal)
        return journal

    def shut(self, journal: Any) -> None:
        """Whatever its connection is by then."""
        journal._session.connection.close()

    def end_leases(self) -> None:
        """Let time pass for all owners."""
        _, connection = open_journal(Database(self.url))
        connection.execute("UPDATE owners SET until = '-infinity'")
        connection.close()

    def open_second(self) -> Any:
        self.end_leases()
        return self.open_journal()

    def abandon(self, journal: Any) -> None:
        journal._session.connection.close()
        for watch, _ in journal._watches:
            if watch.running:
                watch.stop()
        self.end_leases()


class ContractTests(Opening, JournalContract, AnswersContract, SynchronousTestCase):
    pass


class LostCommit:
    """A connection that is lost during the next COMMIT."""

    def __init__(self, real: Any, *, arrives: bool) -> None:
        self._real = real
        self._arrives = arrives
        self._sent = False
        self.sent: list[tuple[Any, Any]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def execute(self, query: Any, values: Any = None) -> Any:
        self._sent = query in {"COMMIT", b"COMMIT"}
        self.sent.append((query, values))
        return self._real.execute(query if self._arrives or not self._sent else "ROLLBACK", values)

    @contextlib.contextmanager
    def pipeline(self) -> Any:
        with self._real.pipeline() as pipeline:
            yield pipeline
            if self._sent and self._arrives:
                pipeline.sync()
            if self._sent:
                self._real.close()


class LastWords:
    """A connection whose server ends the session after the next COMMIT, and says so."""

    def __init__(self, real: Any) -> None:
        self._real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    @contextlib.contextmanager
    def pipeline(self) -> Any:
        with self._real.pipeline() as pipeline:
            yield pipeline
        raise psycopg.errors.AdminShutdown("terminating connection")


class AtCommit:
    """A connection during whose next COMMIT something happens."""

    def __init__(self, real: Any, act: Any) -> None:
        self._real = real
        self._act = act

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def execute(self, query: Any, values: Any = None) -> Any:
        if query in {"COMMIT", b"COMMIT"}:
            self._act()
        return self._real.execute(query, values)


class Counted:
    """A connection that counts statements, and round trips in a pipeline before its end."""

    def __init__(self, real: Any) -> None:
        self.real = real
        self.statements = self.syncs = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def execute(self, query: Any, values: Any = None) -> Any:
        self.statements += 1
        return self.real.execute(query, values)

    @contextlib.contextmanager
    def pipeline(self) -> Any:
        with self.real.pipeline():
            yield self

    def sync(self) -> None:
        self.syncs += 1
        self.real._pipeline.sync()


class PostgresTestCase(Opening, JournalDriver, SynchronousTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.journal = self.open_journal()
        self.recover(self.journal)

    def another(self) -> Any:
        journal = self.open_journal()
        self.recover(journal)
        return journal

    def claimed_by(self, journal: Any, most: int = 10) -> list[Any]:
        return list(self.successResultOf(journal.claim_asks(self.clock.seconds(), most)).claimed)


class SharedTests(PostgresTestCase):
    def test_two_owners_share_one_backlog(self) -> None:
        second = self.another()
        self.accept(*(prompt(f"p{n}") for n in range(6)))
        claimed = [self.claimed_by(self.journal, 2), self.claimed_by(second, 2)]
        claimed += [self.claimed_by(self.journal), self.claimed_by(second)]
        names = [[ask.prompt.id for ask in each] for each in claimed]
        self.assertEqual(names, [["p0", "p1"], ["p2", "p3"], ["p4", "p5"], []])

    def test_a_key_is_known_to_all(self) -> None:
        second = self.another()
        self.successResultOf(self.admit(prompt(), key="k"))
        terms = Terms(DAY, 100, 100)
        (again,) = self.successResultOf(
            second.accept([Submission(prompt("p2"), Key(("k",)))], terms)
        )
        self.assertEqual((again.id, again.repeated), ("p1", True))

    def test_a_key_is_one_prompt_for_four_that_race(self) -> None:
        journals = [self.journal, *(self.another() for _ in range(3))]
        terms = Terms(DAY, 100, 1000)

        def send(number: int) -> list[Any]:
            outcomes: list[Any] = []
            for n in range(40):
                same = Submission(prompt(f"{number}-{n}"), Key((f"k{n // 2}",)))
                journals[number].accept([same], terms).addBoth(outcomes.append)
            return outcomes

        with ThreadPoolExecutor(4) as threads:
            told = [one for some in threads.map(send, range(4)) for (one,) in some]
        self.assertEqual(sum(not one.repeated for one in told), 20)
        self.assertEqual((len({one.id for one in told}), self.used()), (20, 20))

    def test_the_limit_is_used_up_by_four_that_race(self) -> None:
        journals = [self.journal, *(self.another() for _ in range(3))]

        def send(number: int) -> list[Any]:
            outcomes: list[Any] = []
            for n in range(30):
                journals[number].accept(
                    [Submission(prompt(f"{number}-{n}"))], Terms(DAY, 100, 1000)
                ).addBoth(outcomes.append)
            return outcomes

        with ThreadPoolExecutor(4) as threads:
            told = [one for some in threads.map(send, range(4)) for one in some]
        self.assertEqual(sum(isinstance(one, list) for one in told), 100)
        for one in told:
            if not isinstance(one, list):
                one.trap(QuotaUsedUp)
        self.assertEqual(self.used(), 100)


class Racer:
    """Accepts, asks, delivers and cancels, all that it can in each group."""

    def __init__(self, number: int, journal: Any, threads: Threads) -> None:
        self.number = number
        self.journal = journal
        self.threads = threads
        self.ids: list[str] = []
        self.ends: list[Any] = []
        self.accepted = self.cancelled = self.delivered = 0

    def race(self, ids: list[list[str]]) -> None:
        self.together([lambda: self.journal.recover(10**6, "UTC", PEERS, 60.0)])
        for turn in range(25):
            known = [each for some in ids for each in some]
            mine = [f"{self.number}-{turn}-{n}" for n in range(6)]
            calls = [
                *(partial(self.cancel, each) for each in random.sample(known, min(len(known), 6))),
                *(partial(self.accept, each, claim=n > 2) for n, each in enumerate(mine)),
                *self.ends,
                partial(self.claim, 4),
            ]
            self.ends = []
            self.together(calls)
            self.ids += mine

    def together(self, calls: list[Any]) -> None:
        waiting = [each() for each in calls]
        while self.threads.waiting:
            self.threads.work()
        for each in waiting:
            each.addErrback(lambda failure: failure.trap(NotCancelled))
            each.result  # noqa: B018 - it has one

    def accept(self, name: str, *, claim: bool) -> Any:
        terms = Terms(DAY, 10**6, 10**6)
        return self.journal.accept([Submission(prompt(name))], terms, claim=claim).addCallback(
            self.has_accepted
        )

    def has_accepted(self, admitted: Any) -> None:
        self.accepted += len(admitted)
        self.ask(each.ask for each in admitted if each.ask is not None)

    def claim(self, most: int) -> Any:
        return self.journal.claim_asks(NOON, most).addCallback(lambda told: self.ask(told.claimed))

    def ask(self, asks: Any) -> None:
        self.ends += [partial(self.answer, ask) for ask in asks]

    def answer(self, ask: Any) -> Any:
        ended = self.journal.ask_ended(ask, Answered(ANSWER, b"e"), NOON, claim=True)
        return ended.addCallback(
            lambda told: self.ends.append(partial(self.deliver, told.delivery))
        )

    def deliver(self, delivery: Any) -> Any:
        return self.journal.delivery_ended(delivery, Delivered(), NOON).addCallback(self.count)

    def count(self, ended: Any) -> None:
        self.delivered += ended.kept

    def cancel(self, name: str) -> Any:
        def count(told: Any) -> None:
            self.cancelled += not told.repeated

        return self.journal.cancel(name).addCallback(count)


class GroupTests(PostgresTestCase):
    """What rides one commit."""

    def setUp(self) -> None:
        super().setUp()
        self.threads = Threads()
        self.grouped = self.open_journal(self.threads.defer)
        recovered = self.grouped.recover(self.everyday_limit, "UTC", PEERS, self.keep)
        self.work()
        self.successResultOf(recovered)

    def work(self) -> None:
        while self.threads.waiting:
            self.threads.work()

    def claims(self, count: int, name: str = "p") -> list[Any]:
        terms = Terms(DAY, 100, 1000)
        admitted = [
            self.grouped.accept([Submission(prompt(f"{name}{n}"))], terms, claim=True)
            for n in range(count)
        ]
        self.work()
        return [self.successResultOf(each)[0].ask for each in admitted]

    def ends(self, works: list[Any], outcome: Any, **options: Any) -> list[Any]:
        """The ends of some claims; the first group has none of them."""
        first = self.grouped.probe()
        end = self.grouped.ask_ended if hasattr(works[0], "prompt") else self.grouped.delivery_ended
        ended = [end(each, outcome, NOON, **options) for each in works]
        self.threads.work()
        self.successResultOf(first)
        return ended

    def test_ends_of_a_kind_share_a_statement_and_a_round_trip(self) -> None:
        told = []
        for count in (2, 20):
            asks = self.claims(count, f"of {count}, ")
            for _ in range(2):
                outcome = Answered(ANSWER, b"e") if hasattr(asks[0], "prompt") else Delivered()
                options = {"claim": True} if hasattr(asks[0], "prompt") else {}
                ended = self.ends(asks, outcome, **options)
                session = self.grouped._session
                session.connection = counted = Counted(session.connection)
                self.work()
                session.connection = counted.real
                told.append((counted.statements, counted.syncs))
                results = [self.successResultOf(each) for each in ended]
                self.assertTrue(all(each.kept for each in results))
                asks = [each.delivery for each in results]
        self.assertEqual(told, [(4, 0)] * 4)

    def test_what_is_accepted_or_claimed_takes_two_round_trips(self) -> None:
        for call, statements in (
            (lambda: self.admit(prompt(), claim=True), 5),
            (lambda: self.journal.claim_asks(NOON, 10), 5),
            (lambda: self.journal.claim_submitted(NOON, 10), 5),
            (lambda: self.journal.claim_deliveries("target", NOON, 10), 5),
            (lambda: self.journal.claim_leftovers(NOON, 10), 5),
        ):
            session = self.journal._session
            session.connection = counted = Counted(session.connection)
            self.successResultOf(call())
            session.connection = counted.real
            self.assertEqual((counted.statements, counted.syncs), (statements, 1))

    def test_each_end_has_its_own_outcome(self) -> None:
        first, second, third = self.claims(3)
        old = attrs.evolve(second, token=second.token - 1)
        ended = self.ends([first, old, third], Answered(ANSWER, b"e"), claim=True)
        self.work()
        one, two, three = (self.successResultOf(each) for each in ended)
        self.assertEqual([one.kept, two.kept, three.kept], [True, False, True])
        self.assertIsNone(two.delivery)
        self.assertEqual((one.delivery.id, three.delivery.id), ("p0", "p2"))
        old = attrs.evolve(one.delivery, token=one.delivery.token - 1)
        ended = self.ends([old, three.delivery], Delivered())
        self.work()
        self.assertEqual([self.successResultOf(each).kept for each in ended], [False, True])
        states = [self.record(f"p{n}").state.value for n in range(3)]
        self.assertEqual(states, ["answered", "accepted", "delivered"])

    def test_one_that_can_t_be_stored_fails_no_other(self) -> None:
        first, second, third = self.claims(3)
        ended = self.ends([first], Answered(ANSWER, b"e"))
        bad = attrs.evolve(ANSWER, request_id="nul \0")
        ended.append(self.grouped.ask_ended(second, Answered(bad, b"e"), NOON))
        ended.append(self.grouped.ask_ended(third, Answered(ANSWER, b"e"), NOON))
        self.work()
        self.assertTrue(self.successResultOf(ended[0]).kept)
        self.failureResultOf(ended[1], JournalUnavailable)
        self.assertTrue(self.successResultOf(ended[2]).kept)

    def test_a_commit_that_arrived_has_its_outcomes(self) -> None:
        session = self.grouped._session
        session.connection = LostCommit(session.connection, arrives=True)
        asks = self.claims(3)
        self.assertEqual(len({ask.token for ask in asks}), 3)
        session.connection = LostCommit(session.connection, arrives=True)
        asks[2] = attrs.evolve(asks[2], token=0)
        ended = [
            self.grouped.ask_ended(each, Answered(ANSWER, b"e"), NOON, claim=True) for each in asks
        ]
        self.work()
        results = [self.successResultOf(each) for each in ended]
        self.assertEqual([each.kept for each in results], [True, True, False])
        session.connection = LostCommit(session.connection, arrives=True)
        deliveries = [results[0].delivery, attrs.evolve(results[1].delivery, token=0)]
        ended = [self.grouped.delivery_ended(each, Delivered(), NOON) for each in deliveries]
        self.work()
        self.assertEqual([self.successResultOf(each).kept for each in ended], [True, False])

    def test_a_lost_owner_commits_nothing(self) -> None:
        (ask,) = self.claims(1)
        second = self.another()
        self.end_leases()
        self.successResultOf(second.probe())
        self.successResultOf(second._sweep())
        ended = self.ends([ask], Answered(ANSWER, b"e"))
        accepted = self.grouped.accept([Submission(prompt("p9"))], Terms(DAY, 100, 100), claim=True)
        self.work()
        self.assertFalse(self.successResultOf(ended[0]).kept)
        self.assertEqual(self.record("p0").state.value, "accepted")
        self.assertIsNone(self.successResultOf(accepted)[0].ask)

    def roll_backs(self) -> list[object]:
        """Transactions that are rolled back from now on."""
        rolled_back: list[object] = []
        roll_back = Transactor._roll_back
        self.patch(
            Transactor, "_roll_back", lambda each: rolled_back.append(each) or roll_back(each)
        )
        return rolled_back

    def test_four_that_race_lose_nothing_and_never_wait_in_a_circle(self) -> None:
        rolled_back = self.roll_backs()
        racers = []
        for number in range(4):
            threads = Threads()
            racers.append(Racer(number, self.open_journal(threads.defer), threads))
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda each: each.race([one.ids for one in racers]), racers))
        accepted, cancelled, delivered = (
            sum(getattr(each, name) for each in racers)
            for name in ("accepted", "cancelled", "delivered")
        )
        tally = self.successResultOf(self.journal.tally(DAY.date))
        self.assertEqual(rolled_back, [])
        self.assertEqual((accepted, tally.used), (600, 600 - cancelled))
        self.assertEqual(sum(tally.prompts.values()), accepted)
        self.assertEqual(
            (tally.prompts[State.DELIVERED], tally.prompts[State.CANCELLED]), (delivered, cancelled)
        )
        self.assertGreater(min(cancelled, delivered), 50)

    def test_a_purge_does_not_wait_in_a_circle_with_the_end_of_a_dead_letter(self) -> None:
        self.accept(prompt())
        self.fail_it(dead_letter=b"l")
        rolled_back = self.roll_backs()
        pid = self.journal._session.connection.info.backend_pid
        with ThreadPoolExecutor(1) as pool, psycopg.connect(self.url) as other:
            other.execute("DELETE FROM outbox")
            purged = pool.submit(self.journal.purge, "p1")
            until = time.monotonic() + 20
            while not other.execute("SELECT cardinality(pg_blocking_pids(%s))", (pid,)).fetchone()[
                0
            ]:
                self.assertLess(time.monotonic(), until)
            other.execute("UPDATE texts SET letter = NULL")
            other.commit()
            self.assertTrue(self.successResultOf(purged.result(20)))
        self.assertEqual(rolled_back, [])


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
        self.successResultOf(second._sweep())
        self.assertEqual(second.takeovers, 1)
        self.successResultOf(second._sweep())
        self.assertEqual(second.takeovers, 1)
        (new,) = self.claimed_by(second)
        self.assertEqual((new.prompt.id, new.total), ("p2", 2))
        late = self.end(old, Failed("late", give_back=True))
        self.assertFalse(late.kept)
        self.assertEqual(self.used(), 2)
        ended = second.ask_ended(new, Answered(ANSWER, b"e"), NOON)
        self.assertTrue(self.successResultOf(ended).kept)

    def test_one_that_lives_keeps_its_own(self) -> None:
        self.accept(prompt())
        (ask,) = self.claimed_by(self.journal)
        second = self.another()
        self.successResultOf(second._sweep())
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
        self.successResultOf(second._sweep())
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
        self.assertIsNone(self.successResultOf(self.admit(prompt("p2"), claim=True)).ask)
        self.assertEqual(self.deliveries().claimed, [])
        self.assertNotEqual(self.journal._session.owner, before)
        transactor.monotonic = lambda: 0.0
        self.end_leases()
        self.successResultOf(self.journal.probe())
        self.successResultOf(self.journal._sweep())
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
        self.successResultOf(self.journal._sweep())
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
        self.successResultOf(self.journal._sweep())
        self.assertEqual([ask.total for ask in self.asks().claimed], [2])
        self.assertEqual([each.attempt for each in self.deliveries().claimed], [2])

    def test_a_stop_gives_claims_back_at_once(self) -> None:
        self.accept(prompt())
        self.claimed_by(self.journal)
        second = self.another()
        self.successResultOf(self.journal.close())
        self.assertEqual([ask.total for ask in self.claimed_by(second)], [2])


class PeersTests(PostgresTestCase):
    """What owners tell each other of peers."""

    def setUp(self) -> None:
        super().setUp()
        self.second = self.another()

    def news(self, journal: Any) -> Any:
        return self.successResultOf(journal.news_of_peers())

    def probes(self, journal: Any, now: float) -> bool:
        return bool(self.successResultOf(journal.claim_probe("model", now, now + 30)))

    def test_what_another_has_stored_is_told_once(self) -> None:
        held = PeerState("401", NOON, 1, NOON + 30, NOON + 5)
        self.successResultOf(self.journal.remember("model", held))
        self.assertEqual(self.news(self.journal), {})
        self.assertEqual(self.news(self.second), {"model": held})
        self.assertEqual(self.news(self.second), {})
        self.successResultOf(self.second.remember("model", PeerState()))
        self.assertEqual(self.news(self.journal), {"model": PeerState()})

    def test_not_by_other_settings(self) -> None:
        third = self.open_journal()
        self.recover(third, {**PEERS, "model": "another key"})
        self.successResultOf(third.remember("model", PeerState("401", NOON, 1, NOON + 30)))
        self.assertEqual(self.news(self.second), {})

    def test_one_probes(self) -> None:
        held = PeerState("401", NOON, 1, NOON + 30)
        self.successResultOf(self.journal.remember("model", held))
        self.assertFalse(self.probes(self.second, NOON + 29))
        self.assertTrue(self.probes(self.second, NOON + 30))
        self.assertFalse(self.probes(self.journal, NOON + 31))
        self.assertEqual(self.news(self.journal)["model"].probe_at, NOON + 60)
        self.assertTrue(self.probes(self.journal, NOON + 60))

    def test_a_hold_that_could_not_be_stored_is_probed(self) -> None:
        self.successResultOf(self.journal.remember("model", PeerState()))
        self.assertTrue(self.probes(self.journal, NOON))


class OthersBatchesTests(PostgresTestCase):
    def test_one_has_a_batch_until_its_lease_ends(self) -> None:
        second = self.another()
        batch = self.successResultOf(self.journal.open_batch("a-key"))
        self.assertEqual(self.successResultOf(second.claim_batches()), [])
        self.assertFalse(self.successResultOf(second.store_batch(batch)))
        self.successResultOf(second.drop_batch(batch.id))
        self.abandon(self.journal)
        self.successResultOf(second.probe())
        self.successResultOf(second._sweep())
        self.assertEqual(self.successResultOf(second.claim_batches()), [batch])
        self.assertTrue(self.successResultOf(second.store_batch(batch)))

    def test_the_ends_of_asking_are_seen_by_all(self) -> None:
        second = self.another()
        self.accept(prompt("p1"), prompt("p2"))
        self.answer("p1", claim=True)
        ended = self.successResultOf(second.ended_asking(["p1", "p2", "p3"]))
        self.assertEqual(ended, ["p1"])


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
                    self.clock.advance(RECOVER_EVERY)
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
        half_open.execute("BEGIN")
        half_open.execute("UPDATE days SET used = used")
        self.assertEqual(self.accept(prompt("p2")), 98)

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
        patience = self.patch(Patient, "SILENCE", 0.3)
        self.accept(prompt("p1"))
        (ask,) = self.claimed_by(self.journal)
        for run in (self.journal._write, self.journal._read):
            silent = run(lambda db: (yield db.execute("SELECT pg_sleep(1)")))
            refusal = self.failureResultOf(silent, JournalUnavailable)
            self.assertEqual(
                refusal.value.reason, "the database can't be reached (nothing came for 0 s)"
            )
        patience.restore()  # the old process has locked our owner's row for the rest of its second
        self.assertEqual(self.accept(prompt("p2")), 98)
        self.assertTrue(self.end(ask, Answered(ANSWER, b"e")).kept)

    def test_one_on_which_something_comes_is_not(self) -> None:
        self.patch(Patient, "SILENCE", 0.3)
        rows = "SELECT repeat('x', 1000000), pg_sleep(0.1) FROM generate_series(1, 6)"
        self.successResultOf(self.journal._read(lambda db: (yield db.execute(rows)), None))

    def test_a_start_goes_on_once_the_database_is_there_again(self) -> None:
        opened = open_journal(Database(self.url))
        opened[1].close()
        journal = PostgresJournal(opened, self.clock, at_once, lambda _: self.clock.seconds())
        transactor, reconnect = journal._transactor, journal._reconnect
        self.addCleanup(self.shut, journal)

        def fail() -> None:
            raise psycopg.OperationalError("connection failed: it restarts")

        transactor._reconnect = fail
        begun = journal.recover(100, "UTC", PEERS, 60.0)
        self.assertNoResult(begun)
        transactor._reconnect, transactor._next_attempt = reconnect, 0.0
        self.clock.advance(RECOVER_EVERY)
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

    def test_a_start_that_may_not_write_ends(self) -> None:
        journal = self.open_journal()
        connection = journal._session.connection
        connection.execute("CREATE ROLE rightless")
        self.addCleanup(ask, server(), "DROP ROLE rightless")
        connection.execute("SET ROLE rightless")
        failure = self.failureResultOf(journal.recover(100, "UTC", PEERS, 60.0), JournalError)
        self.assertIn("can't be written: the database refused it", str(failure.value))

    def test_data_that_can_t_be_stored_fails_nothing_else(self) -> None:
        threads = Threads()
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

    def test_no_password_is_told(self) -> None:
        for url in (
            "postgresql://u:hunter2@127.0.0.1:1/db",
            "postgresql://u:hunter2@127.0.0.1:port/db",
            "postgresql://u:hunter2@h/db?hunter2=1",
        ):
            error = self.assertRaises(JournalError, open_journal, Database(url))
            self.assertNotIn("hunter2", f"{error}{error!r}{error.__cause__}")


class DateTests(PostgresTestCase):
    def test_the_day_is_the_database_s(self) -> None:
        ahead = PostgresJournal(
            open_journal(Database(self.url)), self.clock, at_once, lambda _: NOON + 86400
        )
        self.addCleanup(self.shut, ahead)
        self.recover(ahead)
        self.assertEqual((self.journal.date, ahead.date), (NOON, NOON + 86400))


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

    def test_a_newer_one_is_refused_in_one_line(self) -> None:
        url = server().schema()
        _, connection = open_journal(Database(url))
        connection.execute("UPDATE schema SET version = 99")
        connection.close()
        refusal = self.assertRaises(JournalError, open_journal, Database(url))
        self.assertRegex(str(refusal), r"^[^\n]*newer chatgpt-source \(schema 99,[^\n]*upgrade$")


class CountTests(PostgresTestCase):
    def counted(self) -> Any:
        """What the tally says; it must be what the table has."""
        (rows,) = (
            each.fetchall()
            for each in [
                self.journal._session.connection.execute(
                    "SELECT state, count(*) AS n FROM prompts GROUP BY state"
                )
            ]
        )
        tally = self.successResultOf(self.journal.tally(DAY.date)).prompts
        self.assertEqual(
            {state.value: count for state, count in tally.items() if count},
            {row["state"]: row["n"] for row in rows},
        )
        return tally

    def test_however_prompts_end_they_are_counted(self) -> None:
        self.accept(*(prompt(f"p{n}") for n in range(8)))
        nowhere = attrs.evolve(prompt("p8"), target=NOWHERE)
        self.accept(nowhere)
        self.answer("p8")
        self.deliver("p0")
        self.answer("p1", claim=True)
        self.fail_it("p1", dead_letter=b"l")
        for name in ("p2", "p3", "p4"):
            self.fail_it(name)
        for name in ("p5", "p6"):
            self.postpone(name)
            self.successResultOf(self.journal.cancel(name))
        told = self.counted()
        self.assertEqual([told[each] for each in State], [1, 0, 0, 2, 4, 2])
        for name in ("p1", "p2"):
            self.successResultOf(self.journal.redrive(name))
        self.successResultOf(self.journal.purge("p3"))
        self.assertFalse(self.successResultOf(self.journal.purge("p3")))
        told = self.counted()
        self.assertEqual([told[each] for each in State], [2, 0, 1, 2, 1, 2])
        self.successResultOf(self.journal._let_lapse())
        self.assertEqual(self.counted(), told)
        rows = self.journal._session.connection.execute("SELECT state FROM ended_counts")
        self.assertEqual(len(rows.fetchall()), 3)
        self.successResultOf(self.journal.prune(NOON + 1))
        told = self.counted()
        self.assertEqual([told[each] for each in State], [2, 0, 1, 0, 0, 0])

    def test_a_redrive_that_is_refused_counts_nothing(self) -> None:
        self.everyday_limit = 1
        self.another()
        self.accept(prompt())
        self.fail_it()
        self.failureResultOf(self.journal.redrive("p1"), QuotaUsedUp)
        self.counted()


class Recorded(Counted):
    """A connection that keeps its statements."""

    def __init__(self, real: Any) -> None:
        super().__init__(real)
        self.sent: list[tuple[bytes, Any]] = []

    def execute(self, query: Any, values: Any = None) -> Any:
        self.sent.append((query if isinstance(query, bytes) else query.encode(), values))
        return super().execute(query, values)


class PlanTests(PostgresTestCase):
    """No statement that is sent all the time reads all prompts."""

    FILL = """
        INSERT INTO prompts (id, state, due, day, accepted, ended, since, target, tier, size,
            deadline, ends, error)
        SELECT 'p' || n, state, CASE WHEN state IN ('accepted', 'submitted') THEN %(at)s + n END,
            'd', %(at)s,
            CASE WHEN state IN ('delivered', 'failed', 'cancelled') THEN %(at)s + n END,
            0, 'target', CASE n %% 3 WHEN 0 THEN 'flex' ELSE 'standard' END, 10,
            CASE n %% 3 WHEN 0 THEN %(at)s + n END, CASE n %% 5 WHEN 0 THEN %(at)s + n END,
            CASE WHEN state = 'failed' THEN 'why' END
        FROM (SELECT n, CASE n %% 100 WHEN 1 THEN 'accepted' WHEN 2 THEN 'answered'
            WHEN 3 THEN 'submitted' WHEN 4 THEN 'failed' WHEN 5 THEN 'cancelled'
            ELSE 'delivered' END AS state FROM generate_series(1, 20000) AS n) AS few;
        INSERT INTO texts (seq, prompt, source, type, event)
            SELECT seq, 'p', 's', 't', 'e' FROM prompts WHERE state <> 'delivered';
        INSERT INTO outbox (seq, destination, due, since, size)
            SELECT seq, 'target', %(at)s, %(at)s, 10 FROM prompts WHERE state = 'answered'
    """

    def setUp(self) -> None:
        super().setUp()
        connection = self.journal._session.connection
        for each in self.FILL.split(";"):
            connection.execute(each, {"at": NOON})
        connection.execute("INSERT INTO owners (until) VALUES ('-infinity')")
        connection.execute("ANALYZE")
        self.recorded = self.journal._session.connection = Recorded(connection)

    def test_none_reads_all_prompts(self) -> None:
        at = NOON + 2000
        journal = self.journal
        told = [
            journal.accept(
                [Submission(prompt("new"), Key(("k",)))], Terms(DAY, 10**6, 10**6), claim=True
            ),
            journal.claim_asks(at, 10),
            journal.claim_expired(at, 10),
            journal.claim_submitted(at, 10),
            journal.claim_batched(1, at, 10),
            journal.claim_deliveries("target", at, 10),
            journal.is_batch_due(at, at, 10),
            journal.move_up(at, Tiers(3600.0, 7200.0)),
            journal.tally(DAY.date),
            journal.ends(NOON + 19_000, 100),
            journal.batched(1, 0, 10),
            journal.ids("p1", 10),
            journal.record("p1"),
            journal.kept("p1", at),
            journal.unneeded("p1"),
            journal.cancel("p17001"),
            journal.redrive("p104"),
            journal.purge("p204"),
            journal.prune(NOON + 100),
            journal._renew(),
            journal._sweep(),
            journal._let_lapse(),
            *(journal.latest(state, None, 10) for state in State),
            *(journal.records(state, 0, 10) for state in State),
            journal._write(lambda db: recovery.recover(db, at, 60.0, 100, "UTC", PEERS)),
        ]
        claims = [self.successResultOf(each) for each in told]
        (ask, *asks) = claims[1].claimed
        self.successResultOf(journal.ask_ended(ask, Answered(ANSWER, b"e"), at, claim=True))
        for outcome in (Postponed(at, "why"), Failed("why", dead_letter=b"l")):
            self.successResultOf(journal.ask_ended(asks.pop(), outcome, at))
        (delivery, *deliveries) = claims[5].claimed
        self.successResultOf(journal.delivery_ended(delivery, Delivered(), at))
        for outcome in (Postponed(at, "why"), Failed("why", dead_letter=b"l")):
            self.successResultOf(journal.delivery_ended(deliveries.pop(), outcome, at))
        real, sent = self.recorded.real, self.recorded.sent
        looked_at = 0
        for query, values in sent:
            if query.split()[0] in {b"SELECT", b"WITH", b"UPDATE", b"DELETE", b"INSERT"}:
                plan = real.execute(b"EXPLAIN " + query, values).fetchall()
                text = "\n".join(row["QUERY PLAN"] for row in plan)
                self.assertNotIn("Seq Scan on prompts", text, f"{query.decode()}\n{text}")
                looked_at += b"prompts" in query
        self.assertGreater(looked_at, 40)
        self.assertTrue(any(b"billed OR state" in query for query, _ in sent))


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
        with ThreadPoolExecutor(4) as pool:
            ends = [pool.submit(each.run) for each in loads]
            try:
                for _ in range(3):
                    for each in loads:
                        each.goes_on.clear()
                    for each in loads:
                        self.assertTrue(each.goes_on.wait(60))
                    self.other.control("restart", "-m", "immediate")
            finally:
                for each in loads:
                    each.stop.set()
            for each in ends:
                each.result(90)
        delivered = [name for each in loads for name in each.delivered]
        refused = [name for each in loads for name in each.refused]
        self.journal = self.another()
        tally = self.successResultOf(self.journal.tally(DAY.date))
        self.assertEqual(tally.prompts[State.DELIVERED], len(delivered))
        self.assertEqual((sum(tally.prompts.values()), tally.used), (len(delivered),) * 2)
        for name in delivered[-20:]:
            self.assertEqual(self.record(name).state, State.DELIVERED)
        self.assertNotEqual(refused, [])
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


class ClockTests(SynchronousTestCase):
    """Instants of processes whose clocks differ."""

    def test_each_gets_its_own_instants_back(self) -> None:
        url = server().schema()
        journals = []
        for ahead in (0.0, 1000.25):
            clock = Clocks()
            clock.advance(NOON + ahead)
            opened = open_journal(Database(url))
            self.addCleanup(opened[1].close)
            journals.append(PostgresJournal(opened, clock, at_once, lambda _: NOON + 0.5))
        for journal in journals:
            self.successResultOf(journal.recover(100, "UTC", PEERS, 60.0))
        first, second = journals
        later = attrs.evolve(prompt(), not_before=NOON + 60.125, deadline=NOON + 90.1)
        self.successResultOf(first.accept([Submission(later)], Terms(DAY, 100, 100)))
        claims = self.successResultOf(second.claim_asks(NOON + 1000, 1))
        self.assertEqual((claims.claimed, claims.next_due), ([], NOON + 1060.375))
        claims = self.successResultOf(first.claim_asks(NOON + 60.125, 1))
        (ask,) = claims.claimed
        self.assertEqual((ask.prompt.not_before, ask.prompt.deadline), (NOON + 60.125, NOON + 90.1))

    def test_a_clock_that_is_set_is_followed_at_the_next_renewal(self) -> None:
        clock = Clocks()
        clock.advance(NOON)
        ahead = 0.0
        opened = open_journal(Database(server().schema()))
        self.addCleanup(opened[1].close)
        journal = PostgresJournal(opened, clock, at_once, lambda _: clock.seconds() + ahead)
        self.successResultOf(journal.recover(100, "UTC", PEERS, 60.0))
        ahead = 3600.0
        self.successResultOf(journal._renew())
        later = attrs.evolve(prompt(), not_before=NOON + 60.0)
        self.successResultOf(journal.accept([Submission(later)], Terms(DAY, 100, 100)))
        (row,) = opened[1].execute("SELECT due FROM prompts").fetchall()
        self.assertEqual(row["due"], NOON + 60.0 + ahead)

    def test_what_a_round_trip_explains_moves_no_instant(self) -> None:
        session = Session(None)
        session.set_clock(1000.0, 10.0, 10.5)
        first = session.offset
        for database, before, after in (
            (1010.0, 20.0, 20.1),
            (1009.8, 20.0, 20.5),
            (1012.0, 20.0, 26.0),
        ):
            session.set_clock(database, before, after)
            self.assertEqual(session.offset, first)
        session.set_clock(1010.5, 20.0, 20.1)
        self.assertEqual(session.offset, round(990.45 * 1024) / 1024)

    def test_the_database_s_own_clock_is_read_within_a_group(self) -> None:
        opened = open_journal(Database(server().schema()))
        self.addCleanup(opened[1].close)
        clock = Clocks()
        journal = PostgresJournal(opened, clock, at_once)
        self.successResultOf(journal.recover(100, "UTC", PEERS, 60.0))
        before = journal._session.offset
        clock.advance(RENEW_EVERY)  # the database's own goes on by less
        self.assertTrue(-RENEW_EVERY <= journal._session.offset - before < 0)
