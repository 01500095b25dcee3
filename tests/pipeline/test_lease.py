"""The lease: calls end before it does, and none begins after it."""

from typing import Any, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.pipeline.lease import LOOK_EVERY, MARGIN, Lease
from tests.clocks import Clocks


class LeasedJournal:
    """A journal as far as its lease goes."""

    def __init__(self, clock: Clocks, *, is_shared: bool = True) -> None:
        self.clock = clock
        self.is_shared = is_shared
        self.forsaken = self.losses = self.takeovers = 0
        self.renew()

    def renew(self) -> None:
        self.ends = self.clock.seconds() + 20.0

    @property
    def lease_left(self) -> float:
        return self.ends - self.clock.seconds()

    def forsake(self) -> None:
        self.forsaken += 1


class LeaseTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clocks()
        self.journal = LeasedJournal(self.clock)
        self.over = self.taken = 0
        self.lease = Lease(
            cast(Any, self.clock), cast(Any, self.journal), self.is_over, self.has_taken_over
        )
        self.lease.start()

    def is_over(self) -> None:
        self.over += 1

    def has_taken_over(self) -> None:
        self.taken += 1

    def begin(self) -> tuple[Deferred[Any], Deferred[Any]]:
        call: Deferred[Any] = Deferred()
        return call, Deferred.fromCoroutine(self.lease.within(call))

    def pass_(self, seconds: float) -> None:
        for _ in range(int(seconds / LOOK_EVERY)):
            self.clock.advance(LOOK_EVERY)

    def test_a_call_within_it_brings_its_result(self) -> None:
        call, result = self.begin()
        call.callback("an answer")
        self.assertEqual(self.successResultOf(result), "an answer")
        call, result = self.begin()
        call.errback(ValueError())
        self.failureResultOf(result, ValueError)

    def test_a_call_ends_shortly_before_it(self) -> None:
        _, result = self.begin()
        self.pass_(20 - MARGIN - LOOK_EVERY)
        self.assertNoResult(result)
        self.pass_(LOOK_EVERY)
        self.failureResultOf(result, CancelledError)
        self.pass_(10)
        self.assertEqual((self.journal.forsaken, self.over), (1, 1))

    def test_none_begins_then(self) -> None:
        self.clock.pump([20 - MARGIN / 2])  # as if this process had been stopped meanwhile
        called = []

        async def call() -> None:
            called.append(1)

        result = Deferred.fromCoroutine(self.lease.within(call()))
        self.failureResultOf(result, CancelledError)
        self.assertEqual(called, [])

    def test_a_call_that_may_not_begin_is_anothers_though_the_lease_is_renewed_then(self) -> None:
        _, other = self.begin()
        self.journal.ends = self.clock.seconds() + MARGIN
        _, result = self.begin()
        self.failureResultOf(result, CancelledError)
        self.assertEqual(self.journal.forsaken, 1)
        self.journal.renew()
        self.pass_(LOOK_EVERY)
        self.failureResultOf(other, CancelledError)
        self.assertEqual(self.over, 1)
        _, result = self.begin()
        self.pass_(5)
        self.assertNoResult(result)

    def test_once_it_is_renewed_calls_begin_again_and_the_next_end_is_seen(self) -> None:
        self.pass_(30)
        self.journal.renew()
        self.pass_(1)
        _, result = self.begin()
        self.assertNoResult(result)
        self.pass_(20)
        self.failureResultOf(result, CancelledError)
        self.assertEqual(self.journal.forsaken, 2)

    def test_an_end_that_was_not_seen(self) -> None:
        """The journal found it over, and is another owner by now."""
        _, result = self.begin()
        self.journal.losses += 1
        self.pass_(LOOK_EVERY)
        self.failureResultOf(result, CancelledError)
        self.assertEqual((self.journal.forsaken, self.over), (1, 1))
        _, result = self.begin()
        self.pass_(LOOK_EVERY)
        self.assertNoResult(result)

    def test_whoever_cancels_the_call(self) -> None:
        call, result = self.begin()
        result.cancel()
        self.failureResultOf(result, CancelledError)
        self.assertTrue(call.called)

    def test_what_was_taken_over_is_looked_for_soon(self) -> None:
        self.journal.takeovers = 2
        self.pass_(LOOK_EVERY)
        self.assertEqual(self.taken, 1)
        self.pass_(5)
        self.assertEqual(self.taken, 1)

    def test_stopped(self) -> None:
        self.lease.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_journal_that_is_not_shared_has_none(self) -> None:
        self.lease.stop()
        journal = LeasedJournal(self.clock, is_shared=False)
        self.lease = Lease(cast(Any, self.clock), cast(Any, journal))
        self.lease.start()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.clock.advance(100)
        call, result = self.begin()
        call.callback(1)
        self.assertEqual(self.successResultOf(result), 1)
