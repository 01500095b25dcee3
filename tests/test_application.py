"""The daemon's parts: how they are stopped, whatever becomes of each."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import Mock, call

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source import application
from chatgpt_source.application import CLOSE_TIMEOUT, Application
from chatgpt_source.config import Config
from chatgpt_source.config.secret import Secret
from chatgpt_source.journal.sqlite import SqliteJournal, open_journal

CONFIG = Config(
    target="http://localhost:9", token=Secret("t"), admin="tcp:9090:interface=127.0.0.1"
)
STEPS = [
    "midnight.stop",
    "doubts.cancel",
    "elsewhere.stop",
    "audit.stop",
    "intake.stop_waiting",
    "pipeline.drain",
    "admin.settle",
    "journal.close",
    "threads.stop",
    "pool.close",
    "spans.close",
    "admin.stop",
]
"""What a stop does, in its order."""
LATER = {"intake.stop_waiting", "pipeline.drain", "admin.settle", "journal.close", "pool.close"}
"""The steps that take time."""


def raises() -> object:
    raise ValueError("MARKED")


def broken() -> Deferred[None]:
    return fail(ValueError("MARKED"))


class Reactor(MemoryReactorClock):
    """A reactor to which threads may pass calls."""

    def callFromThread(self, call: Callable[..., object], *args: object) -> None:
        call(*args)


class Threads:
    """A pool whose thread works at once, or not at all while it hangs."""

    hangs = False

    def callInThreadWithCallback(
        self, told: Callable[..., object], call: Callable[..., object], *args: object
    ) -> None:
        if self.hangs:
            return
        try:
            succeeded, result = True, call(*args)
        except Exception:  # noqa: BLE001 - as the real one does
            succeeded, result = False, Failure()
        told(succeeded, result)


class StopTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.log = Mock()
        self.patch(application, "log", self.log)
        self.reactor: Any = Reactor()
        self.threads = Threads()
        opened = open_journal(Path(self.mktemp()))
        self.addCleanup(opened.close)
        self.app = Application(self.reactor, CONFIG, partial(SqliteJournal, opened), self.threads)
        self.parts = Mock()
        for step in STEPS:
            part, _, name = step.partition(".")
            setattr(getattr(self.parts, part), name, Mock(side_effect=lambda: succeed(None)))
            setattr(self.app, f"_{part}", getattr(self.parts, part))
        self.threads.stop = self.parts.threads.stop
        self.app._threads = self.threads
        exporting = Threads()
        exporting.start = exporting.stop = Mock()
        self.patch(application, "thread", lambda _: exporting)

    def become(self, step: str, does: Callable[[], object]) -> None:
        part, _, name = step.partition(".")
        getattr(getattr(self.parts, part), name).side_effect = does

    def stop(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self.app.stop())

    @property
    def unexpected(self) -> list[dict[str, Any]]:
        return [each.kwargs for each in self.log.error.mock_calls]

    def test_its_steps(self) -> None:
        self.successResultOf(self.stop())
        self.assertEqual(self.parts.mock_calls, [getattr(call, step)() for step in STEPS])
        self.assertEqual(self.unexpected, [])
        self.log.warn.assert_not_called()

    def test_each_is_taken_whatever_became_of_the_others(self) -> None:
        for step in STEPS:
            self.parts.reset_mock()
            self.log.reset_mock()
            self.become(step, broken if step in LATER else raises)
            self.successResultOf(self.stop())
            self.assertEqual(self.parts.mock_calls, [getattr(call, each)() for each in STEPS], step)
            (told,) = self.unexpected
            self.assertEqual(told["kind"], "ValueError")
            self.assertNotIn("MARKED", str(told))
            self.become(step, lambda: succeed(None))

    def test_a_journal_that_hangs_is_not_waited_for(self) -> None:
        self.become("journal.close", Deferred)
        self.threads.hangs = True
        stopped = self.stop()
        self.reactor.advance(CLOSE_TIMEOUT)
        self.successResultOf(stopped)
        self.parts.threads.stop.assert_not_called()
        self.assertEqual(self.log.warn.call_count, 1)
        self.parts.admin.stop.assert_called_once_with()

    def test_nor_is_its_thread_after_an_error(self) -> None:
        self.become("journal.close", broken)
        self.threads.hangs = True
        stopped = self.stop()
        self.reactor.advance(CLOSE_TIMEOUT)
        self.successResultOf(stopped)
        self.parts.threads.stop.assert_not_called()
        self.parts.admin.stop.assert_called_once_with()

    def test_those_who_wait_are_answered_before_the_journal_is_closed(self) -> None:
        leaving: Deferred[None] = Deferred()
        self.become("intake.stop_waiting", lambda: leaving)
        self.become("pipeline.drain", broken)
        stopped = self.stop()
        self.parts.pipeline.drain.assert_called_once_with()
        self.parts.journal.close.assert_not_called()
        leaving.callback(None)
        self.successResultOf(stopped)
        self.parts.journal.close.assert_called_once_with()
