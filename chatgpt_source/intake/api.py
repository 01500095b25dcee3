"""The HTTP API of the prompt port: its routes, and how each is answered.

Refusals are `application/problem+json` (RFC 9457) and change nothing.
"""

from attrs import field, frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from chatgpt_source.clock import wall
from chatgpt_source.config import Config
from chatgpt_source.errors import JournalUnavailable, NotCancelled
from chatgpt_source.http.server import BoundedRequest, Problem, to_json
from chatgpt_source.http.server.routes import READ, WRITE, Routes
from chatgpt_source.intake.accepting import (
    NEEDED_LONGER,
    RETRY_AFTER,
    Accepted,
    Accepting,
    Read,
    unavailable,
)
from chatgpt_source.intake.answers import answer_accepted, answer_later, answer_with_event
from chatgpt_source.intake.handshake import permission
from chatgpt_source.intake.health import OK, Health
from chatgpt_source.intake.openapi import DOCUMENT, MEDIA_TYPE
from chatgpt_source.intake.preferences import form_of, want_of
from chatgpt_source.intake.reading import read_json, read_root
from chatgpt_source.intake.waiting import MOST_WAITERS, Waiter, Waiters
from chatgpt_source.journal import Cancelled, Detail, Journal, Kept, Record
from chatgpt_source.journal.states import ASKING
from chatgpt_source.journal.unforeseen import log_unforeseen
from chatgpt_source.log import get_logger
from chatgpt_source.pipeline import Pipeline
from chatgpt_source.quota import Calendar
from chatgpt_source.telemetry.observer import NO_OBSERVER, Observer, RefusalReason
from chatgpt_source.telemetry.spans import NO_SPANS, Spans

log = get_logger(__name__)

_PROMPTS = ("/", "/prompts", "/api/prompts")
"""The paths that accept prompts, on the prompt port and the admin site."""


