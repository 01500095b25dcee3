"""How long is waited."""

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.pipeline.backoff import backoff, poll_interval, probe_interval


class BackoffTests(SynchronousTestCase):
    def test_doubles_up_to_a_minute(self) -> None:
        full = [backoff(attempt, lambda: 1.0) for attempt in range(1, 11)]
        self.assertEqual(full, [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0])

    def test_jitter(self) -> None:
        self.assertEqual(backoff(1, lambda: 0.0), 0.375)
        self.assertEqual(backoff(100, lambda: 0.0), 45.0)

    @settings(deadline=None)
    @given(st.integers(1, 10**9), st.floats(0, 1))
    def test_bounds(self, attempt: int, random: float) -> None:
        wait = backoff(attempt, lambda: random)
        self.assertGreaterEqual(wait, 0.375)
        self.assertLessEqual(wait, 60.0)

    def test_polls(self) -> None:
        waits = [poll_interval(number) for number in (1, 2, 3, 4, 5, 10**9)]
        self.assertEqual(waits, [1.0, 2.0, 4.0, 8.0, 10.0, 10.0])

    def test_probes(self) -> None:
        self.assertEqual(
            [probe_interval(misses) for misses in (1, 2, 3, 4, 5, 6, 7, 10**9)],
            [30.0, 60.0, 120.0, 240.0, 480.0, 600.0, 600.0, 600.0],
        )
