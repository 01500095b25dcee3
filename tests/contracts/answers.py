"""What `Journal` promises to callers who want more: batches, answers, times, targets."""

from typing import Any

import attrs

from chatgpt_source.errors import BacklogFull, KeyReused, NotCancelled, QuotaUsedUp, TooLate
from chatgpt_source.journal import (
    LAST_POLL,
    TIME_IS_UP,
    Answered,
    Cancelled,
    Delivered,
    Failed,
    Key,
    PeerState,
    Postponed,
    Submission,
    Terms,
    Underway,
)
from chatgpt_source.prompt import NOWHERE, Details, Leftover, Prompt, State
from tests.contracts.driver import ANSWER, DAY, NOON, PEERS, prompt
from tests.contracts.journal import Contract

EVENT = b"the event"


def event_key(name: str) -> Key:
    return Key(("event", "/source", name), any_content=True)


class BatchContract(Contract):
    """Several prompts at once: all or nothing."""

    def batch(self, *names: str, limit: int = 100, backlog: int = 100, claim: bool = False) -> Any:
        each = [Submission(prompt(name), event_key(name)) for name in names]
        return self.admit_all(*each, terms=Terms(DAY, limit, backlog), claim=claim)

    def test_one_unit_each(self) -> None:
        admitted = self.successResultOf(self.batch("p1", "p2", "p3"))
        self.assertEqual(
            [(each.id, each.left) for each in admitted], [("p1", 97), ("p2", 97), ("p3", 97)]
        )
        self.assertEqual([ask.prompt.id for ask in self.asks().claimed], ["p1", "p2", "p3"])

    def test_all_are_claimed_or_none(self) -> None:
        admitted = self.successResultOf(self.batch("p1", "p2", claim=True))
        self.assertEqual([each.ask.prompt.id for each in admitted], ["p1", "p2"])
        self.assertEqual(self.asks().claimed, [])

    def test_known_ones_take_no_unit(self) -> None:
        self.successResultOf(self.batch("p1"))
        admitted = self.successResultOf(self.batch("p1", "p2", limit=2))
        self.assertEqual(
            [(each.id, each.repeated) for each in admitted], [("p1", True), ("p2", False)]
        )
        self.assertEqual(self.used(), 2)

    def test_one_that_is_twice_in_it_is_one(self) -> None:
        twice = [Submission(prompt(name), event_key("same")) for name in ("p1", "p2")]
        admitted = self.successResultOf(self.admit_all(*twice))
        self.assertEqual(
            [(each.id, each.repeated) for each in admitted], [("p1", False), ("p1", True)]
        )
        self.assertEqual(self.used(), 1)

    def test_too_few_units(self) -> None:
        refusal = self.failureResultOf(self.batch("p1", "p2", "p3", limit=2), QuotaUsedUp)
        self.assertEqual(
            refusal.value.reason, "the day has 2 of its 2 prompts left, and these are 3"
        )
        self.assertEqual(refusal.value.left, 2)
        self.assertEqual((self.used(), self.asks().claimed), (0, []))

    def test_too_little_room(self) -> None:
        self.failureResultOf(self.batch("p1", "p2", "p3", backlog=2), BacklogFull)
        self.assertEqual((self.used(), self.asks().claimed), (0, []))

    def test_an_event_s_key_is_found_whatever_else_has_changed(self) -> None:
        self.successResultOf(self.batch("p1"))
        changed = Submission(prompt("p2", "another text"), event_key("p1"))
        (admitted,) = self.successResultOf(self.admit_all(changed))
        self.assertEqual((admitted.id, admitted.repeated), ("p1", True))

    def test_one_that_comes_late_must_be_a_repeat(self) -> None:
        self.successResultOf(self.batch("p1"))
        late = [
            Submission(prompt(f"late {name}"), event_key(name), late=True) for name in ("p1", "p2")
        ]
        (admitted,) = self.successResultOf(self.admit_all(late[0]))
        self.assertEqual((admitted.id, admitted.repeated), ("p1", True))
        self.failureResultOf(self.admit_all(*late), TooLate)
        self.failureResultOf(self.admit_all(Submission(prompt("p3"), late=True)), TooLate)
        self.assertEqual(self.used(), 1)

    def test_a_key_of_callers_is_no_event_s(self) -> None:
        self.successResultOf(self.batch("p1"))
        other = self.successResultOf(self.admit(prompt("p2"), key="p1"))
        self.assertFalse(other.repeated)


