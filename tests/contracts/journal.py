"""What `Journal` promises, as tests that every engine passes."""

from typing import Any

import attrs

from chatgpt_source.errors import (
    BacklogFull,
    Draining,
    KeyReused,
    NotRedriven,
    QuotaUsedUp,
)
from chatgpt_source.journal import (
    Answered,
    Batched,
    Delivered,
    Failed,
    Journal,
    PeerState,
    Postponed,
    Queue,
    Waiting,
)
from chatgpt_source.prompt import MODEL, State, Tier, Trace
from chatgpt_source.quota import Day
from chatgpt_source.tiers import Tiers
from tests.contracts.driver import (
    ANSWER,
    DAY,
    DEAD_LETTERS,
    NOON,
    PEERS,
    TO,
    JournalDriver,
    prompt,
)

HOUR = 3600.0
TOMORROW = Day("2027-01-16", DAY.end, DAY.end + 86400)


class Contract(JournalDriver):
    """What an engine's test provides; the classes below say what it must do."""

    def setUp(self) -> None:
        super().setUp()
        self.journal = self.open_journal()
        self.recover(self.journal)

    def open_journal(self) -> Any:
        """The test's one journal, as a start opens it: with its clock, and not recovered yet."""
        raise NotImplementedError

    def abandon(self, journal: Journal) -> None:
        """End the run that uses a journal as a crash does, and let its lease end."""
        raise NotImplementedError

    def open_second(self) -> Any:
        """The same journal, opened by another run, while the first one lives, its lease over."""
        raise NotImplementedError

    def restart(self, seconds: float = 0.0, peers: Any = None) -> Any:
        """Crash and start anew, the wall clock set by so much: the steady one begins with it."""
        self.abandon(self.journal)
        if seconds:
            began = self.clock.wall() + seconds
            self.clock = type(self.clock)()
            self.clock.advance(began)
        self.hand.clear()
        self.journal = self.open_journal()
        return self.recover(self.journal, peers)


class AcceptContract(Contract):
    def test_keeps_the_prompt_and_takes_a_unit(self) -> None:
        self.assertEqual(self.accept(prompt()), 99)
        self.assertEqual(self.used(), 1)
        record = self.record()
        self.assertEqual((record.state, record.accepted), (State.ACCEPTED, NOON))
        self.assertEqual((record.asks, record.deliveries, record.error), (0, 0, None))

    def test_survives_a_crash(self) -> None:
        self.accept(prompt())
        self.restart()
        (ask,) = self.asks().claimed
        self.assertEqual((ask.prompt, self.used()), (prompt(), 1))

    def test_the_limit_is_exact(self) -> None:
        for n in range(3):
            self.assertEqual(self.accept(prompt(f"p{n}"), limit=3), 2 - n)
        refusal = self.failureResultOf(self.admit(prompt("p3"), 3), QuotaUsedUp)
        self.assertEqual(refusal.value.retry_after, DAY.end - NOON)
        self.assertIsNone(self.record("p3"))
        self.assertEqual(self.used(), 3)

    def test_the_limit_is_exact_in_a_group(self) -> None:
        admitted = [self.admit(prompt(f"p{n}"), 3) for n in range(5)]
        self.assertEqual([self.successResultOf(each).left for each in admitted[:3]], [2, 1, 0])
        for each in admitted[3:]:
            self.failureResultOf(each, QuotaUsedUp)
        self.assertEqual(self.used(), 3)

    def test_each_day_has_its_own(self) -> None:
        self.accept(prompt(), limit=1)
        admitted = self.admit(prompt("p2", accepted=DAY.end), 1, day=TOMORROW)
        self.assertEqual(self.successResultOf(admitted).left, 0)
        self.assertEqual((self.used(), self.used(TOMORROW.date)), (1, 1))

    def test_a_lowered_limit_admits_none(self) -> None:
        self.accept(prompt("p1"), prompt("p2"))
        self.failureResultOf(self.admit(prompt("p3"), 1), QuotaUsedUp)

    def test_a_full_backlog_takes_no_unit(self) -> None:
        self.accept(prompt("p1"), prompt("p2"))
        self.asks(1)
        self.answer("p1")
        self.failureResultOf(self.admit(prompt("p3"), 100, 2), BacklogFull)
        self.assertEqual(self.used(), 2)

    def test_a_daemon_that_stops_takes_no_unit(self) -> None:
        self.failureResultOf(self.admit(prompt(), draining=True), Draining)
        self.assertEqual((self.used(), self.record()), (0, None))

    def test_what_ended_is_no_backlog(self) -> None:
        self.accept(prompt("p1"), prompt("p2"))
        self.deliver("p1")
        self.fail_it("p2")
        self.accept(prompt("p3"), max_backlog=1)

    def test_text_of_any_kind(self) -> None:
        text = "nul \0, quote ', emoji 🐍, " + "x" * 2_000_000
        self.accept(prompt(text=text))
        self.assertEqual(self.asks().claimed[0].prompt.text, text)

    def test_one_refused_does_not_take_its_neighbours_along(self) -> None:
        good = self.admit(prompt("p1"))
        twin = self.admit(prompt("p1"))  # an id twice: no engine takes it
        other = self.admit(prompt("p2"))
        self.assertEqual(self.successResultOf(good).left, 99)
        self.failureResultOf(twin)
        self.assertEqual(self.successResultOf(other).left, 98)


class KeyContract(Contract):
    def admit_with(self, key: str, name: str, text: str = "what is vanus") -> tuple[str, int, bool]:
        admitted = self.successResultOf(self.admit(prompt(name, text), 5, key=key))
        return admitted.id, admitted.left, admitted.repeated

    def test_the_same_again(self) -> None:
        self.assertEqual(self.admit_with("k", "p1"), ("p1", 4, False))
        self.assertEqual(self.admit_with("k", "p2"), ("p1", 4, True))
        self.assertEqual(self.used(), 1)
        self.assertIsNone(self.record("p2"))

    def test_the_same_key_with_another_text(self) -> None:
        self.admit_with("k", "p1")
        self.failureResultOf(self.admit(prompt("p2", "another"), key="k"), KeyReused)
        self.assertEqual(self.used(), 1)

    def test_a_key_in_one_group(self) -> None:
        repeats = [self.admit(prompt(f"p{n}"), 5, key="k") for n in range(5)]
        self.assertEqual({self.successResultOf(each).id for each in repeats}, {"p0"})

    def test_a_key_survives_a_crash_and_midnight(self) -> None:
        self.admit_with("k", "p1")
        self.clock.advance(86400)
        self.restart()
        self.assertEqual(self.admit_with("k", "p2")[0], "p1")

    def test_a_key_is_looked_up_before_quota_backlog_and_drain(self) -> None:
        self.admit_with("k", "p1")
        again = self.admit(prompt("p2"), 1, 1, key="k", draining=True)
        self.assertEqual(self.successResultOf(again).id, "p1")

    def test_other_keys_are_other_prompts(self) -> None:
        self.assertEqual(self.admit_with("a", "p1")[0], "p1")
        self.assertEqual(self.admit_with("b", "p2")[0], "p2")

    def test_a_key_is_kept_as_long_as_the_record(self) -> None:
        self.admit_with("k", "p1")
        self.deliver("p1")
        self.assertEqual(self.admit_with("k", "p2")[0], "p1")
        self.successResultOf(self.journal.prune(NOON + 1))
        self.assertEqual(self.admit_with("k", "p3")[0], "p3")


