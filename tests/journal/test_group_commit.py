"""Group commit, whatever the engine."""

from collections.abc import Sequence
from typing import Any, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.errors import JournalUnavailable
from chatgpt_source.journal import group_commit
from chatgpt_source.journal.group_commit import LOOK, MOST_TOGETHER, STALLED, GroupCommit, Operation
from tests.cycles import left_by
from tests.journal.common import Threads


class GroupCommitTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.threads = Threads(self.clock)
        self.groups: list[list[Any]] = []
        self.group: GroupCommit[list[str]] = GroupCommit(
            self.threads.defer, self.transact, cast(Any, self.clock)
        )

    def transact(self, group: Sequence[Operation[list[str]]]) -> None:
        done: list[str] = []
        for operation in group:
            operation.result = operation.run(done)
        self.groups.append(done)

    def submit(
        self,
        name: str,
        patience: float | None = None,
        *,
        writes: bool = True,
        delay: float = 0.0,
    ) -> "Deferred[Any]":
        return self.group.submit(
            lambda done: done.append(name), writes=writes, patience=patience, delay=delay
        )

    def wait(self, seconds: float) -> None:
        self.clock.pump([LOOK] * round(seconds / LOOK))

    def take_a_turn(self, _: object) -> None:
        self.clock.rightNow += group_commit.CALLBACK_TIME

    def test_groups(self) -> None:
        waiters = [self.submit(name) for name in "abc"]
        idle = self.group.when_idle()
        self.threads.work()
        self.assertNoResult(idle)
        waiters.append(self.submit("d"))
        self.threads.work()
        self.threads.work()
        for waiter in waiters:
            self.successResultOf(waiter)
        self.successResultOf(idle)
        self.assertEqual(self.groups, [["a"], ["b", "c"], ["d"]])

    def test_what_callbacks_submit_joins_the_next_group(self) -> None:
        def submit_more(_: object) -> None:
            self.submit("c")
            self.submit("d")

        self.submit("a").addCallback(submit_more)
        self.submit("b")
        self.threads.work()
        self.threads.work()
        self.assertEqual(self.groups, [["a"], ["b", "c", "d"]])

    def test_what_some_turns_of_the_reactor_bring_joins_the_next_group(self) -> None:
        self.submit("a")
        self.submit("b")

        def bring(turns: int) -> None:
            self.submit(f"turn {turns}")
            if turns < group_commit.TURNS:
                self.clock.callLater(0, bring, turns + 1)

        self.clock.callLater(0, bring, 1)
        self.threads.finish()
        self.assertEqual(self.threads.waiting, [])
        self.clock.advance(0)
        self.threads.finish()
        joined = [f"turn {turns}" for turns in range(1, group_commit.TURNS + 1)]
        self.assertEqual(self.groups, [["a"], ["b", *joined]])

    def test_after_a_group_that_none_waited_for_the_next_starts_at_once(self) -> None:
        self.submit("a")
        self.threads.finish()
        self.submit("b")
        self.assertEqual(len(self.threads.waiting), 1)
        self.assertEqual(self.clock.getDelayedCalls()[1:], [])  # it looks for those that wait

    def test_it_is_not_idle_before_the_next_group(self) -> None:
        self.submit("a")
        waits = self.submit("b", 10.0)
        self.threads.finish()
        idle = self.group.when_idle()
        waits.cancel()
        self.failureResultOf(waits, CancelledError)
        self.assertNoResult(idle)
        self.clock.advance(0)
        self.successResultOf(idle)
        self.assertEqual(self.groups, [["a"]])

    def test_the_next_group_starts_after_one_turn_of_callbacks(self) -> None:
        self.submit("a")
        for name in "bcd":
            self.submit(name).addCallback(self.take_a_turn)
        self.threads.work()
        self.submit("e")
        self.threads.work()
        self.assertEqual(len(self.threads.waiting), 1)
        self.threads.work()
        self.assertEqual(self.groups, [["a"], ["b", "c", "d"], ["e"]])

    def test_an_operation_leaves_no_cycles(self) -> None:
        def run() -> None:
            done = self.submit("a", 10.0)
            self.threads.work()
            self.successResultOf(done)

        self.assertEqual(left_by(run), 0)

    def test_a_thread_that_fails_fails_its_group_alone(self) -> None:
        first, second = self.submit("a"), self.submit("b")
        _, done = self.threads.waiting.pop()
        done.errback(RuntimeError("no thread"))
        self.failureResultOf(first, RuntimeError)
        self.clock.advance(0)
        self.threads.work()
        self.successResultOf(second)

    def test_idle_from_the_start(self) -> None:
        self.successResultOf(self.group.when_idle())

    def test_a_group_has_its_bound(self) -> None:
        for number in range(MOST_TOGETHER + 2):
            self.submit(str(number))
        for _ in range(3):
            self.threads.work()
        self.assertEqual([len(each) for each in self.groups], [1, MOST_TOGETHER, 1])

    # What may wait for others.

    def test_it_rides_with_what_may_not_wait(self) -> None:
        self.submit("a", delay=1.0)
        self.clock.advance(0.5)
        self.assertEqual(self.threads.waiting, [])
        self.submit("b")
        self.threads.work()
        self.assertEqual(self.groups, [["a", "b"]])
        self.clock.advance(1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_it_waits_no_longer_than_it_may(self) -> None:
        self.submit("a", delay=1.0)
        self.submit("b", delay=0.3)
        self.submit("c", delay=2.0)
        self.clock.advance(0.29)
        self.assertEqual(self.threads.waiting, [])
        self.clock.advance(0.01)
        self.threads.work()
        self.assertEqual(self.groups, [["a", "b", "c"]])

    def test_what_comes_during_a_commit_may_wait_after_it(self) -> None:
        self.submit("a")
        self.submit("b", delay=1.0)
        self.threads.work()
        self.clock.advance(0.9)
        self.assertEqual(self.threads.waiting, [])
        self.clock.advance(0.1)
        self.threads.work()
        self.assertEqual(self.groups, [["a"], ["b"]])

    def test_what_a_full_group_leaves_waits_no_more(self) -> None:
        self.submit("first")
        for number in range(MOST_TOGETHER):
            self.submit(str(number))
        self.submit("last", delay=1.0)
        for _ in range(3):
            self.threads.work()
        self.assertEqual(self.groups[2], ["last"])

    def test_an_end_does_not_wait_for_others(self) -> None:
        self.submit("a", delay=1.0)
        idle = self.group.when_idle()
        self.threads.work()
        self.successResultOf(idle)
        self.group.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    # Who waits no longer.

    def test_what_has_not_begun_can_be_withdrawn(self) -> None:
        begun, withdrawn, stays = (self.submit(name, 10.0) for name in "abc")
        for each in (begun, withdrawn):
            each.cancel()
        self.failureResultOf(withdrawn, CancelledError)
        self.assertNoResult(begun)
        self.threads.work()
        self.threads.work()
        self.successResultOf(begun)
        self.successResultOf(stays)
        self.assertEqual(self.groups, [["a"], ["c"]])
        stays.cancel()

    def test_patience_ends(self) -> None:
        begun = self.submit("begun", 2.0)
        waits, patient, for_ever = self.submit("b", 2.0), self.submit("c", 4.0), self.submit("d")
        self.wait(1.5)
        self.assertNoResult(waits)
        self.wait(0.6)
        error = self.failureResultOf(waits, JournalUnavailable)
        self.assertEqual(error.value.reason, "it has not answered for 2 s")
        self.wait(4)
        self.failureResultOf(patient, JournalUnavailable)
        for each in (begun, for_ever):
            self.assertNoResult(each)
        self.threads.work()
        self.threads.work()
        for each in (begun, for_ever):
            self.successResultOf(each)
        self.assertEqual(self.groups, [["begun"], ["d"]])

    def test_a_read_that_has_begun_is_not_waited_for(self) -> None:
        reads = self.submit("a", 1.0, writes=False)
        self.wait(1.1)
        self.failureResultOf(reads, JournalUnavailable)
        self.threads.work()
        self.assertEqual(self.group.silent_for, 0)

    def test_a_stalled_thread_takes_nothing_more(self) -> None:
        self.submit("a")
        self.wait(1.1)
        self.failureResultOf(self.submit("b", 1.0), JournalUnavailable)
        self.assertNoResult(self.submit("c", 10.0))
        self.wait(STALLED - 1)
        self.failureResultOf(self.submit("d", 10.0), JournalUnavailable)
        self.assertNoResult(self.submit("e"))
        self.threads.work()
        self.assertNoResult(self.submit("f", 1.0))

    def test_not_too_many_may_wait(self) -> None:
        self.patch(group_commit, "MOST_WAITING", 3)
        for name in "abcd":
            self.assertNoResult(self.submit(name, 10.0))
        self.failureResultOf(self.submit("e", 10.0), JournalUnavailable)
        self.assertNoResult(self.submit("f"))  # the pipeline's own: it knows its bound

    def test_many_are_told_by_and_by(self) -> None:
        self.submit("a")
        told: list[object] = []

        def hear(failure: object) -> None:
            told.append(failure)
            self.clock.rightNow += group_commit.CALLBACK_TIME / 2

        for _ in range(3):
            self.submit("b", 1.0).addErrback(hear)
        self.clock.rightNow += 2
        self.group._look()
        self.assertEqual(len(told), 2)
        self.clock.advance(0)
        self.assertEqual(len(told), 3)

    def test_callbacks_take_a_bounded_part_of_each_turn(self) -> None:
        told: list[str] = []

        def hear(name: str) -> None:
            told.append(name)
            self.clock.rightNow += group_commit.CALLBACK_TIME / 2

        first = self.submit("first")
        for name in "abcde":
            self.submit(name).addCallback(lambda _, name=name: hear(name))
        self.threads.work()
        self.successResultOf(first)
        self.threads.finish()
        idle = self.group.when_idle()
        self.assertEqual(told, ["a", "b"])
        self.submit("f").addCallback(lambda _: hear("f"))
        self.threads.finish()
        self.assertEqual(told, ["a", "b"])
        self.assertNoResult(idle)
        self.clock.advance(0)
        self.assertEqual(told, ["a", "b", "c", "d", "e", "f"])
        self.successResultOf(idle)

    def test_nothing_is_looked_at_while_nothing_runs(self) -> None:
        self.submit("a", 1.0)
        self.threads.work()
        self.wait(1)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.submit("b", 1.0)
        self.group.stop()
        self.group.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
