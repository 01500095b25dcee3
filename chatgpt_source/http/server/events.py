"""Reads CloudEvents strictly, in bounded time. Pure.

It accepts the three content modes of the CloudEvents HTTP protocol binding 1.0.2: structured,
binary, batched. It is stricter than the `cloudevents` library, which invents a missing `id`,
`specversion` and `time`, reads no batches and checks few types. A receiver that shows senders
their mistakes must refuse what that library repairs.
"""

import base64
import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from math import inf, isfinite
from typing import Any
from urllib.parse import unquote_to_bytes

from twisted.web.http_headers import Headers

from chatgpt_source import limited_json
from chatgpt_source.cloudevent import is_source, is_string, is_uri, read_time
from chatgpt_source.http.server.problem import Problem

EXPECTED = (
    "send a CloudEvent 1.0: Content-Type application/cloudevents+json (one event), "
    "application/cloudevents-batch+json (a JSON array of events), "
    "or ce-id, ce-source, ce-type and ce-specversion headers with the data as the body"
)
"""What is accepted, as advice in a refusal."""
FORMATS = "application/cloudevents"
"""The beginning of the media types of events in structured and batched mode."""
BATCH = "application/cloudevents-batch+json"
MOST_CHARACTERS = 16 * 2**10
"""Characters of an event's attributes, as many as a request's head may have."""
MORE_CHARACTERS = 2**10
"""Characters of attributes for each further event of a batch."""
MOST_DIGITS = 309
"""Digits of a whole number, as many as the largest float has; more take long to read."""
OVERHEAD = 32
"""Characters that each attribute counts besides."""

_DATA = ("data", "data_base64")
_STRINGS = ("specversion", "id", "source", "type", "datacontenttype", "dataschema", "subject")
_INT32 = range(-(2**31), 2**31)
_NAME = re.compile("[a-z0-9]+")
_MEDIA_TYPE = re.compile(r"[\w!#$&^.+-]+/[\w!#$&^.+-]+\s*(;.*)?", re.ASCII)
_FORMS: Mapping[str, tuple[Callable[[str], object], str]] = {
    "id": (bool, "a string that is not empty"),
    "type": (bool, "a string that is not empty"),
    "subject": (bool, "a string that is not empty"),
    "source": (is_source, "a URI-reference (RFC 3986)"),
    "dataschema": (is_uri, "an absolute URI"),
    "datacontenttype": (_MEDIA_TYPE.fullmatch, "a media type"),
}
_JSON_TYPE = re.compile(r"(application|text)/json|[^/]+/[^/]+\+json")
_CHARSET = re.compile(r""";\s*charset\s*=\s*["']?([^"';\s]+)""", re.IGNORECASE)
_CODECS = {"utf-8": "utf-8", "utf8": "utf-8", "us-ascii": "utf-8", "iso-8859-1": "latin-1"}


def read_events(
    headers: Headers,
    body: bytes,
    most_events: float = inf,
    most_marks: int = limited_json.MOST_MARKS,
    unused: Collection[str] = (),
) -> list[dict[str, Any]]:
    """The events of one request, each in the form of the CloudEvents JSON format 1.0.2.

    Nothing is added, left out or changed: a structured event is the JSON object that was sent, a
    binary one its structured equivalent. The modes are distinguished as in the HTTP binding, 3.

    Args:
        headers: The request's headers.
        body: Its body.
        most_events: How many events a batch may have.
        most_marks: The bound of `limited_json` for JSON.
        unused: Attributes that the receiver does not use: they may be any strings.

    Raises:
        Problem: With 400 for what is malformed, 413 for what is too much, 415 for formats that
            can't be read.
    """
    refuse_compressed(headers)
    content_type = _single(headers, b"content-type")
    media_type = media_type_of(content_type)
    if media_type.startswith(FORMATS):
        refuse_other_charsets(content_type)
        if media_type == f"{FORMATS}+json":
            event = parse_json(body, most_marks)
            _bound([event])
            return [check_event(event, unused)]
        if media_type == BATCH:
            return _check_batch(parse_json(body, most_marks), most_events, unused)
        raise Problem(415, f"the format {quoted(media_type)} can't be read: {EXPECTED}")
    attributes = {
        name.decode("latin-1").lower()[3:]: _decoded(headers, name)
        for name, _ in headers.getAllRawHeaders()
        if name.lower().startswith(b"ce-")
    }
    if not attributes:
        raise Problem(400, f"this is not a CloudEvent: {EXPECTED}")
    return [check_event(_from_binary(attributes, content_type, body, most_marks), unused)]


