"""Encodes the head of a response."""

import time
from functools import lru_cache
from http import HTTPStatus

from twisted.copyright import version as twisted_version
from twisted.web.http import datetimeToString

_SERVER = f"TwistedWeb/{twisted_version}"
Fields = dict[str, str | tuple[str, ...]]
"""Header fields; a tuple for one that comes several times."""


def own_fields() -> Fields:
    """The fields of every response (RFC 9110, section 6.6.1 and 10.2.4)."""
    return {"Server": _SERVER, "Date": _date(int(time.time()))}


@lru_cache(maxsize=8)
def _date(instant: int) -> str:
    date: bytes = datetimeToString(instant)
    return date.decode("ascii")


def encode_head(version: bytes, status: int, fields: Fields) -> bytes:
    """The head of a response, with what each has."""
    lines = [f"{version.decode('ascii')} {status} {HTTPStatus(status).phrase}"]
    for name, value in (own_fields() | fields).items():
        lines += [f"{name}: {each}" for each in ((value,) if isinstance(value, str) else value)]
    return "\r\n".join([*lines, "", ""]).encode("utf-8")
