"""Accepts what a request brings: prompts that are on disk before the response is sent."""

from collections.abc import Callable, Mapping, Sequence
from math import ceil

from attrs import evolve, frozen
from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime

from chatgpt_source.config import Config
from chatgpt_source.errors import (
    Draining,
    JournalUnavailable,
    KeyReused,
    NotAccepted,
    QuotaUsedUp,
    TooLate,
)
from chatgpt_source.http.listen import is_shared
from chatgpt_source.http.server import BoundedRequest, Problem
from chatgpt_source.intake.preferences import Want, want_of
from chatgpt_source.intake.reading import Received, read_request_trace, read_root
from chatgpt_source.intake.waiting import Waiter, Waiters
from chatgpt_source.journal import Admitted, Journal, Submission, Terms
from chatgpt_source.journal.pause import INTAKE
from chatgpt_source.pipeline import Pipeline
from chatgpt_source.prompt import NOWHERE, Arrival, Trace
from chatgpt_source.quota import Calendar, Day
from chatgpt_source.telemetry.observer import Observer
from chatgpt_source.telemetry.spans import Spans

QUOTA_EXCEEDED = "https://iana.org/assignments/http-problem-types#quota-exceeded"
"""The problem type that draft-ietf-httpapi-ratelimit-headers registers."""
RETRY_AFTER = {"Retry-After": "5"}
"""For a caller who can't wait here now, or not any longer."""
NEEDED_LONGER = 5.0
"""Seconds from the end of a wait for which its answer is still needed, to be read."""

Read = Callable[[BoundedRequest, Config, IReactorTime, Trace | None], Received]
"""Reads the prompts of a request; raises Problem."""


@frozen
class Accepted:
    """Prompts that are on disk. It does not hold their texts, so that many can be waited for.

    Attributes:
        arrival: The form in which they arrived.
        ids: Their ids.
        is_batch: Whether they came as a batch.
        repeated: Whether the only one was accepted before.
        budget: What is left of the day, as header fields.
        want: How the caller waits for the answer, if it does.
        waiter: Its place among the waiters, which it must leave.
    """

    arrival: Arrival
    ids: Sequence[str]
    is_batch: bool
    repeated: bool
    budget: Mapping[str, str]
    want: Want | None = None
    waiter: Waiter | None = None

    def headers(self, at: str = "/prompts") -> dict[str, str]:
        """The header fields of its response; `at` is the path of prompts."""
        where = {} if self.is_batch else {"Location": f"{at}/{self.ids[0]}"}
        return {**where, **self.budget}


def retry_after_header(refusal: NotAccepted) -> dict[str, str]:
    """The Retry-After header field (RFC 9110, section 10.2.3)."""
    return {"Retry-After": str(max(1, ceil(refusal.retry_after)))}


def unavailable(refusal: JournalUnavailable) -> Problem:
    """The problem for a journal that can't be used at the moment."""
    detail = f"the journal can't be used: {refusal.reason}; try later"
    return Problem(503, detail, retry_after_header(refusal), word=refusal.word)