class DetailsContract(Contract):
    """What a prompt has besides its text comes back with its claim."""

    def test_all_of_it(self) -> None:
        details = Details(
            conversation=True,
            call={"model": "m", "temperature": 0.5},
            attributes={"subject": "s", "n": 3},
            metadata={},
        )
        sent = attrs.evolve(
            prompt(),
            details=details,
            target="billing",
            not_before=NOON + 5,
            deadline=NOON + 50,
            expiry=NOON + 40,
        )
        self.accept(sent)
        (ask,) = self.asks(now=NOON + 5).claimed
        self.assertEqual(ask.prompt, sent)

    def test_a_repeat_with_other_details_is_another_prompt(self) -> None:
        self.successResultOf(self.admit(prompt(), key="k"))
        for different in (
            attrs.evolve(prompt("p2"), details=Details(metadata={})),
            attrs.evolve(prompt("p3"), target="billing"),
        ):
            with self.subTest(different=different):
                self.failureResultOf(self.admit(different, key="k"), KeyReused)

    def test_a_repeat_may_have_its_members_in_another_order(self) -> None:
        for name, metadata in (
            ("p1", {"a": 1, "b": {"c": 2, "d": 3}}),
            ("p2", {"b": {"d": 3, "c": 2}, "a": 1}),
        ):
            each = attrs.evolve(prompt(name), details=Details(metadata=metadata))
            admitted = self.successResultOf(self.admit(each, key="k"))
            self.assertEqual(admitted.id, "p1")


class TargetContract(Contract):
    """Each destination has its own events."""

    def to(self, name: str, target: str) -> Prompt:
        return attrs.evolve(prompt(name), target=target)

    def test_each_gets_its_own(self) -> None:
        self.accept(self.to("p1", "billing"), self.to("p2", "mail"), prompt("p3"))
        for name in ("p1", "p2", "p3"):
            self.answer(name)
        self.assertEqual(self.record("p1").target, "billing")
        self.assertEqual([each.id for each in self.deliveries(to="billing").claimed], ["p1"])
        self.assertEqual([each.id for each in self.deliveries(to="mail").claimed], ["p2"])
        self.assertEqual([each.id for each in self.deliveries().claimed], ["p3"])
        self.deliver("p1")
        self.assertEqual(
            (self.record("p1").state, self.record("p1").deliveries), (State.DELIVERED, 1)
        )

    def test_the_first_delivery_can_be_claimed_at_once(self) -> None:
        self.accept(self.to("p1", "billing"))
        self.answer("p1", claim=True)
        delivery: Any = self.hand["p1"]
        self.assertEqual(delivery.destination, "billing")

    def test_a_redriven_event_goes_to_its_own(self) -> None:
        self.accept(self.to("p1", "billing"))
        self.answer("p1", claim=True)
        self.fail_it("p1")
        self.successResultOf(self.journal.redrive("p1"))
        self.assertEqual([each.id for each in self.deliveries(to="billing").claimed], ["p1"])

    def test_which_wait_at_a_start(self) -> None:
        self.accept(self.to("p1", "billing"), prompt("p2"), prompt("p3"))
        for name in ("p1", "p2"):
            self.answer(name)
        recovered = self.restart()
        self.assertEqual(sorted(recovered.destinations), ["billing", "target"])

    def test_none(self) -> None:
        """Without a target, a prompt ends with its answer."""
        self.accept(self.to("p1", NOWHERE))
        ended = self.end_of("p1", Answered(ANSWER, EVENT, keep=60), claim=True)
        self.assertEqual((ended.kept, ended.delivery), (True, None))
        record = self.record("p1")
        self.assertEqual((record.state, record.deliveries), (State.DELIVERED, 0))
        self.assertEqual(self.successResultOf(self.journal.kept("p1")).event, EVENT)
        self.clock.advance(62)
        self.assertIsNone(self.successResultOf(self.journal.kept("p1")).event)