def refuse_compressed(headers: Headers) -> None:
    """Check that a request's body is sent as it is.

    Raises:
        Problem: With 415 if it has a content coding.
    """
    if headers.getRawHeaders(b"content-encoding", [b"identity"]) != [b"identity"]:
        raise Problem(415, "compressed bodies are not read: send it without Content-Encoding")


def refuse_other_charsets(content_type: str | None) -> None:
    """Check that a Content-Type of JSON names no other charset than UTF-8.

    Raises:
        Problem: With 415 if it does.
    """
    if _CODECS.get(_charset(content_type)) != "utf-8":
        raise Problem(415, "JSON is UTF-8 (RFC 8259): leave charset out or name UTF-8")


def refuse_unknown_charsets(content_type: str | None) -> None:
    """Check that a media type names no charset but those that `data_of` reads.

    Raises:
        Problem: With 415 if it does.
    """
    if _charset(content_type) not in _CODECS:
        raise Problem(415, "the charset must be UTF-8, US-ASCII or ISO-8859-1")


def parse_json(body: bytes, most_marks: int = limited_json.MOST_MARKS) -> Any:
    """The JSON value that is `body`, with NaN, the infinities and what overflows refused.

    Raises:
        Problem: With 400, saying where it stops being JSON (RFC 8259); with 413 if it has more than
            `most_marks`.
    """
    try:
        text = body.decode()
        limited_json.check(text, most_marks)
        return json.loads(text, parse_constant=_finite, parse_float=_finite, parse_int=_whole)
    except limited_json.TooIntricate:
        raise Problem(
            413,
            f"the JSON must have at most {most_marks} commas, colons and opening brackets outside"
            " strings",
        ) from None
    except RecursionError:
        raise Problem(400, "the JSON is nested too deeply") from None
    except ValueError as error:
        raise Problem(400, f"the body is not JSON in UTF-8: {error}") from None


def check_event(event: Any, unused: Collection[str] = ()) -> dict[str, Any]:
    """`event` itself, unchanged, if it is a CloudEvent 1.0 in the JSON format.

    Args:
        event: The event.
        unused: Attributes that may be any strings.

    Raises:
        Problem: With 400, naming the attribute and what it must be.
    """
    if not isinstance(event, dict):
        raise Problem(400, "an event must be a JSON object")
    # A null attribute is an absent one (JSON format, 2.2).
    attributes = {
        name: value for name, value in event.items() if name not in _DATA and value is not None
    }
    missing = [name for name in ("specversion", "id", "source", "type") if name not in attributes]
    if missing:
        raise Problem(400, f"required and missing: {', '.join(missing)}")
    if attributes["specversion"] != "1.0":
        raise Problem(400, "specversion must be the string '1.0', the only supported version")
    for name, value in attributes.items():
        _check_attribute(name, value, unused)
    encoded = event.get("data_base64")
    if encoded is not None:
        if "data" in event:
            raise Problem(400, "an event has data or data_base64, not both")
        try:
            base64.b64decode(encoded, validate=True)
        except (TypeError, ValueError):
            raise Problem(400, "data_base64 must be a string in Base64 (RFC 4648)") from None
    return event


def _check_batch(batch: Any, most_events: float, unused: Collection[str]) -> list[dict[str, Any]]:
    if not isinstance(batch, list):
        raise Problem(400, "a batch must be a JSON array of events")
    if len(batch) > most_events:
        raise Problem(413, f"a batch must have at most {most_events} events")
    _bound(batch)
    for index, event in enumerate(batch):
        try:
            check_event(event, unused)
        except Problem as error:  # noqa: PERF203 - the index is what matters
            raise Problem(400, f"event at index {index} of the batch: {error.detail}") from None
    return batch


def _bound(events: Sequence[Any]) -> None:
    """Check that the attributes of events can be checked in bounded time."""
    characters = sum(
        OVERHEAD + len(name) + (len(value) if isinstance(value, str) else 0)
        for event in events
        if isinstance(event, dict)
        for name, value in event.items()
        if name not in _DATA
    )
    most = MOST_CHARACTERS + MORE_CHARACTERS * max(0, len(events) - 1)
    if characters > most:
        raise Problem(
            413,
            f"the attributes must have at most {most} characters, {OVERHEAD} more counted for each",
        )


