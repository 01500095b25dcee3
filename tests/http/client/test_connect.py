"""The limit of a step, by a clock."""

from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.http.client.connect import AFTER_STALL, limited


class LimitedTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.step: Deferred[str] = Deferred()
        self.ended = limited(self.step, 10, self.clock)

    def test_in_time(self) -> None:
        self.step.callback("done")
        self.assertEqual(self.successResultOf(self.ended), "done")
        self.assertEqual(self.clock.getDelayedCalls(), [])

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
