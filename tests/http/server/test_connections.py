"""How many connections there may be, and which must go."""

from typing import Any, cast

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.http.server import connections
from chatgpt_source.http.server.connections import Connections, Stage


class Caller:
    def __init__(self, all_: Connections, stage: Stage = Stage.IDLE, deadline: float = 60) -> None:
        self.all = all_
        self.stage = stage
        self.deadline = deadline
        self.expired: list[float] = []
        self.aborted = False

    def expire(self, now: float) -> None:
        self.expired.append(now)

    def abort(self) -> None:
        self.aborted = True
        self.all.discard(self)


class ConnectionsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.all = Connections(cast(Any, self.clock), 3)
        self.said: list[str] = []
        self.patch(connections.log, "warn", lambda text, **_: self.said.append(text))

    def admit(self, *stages: Stage) -> list[Caller]:
        callers = [Caller(self.all) for _ in stages]
        for caller, stage in zip(callers, stages, strict=True):
            self.assertTrue(self.all.admit(caller))
            self.all.move(caller, stage)
        return callers

    def test_each_is_ended_when_its_time_is_up(self) -> None:
        idle, late, answering = self.admit(Stage.IDLE, Stage.HEAD, Stage.ANSWERING)
        late.deadline, answering.deadline = 5, 0
        self.clock.pump([1.0] * 4)
        self.assertEqual(late.expired, [])
        self.clock.advance(1)
        self.assertEqual(late.expired, [5])
        self.assertEqual(idle.expired + answering.expired, [])

    def test_when_all_are_heard(self) -> None:
        self.assertEqual(self.successResultOf(self.all.all_heard()), None)
        first, second, third = (Caller(self.all) for _ in range(3))
        for caller in (first, second, third):
            self.all.admit(caller)
        heard = self.all.all_heard()
        self.all.move(first, Stage.HEAD)
        self.all.move(first, Stage.ANSWERING)
        self.all.move(first, Stage.IDLE)
        self.all.move(second, Stage.HEAD)
        self.assertNoResult(heard)
        self.all.discard(second)
        self.assertNoResult(heard)
        self.all.move(third, Stage.ANSWERING)
        self.assertEqual(self.successResultOf(heard), None)
        self.assertEqual(self.successResultOf(self.all.all_heard()), None)

    def test_nobody_waits_to_hear_them(self) -> None:
        caller = Caller(self.all)
        self.all.admit(caller)
        heard = self.all.all_heard()
        heard.cancel()
        self.failureResultOf(heard)
        self.all.discard(caller)

    def test_some_are_kept_for_probes(self) -> None:
        self.all = Connections(cast(Any, self.clock), 16, keep=True)
        answering = self.admit(*[Stage.ANSWERING] * 14)
        self.assertFalse(any(map(self.all.is_kept, answering)))
        probes = self.admit(Stage.HEAD, Stage.IDLE)
        self.assertTrue(all(map(self.all.is_kept, probes)))
        (another,) = self.admit(Stage.IDLE)
        self.assertEqual([probe.aborted for probe in probes], [False, True])
        self.all.move(another, Stage.ANSWERING)
        self.all.move(probes[0], Stage.ANSWERING)
        self.assertFalse(self.all.admit(Caller(self.all)))
        self.assertEqual(len(self.all), 16)
        self.all.discard(answering.pop())
        self.assertFalse(self.all.is_kept(another))  # it takes the room
        self.assertTrue(self.all.is_kept(probes[0]))
        self.all.move(answering[0], Stage.IDLE)
        self.assertFalse(self.all.is_kept(probes[0]))  # and this one that of an idle one
        self.assertTrue(answering[0].aborted)

    def test_no_timer_without_a_connection(self) -> None:
        (caller,) = self.admit(Stage.IDLE)
        self.assertTrue(self.clock.getDelayedCalls())
        self.all.discard(caller)
        self.all.discard(caller)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(len(self.all), 0)
        self.admit(Stage.IDLE)
        self.assertTrue(self.clock.getDelayedCalls())

    def test_a_bug_in_one_does_not_end_the_sweep(self) -> None:
        def bug(_now: float) -> None:
            raise ValueError("a secret")

        told: list[object] = []
        self.patch(connections, "log_unexpected", lambda *about: told.append(about[1]))
        first, second = self.admit(Stage.IDLE, Stage.HEAD)
        first.expire = bug  # type: ignore[method-assign]
        first.deadline, second.deadline = 1, 2
        self.clock.advance(1)
        self.assertEqual(len(told), 1)
        first.deadline = 60
        self.clock.advance(1)
        self.assertEqual(second.expired, [2])

    def test_the_longest_idle_goes_for_a_new_one(self) -> None:
        first, second, third = self.admit(Stage.IDLE, Stage.IDLE, Stage.BODY)
        self.all.move(first, Stage.ANSWERING)
        self.all.move(first, Stage.IDLE)  # it has been answered since
        self.assertTrue(self.all.admit(Caller(self.all)))
        self.assertEqual(
            [caller.aborted for caller in (first, second, third)], [False, True, False]
        )
        self.assertEqual(len(self.all), 3)

    def test_then_the_one_that_sends_the_longest(self) -> None:
        body, head, answering = self.admit(Stage.BODY, Stage.HEAD, Stage.ANSWERING)
        for new in (Caller(self.all), Caller(self.all)):
            self.assertTrue(self.all.admit(new))
            self.all.move(new, Stage.ANSWERING)
        self.assertEqual(
            [caller.aborted for caller in (body, head, answering)], [True, True, False]
        )

    def test_never_one_that_is_being_answered(self) -> None:
        callers = self.admit(*[Stage.ANSWERING] * 3)
        self.assertFalse(self.all.admit(Caller(self.all)))
        self.assertFalse(any(caller.aborted for caller in callers))
        self.assertEqual(len(self.all), 3)

    def test_the_log_tells_once_a_minute(self) -> None:
        self.admit(Stage.IDLE, Stage.IDLE, Stage.IDLE)
        for _ in range(5):
            self.all.admit(Caller(self.all))
        self.assertEqual(len(self.said), 1)
        self.clock.advance(60)
        self.all.admit(Caller(self.all))
        self.assertEqual(len(self.said), 2)
