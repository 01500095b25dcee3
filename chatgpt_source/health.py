"""/healthz and /readyz: whether the process works, and what is not well, in words."""

from collections.abc import Mapping
from typing import Any

from attrs import field, frozen
from twisted.internet.interfaces import IReactorTime

from chatgpt_source.config import Config
from chatgpt_source.journal import Journal
from chatgpt_source.journal.counts import Counts
from chatgpt_source.pipeline import Pipeline
from chatgpt_source.quota import Calendar

OK = "ok"


@frozen
class Health:
    """What the health endpoints are answered from."""

    clock: IReactorTime
    config: Config
    calendar: Calendar
    journal: Journal
    pipeline: Pipeline
    counts: Counts = field(init=False)

    @counts.default
    def _make_counts(self) -> Counts:
        return Counts(self.clock, self.calendar, self.journal)

    def alive(self) -> Mapping[str, Any]:
        """The body of /healthz, whose status is always 200."""
        return {"status": OK}

    async def ready(self) -> tuple[int, Mapping[str, Any]]:
        """The status and body of /readyz.

        It is 503 only while draining or while the journal can't be written: what else may be down
        must not take the 429s and `GET /prompts/<id>` off a Kubernetes Service.
        """
        counted = await self.counts.read()
        tally, quota, backlog = counted.tally, OK, OK
        journal = self._journal_check()
        if counted.trouble is not None:
            journal = f"can't be read: {counted.trouble}"
        if tally is not None:
            if tally.used >= self.config.everyday_limit:
                quota = f"all {self.config.everyday_limit} prompts of the day are used up"
            if tally.backlog >= self.config.max_backlog:
                backlog = f"{tally.backlog} prompts wait, as many as `max_backlog` allows"
        checks = {
            "journal": journal,
            "openai": self.pipeline.model.trouble or OK,
            "target": self.pipeline.target.trouble or OK,
            "quota": quota,
            "backlog": backlog,
        }
        if self.pipeline.draining:
            checks["backlog"] = "stopping: nothing more is accepted"
        if self.pipeline.draining or journal != OK:
            return 503, {"status": "not ready", "checks": checks}
        well = all(check == OK for check in checks.values())
        return 200, {"status": "ready" if well else "degraded", "checks": checks}

    def _journal_check(self) -> str:
        fault = self.journal.fault
        return OK if fault is None else f"can't be written: {fault}"
