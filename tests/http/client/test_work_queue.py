"""How the reactor's time is shared."""

from functools import partial
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.http.client.work_queue import SLOW, TURN, WorkQueue


class Turning(Clock):
    """A clock by which a second is a turn; what is put off waits for the next, as by a reactor."""

    def callLater(self, delay: float, *work: Any, **options: Any) -> Any:
        return super().callLater(delay + 1, *work, **options)

    def turn(self) -> None:
        self.advance(1)


class WorkQueueTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Turning()
        self.now = 0.0
        self.done: list[str] = []
        self.queue = WorkQueue(self.clock, lambda: self.now)

    def work(self, seconds: float, name: str = "") -> None:
        self.now += seconds
        self.done.append(name)

    def put_off(self, seconds: float, *names: str) -> None:
        for name in names:
            self.queue.put_off(partial(self.work, seconds, name))

    def test_quick_steps_cost_nothing(self) -> None:
        for _ in range(1000):
            self.assertTrue(self.queue.free)
            self.queue.do(partial(self.work, SLOW / 2))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_no_more_in_a_turn_than_its_time(self) -> None:
        steps = 0
        while self.queue.free:
            self.queue.do(partial(self.work, SLOW))
            steps += 1
        self.assertEqual(steps, round(TURN / SLOW))
        self.clock.turn()
        self.assertTrue(self.queue.free)

    def test_what_is_put_off_is_done_in_order(self) -> None:
        self.put_off(TURN * 0.6, *"abcde")
        self.assertEqual(self.done, [])
        for done in ("ab", "abcd", "abcde"):
            self.assertFalse(self.queue.free)
            self.clock.turn()
            self.assertEqual("".join(self.done), done)

    def test_who_is_not_done_waits_behind_the_others(self) -> None:
        def again() -> None:
            self.work(TURN, "a")
            if len(self.done) < 3:
                self.queue.put_off(again)

        self.queue.put_off(again)
        self.put_off(TURN, "b")
        for _ in range(3):
            self.clock.turn()
        self.assertEqual(self.done, ["a", "b", "a"])

    def test_turns_are_counted_no_longer_than_there_is_work(self) -> None:
        self.put_off(TURN, *"ab")
        for _ in range(4):
            self.clock.turn()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertTrue(self.queue.free)

    def test_a_step_that_fails_ends_nothing(self) -> None:
        self.queue.put_off(lambda: 1 / 0)
        self.put_off(0, "a")
        self.assertRaises(ZeroDivisionError, self.clock.turn)
        self.clock.turn()
        self.assertEqual(self.done, ["a"])
