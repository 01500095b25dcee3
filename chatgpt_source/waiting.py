"""Waits for a step with a time limit, and for several steps at once."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred, DeferredList, TimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

STALL = 1.0
"""Seconds that a timer may be late; beyond that, our own process stood still."""
AFTER_STALL = 0.2
"""Seconds to read what came while our process stood still."""

T = TypeVar("T")


def with_timeout(
    step: Deferred[T],
    seconds: float,
    clock: IReactorTime,
    moved: Callable[[], float] | None = None,
) -> Deferred[T]:
    """End a step with TimeoutError unless it ends in time.

    With `moved`, which tells when the step last moved on, the time is counted from then.

    If the timer itself is late, because this process was stopped or its machine slept, the response
    may be unread in a socket. The step then gets more time to read it. Whoever cancels the result
    gets a CancelledError, whatever error the step then ends with.
    """
    limit = _Limit(step, seconds, clock, moved)
    waiting: Deferred[T] = Deferred(limit.cancel)
    step.addBoth(limit.ended, waiting)
    return waiting


class _Limit:
    """The time limit of a step. It does not hold who waits, which would be a cycle."""

    def __init__(
        self,
        step: Deferred[Any],
        seconds: float,
        clock: IReactorTime,
        moved: Callable[[], float] | None,
    ) -> None:
        self._step, self._seconds, self._clock, self._moved = step, seconds, clock, moved
        self._due = clock.seconds() + seconds
        self._expired = False
        self._timer = clock.callLater(seconds, self._expire)

    def _expire(self) -> None:
        now = self._clock.seconds()
        if self._moved is not None and self._moved() + self._seconds > now:
            self._due = self._moved() + self._seconds
            self._timer = self._clock.callLater(self._due - now, self._expire)
        elif now - self._due > STALL:
            self._timer = self._clock.callLater(AFTER_STALL, self._end)
        else:
            self._end()

    def _end(self) -> None:
        self._expired = True
        self._step.cancel()

    def ended(self, result: Any, waiting: Deferred[Any]) -> None:
        """The step has ended."""
        if self._timer.active():
            self._timer.cancel()
        if not waiting.called:
            late = self._expired and isinstance(result, Failure)
            waiting.callback(Failure(TimeoutError(self._seconds)) if late else result)

    def cancel(self, waiting: Deferred[Any]) -> None:
        """Whoever waits gives up."""
        waiting.errback(CancelledError())
        self._step.cancel()


async def completes(step: Deferred[Any], seconds: float, clock: IReactorTime) -> bool:
    """Wait for a step with a time limit; returns whether it ended in time."""
    try:
        await with_timeout(step, seconds, clock)
    except TimeoutError:
        return False
    return True


async def results_of(steps: Iterable[Deferred[T]]) -> list[T]:
    """Wait for all of several steps, and return their results.

    Raises:
        Exception: What the first of those raised that failed.
    """
    ended: Sequence[tuple[bool, Any]] = await DeferredList(steps, consumeErrors=True)
    for succeeded, result in ended:
        if not succeeded:
            result.raiseException()
    return [result for _, result in ended]
