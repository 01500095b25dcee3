"""The breaker: the hold circuit, the throttle and the pace, alone and at once."""

from collections.abc import Callable

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from twisted.logger import LogLevel, capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.errors import CallError, PeerFailure, Permanent, PossiblyBilled, Transient
from chatgpt_source.journal import PeerState
from chatgpt_source.pipeline.breaker import (
    AMONG,
    PACE,
    SETBACKS,
    STREAK,
    UNSTEADY_FOR,
    Breaker,
    Call,
)

UNAUTHORIZED = PeerFailure("the model answered 401: check `token`", status=401)
DOWN = Transient("the model can't be reached: connection refused")
REFUSED = Permanent("the model answered 400: it refuses this prompt", status=400)


def throttled(wait: float | None = None) -> Transient:
    return Transient("the model answered 429", status=429, retry_after=wait)


class BreakerCase(SynchronousTestCase):
    limit = 8

    def setUp(self) -> None:
        self.now = 1000.0
        self.breaker = Breaker("the model", self.limit, lambda: 1.0)

    def room(self) -> int:
        return self.breaker.room(self.now)

    def start(self) -> Call:
        self.assertGreater(self.room(), 0)
        return self.breaker.start(self.now)

    def succeed(self, call: Call) -> None:
        self.breaker.succeeded(call, self.now)
        self.breaker.end(call)

    def fail_(self, call: Call, error: CallError, *, shared: bool = True) -> None:
        self.breaker.failed(call, error, self.now, shared=shared)
        self.breaker.end(call)

    def one(self, error: CallError | None = None) -> None:
        """One call, from its start to its end."""
        call = self.start()
        if error is None:
            self.succeed(call)
        else:
            self.fail_(call, error)

    def assert_opens_in(self, seconds: float) -> None:
        """Nothing may start until then, and then it may."""
        self.assertEqual(self.room(), 0)
        self.assertEqual(self.breaker.room(self.now + seconds - 0.001), 0)
        self.assertAlmostEqual(self.breaker.opens_at - self.now, seconds)
        self.assertGreater(self.breaker.room(self.now + seconds), 0)


class TryNowTests(BreakerCase):
    def held_for_long(self) -> None:
        for _ in range(6):
            self.one(UNAUTHORIZED)
            self.now = self.breaker.opens_at
        self.one(UNAUTHORIZED)
        self.assert_opens_in(600)

    def test_one_call_passes_at_once(self) -> None:
        self.held_for_long()
        self.assertTrue(self.breaker.waits(self.now))
        self.breaker.try_now(self.now)
        self.assertEqual(self.room(), 1)
        call = self.start()
        self.assertEqual((self.room(), self.breaker.probes), (0, True))
        self.succeed(call)
        self.assertEqual((self.room(), self.breaker.waits(self.now)), (self.limit, False))

    def test_after_one_that_fails_probes_come_as_soon_as_at_first(self) -> None:
        self.held_for_long()
        for _ in range(5):
            self.breaker.try_now(self.now)
            self.one(UNAUTHORIZED)
            self.assert_opens_in(30)
            self.assertFalse(self.breaker.probes)
        self.now = self.breaker.opens_at
        self.one(UNAUTHORIZED)
        self.assert_opens_in(60)

    def test_one_that_throttles(self) -> None:
        self.one(throttled(3600))
        self.assert_opens_in(3600)
        self.assertTrue(self.breaker.waits(self.now))
        self.breaker.try_now(self.now)
        self.assertEqual(self.room(), 1)
        self.one(throttled(3600))
        self.assert_opens_in(3600)

    def test_it_is_stored(self) -> None:
        told: list[PeerState] = []
        self.breaker = Breaker("the model", 8, lambda: 1.0, told.append)
        self.one(UNAUTHORIZED)
        self.breaker.try_now(self.now)
        self.assertEqual((told[-1].held, told[-1].probe_at), (UNAUTHORIZED.reason, self.now))


