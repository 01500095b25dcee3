"""Counts the callers who were turned away lately, by the reason."""

from collections import Counter
from collections.abc import Mapping
from math import floor

from attrs import define, field, frozen
from twisted.internet.interfaces import IReactorTime

from chatgpt_source.telemetry.observer import Observer, RefusalReason

WINDOW = 15
"""Minutes for which a refusal counts."""
CALLERS_OWN = {
    RefusalReason.INVALID,
    RefusalReason.TOO_LARGE,
    RefusalReason.CHARSET,
    RefusalReason.KEY_REUSED,
    RefusalReason.UNAUTHORIZED,
    RefusalReason.CROSS_SITE,
}
"""Reasons that only the caller can mend."""


@frozen
class TurnedAway:
    """The callers who were turned away lately.

    Attributes:
        since: When the first of them was, by the steady clock.
        counts: How many, by the reason.
    """

    since: float
    counts: Mapping[RefusalReason, int]


@define(eq=False, repr=False)
class Refusals(Observer):
    """An observer of refused prompts: one counter a minute, for `WINDOW` minutes."""

    _clock: IReactorTime
    _minutes: dict[int, Counter[RefusalReason]] = field(init=False, factory=dict)
    _since: float = field(init=False, default=0.0)

    def refused(self, *, reason: RefusalReason) -> None:
        """A prompt was refused."""
        if reason in CALLERS_OWN:
            return
        minute = self._minute()
        if minute not in self._minutes:
            if not self._lately():
                self._since = self._clock.seconds()
            self._minutes[minute] = Counter()
        self._minutes[minute][reason] += 1

    def turned_away(self) -> TurnedAway | None:
        """Who was turned away lately; None if nobody was."""
        counts = self._lately()
        return TurnedAway(self._since, counts) if counts else None

    def _lately(self) -> Counter[RefusalReason]:
        first = self._minute() - WINDOW
        for minute in [each for each in self._minutes if each < first]:
            del self._minutes[minute]
        return sum(self._minutes.values(), Counter[RefusalReason]())

    def _minute(self) -> int:
        return floor(self._clock.seconds() / 60)
