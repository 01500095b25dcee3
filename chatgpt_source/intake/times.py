"""Reads instants that callers name: a duration from now, or a date. Pure."""

from twisted.internet.interfaces import IReactorTime

from chatgpt_source.clock import read_duration, wall
from chatgpt_source.cloudevent import read_time
from chatgpt_source.config.readers import Wrong

FORM = "a duration like 90s, 15m, 24h or 7d, or an RFC 3339 time like 2026-01-31T12:00:00Z"
MOST_AHEAD = 10 * 366 * 86400.0
"""Seconds that an instant may be ahead: 10 years."""


def read_instant(text: str, clock: IReactorTime) -> float:
    """An instant by the steady clock, from a duration like `90s` or an RFC 3339 time.

    Raises:
        Wrong: If it is none, or too far ahead.
    """
    now = clock.seconds()
    if (duration := read_duration(text)) is not None:
        instant = now + duration
    elif (date := read_time(text)) is not None:
        instant = steady_of(date, clock)
    else:
        raise Wrong(FORM)
    if instant - now > MOST_AHEAD:
        raise Wrong("at most 10 years ahead")
    return instant


def read_deadline(text: str, clock: IReactorTime) -> float:
    """An instant; a date may have passed, as that of a repeat does in time.

    Raises:
        Wrong: If it is none.
    """
    if read_duration(text) == 0:
        raise Wrong("a time in the future")
    return read_instant(text, clock)


def steady_of(date: float, clock: IReactorTime) -> float:
    """The instant, by the steady clock, of a date by the wall clock as it is set now."""
    return clock.seconds() + (date - wall(clock))
