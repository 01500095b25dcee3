"""Shares the reactor's time among connections, so that no peer's responses delay the others."""

from collections import deque
from collections.abc import Callable
from time import perf_counter

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall, IReactorTime

SLOW = 0.001
"""Seconds of one step from which the work of each turn is counted."""
TURN = 0.005
"""Seconds of a turn that all connections together may take, without the last step."""


@define(eq=False, repr=False)
class WorkQueue:
    """Runs steps at once while they are quick; otherwise some in each turn of the reactor.

    A step that takes `SLOW` starts the counting, and a turn with little work ends it. Responses
    that are read quickly cost only a look at the clock.

    Args:
        clock: Runs postponed steps in a later turn.
        measure: A monotonic clock, in seconds.
    """

    clock: IReactorTime
    measure: Callable[[], float] = perf_counter
    _put_off: deque[Callable[[], object]] = field(init=False, factory=deque)
    _spent: float = field(init=False, default=0.0)
    _next: IDelayedCall | None = field(init=False, default=None)

    @property
    def free(self) -> bool:
        """Whether a step may run in this turn."""
        return self._next is None or (not self._put_off and self._spent < TURN)

    def do(self, step: Callable[[], object]) -> None:
        """Run a step in this turn."""
        started = self.measure()
        try:
            step()
        finally:
            took = self.measure() - started
            if self._next is not None:
                self._spent += took
            elif took >= SLOW:
                self._spent = took
                self._count()

    def put_off(self, step: Callable[[], object]) -> None:
        """Run a step in a later turn, after those that were postponed before."""
        self._put_off.append(step)
        if self._next is None:
            self._count()

    def _count(self) -> None:
        self._next = self.clock.callLater(0, self._turn)

    def _turn(self) -> None:
        busy = self._spent >= SLOW
        self._spent = 0.0
        self._count()
        try:
            while self._put_off and self._spent < TURN:
                self.do(self._put_off.popleft())
        finally:
            if not (busy or self._put_off or self._spent >= SLOW) and self._next is not None:
                self._next.cancel()
                self._next = None
