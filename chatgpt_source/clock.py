"""The two clocks: a steady one for durations, and the wall clock for days and dates.

The wall clock can be set while the daemon runs. Twisted's reactors use it, so a step of an hour
back would delay every timer by an hour. `steady` makes a reactor use the monotonic clock instead.
Durations use the reactor's `seconds()`. Dates, and times for people and peers, use `wall`.
"""

import re
import time
from datetime import datetime, timezone
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.python import runtime

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def steady(reactor: Any) -> None:
    """Make a reactor's `seconds` steady: the wall clock's value now, and from then on monotonic.

    Scheduled calls keep their time. A reactor that is steady already, or that has a clock of its
    own as in tests, is not changed.
    """
    if getattr(reactor, "seconds", None) is not runtime.seconds:
        return
    ahead = time.time() - time.monotonic()
    reactor.seconds = lambda: ahead + time.monotonic()
    reactor.wall = lambda: time.time()  # noqa: PLW0108 - whatever `time.time` is by then


def wall(clock: IReactorTime) -> float:
    """The wall clock, in seconds since the epoch; of a clock with only one time, that time."""
    told = getattr(clock, "wall", clock.seconds)
    return float(told())


def boot_time() -> float:
    """Seconds that also count while the machine sleeps, for what other machines go by."""
    try:
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    except AttributeError:  # Linux has it
        return time.monotonic()


def read_duration(text: str) -> float | None:
    """The seconds of a duration like `90s`, `15m`, `24h` or `7d`; None if it is none."""
    match = re.fullmatch("([0-9]{1,10})([smhd])", text, re.ASCII)
    return None if match is None else float(int(match[1]) * _UNITS[match[2]])


def date_of(instant: float, clock: IReactorTime) -> float:
    """The date of an instant, by the wall clock as it is set now.

    It is rounded to a tenth of a second, so that an instant always has the same date.

    Args:
        instant: A value of the clock's `seconds()`.
        clock: The clock.
    """
    return instant + round(wall(clock) - clock.seconds(), 1)


def rfc3339(instant: float | None) -> str | None:
    """A date for JSON: RFC 3339, in UTC."""
    if instant is None:
        return None
    return datetime.fromtimestamp(instant, timezone.utc).isoformat().replace("+00:00", "Z")