@frozen(eq=False, repr=False)
class Accepting:
    """Accepts prompts, and tells the observers."""

    clock: IReactorTime
    config: Config
    calendar: Calendar
    journal: Journal
    pipeline: Pipeline
    waiters: Waiters
    observer: Observer
    spans: Spans

    async def accept(
        self, request: BoundedRequest, read: Read = read_root, *, may_wait: bool = False
    ) -> Accepted:
        """Accept what a request brings.

        Args:
            request: The request.
            read: Reads it.
            may_wait: Whether the caller may wait for the answer.

        Raises:
            Problem: If it is refused; nothing was changed.
        """
        span = self.spans.request(read_request_trace(request), request.route)
        request.when_answered(span.answered)
        received = read(request, self.config, self.clock, span.trace)
        want = self._want(request, received) if may_wait else None
        waiter = None
        if want is not None:
            waiter = self.waiters.join(received.submissions[0].prompt.id, want.seconds)
            if waiter is not None:
                received = _wanted(received, want, waiter)
            elif want.reply:
                detail = "too many callers wait for answers already: send it again later"
                raise Problem(503, detail, RETRY_AFTER)
        admitted: Sequence[Admitted] = ()
        try:
            day = self.calendar.day(self.journal.date)
            admitted = await self._admit(request, received, day)
        finally:
            if waiter is not None and not admitted:
                self.waiters.leave(waiter)
        self._tell(request, received, admitted, waits=waiter is not None)
        if waiter is not None and admitted[0].repeated:
            self.waiters.move(waiter, admitted[0].id)
        return Accepted(
            received.arrival,
            [each.id for each in admitted],
            received.is_batch,
            admitted[0].repeated,
            self._rate_limit(day, min(each.left for each in admitted)),
            want,
            waiter,
        )

    def _want(self, request: BoundedRequest, received: Received) -> Want | None:
        if received.is_batch:
            return None
        reply = self.config.reply if received.arrival is Arrival.EVENT else 0
        return want_of(request, self.config.max_wait, reply)

    async def _admit(
        self, request: BoundedRequest, received: Received, day: Day
    ) -> Sequence[Admitted]:
        terms = Terms(
            day,
            self.config.everyday_limit,
            self.config.max_backlog,
            self.pipeline.draining,
            self.pipeline.pauses.is_paused(INTAKE),
        )
        at_once = not received.is_batch and received.submissions[0].prompt.not_before is None
        slot = self.pipeline.reserve() if at_once else None
        first_new = None
        try:
            accepting = self.journal.accept(received.submissions, terms, claim=slot is not None)
            request.when_gone(accepting.cancel)
            admitted = await accepting
            first_new = next((each for each in admitted if not each.repeated), None)
        except CancelledError:  # the caller has hung up
            detail = "the caller hung up before the prompt was accepted"
            raise Problem(503, detail, word="hung_up") from None
        except NotAccepted as refusal:
            raise self._problem(refusal, day) from None
        except KeyReused:
            raise Problem(
                422,
                "this Idempotency-Key came before with another prompt, or with other attributes:"
                " use a new key for a new prompt",
            ) from None
        except TooLate:
            raise Problem(400, "the deadline has passed: name a time in the future") from None
        finally:
            self.pipeline.accepted(slot, first_new)
        return admitted

    def _tell(
        self,
        request: BoundedRequest,
        received: Received,
        admitted: Sequence[Admitted],
        *,
        waits: bool,
    ) -> None:
        if not received.is_batch:
            request.about = admitted[0].id
        seconds = self.clock.seconds() - request.began
        for submission, each in zip(received.submissions, admitted, strict=True):
            if each.repeated:
                self.observer.repeated()
                continue
            request.told = not waits
            self.observer.accepted(
                prompt_id=each.id,
                size=received.size,
                seconds=seconds,
                arrival=received.arrival,
                target=submission.prompt.target,
                waits=waits,
            )

    def _problem(self, refusal: NotAccepted, day: Day) -> Problem:
        if isinstance(refusal, QuotaUsedUp):
            headers = {"Retry-After": str(max(1, self._seconds_left(day)))}
            again = f"send it again after midnight ({self.config.timezone.key})"
            if refusal.left:
                again = (
                    f"send no more than that, or wait until midnight ({self.config.timezone.key})"
                )
            rest = self._rate_limit(day, refusal.left)
            return Problem(429, f"{refusal.reason}: {again}", headers | rest, QUOTA_EXCEEDED)
        if isinstance(refusal, JournalUnavailable):
            return unavailable(refusal)
        detail, headers = f"{refusal.reason}: send it again later", retry_after_header(refusal)
        if isinstance(refusal, Draining) and is_shared(self.config.listen or ""):
            headers["Connection"] = "close"  # a new one leads to another daemon
        return Problem(503, detail, headers, word=refusal.word)

    def _rate_limit(self, day: Day, left: int) -> dict[str, str]:
        """The RateLimit header fields (draft-ietf-httpapi-ratelimit-headers-10)."""
        return {
            "RateLimit-Policy": f'"daily";q={self.config.everyday_limit};w=86400',
            "RateLimit": f'"daily";r={left};t={self._seconds_left(day)}',
        }

    def _seconds_left(self, day: Day) -> int:
        return max(0, ceil(day.end - self.journal.date))


def _wanted(received: Received, want: Want, waiter: Waiter) -> Received:
    """A request whose caller waits for the answer, which goes nowhere else if it is a reply."""
    submission: Submission = received.submissions[0]
    prompt = evolve(submission.prompt, target=NOWHERE) if want.reply else submission.prompt
    until = waiter.until + NEEDED_LONGER
    return evolve(received, submissions=(evolve(submission, prompt=prompt, needed_until=until),))
