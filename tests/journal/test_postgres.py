"""The PostgreSQL journal: held to what `Journal` promises, and what several owners share."""

import contextlib
import random
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.errors import JournalUnavailable, NotCancelled, QuotaUsedUp
from chatgpt_source.identity import label
from chatgpt_source.journal import (
    Answered,
    Batched,
    Delivered,
    FailureGroup,
    Key,
    PeerState,
    Postponed,
    Submission,
    Terms,
)
from chatgpt_source.prompt import State
from tests.clocks import Clocks
from tests.contracts.attempts import ASKED, FAILED_ASK, SENT
from tests.contracts.engine import EngineContract
from tests.journal.common import ANSWER, DAY, NOON, PEERS, Threads, at_once, prompt
from tests.journal.postgres_server import server

with contextlib.suppress(ImportError):  # the tests are skipped then: `server` says why
    import psycopg

    from chatgpt_source.journal.postgres import (
        PostgresJournal,
        open_journal,
        records,
    )
    from chatgpt_source.journal.postgres.background import RENEW_EVERY
    from chatgpt_source.journal.postgres.connect import Database
    from chatgpt_source.journal.postgres.session import Session
    from chatgpt_source.journal.postgres.transact import Transactor

from tests.journal.postgres_case import Counted, LostCommit, Opening, PostgresTestCase


class ContractTests(
    Opening,
    EngineContract,
    SynchronousTestCase,
):
    pass


class PagedTests(PostgresTestCase):
    def test_failures_are_grouped_over_pages(self) -> None:
        self.patch(records, "GROUPS_STEP", 2)
        for n, error in enumerate(("a: 1", "b", "a: 2", "a", "c (d): e", "b")):
            self.accept(prompt(f"p{n}"))
            self.clock.advance(1)
            self.fail_it(f"p{n}", error)
            groups = self.successResultOf(self.journal.failure_groups(10))
            self.assertEqual(sum(each.count for each in groups), n + 1)
        self.assertEqual(
            groups,
            [
                FailureGroup("a", 3, NOON + 1, NOON + 4),
                FailureGroup("b", 2, NOON + 2, NOON + 6),
                FailureGroup("c (d)", 1, NOON + 5, NOON + 5),
            ],
        )
        self.assertEqual(self.successResultOf(self.journal.failure_groups(1)), groups[:1])


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
        self.threads = Threads(self.clock)
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
                delivered = Delivered(calls=[SENT])
                answered = Answered(ANSWER, b"e", calls=[ASKED])
                outcome = answered if hasattr(asks[0], "prompt") else delivered
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

    def test_the_row_of_a_call_that_failed_takes_no_round_trip(self) -> None:
        told = []
        for calls in ([], [FAILED_ASK], [FAILED_ASK, attrs.evolve(FAILED_ASK, number=2)]):
            (ask,) = self.claims(1, f"with {len(calls)} ")
            ended = self.ends([ask], Postponed(NOON + 60, "why", calls=calls))
            session = self.grouped._session
            session.connection = counted = Counted(session.connection)
            self.work()
            session.connection = counted.real
            told.append((counted.statements, counted.syncs))
            self.assertTrue(self.successResultOf(ended[0]).kept)
        self.assertEqual(told, [(4, 1), (5, 1), (6, 1)])

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
        self.successResultOf(second._background.sweep())
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
            clock = Clocks()  # of its own: a clock is one thread's
            clock.advance(NOON)
            threads = Threads(clock)
            racers.append(Racer(number, self.open_journal(threads.defer, clock), threads))
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
        with ThreadPoolExecutor(1) as pool, psycopg.connect(self.url) as other:
            other.execute("DELETE FROM outbox")
            purged = pool.submit(self.journal.purge, "p1")
            self.wait_until_blocked(other)
            other.execute("UPDATE texts SET letter = NULL")
            other.commit()
            self.assertTrue(self.successResultOf(purged.result(20)))
        self.assertEqual(rolled_back, [])

    def test_a_redrive_does_not_wait_in_a_circle_with_a_call_for_a_dead_letter(self) -> None:
        self.accept(prompt())
        self.fail_it(dead_letter=b"l")
        rolled_back = self.roll_backs()
        with ThreadPoolExecutor(1) as pool, psycopg.connect(self.url) as other:
            other.execute("UPDATE outbox SET due = 0")  # as the end of a call does first
            redriven = pool.submit(self.journal.redrive, "p1")
            self.wait_until_blocked(other)
            other.execute(
                "INSERT INTO attempts SELECT seq, 'dead_letter', 1, 1, '', 0, 0, '', 1, ''"
                " FROM prompts"
            )
            other.commit()
            self.assertEqual(self.successResultOf(redriven.result(20)), State.ACCEPTED)
        self.assertEqual(rolled_back, [])

    def wait_until_blocked(self, other: Any) -> None:
        """Wait until another connection holds up the journal's."""
        pid = self.journal._session.connection.info.backend_pid
        query = "SELECT cardinality(pg_blocking_pids(%s))"
        until = time.monotonic() + 20
        while not other.execute(query, (pid,)).fetchone()[0]:
            self.assertLess(time.monotonic(), until)


