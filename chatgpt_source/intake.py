"""The door in: `POST /` -> Prompt -> 202, `GET /prompts/<id>`, and a reason for everything refused.

Refusals are `application/problem+json` (RFC 9457) and change nothing.
"""

import re
from collections.abc import Callable, Mapping
from math import ceil
from uuid import uuid4

from attrs import frozen
from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime

from chatgpt_source.clock import wall
from chatgpt_source.config import Config
from chatgpt_source.event import is_source, is_type
from chatgpt_source.health import Health
from chatgpt_source.journal import Admitted, Journal, Record, Terms
from chatgpt_source.log import get_logger
from chatgpt_source.pipeline import Pipeline
from chatgpt_source.prompt import (
    DEFAULT_SOURCE,
    DEFAULT_TYPE,
    BacklogFull,
    Draining,
    JournalUnavailable,
    KeyReused,
    Prompt,
    QuotaUsedUp,
    Refusal,
    Trace,
)
from chatgpt_source.quota import Calendar, Day
from chatgpt_source.span import NO_SPANS, Spans
from chatgpt_source.trace import read_trace
from chatgpt_source.watch import NOBODY, Refused, Watcher
from chatgpt_source.web import BoundedRequest, Handler, Problem, to_json, too_large

log = get_logger(__name__)

OPEN_PATHS = ("/healthz", "/readyz")
"""What needs no credentials: Kubernetes' probes have none."""
MAX_KEY = 255
"""Bytes an idempotency key may have."""
_KEY = re.compile(rb'"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"|([\x21\x23-\x7e]+)')
QUOTA_EXCEEDED = "https://iana.org/assignments/http-problem-types#quota-exceeded"
"""The problem type that draft-ietf-httpapi-ratelimit-headers registers."""

_CHARSETS = {
    "utf-8": "utf-8",
    "utf8": "utf-8",
    "us-ascii": "ascii",
    "ascii": "ascii",
    "iso-8859-1": "iso-8859-1",
    "latin1": "iso-8859-1",
}
"""A short list: some of Python's codecs take half a minute for a megabyte."""
_REFUSED: Mapping[type[Exception], Refused] = {
    QuotaUsedUp: Refused.QUOTA,
    BacklogFull: Refused.BACKLOG,
    Draining: Refused.DRAINING,
    JournalUnavailable: Refused.JOURNAL,
    KeyReused: Refused.KEY_REUSED,
}
_REFUSED_FOR_ITS_FORM = {400: Refused.INVALID, 413: Refused.TOO_LARGE, 415: Refused.CHARSET}
_REFUSED_EARLY = {
    401: Refused.UNAUTHORIZED,
    403: Refused.CROSS_SITE,
    413: Refused.TOO_LARGE,
    503: Refused.BUSY,
}
_PARAMETER = re.compile(rb"""\s*([^\s=;"]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^;]*)\s*(?:;|\Z)""")


def read_text(body: bytes, content_type: bytes | None) -> str:
    """The prompt in a body.

    Args:
        body: As it came.
        content_type: The Content-Type header; only its charset matters.

    Raises:
        Problem: 415 if the charset is none of ours, 400 if the text is not in it or is blank.
    """
    parameters = _PARAMETER.finditer((content_type or b"").partition(b";")[2])
    charsets = [match[2] for match in parameters if match[1].lower() == b"charset"]
    named = charsets[0].strip(b'" \t').decode("ascii", "replace").lower() if charsets else "utf-8"
    codec = _CHARSETS.get(named)
    if codec is None:
        raise Problem(415, "the charset must be UTF-8, US-ASCII or ISO-8859-1")
    try:
        text = body.decode(codec)
    except UnicodeDecodeError:
        raise Problem(
            400, f"the body is not valid {named.upper()}: send the prompt in it"
        ) from None
    if not text.strip():
        raise Problem(400, "the body is empty: it must be the prompt, as text")
    return text


def read_attribute(
    request: BoundedRequest, header: str, default: str, valid: Callable[[str], bool], expected: str
) -> str:
    """An event attribute that a header sets; `default` where it is absent or empty.

    Raises:
        Problem: 400 if it can't be that attribute.
    """
    values = request.requestHeaders.getRawHeaders(header.encode("ascii"), [b""])
    try:
        value = values[0].decode("utf-8").strip()
    except UnicodeDecodeError:
        raise Problem(400, f"the {header} header must be UTF-8") from None
    if not value:
        return default
    if not valid(value):
        raise Problem(400, f"the {header} header must be {expected}")
    return value