class ClaimContract(Contract):
    def test_in_order_of_acceptance_and_once(self) -> None:
        self.accept(*(prompt(f"p{n}") for n in range(5)))
        first, second = self.asks(2), self.asks(2)
        self.assertEqual([ask.prompt.id for ask in first.claimed], ["p0", "p1"])
        self.assertEqual([ask.prompt.id for ask in second.claimed], ["p2", "p3"])
        self.assertEqual(second.next_due, NOON)
        self.assertEqual([ask.prompt.id for ask in self.asks().claimed], ["p4"])
        self.assertEqual(list(self.asks().claimed), [])
        self.assertIsNone(self.asks().next_due)

    def test_each_claim_has_a_token_of_its_own(self) -> None:
        self.accept(*(prompt(f"p{n}") for n in range(3)))
        tokens = [ask.token for ask in self.asks().claimed]
        for n in range(3):
            self.postpone(f"p{n}")
        tokens += [ask.token for ask in self.asks().claimed]
        self.assertEqual(len(set(tokens)), 6)

    def test_long_texts_a_few_at_a_time(self) -> None:
        self.accept(*(prompt(f"p{n}", "x" * 2**21) for n in range(3)))
        told = [[ask.prompt.id for ask in self.asks().claimed] for _ in range(4)]
        self.assertEqual(told, [["p0"], ["p1"], ["p2"], []])

    def test_counts_the_ask(self) -> None:
        self.accept(prompt())
        (ask,) = self.asks().claimed
        self.assertEqual((ask.attempt, ask.total, self.record().asks), (1, 1, 1))

    def test_at_its_acceptance(self) -> None:
        ask = self.successResultOf(self.admit(prompt(), claim=True)).ask
        self.assertEqual(ask.prompt, prompt())
        self.assertEqual((ask.attempt, ask.total, self.record().asks), (1, 1, 1))
        self.assertEqual(list(self.asks().claimed), [])
        self.hand["p1"] = ask
        self.answer()
        self.assertEqual(self.record().state, State.ANSWERED)

    def test_at_its_acceptance_after_those_that_are_due(self) -> None:
        self.accept(prompt("p1"))
        self.assertIsNone(self.successResultOf(self.admit(prompt("p2"), claim=True)).ask)
        self.assertEqual([ask.prompt.id for ask in self.asks().claimed], ["p1", "p2"])
        self.postpone("p1", NOON + 5)
        self.assertIsNotNone(self.successResultOf(self.admit(prompt("p3"), claim=True)).ask)

    def test_at_its_acceptance_but_once(self) -> None:
        first, again = (
            self.successResultOf(self.admit(prompt(name), key="k", claim=True))
            for name in ("p1", "p2")
        )
        self.assertIsNotNone(first.ask)
        self.assertEqual((again.id, again.ask), ("p1", None))

    def test_after_a_crash_one_claimed_at_its_acceptance_is_due(self) -> None:
        self.successResultOf(self.admit(prompt(), claim=True))
        self.restart()
        (ask,) = self.asks().claimed
        self.assertEqual((ask.attempt, ask.total), (2, 2))

    def test_asks_and_deliveries_do_not_mix(self) -> None:
        self.accept(prompt("p1"), prompt("p2"))
        self.asks(1)
        self.answer("p1")
        self.assertEqual([each.id for each in self.deliveries().claimed], ["p1"])
        self.assertEqual([ask.prompt.id for ask in self.asks().claimed], ["p2"])

    def test_postponed_until_it_is_due(self) -> None:
        self.accept(prompt())
        self.asks()
        self.postpone("p1", NOON + 5, "why", possibly_billed=True, held=NOON)
        claims = self.asks(now=NOON + 4.9)
        self.assertEqual((list(claims.claimed), claims.next_due), ([], NOON + 5))
        self.assertEqual(self.record().error, "why")
        (ask,) = self.asks(now=NOON + 5).claimed
        self.assertEqual((ask.attempt, ask.total, ask.possibly_billed, ask.held), (2, 2, 1, NOON))

    def test_postponed_survives_a_crash(self) -> None:
        self.accept(prompt())
        self.postpone("p1", NOON + 5)
        self.restart()
        self.assertEqual(self.asks().next_due, NOON + 5)

    def test_after_a_crash_what_was_claimed_is_due_in_the_old_order(self) -> None:
        self.accept(*(prompt(f"p{n}", accepted=NOON + n) for n in range(5)))
        self.clock.advance(60)
        self.asks(2)
        self.restart()
        claimed = self.asks(3).claimed
        self.assertEqual([ask.prompt.id for ask in claimed], ["p0", "p1", "p2"])
        self.assertEqual([ask.attempt for ask in claimed], [2, 2, 1])

    def test_after_a_crash_in_a_delivery(self) -> None:
        self.accept(prompt())
        self.answer(claim=True)
        self.assertEqual(list(self.deliveries().claimed), [])
        self.restart()
        self.assertEqual(self.deliveries().claimed[0].attempt, 2)
        self.assertEqual(list(self.asks().claimed), [])


class FencingContract(Contract):
    """A claim that is no longer its owner's changes nothing when it ends."""

    def ends(self, old: Any) -> None:
        """However it ends."""
        asked = (Answered(ANSWER, b"late"), Postponed(NOON, "late"), Failed("late", give_back=True))
        delivered = (Delivered(), Postponed(NOON, "late"), Failed("late", dead_letter=b"late"))
        before = self.record(), self.used()
        for outcome in asked if hasattr(old, "prompt") else delivered:
            ended = self.end(old, outcome)
            self.assertEqual((ended.kept, ended.delivery), (False, None), outcome)
            self.assertEqual((self.record(), self.used()), before)

    def take_over(self) -> None:
        """Another run takes up what this one has claimed; `journal` stays the first one's."""
        self.first, self.journal = self.journal, self.open_second()
        self.recover(self.journal)

    def by_the_first(self, old: Any) -> None:
        second, self.journal = self.journal, self.first
        self.ends(old)
        self.journal = second

    def test_an_ask_that_another_took_over(self) -> None:
        self.accept(prompt())
        (old,) = self.asks().claimed
        self.take_over()
        self.by_the_first(old)
        (new,) = self.asks().claimed
        self.by_the_first(old)
        ended = self.end(new, Answered(ANSWER, b"e"), claim=True)
        self.assertEqual((ended.kept, ended.delivery.event), (True, b"e"))
        self.by_the_first(old)

    def test_a_delivery_that_another_took_over(self) -> None:
        self.accept(prompt())
        self.answer(claim=True)
        old = self.hand["p1"]
        self.take_over()
        self.by_the_first(old)
        (new,) = self.deliveries().claimed
        self.by_the_first(old)
        self.assertTrue(self.end(new, Delivered()).kept)
        self.by_the_first(old)

    def test_a_dead_letter_that_another_took_over(self) -> None:
        self.accept(prompt())
        self.fail_it(dead_letter=b"l")
        (old,) = self.dead_letters().claimed
        self.take_over()
        (new,) = self.dead_letters().claimed
        self.by_the_first(old)
        self.assertTrue(self.end(new, Postponed(NOON, "again")).kept)
        self.assertEqual(self.dead_letters().claimed[0].event, b"l")

    def test_an_ask_that_ended(self) -> None:
        self.accept(prompt())
        (old,) = self.asks().claimed
        self.postpone()
        self.ends(old)
        self.asks()
        self.ends(old)
        self.answer()
        self.ends(old)

    def test_a_delivery_that_ended(self) -> None:
        self.accept(prompt())
        self.answer(claim=True)
        old = self.hand["p1"]
        self.postpone()
        self.ends(old)
        self.deliveries()
        self.ends(old)
        self.fail_it()
        self.ends(old)
        self.successResultOf(self.journal.redrive("p1"))
        self.deliveries()
        self.ends(old)

    def test_a_forged_destination(self) -> None:
        self.accept(prompt())
        self.answer(claim=True)
        self.ends(attrs.evolve(self.hand["p1"], destination=DEAD_LETTERS))

    def test_of_a_prompt_that_is_no_more(self) -> None:
        self.accept(prompt())
        self.fail_it(dead_letter=b"l")
        (old,) = self.dead_letters().claimed
        self.successResultOf(self.journal.purge("p1"))
        self.ends(old)


