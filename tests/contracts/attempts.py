"""What a journal keeps of the calls for a prompt, as tests that every engine passes."""

from typing import Any

from attrs import evolve

from chatgpt_source.journal import (
    Answered,
    DeadLetter,
    Delivered,
    Detail,
    Failed,
    Postponed,
    Underway,
    outcomes,
)
from chatgpt_source.journal.attempts import Attempt, Kind
from chatgpt_source.prompt import Tier
from tests.contracts.driver import ANSWER, NOON, prompt
from tests.contracts.journal import Contract

ASKED = Attempt(Kind.ASK, 1, "model", NOON, 2.0, "answered", 200)
FAILED_ASK = Attempt(
    *(Kind.ASK, 1, "model.spare", NOON, 1.5, "again", 500, "the model answered 500", "req-0")
)
SENT = Attempt(Kind.DELIVERY, 1, "target", NOON, 0.25, "delivered", 202)
UNSENT = Attempt(Kind.DELIVERY, 1, "target", NOON, 0.5, "again", 503, "the target answered 503")
LETTER = evolve(UNSENT, kind=Kind.DEAD_LETTER, peer="dead_letter")
POLLED = Attempt(Kind.POLL, 1, "model", NOON, 0.125, "again", None, "the model did not answer")
USED = {"prompt_tokens": 11, "completion_tokens": 7}


def told(attempts: Any) -> Any:
    return [(each.kind.value, each.number, each.outcome, each.status) for each in attempts]


