"""Prompts that the provider keeps under ids: submitted, polled, answered, lost, or out of time."""

import json
from typing import Any

import attrs
from twisted.logger import LogLevel, capturedLogs, formatEvent

from chatgpt_source.errors import (
    CallError,
    Gone,
    Lost,
    PeerFailure,
    Permanent,
    PossiblyBilled,
    Transient,
)
from chatgpt_source.journal import TIME_IS_UP, Answered, Delivered, Failed, Postponed, Underway
from chatgpt_source.pipeline.polling import AT_ONCE
from chatgpt_source.pipeline.worker import POLL_INTERVAL
from chatgpt_source.prompt import NOWHERE, State, Submitted, Tier
from chatgpt_source.telemetry.observer import AskOutcome, PollOutcome
from tests.contracts.driver import ANSWER, NOON
from tests.pipeline.submitted import CONFIG, SubmittedTestCase

GONE = Gone("the provider does not have it", status=404)
LOST = Lost("the provider gave it up: server_error")
AGAIN = Transient("the model answered 500", status=500)
HOLD = PeerFailure("the model answered 401: check `token`", status=401)


class SubmittingTests(SubmittedTestCase):
    def test_its_id_is_on_disk_first_and_its_slot_is_free(self) -> None:
        self.begin(concurrency=1)
        self.submit("p1")
        self.assertEqual(self.last, Underway("resp_p1", self.clock.seconds() + 1.0))
        (told,) = self.told.ends
        self.assertEqual((told.state, told.submitted), (State.SUBMITTED, "resp_p1"))
        self.assertIs(told.outcome, AskOutcome.SUBMITTED)
        self.assertIsNone(told.poll)
        self.post("p2")
        self.assertEqual([each.id for each in self.provider.asks.under_way], ["p2"])

    def test_while_its_id_is_not_on_disk_nothing_else_happens(self) -> None:
        self.begin(concurrency=1)
        self.journal.writable = False
        self.submit("p1")
        self.post("p2")
        self.clock.advance(1)
        self.assertEqual(self.told.ends, [])
        self.assertEqual(self.provider.asks.under_way, [])
        self.assertFalse(self.pipeline.model.tried)
        self.journal.writable = True
        self.clock.advance(POLL_INTERVAL)
        self.assertEqual(len(self.journal.ends), 1)
        self.assertTrue(self.pipeline.model.tried)

    def test_it_is_logged(self) -> None:
        with capturedLogs() as logged:
            self.submit()
        (line,) = [formatEvent(each) for each in logged]
        self.assertEqual(line, "submitted: id=p1 asks=1 submitted=resp_p1")