class RoomTests(BreakerCase):
    def test_new(self) -> None:
        self.assertEqual(self.room(), self.limit)
        self.assertIsNone(self.breaker.trouble)
        self.assertLess(self.breaker.opens_at, self.now)
        self.assertEqual(self.breaker.others.started, float("-inf"))

    def test_counts(self) -> None:
        calls = []
        for left in reversed(range(self.limit)):
            calls.append(self.start())
            self.assertEqual(self.room(), left)
            self.assertEqual(self.breaker.under_way, self.limit - left)
        for number, call in enumerate(calls, 1):
            self.breaker.end(call)
            self.assertEqual(self.room(), number)

    def test_call_knows_its_start(self) -> None:
        self.assertEqual(self.start().started, self.now)

    def test_over_the_limit_is_not_negative(self) -> None:
        for _ in range(self.limit + 3):
            self.breaker.start(self.now)
        self.assertEqual(self.room(), 0)

    def test_start_of_the_youngest_success(self) -> None:
        old = self.start()
        self.now += 5
        self.one()
        self.now += 5
        self.succeed(old)
        self.assertEqual(self.breaker.others.started, self.now - 5)
        self.assertEqual(self.breaker.others.succeeded, self.now)

    def test_trouble_is_told_until_a_success(self) -> None:
        self.one(DOWN)
        self.assertEqual(self.breaker.trouble, DOWN.reason)
        self.assertEqual(self.room(), self.limit)
        self.one()
        self.assertIsNone(self.breaker.trouble)

    def test_a_refused_prompt_says_nothing_of_the_peer(self) -> None:
        self.one(REFUSED)
        self.assertIsNone(self.breaker.trouble)
        self.assertEqual(self.room(), self.limit)


class HoldTests(BreakerCase):
    def open(self) -> None:
        self.one(UNAUTHORIZED)

    def test_opens(self) -> None:
        self.open()
        self.assertEqual(self.breaker.trouble, UNAUTHORIZED.reason)
        self.assert_opens_in(30.0)

    def test_one_probe_only(self) -> None:
        self.open()
        self.now += 3600
        self.assertEqual(self.room(), 1)
        self.start()
        self.assertEqual(self.room(), 0)

    def test_interval_doubles_to_ten_minutes(self) -> None:
        self.open()
        for wait in (30.0, 60.0, 120.0, 240.0, 480.0, 600.0, 600.0):
            self.assert_opens_in(wait)
            self.now += wait
            self.one(UNAUTHORIZED)

    def test_interval_counts_from_the_end_of_the_probe(self) -> None:
        self.open()
        self.now += 30
        probe = self.start()
        self.now += 100
        self.fail_(probe, UNAUTHORIZED)
        self.assert_opens_in(60.0)

    def test_success_closes(self) -> None:
        self.open()
        self.now += 30
        self.one()
        self.assertIsNone(self.breaker.trouble)
        self.assertEqual(self.room(), self.limit)

    def test_success_of_an_earlier_call_closes(self) -> None:
        earlier = self.start()
        self.open()
        self.succeed(earlier)
        self.assertIsNone(self.breaker.trouble)
        self.assertEqual(self.room(), self.limit)

    def test_starts_over_after_a_success(self) -> None:
        self.open()
        self.now += 30
        self.one(UNAUTHORIZED)
        self.now += 60
        self.one()
        self.open()
        self.assert_opens_in(30.0)

    def test_calls_under_way_count_once(self) -> None:
        calls = [self.start() for _ in range(self.limit)]
        for call in calls:
            self.fail_(call, UNAUTHORIZED)
            self.now += 1
        self.now -= self.limit
        self.assert_opens_in(30.0)
        self.now += 30
        self.one(UNAUTHORIZED)
        self.assert_opens_in(60.0)

    def test_earlier_call_failing_during_the_probe(self) -> None:
        earlier = self.start()
        self.open()
        self.now += 30
        probe = self.start()
        self.fail_(earlier, UNAUTHORIZED)
        self.assertEqual(self.room(), 0)
        self.fail_(probe, UNAUTHORIZED)
        self.assert_opens_in(60.0)

    def test_no_probe_without_a_slot(self) -> None:
        calls = [self.start() for _ in range(self.limit)]
        self.breaker.failed(calls[0], UNAUTHORIZED, self.now, shared=True)
        self.now += 30
        self.assertEqual(self.room(), 0)
        self.breaker.end(calls[0])
        self.assertEqual(self.room(), 1)

    def test_probe_that_ends_without_a_word(self) -> None:
        """As when it was cancelled."""
        self.open()
        self.now += 30
        self.breaker.end(self.start())
        self.assertEqual(self.room(), 1)
        self.assertEqual(self.breaker.trouble, UNAUTHORIZED.reason)

    def test_probe_that_fails_otherwise(self) -> None:
        """It neither closes the circuit nor doubles the interval, but what it met is told."""
        for error in (DOWN, REFUSED, PossiblyBilled("the model did not answer")):
            self.setUp()
            self.open()
            earlier = self.breaker.start(self.now)
            self.now += 30
            self.one(error)
            self.assertEqual((self.breaker.held, self.breaker.trouble), (True, error.reason))
            self.assert_opens_in(30.0)
            self.fail_(earlier, throttled())
            self.assertEqual(self.breaker.trouble, error.reason)
            self.now += 30
            self.one(UNAUTHORIZED)
            self.assert_opens_in(60.0)

    def test_probe_that_meets_a_429(self) -> None:
        """It is obeyed, as ever."""
        self.open()
        self.now += 30
        self.one(throttled(900.0))
        self.assert_opens_in(900.0)

    def test_429_of_an_earlier_call(self) -> None:
        """A held gate is no reason to call before the peer said."""
        earlier = self.start()
        self.open()
        self.fail_(earlier, throttled(900.0))
        self.assert_opens_in(900.0)

    def test_old_probe_is_no_probe_of_a_new_circuit(self) -> None:
        earlier, other = self.start(), self.start()
        self.open()
        self.now += 30
        old = self.start()
        self.succeed(earlier)
        self.fail_(other, UNAUTHORIZED)
        self.now += 1
        self.fail_(old, UNAUTHORIZED)
        self.now -= 1
        self.assert_opens_in(30.0)

    def test_newest_reason_is_told(self) -> None:
        self.open()
        self.now += 30
        self.one(PeerFailure("the model answered 402", status=402))
        self.assertEqual(self.breaker.trouble, "the model answered 402")

    def test_logged_once_at_each_turn(self) -> None:
        with capturedLogs() as logged:
            calls = [self.start() for _ in range(4)]
            for call in calls:
                self.fail_(call, UNAUTHORIZED)
            for wait in (30.0, 60.0, 120.0):
                self.now += wait
                self.one(UNAUTHORIZED)
        (event,) = logged
        self.assertIs(event["log_level"], LogLevel.error)
        line = event["log_format"].format(**event)
        self.assertIn(f"{UNAUTHORIZED.reason}; holding all calls to the model", line)
        self.assertIn("next probe in 30 s", line)
        with capturedLogs() as logged:
            self.now += 240
            self.one()
            self.one()
        (event,) = logged
        self.assertIs(event["log_level"], LogLevel.info)
        self.assertEqual(event["log_format"].format(**event), "the model answers again: resuming")

    def test_other_failures_are_not_logged_here(self) -> None:
        with capturedLogs() as logged:
            for error in (DOWN, REFUSED, throttled()):
                call = self.breaker.start(self.now)
                self.fail_(call, error)
            self.breaker.succeeded(self.breaker.start(self.now), self.now)
        self.assertEqual(logged, [])


