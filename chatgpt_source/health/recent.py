"""Watches whether too many of the last prompts failed.

It keeps the last `MOST` ends in memory. Those count that are not older than `WINDOW`. If there are
none, the last ones count for as long as nothing succeeds: silence mends nothing.
"""

from collections import Counter, deque
from collections.abc import Collection, Sequence

from attrs import define, evolve, field, frozen
from twisted.internet.interfaces import IReactorTime

from chatgpt_source.journal import End, reason_of
from chatgpt_source.prompt import State
from chatgpt_source.telemetry.observer import AskEnded, DeliveryEnded, Observer

MOST = 100
WINDOW = 900.0
"""Seconds for which an end counts, if there are later ones."""
SHARE = 0.1
LEAST = 3
MOST_OF_FEW = 0.5
"""Too many failed if they are more than the first share and so many, or the second share."""


@frozen
class Failures:
    """Too many failures among the last ends.

    Attributes:
        failed: How many failed.
        ended: How many ended.
        since: When it began, by the steady clock.
        why: The most frequent reason, in short.
    """

    failed: int
    ended: int
    since: float
    why: str

    @property
    def nothing_succeeds(self) -> bool:
        """Whether all failed, and enough to say so."""
        return self.failed == self.ended >= LEAST


@define
class Recent(Observer):
    """An observer of how prompts end."""

    _clock: IReactorTime
    _ends: deque[End] = field(init=False, factory=lambda: deque(maxlen=MOST))
    _since: float | None = field(init=False, default=None)

    def seed(self, ends: Sequence[End]) -> None:
        """Add ends from before this process, the latest first."""
        known, now = {end.id for end in self._ends}, self._clock.seconds()
        for end in ends:
            if end.id not in known and len(self._ends) < MOST:
                self._ends.appendleft(evolve(end, at=min(end.at, now)))

    @property
    def tried(self) -> bool:
        """Whether any prompt is known to have ended."""
        return bool(self._ends)

    @property
    def failed(self) -> Collection[str]:
        """The ids of the failures that are known."""
        return [end.id for end in self._ends if end.state is State.FAILED]

    def forget(self, ids: Collection[str]) -> None:
        """Forget how some prompts ended: they were redriven or purged."""
        gone = set(ids)
        self._ends = deque((end for end in self._ends if end.id not in gone), MOST)

    def redriven(self, *, prompt_id: str, **_: object) -> None:
        """A failed prompt was redriven, or purged."""
        self.forget([prompt_id])

    purged = redriven

    def asked(self, ended: AskEnded | DeliveryEnded) -> None:
        """A call to the model, or to a receiver of events, has ended."""
        if ended.state in {State.DELIVERED, State.FAILED}:
            self._ends.append(End(ended.id, ended.state, self._clock.seconds(), ended.reason))
            if ended.state is State.FAILED or self._since is not None:
                self.failures()

    sent = asked

    def ratio(self) -> float:
        """The share of failures among the ends within `WINDOW`, from 0 to 1; 0 if none."""
        ends = self._lately()
        return len(_failed(ends)) / len(ends) if ends else 0.0

    def failures(self) -> Failures | None:
        """The failures, if they are too many."""
        ends = self._lately() or self._since_success()
        failed = _failed(ends)
        share = len(failed) / len(ends) if ends else 0.0
        if not (share >= MOST_OF_FEW or (share > SHARE and len(failed) >= LEAST)):
            self._since = None
            return None
        if self._since is None:
            self._since = failed[0].at
        ((why, _),) = Counter(reason_of(end.error or "") for end in failed).most_common(1)
        return Failures(len(failed), len(ends), self._since, why)

    def _lately(self) -> Sequence[End]:
        """The ends within `WINDOW`."""
        now = self._clock.seconds()
        return [end for end in self._ends if now - end.at <= WINDOW]

    def _since_success(self) -> Sequence[End]:
        """The failures since the last success."""
        failed: deque[End] = deque()
        for end in reversed(self._ends):
            if end.state is not State.FAILED:
                break
            failed.appendleft(end)
        return failed


def _failed(ends: Sequence[End]) -> Sequence[End]:
    return [end for end in ends if end.state is State.FAILED]