class OutboxContract(Contract):
    def test_an_answer_waits_for_its_delivery(self) -> None:
        self.accept(prompt())
        self.answer()
        (delivery,) = self.deliveries().claimed
        self.assertEqual(
            (delivery.id, delivery.event, delivery.since, delivery.attempt, delivery.destination),
            ("p1", b"the event", NOON, 1, TO),
        )
        self.assertEqual(delivery.request_id, "req-1")
        self.assertEqual((self.record().state, self.record().deliveries), (State.ANSWERED, 1))

    def test_an_answer_claimed_at_once(self) -> None:
        self.accept(attrs.evolve(prompt(), trace=Trace("00-a-b-01")))
        self.clock.advance(3)
        self.answer(claim=True)
        delivery = self.hand["p1"]
        self.assertEqual(list(self.deliveries().claimed), [])
        self.assertEqual(self.record().deliveries, 1)
        self.postpone()
        (again,) = self.deliveries().claimed
        self.assertEqual(attrs.evolve(again, attempt=1, token=0), attrs.evolve(delivery, token=0))
        self.assertEqual((again.attempt, again.since), (2, NOON + 3))

    def test_untried_since(self) -> None:
        self.accept(prompt())
        self.answer()
        self.assertEqual(list(self.deliveries(untried_since=NOON + 1).claimed), [])
        self.assertEqual(len(self.deliveries(untried_since=NOON).claimed), 1)
        self.postpone()
        self.assertEqual(list(self.deliveries(untried_since=NOON).claimed), [])
        self.assertEqual(len(self.deliveries().claimed), 1)

    def test_delivered(self) -> None:
        self.accept(prompt())
        self.postpone(error="an old error")
        self.answer(claim=True)
        self.clock.advance(3)
        self.deliver()
        record = self.record()
        self.assertEqual((record.state, record.delivered), (State.DELIVERED, NOON + 3))
        self.assertEqual((record.error, record.deliveries), (None, 1))
        self.restart()
        self.assertEqual(
            [list(each.claimed) for each in (self.asks(), self.deliveries(), self.dead_letters())],
            [[], [], []],
        )

    def test_postponed(self) -> None:
        self.accept(prompt())
        self.answer(claim=True)
        self.postpone("p1", NOON + 5, "the target answered 500", held=NOON)
        self.assertEqual(self.record().error, "the target answered 500")
        claims = self.deliveries()
        self.assertEqual((list(claims.claimed), claims.next_due), ([], NOON + 5))
        (delivery,) = self.deliveries(now=NOON + 5).claimed
        self.assertEqual((delivery.attempt, delivery.held), (2, NOON))

    def test_failed_with_a_dead_letter(self) -> None:
        self.accept(prompt("p1"), prompt("p2"))
        self.answer("p1", claim=True)
        self.clock.advance(50)
        self.fail_it("p1", "the target answered 400", dead_letter=b"letter 1")
        self.fail_it("p2", "the model refused", dead_letter=b"letter 2")
        self.assertEqual(
            (self.record().state, self.record().error),
            (
                State.FAILED,
                "the target answered 400",
            ),
        )
        self.assertEqual(list(self.deliveries().claimed), [])
        dead_letters = self.dead_letters().claimed
        self.assertEqual(
            [(each.id, each.event, each.since, each.attempt) for each in dead_letters],
            [("p1", b"letter 1", NOON + 50, 1), ("p2", b"letter 2", NOON + 50, 1)],
        )
        self.assertEqual({each.destination for each in dead_letters}, {DEAD_LETTERS})
        self.assertEqual(list(self.dead_letters().claimed), [])

    def test_destinations_do_not_mix(self) -> None:
        self.accept(*(prompt(f"p{n}") for n in range(4)))
        self.answer("p0")
        self.fail_it("p1", dead_letter=b"l")
        self.answer("p2", claim=True)
        self.postpone("p2", NOON + 5)
        self.fail_it("p3", dead_letter=b"l")
        (first,) = self.dead_letters(1).claimed
        self.assertEqual((first.id, self.dead_letters(0).next_due), ("p1", NOON))
        claims = self.deliveries()
        self.assertEqual([each.id for each in claims.claimed], ["p0"])
        self.assertEqual(claims.next_due, NOON + 5)

    def test_the_end_of_a_dead_letter_changes_no_state(self) -> None:
        self.accept(prompt("p1"), prompt("p2"))
        for name, outcome in (("p1", Delivered()), ("p2", Failed("no use"))):
            self.fail_it(name, dead_letter=b"l")
            self.dead_letters()
            before = self.record(name)
            self.assertTrue(self.end_of(name, outcome).kept)
            self.assertEqual(self.record(name), before)
        self.restart()
        self.assertEqual(list(self.dead_letters().claimed), [])

    def test_a_dead_letter_is_taken_up_after_a_crash(self) -> None:
        self.accept(prompt())
        self.fail_it(dead_letter=b"l")
        self.dead_letters()
        self.restart()
        self.assertEqual([each.attempt for each in self.dead_letters().claimed], [2])

    def test_a_dead_letter_postponed(self) -> None:
        self.accept(prompt())
        self.fail_it(dead_letter=b"l")
        self.dead_letters()
        self.postpone("p1", NOON + 5, "no", held=2.0)
        self.assertEqual(
            (list(self.dead_letters().claimed), self.dead_letters().next_due), ([], NOON + 5)
        )
        (dead_letter,) = self.dead_letters(now=NOON + 5).claimed
        self.assertEqual((dead_letter.attempt, dead_letter.event, dead_letter.held), (2, b"l", 2.0))
        self.assertEqual(self.record().error, "why")

    def test_an_old_call_does_not_end_a_new_letter(self) -> None:
        self.accept(prompt())
        self.fail_it(dead_letter=b"l")
        (old,) = self.dead_letters().claimed
        self.successResultOf(self.journal.redrive("p1"))
        self.asks()
        self.fail_it(dead_letter=b"a new letter")
        self.dead_letters()
        self.assertFalse(self.end(old, Delivered()).kept)
        self.postpone()
        self.assertEqual(self.dead_letters().claimed[0].event, b"a new letter")

    def test_a_redrive_takes_a_letter_back(self) -> None:
        self.accept(prompt())
        self.fail_it(dead_letter=b"l")
        (old,) = self.dead_letters().claimed
        self.successResultOf(self.journal.redrive("p1"))
        self.assertFalse(self.end(old, Postponed(NOON, "again")).kept)  # its call ends meanwhile
        self.assertEqual(list(self.dead_letters(now=NOON + 10).claimed), [])

    def test_a_trace_goes_along(self) -> None:
        traces = [None, Trace("00-a-b-01"), Trace("00-a-b-01", "x=1")]
        for n, trace in enumerate(traces):
            self.accept(attrs.evolve(prompt(f"p{n}"), trace=trace))
        self.restart()
        self.assertEqual([ask.prompt.trace for ask in self.asks().claimed], traces)
        for n in range(3):
            self.answer(f"p{n}")
        self.restart()
        self.assertEqual([each.trace for each in self.deliveries().claimed], traces)
        for n in range(3):
            self.fail_it(f"p{n}", dead_letter=b"l")
        self.assertEqual([each.trace for each in self.dead_letters().claimed], traces)


