"""Reads the batches, and what waits for each tier."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from attrs import define, field, frozen

from chatgpt_source.clock import date_of, rfc3339
from chatgpt_source.errors import JournalUnavailable
from chatgpt_source.health.judge import Judge
from chatgpt_source.journal import Batch, Phase, TierTally
from chatgpt_source.pipeline.batch_calls import Progress
from chatgpt_source.prompt import Tier


@frozen
class SeenBatch:
    """A batch, as operators see it; its instants are dates.

    Attributes:
        batch: The batch; its deadline is one of the steady clock.
        prompts: How many prompts are in it.
        deadline: The first deadline of its prompts; None while it is gathered.
        trouble: Why the last call about it failed, in words; None if it did not, or if another
            daemon makes the calls.
        next_try: When the next call about it is due, if this daemon knows.
    """

    batch: Batch
    prompts: int
    deadline: float | None = None
    trouble: str | None = None
    next_try: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """The batch for JSON."""
        return {
            "id": self.batch.id,
            "key": self.batch.key,
            "state": self.batch.phase.value,
            "prompts": self.prompts,
            "created": rfc3339(self.batch.created),
            "deadline": rfc3339(self.deadline),
            "remote": self.batch.remote,
            "file": self.batch.file,
            "trouble": self.trouble,
            "next_try": rfc3339(self.next_try),
        }


@frozen
class SeenTiers:
    """The batches, and what waits, at one moment; its instants are dates.

    Attributes:
        waiting: How many accepted prompts each tier is to serve; empty if that was never read.
        batches: The batches, the oldest first.
        at: When they were read; None if they never were.
        is_old: Whether they can't be read now, so that these are the last known.
        offered: Whether prompts go into batches by the settings.
        trouble: Why batches are held or fail, in words; None if they do not.
        next_try: When the next call or batch may follow; None if it may now.
    """

    waiting: Mapping[Tier, int] = field(factory=dict)
    batches: Sequence[SeenBatch] = ()
    at: float | None = None
    is_old: bool = False
    offered: bool = False
    trouble: str | None = None
    next_try: float | None = None

    @property
    def phases(self) -> Mapping[Phase, int]:
        """How many batches are in each state."""
        counted = Counter(each.batch.phase for each in self.batches)
        return {phase: counted[phase] for phase in Phase}

    @property
    def is_shown(self) -> bool:
        """Whether there is something to show of batches."""
        return self.offered or bool(self.batches)

    def counts(self) -> dict[str, Any]:
        """The counts for JSON."""
        known = self.at is not None
        return {
            "waiting": {tier.value: each for tier, each in self.waiting.items()} if known else None,
            "batches": {p.value: n for p, n in self.phases.items()} if known else None,
            "trouble": self.trouble,
            "next_try": rfc3339(self.next_try),
            "counted": rfc3339(self.at),
        }

    def to_dict(self) -> dict[str, Any]:
        """All of it for JSON."""
        told = self.counts()
        told["batches"] = [each.to_dict() for each in self.batches]
        return told


@define(eq=False, repr=False)
class Tiers:
    """Reads the tiers; if the journal can't be read, the last known ones.

    Args:
        judge: Has the daemon's parts.
    """

    _judge: Judge
    _known: TierTally | None = field(init=False, default=None)
    _at: float | None = field(init=False, default=None)

    async def read(self) -> SeenTiers:
        """What there is now."""
        clock, pipeline, is_old = self._judge.clock, self._judge.pipeline, False
        try:
            self._known = await self._judge.journal.tally_tiers()
            self._at = clock.seconds()
        except JournalUnavailable:
            is_old = True
        known, batching = self._known or TierTally({}), pipeline.batching
        due = None if batching is None else batching.opens_at
        progress = {} if batching is None else batching.progress
        return SeenTiers(
            known.waiting,
            [
                self._seen(batch, prompts, progress.get(batch.id, Progress()))
                for batch, prompts in known.batches
            ],
            at=self._date(self._at),
            is_old=is_old,
            offered=pipeline.offers_batches,
            trouble=None if batching is None else batching.trouble,
            next_try=self._date(due) if due is not None and due > clock.seconds() else None,
        )

    def _seen(self, batch: Batch, prompts: int, progress: Progress) -> SeenBatch:
        deadline, next_try = self._date(batch.deadline), self._date(progress.next_try)
        return SeenBatch(batch, prompts, deadline, progress.trouble, next_try)

    def _date(self, instant: float | None) -> float | None:
        return None if instant is None else date_of(instant, self._judge.clock)