class KeptContract(Contract):
    """An answer is kept while somebody needs it, and for as long as it is to be kept."""

    def kept(self, name: str = "p1", until: float | None = None) -> Any:
        return self.successResultOf(self.journal.kept(name, until))

    def answered(self, needed_until: float | None = None) -> None:
        self.successResultOf(self.admit(prompt(), needed_until=needed_until))
        self.answer(claim=True, event=EVENT)

    def test_nothing_is(self) -> None:
        self.assertIsNone(self.kept())
        self.accept(prompt())
        self.assertEqual((self.kept().record, self.kept().event), (self.record(), None))

    def test_from_its_answer_to_its_delivery(self) -> None:
        self.answered()
        self.assertEqual(self.kept().event, EVENT)
        self.deliver()
        self.assertIsNone(self.kept().event)

    def test_for_some_time_after_its_delivery(self) -> None:
        self.answered()
        self.end_of("p1", Delivered(keep=30))
        self.clock.advance(29)
        self.assertEqual(self.kept().event, EVENT)
        self.clock.advance(3)
        self.assertIsNone(self.kept().event)

    def test_for_who_waits(self) -> None:
        self.answered(needed_until=NOON + 30)
        self.deliver()
        self.assertEqual(self.kept().event, EVENT)
        self.successResultOf(self.journal.unneeded("p1"))
        self.assertIsNone(self.kept().event)

    def test_who_waits_may_have_gone_before(self) -> None:
        self.answered(needed_until=NOON + 30)
        self.successResultOf(self.journal.unneeded("p1"))
        self.deliver()
        self.assertIsNone(self.kept().event)

    def test_a_wait_has_its_end(self) -> None:
        self.answered(needed_until=NOON + 30)
        self.deliver()
        self.clock.advance(32)
        self.assertIsNone(self.kept().event)

    def test_a_later_wait_counts_as_well(self) -> None:
        self.answered()
        self.assertEqual(self.kept(until=NOON + 30).event, EVENT)
        self.kept(until=NOON + 10)
        self.deliver()
        self.clock.advance(20)
        self.assertEqual(self.kept().event, EVENT)

    def test_who_waited_does_not_shorten_how_long_it_is_kept(self) -> None:
        self.answered(needed_until=NOON + 10)
        self.end_of("p1", Delivered(keep=30))
        self.successResultOf(self.journal.unneeded("p1"))
        self.clock.advance(20)
        self.assertEqual(self.kept().event, EVENT)

    def test_a_start_ends_all_waits(self) -> None:
        self.answered(needed_until=NOON + 1000)
        self.deliver()
        self.restart()
        self.assertIsNone(self.kept().event)

    def test_after_a_clock_was_set_back_no_longer_than_it_may_be(self) -> None:
        self.answered()
        self.end_of("p1", Delivered(keep=self.keep))
        self.restart(-86400)
        self.assertEqual(self.kept().event, EVENT)
        self.clock.advance(self.keep + 2)
        self.assertIsNone(self.kept().event)

    def test_pruned_only_once_it_is_kept_no_more(self) -> None:
        self.answered()
        self.end_of("p1", Delivered(keep=30))
        self.successResultOf(self.journal.prune(NOON + 1))
        self.assertEqual(self.kept().event, EVENT)