@frozen(eq=False, repr=False)
class Intake:
    """Answers the requests to the prompt port."""

    clock: IReactorTime
    config: Config
    calendar: Calendar
    journal: Journal
    pipeline: Pipeline
    health: Health
    waiters: Waiters
    observer: Observer = NO_OBSERVER
    spans: Spans = NO_SPANS
    _accepting: Accepting = field(init=False)
    _routes: Routes = field(init=False)

    @_accepting.default
    def _make_accepting(self) -> Accepting:
        return Accepting(
            self.clock,
            self.config,
            self.calendar,
            self.journal,
            self.pipeline,
            self.waiters,
            self.observer,
            self.spans,
        )

    @_routes.default
    def _make_routes(self) -> Routes:
        return Routes(
            ("/", WRITE, self.prompt),
            ("/prompts", WRITE, self.json_prompt),
            ("/prompts/[^/]+", READ, self.status),
            ("/prompts/[^/]+", ("DELETE",), self.cancel),
            ("/prompts/[^/]+/event", READ, self.event),
            ("/healthz", READ, self.alive),
            ("/readyz", READ, self.ready),
            ("/openapi.json", READ, self.describe),
            unknown="prompts go to / or /prompts, their state is at /prompts/<id>",
        )

    def bound_waiters(self, connections: int) -> None:
        """Leave at least half of the callers' connections to those who do not wait."""
        self.waiters.at_most = min(MOST_WAITERS, connections // 2)

    def stop_waiting(self) -> Deferred[None]:
        """Answer all who wait, and let nobody wait any more: the daemon is stopping."""
        return self.waiters.stop()

    async def prompt(self, request: BoundedRequest) -> None:
        """Answer `POST /`; the 202 is sent once the prompt is on disk."""
        await self._accept(request, read_root)

    async def json_prompt(self, request: BoundedRequest) -> None:
        """Answer `POST /prompts`."""
        await self._accept(request, read_json)

    async def accept(self, request: BoundedRequest) -> Accepted:
        """Accept what a request brings, whose caller does not wait for the answer.

        Raises:
            Problem: If it is refused.
        """
        return await self._accepting.accept(request)

    async def _accept(self, request: BoundedRequest, read: Read) -> None:
        accepted = await self._accepting.accept(request, read, may_wait=True)
        want, waiter = accepted.want, accepted.waiter
        if want is not None and waiter is not None:
            try:
                kept = await self._awaited(request, waiter, known=accepted.repeated)
            except JournalUnavailable:
                kept = None
            headers = accepted.headers()
            if kept is not None and kept.record.state not in ASKING:
                answer_with_event(request, kept, want.form, want.applied, headers)
                return
            if want.reply:
                detail = "the answer takes longer: send the event again, it is not asked twice"
                raise Problem(503, detail, headers | RETRY_AFTER, word="unanswered")
        answer_accepted(request, accepted)

    async def _awaited(
        self, request: BoundedRequest, waiter: Waiter, *, known: bool
    ) -> Kept | None:
        """A prompt that is asked no more, and its event; None if the waiter gave up before.

        Args:
            request: The caller's request; its body is not held any more.
            waiter: The caller, who leaves.
            known: Whether the prompt may have ended before.
        """
        request.release()
        request.when_gone(waiter.give_up)  # instead of what would hold the texts
        kept = None
        try:
            if known:
                until = waiter.until + NEEDED_LONGER
                kept = await self.journal.kept(waiter.prompt_id, until)
                if kept is None or kept.record.state not in ASKING:
                    return kept
            return await self.journal.kept(waiter.prompt_id) if await waiter.done else None
        finally:
            last = self.waiters.leave(waiter)
            # Of a shared journal, somebody may wait at another daemon: then it ends by itself.
            if last and not self.journal.is_shared and (kept is not None or not known):
                telling = self.journal.unneeded(waiter.prompt_id)  # else the need ends by itself
                telling.addErrback(log_unforeseen, log, "ending the wait for an answer")

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
            raise unknown_prompt()
        return record

    async def detail(self, prompt_id: str) -> Detail:
        """What happened to a prompt; raises as `record` does."""
        detail = await self.journal.detail(prompt_id)
        if detail is None:
            raise unknown_prompt()
        return detail

    async def status(self, request: BoundedRequest) -> None:
        """Answer `GET /prompts/<id>`."""
        record = await self.record(_id(request))
        request.about = record.id
        request.answer(200, to_json(record.to_dict()))

    async def event(self, request: BoundedRequest) -> None:
        """Answer `GET /prompts/<id>/event`."""
        prompt_id, form = _id(request), form_of(request)
        want = want_of(request, self.config.max_wait)
        waiter = self.waiters.join(prompt_id, want.seconds) if want is not None else None
        kept = None
        if waiter is not None:
            kept = await self._awaited(request, waiter, known=True)
        if kept is None:
            kept = await self.journal.kept(prompt_id)
        if kept is None:
            raise unknown_prompt()
        request.about = prompt_id
        if kept.record.state in ASKING:
            answer_later(request, kept.record, wall(self.clock))
        else:
            applied = want.applied if want is not None and waiter is not None else None
            answer_with_event(request, kept, form, applied)

    async def cancel(self, request: BoundedRequest) -> None:
        """Answer `DELETE /prompts/<id>`."""
        prompt_id = _id(request)
        try:
            cancelled = await self.cancel_prompt(prompt_id)
        except NotCancelled as refusal:
            request.about = prompt_id
            raise not_cancelled(refusal) from None
        if cancelled is None:
            raise unknown_prompt()
        request.about = prompt_id
        request.answer(204, b"")

    async def cancel_prompt(self, prompt_id: str) -> Cancelled | None:
        """Cancel a prompt; None if there is no such prompt.

        Raises:
            NotCancelled: If it can't be cancelled any more.
            JournalUnavailable: If the journal can't be written.
        """
        cancelled = await self.journal.cancel(prompt_id, forget=self.pipeline.tidying.forgets)
        if cancelled is not None and not cancelled.repeated:
            self.observer.cancelled(prompt_id=prompt_id)
            self.pipeline.cancelled()
        return cancelled

    async def alive(self, request: BoundedRequest) -> None:
        """Answer `GET /healthz`."""
        request.answer(200, to_json({"status": OK}))

    async def ready(self, request: BoundedRequest) -> None:
        """Answer `GET /readyz`."""
        status, body = await self.health.ready()
        request.answer(status, to_json(body))

    async def describe(self, request: BoundedRequest) -> None:
        """Answer `GET /openapi.json`."""
        request.answer(200, DOCUMENT, media_type=MEDIA_TYPE)

    async def answer(self, request: BoundedRequest) -> None:
        """Answer a request of any kind.

        Raises:
            Problem: If it is refused.
        """
        granted = permission(request, self.config.webhook_origins)
        if granted is not None:
            request.answer(200, b"", granted)
            return
        try:
            await self._routes.handler(request)(request)
        except JournalUnavailable as refusal:
            raise unavailable(refusal) from None


def _id(request: BoundedRequest) -> str:
    return request.route().split("/")[2]


def not_cancelled(refusal: NotCancelled) -> Problem:
    """The problem for a prompt that can't be cancelled any more."""
    return Problem(409, f"the prompt can't be cancelled: {refusal}")


def unknown_prompt() -> Problem:
    """The problem for an id of no prompt."""
    return Problem(404, "no prompt has this id: it was never accepted, or its record has expired")