class ThrottleTests(BreakerCase):
    def test_retry_after_closes_for_all(self) -> None:
        self.one(throttled(42.0))
        self.assert_opens_in(42.0)
        self.assertEqual(self.breaker.trouble, "the model answered 429")

    def test_backoff_where_nothing_is_said(self) -> None:
        for wait in (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0):
            self.one(throttled())
            self.assert_opens_in(wait)
            self.now += wait

    def test_jitter(self) -> None:
        self.breaker = Breaker("the model", self.limit, lambda: 0.0)
        self.one(throttled())
        self.assert_opens_in(0.375)

    def test_success_ends_the_doubling(self) -> None:
        for wait in (0.5, 1.0):
            self.one(throttled())
            self.now += wait
        self.one()
        self.one(throttled())
        self.assert_opens_in(0.5)

    def test_burst_is_one_closure(self) -> None:
        for call in [self.start() for _ in range(self.limit)]:
            self.fail_(call, throttled())
        self.assert_opens_in(0.5)

    def test_burst_that_trickles_in(self) -> None:
        calls = [self.start() for _ in range(self.limit)]
        self.now += 1
        for call in calls:
            self.now += 0.01
            self.fail_(call, throttled())
        self.now += 0.5
        self.one(throttled())
        self.assert_opens_in(1.0)  # the second closure, not the ninth

    def test_longest_of_a_burst_counts(self) -> None:
        for wait in (5.0, 50.0, 20.0):
            self.fail_(self.breaker.start(self.now), throttled(wait))
        self.assert_opens_in(50.0)

    def test_reopens_gradually(self) -> None:
        self.one(throttled(1.0))
        self.now += 1
        allowed = 1
        while allowed < self.limit:
            self.assertEqual(self.room(), allowed)
            self.one()
            allowed += 1
        self.one()
        self.assertEqual(self.room(), self.limit)

    def test_window_counts_what_is_under_way(self) -> None:
        self.one(throttled(1.0))
        self.now += 1
        first = self.start()
        self.assertEqual(self.room(), 0)
        self.succeed(first)
        self.start()
        second = self.start()
        self.assertEqual(self.room(), 0)
        self.succeed(second)
        self.assertEqual(self.room(), 2)

    def test_calls_from_before_a_closure_neither_widen_nor_fill_the_window(self) -> None:
        *earlier, last = (self.start() for _ in range(self.limit - 1))
        self.now += 0.001
        self.one(throttled(1.0))
        for call in earlier:
            self.succeed(call)
        self.now += 1
        self.assertEqual(self.room(), 1)
        self.one()
        self.assertEqual(self.room(), 2)
        self.succeed(last)
        self.assertEqual(self.room(), 2)

    def test_each_closure_starts_at_one(self) -> None:
        self.one(throttled(1.0))
        self.now += 1
        for _ in range(4):
            self.one()
        self.now += 0.001
        self.one(throttled(1.0))
        self.now += 1
        self.assertEqual(self.room(), 1)

    def test_success_does_not_shorten_the_closure(self) -> None:
        earlier = self.start()
        self.one(throttled(42.0))
        self.succeed(earlier)
        self.assert_opens_in(42.0)

    def test_not_shared(self) -> None:
        """A target's 429 is about one event."""
        self.fail_(self.start(), throttled(42.0), shared=False)
        self.assertEqual(self.room(), self.limit)
        self.assertEqual(self.breaker.trouble, "the model answered 429")

    def test_other_waits_close_nothing(self) -> None:
        self.one(Transient("the model answered 503", status=503, retry_after=42.0))
        self.assertEqual(self.room(), self.limit)


