"""The two clocks: a steady one for every duration, the wall clock for days and dates alone.

The wall clock can be set while the daemon runs. Twisted's reactors go by it, so that an hour back
would hold every timer for an hour; `steady` makes one go by the monotonic clock instead. What waits
goes by the reactor's `seconds()`; people, peers and the calendar are told `wall`.
"""

import time
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.python import runtime


def steady(reactor: Any) -> None:
    """Make a reactor's `seconds` steady: the wall clock's value now, and from then on monotonic.

    Calls that wait already keep their time. A reactor that is steady, or that goes by a clock of
    its own as a test's does, is left alone.
    """
    if getattr(reactor, "seconds", None) is not runtime.seconds:
        return
    ahead = time.time() - time.monotonic()
    reactor.seconds = lambda: ahead + time.monotonic()
    reactor.wall = lambda: time.time()  # noqa: PLW0108 - whatever `time.time` is by then


def wall(clock: IReactorTime) -> float:
    """The wall clock, in seconds since the epoch; a clock that knows but one time tells that."""
    told = getattr(clock, "wall", clock.seconds)
    return float(told())


def date_of(instant: float, clock: IReactorTime) -> float:
    """When it was, or will be, by the wall clock as it is set now.

    To a tenth of a second: so the same instant has the same date whenever that is asked for.

    Args:
        instant: As the clock's `seconds` tells it.
        clock: The clock.
    """
    return instant + round(wall(clock) - clock.seconds(), 1)