class PeersTests(PostgresTestCase):
    """What owners tell each other of peers."""

    def setUp(self) -> None:
        super().setUp()
        self.second = self.another()

    def news(self, journal: Any) -> Any:
        return self.successResultOf(journal.news_of_peers())

    def probes(self, journal: Any, now: float) -> bool:
        held = PeerState("401", NOON, 1, now + 30)
        return bool(self.successResultOf(journal.claim_probe("model", held, now)))

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

    def test_a_hold_of_which_nothing_is_stored_is_probed(self) -> None:
        self.assertTrue(self.probes(self.journal, NOON))
        self.assertFalse(self.probes(self.second, NOON + 1))
        third = self.open_journal()
        self.recover(third, {**PEERS, "model": "another key"})  # which deletes the other row
        self.assertTrue(self.probes(self.journal, NOON + 30))

    def test_what_another_has_just_found_is_not_overwritten(self) -> None:
        self.successResultOf(self.journal.remember("model", PeerState("401", NOON, 1, NOON + 30)))
        throttled = PeerState(throttled_until=NOON + 5)
        self.successResultOf(self.second.remember("model", throttled))
        self.assertEqual(self.news(self.second)["model"].held, "401")
        self.successResultOf(self.second.remember("model", throttled))
        self.assertEqual(self.news(self.journal), {"model": throttled})

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
        self.successResultOf(second._background.sweep())
        self.assertEqual(self.successResultOf(second.claim_batches()), [batch])
        self.assertTrue(self.successResultOf(second.store_batch(batch)))

    def test_nothing_is_put_into_another_s(self) -> None:
        second = self.another()
        self.accept(prompt())
        (ask,) = self.claimed_by(self.journal)
        batch = self.successResultOf(second.open_batch("a-key"))
        put = self.journal.ask_ended(ask, Batched(batch.id), NOON)
        self.assertFalse(self.successResultOf(put).kept)
        own = self.successResultOf(self.journal.open_batch("another"))
        put = self.journal.ask_ended(ask, Batched(own.id), NOON)
        self.assertTrue(self.successResultOf(put).kept)

    def test_its_prompts_are_claimed_by_who_has_it(self) -> None:
        second = self.another()
        self.accept(prompt())
        (ask,) = self.claimed_by(self.journal)
        batch = self.successResultOf(self.journal.open_batch("a-key"))
        self.end(ask, Batched(batch.id))
        for journal, ids in ((second, []), (self.journal, ["p1"])):
            claims = self.successResultOf(journal.claim_batched(batch.id, NOON, 10))
            self.assertEqual([ask.prompt.id for ask in claims.claimed], ids)

    def test_the_ends_of_asking_are_seen_by_all(self) -> None:
        second = self.another()
        self.accept(prompt("p1"), prompt("p2"))
        self.answer("p1", claim=True)
        ended = self.successResultOf(second.ended_asking(["p1", "p2", "p3"]))
        self.assertEqual(ended, ["p1"])


class DateTests(PostgresTestCase):
    def test_the_day_is_the_database_s(self) -> None:
        ahead = PostgresJournal(
            open_journal(Database(self.url)), self.clock, at_once, lambda _: NOON + 86400
        )
        self.addCleanup(self.shut, ahead)
        self.recover(ahead)
        self.assertEqual((self.journal.date, ahead.date), (NOON, NOON + 86400))

    def test_what_a_command_does_has_the_database_s_date(self) -> None:
        self.accept(prompt())
        self.fail_it(give_back=True)
        for act in (
            lambda command: self.successResultOf(command.pause("asking", "who")).since,
            lambda command: self.successResultOf(command.resume("asking", "who")).since,
            lambda command: self.successResultOf(command.redrive("p1")) and NOON,
        ):
            clock = Clocks()  # its machine's date is long past
            self.assertEqual(act(self.open_journal(clock=clock, date=lambda: NOON)), NOON)
        self.assertEqual(self.used(), 1)


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

    def test_who_is_connected_has_a_name(self) -> None:
        url = server().schema()
        for program, name in ((None, "chatgpt-source"), ("other", "other")):
            given = {} if program is None else {"program": program}
            with contextlib.closing(open_journal(Database(url, **given))[1]) as connection:
                row = connection.execute("SHOW application_name").fetchone()
            self.assertEqual(row, {"application_name": label(name)})
        named = f"{url}{'&' if '?' in url else '?'}application_name=mine"
        with contextlib.closing(open_journal(Database(named))[1]) as connection:
            row = connection.execute("SHOW application_name").fetchone()
        self.assertEqual(row, {"application_name": "mine"})

    def test_a_clock_that_is_set_is_followed_at_the_next_renewal(self) -> None:
        clock = Clocks()
        clock.advance(NOON)
        ahead = 0.0
        opened = open_journal(Database(server().schema()))
        self.addCleanup(opened[1].close)
        journal = PostgresJournal(opened, clock, at_once, lambda _: clock.seconds() + ahead)
        self.successResultOf(journal.recover(100, "UTC", PEERS, 60.0))
        ahead = 3600.0
        self.successResultOf(journal._background.renew())
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
