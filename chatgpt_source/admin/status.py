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
from chatgpt_source.clock import date_of, wall
from chatgpt_source.intake.health import UNKNOWN, WELL, Health
from chatgpt_source.journal import Pause, Tally, rfc3339
from chatgpt_source.pipeline.batching import NO_ROOM
from chatgpt_source.pipeline.breaker import Breaker
from chatgpt_source.pipeline.pauses import in_words
from chatgpt_source.prompt import DEAD_LETTER, MODEL, State
from chatgpt_source.quota import clock_time

_HELD_BACK = {MODEL: "prompts", DEAD_LETTER.label: "dead letters"}
"""What waits for a peer; for a target, events do."""


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
        return Tiers(self.health)

    @property
    def breakers(self) -> Mapping[str, Breaker]:
        """The circuit breaker of each peer, by its label."""
        return self.health.pipeline.breakers

    async def to_dict(self) -> dict[str, Any]:
        """The status; if the journal can't be read, with its last counts and their time."""
        clock, config = self.health.clock, self.health.config
        _, ready = await self.health.ready()
        counted = await self.health.counts.read()
        tally, now = counted.tally, wall(clock)
        day = self.health.calendar.day(now)
        limit = config.everyday_limit
        return {
            "version": __version__,
            "now": rfc3339(now),
            **ready,
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
            "daemon": this_daemon(self.health.journal, tally).to_dict(),
            "calls": {peer: _calls(breaker, clock) for peer, breaker in self.breakers.items()},
            "paused": [paused(each) for each in self.health.pipeline.pauses.current],
            "troubles": self.troubles(ready["checks"]),
        }

    def oldest_age(self, tally: Tally) -> float:
        """Seconds since the oldest prompt of the backlog was accepted; 0 if there is none."""
        return 0 if tally.oldest is None else max(0, wall(self.health.clock) - tally.oldest)

    def troubles(self, checks: Mapping[str, str]) -> list[str]:
        """What is not well, by the checks of /readyz, in words, with settings in backticks."""
        unwell = {name: told for name, told in checks.items() if told not in WELL}
        troubles = [f"the journal {unwell['journal']}"] if "journal" in unwell else []
        troubles += [self._trouble(*each) for each in self.breakers.items()]
        troubles.append(self._trouble(MODEL, self.health.pipeline.polls))
        troubles += self.health.pipeline.missing_fallbacks.values()
        troubles += self.health.pipeline.missing.values()
        troubles += [unwell.get(name, "") for name in ("failures", "quota", "backlog")]
        if unwell.get("openai.batch") == NO_ROOM:
            troubles.append(NO_ROOM)
        troubles += map(self._told_of, self.health.pipeline.pauses.current)
        return [sentence(trouble) for trouble in troubles if trouble]

    def _told_of(self, pause: Pause) -> str:
        zone, now = self.health.config.timezone, wall(self.health.clock)
        since = clock_time(pause.since, now, zone)
        return f"{in_words(pause.what)} is paused (since {since}, by {pause.who})"

    def _trouble(self, peer: str, breaker: Breaker) -> str:
        """What is not well with a peer, since when, and what waits; empty if all is well."""
        if breaker.trouble is None:
            return ""
        clock, config = self.health.clock, self.health.config
        what, colon, advice = breaker.trouble.partition(": ")

        def clock_says(instant: float) -> str:
            return clock_time(date_of(instant, clock), wall(clock), config.timezone)

        since = "" if breaker.since is None else f" (since {clock_says(breaker.since)})"
        told = f"{self._who(peer)}{what}{since}{colon}{advice}"
        stand_in = self.health.pipeline.route.stand_in(clock.seconds())
        if peer == MODEL and stand_in is not None:
            return f"{told}. The fallback `{stand_in}` is asked in its place"
        if not breaker.held or peer.startswith(f"{MODEL}."):
            return told
        now = clock.seconds()
        due = f"at {clock_says(breaker.opens_at)}" if breaker.opens_at > now else "due"
        long = breaker.since is not None and now - breaker.since > config.give_up_after
        wait = "wait, by now for longer than `give_up_after`" if long else "wait"
        return f"{told}. All {_HELD_BACK.get(peer, 'events')} {wait}; the next try is {due}"

    def _who(self, peer: str) -> str:
        """Who is meant, if "the model" may not be clear."""
        names = {stop.peer: stop.name for stop in self.health.pipeline.route.stops[1:]}
        return f"the fallback `{names[peer]}`: " if peer in names else ""


def paused(pause: Pause) -> dict[str, Any]:
    """A pause for JSON."""
    return {"what": pause.what, "who": pause.who, "since": rfc3339(pause.since)}


def untried(checks: Mapping[str, str]) -> str | None:
    """What was not tried yet, in words; None if all was tried."""
    model, target = (checks[name] == UNKNOWN for name in ("openai", "target"))
    if model and target:
        return "Nothing tried yet"
    if model or target:
        return f"The {'model' if model else 'target'} was not tried yet"
    return None


def _calls(breaker: Breaker, clock: IReactorTime) -> dict[str, Any]:
    circuit = "throttled" if breaker.throttled(clock.seconds()) else "closed"
    return {
        "under_way": breaker.under_way,
        "limit": breaker.limit,
        "circuit": "open" if breaker.held else circuit,
        "trouble": breaker.trouble,
        "since": None if breaker.since is None else rfc3339(date_of(breaker.since, clock)),
    }
