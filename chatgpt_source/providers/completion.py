"""Reads a chat completion strictly: the answer, and the provider's report of the call."""

from typing import Any

from chatgpt_source.errors import Permanent
from chatgpt_source.http.client import Reply
from chatgpt_source.prompt import Answer
from chatgpt_source.providers.reading import (
    counts,
    is_plain,
    plain_or_none,
    read_object,
    request_id,
    unreadable,
    without_lone_surrogates,
    words_or_none,
)


def read_answer(reply: Reply) -> Answer:
    """Read a successful response; only a 200 can be one.

    Raises:
        PossiblyBilled: If it is not a chat completion with a choice.
        Permanent: If the model refused, or there are neither content nor tool calls.
    """
    completion = read_object(reply)
    try:
        choice = completion["choices"][0]
        message = choice["message"]
        content, refused = message.get("content"), message.get("refusal")
        finish_reason = choice.get("finish_reason")
    except (TypeError, LookupError, AttributeError):
        raise unreadable("it has no choices") from None
    if content is not None and not isinstance(content, str):
        raise unreadable("its content is not text")
    if refused:
        raise Permanent("the model refused this prompt", status=200)
    if finish_reason == "content_filter":
        raise Permanent("the answer was stopped by the provider's content filter", status=200)
    calls = _tool_calls(message.get("tool_calls"))
    if not content or not content.strip():
        content = None
    if content is None and calls is None:
        shown = finish_reason if finish_reason in ("stop", "length", "tool_calls") else "unknown"
        raise Permanent(f"the answer is empty (finish_reason {shown})", status=200)
    return Answer(
        content=None if content is None else without_lone_surrogates(content),
        model=words_or_none(completion.get("model")),
        finish_reason=words_or_none(finish_reason),
        request_id=request_id(reply),
        usage=counts(completion.get("usage")),
        service_tier=plain_or_none(completion.get("service_tier")),
        tool_calls=calls,
    )


def _tool_calls(value: Any) -> list[dict[str, Any]] | None:
    """A list of objects; None if it is none, or no event can hold it."""
    is_list = isinstance(value, list) and value and all(isinstance(each, dict) for each in value)
    return value if is_list and is_plain(value) else None
