"""What an operator is told of a journal that can't be written, whatever the engine."""

from collections.abc import Sequence
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.errors import JournalUnavailable
from chatgpt_source.journal.executor import READ_PATIENCE, Executor
from chatgpt_source.journal.group_commit import LOOK, STALLED, GroupCommit, Operation
from tests.journal.common import Threads


class ExecutorTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.threads = Threads(self.clock)
        self.trouble: str | None = None
        group: GroupCommit[None] = GroupCommit(
            self.threads.defer, self.transact, cast(Any, self.clock)
        )
        self.executor = Executor("the.journal", group)

    def transact(self, operations: Sequence[Operation[None]]) -> None:
        for each in operations:
            if self.trouble is None:
                each.result = each.run(None)
            else:
                each.error = JournalUnavailable(self.trouble, retry_after=1)

    def write(self, trouble: str | None = None) -> "Deferred[str]":
        """A write that fails so."""
        written = self.executor.write(lambda _: "written")
        self.trouble = trouble
        self.threads.work()
        return written

    def told(self, *troubles: str | None) -> list[str]:
        """The log of writes that fail so, one after the other."""
        with capturedLogs() as logged:
            for each in troubles:
                self.write(each).addErrback(lambda failure: failure.trap(JournalUnavailable))
        return [cast(str, formatEvent(event)) for event in logged]

    def test_each_reason_is_told_once(self) -> None:
        full, lost = (
            f"journal the.journal can't be written: {reason}; accepting no prompts until it can"
            for reason in ("disk full", "lost")
        )
        self.assertEqual(
            self.told("disk full", "disk full", "lost", "lost", None, None, "lost"),
            [full, lost, "journal the.journal can be written again", lost],
        )

    def test_silence_is_told_once_however_long_it_lasts(self) -> None:
        with capturedLogs() as logged:
            for each in [self.executor.write(lambda _: None, STALLED + n) for n in range(3)]:
                each.addErrback(lambda failure: failure.trap(JournalUnavailable))
            self.clock.pump([LOOK] * round((STALLED + 4) / LOOK))
        self.assertEqual(len(logged), 1, [formatEvent(each) for each in logged])
        self.assertIn("it has not answered for 6 s", cast(str, formatEvent(logged[0])))
        self.assertEqual(self.executor.fault, "it has not answered for 9 s")
        self.assertIn("disk full", self.told("disk full")[0])

    def test_the_fault_is_the_last_write_s(self) -> None:
        self.assertIsNone(self.executor.fault)
        self.failureResultOf(self.write("disk full"), JournalUnavailable)
        self.assertEqual(self.executor.fault, "disk full")
        read = self.executor.read(lambda _: None)
        self.threads.work()
        self.failureResultOf(read, JournalUnavailable)
        self.assertEqual(self.successResultOf(self.write()), "written")
        self.assertIsNone(self.executor.fault)

    def test_only_a_look_makes_one_of_a_read(self) -> None:
        for run, fault in ((self.executor.read, None), (self.executor.look, "lost")):
            read = run(lambda _: None)
            self.trouble = "lost"
            self.threads.work()
            self.failureResultOf(read, JournalUnavailable)
            self.assertEqual(self.executor.fault, fault)

    def test_a_thread_that_is_silent_is_one_at_once(self) -> None:
        self.executor.read(lambda _: None, None)
        self.clock.advance(READ_PATIENCE)
        self.assertEqual(self.executor.fault, "it has not answered for 1 s")

    def test_closed_it_takes_nothing_and_tells_nobody(self) -> None:
        begun = self.executor.write(lambda _: "written")
        closed = self.executor.close()
        with capturedLogs() as logged:
            for run in (self.executor.read, self.executor.write):
                error = self.failureResultOf(run(lambda _: None), JournalUnavailable)
                self.assertEqual(error.value.reason, "the journal is closed")
        self.assertEqual(logged, [])
        self.assertNoResult(closed)
        self.threads.work()
        self.assertEqual(self.successResultOf(begun), "written")
        self.successResultOf(closed)
