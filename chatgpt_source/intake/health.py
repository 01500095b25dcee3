"""Answers /healthz and /readyz: whether the process works, and what is not well."""

from collections.abc import Mapping
from typing import Any

from attrs import field, frozen
from twisted.internet.interfaces import IReactorTime

from chatgpt_source.config import Config
from chatgpt_source.intake.recent import Recent
from chatgpt_source.journal import Journal
from chatgpt_source.journal.counts import Counts
from chatgpt_source.pipeline import Pipeline
from chatgpt_source.pipeline.pauses import in_words
from chatgpt_source.prompt import DEAD_LETTER, receiver_at
from chatgpt_source.quota import Calendar

PROBES = ("/healthz", "/readyz")
"""Paths of Kubernetes' probes, which come every few seconds and have no credentials."""
OK = "ok"
UNKNOWN = "unknown"
"""The result of a check if nothing was tried yet."""
WELL = {OK, UNKNOWN}


@frozen
class Health:
    """Answers the health endpoints; `recent` observes how prompts end."""

    clock: IReactorTime
    config: Config
    calendar: Calendar
    journal: Journal
    pipeline: Pipeline
    recent: Recent
    counts: Counts = field(init=False)

    @counts.default
    def _make_counts(self) -> Counts:
        return Counts(self.clock, self.calendar, self.journal)

    async def ready(self) -> tuple[int, Mapping[str, Any]]:
        """The status and body of /readyz.

        It is 503 only while draining or while the journal can't be written. Other troubles must not
        make Kubernetes remove the pod from the Service, which still serves `GET /prompts/<id>`.
        """
        counted = await self.counts.read()
        tally, quota, backlog = counted.tally, OK, OK
        fault = self.journal.fault
        journal = OK if fault is None else f"can't be written: {fault}"
        if counted.trouble is not None:
            journal = f"can't be read: {counted.trouble}"
        if tally is not None:
            if tally.used >= self.config.everyday_limit:
                quota = f"all {self.config.everyday_limit} prompts of the day are used up"
            if tally.backlog >= self.config.max_backlog:
                backlog = f"{tally.backlog} prompts wait, as many as `max_backlog` allows"
        checks = {
            "journal": journal,
            "openai": _check(
                self._trouble_of_model() or self.pipeline.polls.trouble,
                self.pipeline.has_tried_model,
            ),
            **{
                f"openai.{stop.name}": _check(stop.breaker.trouble, stop.breaker.tried)
                for stop in self.pipeline.route.stops[1:]
            },
            **self._of_batches(),
            **{
                receiver_at(name).label: _check(breaker.trouble, breaker.tried)
                for name, breaker in self.pipeline.receivers.items()
                if name != DEAD_LETTER.destination
            },
            **{f"openai.{name}": told for name, told in self.pipeline.missing_fallbacks.items()},
            **{receiver_at(name).label: told for name, told in self.pipeline.missing.items()},
            "quota": quota,
            "backlog": backlog,
            "failures": _check(self.recent.trouble(self.config.timezone), self.recent.tried),
        }
        paused = [in_words(each.what) for each in self.pipeline.pauses.current]
        if paused:  # who paused it is told to operators alone
            checks["paused"] = f"an operator has paused {' and '.join(paused)}"
        if self.pipeline.draining:
            checks["backlog"] = "stopping: nothing more is accepted"
        if self.pipeline.draining or journal != OK:
            return 503, {"status": "not ready", "checks": checks}
        well = all(check in WELL for check in checks.values())
        return 200, {"status": "ready" if well else "degraded", "checks": checks}

    def _of_batches(self) -> Mapping[str, str]:
        """The check of batches, where there are any, or what was sent before fails."""
        batching = self.pipeline.batching
        if batching is None or not (self.pipeline.offers_batches or batching.trouble):
            return {}
        return {"openai.batch": _check(batching.trouble, batching.breaker.tried)}

    def _trouble_of_model(self) -> str | None:
        """What is not well with the first provider, and who is asked in its place."""
        trouble = self.pipeline.model.trouble
        stand_in = self.pipeline.route.stand_in(self.clock.seconds())
        if trouble is None or stand_in is None:
            return trouble
        return f"{trouble}; the fallback `{stand_in}` is asked in its place"


def _check(trouble: str | None, tried: bool) -> str:  # noqa: FBT001 - private
    return trouble or (OK if tried else UNKNOWN)