class UnitContract(Contract):
    """A unit comes back only if no call of its prompt can have been billed."""

    def fail_free(self, day: str = DAY.date) -> int:
        """Units spent once the prompt has failed for a reason that costs nothing."""
        self.fail_it(give_back=True)
        return self.used(day)

    def test_it_goes_back_to_the_day_it_was_of(self) -> None:
        self.accept(prompt("p1"), prompt("p2"))
        self.clock.advance(DAY.end + 5 - NOON)
        self.fail_it("p1", give_back=True)
        self.assertEqual((self.used(), self.used(TOMORROW.date)), (1, 0))
        self.fail_it("p2", give_back=False)
        self.assertEqual(self.used(), 1)

    def test_no_call_was_billed(self) -> None:
        self.accept(prompt())
        for _ in range(2):
            self.asks()
            self.postpone()
        self.restart()  # while none is under way
        self.assertEqual(self.fail_free(), 0)

    def test_one_among_others_may_have_been(self) -> None:
        self.accept(prompt())
        for possibly_billed in (False, True, False):
            self.asks()
            self.postpone(possibly_billed=possibly_billed)
        self.restart()
        self.assertEqual(self.fail_free(), 1)

    def test_one_that_was_under_way_may_have_been(self) -> None:
        self.accept(prompt())
        self.asks()
        self.restart()
        self.assertEqual(self.fail_free(), 1)


class HeldContract(Contract):
    """When a call first met a hold: of the kind of call that a prompt waits for."""

    def test_the_first_hold_counts(self) -> None:
        self.accept(prompt())
        for expected in (None, 1.0, 1.0):
            (ask,) = self.asks().claimed
            self.assertEqual(ask.held, expected)
            self.postpone(held=2.0 if expected else 1.0)

    def test_asks_deliveries_and_letters_are_held_each_on_its_own(self) -> None:
        self.accept(prompt())
        self.postpone(held=1.0)
        self.asks()
        self.answer()
        for expected in (None, 2.0):
            (delivery,) = self.deliveries().claimed
            self.assertEqual(delivery.held, expected)
            self.postpone(held=2.0)
        self.fail_it(dead_letter=b"l")
        for expected in (None, 3.0):
            (dead_letter,) = self.dead_letters().claimed
            self.assertEqual(dead_letter.held, expected)
            self.postpone(held=3.0)


class RedriveContract(Contract):
    def two_a_day(self) -> None:
        self.everyday_limit = 2
        self.restart()

    def fail_answered(self) -> None:
        self.accept(prompt())
        self.answer(claim=True)
        self.fail_it()

    def redrive(self, name: str = "p1") -> State:
        state: State = self.successResultOf(self.journal.redrive(name))
        return state

    def test_asked_again_takes_a_unit_of_today(self) -> None:
        self.accept(prompt())
        self.fail_it(give_back=True)
        self.assertEqual(self.used(), 0)
        self.clock.advance(86400)
        self.assertEqual(self.redrive(), State.ACCEPTED)
        self.assertEqual((self.used(), self.used(TOMORROW.date)), (0, 1))
        (ask,) = self.asks().claimed
        self.assertEqual(ask.prompt, prompt())
        self.assertEqual((ask.attempt, ask.total, ask.since), (1, 2, NOON + 86400))
        self.fail_it(give_back=True)
        self.assertEqual(self.used(TOMORROW.date), 0)

    def test_asked_again_forgets_what_was_billed_before(self) -> None:
        self.accept(prompt())
        self.postpone(possibly_billed=True, held=NOON)
        self.asks()
        self.fail_it(give_back=True)
        self.assertEqual(self.used(), 1)
        self.redrive()
        (ask,) = self.asks().claimed
        self.assertEqual((ask.possibly_billed, ask.held), (0, None))
        self.fail_it(give_back=True)
        self.assertEqual(self.used(), 1)  # the new one came back

    def test_asked_again_is_refused_when_no_unit_is_left(self) -> None:
        self.two_a_day()
        self.accept(prompt())
        self.fail_it(give_back=True, dead_letter=b"l")
        self.accept(prompt("p2"), prompt("p3"))
        self.failureResultOf(self.journal.redrive("p1"), QuotaUsedUp)
        self.assertEqual((self.record().state, self.used()), (State.FAILED, 2))
        self.assertEqual(self.dead_letters().claimed[0].event, b"l")

    def test_delivered_again_takes_none(self) -> None:
        self.two_a_day()
        self.fail_answered()
        self.accept(prompt("p2"))  # the day is used up
        self.clock.advance(5)
        self.assertEqual(self.redrive(), State.ANSWERED)
        self.assertEqual(self.used(), 2)
        (delivery,) = self.deliveries().claimed
        self.assertEqual((delivery.event, delivery.request_id), (b"the event", "req-1"))
        self.assertEqual((delivery.attempt, delivery.since), (1, NOON + 5))
        self.assertEqual(self.record().deliveries, 2)
        self.assertEqual([ask.prompt.id for ask in self.asks().claimed], ["p2"])

    def test_only_what_failed(self) -> None:
        self.accept(prompt())
        self.failureResultOf(self.journal.redrive("p1"), NotRedriven)
        self.failureResultOf(self.journal.redrive("nobody"), NotRedriven)

    def test_is_a_backlog_again_and_not_pruned(self) -> None:
        self.fail_answered()
        self.redrive()
        self.successResultOf(self.journal.prune(NOON + 10))
        self.assertEqual(self.successResultOf(self.journal.tally(DAY.date)).backlog, 1)

    def test_of_a_redrive_a_drain_makes_no_first_attempt(self) -> None:
        self.fail_answered()
        self.redrive()
        self.assertEqual(list(self.deliveries(untried_since=NOON).claimed), [])
        self.assertEqual(len(self.deliveries().claimed), 1)

    def test_purge_forgets_a_failed_prompt(self) -> None:
        self.accept(prompt())
        self.fail_it(dead_letter=b"l")
        self.assertTrue(self.successResultOf(self.journal.purge("p1")))
        self.assertIsNone(self.record())
        self.assertEqual(list(self.dead_letters().claimed), [])

    def test_purge_leaves_all_others(self) -> None:
        self.accept(prompt())
        self.assertFalse(self.successResultOf(self.journal.purge("p1")))
        self.assertFalse(self.successResultOf(self.journal.purge("nobody")))
        self.assertEqual(self.asks().claimed[0].prompt.text, "what is vanus")


