"""A journal whose thread is the test's own: what it does, it has done when the call returns."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.journal import Terms
from chatgpt_source.journal.sqlite import SqliteJournal, open_journal
from chatgpt_source.prompt import Answer, Prompt
from chatgpt_source.quota import Day
from tests.clocks import Clocks

NOON = 1_800_014_400.0  # 2027-01-15T12:00:00Z
DAY = Day("2027-01-15", NOON - 43200, NOON + 43200)
ANSWER = Answer("the answer", "gpt", "stop", "req-1", {"total_tokens": 7})


def at_once(run: Callable[[], None]) -> Deferred[None]:
    return succeed(run())


class Threads:
    """A thread that works when told to, so that a test can see what rides which commit."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Callable[[], None], Deferred[None]]] = []

    def defer(self, run: Callable[[], None]) -> Deferred[None]:
        done: Deferred[None] = Deferred()
        self.waiting.append((run, done))
        return done

    def work(self) -> None:
        run, done = self.waiting.pop(0)
        run()
        done.callback(None)


def prompt(name: str = "p1", text: str = "what is vanus", accepted: float = NOON) -> Prompt:
    return Prompt(name, text, "a-source", "a-type", accepted)


class JournalTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clocks()
        self.clock.advance(NOON)
        self.path = Path(self.mktemp())
        self.journal = self.open()

    def open(self, in_thread: Callable[[Callable[[], None]], Deferred[None]] = at_once) -> Any:
        opened = open_journal(self.path)
        journal = SqliteJournal(opened, self.clock, in_thread)
        self.opened = opened
        self.addCleanup(self.shut, opened)
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
        self.journal = self.open()
        self.journal.recover(100, "UTC")
        return self.journal

    def accept(self, *prompts: Prompt, limit: int = 100, max_backlog: int = 1000) -> int:
        left = -1
        for each in prompts:
            left = self.successResultOf(self.admit(each, limit, max_backlog)).left
        return left

    def admit(
        self,
        each: Prompt,
        limit: int = 100,
        max_backlog: int = 1000,
        *,
        day: Day = DAY,
        draining: bool = False,
        key: str | None = None,
    ) -> Any:
        terms = Terms(day, limit, max_backlog, draining)
        return self.journal.accept(each, terms, key)

    def asks(self, most: int = 10, now: float | None = None) -> Any:
        return self.successResultOf(
            self.journal.claim_asks(self.clock.seconds() if now is None else now, most)
        )

    def deliveries(self, most: int = 10, untried_since: float | None = None) -> Any:
        return self.successResultOf(
            self.journal.claim_deliveries(self.clock.seconds(), most, untried_since=untried_since)
        )

    def answer(self, name: str = "p1", *, claim: bool = False) -> None:
        now = self.clock.seconds()
        self.successResultOf(self.journal.answered(name, ANSWER, b"the event", now, claim=claim))

    def used(self, day: str = DAY.date) -> int:
        return self.successResultOf(self.journal.tally(day)).used

    def record(self, name: str = "p1") -> Any:
        return self.successResultOf(self.journal.record(name))