class TimesContract(Contract):
    """Prompts with a time before which, or after which, they are not asked."""

    def test_not_before(self) -> None:
        later = attrs.evolve(prompt(), not_before=NOON + 60)
        admitted = self.successResultOf(self.admit(later, claim=True))
        self.assertIsNone(admitted.ask)
        self.assertEqual(self.record().next_attempt, NOON + 60)
        self.assertEqual((self.asks().claimed, self.asks().next_due), ([], NOON + 60))
        (ask,) = self.asks(now=NOON + 61).claimed
        self.assertEqual(ask.since, NOON + 60)

    def test_not_before_survives_a_start(self) -> None:
        self.accept(attrs.evolve(prompt(), not_before=NOON + 86400))
        self.restart()
        self.assertEqual(self.asks().next_due, NOON + 86400)

    def test_the_oldest_that_waits_is_none_that_is_not_to_be_asked_yet(self) -> None:
        def oldest() -> Any:
            return self.successResultOf(self.journal.tally(DAY.date)).oldest

        self.accept(attrs.evolve(prompt("p1"), not_before=NOON + 60))
        self.assertIsNone(oldest())
        self.accept(prompt("p2", accepted=NOON + 1))
        self.assertEqual(oldest(), NOON + 1)
        self.postpone("p2", NOON + 90)
        self.assertEqual(oldest(), NOON + 1)
        self.clock.advance(60)
        self.assertEqual(oldest(), NOON)

    def test_not_before_is_obeyed_when_the_model_s_settings_change(self) -> None:
        self.accept(attrs.evolve(prompt(), not_before=NOON + 86400))
        held = PeerState("the model answered 401", NOON, 1, NOON + 30)
        self.successResultOf(self.journal.remember("model", held))
        self.restart(peers=dict.fromkeys(PEERS, "another key"))
        self.assertEqual(self.asks().next_due, NOON + 86400)

    def test_expired(self) -> None:
        self.accept(
            attrs.evolve(prompt("p1"), deadline=NOON + 60),
            attrs.evolve(prompt("p2"), expiry=NOON + 30),
            prompt("p3"),
        )
        self.assertEqual(self.expired(NOON), ([], NOON + 30))
        self.assertEqual(self.expired(NOON + 30), (["p2"], NOON + 60))
        self.assertEqual(self.expired(NOON + 60), (["p1"], None))
        self.fail_it("p2", f"{TIME_IS_UP}: it expired", give_back=True)
        self.assertEqual((self.record("p2").asks, self.used()), (0, 2))
        kept = self.successResultOf(self.journal.kept("p2"))
        self.assertTrue(kept.timed_out)
        self.assertEqual(kept.record.failed, NOON)

    def test_the_last_call_s_request_id_stays(self) -> None:
        self.accept(attrs.evolve(prompt(), deadline=NOON + 60))
        self.asks()
        self.postpone(until=NOON + 90, request_id="req-7")
        self.assertEqual(self.record().request_id, "req-7")
        self.expired(NOON + 60)
        self.fail_it(error=TIME_IS_UP)
        self.assertEqual(self.record().request_id, "req-7")

    def test_one_that_is_asked_is_not_claimed(self) -> None:
        self.accept(attrs.evolve(prompt(), deadline=NOON + 60))
        self.asks()
        self.assertEqual(self.expired(NOON + 61), ([], None))

    def test_a_claim_that_comes_too_late_counts_no_ask(self) -> None:
        late = attrs.evolve(prompt("p1"), expiry=NOON - 1)
        self.assertEqual(self.successResultOf(self.admit(late, claim=True)).ask.total, 0)
        self.accept(attrs.evolve(prompt("p2"), deadline=NOON + 60))
        (ask,) = self.asks(now=NOON + 60).claimed
        self.assertEqual((ask.attempt, ask.total), (0, 0))
        self.assertEqual((self.record("p1").asks, self.record("p2").asks), (0, 0))

    def test_a_redriven_prompt_has_no_deadline(self) -> None:
        self.accept(attrs.evolve(prompt(), deadline=NOON + 60))
        self.expired(NOON + 60)
        self.fail_it(error=TIME_IS_UP)
        self.successResultOf(self.journal.redrive("p1"))
        (ask,) = self.asks().claimed
        self.assertEqual((ask.prompt.deadline, ask.prompt.ends), (None, None))