def _check_attribute(name: str, value: Any, unused: Collection[str]) -> None:
    if not _NAME.fullmatch(name):
        raise Problem(
            400, f"attribute {quoted(name)}: names are lower-case letters a-z and digits only"
        )
    if name == "time":
        _check_time(value)
    elif not isinstance(value, str):
        if name in _STRINGS or not isinstance(value, int):
            wanted = "a string" if name in _STRINGS else "a string, a boolean or an integer"
            raise Problem(400, f"attribute '{name}' must be {wanted}")
        if value not in _INT32:
            raise Problem(400, f"attribute '{name}' must be between -2147483648 and 2147483647")
    elif not is_string(value):
        raise Problem(400, f"attribute '{name}' must hold no control, surrogate or noncharacter")
    elif name not in unused:
        is_of_form, description = _FORMS.get(name, (is_string, ""))
        if not is_of_form(value):
            raise Problem(400, f"attribute '{name}' must be {description}")


def _check_time(value: Any) -> None:
    if not isinstance(value, str) or read_time(value) is None:
        raise Problem(400, "attribute 'time' must be an RFC 3339 time such as 2026-01-31T12:00:00Z")


def _from_binary(
    attributes: dict[str, Any], content_type: str | None, body: bytes, most_marks: int
) -> dict[str, Any]:
    """The structured equivalent of an event in binary mode (JSON format, 3.1)."""
    for name in ("datacontenttype", *_DATA):
        if name in attributes:
            raise Problem(
                400, f"ce-{name} is not a header: data is the body, its type the Content-Type"
            )
    if content_type is not None:
        attributes["datacontenttype"] = content_type
    if not body:
        return attributes
    return {**attributes, **data_of(body, content_type, "the Content-Type", most_marks)}


def data_of(
    body: bytes, content_type: str | None, named: str, most_marks: int = limited_json.MOST_MARKS
) -> dict[str, Any]:
    """The member that holds an event's data in the JSON format: `data`, or `data_base64`.

    Args:
        body: The data.
        content_type: Its media type; without one it is JSON, if it can be.
        named: What the media type is called in a refusal.
        most_marks: The bound of `limited_json` for JSON.

    Raises:
        Problem: With 400 if its media type says JSON and it is none.
    """
    if not content_type or _JSON_TYPE.fullmatch(media_type_of(content_type)):
        try:
            return {"data": parse_json(body, most_marks)}
        except Problem as error:
            if error.status != 400:
                raise
            if content_type:
                raise Problem(400, f"{named} says JSON, but {error.detail}") from None
    codec = _CODECS.get(_charset(content_type))
    with suppress(UnicodeDecodeError):
        if codec:
            return {"data": body.decode(codec)}
    return {"data_base64": base64.b64encode(body).decode()}


def _single(headers: Headers, name: bytes) -> str | None:
    values = headers.getRawHeaders(name, [])
    shown = name.decode("latin-1").lower()
    if len(values) > 1:
        raise Problem(400, f"the header {shown} came {len(values)} times: send it once")
    try:
        return values[0].decode() if values else None
    except UnicodeDecodeError:
        raise Problem(400, f"the header {shown} is not UTF-8") from None


def _decoded(headers: Headers, name: bytes) -> str:
    """A ce- header's value, unquoted and percent-decoded once (HTTP binding, 3.1.3.2)."""
    value = _single(headers, name) or ""
    if len(value) > 1 and value[0] == value[-1] == '"':
        value = re.sub(r"\\(.)", r"\1", value[1:-1])
    try:
        return unquote_to_bytes(value).decode()
    except UnicodeDecodeError:
        shown = name.decode("latin-1").lower()
        raise Problem(400, f"the header {shown} is not percent-encoded UTF-8") from None


def media_type_of(content_type: str | None) -> str:
    """The media type in a Content-Type, in lower case, without its parameters."""
    return (content_type or "").partition(";")[0].strip().lower()


def _charset(content_type: str | None) -> str:
    match = _CHARSET.search(content_type or "")
    return match[1].lower() if match else "utf-8"


def quoted(text: str) -> str:
    """A received name or value, in ASCII and of bounded length."""
    return ascii(text if len(text) <= 80 else text[:80] + "...")


def _finite(text: str) -> float:
    number = float(text)
    if not isfinite(number):
        raise ValueError("a number must be finite, and not too large")
    return number


def _whole(digits: str) -> int:
    if len(digits.removeprefix("-")) > MOST_DIGITS:
        raise ValueError(f"a whole number must have at most {MOST_DIGITS} digits")
    return int(digits)