class ReadContract(Contract):
    def end_some(self) -> None:
        """One prompt in each state, p1 to p4, and p5 as p1."""
        self.accept(*(prompt(f"p{n}", accepted=NOON + n) for n in range(1, 6)))
        for name in ("p2", "p3"):
            self.answer(name)
        self.clock.advance(10)
        self.deliver("p3")
        self.fail_it("p4", "no")

    def test_ids_by_their_beginning(self) -> None:
        self.accept(*map(prompt, ("ab-1", "ab-2", "ab", "b", "ab\U0010fffe")))
        for beginning, most, ids in (
            ("ab-", 5, ["ab-1", "ab-2"]),
            ("ab", 2, ["ab", "ab-1"]),
            ("b", 5, ["b"]),
            ("a%", 5, []),
            ("c", 5, []),
            ("ab\0", 5, []),
            ("\0", 5, []),
        ):
            found = self.successResultOf(self.journal.ids(beginning, most))
            self.assertEqual(list(found), ids, beginning)

    def test_a_text_that_no_prompt_can_have_finds_none(self) -> None:
        self.accept(prompt("a"))
        self.fail_it("a", "no")
        for nothing in ("\0", "a\0", "no\0", "\ufffd"):
            self.assertIsNone(self.successResultOf(self.journal.record(nothing)))
            self.assertIsNone(self.successResultOf(self.journal.detail(nothing)))
            self.assertEqual(self.successResultOf(self.journal.latest(None, None, 5, nothing)), [])

    def test_tally(self) -> None:
        self.end_some()
        tally = self.successResultOf(self.journal.tally(DAY.date))
        expected = {State.ACCEPTED: 2, State.ANSWERED: 1, State.DELIVERED: 1, State.FAILED: 1}
        expected |= {State.SUBMITTED: 0, State.CANCELLED: 0}
        self.assertEqual((tally.prompts, tally.used, tally.backlog), (expected, 5, 3))
        self.assertEqual(tally.daemons, 1)

    def test_of_an_unknown_day_and_prompt(self) -> None:
        self.assertEqual(self.used("1999-12-31"), 0)
        self.assertIsNone(self.record("nobody"))

    def page(self, state: State | None, after: str = "", most: int = 2) -> list[str]:
        position = self.record(after).position if after else 0
        records = self.successResultOf(self.journal.records(state, position, most))
        return [record.id for record in records]

    def test_records_in_pages(self) -> None:
        self.end_some()
        self.assertEqual(self.page(None), ["p1", "p2"])
        self.assertEqual(self.page(None, "p2"), ["p3", "p4"])
        self.assertEqual(self.page(None, "p5"), [])
        self.assertEqual(self.page(State.ACCEPTED), ["p1", "p5"])
        self.assertEqual(self.page(State.ACCEPTED, "p1"), ["p5"])

    def latest(self, state: State | None, before: str = "", most: int = 2) -> list[str]:
        position = self.record(before).position if before else None
        records = self.successResultOf(self.journal.latest(state, position, most))
        return [record.id for record in records]

    def test_the_latest_first_in_pages(self) -> None:
        self.assertEqual(self.latest(None), [])
        self.end_some()
        self.assertEqual(self.latest(None), ["p5", "p4"])
        self.assertEqual(self.latest(None, "p4"), ["p3", "p2"])
        self.assertEqual(self.latest(None, "p1"), [])
        pages = (["p5", "p1"], [], ["p2"], ["p3"], ["p4"], [])
        for state, expected in zip(State, pages, strict=True):
            self.assertEqual(self.latest(state), expected)
        self.assertEqual(self.latest(State.ACCEPTED, "p5"), ["p1"])
        self.assertEqual(self.latest(State.ANSWERED, "p2"), [])

    def test_the_oldest_of_those_that_wait(self) -> None:
        def oldest() -> Any:
            return self.successResultOf(self.journal.tally(DAY.date)).oldest

        self.assertIsNone(oldest())
        self.end_some()
        for expected in (NOON + 1, NOON + 2, NOON + 5, None):
            self.assertEqual(oldest(), expected)
            if expected:
                self.fail_it(f"p{expected - NOON:.0f}")

    def test_how_the_last_ended(self) -> None:
        self.end_some()
        self.clock.advance(1)
        self.fail_it("p5", "last")
        ends = self.successResultOf(self.journal.ends(NOON + 11, 10))
        self.assertEqual(
            [(end.id, end.state, end.at, end.error, end.target) for end in ends],
            [("p5", State.FAILED, NOON + 11, "last", "target")],
        )
        ends = self.successResultOf(self.journal.ends(0, 2))
        self.assertEqual((ends[0].id, len(ends)), ("p5", 2))

    def test_prune_forgets_what_ended_long_ago(self) -> None:
        self.accept(*(prompt(f"p{n}") for n in range(5)))
        self.deliver("p0")
        self.fail_it("p1")
        self.fail_it("p2", dead_letter=b"l")  # which is still to be delivered
        self.clock.advance(10)
        self.fail_it("p3")
        self.successResultOf(self.journal.prune(NOON + 1))
        known = [self.record(f"p{n}") is not None for n in range(5)]
        self.assertEqual(known, [False, False, True, True, True])
        self.dead_letters()
        self.assertTrue(self.end_of("p2", Delivered()).kept)
        self.successResultOf(self.journal.prune(NOON + 1))
        self.assertIsNone(self.record("p2"))


