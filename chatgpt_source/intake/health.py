"""Answers /healthz and /readyz: whether the process works, and what is not well."""

from collections.abc import Mapping
from typing import Any

from attrs import frozen

from chatgpt_source.health.judge import MODEL_CHECK, Judge
from chatgpt_source.health.times import Times
from chatgpt_source.health.trouble import Judgement, line
from chatgpt_source.prompt import DEAD_LETTER, receiver_at

PROBES = ("/healthz", "/readyz")
"""Paths of Kubernetes' probes, which come every few seconds and have no credentials."""
OK = "ok"
UNKNOWN = "unknown"
"""The result of a check if nothing was tried yet, or nobody can say."""
UNUSABLE = "journal"
"""The check whose trouble makes the daemon unready."""


@frozen(eq=False, repr=False)
class Health:
    """Answers the health endpoints by the daemon's one judgement.

    Attributes:
        judge: Makes the judgement, of parts that it holds.
    """

    judge: Judge

    async def ready(self) -> tuple[int, Mapping[str, Any]]:
        """The status and body of /readyz.

        It is 503 only while draining or while the journal can't be written. Other troubles must not
        make Kubernetes remove the pod from the Service, which still serves `GET /prompts/<id>`.
        """
        return self.told(await self.judge.judge())

    def told(self, judgement: Judgement) -> tuple[int, Mapping[str, Any]]:
        """A judgement as /readyz tells it: what is not well now has its check."""
        judge = self.judge
        times = Times.of(judge.clock, judge.config.timezone)
        checks, unwell = self._checks(), dict[str, list[str]]()
        for trouble in judgement.troubles:
            if trouble.is_warning:
                continue
            unwell.setdefault(trouble.check, []).append(line(trouble, times, public=True))
        checks |= {check: "; ".join(lines) for check, lines in unwell.items()}
        word = "degraded" if unwell else "ready"
        is_ready = not judge.pipeline.draining and UNUSABLE not in unwell
        body = {
            "status": word if is_ready else "not ready",
            "health": judgement.level.value,
            "checks": checks,
        }
        return 200 if is_ready else 503, body

    def _checks(self) -> dict[str, str]:
        """The checks, as if all were well: which of them were tried, and can be read."""
        pipeline = self.judge.pipeline
        tried = {
            MODEL_CHECK: pipeline.has_tried_model,
            **{
                f"{MODEL_CHECK}.{stop.name}": stop.breaker.tried
                for stop in pipeline.route.stops[1:]
            },
            **self._batches_tried(),
            **{
                receiver_at(name).label: breaker.tried
                for name, breaker in pipeline.receivers.items()
                if name != DEAD_LETTER.destination
            },
            "failures": self.judge.recent.tried,
        }
        is_counted = self.judge.counted.tally is not None and not self.judge.counted.trouble
        return {
            UNUSABLE: OK,
            **dict.fromkeys(("quota", "backlog"), OK if is_counted else UNKNOWN),
            **{check: OK if was else UNKNOWN for check, was in tried.items()},
        }

    def _batches_tried(self) -> Mapping[str, bool]:
        """Whether batches were tried, where there may be any."""
        pipeline = self.judge.pipeline
        batching = pipeline.batching
        if batching is None or not pipeline.offers_batches:
            return {}
        return {f"{MODEL_CHECK}.batch": batching.breaker.tried}
