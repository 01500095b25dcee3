"""Waits for a step with a time limit."""

from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.interfaces import IDelayedCall, IReactorTime
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
    due = clock.seconds() + seconds
    expired = False
    timer: IDelayedCall

    def expire() -> None:
        nonlocal timer, due
        now = clock.seconds()
        if moved is not None and moved() + seconds > now:
            due = moved() + seconds
            timer = clock.callLater(due - now, expire)
        elif now - due > STALL:
            timer = clock.callLater(AFTER_STALL, end)
        else:
            end()

    def end() -> None:
        nonlocal expired
        expired = True
        step.cancel()

    def ended(result: Any) -> None:
        if timer.active():
            timer.cancel()
        if not waiting.called:
            late = expired and isinstance(result, Failure)
            waiting.callback(Failure(TimeoutError(seconds)) if late else result)

    def cancel(waiting: Deferred[T]) -> None:
        waiting.errback(CancelledError())
        step.cancel()

    waiting: Deferred[T] = Deferred(cancel)
    timer = clock.callLater(seconds, expire)
    step.addBoth(ended)
    return waiting


async def completes(step: Deferred[Any], seconds: float, clock: IReactorTime) -> bool:
    """Wait for a step with a time limit; returns whether it ended in time."""
    try:
        await with_timeout(step, seconds, clock)
    except TimeoutError:
        return False
    return True