class QueueContract(Contract):
    """What waits for a peer, and what an operator makes due at once."""

    def waiting(self, queue: Queue = Tier.STANDARD) -> Waiting:
        return self.successResultOf(self.journal.waiting(queue, self.clock.seconds()))

    def hasten(self, queue: Queue = Tier.STANDARD) -> int:
        return self.successResultOf(self.journal.hasten(queue, self.clock.seconds()))

    def some_wait(self) -> None:
        """Two that met a hold, one that was not asked, one that is asked, one for later."""
        self.accept(*(prompt(f"p{n}") for n in range(4)))
        self.asks(3)
        self.postpone("p0", NOON + 600, held=NOON)
        self.clock.advance(1)
        self.postpone("p1", NOON + 600, held=NOON)
        self.accept(attrs.evolve(prompt("p4"), not_before=NOON + 50))

    def test_nothing_waits(self) -> None:
        self.assertEqual(self.waiting(), Waiting())
        self.assertEqual(self.waiting(TO), Waiting())
        self.assertEqual((self.hasten(), self.hasten(TO)), (0, 0))

    def test_how_many_prompts_wait_and_for_how_long(self) -> None:
        self.some_wait()
        self.assertEqual(self.waiting(), Waiting(3, NOON, due=NOON))
        self.assertEqual(self.waiting(Tier.FLEX), Waiting())
        self.clock.advance(60)
        self.assertEqual(self.waiting().count, 4)

    def test_the_first_deadline(self) -> None:
        for name, seconds in (("p1", 500), ("p2", 400)):
            self.accept(attrs.evolve(prompt(name), deadline=NOON + seconds))
        self.assertEqual(self.waiting(), Waiting(2, None, NOON + 400, NOON))
        self.accept(prompt("p3"))
        self.assertEqual(self.waiting(), Waiting(3, NOON, NOON + 400, NOON))

    def test_how_many_events_wait(self) -> None:
        self.accept(*(prompt(f"p{n}") for n in range(3)))
        self.answer("p0", claim=True)
        self.postpone("p0", NOON + 600, held=NOON)
        self.clock.advance(5)
        self.answer("p1")
        self.fail_it("p2", dead_letter=b"l")
        self.assertEqual(self.waiting(TO), Waiting(2, NOON, due=NOON + 5))
        self.assertEqual(self.waiting(DEAD_LETTERS), Waiting(1, NOON + 5, due=NOON + 5))
        self.assertEqual(self.waiting("another"), Waiting())

    def test_of_a_redriven_one_the_time_runs_from_now(self) -> None:
        self.accept(prompt())
        self.fail_it()
        self.successResultOf(self.journal.redrive("p1"))
        self.clock.advance(7)
        self.assertEqual(attrs.evolve(self.waiting(), due=None), Waiting(1, NOON + 7))

    def test_what_was_tried_is_due_at_once_in_its_old_order(self) -> None:
        self.some_wait()
        self.assertEqual([ask.prompt.id for ask in self.asks().claimed], ["p3"])
        self.assertEqual(self.hasten(), 2)
        self.assertEqual([ask.prompt.id for ask in self.asks().claimed], ["p0", "p1"])
        self.assertEqual(self.asks().next_due, NOON + 50)
        self.assertEqual(self.hasten(), 0)

    def test_an_attempt_that_follows_is_not_before_its_time(self) -> None:
        self.accept(attrs.evolve(prompt(), not_before=NOON + 5))
        self.clock.advance(5)
        self.asks()
        self.postpone(until=NOON + 600)
        self.clock.step(-3)
        self.assertEqual(self.hasten(), 1)
        self.assertEqual(len(self.asks().claimed), 1)

    def test_events_of_one_destination(self) -> None:
        self.accept(prompt("p1"), prompt("p2"))
        self.answer("p1", claim=True)
        self.postpone("p1", NOON + 600, held=NOON)
        self.fail_it("p2", dead_letter=b"l")
        self.dead_letters()
        self.postpone("p2", NOON + 600, held=NOON)
        self.assertEqual(self.hasten(TO), 1)
        self.assertEqual([each.id for each in self.deliveries().claimed], ["p1"])
        self.assertEqual(list(self.dead_letters().claimed), [])
        self.assertEqual(self.hasten(DEAD_LETTERS), 1)
        self.assertEqual([each.id for each in self.dead_letters().claimed], ["p2"])

    def test_since_when_the_longest_waits_for_its_call(self) -> None:
        def due() -> float | None:
            return self.successResultOf(self.journal.tally(DAY.date)).due

        self.assertIsNone(due())
        self.accept(attrs.evolve(prompt("p0"), not_before=NOON + 50))
        self.assertEqual(due(), NOON + 50)
        self.accept(prompt("p1"), prompt("p2"))
        self.assertEqual(due(), NOON)
        self.asks()
        self.assertEqual(due(), NOON + 50)
        self.clock.advance(10)
        self.answer("p1")
        self.assertEqual(due(), NOON + 10)
        self.fail_it("p2")
        self.deliver("p1")
        self.successResultOf(self.journal.redrive("p2"))  # since when is not known
        self.assertEqual(due(), NOON + 50)

    def test_which_are_still_failed(self) -> None:
        self.accept(*(prompt(f"p{n}") for n in range(4)))
        for n in range(3):
            self.fail_it(f"p{n}")
        self.successResultOf(self.journal.redrive("p0"))
        self.successResultOf(self.journal.purge("p1"))
        ids = ["p0", "p1", "p2", "p3", "nobody"]
        self.assertEqual([*self.successResultOf(self.journal.still_failed(ids))], ["p2"])
        self.assertEqual([*self.successResultOf(self.journal.still_failed([]))], [])
        self.assertEqual([*self.successResultOf(self.journal.ended_asking(ids))], ["p2"])


class ClockContract(Contract):
    """Dates follow a wall clock that is set, what waits does not."""

    def test_dates_are_the_wall_clocks(self) -> None:
        self.clock.step(-HOUR)
        self.accept(prompt("p1", accepted=self.clock.wall()), prompt("p2"))
        self.answer(claim=True)
        self.clock.advance(1)
        self.deliver()
        record = self.record()
        self.assertEqual(
            (record.accepted, record.answered, record.delivered),
            (NOON - HOUR, NOON - HOUR, NOON - HOUR + 1),
        )
        self.fail_it("p2")
        self.successResultOf(self.journal.prune(NOON - HOUR + 0.5))
        self.assertIsNotNone(self.record("p2"))
        self.successResultOf(self.journal.prune(NOON - HOUR + 1.5))
        self.assertIsNone(self.record("p2"))

    def test_what_waits_is_due_by_the_steady_clock(self) -> None:
        self.clock.step(-HOUR)
        self.accept(prompt("p1", accepted=self.clock.wall()))
        (ask,) = self.asks().claimed
        self.assertEqual((ask.since, ask.prompt.accepted), (NOON, NOON - HOUR))
        self.clock.step(2 * HOUR)
        self.accept(prompt("p2", accepted=self.clock.wall()))
        self.assertEqual(len(self.asks().claimed), 1)
        self.answer("p1")
        self.assertEqual(self.deliveries().claimed[0].since, NOON)

    def test_after_a_restart_nothing_waits_longer_than_it_can(self) -> None:
        self.accept(*(prompt(f"p{n}") for n in range(5)))
        self.asks(2)
        self.postpone("p0", NOON + 10, held=NOON)
        self.postpone("p1", NOON + HOUR, held=NOON)
        self.clock.advance(20)
        self.asks(2)  # p2 and p0 are under way when it ends
        self.restart(-2 * HOUR)
        claimed = self.asks().claimed
        self.assertEqual({ask.prompt.id for ask in claimed}, {f"p{n}" for n in range(5)})
        began = self.clock.seconds()
        self.assertEqual({ask.since for ask in claimed}, {began})
        self.assertTrue(all(ask.held is None or ask.held <= began for ask in claimed))

    def test_after_a_restart_a_peer_that_asked_for_time_gets_it(self) -> None:
        self.accept(prompt())
        self.postpone("p1", NOON + HOUR)
        for seconds in (0.0, 10.0):
            self.restart(seconds)
            claims = self.asks()
            self.assertEqual((list(claims.claimed), claims.next_due), ([], NOON + HOUR))

    def test_after_a_restart_the_outbox_too(self) -> None:
        self.accept(*(prompt(f"p{n}") for n in range(4)))
        for name in ("p1", "p2"):
            self.fail_it(name, dead_letter=b"l")
        self.dead_letters()
        self.postpone("p1", NOON + HOUR)
        self.answer("p3", claim=True)
        self.postpone("p3", NOON + HOUR)
        self.answer("p0", claim=True)
        self.restart(-2 * HOUR)
        for claims, names in (
            (self.dead_letters(), {"p1", "p2"}),
            (self.deliveries(), {"p0", "p3"}),
        ):
            self.assertEqual({each.id for each in claims.claimed}, names)
            self.assertEqual({each.since for each in claims.claimed}, {self.clock.seconds()})

    def test_a_redrive_is_due_whatever_its_clock_says(self) -> None:
        """It may be the command's, which goes by the wall clock."""
        self.accept(prompt())
        for step in (-2 * HOUR, 2 * HOUR):
            self.fail_it()
            self.clock.step(step)
            self.assertEqual(self.successResultOf(self.journal.redrive("p1")), State.ACCEPTED)
            self.clock.advance(7)
            (ask,) = self.asks().claimed
            self.assertEqual((ask.attempt, ask.since), (1, self.clock.seconds()))
            self.postpone()
            self.clock.advance(7)
            self.assertEqual(self.asks().claimed[0].since, ask.since)

    def test_an_answer_is_of_the_date_it_came_on(self) -> None:
        self.accept(prompt())
        self.clock.step(5)
        self.answer()
        self.assertEqual(self.record().answered, NOON + 5)


