"""The daemon's status as JSON: what is not well and since when, and what is left of the day."""

from collections.abc import Mapping
from math import ceil
from typing import Any

from attrs import field, frozen
from twisted.internet.interfaces import IReactorTime

from chatgpt_source import __version__
from chatgpt_source.admin.daemon import this_daemon
from chatgpt_source.admin.tiers import Tiers
from chatgpt_source.admin.words import sentence
from chatgpt_source.clock import date_of, rfc3339, wall
from chatgpt_source.health.judge import Judge
from chatgpt_source.health.times import Times
from chatgpt_source.health.trouble import Judgement, Trouble, line
from chatgpt_source.intake.health import Health
from chatgpt_source.journal import Tally
from chatgpt_source.pipeline.breaker import Breaker
from chatgpt_source.prompt import State


@frozen
class Status:
    """Reads the status.

    Attributes:
        health: Knows what is not well.
        tiers: Reads the batches, and what waits for each tier.
    """

    health: Health
    tiers: Tiers = field(init=False)

    @tiers.default
    def _make_tiers(self) -> Tiers:
        return Tiers(self.judge)

    @property
    def judge(self) -> Judge:
        """Judges how well the daemon is; it has the daemon's parts."""
        return self.health.judge

    @property
    def breakers(self) -> Mapping[str, Breaker]:
        """The circuit breaker of each peer, by its label."""
        return self.judge.pipeline.breakers

    async def to_dict(self) -> dict[str, Any]:
        """The status; if the journal can't be read, with its last counts and their time."""
        judge = self.judge
        clock, config = judge.clock, judge.config
        judgement = await judge.judge()
        _, ready = self.health.told(judgement)
        counted = judge.counted
        tally, now = counted.tally, wall(clock)
        day = judge.calendar.day(now)
        limit = config.everyday_limit
        return {
            "version": __version__,
            "now": rfc3339(now),
            **ready,
            "health": _health(judgement),
            "quota": {
                "limit": limit,
                "used": tally and tally.used,
                "left": tally and max(0, limit - tally.used),
                "resets": rfc3339(day.end),
                "seconds_left": max(0, ceil(day.end - now)),
                "timezone": config.timezone.key,
            },
            "counted": rfc3339(None if counted.at is None else date_of(counted.at, clock)),
            "prompts": tally and {state.value: tally.prompts[state] for state in State},
            "backlog": tally and {"count": tally.backlog, "oldest_seconds": self.oldest_age(tally)},
            "tiers": (await self.tiers.read()).counts(),
            "daemon": this_daemon(judge.journal, tally).to_dict(),
            "calls": {peer: _calls(breaker, clock) for peer, breaker in self.breakers.items()},
            "paused": [each.to_dict() for each in judge.pipeline.pauses.current],
            "troubles": [sentence(line(each, self.times)) for each in judgement.troubles],
        }

    def oldest_age(self, tally: Tally) -> float:
        """Seconds since the oldest prompt of the backlog was accepted; 0 if there is none."""
        return 0 if tally.oldest is None else max(0, wall(self.judge.clock) - tally.oldest)

    @property
    def times(self) -> Times:
        """This moment."""
        return Times.of(self.judge.clock, self.judge.config.timezone)


def _health(judgement: Judgement) -> dict[str, Any]:
    return {
        "level": judgement.level.value,
        "headline": judgement.headline,
        "troubles": [_trouble(each) for each in judgement.troubles],
    }


def _trouble(trouble: Trouble) -> dict[str, Any]:
    return {
        "check": trouble.check,
        "level": trouble.level.value,
        "what": sentence(trouble.told),
        "since": rfc3339(trouble.since),
        "meaning": sentence(trouble.meaning),
        "next_try": rfc3339(trouble.next_try),
        "advice": sentence(trouble.advice),
        "peer": trouble.peer,
    }


def _calls(breaker: Breaker, clock: IReactorTime) -> dict[str, Any]:
    circuit = "throttled" if breaker.throttled(clock.seconds()) else "closed"
    return {
        "under_way": breaker.under_way,
        "limit": breaker.limit,
        "circuit": "open" if breaker.held else circuit,
        "trouble": breaker.trouble,
        "since": None if breaker.since is None else rfc3339(date_of(breaker.since, clock)),
    }
