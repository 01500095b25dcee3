"""Reads the history: what the journal has, of all who counted, and what is not there yet.

It is read when somebody looks, and then kept in memory: per step one period for each start. What
others count is read again for the last few periods each `AGAIN` seconds, and for all of them each
`ANEW` seconds, as one that could not write may be late. Columns that are over are added up once.
"""

from collections import defaultdict
from collections.abc import Iterable
from math import inf
from zoneinfo import ZoneInfo

from attrs import define, field
from twisted.internet.defer import DeferredLock
from twisted.internet.interfaces import IReactorTime

from chatgpt_source.admin.history import History
from chatgpt_source.admin.ranges import RANGES, Column, Past, Range, total
from chatgpt_source.clock import wall
from chatgpt_source.errors import JournalUnavailable
from chatgpt_source.journal import Journal
from chatgpt_source.journal.period import KEPT, Period

AGAIN = 10.0
"""Seconds after which the last periods are read again."""
ANEW = 600.0
"""Seconds after which all are."""
LAST = 4
"""Periods that are read again."""
PAGE = 120
"""Periods that are read at once: the journal's thread has other work to do."""


@define(eq=False, repr=False)
class Known:
    """What is known of a step.

    Attributes:
        merged: What the journal has, by the start; without what is counted here and not over.
        read: When it was last read, by the steady clock.
        anew: When all of it was.
        written: What was written while it is read; None while it is not.
    """

    merged: dict[int, Period] = field(factory=dict)
    read: float = -inf
    anew: float = -inf
    written: list[Period] | None = None


@define(eq=False, repr=False)
class Archive:
    """Reads the history.

    Args:
        clock: The time.
        journal: The journal.
        history: Counts what happens here.
        zone: The zone of the times that are shown.
        is_priced: Whether there are prices.
    """

    _clock: IReactorTime
    _journal: Journal
    _history: History
    _zone: ZoneInfo
    _is_priced: bool = False
    _known: dict[int, Known] = field(init=False, factory=lambda: {step: Known() for step in KEPT})
    _columns: dict[str, dict[int, Column]] = field(init=False, factory=lambda: defaultdict(dict))
    _reading: DeferredLock = field(init=False, factory=DeferredLock)

    def __attrs_post_init__(self) -> None:
        self._history.written = self._written

    async def past(self, wanted: Range) -> Past:
        """What happened in a range; as last known, if the journal can't be read."""
        await self._history.sample()
        return await self.counted(wanted)

    async def counted(self, wanted: Range) -> Past:
        """The same, but that the backlog and the used units are those of the last sample."""
        await self._reading.acquire()
        try:
            await self._refresh(wanted.step)
        except JournalUnavailable:
            pass  # the page says so
        finally:
            self._reading.release()
        now = wall(self._clock)
        starts = wanted.starts(now, self._zone)
        found, known = self._columns[wanted.name], self._known[wanted.step].merged
        opened = defaultdict(list)
        for each in self._history.open(wanted.step):
            opened[(each.start - starts[0]) // wanted.column].append(each)
        columns = []
        for number, start in enumerate(starts):
            own = opened.get(number, [])
            column = None if own else found.get(start)
            if column is None:
                inside = range(start, start + wanted.column, wanted.step)
                periods = [known[each] for each in inside if each in known]
                periods = sorted([*periods, *own], key=lambda each: each.start)
                column = Column(start, wanted.column, total(periods))
            if not own:
                found[start] = column
            columns.append(column)
        for start in found.keys() - set(starts):
            del found[start]
        return Past(wanted, self._zone, now, columns, self._is_priced)

    def _written(self, period: Period) -> None:
        """Take over a period that is over, and in the journal."""
        known = self._known[period.step]
        if known.written is not None:
            known.written.append(period)
        if known.read > -inf:
            self._add(known, period)

    @staticmethod
    def _add(known: Known, period: Period) -> None:
        there = known.merged.setdefault(period.start, Period(period.step, period.start))
        there.add(period)

    async def _refresh(self, step: int) -> None:
        known, now = self._known[step], self._clock.seconds()
        is_due = now - known.anew >= ANEW
        if not is_due and now - known.read < AGAIN:
            return
        current = int(wall(self._clock)) // step * step
        oldest = current - int(KEPT[step])
        since = oldest if is_due else current - (LAST - 1) * step
        size = PAGE * step
        for first in range(since, current + step, size):
            await self._read(known, step, first, min(first + size, current + 2 * step))
        for start in [start for start in known.merged if not oldest <= start <= current + step]:
            del known.merged[start]
        known.read = now
        if is_due:
            known.anew = now

    async def _read(self, known: Known, step: int, since: int, until: int) -> None:
        own = {each.owner for each in self._history.open(step)}
        known.written = []
        try:
            periods = {
                each.start: each for each in await self._journal.history(step, since, until, own)
            }
            written = known.written
        finally:
            known.written = None
        there = [start for start in known.merged if since <= start < until]
        for start in there:
            del known.merged[start]
        known.merged |= periods
        for period in written:
            if period.owner in own and since <= period.start < until:
                self._add(known, period)
        self._forget({*there, *periods}, step)

    def _forget(self, starts: Iterable[int], step: int) -> None:
        """Forget the columns that have these periods."""
        changed = set(starts)
        for wanted in RANGES.values():
            if wanted.step == step:
                found = self._columns[wanted.name]
                for start in list(found):
                    if not changed.isdisjoint(range(start, start + wanted.column, step)):
                        del found[start]
