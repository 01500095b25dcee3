"""Watches whether too many of the last prompts failed, of all, or of those for one target.

It keeps the last `MOST` ends in memory, and the last `MOST_OF_ONE` for each target, as a target
that is seldom used has none among all. Those count that are not older than `WINDOW`. If there are
none, the last ones count for as long as nothing succeeds: silence mends nothing.
"""

from collections import Counter, deque
from collections.abc import Collection, Iterable, Mapping, Sequence

from attrs import define, evolve, field, frozen
from twisted.internet.interfaces import IReactorTime

from chatgpt_source.journal import End, reason_of
from chatgpt_source.prompt import State
from chatgpt_source.telemetry.observer import AskEnded, DeliveryEnded, Observer

MOST = 100
MOST_OF_ONE = 20
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
        targets: The targets whose prompts those are; empty: all.
    """

    failed: int
    ended: int
    since: float
    why: str
    targets: Sequence[str] = ()

    @property
    def nothing_succeeds(self) -> bool:
        """Whether all failed, and enough to say so."""
        return self.failed == self.ended >= LEAST


@define
class _Ends:
    """The last ends, in their order."""

    kept: deque[End]
    since: float | None = None
    """When there began to be too many failures; None while there are not."""

    @classmethod
    def at_most(cls, most: int) -> "_Ends":
        return cls(deque(maxlen=most))

    def merge(self, others: Iterable[End]) -> None:
        """Add some that may be older; of one prompt, the latest counts."""
        latest = {end.id: end for end in sorted([*others, *self.kept], key=lambda end: end.at)}
        self.kept = deque(sorted(latest.values(), key=lambda end: end.at), self.kept.maxlen)

    def forget(self, ids: Collection[str]) -> None:
        self.kept = deque((end for end in self.kept if end.id not in ids), self.kept.maxlen)

    def lately(self, now: float) -> Sequence[End]:
        """The ends within `WINDOW`."""
        return [end for end in self.kept if now - end.at <= WINDOW]

    def counting(self, now: float) -> Sequence[End]:
        """Those that count; those that do not succeed, if there are too many, are dated."""
        ends = self.lately(now) or self._since_success()
        failed = _failed(ends)
        share = len(failed) / len(ends) if ends else 0.0
        if not (share >= MOST_OF_FEW or (share > SHARE and len(failed) >= LEAST)):
            self.since = None
            return ()
        if self.since is None:
            self.since = failed[0].at
        return ends

    def _since_success(self) -> Sequence[End]:
        """The failures since the last success."""
        failed: deque[End] = deque()
        for end in reversed(self.kept):
            if end.state is not State.FAILED:
                break
            failed.appendleft(end)
        return failed


@define(eq=False, repr=False)
class Recent(Observer):
    """An observer of how prompts end."""

    _clock: IReactorTime
    _all: _Ends = field(init=False, factory=lambda: _Ends.at_most(MOST))
    _of_targets: dict[str, _Ends] = field(init=False, factory=dict)

    def seed(self, ends: Sequence[End], date: float) -> None:
        """Add ends from before this process, or from others.

        Args:
            ends: The ends, as the journal has them.
            date: What the journal calls now: its clock may differ from ours.
        """
        now = self._clock.seconds()
        ours = [evolve(end, at=now - max(0.0, date - end.at)) for end in ends]
        self._all.merge(ours)
        for target in {end.target for end in ours}:
            self._of(target).merge(end for end in ours if end.target == target)

    def _of(self, target: str) -> _Ends:
        return self._of_targets.setdefault(target, _Ends.at_most(MOST_OF_ONE))

    @property
    def tried(self) -> bool:
        """Whether any prompt is known to have ended."""
        return bool(self._all.kept)

    @property
    def failed(self) -> Collection[str]:
        """The ids of the failures that are known."""
        known = [*self._all.kept, *(end for each in self._of_targets.values() for end in each.kept)]
        return list(dict.fromkeys(end.id for end in _failed(known)))

    def forget(self, ids: Collection[str]) -> None:
        """Forget how some prompts ended: they were redriven or purged."""
        gone = set(ids)
        for each in (self._all, *self._of_targets.values()):
            each.forget(gone)

    def redriven(self, *, prompt_id: str, **_: object) -> None:
        """A failed prompt was redriven, or purged."""
        self.forget([prompt_id])

    purged = redriven

    def asked(self, ended: AskEnded | DeliveryEnded) -> None:
        """A call to the model, or to a receiver of events, has ended."""
        if ended.state not in {State.DELIVERED, State.FAILED}:
            return
        target = (
            ended.ask.prompt.target if isinstance(ended, AskEnded) else ended.delivery.destination
        )
        now = self._clock.seconds()
        end = End(ended.id, ended.state, now, ended.reason, target)
        for each in (self._all, self._of(target)):
            each.kept.append(end)
            if end.state is State.FAILED or each.since is not None:
                each.counting(now)

    sent = asked

    def ratio(self) -> float:
        """The share of failures among the ends within `WINDOW`, from 0 to 1; 0 if none."""
        ends = self._all.lately(self._clock.seconds())
        return len(_failed(ends)) / len(ends) if ends else 0.0

    def failures(self) -> Failures | None:
        """The failures, if they are too many: where nothing succeeds, of all, or of a target."""
        now = self._clock.seconds()
        ends = self._all.counting(now)
        of_all = _failures(ends, self._all.since)
        if len(self._of_targets) <= 1 or (of_all is not None and of_all.nothing_succeeds):
            return of_all
        of_each = self._too_many_of_each(now)
        dead = {
            name: ends
            for name, ends in of_each.items()
            if len(ends) >= LEAST and len(_failed(ends)) == len(ends)
        }
        if dead or of_all is None:
            return self._together(dead or of_each)
        return of_all

    def _too_many_of_each(self, now: float) -> Mapping[str, Sequence[End]]:
        """The ends for each target of which too many are failures."""
        counting = {name: each.counting(now) for name, each in self._of_targets.items()}
        return {name: ends for name, ends in sorted(counting.items()) if ends}

    def _together(self, of_each: Mapping[str, Sequence[End]]) -> Failures | None:
        dates = (self._of_targets[name].since for name in of_each)
        since = min((date for date in dates if date is not None), default=None)
        return _failures([end for ends in of_each.values() for end in ends], since, [*of_each])


def _failures(
    ends: Sequence[End], since: float | None, targets: Sequence[str] = ()
) -> Failures | None:
    """The failures among some ends, with a date if they are too many."""
    if since is None:
        return None
    failed = _failed(ends)
    ((why, _),) = Counter(reason_of(end.error or "") for end in failed).most_common(1)
    return Failures(len(failed), len(ends), since, why, targets)


def _failed(ends: Iterable[End]) -> Sequence[End]:
    return [end for end in ends if end.state is State.FAILED]