class RecoverContract(Contract):
    def test_states_whose_last_attempt_failed(self) -> None:
        self.accept(prompt())
        self.assertEqual(list(self.restart().failing), [])
        self.asks()
        self.assertEqual(list(self.restart().failing), [])  # a crash is no failure of the model's
        self.postpone("p1", NOON + 9, "the model answered 429")
        self.assertEqual(list(self.restart().failing), [MODEL])
        self.asks(now=NOON + 9)
        self.answer()
        self.assertEqual(list(self.restart().failing), [])
        self.postpone("p1", NOON + 9, "the target answered 410")
        self.assertEqual(list(self.restart().failing), [TO])
        self.deliveries(now=NOON + 9)
        self.fail_it(dead_letter=b"l")
        self.dead_letters()
        self.postpone("p1", NOON, "the dead letter's receiver answered 500")
        self.assertEqual(list(self.restart().failing), [DEAD_LETTERS])

    HELD = PeerState("the model answered 401", NOON - 5, 2, NOON + 60, NOON + 600, failing=True)

    def remember(self, peer: str, state: PeerState) -> None:
        self.successResultOf(self.journal.remember(peer, state))

    def test_peers_are_remembered(self) -> None:
        self.assertEqual(self.restart().peers, {})
        self.remember("model", PeerState(failing=True))
        self.remember("model", self.HELD)
        self.remember("target", PeerState())
        for _ in range(2):
            self.assertEqual(self.restart().peers, {"model": self.HELD, "target": PeerState()})

    def test_a_peer_whose_settings_changed_is_forgotten(self) -> None:
        self.remember("model", self.HELD)
        self.remember("target", self.HELD)
        changed = {**PEERS, "model": "a mended key"}
        self.assertEqual(self.restart(peers=changed).peers, {"target": self.HELD})
        self.assertEqual(self.restart().peers, {"target": self.HELD})  # for good

    def test_what_waited_for_a_forgotten_peer_is_due(self) -> None:
        for name, held in (("held", NOON), ("told to wait", None)):
            asked, answered = f"asked, {name}", f"answered, {name}"
            self.accept(prompt(asked), prompt(answered))
            self.postpone(asked, NOON + 600, held=held)
            self.answer(answered)
            self.postpone(answered, NOON + 600, held=held)
        for peer in ("model", "target"):
            self.remember(peer, self.HELD)
        self.restart(peers=dict.fromkeys(PEERS, "another key"))
        asks, deliveries = self.asks().claimed, self.deliveries().claimed
        self.assertEqual([ask.prompt.id for ask in asks], ["asked, held", "asked, told to wait"])
        self.assertEqual(
            [each.id for each in deliveries], ["answered, held", "answered, told to wait"]
        )

    def test_a_peer_that_is_no_more_is_forgotten(self) -> None:
        self.remember("model", self.HELD)
        self.assertEqual(self.restart(peers={}).peers, {})

    def test_one_peer_has_not_the_settings_of_another(self) -> None:
        self.restart(peers={"model": "same", "target": "same"})
        self.remember("model", self.HELD)
        self.assertEqual(list(self.restart(peers={"target": "same"}).peers), [])

    def test_no_instant_of_a_peer_lies_too_far_ahead(self) -> None:
        self.remember("model", self.HELD)
        found = self.restart(-2 * HOUR).peers["model"]
        now = self.clock.seconds()
        expected = attrs.evolve(self.HELD, since=now, probe_at=now, throttled_until=now + HOUR)
        self.assertEqual(found, expected)

    def test_a_clock_set_back_a_little_ends_no_hold_back(self) -> None:
        self.remember("model", PeerState(throttled_until=NOON + HOUR))
        found = self.restart(-10.0).peers["model"]
        self.assertEqual(found.throttled_until, NOON - 10 + HOUR)

    def test_a_hold_back_of_an_hour_is_kept(self) -> None:
        self.remember("model", PeerState(throttled_until=NOON + HOUR))
        for seconds in (0.0, 10.0):
            found = self.restart(seconds).peers["model"]
            self.assertEqual(found.throttled_until, NOON + HOUR)


class TierContract(Contract):
    """Each tier's prompts are claimed on their own, and move up as their deadlines come near."""

    def accept_in(self, tier: Tier, *names: str, seconds: float = 86400.0) -> None:
        deadline = self.clock.seconds() + seconds
        for name in names:
            self.accept(attrs.evolve(prompt(name), deadline=deadline, tier=tier))

    def ids(self, tier: Tier = Tier.STANDARD) -> list[str]:
        claims = self.successResultOf(self.journal.claim_asks(self.clock.seconds(), 10, tier))
        self.hand.update((ask.prompt.id, ask) for ask in claims.claimed)
        return [ask.prompt.id for ask in claims.claimed]

    def move_up(self, tiers: Tiers) -> bool:
        return bool(self.successResultOf(self.journal.move_up(self.clock.seconds(), tiers)))

    def test_what_moves_up_waits_for_no_attempt_on_the_tier_before(self) -> None:
        self.accept_in(Tier.FLEX, "p1")
        self.ids(Tier.FLEX)
        self.postpone("p1", self.clock.seconds() + 3600)
        later = attrs.evolve(
            prompt("p2"), deadline=NOON + 100, tier=Tier.FLEX, not_before=NOON + 50
        )
        self.accept(later)
        self.assertEqual(self.ids(), [])
        self.assertTrue(self.move_up(Tiers(flex_over=1e6)))
        self.assertEqual(self.ids(), ["p1"])
        self.clock.advance(50)
        self.assertEqual(self.ids(), ["p2"])

    def test_each_tier_is_claimed_on_its_own(self) -> None:
        for tier in Tier:
            self.accept_in(tier, tier.value)
        self.restart()
        for tier in Tier:
            self.assertEqual(self.ids(tier), [tier.value])

    def test_only_the_standard_tier_is_claimed_at_its_acceptance(self) -> None:
        each = attrs.evolve(prompt(), deadline=NOON + 60, tier=Tier.FLEX)
        self.assertIsNone(self.successResultOf(self.admit(each, claim=True)).ask)
        other = self.successResultOf(self.admit(prompt("p2"), claim=True))
        self.assertIsNotNone(other.ask)  # one that is due in another tier is not in its way

    def test_who_comes_near_its_deadline_moves_up(self) -> None:
        self.accept_in(Tier.BATCH, "to flex", seconds=100)
        self.accept_in(Tier.BATCH, "to standard", seconds=10)
        self.accept_in(Tier.BATCH, "stays", seconds=1000)
        self.assertTrue(self.move_up(Tiers(flex_over=50, batch_over=500)))
        self.assertFalse(self.move_up(Tiers(flex_over=50, batch_over=500)))
        self.assertEqual(self.ids(), ["to standard"])
        self.assertEqual(self.ids(Tier.FLEX), ["to flex"])
        self.assertEqual(self.ids(Tier.BATCH), ["stays"])

    def test_a_tier_that_is_off_has_no_prompts(self) -> None:
        self.accept_in(Tier.BATCH, "p1")
        self.accept_in(Tier.FLEX, "p2")
        while self.move_up(Tiers()):
            pass
        self.assertEqual(self.ids(), ["p1", "p2"])

    def test_who_has_failed_in_one_tier_may_go_to_the_next(self) -> None:
        self.accept_in(Tier.FLEX, "p1")
        (name,) = self.ids(Tier.FLEX)
        self.end_of(name, Postponed(NOON, "why", tier=Tier.STANDARD))
        self.assertEqual(self.ids(), ["p1"])

    def test_a_redriven_one_is_standard(self) -> None:
        self.accept_in(Tier.FLEX, "p1")
        self.end_of(*self.ids(Tier.FLEX), Failed("why"))
        self.successResultOf(self.journal.redrive("p1"))
        self.assertEqual(self.ids(), ["p1"])

    def test_the_calls_of_one_claim_are_counted_at_its_end(self) -> None:
        self.accept(prompt())
        ask = self.taken("p1")
        del self.hand["p1"]
        last = attrs.evolve(ask, attempt=3, total=3, possibly_billed=1)
        self.end(last, Postponed(NOON, "why", possibly_billed=True))
        self.assertEqual(self.successResultOf(self.journal.record("p1")).asks, 3)
        again = self.taken("p1")
        self.assertEqual((again.attempt, again.possibly_billed), (4, 2))

    def test_a_claim_is_billed_if_any_of_its_calls_was(self) -> None:
        self.accept(prompt())
        ask = self.taken("p1")
        del self.hand["p1"]
        self.end(attrs.evolve(ask, possibly_billed=1), Postponed(NOON, "why"))
        self.end_of("p1", Failed("why", give_back=True))
        self.assertEqual(self.used(), 1)