class PollingTests(SubmittedTestCase):
    def test_first_after_a_second_then_less_and_less_often(self) -> None:
        self.submit()
        self.clock.advance(0.95)
        self.assertEqual(self.provider.polls.calls, [])
        self.clock.advance(0.1)
        self.assertEqual(self.provider.polls.under_way, ["resp_p1"])
        waits = []
        for _ in range(6):
            self.poll(None)
            waits.append(self.wait_of(self.last))
        self.assertEqual(waits, [2, 4, 8, 10, 10, 10])
        self.assertFalse(any(each.missing for each in self.journal.ends))

    def test_an_answer_is_delivered_at_once(self) -> None:
        self.submit()
        self.poll(None, ANSWER)
        self.assertIsInstance(self.last, Answered)
        self.assertEqual(self.last.answer, ANSWER)
        (event,) = [each.event for each in self.target.under_way]
        self.assertEqual(json.loads(event)["data"]["content"], "the answer")
        self.assertEqual(len(self.provider.asks.calls), 1)
        states = [(each.state, each.poll) for each in self.told.ends]
        self.assertEqual(
            states,
            [
                (State.SUBMITTED, None),
                (None, PollOutcome.UNDERWAY),
                (State.ANSWERED, PollOutcome.ANSWERED),
            ],
        )
        self.assertEqual(self.told.ends[-1].answer, ANSWER)

    def test_an_answer_for_its_caller_alone(self) -> None:
        self.begin(keep_answers=60.0)
        self.submit(target=NOWHERE)
        self.poll(ANSWER)
        self.assertEqual(self.last.keep, 60.0)
        self.assertIs(self.told.ends[-1].state, State.DELIVERED)
        self.assertEqual(self.target.calls, [])

    def test_one_that_was_cancelled_meanwhile_is_not_told(self) -> None:
        self.submit("p1")
        self.submit("p2")
        self.journal.kept = False
        self.poll(ANSWER, None)
        self.assertEqual(len(self.told.ends), 2)
        self.assertEqual(self.target.calls, [])

    def test_no_more_than_some_at_once(self) -> None:
        self.begin(concurrency=3 * AT_ONCE)
        for number in range(2 * AT_ONCE):
            self.submit(f"p{number}")
        self.clock.advance(POLL_INTERVAL)
        self.assertEqual(len(self.provider.polls.under_way), AT_ONCE)
        self.begin(concurrency=2)
        self.clock.advance(POLL_INTERVAL)
        self.assertEqual(len(self.provider.polls.under_way), 2)

    def test_an_answer_that_is_no_answer_fails_it_and_keeps_its_unit(self) -> None:
        self.submit()
        self.poll(Permanent("the model refused", status=200, request_id="req-9"))
        self.assertEqual(self.last, Failed("the model refused", request_id="req-9"))
        self.assertIs(self.told.ends[-1].poll, PollOutcome.FAILED)


class DeadLetterTests(SubmittedTestCase):
    config = attrs.evolve(CONFIG, dead_letter="http://letters")

    def test_of_one_that_failed(self) -> None:
        self.submit()
        self.poll(Permanent("the model refused", status=200))
        error = json.loads(self.last.dead_letter)["data"]["error"]
        self.assertEqual(error["reason"], "the model refused")


class FailingPollTests(SubmittedTestCase):
    def test_it_is_polled_again_and_no_call_is_counted(self) -> None:
        self.submit()
        self.poll(AGAIN)
        self.assertEqual((self.last.submitted, self.wait_of(self.last)), ("resp_p1", 2))
        told = self.told.ends[-1]
        self.assertEqual((told.state, told.error, told.poll), (None, AGAIN, PollOutcome.AGAIN))
        self.poll(ANSWER)
        self.assertIsInstance(self.last, Answered)

    def test_as_late_as_the_provider_asks(self) -> None:
        self.submit()
        self.poll(Transient("the model answered 429", status=429, retry_after=45.0))
        self.assertEqual(self.wait_of(self.last), 45)

    def test_a_hold_holds_no_other(self) -> None:
        self.submit("p1")
        self.submit("p2")
        self.poll(HOLD)
        self.assertEqual(self.wait_of(self.last), 30)
        self.assertIs(self.told.ends[-1].poll, PollOutcome.HOLD)
        self.poll(ANSWER)
        self.assertIsInstance(self.last, Answered)
        self.assertFalse(self.pipeline.model.held)

    def test_one_on_flex_that_can_not_be_cancelled_is_polled_again(self) -> None:
        """It may have ended meanwhile."""
        self.begin(flex_over=100.0)
        self.submit(tier=Tier.FLEX, deadline=self.clock.seconds() + 50)
        self.poll(None)
        self.provider.cancels.answer(Permanent("it has ended", status=400))
        self.assertIsInstance(self.last, Underway)
        self.poll(ANSWER)
        self.assertIsInstance(self.last, Answered)

    def test_what_nobody_foresaw(self) -> None:
        self.submit()
        self.poll(ZeroDivisionError("a secret"))
        self.assertIsInstance(self.last, Underway)
        self.assertNotIn("secret", self.told.ends[-1].error.reason)
        self.flushLoggedErrors(ZeroDivisionError)

    def test_the_first_failure_and_the_next_success_are_logged(self) -> None:
        self.submit()
        with capturedLogs() as logged:
            self.poll(AGAIN, AGAIN, HOLD)
            trouble = f"submitted prompts can't be looked up: {HOLD.reason}"
            self.assertEqual(self.pipeline.polls.trouble, trouble)
            self.poll(None, None)
            self.assertIsNone(self.pipeline.polls.trouble)
        self.poll(AGAIN, GONE)
        self.assertIsNone(self.pipeline.polls.trouble)
        lines = [formatEvent(each) for each in logged if each["log_level"] > LogLevel.debug]
        expected = [
            "submitted prompts can't be looked up: the model answered 500",
            "submitted prompts can be looked up again",
        ]
        self.assertEqual(lines, expected)

    def test_they_are_not_logged_over_and_over(self) -> None:
        for number in range(20):
            self.submit(f"p{number}")
        with capturedLogs() as logged:
            for _ in range(20):
                self.poll(AGAIN, None)
        self.assertLess(len(logged), 5)

    def test_once_nothing_is_submitted_nothing_fails(self) -> None:
        self.submit(deadline=self.clock.seconds() + 1)
        self.poll(HOLD)
        self.assertIsInstance(self.last, Failed)
        self.clock.advance(2 * POLL_INTERVAL)
        self.assertIsNone(self.pipeline.polls.trouble)

    def test_its_record_says_why(self) -> None:
        self.submit()
        self.poll(AGAIN)
        self.assertEqual(self.last.error, AGAIN.reason)
        self.poll(None)
        self.assertIsNone(self.last.error)

    def test_the_provider_that_has_it_is_told_of(self) -> None:
        self.post(deadline=self.clock.seconds() + 1)
        self.provider.asks.answer(Submitted("resp_p1"))
        due, ask = self.journal.polls[0]
        self.journal.polls = [(due, attrs.evolve(ask, provider="second"))]
        self.clock.advance(1.1)
        self.assertIsInstance(self.last, Failed)
        self.assertEqual(self.told.ends[-1].provider, "second")


