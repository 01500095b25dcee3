"""Prompt + Answer -> CloudEvent, and what an event's attributes may be. Pure."""

import re
from datetime import datetime, timezone
from ipaddress import IPv6Address

from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from chatgpt_source.prompt import Answer, Prompt

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
    return bool(value) and not _NOT_IN_STRINGS.search(value)


def encode(prompt: Prompt, answer: Answer) -> bytes:
    """The event that carries an answer, in the JSON event format; its `time` is the acceptance.

    It is encoded once and journaled, so that every delivery sends the same bytes.
    """
    attributes = {
        "specversion": "1.0",
        "id": prompt.id,
        "source": prompt.source,
        "type": prompt.type,
        "datacontenttype": "application/json",
        "time": datetime.fromtimestamp(prompt.accepted, timezone.utc),
    }
    return JSONFormat().write(CloudEvent(attributes, {"content": answer.content}))
