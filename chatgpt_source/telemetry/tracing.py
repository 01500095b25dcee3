"""Reads the headers of W3C Trace Context. Pure."""

import re
from collections.abc import Iterable, Sequence

from chatgpt_source.prompt import Trace

MOST_STATE = 512
"""Characters of a `tracestate` that are passed on (Trace Context, section 3.3.1.5)."""
MOST_MEMBERS = 32

_PARENT = re.compile(
    r"(?!ff)([0-9a-f]{2})-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-[\x21-\x7e]{0,200})?"
)
"""Section 3.2.2: version, trace-id, parent-id, trace-flags; later versions may add to it."""
_KEY = r"(?:[a-z][a-z0-9_\-*/]{0,255}|[a-z0-9][a-z0-9_\-*/]{0,240}@[a-z][a-z0-9_\-*/]{0,13})"
_MEMBER = re.compile(rf"{_KEY}=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{{0,255}}[\x21-\x2b\x2d-\x3c\x3e-\x7e]")
"""Section 3.3.1.3: `key=value`."""


def read_trace(parents: Sequence[bytes], states: Iterable[bytes]) -> Trace | None:
    """The trace of a request; None if it has no valid one.

    Args:
        parents: The values of its `traceparent` headers; more than one are invalid.
        states: The values of its `tracestate` headers; invalid ones are left out.
    """
    if len(parents) != 1:
        return None
    parent = parents[0].decode("latin-1").strip()
    match = _PARENT.fullmatch(parent)
    if match is None or (match[1] == "00" and match[2] is not None):
        return None
    return Trace(parent, _state(b",".join(states).decode("latin-1")))


def _state(text: str) -> str | None:
    members = [member.strip(" \t") for member in text.split(",")]
    members = [member for member in members if member]
    if len(members) > MOST_MEMBERS or not all(map(_MEMBER.fullmatch, members)):
        return None
    while len(",".join(members)) > MOST_STATE:
        members.pop()
    return ",".join(members) or None