class MissingTests(SubmittedTestCase):
    def test_three_times_in_a_row_and_for_30_s_then_it_is_asked_again(self) -> None:
        self.submit()
        self.poll(GONE)
        first = self.clock.seconds()
        self.assertEqual((self.last.missing, self.wait_of(self.last)), (True, 10))
        self.poll(GONE, GONE)
        self.assertIsInstance(self.last, Underway)
        self.poll(GONE)
        self.assertGreaterEqual(self.clock.seconds() - first, 30)
        self.assertIsInstance(self.last, Postponed)
        self.assertTrue(self.last.possibly_billed)
        told = self.told.ends[-1]
        self.assertEqual((told.state, told.poll), (State.ACCEPTED, PollOutcome.MISSING))

    def test_not_in_a_row(self) -> None:
        self.submit()
        self.poll(GONE, GONE, None, GONE, GONE)
        self.assertTrue(all(isinstance(each, Underway) for each in self.journal.ends))
        self.poll(ANSWER)
        self.assertIsInstance(self.last, Answered)

    def test_seldom_polls_are_not_enough(self) -> None:
        """After a long stop, say: three polls there must be."""
        self.submit()
        self.poll(GONE)
        self.clock.advance(1000)
        self.poll(GONE)
        self.assertIsInstance(self.last, Underway)

    def test_one_that_was_billed_often_enough_fails(self) -> None:
        self.post()
        for _ in range(2):
            self.provider.asks.answer(PossiblyBilled("no answer in time"))
            self.post()
        ask = attrs.evolve(self.taken(), possibly_billed=2, missing=2)
        self.journal.polls = [(0.0, attrs.evolve(ask, missing_since=self.clock.seconds() - 30))]
        self.poll(GONE)
        self.assertIsInstance(self.last, Failed)
        self.assertIn("the last attempt", self.last.error)
        self.assertFalse(self.last.give_back)

    def taken(self) -> Any:
        """The claim of a poll, as it will be handed out."""
        self.provider.asks.answer(Submitted("resp_p1"))
        return self.journal.polls[-1][1]


