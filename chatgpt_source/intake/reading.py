"""Reads requests: the prompts in a body, whatever its form, and what headers say of them."""

import re
from collections.abc import Sequence

from attrs import frozen
from twisted.internet.interfaces import IReactorTime

from chatgpt_source.config import Config
from chatgpt_source.http.server import BoundedRequest, Problem
from chatgpt_source.http.server.events import (
    BATCH,
    FORMATS,
    media_type_of,
    parse_json,
    read_events,
    refuse_compressed,
    refuse_other_charsets,
)
from chatgpt_source.intake.event_prompt import read_submission
from chatgpt_source.intake.fields import make_prompt, read_fields, submission
from chatgpt_source.intake.json_prompt import members_of, read_members
from chatgpt_source.journal import Key, Submission
from chatgpt_source.journal.keys import without_quotes
from chatgpt_source.prompt import Arrival, Trace
from chatgpt_source.telemetry.tracing import read_trace

MOST_MARKS = 2**15
"""The bound of `limited_json` for a request: about 2 ms."""
MARKS_OF_AN_EVENT = 16
"""The same for each event of the largest batch, if that is more."""
_EVENTS_OWN = (b"ce-specversion", b"ce-id", b"ce-source", b"ce-type")
_FORMATS = FORMATS.encode("ascii")
_UNUSED = ("dataschema",)
"""Azure Event Grid sends `#`, which is no absolute URI."""

MAX_KEY = 255
"""Bytes that an idempotency key may have."""
_CHARSETS = {
    "utf-8": "utf-8",
    "utf8": "utf-8",
    "us-ascii": "ascii",
    "ascii": "ascii",
    "iso-8859-1": "iso-8859-1",
    "latin1": "iso-8859-1",
}
"""A short list: some of Python's codecs take half a minute for a megabyte."""
_PARAMETER = re.compile(rb'(?:[^;"]|"(?:[^"\\]|\\.)*"?)+')
"""A parameter of a media type; a semicolon in quotes does not end it."""


@frozen
class Received:
    """The prompts that a request brings.

    Attributes:
        arrival: The form in which they came.
        submissions: The prompts with their keys; more than one only of a batch.
        size: Bytes of the request's body.
        is_batch: Whether it is a batch of events.
    """

    arrival: Arrival
    submissions: Sequence[Submission]
    size: int
    is_batch: bool = False


def read_text(body: bytes, content_type: bytes | None) -> str:
    """The prompt in a body.

    Args:
        body: The body.
        content_type: The Content-Type header; only its charset matters.

    Raises:
        Problem: 415 if the charset is not supported, 400 if the text is not in it or is blank.
    """
    found = _PARAMETER.findall((content_type or b"").partition(b";")[2])
    parameters = [parameter.partition(b"=") for parameter in found if b"=" in parameter]
    charsets = [value for name, _, value in parameters if name.strip().lower() == b"charset"]
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


def read_root(
    request: BoundedRequest, config: Config, clock: IReactorTime, trace: Trace | None
) -> Received:
    """What a `POST /` brings: an event, a batch of events, or a text; the request's body is gone.

    Whatever shows a part of an event is taken for one, so that half an event is refused and not
    asked.

    Raises:
        Problem: If there is no prompt in it.
    """
    content_type = request.getHeader(b"content-type")
    if _is_event(request, content_type):
        return _read_events(request, config, clock, trace)
    body = request.body()
    text = read_text(body, content_type)
    prompt = make_prompt(text, read_fields(request, config, clock), config, clock, trace)
    submitted = submission(prompt, read_key(request, config), clock)
    return Received(Arrival.TEXT, (submitted,), len(body))


def read_json(
    request: BoundedRequest, config: Config, clock: IReactorTime, trace: Trace | None
) -> Received:
    """What a `POST /prompts` brings: a prompt in JSON; the request's body is gone.

    Raises:
        Problem: If there is no prompt in it.
    """
    refuse_compressed(request.requestHeaders)
    content_type = (request.getHeader(b"content-type") or b"").decode("latin-1")
    if media_type_of(content_type) != "application/json":
        raise Problem(415, "the Content-Type must be application/json; events and texts go to /")
    if any(map(request.requestHeaders.hasHeader, _EVENTS_OWN)):
        raise Problem(400, "an event goes to /: send it there, or leave out its ce- headers")
    refuse_other_charsets(content_type)
    body = request.body()
    members = members_of(parse_json(body, MOST_MARKS))
    headers = read_fields(request, config, clock, but=members)
    written = read_members(members, headers, config, clock)
    prompt = make_prompt(
        written.text,
        written.fields,
        config,
        clock,
        trace,
        written.details,
        not_before=written.not_before,
    )
    submitted = submission(prompt, read_key(request, config), clock)
    return Received(Arrival.JSON, (submitted,), len(body))


def _is_event(request: BoundedRequest, content_type: bytes | None) -> bool:
    if content_type and content_type.strip().lower().startswith(_FORMATS):
        return True
    return any(map(request.requestHeaders.hasHeader, _EVENTS_OWN))


def _read_events(
    request: BoundedRequest, config: Config, clock: IReactorTime, trace: Trace | None
) -> Received:
    headers = request.requestHeaders
    if headers.hasHeader(b"idempotency-key"):
        raise Problem(
            400,
            "an event must come without an Idempotency-Key: its source and id are its key",
        )
    body = request.body()
    marks = max(MOST_MARKS, MARKS_OF_AN_EVENT * config.max_batch)
    events = read_events(headers, body, config.max_batch, marks, _UNUSED)
    if not events:
        raise Problem(400, "the batch is empty: it must have an event with a prompt")
    fields = read_fields(request, config, clock)
    is_batch = media_type_of(headers.getRawHeaders("content-type", [""])[0]) == BATCH
    submissions = []
    for index, event in enumerate(events):
        try:
            submitted = read_submission(event, fields, config, clock, trace, marks // len(events))
            submissions.append(submitted)
        except Problem as problem:  # noqa: PERF203 - the index is what matters
            if not is_batch:
                raise
            at = f"event at index {index} of the batch: {problem.detail}"
            raise Problem(problem.status, at) from None
    return Received(Arrival.EVENT, submissions, len(body), is_batch)


def read_key(request: BoundedRequest, config: Config) -> Key | None:
    """The request's Idempotency-Key, with or without quotes; None if it has none.

    Where callers have credentials, it is a key of these credentials only.

    Raises:
        Problem: 400 if it is invalid (draft-ietf-httpapi-idempotency-key-header, section 2.1).
    """
    values = request.requestHeaders.getRawHeaders(b"idempotency-key")
    if values is None:
        return None
    key = without_quotes(values[0].strip())
    if len(values) > 1 or not key or len(key) > MAX_KEY:
        raise Problem(
            400,
            f"the Idempotency-Key header must be 1 to {MAX_KEY} visible ASCII characters, in quotes"
            " if there are spaces among them",
        )
    shown: list[str] = []
    if config.auth is not None:
        given = request.requestHeaders.getRawHeaders(b"authorization", [])
        shown = [each.strip().decode("latin-1") for each in given]
    return Key((*shown, key.decode("ascii")))


def read_request_trace(request: BoundedRequest) -> Trace | None:
    """The trace that a request is part of, or else its event in binary mode, if any."""
    get = request.requestHeaders.getRawHeaders
    for prefix in (b"", b"ce-"):
        parents = get(prefix + b"traceparent")
        trace = parents and read_trace(parents, get(prefix + b"tracestate", []))
        if trace:
            return trace
    return None