class AttemptsContract(Contract):
    def detail(self, name: str = "p1") -> Any:
        return self.successResultOf(self.journal.detail(name))

    def calls(self, name: str = "p1") -> Any:
        return list(self.detail(name).attempts)

    def fail_ask(self, call: Attempt = FAILED_ASK, name: str = "p1") -> None:
        self.postpone(name, calls=[call])

    def bring_answer(self, name: str = "p1", **options: Any) -> None:
        outcome = Answered(evolve(ANSWER, usage=USED), b"the event", calls=[ASKED])
        self.assertTrue(self.end_of(name, outcome, **options).kept)

    def next_poll(self, outcome: Any) -> None:
        (ask,) = self.successResultOf(self.journal.claim_submitted(NOON + 1e6, 1)).claimed
        self.assertTrue(self.end(ask, outcome).kept)

    def hand_in(self, number: int = 1) -> None:
        call = Attempt(Kind.ASK, number, "model", NOON, 3.0, "submitted")
        self.assertTrue(self.end_of("p1", Underway("resp_1", NOON, calls=[call])).kept)

    def test_what_no_caller_waits_for_may_wait_for_others(self) -> None:
        self.patch(outcomes, "MOST_DELAY", 0.02)
        self.accept(prompt(), prompt("p2"))
        ask, now = self.taken("p1"), self.clock.seconds()
        answered = self.journal.ask_ended(ask, Answered(ANSWER, b"e", calls=[ASKED]), now)
        self.assertNoResult(answered)
        self.clock.advance(0.02)
        self.successResultOf(answered)
        (delivery,) = self.deliveries().claimed
        delivered = self.journal.delivery_ended(delivery, Delivered(calls=[SENT]), now)
        self.assertNoResult(delivered)
        self.accept(prompt("p3"))
        self.successResultOf(delivered)

    def test_a_new_prompt_has_no_calls(self) -> None:
        new = evolve(prompt(), deadline=NOON + 60, expiry=NOON + 30)
        self.accept(new)
        expected = Detail(
            self.record(),
            source="a-source",
            type="a-type",
            tier=Tier.STANDARD,
            deadline=NOON + 30,
        )
        self.assertEqual(evolve(self.detail(), attempts=()), expected)
        self.assertEqual(self.calls(), [])

    def test_there_is_no_such_prompt(self) -> None:
        self.assertIsNone(self.detail())

    def test_an_answer_needs_no_row(self) -> None:
        self.accept(prompt())
        self.clock.advance(2)
        self.bring_answer()
        self.assertEqual(self.calls(), [evolve(ASKED, request_id="req-1")])
        detail = self.detail()
        self.assertEqual((detail.answered_by, detail.ask_seconds), ("model", 2.0))
        self.assertEqual((detail.input_tokens, detail.output_tokens), (11, 7))

    def test_counts_that_are_none_are_left_out(self) -> None:
        for number, count in enumerate(("many", True, -1, 2**63, 1.5, None)):
            name = f"p{number}"
            self.accept(prompt(name))
            odd = evolve(ANSWER, usage={"prompt_tokens": count, "completion_tokens": 2**63 - 1})
            self.end_of(name, Answered(odd, b"e", calls=[ASKED]))
            detail = self.detail(name)
            self.assertEqual((detail.input_tokens, detail.output_tokens), (None, 2**63 - 1))

    def test_a_delivery_needs_no_row(self) -> None:
        self.accept(prompt())
        self.bring_answer()
        self.clock.advance(0.25)
        self.end_of("p1", Delivered(keep=60, calls=[SENT]))
        self.assertEqual(told(self.calls())[1:], [("delivery", 1, "delivered", 202)])
        self.assertEqual(self.calls()[1], SENT)
        detail = self.detail()
        self.assertEqual((detail.sent_seconds, detail.sent_status), (0.25, 202))
        self.assertEqual(detail.kept_until, NOON + 60.25)

    def test_every_call_in_order(self) -> None:
        self.accept(prompt())
        self.fail_ask()
        self.clock.advance(10)
        self.fail_ask(evolve(FAILED_ASK, number=2, status=429, started=NOON + 10))
        self.clock.advance(10)
        self.bring_answer()
        self.clock.advance(10)
        self.end_of("p1", Postponed(NOON, "why", calls=[evolve(UNSENT, started=NOON + 30)]))
        self.clock.advance(10)
        self.end_of("p1", Delivered(calls=[evolve(SENT, number=2, started=NOON + 40)]))
        expected = [
            ("ask", 1, "again", 500),
            ("ask", 2, "again", 429),
            ("ask", 3, "answered", 200),
            ("delivery", 1, "again", 503),
            ("delivery", 2, "delivered", 202),
        ]
        self.assertEqual(told(self.calls()), expected)
        self.assertEqual(self.calls()[0], FAILED_ASK)
        self.restart()
        self.assertEqual(told(self.calls()), expected)

    def test_what_failed_before_a_fallback_answered_in_the_same_claim(self) -> None:
        self.accept(prompt())
        (ask,) = self.asks().claimed
        second = evolve(ASKED, number=2, started=NOON + 1, peer="model.spare")
        outcome = Answered(ANSWER, b"e", calls=[FAILED_ASK, second])
        self.clock.advance(3)
        ended = self.end(evolve(ask, attempt=2, total=2), outcome, claim=True)
        self.assertEqual(ended.delivery.event, b"e")
        self.assertEqual(self.calls(), [FAILED_ASK, evolve(second, request_id="req-1")])

    def test_the_last_call_of_one_that_fails(self) -> None:
        self.accept(prompt())
        call = evolve(FAILED_ASK, outcome="failed", status=400)
        self.end_of("p1", Failed("why", calls=[call]))
        self.assertEqual(self.calls(), [call])

    def test_the_end_of_an_old_claim_leaves_none(self) -> None:
        self.accept(prompt())
        (ask,) = self.asks().claimed
        self.assertFalse(
            self.end(
                evolve(ask, token=ask.token + 1), Postponed(NOON, "why", calls=[FAILED_ASK])
            ).kept
        )
        self.assertEqual(self.calls(), [])
        self.bring_answer()
        (delivery,) = self.deliveries().claimed
        late = evolve(delivery, token=delivery.token + 1)
        for outcome in (Postponed(NOON, "why", calls=[UNSENT]), Failed("why", calls=[UNSENT])):
            self.assertFalse(self.end(late, outcome).kept)
        self.assertEqual(told(self.calls()), [("ask", 1, "answered", 200)])

    def test_the_first_and_the_last_are_kept(self) -> None:
        self.accept(prompt())
        for number in range(1, 26):
            self.clock.advance(1)
            self.fail_ask(evolve(FAILED_ASK, number=number, started=self.clock.wall()))
        numbers = [each.number for each in self.calls()]
        self.assertEqual(numbers, [*range(1, 11), *range(16, 26)])
        self.assertEqual(self.record().asks, 25)

    def test_a_submission_and_the_polls_that_failed(self) -> None:
        self.accept(prompt())
        self.hand_in()
        going_on = evolve(POLLED, outcome="underway", error=None)
        self.next_poll(Underway("resp_1", NOON, calls=[going_on]))
        self.next_poll(Underway("resp_1", NOON, error="why", calls=[evolve(POLLED, number=2)]))
        self.clock.advance(60)
        polled = evolve(ASKED, kind=Kind.POLL, number=3, seconds=0.125)
        self.next_poll(Answered(ANSWER, b"e", calls=[polled]))
        expected = [
            ("ask", 1, "submitted", None),
            ("poll", 2, "again", None),
            ("poll", 3, "answered", 200),
        ]
        self.assertEqual(told(self.calls()), expected)

    def test_the_polls_of_what_is_submitted_again_go_on(self) -> None:
        self.accept(prompt())
        self.hand_in()
        lost = evolve(POLLED, outcome="lost")
        self.next_poll(Postponed(NOON, "why", calls=[lost]))
        self.hand_in(2)
        later = evolve(lost, started=NOON + 60)
        self.next_poll(Postponed(NOON, "why", calls=[later]))
        polls = [each for each in self.calls() if each.kind is Kind.POLL]
        self.assertEqual(polls, [lost, evolve(later, number=2)])

    def test_a_redrive_keeps_them_and_their_numbers_go_on(self) -> None:
        self.accept(prompt())
        self.bring_answer()
        refused = evolve(UNSENT, outcome="failed", status=400)
        self.end_of("p1", Failed("why", calls=[refused]))
        self.successResultOf(self.journal.redrive("p1"))
        self.end_of("p1", Postponed(NOON, "why", calls=[evolve(UNSENT, started=NOON + 1)]))
        self.clock.advance(5)
        self.end_of("p1", Delivered(calls=[evolve(SENT, number=2)]))
        expected = [
            ("ask", 1, "answered", 200),
            ("delivery", 1, "failed", 400),
            ("delivery", 2, "again", 503),
            ("delivery", 3, "delivered", 202),
        ]
        self.assertCountEqual(told(self.calls()), expected)

    def test_a_purge_takes_them_along(self) -> None:
        self.accept(prompt())
        self.fail_ask()
        self.fail_it()
        self.assertTrue(self.successResultOf(self.journal.purge("p1")))
        self.assertIsNone(self.detail())
        self.accept(prompt())  # it may have the same place
        self.assertEqual(self.calls(), [])

    def test_a_prune_takes_them_along(self) -> None:
        self.accept(prompt())
        self.fail_ask()
        self.fail_it()
        self.successResultOf(self.journal.prune(NOON + 1))
        self.accept(prompt())
        self.assertEqual(self.calls(), [])

    def test_a_dead_letter_that_waits(self) -> None:
        self.accept(prompt())
        self.fail_it(dead_letter=b"letter")
        self.assertEqual(self.detail().dead_letter, DeadLetter("waiting", 0, None, NOON))
        self.dead_letters()
        self.assertEqual(self.detail().dead_letter, DeadLetter("waiting", 1))
        self.end_of("p1", Postponed(NOON + 9, "why", calls=[LETTER]))
        self.assertEqual(self.detail().dead_letter, DeadLetter("waiting", 1, "why", NOON + 9))
        self.assertEqual(self.calls(), [LETTER])

    def test_a_dead_letter_that_has_ended(self) -> None:
        for name, outcome, expected in (
            ("p1", Delivered(calls=[evolve(LETTER, outcome="delivered", error=None)]), "delivered"),
            ("p2", Failed("why", calls=[evolve(LETTER, outcome="failed")]), "failed"),
        ):
            self.accept(prompt(name))
            self.fail_it(name, dead_letter=b"letter")
            self.dead_letters()
            self.end_of(name, outcome)
            letter = self.detail(name).dead_letter
            self.assertEqual((letter.state, letter.attempts), (expected, 1))
            self.assertEqual(letter.error, outcome.calls[0].error)
            self.successResultOf(self.journal.redrive(name))
            self.assertIsNone(self.detail(name).dead_letter)
            self.assertEqual(len(self.calls(name)), 1)
