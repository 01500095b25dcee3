"""What is stopped and deleted at the provider."""

import attrs
from twisted.logger import capturedLogs, formatEvent

from chatgpt_source.errors import CallError, Gone, Lost, PeerFailure, Permanent, Transient
from chatgpt_source.journal import Delivered
from chatgpt_source.pipeline.tidying import AT_ONCE, GIVEN_UP_AFTER
from chatgpt_source.prompt import DEAD_LETTER, NOWHERE, Delivery, Leftover
from tests.contracts.driver import ANSWER, NOON
from tests.pipeline.submitted import CONFIG, SubmittedTestCase

AGAIN = Transient("the model answered 500", status=500)
HOLD = PeerFailure("the model answered 401: check `token`", status=401)
GONE = Gone("the provider does not have it", status=404)
ENDED = Permanent("it has ended", status=400)


class TidyingTestCase(SubmittedTestCase):
    config = attrs.evolve(CONFIG, forget_responses=True, keep_answers=60.0)

    def leave(self, *names: str, stop: bool = False, forget: bool = True) -> None:
        """Let a provider keep what nobody needs."""
        for name in names:
            left = Leftover(f"resp_{name}", stop=stop, forget=forget)
            self.journal.leave(left, self.clock.seconds())
        self.pipeline.cancelled()

    def waits(self) -> list[float]:
        return [round(due - self.clock.seconds(), 3) for due, _ in self.journal.leftovers]

    @property
    def asked(self) -> tuple[int, int]:
        """How many calls there were to stop, and to delete."""
        return len(self.provider.cancels.calls), len(self.provider.forgets.calls)


class LeftoverTests(TidyingTestCase):
    def test_stopped_and_then_deleted(self) -> None:
        self.leave("p1", stop=True)
        self.assertEqual((self.provider.cancels.under_way, self.asked), (["resp_p1"], (1, 0)))
        self.provider.cancels.answer(None)
        self.assertEqual(self.provider.forgets.under_way, ["resp_p1"])
        self.assertEqual(self.journal.tidied, [])
        self.provider.forgets.answer(None)
        self.assertEqual([each.submitted for each in self.journal.tidied], ["resp_p1"])

    def test_stopped_alone(self) -> None:
        self.leave("p1", stop=True, forget=False)
        self.provider.cancels.answer(None)
        self.assertEqual((len(self.journal.tidied), self.asked), (1, (1, 0)))

    def test_one_that_has_ended_can_not_be_stopped_and_is_deleted(self) -> None:
        for error in (ENDED, GONE):
            self.leave("p1", stop=True)
            self.provider.cancels.answer(error)
            self.provider.forgets.answer(error)
            self.assertEqual(self.waits(), [])

    def test_what_is_done_is_not_repeated(self) -> None:
        self.leave("p1", stop=True)
        self.provider.cancels.answer(None)
        self.provider.forgets.answer(AGAIN)
        self.assertEqual(self.waits(), [0.5])
        self.clock.advance(1)
        self.assertEqual(self.asked, (1, 2))

    def test_less_and_less_often(self) -> None:
        self.leave("p1")
        for wait, error in (
            (0.5, AGAIN),
            (1, AGAIN),
            (120, HOLD),
            (77, Transient("full", status=429, retry_after=77.0)),
        ):
            self.provider.forgets.answer(error)
            self.assertEqual(self.waits(), [wait])
            self.clock.pump([1.0] * round(wait + 1))

    def test_for_a_day(self) -> None:
        with capturedLogs() as logged:
            self.leave("p1")
            self.clock.advance(GIVEN_UP_AFTER)
            self.provider.forgets.answer(AGAIN)
        self.assertEqual(len(self.journal.tidied), 1)
        self.assertEqual(
            [formatEvent(each) for each in logged],
            [
                "the provider does not stop or delete what nobody needs; trying again: "
                + AGAIN.reason,
                f"the provider did not delete it: submitted=resp_p1 {AGAIN.reason}",
            ],
        )

    def test_one_that_can_not_be_deleted(self) -> None:
        self.leave("p1")
        with capturedLogs() as logged:
            self.provider.forgets.answer(Permanent("no"))
        self.assertIn("did not delete it: submitted=resp_p1 no", formatEvent(logged[-1]))
        self.assertEqual(len(self.journal.tidied), 1)

    def test_a_server_that_fails_and_says_not_to_try_again(self) -> None:
        self.leave("p1", stop=True)
        self.provider.cancels.answer(Permanent("the model answered 500", status=500))
        self.assertEqual((self.waits(), self.asked), ([0.5], (1, 0)))

    def test_a_provider_that_was_removed(self) -> None:
        """It may be put back."""
        self.journal.leave(Leftover("resp_p1", "second", forget=True), self.clock.seconds())
        self.pipeline.cancelled()
        self.assertEqual((self.waits(), self.asked), ([30], (0, 0)))

    def test_a_few_at_once(self) -> None:
        names = [f"p{number}" for number in range(AT_ONCE + 2)]
        self.leave(*names)
        self.assertEqual(len(self.provider.forgets.under_way), AT_ONCE)
        self.provider.forgets.answer(None)
        self.assertEqual(self.provider.forgets.under_way[-1], f"resp_{names[AT_ONCE]}")

    def test_a_stop_waits_for_it_but_not_for_ever(self) -> None:
        self.leave("p1")
        drained = self.drain()
        self.assertNoResult(drained)
        self.clock.advance(CONFIG.drain_timeout)
        self.successResultOf(drained)
        self.assertEqual(self.provider.forgets.cancelled, 1)
        self.assertEqual(self.journal.tidied, [])

    def test_a_stop_begins_what_is_due(self) -> None:
        self.submit()
        self.poll(ANSWER)
        drained = self.drain()
        self.target.answer()
        self.assertEqual(self.provider.forgets.under_way, ["resp_p1"])
        self.provider.forgets.answer(None)
        self.successResultOf(drained)


