"""Reads what the responses of all APIs have in common, strictly and within bounds. Pure."""

import json
import re
from itertools import islice
from typing import Any

from chatgpt_source import limited_json
from chatgpt_source.errors import PossiblyBilled
from chatgpt_source.http.client import Reply

MOST_WORDS = 200
"""Characters that a model's name or a finish reason may have."""
MOST_COUNTS = 64
"""Members of a `usage` that are kept, with those of its details."""
_WORD = re.compile(r"[a-z][a-z0-9_]{0,31}")
_NAME = re.compile(r"[\w.-]{1,64}", re.ASCII)


def request_id(reply: Reply) -> str | None:
    """The provider's id of the call; None if it is not a short plain word."""
    value = reply.header("x-request-id")
    return value if value and re.fullmatch(r"[\w.:-]{1,100}", value, re.ASCII) else None


def read_object(reply: Reply) -> dict[str, Any]:
    """The object in a successful response; only a 200 can be one.

    Raises:
        PossiblyBilled: If there is none.
    """
    if reply.status != 200:
        raise PossiblyBilled(
            f"the model's answer can't be read: its status is {reply.status}", status=reply.status
        )
    if reply.flaw:
        raise unreadable(f"it {reply.flaw}")
    try:
        text = reply.body.decode("utf-8")
    except ValueError:
        raise unreadable("it is not UTF-8") from None
    if text.lstrip().startswith("<"):
        raise unreadable("it is HTML or XML, as from a proxy")
    try:
        document = limited_json.read(text)
    except limited_json.TooIntricate:
        raise unreadable("its JSON has too many members") from None
    except json.JSONDecodeError as error:
        cut = text.strip() and error.pos >= len(text.rstrip())
        raise unreadable("its JSON is cut short" if cut else "it is not JSON") from None
    except (ValueError, RecursionError):
        raise unreadable("it is not JSON") from None
    if not isinstance(document, dict):
        raise unreadable("it is not a JSON object")
    return document


def read_id(value: Any) -> str:
    """The provider's id of what it keeps.

    Raises:
        PossiblyBilled: If it is not a plain word.
    """
    if not isinstance(value, str) or not re.fullmatch(r"[\w-]{1,200}", value, re.ASCII):
        raise unreadable("it has no id that is a plain word")
    return value


def unreadable(why: str) -> PossiblyBilled:
    """The error of an answer that can't be read, for a reason."""
    return PossiblyBilled(f"the model's answer can't be read: {why}", status=200)


def without_lone_surrogates(text: str) -> str:
    """Replace lone surrogates, which JSON can escape and UTF-8 can't encode."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def is_plain(value: Any) -> bool:
    """Whether an event can hold a value: Python also reads NaN and lone surrogates."""
    if limited_json.is_deeper(value, limited_json.MOST_DEPTH):
        return False
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8")
    except ValueError:
        return False
    return True


def words_or_none(value: Any) -> str | None:
    """A name or a reason; None if it is too long or not printable."""
    plain = isinstance(value, str) and len(value) <= MOST_WORDS and value.isprintable()
    return value if plain else None


def plain_or_none(value: Any) -> str | None:
    """A plain word; None if it is none."""
    return value if isinstance(value, str) and _WORD.fullmatch(value) else None


def counts(value: Any) -> dict[str, Any] | None:
    """The first `MOST_COUNTS` whole numbers of a `usage` and its details."""
    if not isinstance(value, dict):
        return None
    found: dict[str, Any] = {}
    left = MOST_COUNTS
    for name, count in value.items():
        if left <= 0 or not _NAME.fullmatch(name):
            continue
        if isinstance(count, dict):
            inner = {key: each for key, each in count.items() if _is_count(key, each)}
            found[name] = dict(islice(inner.items(), left - 1))
            left -= 1 + len(found[name])
        elif _is_count(name, count):
            found[name] = count
            left -= 1
    return found


def _is_count(name: str, count: Any) -> bool:
    return type(count) is int and -(2**63) <= count < 2**63 and bool(_NAME.fullmatch(name))
