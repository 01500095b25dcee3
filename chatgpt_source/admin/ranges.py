"""The ranges of the history that can be seen, and what happened in their columns. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cached_property
from math import floor
from typing import Any
from zoneinfo import ZoneInfo

from attrs import frozen

from chatgpt_source.clock import rfc3339
from chatgpt_source.journal.period import HOUR, MINUTE, SUMS, Period

MEDIAN, HIGH = 0.5, 0.95
"""The shares of prompts by which latencies are told."""
DAY = 24 * HOUR


@frozen
class Range:
    """A stretch of time up to now, in columns.

    Attributes:
        name: Its name in addresses.
        words: Its name for people: "The last ...".
        step: The seconds of the periods that it is read from.
        column: The seconds of a column.
        columns: How many there are.
        row: The columns in a row of the table.
        tick: The seconds from one label of the axis to the next.
        form: How a label says its time.
        per: What a column is, in words.
    """

    name: str
    words: str
    step: int
    column: int
    columns: int
    row: int
    tick: int
    form: str
    per: str

    def starts(self, now: float, zone: ZoneInfo) -> Sequence[int]:
        """When its columns begin, the oldest first; the last is the current one.

        Columns of hours begin with the days of the zone, as long as its clocks do not change.
        """
        offset = datetime.fromtimestamp(now, zone).utcoffset()
        ahead = 0 if offset is None else floor(offset.total_seconds() / self.step) * self.step
        last = floor((now + ahead) / self.column) * self.column - ahead
        return range(last - (self.columns - 1) * self.column, last + 1, self.column)


RANGES: Mapping[str, Range] = {
    each.name: each
    for each in (
        Range("1h", "hour", MINUTE, MINUTE, 60, 5, 15 * MINUTE, "%H:%M", "a minute"),
        Range("24h", "24 hours", MINUTE, 15 * MINUTE, 96, 4, 6 * HOUR, "%H:%M", "in 15 minutes"),
        Range("7d", "7 days", HOUR, 2 * HOUR, 84, 3, DAY, "%a", "in 2 hours"),
        Range("30d", "30 days", HOUR, 6 * HOUR, 120, 4, 5 * DAY, "%d %b", "in 6 hours"),
    )
}
LATEST = RANGES["1h"]
"""The range that is shown first."""


@frozen(eq=False, repr=False)
class Column:
    """What happened in a stretch of time.

    Attributes:
        start: When it began.
        seconds: How long it is.
        period: What happened; None if nobody knows.
    """

    start: int
    seconds: int
    period: Period | None = None

    @cached_property
    def quantiles(self) -> tuple[float, float] | None:
        """The median and 95th percentile of the latencies, in seconds; None if there are none."""
        if self.period is None or not self.period.latencies:
            return None
        of = self.period.latencies.quantile
        return of(MEDIAN) or 0.0, of(HIGH) or 0.0

    def to_dict(self) -> dict[str, Any]:
        """It for JSON; its counts are null if nobody knows."""
        known = self.period
        pair = self.quantiles
        return {
            "start": rfc3339(self.start),
            "seconds": self.seconds,
            **{name: known and getattr(known, name) for name in SUMS},
            "refused": known and dict(known.refused),
            "latency": pair and {"median": pair[0], "p95": pair[1]},
            "backlog": known and known.backlog,
            "used": known and known.used,
        }


def merged(columns: Sequence[Column]) -> Column:
    """One or more columns, as one."""
    first = columns[0]
    return Column(
        first.start,
        sum(each.seconds for each in columns),
        total([each.period for each in columns if each.period is not None]),
    )


def total(periods: Sequence[Period]) -> Period | None:
    """Periods in their order, added up; None if there are none."""
    if not periods:
        return None
    whole = Period(periods[0].step, periods[0].start)
    for period in periods:
        whole.add(period)
    return whole


@frozen(eq=False, repr=False)
class Past:
    """What happened in a range.

    Attributes:
        range: The range.
        zone: The zone of its times.
        now: The moment that it ends with.
        columns: Its columns, the oldest first.
        is_priced: Whether there are prices.
    """

    range: Range
    zone: ZoneInfo
    now: float
    columns: Sequence[Column]
    is_priced: bool = False

    @cached_property
    def total(self) -> Column:
        """All of it, as one column."""
        return merged(self.rows)

    @cached_property
    def period(self) -> Period:
        """What happened in all of it; nothing, if nobody knows."""
        return self.total.period or Period(self.range.step, self.columns[0].start)

    @cached_property
    def reasons(self) -> Counter[str]:
        """How many prompts were refused, by reason."""
        return self.period.refused

    @cached_property
    def times(self) -> Sequence[datetime]:
        """When its columns begin, in its zone."""
        return [datetime.fromtimestamp(each.start, self.zone) for each in self.columns]

    @cached_property
    def labels(self) -> Sequence[str]:
        """When its columns begin, as text; with the date, unless all are of the last day."""
        form = "%H:%M" if self.range.column < HOUR else "%a %d %b, %H:%M"
        return [f"{time:{form}}" for time in self.times]

    @cached_property
    def ticks(self) -> Mapping[int, str]:
        """The labels of its axis, by the numbers of their columns."""
        tick, turns = self.range.tick, []
        for time in self.times:
            offset = time.utcoffset()
            turns.append((time.timestamp() + (offset.total_seconds() if offset else 0)) // tick)
        return {
            number: f"{self.times[number]:{self.range.form}}"
            for number in range(1, len(turns))
            if turns[number] != turns[number - 1]
        }

    @cached_property
    def rows(self) -> Sequence[Column]:
        """Its columns merged into the rows of a table."""
        size = self.range.row
        return [
            merged(self.columns[first : first + size])
            for first in range(0, len(self.columns), size)
        ]

    def to_dict(self) -> dict[str, Any]:
        """It for JSON."""
        last = self.columns[-1]
        return {
            "range": self.range.name,
            "from": rfc3339(self.columns[0].start),
            "to": rfc3339(last.start + last.seconds),
            "now": rfc3339(self.now),
            "timezone": self.zone.key,
            "priced": self.is_priced,
            "columns": [each.to_dict() for each in self.columns],
        }
