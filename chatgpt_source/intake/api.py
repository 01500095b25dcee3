"""The HTTP API of the prompt port: `POST /`, `GET /prompts/<id>`, and the health endpoints.

Refusals are `application/problem+json` (RFC 9457) and change nothing.
"""

from math import ceil

from attrs import field, frozen
from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime

from chatgpt_source.clock import wall
from chatgpt_source.config import Config
from chatgpt_source.errors import (
    JournalUnavailable,
    KeyReused,
    NotAccepted,
    QuotaUsedUp,
)
from chatgpt_source.http.server import BoundedRequest, Problem, to_json
from chatgpt_source.http.server.routes import READ, WRITE, Routes
from chatgpt_source.intake.health import OK, Health
from chatgpt_source.intake.reading import read_key, read_prompt, read_request_trace
from chatgpt_source.journal import Admitted, Journal, Record, Terms
from chatgpt_source.pipeline import Pipeline
from chatgpt_source.quota import Calendar, Day
from chatgpt_source.telemetry.observer import NO_OBSERVER, Observer, RefusalReason
from chatgpt_source.telemetry.spans import NO_SPANS, Spans

QUOTA_EXCEEDED = "https://iana.org/assignments/http-problem-types#quota-exceeded"
"""The problem type that draft-ietf-httpapi-ratelimit-headers registers."""

_PROMPTS = ("/", "/api/prompts")
"""The paths that accept prompts, on the prompt port and the admin site."""


def retry_after_header(refusal: NotAccepted) -> dict[str, str]:
    """The Retry-After header field (RFC 9110, section 10.2.3)."""
    return {"Retry-After": str(max(1, ceil(refusal.retry_after)))}


def unavailable(refusal: JournalUnavailable) -> Problem:
    """The problem for a journal that can't be used at the moment."""
    detail = f"the journal can't be used: {refusal.reason}; try later"
    return Problem(503, detail, retry_after_header(refusal), word=refusal.word)


@frozen
class Intake:
    """Answers the requests to the prompt port."""

    clock: IReactorTime
    config: Config
    calendar: Calendar
    journal: Journal
    pipeline: Pipeline
    health: Health
    observer: Observer = NO_OBSERVER
    spans: Spans = NO_SPANS
    _routes: Routes = field(init=False)

    @_routes.default
    def _make_routes(self) -> Routes:
        return Routes(
            ("/", WRITE, self.prompt),
            ("/prompts/[^/]+", READ, self.status),
            ("/healthz", READ, self.alive),
            ("/readyz", READ, self.ready),
            unknown="prompts go to /, their state is at /prompts/<id>",
        )

    async def prompt(self, request: BoundedRequest) -> None:
        """Answer `POST /`; the 202 is sent once the prompt is on disk."""
        admitted, budget = await self.accept(request)
        request.answer(
            202,
            to_json({"id": admitted.id, "status": "accepted"}),
            {"Location": f"/prompts/{admitted.id}", **budget},
        )

    async def accept(self, request: BoundedRequest) -> tuple[Admitted, dict[str, str]]:
        """Accept a request's body as a prompt, and tell the observers.

        Returns:
            The journal's result, and the day's budget as header fields.

        Raises:
            Problem: If it is refused.
        """
        with self.spans.accept(read_request_trace(request)) as span:
            now = wall(self.clock)
            prompt, size = read_prompt(request, now, span.trace)
            key = read_key(request)
            day = self.calendar.day(now)
            terms = Terms(
                day, self.config.everyday_limit, self.config.max_backlog, self.pipeline.draining
            )
            slot = self.pipeline.reserve()
            admitted = None
            try:
                accepting = self.journal.accept(prompt, terms, key, claim=slot is not None)
                request.notifyFinish().addErrback(lambda _: accepting.cancel())
                admitted = await accepting
            except CancelledError:  # the caller has hung up
                detail = "the caller hung up before the prompt was accepted"
                raise Problem(503, detail, word="hung_up") from None
            except NotAccepted as refusal:
                raise self._problem(refusal, day) from None
            except KeyReused:
                raise Problem(
                    422,
                    "this Idempotency-Key came before with another prompt, vanus-source or"
                    " vanus-type: use a new key for a new prompt",
                ) from None
            finally:
                self.pipeline.accepted(slot, admitted)
            request.about = admitted.id
            if admitted.repeated:
                self.observer.repeated()
            else:
                request.told = True
                seconds = self.clock.seconds() - request.began
                self.observer.accepted(prompt_id=prompt.id, size=size, seconds=seconds)
            return admitted, self._rate_limit(day, admitted.left)

    def refused(self, request: BoundedRequest, problem: Problem) -> None:
        """Tell the observers of a refused prompt; other refused requests are not counted."""
        known = problem.word in {reason.value for reason in RefusalReason}
        if known and request.method == b"POST" and request.route() in _PROMPTS:
            self.observer.refused(reason=RefusalReason(problem.word))

    async def record(self, prompt_id: str) -> Record:
        """The record of a prompt.

        Raises:
            Problem: 404 if there is none.
            JournalUnavailable: If the journal can't be read.
        """
        record = await self.journal.record(prompt_id)
        if record is None:
            raise Problem(
                404, "no prompt has this id: it was never accepted, or its record has expired"
            )
        return record

    async def status(self, request: BoundedRequest) -> None:
        """Answer `GET /prompts/<id>`."""
        record = await self.record(request.route().rpartition("/")[2])
        request.about = record.id
        request.answer(200, to_json(record.to_dict()))

    async def alive(self, request: BoundedRequest) -> None:
        """Answer `GET /healthz`."""
        request.answer(200, to_json({"status": OK}))

    async def ready(self, request: BoundedRequest) -> None:
        """Answer `GET /readyz`."""
        status, body = await self.health.ready()
        request.answer(status, to_json(body))

    def _problem(self, refusal: NotAccepted, day: Day) -> Problem:
        if isinstance(refusal, QuotaUsedUp):
            headers = {"Retry-After": str(max(1, self._seconds_left(day)))}
            detail = f"{refusal.reason}: send it again after midnight ({self.config.timezone.key})"
            return Problem(429, detail, headers | self._rate_limit(day, 0), QUOTA_EXCEEDED)
        if isinstance(refusal, JournalUnavailable):
            return unavailable(refusal)
        detail = f"{refusal.reason}: send it again later"
        return Problem(503, detail, retry_after_header(refusal), word=refusal.word)

    def _rate_limit(self, day: Day, left: int) -> dict[str, str]:
        """The RateLimit header fields (draft-ietf-httpapi-ratelimit-headers-10)."""
        return {
            "RateLimit-Policy": f'"daily";q={self.config.everyday_limit};w=86400',
            "RateLimit": f'"daily";r={left};t={self._seconds_left(day)}',
        }

    def _seconds_left(self, day: Day) -> int:
        return max(0, ceil(day.end - wall(self.clock)))

    async def answer(self, request: BoundedRequest) -> None:
        """Answer a request of any kind.

        Raises:
            Problem: If it is refused.
        """
        try:
            await self._routes.handler(request)(request)
        except JournalUnavailable as refusal:
            raise unavailable(refusal) from None
