"""Reads a chat completion strictly: the answer, and the provider's report of the call."""

import json
import re
from itertools import islice
from typing import Any

from chatgpt_source import limited_json
from chatgpt_source.errors import Permanent, PossiblyBilled
from chatgpt_source.http.client import Reply
from chatgpt_source.prompt import Answer

MOST_WORDS = 200
"""Characters that a model's name or a finish reason may have."""
MOST_COUNTS = 64
"""Members of a `usage` that are kept, with those of its details."""
_NAME = re.compile(r"[\w.-]{1,64}", re.ASCII)


def read_answer(reply: Reply) -> Answer:
    """Read a successful response; only a 200 can be one.

    Raises:
        PossiblyBilled: If it is not a chat completion with a choice.
        Permanent: If the model refused, or the answer is empty.
    """
    completion = _completion(reply)
    try:
        choice = completion["choices"][0]
        message = choice["message"]
        content, refused = message.get("content"), message.get("refusal")
        finish_reason = choice.get("finish_reason")
    except (TypeError, LookupError, AttributeError):
        raise _unreadable("it has no choices") from None
    if content is not None and not isinstance(content, str):
        raise _unreadable("its content is not text")
    if refused:
        raise Permanent("the model refused this prompt", status=200)
    if finish_reason == "content_filter":
        raise Permanent("the answer was stopped by the provider's content filter", status=200)
    if not content or not content.strip():
        shown = finish_reason if finish_reason in ("stop", "length", "tool_calls") else "unknown"
        raise Permanent(f"the answer is empty (finish_reason: {shown})", status=200)
    return Answer(
        content=_without_lone_surrogates(content),
        model=_words_or_none(completion.get("model")),
        finish_reason=_words_or_none(finish_reason),
        request_id=request_id(reply),
        usage=_counts(completion.get("usage")),
    )


def request_id(reply: Reply) -> str | None:
    """The provider's id of the call; None if it is not a short plain word."""
    value = reply.header("x-request-id")
    return value if value and re.fullmatch(r"[\w.:-]{1,100}", value, re.ASCII) else None


def _completion(reply: Reply) -> dict[str, Any]:
    if reply.status != 200:
        raise PossiblyBilled(
            f"the model's answer can't be read: its status is {reply.status}", status=reply.status
        )
    if reply.flaw:
        raise _unreadable(f"it {reply.flaw}")
    try:
        text = reply.body.decode("utf-8")
    except ValueError:
        raise _unreadable("it is not UTF-8") from None
    if text.lstrip().startswith("<"):
        raise _unreadable("it is HTML or XML, as from a proxy")
    try:
        completion = limited_json.read(text)
    except limited_json.TooIntricate:
        raise _unreadable("its JSON has too many members") from None
    except json.JSONDecodeError as error:
        cut = text.strip() and error.pos >= len(text.rstrip())
        raise _unreadable("its JSON is cut short" if cut else "it is not JSON") from None
    except (ValueError, RecursionError):
        raise _unreadable("it is not JSON") from None
    if not isinstance(completion, dict):
        raise _unreadable("it is not a JSON object")
    return completion


def _unreadable(why: str) -> PossiblyBilled:
    return PossiblyBilled(f"the model's answer can't be read: {why}", status=200)


def _without_lone_surrogates(text: str) -> str:
    """Replace lone surrogates, which JSON can escape and UTF-8 can't encode."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _words_or_none(value: Any) -> str | None:
    """A name or a reason; None if it is too long or not printable."""
    plain = isinstance(value, str) and len(value) <= MOST_WORDS and value.isprintable()
    return value if plain else None


def _counts(value: Any) -> dict[str, Any] | None:
    """The first `MOST_COUNTS` whole numbers of a `usage` and its details."""
    if not isinstance(value, dict):
        return None
    counts: dict[str, Any] = {}
    left = MOST_COUNTS
    for name, count in value.items():
        if left <= 0 or not _NAME.fullmatch(name):
            continue
        if isinstance(count, dict):
            inner = {key: each for key, each in count.items() if _is_count(key, each)}
            counts[name] = dict(islice(inner.items(), left - 1))
            left -= 1 + len(counts[name])
        elif _is_count(name, count):
            counts[name] = count
            left -= 1
    return counts


def _is_count(name: str, count: Any) -> bool:
    return type(count) is int and -(2**63) <= count < 2**63 and bool(_NAME.fullmatch(name))