class BatchContract(TierContract):
    """Prompts are sent together, and end one by one."""

    def fill(self, *names: str) -> Any:
        """A batch with prompts."""
        batch = self.successResultOf(self.journal.open_batch("a-key"))
        self.accept_in(Tier.BATCH, *names)
        for name in self.ids(Tier.BATCH):
            self.end_of(name, Batched(batch.id))
        return batch

    def held_by(self, batch: Any, *ids: str) -> list[Any]:
        claims = self.successResultOf(
            self.journal.claim_batched(batch.id, self.clock.seconds(), 10, ids or None)
        )
        return list(claims.claimed)

    def pages(self, batch: Any, after: int = -1, most: int = 10) -> Any:
        return self.successResultOf(self.journal.batched(batch.id, after, most))

    def state(self, name: str) -> Any:
        return self.successResultOf(self.journal.record(name)).state

    def test_what_is_known_of_a_batch_outlives_a_crash(self) -> None:
        batch = self.fill("p1")
        self.assertEqual((batch.key, batch.created), ("a-key", self.clock.wall()))
        for changes in (
            {"deadline": NOON + 5, "file": "file-1"},
            {"remote": "batch-1", "cancelled": True},
            {"results": ("file-2", "file-3")},
        ):
            batch = attrs.evolve(batch, **changes)
            self.assertTrue(self.successResultOf(self.journal.store_batch(batch)))
            self.restart()
            self.assertEqual(self.successResultOf(self.journal.claim_batches()), [batch])
            self.assertEqual(self.successResultOf(self.journal.claim_batches()), [])
            self.assertEqual(self.successResultOf(self.journal.batches()), [batch])
        self.successResultOf(self.journal.drop_batch(batch.id))
        self.assertEqual(self.successResultOf(self.journal.batches()), [])

    def test_what_waits_for_each_tier_and_is_in_batches(self) -> None:
        def told() -> Any:
            tally = self.successResultOf(self.journal.tally_tiers())
            return [tally.waiting[tier] for tier in Tier], tally.batches

        self.assertEqual(told(), ([0, 0, 0], ()))
        first = self.fill("p1", "p2")
        second = self.fill("p3")
        self.accept_in(Tier.STANDARD, "s1", "s2", "s3")
        self.accept_in(Tier.FLEX, "f1")
        self.accept_in(Tier.BATCH, "b1", "b2")
        self.assertEqual(told(), ([3, 1, 2], ((first, 2), (second, 1))))
        (ask,) = self.held_by(first, "p1")
        self.end(ask, Answered(ANSWER, b"event"))
        self.answer("s1")
        self.assertEqual(told(), ([2, 1, 2], ((first, 1), (second, 1))))
        self.successResultOf(self.journal.cancel("b2"))
        self.assertEqual(told(), ([2, 1, 1], ((first, 1), (second, 1))))
        self.asks(10, NOON)
        self.restart()
        self.assertEqual(told(), ([2, 1, 1], ((first, 1), (second, 1))))

    def test_how_a_prompt_is_served(self) -> None:
        batch = self.fill("p1")
        self.accept_in(Tier.FLEX, "f1")
        self.accept_in(Tier.STANDARD, "s1")
        details = [self.successResultOf(self.journal.detail(n)) for n in ("p1", "f1", "s1")]
        expected = [(Tier.BATCH, batch.id), (Tier.FLEX, None), (Tier.STANDARD, None)]
        self.assertEqual([(each.tier, each.batch) for each in details], expected)

    def test_who_opens_a_batch_has_it(self) -> None:
        self.assertEqual(self.successResultOf(self.journal.claim_batches()), [])
        batch = self.fill("p1")
        self.assertEqual(self.successResultOf(self.journal.claim_batches()), [])
        self.assertTrue(self.successResultOf(self.journal.store_batch(batch)))

    def test_its_prompts_are_submitted_and_read_in_pages(self) -> None:
        batch = self.fill("p1", "p2", "p3")
        first = self.pages(batch, most=2)
        rest = self.pages(batch, after=first[-1][0])
        self.assertEqual([each.id for _, each in (*first, *rest)], ["p1", "p2", "p3"])
        self.assertEqual((self.state("p1"), self.asks().claimed), (State.SUBMITTED, []))
        polls = self.journal.claim_submitted(self.clock.seconds() + 1e6, 10)
        self.assertEqual(self.successResultOf(polls).claimed, [])

    def test_each_ends_on_its_own(self) -> None:
        batch = self.fill("answered", "failed", "lost", "left")
        for name, outcome in (
            ("answered", Answered(ANSWER, b"event")),
            ("failed", Failed("why")),
            ("lost", Postponed(NOON, "why", tier=Tier.STANDARD)),
        ):
            (ask,) = self.held_by(batch, name)
            self.assertEqual((ask.batch, ask.total), (batch.id, 1))
            self.assertEqual(self.held_by(batch, name), [])  # it is claimed
            self.assertTrue(self.end(ask, outcome).kept)
            self.assertEqual(self.held_by(batch, name), [])
        self.assertEqual([each.id for _, each in self.pages(batch)], ["left"])
        self.assertEqual([ask.prompt.id for ask in self.held_by(batch)], ["left"])
        self.assertEqual(self.ids(), ["lost"])
        self.assertEqual(self.state("answered"), State.ANSWERED)

    def test_a_crash_gives_claims_back_to_the_batch(self) -> None:
        batch = self.fill("p1")
        self.held_by(batch)
        self.restart()
        self.assertEqual(self.successResultOf(self.journal.claim_batches()), [batch])
        self.assertEqual([ask.prompt.id for ask in self.held_by(batch)], ["p1"])

    def test_a_cancelled_one_is_in_it_no_more(self) -> None:
        batch = self.fill("p1")
        self.successResultOf(self.journal.cancel("p1"))
        self.assertEqual(self.pages(batch), [])
        claims = self.successResultOf(self.journal.claim_leftovers(self.clock.seconds(), 10))
        self.assertEqual(claims.claimed, [])
        self.assertEqual(self.held_by(batch), [])

    def test_one_whose_time_is_up_is_claimed_to_fail(self) -> None:
        batch = self.fill("p1")
        self.clock.advance(86400)
        (ask,) = self.successResultOf(self.journal.claim_expired(self.clock.seconds(), 10)).claimed
        self.end(ask, Failed("its time is up"))
        self.assertEqual((self.state("p1"), self.held_by(batch)), (State.FAILED, []))


class JournalContract(
    AcceptContract,
    KeyContract,
    ClaimContract,
    FencingContract,
    OutboxContract,
    UnitContract,
    HeldContract,
    RedriveContract,
    ReadContract,
    QueueContract,
    ClockContract,
    RecoverContract,
    BatchContract,
):
    """All of it, for an engine's test case to inherit."""
