"""Reads requests: the body as text, and the headers of prompts."""

import re
from collections.abc import Callable
from uuid import uuid4

from chatgpt_source.cloudevent import is_source, is_type
from chatgpt_source.http.server import BoundedRequest, Problem
from chatgpt_source.prompt import DEFAULT_SOURCE, DEFAULT_TYPE, Prompt, Trace
from chatgpt_source.telemetry.tracing import read_trace

MAX_KEY = 255
"""Bytes that an idempotency key may have."""
_KEY = re.compile(rb'"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"|([\x21\x23-\x7e]+)')
_CHARSETS = {
    "utf-8": "utf-8",
    "utf8": "utf-8",
    "us-ascii": "ascii",
    "ascii": "ascii",
    "iso-8859-1": "iso-8859-1",
    "latin1": "iso-8859-1",
}
"""A short list: some of Python's codecs take half a minute for a megabyte."""
_PARAMETER = re.compile(rb"""\s*([^\s=;"]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^;]*)\s*(?:;|\Z)""")


def read_text(body: bytes, content_type: bytes | None) -> str:
    """The prompt in a body.

    Args:
        body: The body.
        content_type: The Content-Type header; only its charset matters.

    Raises:
        Problem: 415 if the charset is not supported, 400 if the text is not in it or is blank.
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
    """An event attribute that a header sets; `default` if it is absent or empty.

    Raises:
        Problem: 400 if it is not valid for that attribute.
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
    body = request.body()
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
        Problem: 400 if it is invalid (draft-ietf-httpapi-idempotency-key-header, section 2.1).
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


def read_request_trace(request: BoundedRequest) -> Trace | None:
    """The trace that a request is part of, if any."""
    get = request.requestHeaders.getRawHeaders
    return read_trace(get(b"traceparent", []), get(b"tracestate", []))
