"""Tasks: work that runs on its own, and is cancelled or waited for together."""

from collections.abc import Coroutine, Iterable
from typing import Any

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from chatgpt_source.log import log_unexpected
from chatgpt_source.waiting import results_of

Work = Coroutine[Deferred[Any], Any, None]


async def together(works: Iterable[Work]) -> None:
    """Run coroutines at once, and wait for all.

    Raises:
        Exception: What the first of those raised that failed.
    """
    await results_of([Deferred.fromCoroutine(work) for work in works])


@define(eq=False, repr=False)
class Tasks:
    """Runs coroutines, and logs what they raise unexpectedly.

    Args:
        log: The log for that.
        what: What they do, for people.
        ends: What they may raise at a stop, besides CancelledError.
    """

    _log: Logger
    _what: str
    _ends: tuple[type[Exception], ...] = ()
    _running: set[Deferred[None]] = field(init=False, factory=set)
    _idle: list[Deferred[None]] = field(init=False, factory=list)

    def __len__(self) -> int:
        return len(self._running)

    def spawn(self, work: Work) -> None:
        """Begin to run a coroutine."""
        task = Deferred.fromCoroutine(work)
        self._running.add(task)
        task.addBoth(self._finished, task)

    def cancel(self) -> None:
        """Cancel all that run."""
        for task in list(self._running):
            task.cancel()

    async def idle(self) -> None:
        """Wait until none runs."""
        while self._running:
            done: Deferred[None] = Deferred()
            self._idle.append(done)
            await done

    def _finished(self, result: object, task: Deferred[None]) -> None:
        self._running.discard(task)
        if isinstance(result, Failure) and not result.check(CancelledError, *self._ends):
            log_unexpected(self._log, self._what, result)
        if not self._running:
            idle, self._idle = self._idle, []
            for waiter in idle:
                waiter.callback(None)