class PaceTests(BreakerCase):
    def streak(self, count: int, error: CallError = DOWN) -> None:
        for _ in range(count):
            call = self.breaker.start(self.now)
            self.fail_(call, error)

    def test_before_the_streak(self) -> None:
        self.streak(STREAK - 1)
        self.assertEqual(self.room(), self.limit)

    def test_one_at_a_time_and_paced(self) -> None:
        self.streak(STREAK)
        self.assertEqual(self.room(), 1)
        self.start()
        self.assertEqual(self.room(), 0)
        self.assert_opens_in(1 / PACE)

    def test_rate(self) -> None:
        self.streak(STREAK)
        started = 0
        for _ in range(1000):  # 10 s
            self.now += 0.01
            for _ in range(min(self.room(), 1000 - started)):
                self.one(DOWN)
                started += 1
        self.assertLessEqual(started, 10 * PACE + 1)
        self.assertGreater(started, 8 * PACE)

    def test_slow_failures_may_overlap(self) -> None:
        """The pace bounds how often, the limit how many."""
        self.streak(STREAK)
        for under_way in range(1, self.limit + 1):
            self.start()
            self.now += 1 / PACE
            self.assertEqual(self.room(), int(under_way < self.limit))

    def test_success_ends_it(self) -> None:
        self.streak(STREAK + 10)
        self.now += 1 / PACE
        self.one()
        self.assertEqual(self.room(), self.limit)
        self.streak(STREAK - 1)
        self.assertEqual(self.room(), self.limit)

    def test_refusals_are_no_streak(self) -> None:
        self.streak(STREAK * 2, REFUSED)
        self.assertEqual(self.room(), self.limit)

    def test_hold_during_a_streak(self) -> None:
        self.streak(STREAK)
        self.one(UNAUTHORIZED)
        self.assert_opens_in(30.0)


