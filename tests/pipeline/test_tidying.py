"""What is stopped and deleted at the provider."""

import attrs
from twisted.logger import capturedLogs, formatEvent

from chatgpt_source.errors import CallError, Gone, Lost, PeerFailure, Permanent, Transient
from chatgpt_source.journal import Delivered
from chatgpt_source.pipeline import tidying
from chatgpt_source.pipeline.tidying import AT_ONCE, ONCE_MORE_AFTER
from chatgpt_source.prompt import DEAD_LETTER, NOWHERE, Delivery
from tests.contracts.driver import ANSWER, NOON
from tests.pipeline.submitted import CONFIG, SubmittedTestCase

AGAIN = Transient("the model answered 500", status=500)


class CancelTests(SubmittedTestCase):
    def lines(self, *results: CallError | None) -> list[str]:
        """What is logged if the provider answers so."""
        self.pipeline.cancelled("resp_p1")
        with capturedLogs() as logged:
            for result in results:
                self.provider.cancels.answer(result)
                self.clock.advance(ONCE_MORE_AFTER)
        self.assertEqual(self.provider.cancels.under_way, [])
        return [formatEvent(each) for each in logged]

    def test_in_the_background(self) -> None:
        self.pipeline.cancelled("resp_p1")
        self.assertEqual(self.provider.cancels.under_way, ["resp_p1"])

    def test_once_more_and_then_one_line(self) -> None:
        self.assertEqual(self.lines(AGAIN, None), [])
        told = "the provider was not told to stop: submitted=resp_p1 the model answered 500"
        self.assertEqual(self.lines(AGAIN, AGAIN), [told])

    def test_what_would_fail_again_is_not_repeated(self) -> None:
        for error in (PeerFailure("no"), Permanent("no")):
            told = "the provider was not told to stop: submitted=resp_p1 no"
            self.assertEqual(self.lines(error), [told])

    def test_what_is_gone_is_well(self) -> None:
        self.assertEqual(self.lines(Gone("gone", status=404)), [])

    def test_a_few_at_once_and_not_too_many(self) -> None:
        self.patch(tidying, "MOST", AT_ONCE + 1)
        with capturedLogs() as logged:
            for number in range(AT_ONCE + 2):
                self.pipeline.cancelled(f"resp_{number}")
        self.assertEqual(len(self.provider.cancels.under_way), AT_ONCE)
        (line,) = [formatEvent(each) for each in logged]
        self.assertIn(f"submitted=resp_{AT_ONCE + 1} ", line)
        self.provider.cancels.answer(None)
        self.assertEqual(self.provider.cancels.under_way[-1], f"resp_{AT_ONCE}")

    def test_a_stop_waits_for_it_but_not_for_ever(self) -> None:
        self.pipeline.cancelled("resp_p1")
        drained = self.drain()
        self.assertNoResult(drained)
        self.clock.advance(CONFIG.drain_timeout)
        self.successResultOf(drained)
        self.assertEqual(self.provider.cancels.cancelled, 1)
        self.pipeline.cancelled("resp_p2")
        self.assertEqual(len(self.provider.cancels.calls), 1)


class ForgetTests(SubmittedTestCase):
    config = attrs.evolve(CONFIG, forget_responses=True, keep_answers=60.0)

    def test_one_that_ended_without_an_answer(self) -> None:
        for error in (Permanent("refused", status=200), Lost("cancelled", status=200)):
            self.submit()
            self.poll(error)
            self.assertEqual(self.provider.forgets.under_way, ["resp_p1"])
            self.provider.forgets.answer(None)
            self.begin()

    def test_one_that_is_gone_is_not_deleted(self) -> None:
        self.submit()
        self.poll(*[Gone("gone", status=404)] * 4)
        self.assertEqual(self.provider.forgets.calls, [])

    def test_one_that_was_cancelled_once_it_has_stopped(self) -> None:
        self.pipeline.cancelled("resp_p1")
        self.assertEqual(self.provider.forgets.calls, [])
        self.provider.cancels.answer(None)
        self.assertEqual(self.provider.forgets.under_way, ["resp_p1"])

    def test_one_that_can_not_be_stopped_any_more(self) -> None:
        self.pipeline.cancelled("resp_p1")
        with capturedLogs() as logged:
            self.provider.cancels.answer(Permanent("it has ended"))
            self.provider.forgets.answer(AGAIN)
            self.clock.advance(ONCE_MORE_AFTER)
            self.provider.forgets.answer(None)
        self.assertEqual(
            (len(self.provider.cancels.calls), self.provider.forgets.under_way), (1, [])
        )
        (line,) = [formatEvent(each) for each in logged]
        self.assertEqual(line, "the provider was not told to stop: submitted=resp_p1 it has ended")

    def test_once_it_is_delivered(self) -> None:
        self.submit()
        self.poll(ANSWER)
        self.assertEqual(self.provider.forgets.calls, [])
        self.target.answer()
        self.assertEqual(self.provider.forgets.under_way, ["resp_p1"])

    def test_once_it_is_kept_for_its_caller(self) -> None:
        self.submit(target=NOWHERE)
        self.poll(ANSWER)
        self.assertEqual(self.provider.forgets.under_way, ["resp_p1"])

    def test_not_while_it_is_not_delivered(self) -> None:
        self.submit()
        self.poll(ANSWER)
        self.target.answer(AGAIN)
        self.assertEqual(self.provider.forgets.calls, [])

    def test_not_once_a_dead_letter_of_it_is_delivered(self) -> None:
        self.config = attrs.evolve(self.config, dead_letter="http://letters")
        letter = Delivery("p1", b"{}", NOON, 1, NOON, submitted="resp_p1")
        self.journal.letters = [attrs.evolve(letter, destination=DEAD_LETTER.destination)]
        self.begin()
        self.letters.answer()
        self.assertEqual(self.journal.delivered, [Delivered(60.0)])
        self.assertEqual(self.provider.forgets.calls, [])

    def test_not_what_the_provider_does_not_keep(self) -> None:
        self.post()
        self.provider.asks.answer()
        self.target.answer()
        self.assertEqual(self.provider.forgets.calls, [])

    def test_only_where_the_settings_say_so(self) -> None:
        self.begin(forget_responses=False)
        self.submit()
        self.poll(ANSWER)
        self.target.answer()
        self.assertEqual(self.provider.forgets.calls, [])

    def test_what_fails_is_told_in_one_line(self) -> None:
        self.submit(target=NOWHERE)
        self.poll(ANSWER)
        with capturedLogs() as logged:
            self.provider.forgets.answer(AGAIN)
            self.clock.advance(ONCE_MORE_AFTER)
            self.provider.forgets.answer(AGAIN)
        (line,) = [formatEvent(each) for each in logged]
        expected = "the provider did not delete its answer: submitted=resp_p1 " + AGAIN.reason
        self.assertEqual(line, expected)
