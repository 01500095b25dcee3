"""Measures how late the event loop runs its calls."""

from collections.abc import Callable

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall, IReactorTime

EVERY = 1.0
"""Seconds between two measurements."""


@define(eq=False, repr=False)
class LagMeter:
    """Schedules a call each second, and reports how late it came.

    Args:
        clock: The time.
        late: Called with the seconds.
    """

    _clock: IReactorTime
    _late: Callable[[float], None]
    _next: IDelayedCall | None = field(init=False, default=None)
    _due: float = field(init=False, default=0.0)

    def start(self) -> None:
        """Begin."""
        self._due = self._clock.seconds() + EVERY
        self._next = self._clock.callLater(EVERY, self._look)

    def stop(self) -> None:
        """Stop measuring."""
        if self._next is not None and self._next.active():
            self._next.cancel()

    def _look(self) -> None:
        self._late(max(0.0, self._clock.seconds() - self._due))
        self.start()