class GateMachine(RuleBasedStateMachine):
    """Whatever calls bring, in whatever order, these hold."""

    @initialize(limit=st.integers(1, 5))
    def set_up(self, limit: int) -> None:
        self.limit = limit
        self.now = 1000.0
        self.breaker = Breaker("the model", limit, lambda: 0.5)
        self.calls: list[Call] = []
        self.waits_until = 0.0
        """What a Retry-After allows."""
        self.held = False
        self.told = UNAUTHORIZED.reason
        """What opened the circuit, or what the last probe met."""
        self.probes: list[Call] = []

    @rule(seconds=st.sampled_from([0.0, 0.01, 0.3, 5.0, 30.0, 61.0, 700.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(most=st.integers(1, 6))
    def start(self, most: int) -> None:
        for _ in range(min(most, self.breaker.room(self.now))):
            call = self.breaker.start(self.now)
            if self.held:
                self.probes = [probe for probe in self.probes if probe in self.calls]
                assert not self.probes, "two probes"
                self.probes.append(call)
            self.calls.append(call)

    def take(self, number: int) -> Call | None:
        return self.calls.pop(number % len(self.calls)) if self.calls else None

    @rule(number=st.integers(0, 9))
    def succeed(self, number: int) -> None:
        if call := self.take(number):
            self.breaker.succeeded(call, self.now)
            self.breaker.end(call)
            self.held, self.probes = False, []
            assert self.breaker.trouble is None

    @rule(
        number=st.integers(0, 9),
        error=st.sampled_from([UNAUTHORIZED, DOWN, REFUSED, throttled(), throttled(7.0)]),
    )
    def fail(self, number: int, error: CallError) -> None:
        if call := self.take(number):
            self.breaker.failed(call, error, self.now, shared=True)
            self.breaker.end(call)
            if call in self.probes or not self.held:
                self.told = error.reason
            if isinstance(error, PeerFailure):
                self.held = True
            elif error.retry_after and not self.held:
                self.waits_until = max(self.waits_until, self.now + error.retry_after)

    @rule(number=st.integers(0, 9))
    def cancel(self, number: int) -> None:
        if call := self.take(number):
            self.breaker.end(call)

    @invariant()
    def room_is_within_the_limit(self) -> None:
        room = self.breaker.room(self.now)
        assert 0 <= room <= self.limit - len(self.calls)
        assert self.breaker.under_way == len(self.calls)

    @invariant()
    def held_lets_one_pass_at_most(self) -> None:
        if self.held:
            assert self.breaker.room(self.now) <= 1
            assert self.breaker.trouble == self.told

    @invariant()
    def what_was_asked_is_obeyed(self) -> None:
        if not self.held and self.now < self.waits_until:
            assert self.breaker.room(self.now) == 0

    @invariant()
    def opens_at_some_time(self) -> None:
        """With nothing under way, time alone lets a call pass, and `opens_at` says when."""
        at = self.breaker.opens_at
        assert at <= self.now + 600.0
        if self.now < at:
            assert self.breaker.room(self.now) == 0
        if not self.calls:
            assert self.breaker.room(max(at, self.now)) > 0


def _machine(machine: type[RuleBasedStateMachine]) -> Callable[[SynchronousTestCase], None]:
    def test(self: SynchronousTestCase) -> None:
        del self
        case = machine.TestCase()
        case.settings = settings(deadline=None, max_examples=150, stateful_step_count=40)
        case.runTest()

    return test


class InvariantTests(SynchronousTestCase):
    test_whatever_happens = _machine(GateMachine)


class UnsteadyTests(BreakerCase):
    def unsteady(self) -> bool:
        return self.breaker.unsteady(self.now) is not None

    def test_calls_that_fail_now_and_then(self) -> None:
        for n in range(SETBACKS):
            self.assertFalse(self.unsteady(), n)
            self.one()
            self.one(DOWN)
            self.now += 1
        self.one()
        self.assertIn("fail now and then: the model can't", self.breaker.unsteady(self.now) or "")
        self.assertEqual(self.breaker.unsteady_since, 1000)
        self.one(DOWN)
        self.assertEqual(self.breaker.unsteady_since, 1000)

    def test_is_over_after_enough_calls_that_succeed(self) -> None:
        for error in (None, DOWN) * SETBACKS:
            self.one(error)
        for _ in range(AMONG - 2 * SETBACKS + 1):
            self.assertTrue(self.unsteady())
            self.one()
        self.assertFalse(self.unsteady())

    def test_is_over_after_a_while(self) -> None:
        for error in (None, DOWN) * SETBACKS:
            self.one(error)
        self.now += UNSTEADY_FOR + 1
        self.assertFalse(self.unsteady())

    def test_an_outage_is_none(self) -> None:
        self.one()
        for _ in range(SETBACKS * 3):
            self.one(DOWN)
        self.one()
        self.assertFalse(self.unsteady())

    def test_one_that_is_held_is_held(self) -> None:
        for error in (None, DOWN) * SETBACKS:
            self.one(error)
        self.one(UNAUTHORIZED)
        self.assertFalse(self.unsteady())


class SinceTests(BreakerCase):
    def test_since_the_first_failure_after_a_success(self) -> None:
        self.assertIsNone(self.breaker.since)
        self.one(DOWN)
        self.now += 5
        self.one(Transient("the model answered 503", status=503))
        self.assertEqual(self.breaker.since, 1000.0)
        self.one()
        self.assertIsNone(self.breaker.since)

    def test_a_hold_begins_anew_and_its_probes_do_not(self) -> None:
        self.one(DOWN)
        self.now += 5
        self.one(UNAUTHORIZED)
        self.assertEqual((self.breaker.since, self.breaker.held), (1005.0, True))
        self.now += 30
        self.one(UNAUTHORIZED)
        self.assertEqual(self.breaker.since, 1005.0)
        self.now += 60
        self.one()
        self.assertEqual((self.breaker.since, self.breaker.held), (None, False))

    def test_a_refusal_ends_it_but_not_a_hold(self) -> None:
        self.one(DOWN)
        self.one(REFUSED)
        self.assertIsNone(self.breaker.since)
        self.one(UNAUTHORIZED)
        self.now += 30
        self.one(REFUSED)
        self.assertEqual((self.breaker.since, self.breaker.held), (1000.0, True))

    def test_throttled_while_it_holds_calls_back(self) -> None:
        self.assertFalse(self.breaker.throttled(self.now))
        self.one(throttled(5))
        self.assertTrue(self.breaker.throttled(self.now))
        self.now += 5
        for window in range(1, self.limit):
            self.assertFalse(self.breaker.throttled(self.now))  # so few calls could be more
            calls = [self.breaker.start(self.now) for _ in range(window)]
            self.assertTrue(self.breaker.throttled(self.now))
            self.assertFalse(self.breaker.is_well(self.now))
            for call in calls:
                self.breaker.end(call)
            self.one()
        calls = [self.breaker.start(self.now) for _ in range(self.limit)]
        self.assertFalse(self.breaker.throttled(self.now))
        self.assertTrue(self.breaker.is_well(self.now))

    def test_a_gradual_start_with_few_calls_is_no_throttle(self) -> None:
        self.breaker.resume_gradually()
        self.one()
        self.assertFalse(self.breaker.throttled(self.now))
        self.assertFalse(self.breaker.is_well(self.now))


class RememberedTests(BreakerCase):
    """What an earlier process knew, and what the next one is to know."""

    def setUp(self) -> None:
        super().setUp()
        self.kept: list[PeerState] = []
        self.breaker = Breaker("the model", 8, lambda: 1.0, self.kept.append)

    def restored(self) -> Breaker:
        breaker = Breaker("the model", 8, lambda: 1.0)
        breaker.restore(self.kept[-1], self.now)
        return breaker

    def test_a_hold_is_probed_no_earlier(self) -> None:
        self.one(UNAUTHORIZED)
        self.now += 30
        self.one(UNAUTHORIZED)
        self.now += 10
        breaker = self.restored()
        self.assertTrue(breaker.held)
        self.assertEqual((breaker.trouble, breaker.since), (UNAUTHORIZED.reason, 1000.0))
        self.assertEqual(breaker.opens_at, 1000.0 + 30 + 60)
        self.assertEqual(breaker.room(breaker.opens_at - 1), 0)
        self.assertEqual(breaker.room(breaker.opens_at), 1)

    def test_an_hours_retry_after_is_not_forgotten(self) -> None:
        self.one(throttled(3600.0))
        self.now += 100
        breaker = self.restored()
        self.assertFalse(breaker.held)
        self.assertEqual(breaker.room(1000.0 + 3599), 0)
        self.assertEqual(breaker.room(1000.0 + 3600), 1)

    def test_a_success_ends_both(self) -> None:
        self.one(UNAUTHORIZED)
        self.now += 30
        call = self.breaker.start(self.now)
        self.breaker.succeeded(call, self.now)
        self.assertIsNone(self.kept[-1].held)
        self.assertEqual(self.restored().room(self.now), 8)

    def test_what_changes_nothing_is_not_kept(self) -> None:
        for _ in range(3):
            call = self.breaker.start(self.now)
            self.breaker.succeeded(call, self.now)
            self.breaker.end(call)
        self.one(DOWN)
        self.assertEqual(self.kept, [])
