"""What happened in a minute or an hour, as the journal keeps it.

Each period is counted by one owner, and is one row of the table `history`. Replicas, and the runs
of a daemon before and after a restart, count the same minute as different owners: who reads adds
their rows up.
"""

import json
from collections import Counter
from collections.abc import Mapping
from math import floor, log
from random import getrandbits
from typing import Any

from attrs import define, field

MINUTE, HOUR = 60, 3600
"""The steps: seconds that a period lasts."""
KEPT: Mapping[int, float] = {MINUTE: 25 * 3600.0, HOUR: 31 * 86400.0}
"""Seconds for which the periods of each step are kept: a day, and 30 days, with some to spare."""

_GROWTH = 1.08
"""The ratio of a bucket to the one before it: a quantile is off by 4 % at most."""
_LEAST = 0.001
_PER_BUCKET = log(_GROWTH)
_BUCKETS = 300
"""Buckets from 1 ms to over a hundred days."""


class Latencies(Counter[int]):
    """A histogram of durations: how many are in each bucket; buckets grow exponentially."""

    def add(self, seconds: float) -> None:
        """Count one duration."""
        bucket = floor(log(max(seconds, _LEAST) / _LEAST) / _PER_BUCKET)
        self[min(bucket, _BUCKETS - 1)] += 1

    def quantile(self, share: float) -> float | None:
        """The seconds that `share` (0 to 1) of all durations did not exceed; None if empty."""
        rank = share * self.total()
        seen = 0
        for bucket in sorted(self):
            seen += self[bucket]
            if seen >= rank:
                return float(_LEAST * _GROWTH ** (bucket + 0.5))
        return None


Row = tuple[int, int, int, str]
"""A row of the journal: step, start, owner, and the counts as JSON."""


def new_owner() -> int:
    """An owner that no other period has.

    One for each period, so that one whose clock was set back never takes the place of another.
    """
    return getrandbits(62) + 1


SUMS = (
    "accepted",
    "delivered",
    "failed",
    "cancelled",
    "redriven",
    "repeated",
    "cheap",
    "unpriced",
    "input_tokens",
    "output_tokens",
    "cost",
)
"""The members that are added up."""
SAMPLES = ("backlog", "used")
"""The members that are the journal's at the end of a period."""


@define
class Period:
    """What happened in a period.

    Attributes:
        step: Its seconds.
        start: When it began, a date.
        owner: Who counted it.
        accepted: Prompts that were accepted.
        delivered: Prompts that ended as they should.
        failed: Prompts that failed.
        cancelled: Prompts that were cancelled.
        redriven: Failed prompts that were taken up again.
        repeated: Requests that came again.
        cheap: Answers that were billed at half the price.
        unpriced: Answers whose price is not known, where prices are.
        input_tokens: Tokens of prompts.
        output_tokens: Tokens of answers.
        cost: What answers cost, in US dollars.
        refused: Prompts that were not accepted, by the word of the reason.
        latencies: From accepted to delivered.
        backlog: Prompts that waited at its end; None if it is not known.
        used: The day's units that were used at its end; None if it is not known.
        sampled: When these two were noted, a date; None if they are not known, or of a release that
            did not keep it.
    """

    step: int
    start: int
    owner: int = field(factory=new_owner, eq=False)
    accepted: int = 0
    delivered: int = 0
    failed: int = 0
    cancelled: int = 0
    redriven: int = 0
    repeated: int = 0
    cheap: int = 0
    unpriced: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0
    refused: Counter[str] = field(factory=Counter)
    latencies: Latencies = field(factory=Latencies)
    backlog: int | None = None
    used: int | None = None
    sampled: float | None = None

    def add(self, other: "Period") -> None:
        """Add what another one has, which began with it or later.

        The samples are the later one's; of two that began together and do not both know when theirs
        were noted, the larger.
        """
        for name in SUMS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.refused.update(other.refused)
        self.latencies.update(other.latencies)
        is_dated = self.sampled is not None and other.sampled is not None
        if is_dated and (other.sampled or 0.0) <= (self.sampled or 0.0):
            return
        for name in SAMPLES:
            ours, theirs = getattr(self, name), getattr(other, name)
            if theirs is None:
                continue
            if ours is not None and other.start == self.start and not is_dated:
                theirs = max(ours, theirs)
            setattr(self, name, theirs)
        self.sampled = other.sampled or self.sampled

    def to_row(self) -> Row:
        """Its row in the journal."""
        return self.step, self.start, self.owner, self.to_json()

    def to_json(self) -> str:
        """Its counts for the journal, without those that are 0."""
        counts: dict[str, Any] = {name: value for name in SUMS if (value := getattr(self, name))}
        samples = (*SAMPLES, "sampled")
        counts |= {name: value for name in samples if (value := getattr(self, name)) is not None}
        if self.refused:
            counts["refused"] = self.refused
        if self.latencies:
            counts["latencies"] = self.latencies
        return json.dumps(counts, separators=(",", ":"))

    @classmethod
    def from_json(cls, step: int, start: int, owner: int, text: str) -> "Period":
        """From the journal; what another release knows besides is left out."""
        told = json.loads(text)
        buckets = told.get("latencies", {}).items()
        return cls(
            step,
            start,
            owner,
            **{name: told[name] for name in (*SUMS, *SAMPLES, "sampled") if name in told},
            refused=Counter(told.get("refused", {})),
            latencies=Latencies({int(bucket): count for bucket, count in buckets}),
        )


class Merging:
    """Adds up periods with the same start, of one step, as rows of the journal come."""

    def __init__(self, step: int) -> None:
        self._step = step
        self.merged: dict[int, Period] = {}

    def add(self, start: int, owner: int, text: str) -> None:
        """Add a row."""
        found = Period.from_json(self._step, start, owner, text)
        known = self.merged.setdefault(start, found)
        if known is not found:
            known.add(found)
