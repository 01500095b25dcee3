"""Counts prompts and latencies of the last hour, minute by minute.

It is in memory and bounded: 60 minutes, each with a histogram of at most `_BUCKETS` counts.
"""

from collections import Counter
from collections.abc import Sequence
from math import floor, log

from attrs import define, field
from twisted.internet.interfaces import IReactorTime

from chatgpt_source.clock import wall
from chatgpt_source.prompt import State, Tier
from chatgpt_source.telemetry.observer import AskEnded, DeliveryEnded, Observer

MINUTES = 60
_GROWTH = 1.08
"""The ratio of a bucket to the one before it: a quantile is off by 4 % at most."""
_LEAST = 0.001
_BUCKETS = 300
"""Buckets from 1 ms to over a hundred days."""


class Latencies(Counter[int]):
    """A histogram of durations: how many are in each bucket; buckets grow exponentially."""

    def add(self, seconds: float) -> None:
        """Count one duration."""
        bucket = floor(log(max(seconds, _LEAST) / _LEAST) / log(_GROWTH))
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


COUNTED = (State.ACCEPTED, State.DELIVERED, State.FAILED)
"""The states whose prompts are counted when they reach them."""

CHEAP = {Tier.FLEX.value, Tier.BATCH.value}
"""The tiers that cost half the price."""


@define
class Minute:
    """What happened in a period: one minute, or several merged.

    Attributes:
        start: When it began.
        prompts: How many prompts reached each of the states `COUNTED`.
        latencies: From accepted to delivered.
        cheap: How many answers were billed at half the price.
    """

    start: float
    prompts: Counter[State] = field(factory=Counter)
    latencies: Latencies = field(factory=Latencies)
    cheap: int = 0

    @property
    def quantiles(self) -> tuple[float, float] | None:
        """The median and 95th percentile of the latencies, in seconds; None if there are none."""
        median, high = self.latencies.quantile(0.5), self.latencies.quantile(0.95)
        return None if median is None or high is None else (median, high)


def together(minutes: Sequence[Minute]) -> Minute:
    """One or more minutes, merged into one period."""
    whole = Minute(minutes[0].start)
    for minute in minutes:
        whole.prompts += minute.prompts
        whole.latencies += minute.latencies
        whole.cheap += minute.cheap
    return whole


class History(Observer):
    """Counts what happens, and forgets what is more than an hour old.

    Args:
        clock: The time.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._minutes: dict[int, Minute] = {}

    def accepted(self, **_: object) -> None:
        """A prompt was accepted."""
        self._now().prompts[State.ACCEPTED] += 1

    def asked(self, ended: AskEnded | DeliveryEnded) -> None:
        """A call to the model, or to a receiver of events, has ended."""
        answer = ended.answer if isinstance(ended, AskEnded) else None
        if answer is not None and answer.service_tier in CHEAP:
            self._now().cheap += 1
        if ended.state in {State.DELIVERED, State.FAILED}:
            minute = self._now()
            minute.prompts[ended.state] += 1
            if ended.state is State.DELIVERED:
                minute.latencies.add(ended.date - ended.accepted)

    sent = asked

    def minutes(self) -> list[Minute]:
        """The last 60 minutes, the oldest first; the last is the current one."""
        last = self._number()
        return [
            self._minutes.get(number) or Minute(number * 60.0)
            for number in range(last - MINUTES + 1, last + 1)
        ]

    def _number(self) -> int:
        return floor(wall(self._clock) / 60)

    def _now(self) -> Minute:
        number = self._number()
        minute = self._minutes.get(number)
        if minute is None:
            minute = self._minutes[number] = Minute(number * 60.0)
            for other in [*self._minutes]:  # also minutes ahead of a clock that was set back
                if not number - MINUTES < other <= number:
                    del self._minutes[other]
        return minute
