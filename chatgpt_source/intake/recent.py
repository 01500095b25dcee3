"""Watches whether too many of the last prompts failed.

It keeps the last `MOST` ends in memory, if they are not older than `WINDOW`.
"""

import re
from collections import Counter, deque
from collections.abc import Sequence
from zoneinfo import ZoneInfo

from attrs import define, evolve, field
from twisted.internet.interfaces import IReactorTime

from chatgpt_source.clock import date_of, wall
from chatgpt_source.journal import End
from chatgpt_source.prompt import State
from chatgpt_source.quota import clock_time
from chatgpt_source.telemetry.observer import AskEnded, DeliveryEnded, Observer

MOST = 100
WINDOW = 900.0
"""Seconds for which an end counts."""
SHARE = 0.1
LEAST = 3
MOST_OF_FEW = 0.5
"""Too many failed if they are more than the first share and so many, or the second share."""


@define
class Recent(Observer):
    """An observer of how prompts end."""

    _clock: IReactorTime
    tried: bool = field(init=False, default=False)
    """Whether any prompt has ended."""
    _ends: deque[End] = field(init=False, factory=lambda: deque(maxlen=MOST))
    _since: float | None = field(init=False, default=None)

    def seed(self, ends: Sequence[End]) -> None:
        """Add ends from before this process, the latest first."""
        known, now = {end.id for end in self._ends}, self._clock.seconds()
        for end in ends:
            if end.id not in known and len(self._ends) < MOST:
                self._ends.appendleft(evolve(end, at=min(end.at, now)))
        self.tried = self.tried or bool(ends)

    def redriven(self, *, prompt_id: str, **_: object) -> None:
        """A failed prompt was redriven, or purged: forget its end."""
        self._ends = deque((end for end in self._ends if end.id != prompt_id), MOST)

    purged = redriven

    def asked(self, ended: AskEnded | DeliveryEnded) -> None:
        """A call to the model, or to a receiver of events, has ended."""
        if ended.state in {State.DELIVERED, State.FAILED}:
            self.tried = True
            self._ends.append(End(ended.id, ended.state, self._clock.seconds(), ended.reason))
            if ended.state is State.FAILED or self._since is not None:
                self._failed()

    sent = asked

    def ratio(self) -> float:
        """The share of failures among the last ends, from 0 to 1; 0 if none ended."""
        ends, failed = self._lately()
        return len(failed) / len(ends) if ends else 0.0

    def trouble(self, zone: ZoneInfo) -> str | None:
        """How many failed, since when and why, in words; None if they are not too many."""
        ended, failed = len(self._lately()[0]), self._failed()
        if not failed or self._since is None:
            return None
        since = clock_time(date_of(self._since, self._clock), wall(self._clock), zone)
        ((why, _),) = Counter(_in_short(end.error or "") for end in failed).most_common(1)
        told = f"{len(failed)} of the last {ended} prompts failed since {since} (most often: {why})"
        if ended == 1:
            told = f"the last prompt failed at {since} ({why})"
        return f"{told}: see `chatgpt-source-journal list`"

    def _failed(self) -> Sequence[End]:
        """The failures, if they are too many; also notes since when."""
        failed, share = self._lately()[1], self.ratio()
        if not (share >= MOST_OF_FEW or (share > SHARE and len(failed) >= LEAST)):
            self._since = None
            return []
        if self._since is None:
            self._since = failed[0].at
        return failed

    def _lately(self) -> tuple[Sequence[End], Sequence[End]]:
        """The ends that count, and the failures among them."""
        now = self._clock.seconds()
        ends = [end for end in self._ends if now - end.at <= WINDOW]
        return ends, [end for end in ends if end.state is State.FAILED]


def _in_short(reason: str) -> str:
    """The reason without advice and details."""
    return re.split(r": | \(", reason, maxsplit=1)[0]
