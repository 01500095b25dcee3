"""Prompt + Answer -> CloudEvent, and what an event's attributes may be. Pure."""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from ipaddress import IPv6Address
from typing import Any

from cloudevents.core.bindings.http import to_binary
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from chatgpt_source.prompt import Answer, CallError, Prompt

CONTENT_TYPE = JSONFormat.CONTENT_TYPE
"""The media type of what `encode` returns: structured mode (HTTP binding, section 3.2)."""

_PCT, _UNRESERVED, _SUB = r"%[0-9A-Fa-f]{2}", r"A-Za-z0-9\-._~", r"!$&'()*+,;="
_PCHAR = rf"(?:[{_UNRESERVED}{_SUB}:@]|{_PCT})"
_AUTHORITY = (
    rf"(?:(?:[{_UNRESERVED}{_SUB}:]|{_PCT})*@)?"
    rf"(?:\[[0-9A-Fa-f:.]+\]|\[v[0-9A-Fa-f]+\.[{_UNRESERVED}{_SUB}:]+\]"
    rf"|(?:[{_UNRESERVED}{_SUB}]|{_PCT})*)(?::[0-9]*)?"
)
_URI_REFERENCE = re.compile(
    rf"(?:[A-Za-z][A-Za-z0-9+.\-]*:(?://{_AUTHORITY}(?:/{_PCHAR}*)*|/?(?:{_PCHAR}+(?:/{_PCHAR}*)*)?)"
    rf"|//{_AUTHORITY}(?:/{_PCHAR}*)*"
    rf"|/(?:{_PCHAR}+(?:/{_PCHAR}*)*)?"
    rf"|(?:[{_UNRESERVED}{_SUB}@]|{_PCT})+(?:/{_PCHAR}*)*"
    rf"|)(?:\?(?:{_PCHAR}|[/?])*)?(?:\#(?:{_PCHAR}|[/?])*)?"
)
"""RFC 3986, appendix A: `URI-reference`."""
_ATTRIBUTES = frozenset(
    {"specversion", "id", "source", "type", "datacontenttype", "dataschema", "subject", "time"}
    | {"data"}
)
_NOT_IN_STRINGS = re.compile(
    "[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef"
    + "".join(chr(plane << 16 | low) for plane in range(17) for low in (0xFFFE, 0xFFFF))
    + "]"
)
"""What a CloudEvents String must not hold (CloudEvents 1.0.2, section 3.1)."""


def is_source(value: str) -> bool:
    """Whether an event may have this `source`: a URI-reference that is not empty."""
    if not value or not _URI_REFERENCE.fullmatch(value):
        return False
    try:
        return all(IPv6Address(address) for address in re.findall(r"\[([^v\]]+)\]", value))
    except ValueError:
        return False


def is_type(value: str) -> bool:
    """Whether an event may have this `type`: a String that is not empty."""
    return bool(value) and is_string(value)


def is_string(value: str) -> bool:
    """Whether an attribute may have this value, a String."""
    return not _NOT_IN_STRINGS.search(value)


def is_extension(name: str) -> bool:
    """Whether an extension attribute may have this name (CloudEvents 1.0.2, section 3.1)."""
    return bool(re.fullmatch("[a-z0-9]{1,64}", name)) and name not in _ATTRIBUTES


def encode(
    prompt: Prompt,
    answer: Answer,
    include: Sequence[str] = (),
    extensions: Mapping[str, str] | None = None,
) -> bytes:
    """The event that carries an answer, in the JSON event format; its `time` is the acceptance.

    It is encoded once and journaled, so that every delivery sends the same event.

    Args:
        prompt: What was asked.
        answer: What came back.
        include: What `data` holds beside `content`: names of `INCLUDABLE`; null where the provider
            did not say.
        extensions: Further attributes.
    """
    data: dict[str, Any] = {"content": answer.content}
    for name in include:
        data[name] = prompt.text if name == "prompt" else getattr(answer, name)
    attributes = _attributes(prompt, prompt.id, prompt.type, prompt.accepted)
    return JSONFormat().write(CloudEvent({**attributes, **(extensions or {})}, data))


def binary(event: bytes) -> tuple[dict[str, str], bytes]:
    """An encoded event in binary mode: its headers and its body (HTTP binding, section 3.1)."""
    message = to_binary(JSONFormat().read(CloudEvent, event), JSONFormat())
    return message.headers, message.body


def encode_undelivered(event: bytes, target: str, error: CallError) -> bytes:
    """The dead letter of an event that was not delivered: the event, and what Knative adds to it.

    Knative Eventing's delivery specification: `knativeerrordest` is where it should have gone,
    `knativeerrorcode` the HTTP status, if there was one, `knativeerrordata` what went wrong.
    """
    letter = json.loads(event)
    data = letter.pop("data")
    letter["knativeerrordest"] = target.partition("?")[0]  # the query may hold a secret
    if error.status is not None:
        letter["knativeerrorcode"] = error.status
    letter["knativeerrordata"] = error.reason
    return json.dumps({**letter, "data": data}).encode("ascii")


def encode_unanswered(
    prompt: Prompt,
    asks: int,
    error: CallError,
    now: float,
    extensions: Mapping[str, str] | None = None,
) -> bytes:
    """The dead letter of a prompt that was not answered: an event of a type and id of its own.

    Its id is not the prompt's: that is the answer's, should the prompt be redriven.
    """
    attributes = _attributes(prompt, f"{prompt.id}-failed-{asks}", f"{prompt.type}.failed", now)
    told = {"prompt": prompt.id, "reason": error.reason, "status": error.status}
    return JSONFormat().write(CloudEvent({**attributes, **(extensions or {})}, {"error": told}))


def _attributes(prompt: Prompt, id_: str, type_: str, time: float) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": id_,
        "source": prompt.source,
        "type": type_,
        "datacontenttype": "application/json",
        "time": datetime.fromtimestamp(time, timezone.utc),
        **(prompt.trace.members() if prompt.trace else {}),
    }
