"""The limit of a step, by a clock."""

from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.waiting import AFTER_STALL, completes, results_of, with_timeout
from tests.cycles import left_by


class WithTimeoutTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.step: Deferred[str] = Deferred()
        self.ended = with_timeout(self.step, 10, self.clock)

    def test_in_time(self) -> None:
        self.step.callback("done")
        self.assertEqual(self.successResultOf(self.ended), "done")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_it_leaves_no_cycles(self) -> None:
        def wait() -> None:
            step: Deferred[str] = Deferred()
            ended = with_timeout(step, 10, self.clock)
            step.callback("done")
            self.successResultOf(ended)

        self.assertEqual(left_by(wait), 0)

    def test_too_late(self) -> None:
        self.clock.advance(10)
        self.failureResultOf(self.ended, TimeoutError)

    def test_a_failure_in_time(self) -> None:
        self.step.errback(ZeroDivisionError())
        self.failureResultOf(self.ended, ZeroDivisionError)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_cancelled_by_another(self) -> None:
        self.ended.cancel()
        self.failureResultOf(self.ended, CancelledError)

    def test_after_a_stall_there_is_time_to_read(self) -> None:
        self.clock.advance(60)
        self.assertNoResult(self.ended)
        self.step.callback("it lay in the socket")
        self.assertEqual(self.successResultOf(self.ended), "it lay in the socket")

    def test_after_a_stall_with_nothing_to_read(self) -> None:
        self.clock.advance(60)
        self.clock.advance(AFTER_STALL)
        self.failureResultOf(self.ended, TimeoutError)

    def test_from_when_it_last_moved_on(self) -> None:
        clock, moved = Clock(), 0.0
        ended = with_timeout(Deferred(), 10, clock, lambda: moved)
        clock.advance(9)
        moved = 9.0
        clock.advance(1)
        clock.advance(8.9)
        self.assertNoResult(ended)
        clock.advance(0.2)
        self.failureResultOf(ended, TimeoutError)

    def test_one_that_moved_on_may_stall_too(self) -> None:
        clock = Clock()
        ended = with_timeout(Deferred(), 10, clock, lambda: 5.0)
        clock.advance(10)
        clock.advance(60)
        self.assertNoResult(ended)
        clock.advance(AFTER_STALL)
        self.failureResultOf(ended, TimeoutError)


class CompletesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.step: Deferred[str] = Deferred()
        self.told = Deferred.fromCoroutine(completes(self.step, 10, self.clock))

    def test_in_time(self) -> None:
        self.step.callback("done")
        self.assertTrue(self.successResultOf(self.told))

    def test_too_late(self) -> None:
        self.clock.advance(10)
        self.assertFalse(self.successResultOf(self.told))

    def test_its_failure_is_told(self) -> None:
        self.step.errback(ZeroDivisionError())
        self.failureResultOf(self.told, ZeroDivisionError)


class ResultsOfTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.steps: list[Deferred[str]] = [Deferred() for _ in range(3)]
        self.ended = Deferred.fromCoroutine(results_of(self.steps))

    def test_in_their_order(self) -> None:
        for step, result in zip(self.steps[::-1], "cba", strict=True):
            self.assertNoResult(self.ended)
            step.callback(result)
        self.assertEqual(self.successResultOf(self.ended), ["a", "b", "c"])

    def test_all_have_ended_once_one_has_failed(self) -> None:
        self.steps[2].errback(ZeroDivisionError())
        self.steps[1].errback(KeyError())
        self.assertNoResult(self.ended)
        self.steps[0].callback("a")
        self.failureResultOf(self.ended, KeyError)

    def test_none(self) -> None:
        self.assertEqual(self.successResultOf(Deferred.fromCoroutine(results_of([]))), [])