class WhenTests(TidyingTestCase):
    def test_one_that_ended_without_an_answer(self) -> None:
        errors: tuple[CallError, ...] = (
            Permanent("refused", status=200),
            Lost("cancelled", status=200),
        )
        for error in errors:
            self.submit()
            self.poll(error)
            self.assertEqual(self.provider.forgets.under_way, ["resp_p1"])
            self.provider.forgets.answer(None)
            self.begin()

    def test_one_that_is_gone_is_not_deleted(self) -> None:
        self.submit()
        self.poll(*[GONE] * 4)
        self.assertEqual(self.asked, (0, 0))

    def test_one_whose_time_is_up_is_stopped(self) -> None:
        self.begin(give_up_after=1.0)
        self.submit()
        self.poll(None)
        self.assertEqual(self.provider.cancels.under_way, ["resp_p1"])

    def test_once_it_is_delivered(self) -> None:
        self.submit()
        self.poll(ANSWER)
        self.assertEqual(self.asked, (0, 0))
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
        self.assertEqual(self.asked, (0, 0))

    def test_not_once_a_dead_letter_of_it_is_delivered(self) -> None:
        self.config = attrs.evolve(self.config, dead_letter="http://letters")
        letter = Delivery("p1", b"{}", NOON, 1, NOON, submitted="resp_p1")
        self.journal.letters = [attrs.evolve(letter, destination=DEAD_LETTER.destination)]
        self.begin()
        self.letters.answer()
        self.assertEqual(self.journal.delivered, [Delivered(60.0)])
        self.assertEqual(self.asked, (0, 0))

    def test_not_what_the_provider_does_not_keep(self) -> None:
        self.post()
        self.provider.asks.answer()
        self.target.answer()
        self.assertEqual(self.asked, (0, 0))

    def test_only_where_the_settings_say_so(self) -> None:
        self.begin(forget_responses=False)
        self.submit()
        self.poll(ANSWER)
        self.target.answer()
        self.assertEqual(self.journal.leftovers, [])
