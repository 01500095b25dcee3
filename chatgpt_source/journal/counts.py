"""The journal's last known counts, for the page, the metrics and the probes.

A read ends when the journal's patience ends, even if the disk hangs, and then returns the last
known counts with their age. Callers at the same time share one read.
"""

import attrs
from attrs import field, frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from chatgpt_source.errors import JournalUnavailable
from chatgpt_source.journal import Journal, Tally
from chatgpt_source.journal.reading import SharedReading
from chatgpt_source.quota import Calendar


@frozen
class Counted:
    """The last known counts.

    Attributes:
        tally: The counts; None if the journal was never read.
        at: When they were read, by the steady clock.
        trouble: Why the journal can't be read now, for people; None if it can.
    """

    tally: Tally | None = None
    at: float | None = None
    trouble: str | None = None


@attrs.define(eq=False, repr=False)
class Counts:
    """Reads the journal's counts.

    Args:
        clock: The time.
        calendar: Says which day it is.
        journal: The journal.
    """

    _clock: IReactorTime
    _calendar: Calendar
    _journal: Journal
    _known: Counted = field(init=False, factory=Counted)
    _reading: SharedReading[Counted] = field(init=False)

    @_reading.default
    def _make_reading(self) -> SharedReading[Counted]:
        return SharedReading(self._read)

    def read(self) -> Deferred[Counted]:
        """The current counts, or the last known ones and why there are no others."""
        return self._reading.read()

    async def _read(self) -> Counted:
        now = self._clock.seconds()
        day = self._calendar.day(self._journal.date).date
        try:
            tally = await self._journal.tally(day)
        except JournalUnavailable as error:
            return attrs.evolve(self._known, trouble=error.reason)
        self._known = Counted(tally, now)
        return self._known
