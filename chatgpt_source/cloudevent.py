"""Checks names and values of a CloudEvent's attributes (CloudEvents 1.0.2, section 3). Pure."""

import re

from rfc3986_validator import validate_rfc3986

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
    return bool(value) and is_string(value) and bool(validate_rfc3986(value, "URI_reference"))


def is_uri(value: str) -> bool:
    """Whether this is a URI with its scheme (RFC 3986, section 3), as a `dataschema` must be."""
    return is_string(value) and bool(validate_rfc3986(value, "URI"))


def is_type(value: str) -> bool:
    """Whether an event may have this `type`: a String that is not empty."""
    return bool(value) and is_string(value)


def is_string(value: str) -> bool:
    """Whether an attribute may have this value, a String."""
    return not _NOT_IN_STRINGS.search(value)


def is_extension(name: str) -> bool:
    """Whether an extension attribute may have this name (CloudEvents 1.0.2, section 3.1)."""
    return bool(re.fullmatch("[a-z0-9]{1,64}", name)) and name not in _ATTRIBUTES
