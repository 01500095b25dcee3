"""Checks names and values of a CloudEvent's attributes (CloudEvents 1.0.2, section 3). Pure."""

import re
from datetime import datetime

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
_RFC3339 = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:)(\d\d)(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII
)


def is_source(value: str) -> bool:
    """Whether an event may have this `source`: a URI-reference that is not empty."""
    return bool(value) and _follows("URI_reference", value)


def is_uri(value: str) -> bool:
    """Whether this is a URI with its scheme (RFC 3986, section 3), as a `dataschema` must be."""
    return _follows("URI", value)


def _follows(rule: str, value: str) -> bool:
    """Whether a String follows a rule of RFC 3986."""
    from rfc3986_validator import validate_rfc3986  # noqa: PLC0415 - only its users pay for it

    return is_string(value) and bool(validate_rfc3986(value, rule))


def is_type(value: str) -> bool:
    """Whether an event may have this `type`: a String that is not empty."""
    return bool(value) and is_string(value)


def is_string(value: str) -> bool:
    """Whether an attribute may have this value, a String."""
    return not _NOT_IN_STRINGS.search(value)


def read_time(value: str) -> float | None:
    """A Timestamp (RFC 3339) in seconds since the epoch; None if it is none."""
    match = _RFC3339.fullmatch(value)
    if match is None:
        return None
    date, hours, seconds, fraction, offset = match.groups()
    seconds = "59" if seconds == "60" else seconds  # a leap second
    offset = "+00:00" if offset in "Zz" else offset
    try:
        instant = datetime.fromisoformat(f"{date}T{hours}{seconds}{offset}").timestamp()
    except ValueError:
        return None
    return instant + float((fraction or ".0")[:10])


def is_extension(name: str) -> bool:
    """Whether an extension attribute may have this name (CloudEvents 1.0.2, section 3.1)."""
    return bool(re.fullmatch("[a-z0-9]{1,64}", name)) and name not in _ATTRIBUTES


def is_attribute(name: str) -> bool:
    """Whether this may be the name of an attribute, an extension's or another."""
    return is_extension(name) or name in _ATTRIBUTES - {"data"}