class CancelContract(Contract):
    """An accepted prompt can be cancelled while no call for it is under way."""

    def cancel(self, name: str = "p1") -> Any:
        return self.journal.cancel(name)

    def assert_too_late(self) -> None:
        self.failureResultOf(self.cancel(), NotCancelled)

    def test_one_that_waits(self) -> None:
        self.accept(prompt("p1"), prompt("p2"))
        self.clock.advance(5)
        self.assertEqual(self.successResultOf(self.cancel()), Cancelled())
        self.assertEqual(self.successResultOf(self.cancel()), Cancelled(repeated=True))
        record = self.record()
        self.assertEqual((record.state, record.ended), (State.CANCELLED, NOON + 5))
        self.assertEqual((record.failed, record.delivered, record.next_attempt), (None,) * 3)
        self.assertEqual(self.used(), 1)
        self.assertEqual([ask.prompt.id for ask in self.asks().claimed], ["p2"])

    def test_none(self) -> None:
        self.assertIsNone(self.successResultOf(self.cancel("unknown")))

    def test_one_that_may_have_been_billed_gives_no_unit_back(self) -> None:
        self.accept(prompt())
        self.asks()
        self.postpone(until=NOON + 9, possibly_billed=True)
        self.successResultOf(self.cancel())
        self.assertEqual(self.used(), 1)

    def test_too_late(self) -> None:
        self.accept(prompt())
        self.asks()
        self.assert_too_late()
        self.answer(claim=True)
        self.assert_too_late()
        self.deliver()
        self.assert_too_late()

    def test_one_that_failed(self) -> None:
        self.accept(prompt())
        self.end_of("p1", Failed("why"))
        self.assert_too_late()

    def test_is_pruned_in_its_time_and_no_end_to_tell_of(self) -> None:
        self.accept(prompt())
        self.successResultOf(self.cancel())
        self.assertEqual(self.successResultOf(self.journal.ends(0, 10)), [])
        self.successResultOf(self.journal.prune(NOON + 1))
        self.assertIsNone(self.record())