def read_prompt(request: BoundedRequest, now: float, trace: Trace | None) -> tuple[Prompt, int]:
    """The prompt that a request is, and how many bytes it came in; the request's body is gone.

    Raises:
        Problem: If it is none.
    """
    body = request.take_body()
    text = read_text(body, request.getHeader(b"content-type"))
    source = read_attribute(
        request,
        "vanus-source",
        DEFAULT_SOURCE,
        is_source,
        "a URI-reference (RFC 3986), like /my/app",
    )
    type_ = read_attribute(
        request, "vanus-type", DEFAULT_TYPE, is_type, "text without control characters"
    )
    return Prompt(str(uuid4()), text, source, type_, now, trace), len(body)


def read_key(request: BoundedRequest) -> str | None:
    """The request's Idempotency-Key, with or without quotes; None if it has none.

    Raises:
        Problem: 400 if it can't be one (draft-ietf-httpapi-idempotency-key-header, section 2.1).
    """
    values = request.requestHeaders.getRawHeaders(b"idempotency-key")
    if values is None:
        return None
    match = _KEY.fullmatch(values[0].strip())
    key = match and (re.sub(rb"\\(.)", rb"\1", match[1] or b"") or match[2])
    if len(values) > 1 or not key or len(key) > MAX_KEY:
        raise Problem(
            400,
            f"the Idempotency-Key header must be 1 to {MAX_KEY} visible ASCII characters, in quotes"
            " if there are spaces among them",
        )
    return str(key.decode("ascii"))


def _trace(request: BoundedRequest) -> Trace | None:
    """The trace that a request is part of, if any."""
    get = request.requestHeaders.getRawHeaders
    return read_trace(get(b"traceparent", []), get(b"tracestate", []))


def retry_after(refusal: Refusal) -> dict[str, str]:
    """When another try may succeed, as a header field (RFC 9110, section 10.2.3)."""
    return {"Retry-After": str(max(1, ceil(refusal.retry_after)))}


def unavailable(refusal: JournalUnavailable) -> Problem:
    """The problem of a journal that can't be used now."""
    detail = f"the journal can't be used: {refusal.reason}; try later"
    return Problem(503, detail, retry_after(refusal), word=Refused.JOURNAL.value)