class LostTests(SubmittedTestCase):
    def lose(self) -> None:
        self.submit()
        self.poll(LOST)

    def test_it_is_asked_again_after_a_backoff(self) -> None:
        self.lose()
        self.assertEqual(self.last, Postponed(self.clock.seconds() + 0.5, LOST.reason))
        told = self.told.ends[-1]
        self.assertEqual((told.state, told.poll), (State.ACCEPTED, PollOutcome.LOST))

    def test_it_is_given_up_in_time(self) -> None:
        self.begin(give_up_after=1.0)
        self.lose()
        self.assertIn("give_up_after", self.last.error)
        self.assertFalse(self.last.give_back)


class LateTests(SubmittedTestCase):
    def late(self, *results: Any) -> None:
        deadline = self.clock.seconds() + 5
        self.submit(deadline=deadline)
        self.poll(None, None)
        self.assertEqual(self.last.until, deadline)  # not 4 s later
        self.poll(*results)

    def test_it_is_polled_once_more(self) -> None:
        self.late(ANSWER)
        self.assertIsInstance(self.last, Answered)

    def test_then_it_is_cancelled_and_keeps_its_unit(self) -> None:
        self.late(None)
        self.assertTrue(self.last.error.startswith(f"{TIME_IS_UP}: its deadline passed"))
        self.assertFalse(self.last.give_back)
        self.assertEqual(self.provider.cancels.under_way, ["resp_p1"])
        self.assertIs(self.told.ends[-1].state, State.FAILED)

    def test_also_if_that_poll_fails(self) -> None:
        errors: list[CallError] = [AGAIN, HOLD, GONE]
        for error in errors:
            self.late(error)
            self.assertEqual(
                self.last.error,
                f"{TIME_IS_UP}: its deadline passed before it was answered ({error.reason})",
            )
        self.assertEqual(self.provider.cancels.under_way, ["resp_p1"] * 3)

    def test_one_that_is_lost_is_not_asked_again(self) -> None:
        self.late(LOST)
        self.assertTrue(self.last.error.startswith(TIME_IS_UP))
        self.assertEqual(self.provider.cancels.calls, [])


class NeverAnsweredTests(SubmittedTestCase):
    """Without a deadline, `give_up_after` is the end of what the provider never answers."""

    def wait_in_vain(self, result: Any) -> None:
        self.begin(give_up_after=20.0)
        self.submit()
        while self.clock.seconds() < NOON + 30 and not isinstance(self.last, Failed):
            self.poll(result)

    def test_it_fails_and_is_cancelled(self) -> None:
        self.wait_in_vain(None)
        told = "the provider has no answer to it after `give_up_after`"
        self.assertEqual((self.last.error, self.last.give_back), (told, False))
        self.assertEqual(self.provider.cancels.under_way, ["resp_p1"])

    def test_failing_polls_too(self) -> None:
        self.wait_in_vain(AGAIN)
        self.assertIn("after `give_up_after` (the model answered 500)", self.last.error)

    def test_a_hold_is_not_its_fault(self) -> None:
        self.wait_in_vain(HOLD)
        self.assertIsInstance(self.last, Underway)

    def test_nor_before_its_deadline(self) -> None:
        self.begin(give_up_after=1.0)
        self.submit(deadline=self.clock.seconds() + 60)
        self.poll(None, None, None)
        self.assertIsInstance(self.last, Underway)


class DrainTests(SubmittedTestCase):
    def test_nothing_is_claimed_and_what_is_under_way_is_finished(self) -> None:
        self.submit("p1")
        self.clock.advance(1.1)
        self.submit("p2")
        drained = self.drain()
        self.assertNoResult(drained)
        self.clock.advance(2)
        self.assertEqual(self.provider.polls.under_way, ["resp_p1"])
        self.poll(ANSWER)
        self.assertNoResult(drained)
        self.target.answer()
        self.successResultOf(drained)
        self.assertEqual(self.journal.delivered, [Delivered()])

    def test_what_is_submitted_needs_nothing(self) -> None:
        self.submit()
        self.successResultOf(self.drain())