class SubmittedContract(Contract):
    """Prompts that the provider works on, under an id."""

    def submit(self, until: float = NOON + 1) -> None:
        self.accept(prompt())
        self.end_of("p1", Underway("resp-1", until))

    def polled(self, now: float) -> Any:
        claims = self.successResultOf(self.journal.claim_submitted(now, 10))
        self.hand.update((ask.prompt.id, ask) for ask in claims.claimed)
        return claims

    def end_poll(self, outcome: Any, **options: Any) -> Any:
        return self.end(self.hand.pop("p1"), outcome, **options)

    def test_is_polled_and_not_asked_again(self) -> None:
        self.submit()
        record = self.record()
        self.assertEqual((record.state, record.asks), (State.SUBMITTED, 1))
        self.assertEqual(record.next_attempt, NOON + 1)
        self.assertEqual((self.asks(now=NOON + 9).claimed, self.asks().next_due), ([], None))
        self.assertEqual((self.polled(NOON).claimed, self.polled(NOON).next_due), ([], NOON + 1))
        (poll,) = self.polled(NOON + 1).claimed
        self.assertEqual((poll.submitted, poll.polls, poll.total), ("resp-1", 0, 1))
        self.end_poll(Underway("resp-1", NOON + 3))
        (poll,) = self.polled(NOON + 3).claimed
        self.assertEqual((poll.polls, poll.missing), (1, 0))
        self.assertEqual(self.record().asks, 1)

    def test_a_crash_loses_no_id(self) -> None:
        self.submit()
        self.polled(NOON + 1)
        self.restart()
        self.assertEqual(self.asks(now=NOON + 9).claimed, [])
        (poll,) = self.polled(NOON + 1).claimed
        self.assertEqual(poll.submitted, "resp-1")

    def test_a_start_polls_it_soon(self) -> None:
        """Whatever the provider asked for before: the settings or the clock may have changed."""
        self.submit(NOON + 3600)
        self.restart()
        self.assertLessEqual(self.polled(NOON).next_due, NOON + 10)

    def test_its_record_says_why_a_poll_failed(self) -> None:
        self.submit()
        self.polled(NOON + 1)
        self.end_poll(Underway("resp-1", NOON + 2, error="down"))
        self.assertEqual((self.record().state, self.record().error), (State.SUBMITTED, "down"))

    def test_answered(self) -> None:
        self.submit()
        self.polled(NOON + 1)
        delivery = self.end_poll(Answered(ANSWER, EVENT), claim=True).delivery
        self.assertEqual((delivery.event, delivery.submitted), (EVENT, "resp-1"))
        self.restart()
        (delivery,) = self.deliveries().claimed
        self.assertEqual(delivery.submitted, "resp-1")

    def test_answered_without_a_target(self) -> None:
        self.accept(attrs.evolve(prompt(), target=NOWHERE))
        self.end_of("p1", Underway("resp-1", NOON))
        self.polled(NOON)
        self.end_poll(Answered(ANSWER, EVENT, keep=60))
        self.assertEqual(self.record().state, State.DELIVERED)

    def test_failed_and_its_unit_stays_spent(self) -> None:
        self.submit()
        self.polled(NOON + 1)
        self.end_poll(Failed("why", give_back=True))
        self.assertEqual((self.record().state, self.used()), (State.FAILED, 1))
        self.successResultOf(self.journal.redrive("p1"))
        (ask,) = self.asks().claimed
        self.assertIsNone(ask.submitted)

    def test_missing(self) -> None:
        self.submit(NOON)
        for number in range(3):
            (poll,) = self.polled(NOON + 10 * number).claimed
            since = NOON if number else None
            self.assertEqual((poll.missing, poll.missing_since), (number, since))
            self.end_poll(Underway("resp-1", NOON + 10 * number + 10, missing=True))
        (poll,) = self.polled(NOON + 30).claimed
        self.end_poll(Underway("resp-1", NOON + 40))
        (poll,) = self.polled(NOON + 40).claimed
        self.assertEqual((poll.missing, poll.missing_since), (0, None))

    def test_lost_and_asked_again(self) -> None:
        self.submit(NOON)
        self.polled(NOON)
        self.end_poll(Postponed(NOON + 5, "lost", possibly_billed=True))
        self.assertEqual(self.record().state, State.ACCEPTED)
        (ask,) = self.asks(now=NOON + 5).claimed
        self.assertEqual((ask.submitted, ask.possibly_billed, ask.attempt), (None, 1, 2))

    def test_cancelled(self) -> None:
        self.submit()
        cancelled = self.successResultOf(self.journal.cancel("p1"))
        self.assertEqual(cancelled, Cancelled())
        self.assertEqual((self.record().state, self.used()), (State.CANCELLED, 1))

    def test_one_that_nobody_polls_any_more_expires_a_while_after_its_deadline(self) -> None:
        self.accept(attrs.evolve(prompt(), deadline=NOON + 60))
        self.end_of("p1", Underway("resp-1", NOON + 60))
        late = NOON + 60 + LAST_POLL
        self.assertEqual(self.expired(late - 1), ([], late))
        self.assertEqual(self.expired(late)[0], ["p1"])
        self.end_poll(Failed(TIME_IS_UP))
        self.assertEqual(self.record().state, State.FAILED)

    def test_waits_in_the_backlog(self) -> None:
        self.submit()
        tally = self.successResultOf(self.journal.tally(DAY.date))
        self.assertEqual((tally.backlog, tally.oldest), (1, NOON))
        (record,) = self.successResultOf(self.journal.latest(State.SUBMITTED, None, 5))
        self.assertEqual(record.id, "p1")