@frozen
class Intake:
    """What requests are answered from."""

    clock: IReactorTime
    config: Config
    calendar: Calendar
    journal: Journal
    pipeline: Pipeline
    health: Health
    watcher: Watcher = NOBODY
    spans: Spans = NO_SPANS

    async def prompt(self, request: BoundedRequest) -> None:
        """Answer `POST /`; the 202 leaves once the prompt is on disk."""
        admitted, budget = await self.accept(request)
        request.answer(
            202,
            to_json({"id": admitted.id, "status": "accepted"}),
            {"Location": f"/prompts/{admitted.id}", **budget},
        )

    async def accept(self, request: BoundedRequest) -> tuple[Admitted, dict[str, str]]:
        """Accept a request's body as a prompt; whoever watches is told.

        Returns:
            What the journal says of it, and the day's budget as header fields.

        Raises:
            Problem: If it is refused.
        """
        try:
            if request.oversized:
                raise too_large(request.limit)
            with self.spans.accept(_trace(request)) as span:
                return await self._accept(request, span.trace)
        except Problem as problem:
            if problem.status in _REFUSED_FOR_ITS_FORM:
                self.watcher.refused(reason=_REFUSED_FOR_ITS_FORM[problem.status])
            raise

    def refused(self, request: BoundedRequest, status: int) -> None:
        """Take note of a request that was refused before it came here."""
        is_prompt = request.method == b"POST" and request.route() == "/"
        if is_prompt and status in _REFUSED_EARLY:
            self.watcher.refused(reason=_REFUSED_EARLY[status])

    async def _accept(
        self, request: BoundedRequest, trace: Trace | None
    ) -> tuple[Admitted, dict[str, str]]:
        now = wall(self.clock)
        prompt, size = read_prompt(request, now, trace)
        key = read_key(request)
        day = self.calendar.day(now)
        terms = Terms(
            day, self.config.everyday_limit, self.config.max_backlog, self.pipeline.draining
        )
        try:
            accepting = self.journal.accept(prompt, terms, key)
            request.on_hang_up(accepting.cancel)
            admitted = await accepting
        except CancelledError:  # nobody is there to be told
            raise Problem(503, "the caller hung up before the prompt was accepted") from None
        except Refusal as refusal:
            self.watcher.refused(reason=_REFUSED[type(refusal)])
            raise self._problem(refusal, day) from None
        except KeyReused:
            self.watcher.refused(reason=_REFUSED[KeyReused])
            raise Problem(
                422,
                "this Idempotency-Key came before with another prompt, vanus-source or vanus-type:"
                " use a new key for a new prompt",
            ) from None
        request.about = admitted.id
        if admitted.repeated:
            self.watcher.repeated()
        else:
            request.told = True
            log.info(
                "accepted: id={id} bytes={bytes} status={status} seconds={seconds:.3f}",
                id=prompt.id,
                bytes=size,
                status=202,
                seconds=self.clock.seconds() - request.began,
            )
            self.watcher.accepted(prompt_id=prompt.id, now=now)
            self.pipeline.accepted()
        return admitted, self._rate_limit(day, admitted.left)

    async def record(self, prompt_id: str) -> Record:
        """What is known of a prompt.

        Raises:
            Problem: 404 if there is none; 503 if the journal can't be read.
        """
        try:
            record = await self.journal.record(prompt_id)
        except JournalUnavailable as refusal:
            raise unavailable(refusal) from None
        if record is None:
            raise Problem(
                404, "no prompt has this id: it was never accepted, or its record has expired"
            )
        return record

    async def status(self, request: BoundedRequest) -> None:
        """Answer `GET /prompts/<id>`."""
        record = await self.record(request.route().rpartition("/")[2])
        request.about = record.id
        request.answer(200, to_json(record.told()))

    async def alive(self, request: BoundedRequest) -> None:
        """Answer `GET /healthz`."""
        request.answer(200, to_json(self.health.alive()))

    async def ready(self, request: BoundedRequest) -> None:
        """Answer `GET /readyz`."""
        status, body = await self.health.ready()
        request.answer(status, to_json(body))

    def _problem(self, refusal: Refusal, day: Day) -> Problem:
        if isinstance(refusal, QuotaUsedUp):
            headers = {"Retry-After": str(max(1, self._seconds_left(day)))}
            detail = f"{refusal.reason}: send it again after midnight ({self.config.timezone.key})"
            return Problem(429, detail, headers | self._rate_limit(day, 0), QUOTA_EXCEEDED)
        if isinstance(refusal, JournalUnavailable):
            return unavailable(refusal)
        detail = f"{refusal.reason}: send it again later"
        return Problem(503, detail, retry_after(refusal), word=_REFUSED[type(refusal)].value)

    def _rate_limit(self, day: Day, left: int) -> dict[str, str]:
        """The RateLimit header fields (draft-ietf-httpapi-ratelimit-headers-10)."""
        return {
            "RateLimit-Policy": f'"daily";q={self.config.everyday_limit};w=86400',
            "RateLimit": f'"daily";r={left};t={self._seconds_left(day)}',
        }

    def _seconds_left(self, day: Day) -> int:
        return max(0, ceil(day.end - wall(self.clock)))

    def _handler(self, request: BoundedRequest) -> Handler:
        """Who answers a request.

        Raises:
            Problem: 404 or 405 if nobody does.
        """
        route = request.route()
        method = request.method.decode("ascii", "replace")
        if route == "/":
            if method == "POST":
                return self.prompt
            raise Problem(405, "send the prompt by POST", {"Allow": "POST"})
        pages = {"/healthz": self.alive, "/readyz": self.ready}
        handler = self.status if re.fullmatch(r"/prompts/[^/]+", route) else pages.get(route)
        if handler is None:
            raise Problem(404, "prompts go to /, their state is at /prompts/<id>")
        if method not in {"GET", "HEAD"}:
            raise Problem(405, "this can only be read: use GET", {"Allow": "GET, HEAD"})
        return handler

    async def answer(self, request: BoundedRequest) -> None:
        """Answer a request of any kind.

        Raises:
            Problem: If it is refused.
        """
        handler = self._handler(request)
        if request.oversized and handler != self.prompt:
            raise too_large(request.limit)
        await handler(request)
