"""The two clocks, and the installed Twisted's reactors made to go by the steady one."""

import time
from typing import Any

from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.base import ReactorBase
from twisted.internet.pollreactor import PollReactor
from twisted.internet.selectreactor import SelectReactor
from twisted.internet.task import Clock, LoopingCall
from twisted.internet.testing import MemoryReactor
from twisted.python import runtime
from twisted.python.runtime import platform
from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.clock import date_of, steady, wall
from tests.clocks import Clocks

REACTORS: list[Any] = [SelectReactor, PollReactor, AsyncioSelectorReactor]
if platform.isLinux():
    from twisted.internet.epollreactor import EPollReactor

    REACTORS.append(EPollReactor)
HOUR = 3600.0


class SteadyTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Make both clocks ours; the reactors' bound copies of `time.time` follow."""
        self.time, self.monotonic = 1_800_000_000.0, 5000.0
        self.patch(time, "time", lambda: self.time)
        self.patch(time, "monotonic", lambda: self.monotonic)
        self.patch(runtime, "seconds", lambda: self.time)

    def reactor(self, kind: Any) -> Any:
        self.patch(ReactorBase, "seconds", staticmethod(runtime.seconds))
        reactor = kind()
        self.addCleanup(reactor.disconnectAll)
        return reactor

    def advance(self, seconds: float) -> None:
        self.time += seconds
        self.monotonic += seconds

    def test_calls_come_however_the_clock_is_set(self) -> None:
        for kind in REACTORS:
            for step in (-HOUR, HOUR):
                reactor = self.reactor(kind)
                called: list[str] = []
                reactor.callLater(10, called.append, "from before")
                steady(reactor)
                reactor.callLater(10, called.append, "from after")
                self.time += step
                reactor.callLater(10, called.append, "from after the step")
                moved = reactor.callLater(1, called.append, "put off")
                moved.reset(10)
                self.advance(9.5)
                reactor.runUntilCurrent()
                self.assertEqual(called, [], kind)
                self.assertAlmostEqual(reactor.timeout(), 0.5)
                self.advance(1)
                reactor.runUntilCurrent()
                self.assertEqual(len(called), 4, kind)

    def test_what_repeats_goes_on(self) -> None:
        reactor = self.reactor(SelectReactor)
        steady(reactor)
        called: list[float] = []
        loop = LoopingCall(lambda: called.append(reactor.seconds()))
        loop.clock = reactor
        self.addCleanup(loop.stop)
        loop.start(1)
        self.time -= HOUR
        for _ in range(3):
            self.advance(1)
            reactor.runUntilCurrent()
        self.assertEqual(len(called), 4)

    def test_tells_both_times(self) -> None:
        reactor = self.reactor(SelectReactor)
        self.assertEqual(wall(reactor), self.time)
        steady(reactor)
        self.assertEqual((reactor.seconds(), wall(reactor)), (self.time, self.time))
        self.time -= HOUR
        self.assertEqual((reactor.seconds(), wall(reactor)), (self.time + HOUR, self.time))

    def test_once_is_enough(self) -> None:
        reactor = self.reactor(SelectReactor)
        steady(reactor)
        began = reactor.seconds()
        self.time -= HOUR
        steady(reactor)
        self.assertEqual(reactor.seconds(), began)

    def test_a_clock_of_ones_own_is_left_alone(self) -> None:
        clock: Any = Clock()
        steady(clock)
        clock.advance(5)
        self.assertEqual((clock.seconds(), wall(clock)), (5, 5))
        steady(MemoryReactor())


class RealTests(SynchronousTestCase):
    def test_the_installed_reactors_go_by_what_is_replaced(self) -> None:
        for kind in REACTORS:
            reactor = kind()
            self.addCleanup(reactor.disconnectAll)
            self.assertIs(reactor.seconds, runtime.seconds)
            before = reactor.seconds()
            steady(reactor)
            self.assertIsNot(reactor.seconds, runtime.seconds)
            self.assertLess(abs(reactor.seconds() - before), 5)
            self.assertLess(abs(wall(reactor) - time.time()), 5)


class DateTests(SynchronousTestCase):
    def test_follows_the_wall_clock(self) -> None:
        clock: Any = Clocks()
        clock.advance(1_800_000_000.25)
        self.assertEqual(date_of(1_800_000_000.125, clock), 1_800_000_000.125)
        clock.step(-HOUR)
        self.assertEqual(date_of(1_800_000_000.125, clock), 1_799_996_400.125)

    def test_is_the_same_each_time(self) -> None:
        clock: Any = Clocks()
        clock.advance(1_800_000_000)
        dates = set()
        for step in (0, 1e-6, -2e-6, 0.01):  # as two readings differ, and as a clock is corrected
            clock.step(step)
            dates.add(date_of(1_799_999_000.125, clock))
        self.assertEqual(dates, {1_799_999_000.125})
