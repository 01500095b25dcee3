"""The last hour, minute by minute."""

from collections import Counter
from typing import Any, cast

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.admin.history import MINUTES, History, Latencies, Minute, together
from chatgpt_source.prompt import Answer, State
from tests.telemetry.outcomes import ended, tell


def assert_near(case: SynchronousTestCase, seconds: float | None, wanted: float) -> None:
    case.assertLess(abs((seconds or 0) / wanted - 1), 0.045)


class LatenciesTests(SynchronousTestCase):
    def test_none(self) -> None:
        self.assertIsNone(Latencies().quantile(0.5))

    def test_within_four_percent(self) -> None:
        for seconds in (0.0013, 0.02, 0.5, 1.0, 7.7, 86400.0):
            latencies = Latencies()
            latencies.add(seconds)
            for share in (0.0, 0.5, 0.95, 1.0):
                assert_near(self, latencies.quantile(share), seconds)

    def test_median_and_percentile(self) -> None:
        latencies = Latencies()
        for number in range(1, 101):
            latencies.add(number)
        assert_near(self, latencies.quantile(0.5), 50)
        assert_near(self, latencies.quantile(0.95), 95)

    def test_bounded_whatever_comes(self) -> None:
        latencies = Latencies()
        for exponent in range(-400, 300):
            latencies.add(10.0**exponent)
        latencies.add(-5.0)  # a clock that was put back
        self.assertLessEqual(len(latencies), 300)


class TogetherTests(SynchronousTestCase):
    def test_sums(self) -> None:
        one = Minute(60, Counter({State.ACCEPTED: 1, State.FAILED: 3}))
        two = Minute(120, Counter({State.ACCEPTED: 4, State.DELIVERED: 5}))
        one.latencies.add(1)
        two.latencies.add(100)
        one.cheap, two.cheap = 1, 2
        whole = together([one, two])
        self.assertEqual((whole.start, whole.cheap), (60, 3))
        self.assertEqual(whole.prompts, {State.ACCEPTED: 5, State.DELIVERED: 5, State.FAILED: 3})
        assert_near(self, whole.latencies.quantile(1), 100)
        assert_near(self, one.latencies.quantile(1), 1)


class HistoryTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_800_000_030)
        self.history = History(cast(Any, self.clock))

    def accept(self) -> None:
        self.history.accepted(prompt_id="p", size=1, seconds=0.0)

    def end(self, state: State, after: float) -> None:
        now = self.clock.seconds()
        tell(self.history, ended(state, accepted=now - after, date=now))

    def test_what_happened_when(self) -> None:
        self.accept()
        self.clock.advance(60)
        self.accept()
        self.end(State.ANSWERED, 1)
        self.end(State.DELIVERED, 2)
        self.end(State.FAILED, 3)
        minutes = self.history.minutes()
        self.assertEqual(len(minutes), MINUTES)
        self.assertEqual([m.prompts[State.ACCEPTED] for m in minutes], [0] * 58 + [1, 1])
        self.assertEqual([m.prompts[State.DELIVERED] for m in minutes], [0] * 59 + [1])
        self.assertEqual([m.prompts[State.FAILED] for m in minutes], [0] * 59 + [1])
        self.assertEqual(minutes[-1].start, 1_800_000_060)
        assert_near(self, minutes[-1].latencies.quantile(1), 2)

    def test_an_hour_on_it_is_forgotten(self) -> None:
        for _ in range(500):
            self.accept()
            self.clock.advance(60)
        self.assertEqual(
            [m.prompts[State.ACCEPTED] for m in self.history.minutes()], [1] * 59 + [0]
        )
        self.assertLessEqual(len(self.history._minutes), MINUTES)
        self.clock.advance(86400)
        self.assertEqual(sum(m.prompts[State.ACCEPTED] for m in self.history.minutes()), 0)

    def test_a_clock_that_is_put_back(self) -> None:
        self.accept()
        self.clock.rightNow -= 86400
        self.accept()
        self.assertEqual(
            [m.prompts[State.ACCEPTED] for m in self.history.minutes()], [0] * 59 + [1]
        )
        self.assertEqual(len(self.history._minutes), 1)

    def test_answers_at_half_the_price(self) -> None:
        for tier in ("flex", "default", "batch", None):
            answer = Answer("x", service_tier=tier)
            self.history.asked(ended(State.ANSWERED, answer=answer))
        self.assertEqual(self.history.minutes()[-1].cheap, 2)
