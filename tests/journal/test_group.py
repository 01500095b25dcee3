"""Group commit, whatever the engine."""

from collections.abc import Sequence
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.journal.group import GroupCommit, Operation
from tests.journal.common import Threads


class GroupCommitTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.threads = Threads()
        self.groups: list[list[Any]] = []
        self.group: GroupCommit[list[str]] = GroupCommit(self.threads.defer, self.transact)

    def transact(self, group: Sequence[Operation[list[str]]]) -> None:
        done: list[str] = []
        for operation in group:
            operation.result = operation.run(done)
        self.groups.append(done)

    def submit(self, name: str) -> Any:
        return self.group.submit(lambda done: done.append(name), writes=True)

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

    def test_the_next_group_starts_before_the_last_is_told(self) -> None:
        order: list[str] = []
        self.submit("a").addCallback(lambda _: order.append(f"{len(self.threads.waiting)}"))
        self.submit("b")
        self.threads.work()
        self.assertEqual(order, ["1"])

    def test_a_thread_that_fails_fails_its_group_alone(self) -> None:
        first, second = self.submit("a"), self.submit("b")
        _, done = self.threads.waiting.pop()
        done.errback(RuntimeError("no thread"))
        self.failureResultOf(first, RuntimeError)
        self.threads.work()
        self.successResultOf(second)

    def test_idle_from_the_start(self) -> None:
        self.successResultOf(self.group.when_idle())
