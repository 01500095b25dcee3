"""Those who wait: told, timed out, moved, stopped; many at a time."""

from collections.abc import Sequence
from typing import Any, cast

from twisted.internet.defer import Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.errors import JournalUnavailable
from chatgpt_source.intake.waiting import AT_ONCE, LOOK_EVERY, Elsewhere, Waiter, Waiters
from chatgpt_source.journal.states import ASKING
from chatgpt_source.prompt import State
from tests.clocks import Clocks
from tests.telemetry.outcomes import ended

TURN = 0.001


class Turns(Clocks):
    """A clock on which each turn of the reactor takes time."""

    def callLater(self, delay: float, *call: Any, **named: Any) -> Any:
        return super().callLater(max(delay, TURN), *call, **named)


class WaitersTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Turns()
        self.waiters = Waiters(cast(Any, self.clock))

    def join(self, *names: str, seconds: float = 10) -> Sequence[Waiter]:
        joined = [self.waiters.join(name, seconds) for name in names]
        return [waiter for waiter in joined if waiter is not None]

    def tell(self, name: str, state: State | None = State.ANSWERED) -> None:
        self.waiters.asked(cast(Any, ended(state, name=name)))
        self.clock.advance(TURN)

    def assert_done(self, waiter: Waiter, *, told: bool) -> None:
        self.assertIs(self.successResultOf(waiter.done), told)

    def test_the_end_of_asking(self) -> None:
        first, second, other = self.join("p", "p", "q")
        self.tell("p", None)  # it is asked again
        for state in ASKING:  # it is submitted, or asked again
            self.tell("p", state)
        self.assertNoResult(first.done)
        self.tell("p")
        self.assert_done(first, told=True)
        self.assert_done(second, told=True)
        self.assertNoResult(other.done)
        self.waiters.cancelled(prompt_id="q")
        self.clock.advance(TURN)
        self.assert_done(other, told=True)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_time_is_up(self) -> None:
        (waiter,) = self.join("p", seconds=10)
        self.assertEqual(waiter.until, 10)
        self.clock.advance(9.9)
        self.assertNoResult(waiter.done)
        self.clock.advance(0.1)
        self.clock.advance(TURN)
        self.assert_done(waiter, told=False)
        self.tell("p")  # who has not left yet is not told twice

    def test_the_last_one_leaves(self) -> None:
        first, second, third = self.join("p", "p", "p")
        self.tell("p")
        second.give_up()
        self.assertEqual(len(self.waiters), 3)
        leaving = [self.waiters.leave(each) for each in (second, first, third)]
        self.assertEqual(leaving, [False, False, True])
        self.assertEqual((len(self.waiters), self.clock.getDelayedCalls()), (0, []))

    def test_one_that_gives_up_is_told_nothing(self) -> None:
        (waiter,) = self.join("p")
        waiter.give_up()
        self.assert_done(waiter, told=False)
        self.assertTrue(self.waiters.leave(waiter))
        self.tell("p")

    def test_moved_to_the_prompt_that_it_repeats(self) -> None:
        (waiter,) = self.join("new")
        self.waiters.move(waiter, "old")
        self.tell("new")
        self.assertNoResult(waiter.done)
        self.tell("old")
        self.assert_done(waiter, told=True)
        self.assertTrue(self.waiters.leave(waiter))

    def test_at_most(self) -> None:
        self.waiters.at_most = 2
        first, _ = self.join("p", "q")
        self.assertEqual(self.join("p", "r"), [])
        self.waiters.leave(first)
        self.assertEqual(len(self.join("r")), 1)

    def test_a_stop(self) -> None:
        first, second = self.join("p", "q")
        stopped = self.waiters.stop()
        self.clock.advance(TURN)
        for waiter in (first, second):
            self.assert_done(waiter, told=False)
            self.assertNoResult(stopped)
            self.waiters.leave(waiter)
        self.successResultOf(stopped)
        self.assertEqual(self.join("r"), [])

    def test_a_stop_while_nobody_waits(self) -> None:
        self.successResultOf(self.waiters.stop())

    def test_a_few_in_a_turn(self) -> None:
        joined = self.join(*["p"] * (AT_ONCE + 1))
        self.tell("p")
        self.assertEqual(sum(waiter.done.called for waiter in joined), AT_ONCE)
        self.clock.advance(TURN)
        self.assertTrue(all(waiter.done.called for waiter in joined))

    def test_told_while_others_are_told(self) -> None:
        first, last = self.join("p", "q")
        first.done.addCallback(lambda _: self.waiters.cancelled(prompt_id="q"))
        self.tell("p")
        self.assertNoResult(last.done)
        self.clock.advance(TURN)
        self.assert_done(last, told=True)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class ElsewhereTests(SynchronousTestCase):
    """What other daemons have asked ends the waits here."""

    is_shared = True

    def setUp(self) -> None:
        self.clock = Turns()
        self.waiters = Waiters(cast(Any, self.clock))
        self.asked: list[list[str]] = []
        self.ended: set[str] = set()
        self.broken = False
        self.elsewhere = Elsewhere(cast(Any, self.clock), cast(Any, self), self.waiters)
        self.elsewhere.start()

    def ended_asking(self, ids: list[str]) -> Deferred[set[str]]:
        self.asked.append(ids)
        if self.broken:
            return fail(JournalUnavailable("down", retry_after=1))
        return succeed(self.ended.intersection(ids))

    def look(self) -> None:
        self.clock.advance(LOOK_EVERY)
        self.clock.advance(TURN)

    def test_of_one_query_for_all(self) -> None:
        first, second, other = (self.waiters.join(name, 10) for name in ("p", "p", "q"))
        self.ended = {"p", "somebody else's"}
        self.look()
        self.assertEqual(self.asked, [["p", "q"]])
        self.assertEqual([self.successResultOf(each.done) for each in (first, second)], [True] * 2)
        self.assertNoResult(other.done)

    def test_nobody_waits(self) -> None:
        self.look()
        self.assertEqual(self.asked, [])

    def test_it_goes_on_after_an_outage(self) -> None:
        waiter = self.waiters.join("p", 10)
        self.broken, self.ended = True, {"p"}
        self.look()
        self.assertNoResult(waiter.done)
        self.broken = False
        self.look()
        self.assertTrue(self.successResultOf(waiter.done))

    def test_a_journal_that_is_not_shared_is_not_asked(self) -> None:
        self.elsewhere.stop()
        self.is_shared = False
        self.elsewhere.start()
        self.waiters.join("p", 10)
        self.look()
        self.assertEqual(self.asked, [])
