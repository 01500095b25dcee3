"""Checks names and values of a CloudEvent's attributes (CloudEvents 1.0.2, section 3). Pure."""

import re
from ipaddress import IPv6Address

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
