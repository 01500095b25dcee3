"""The failed prompts by reason, for the page and the API, read no more often than is cheap."""

from collections.abc import Sequence
from math import inf

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from chatgpt_source.journal import FailureGroup, Journal
from chatgpt_source.journal.reading import SharedReading

SHARE = 50
"""How many times longer a reading is kept than it took: a few ms for thousands of failures, a
minute for a million."""
MOST = 100
"""Groups in a reading."""


@define(eq=False, repr=False)
class FailureGroups:
    """Reads the groups of failed prompts, the largest first.

    Args:
        clock: The time.
        journal: The journal.
    """

    _clock: IReactorTime
    _journal: Journal
    _known: Sequence[FailureGroup] = field(init=False, default=())
    _fresh_until: float = field(init=False, default=-inf)
    _changes: int = field(init=False, default=0)
    _reading: SharedReading[Sequence[FailureGroup]] = field(init=False)

    @_reading.default
    def _make_reading(self) -> SharedReading[Sequence[FailureGroup]]:
        return SharedReading(self._read)

    def forget(self) -> None:
        """Read anew: many prompts are failed no longer."""
        self._fresh_until = -inf
        self._changes += 1

    def read(self) -> Deferred[Sequence[FailureGroup]]:
        """The groups, the largest first; as they are now, or were shortly before.

        It fails with JournalUnavailable.
        """
        return self._reading.read()

    async def _read(self) -> Sequence[FailureGroup]:
        began, changes = self._clock.seconds(), self._changes
        if began < self._fresh_until:
            return self._known
        self._known = await self._journal.failure_groups(MOST)
        if changes == self._changes:  # else it may miss them
            now = self._clock.seconds()
            self._fresh_until = now + SHARE * (now - began)
        return self._known
