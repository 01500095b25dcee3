"""A journal in a file; what it does, it has done when a call returns."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.journal.sqlite import SqliteJournal, open_journal
from tests.contracts.driver import ANSWER, DAY, DEAD_LETTERS, NOON, PEERS, JournalDriver, prompt

__all__ = [
    "ANSWER",
    "DAY",
    "DEAD_LETTERS",
    "NOON",
    "PEERS",
    "JournalTestCase",
    "Threads",
    "at_once",
    "prompt",
]


def at_once(run: Callable[[], None]) -> Deferred[None]:
    return succeed(run())


class Threads:
    """A thread that works when told to, so that a test can see what rides which commit."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.waiting: list[tuple[Callable[[], None], Deferred[None]]] = []

    def defer(self, run: Callable[[], None]) -> Deferred[None]:
        done: Deferred[None] = Deferred()
        self.waiting.append((run, done))
        return done

    def work(self) -> None:
        """Do what waits first, and let the reactor have its turns, which take no time."""
        self.finish()
        self._clock.advance(0)

    def finish(self) -> None:
        """Do what waits first; the reactor has had no turn then."""
        run, done = self.waiting.pop(0)
        run()
        done.callback(None)


class JournalTestCase(JournalDriver, SynchronousTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.path = Path(self.mktemp())
        self.journal = self.open()

    def open_in_threads(self) -> None:
        """Open it again: its thread works when `threads` is told to; `statements` has its SQL."""
        self.shut(self.opened)
        self.threads = Threads(self.clock)
        self.journal = self.open(self.threads.defer)
        self.statements: list[str] = []
        self.opened.connection.set_trace_callback(self.statements.append)

    def open(self, in_thread: Callable[[Callable[[], None]], Deferred[None]] = at_once) -> Any:
        """Open it as a start does, and take it up."""
        opened = open_journal(self.path)
        journal = SqliteJournal(opened, self.clock, in_thread)
        self.opened = opened
        self.addCleanup(self.shut, opened)
        self.recovered = self.recover(journal)
        return journal

    def shut(self, opened: Any) -> None:
        """Close as a crash would: whatever was not committed is gone."""
        try:
            opened.close()
        except OSError:
            return  # closed already

    def crash(self) -> Any:
        """The journal as the next start finds it."""
        self.shut(self.opened)
        self.hand.clear()
        self.journal = self.open()
        return self.journal