class LeftoverContract(Contract):
    """What a provider keeps, and nobody needs any more."""

    left = Leftover("resp-1", "second", forget=True)

    def leftovers(self, now: float = NOON) -> Any:
        return self.successResultOf(self.journal.claim_leftovers(now, 10))

    def over(self, leftover: Leftover, until: float | None = None) -> None:
        self.successResultOf(self.journal.leftover_ended(leftover, until))

    def told(self, now: float = NOON) -> list[tuple[str, str | None, bool, bool]]:
        claims = self.leftovers(now).claimed
        return [(each.submitted, each.provider, each.stop, each.forget) for each in claims]

    def polled_one(self) -> Any:
        self.accept(prompt())
        self.end_of("p1", Underway("resp-1", NOON, provider="second"))
        claims = self.successResultOf(self.journal.claim_submitted(NOON, 10))
        return claims.claimed[0]

    def test_of_one_that_failed(self) -> None:
        self.end(self.polled_one(), Failed("why"), leftover=self.left)
        self.assertEqual(self.successResultOf(self.journal.tally(DAY.date)).leftovers, 1)
        self.assertEqual(self.told(), [("resp-1", "second", False, True)])

    def test_of_one_that_was_delivered(self) -> None:
        delivery = self.end(self.polled_one(), Answered(ANSWER, EVENT), claim=True).delivery
        self.assertEqual(self.told(), [])
        self.end(delivery, Delivered(), leftover=self.left)
        self.assertEqual(self.told(), [("resp-1", "second", False, True)])

    def test_of_one_that_was_cancelled(self) -> None:
        for forget in (False, True):
            self.accept(prompt(f"p{forget}"))
            self.end_of(f"p{forget}", Underway("resp-1", NOON))
            self.successResultOf(self.journal.cancel(f"p{forget}", forget=forget))
            self.assertEqual(self.told(), [("resp-1", None, True, forget)])

    def test_of_one_that_the_provider_does_not_keep(self) -> None:
        self.accept(prompt())
        self.successResultOf(self.journal.cancel("p1", forget=True))
        self.assertEqual(self.told(), [])

    def test_an_old_claim_leaves_nothing(self) -> None:
        poll = self.polled_one()
        self.restart()
        self.assertFalse(self.end(poll, Failed("why"), leftover=self.left).kept)
        self.assertEqual(self.told(), [])

    def test_until_it_is_done(self) -> None:
        self.end(self.polled_one(), Failed("why"), leftover=attrs.evolve(self.left, stop=True))
        (first,) = self.leftovers().claimed
        self.assertEqual((first.tries, first.since), (0, NOON))
        self.assertEqual((self.leftovers().claimed, self.leftovers().next_due), ([], None))
        self.over(attrs.evolve(first, stop=False), NOON + 60)
        self.assertEqual((self.leftovers().claimed, self.leftovers().next_due), ([], NOON + 60))
        (second,) = self.leftovers(NOON + 60).claimed
        self.assertEqual((second.tries, second.stop, second.forget), (1, False, True))
        self.over(first)
        self.over(second)
        self.assertEqual(self.told(NOON + 999), [])

    def test_a_start_takes_it_up_at_once(self) -> None:
        self.end(self.polled_one(), Failed("why"), leftover=self.left)
        (old,) = self.leftovers().claimed
        self.restart()
        (new,) = self.leftovers().claimed
        self.over(old)
        self.over(new, NOON + 999)
        self.restart()
        self.assertEqual(len(self.leftovers().claimed), 1)

    def test_one_that_could_not_be_delivered_is_deleted_once_it_is(self) -> None:
        delivery = self.end(self.polled_one(), Answered(ANSWER, EVENT), claim=True).delivery
        self.end(delivery, Failed("why"))
        self.successResultOf(self.journal.redrive("p1"))
        (delivery,) = self.deliveries().claimed
        self.assertEqual((delivery.submitted, delivery.provider), ("resp-1", "second"))


class AnswersContract(
    LeftoverContract,
    BatchContract,
    DetailsContract,
    TargetContract,
    KeptContract,
    TimesContract,
    CancelContract,
    SubmittedContract,
):
    """All of it."""
