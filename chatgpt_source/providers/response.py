"""Reads a response of OpenAI's Responses API strictly: its answer, or its id."""

import re
from typing import Any

from chatgpt_source.errors import Lost, Permanent
from chatgpt_source.http.client import Reply
from chatgpt_source.prompt import Answer, Submitted
from chatgpt_source.providers.failures import failed_response
from chatgpt_source.providers.reading import (
    counts,
    is_plain,
    plain_or_none,
    read_id,
    read_object,
    request_id,
    unreadable,
    without_lone_surrogates,
    words_or_none,
)

_UNDER_WAY = ("queued", "in_progress")
_ENDED = ("completed", "incomplete", "failed", "cancelled")
"""The statuses of a response."""
_PROMPT = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""A prompt's id; `body` may set something else in its place."""
_OF_A_CALL = {"call_id", "name", "arguments"}


def read_response(reply: Reply, prompt: str | None = None) -> Answer | Submitted:
    """Read a successful response; only a 200 can be one.

    Args:
        reply: The response.
        prompt: The prompt's id, if it must not be of another one.

    Raises:
        PossiblyBilled: If it is not a response.
        Lost: If the provider has given up the prompt.
        Permanent: If the model refused, there are neither text nor tool calls, or the prompt can't
            succeed.
    """
    response = read_object(reply)
    if prompt is not None and _prompt_of(response) not in {None, prompt}:
        raise unreadable("it is of another prompt")
    status = response.get("status")
    if status in _UNDER_WAY:
        return Submitted(read_id(response.get("id")))
    if status not in _ENDED:
        raise unreadable("it has no status that is known")
    if status == "cancelled":
        raise Lost("the provider has cancelled the call", status=200)
    if status == "failed":
        raise failed_response(_codes(response.get("error")))
    reason = _finish_reason(response) if status == "incomplete" else "stop"
    if reason == "content_filter":
        raise Permanent("the answer was stopped by the provider's content filter", status=200)
    content, calls = _said(response)
    if not content.strip() and not calls:
        shown = reason if reason in ("stop", "length") else "unknown"
        raise Permanent(f"the answer is empty (finish_reason {shown})", status=200)
    return Answer(
        content=without_lone_surrogates(content) if content.strip() else None,
        model=words_or_none(response.get("model")),
        finish_reason="tool_calls" if calls and reason == "stop" else reason,
        request_id=request_id(reply),
        usage=counts(response.get("usage")),
        service_tier=plain_or_none(response.get("service_tier")),
        tool_calls=calls or None,
    )


def read_kept(reply: Reply) -> Answer | Submitted:
    """Read the response to a call in the background: its id, also if it has ended already.

    A server that does not know `background` answers at once, and may keep nothing.

    Raises:
        CallError: As `read_response`.
    """
    response = read_object(reply)
    if response.get("background") is True and response.get("status") in _UNDER_WAY + _ENDED:
        return Submitted(read_id(response.get("id")))
    return read_response(reply)


def _prompt_of(response: dict[str, Any]) -> str | None:
    """The id of a prompt of ours that a response names; None if it names none."""
    metadata = response.get("metadata")
    named = metadata.get("prompt") if isinstance(metadata, dict) else None
    return named if isinstance(named, str) and _PROMPT.fullmatch(named) else None


def _codes(error: Any) -> list[str]:
    """`error.code` and `error.type`."""
    error = error if isinstance(error, dict) else {}
    return [word for word in (error.get("code"), error.get("type")) if isinstance(word, str)]


def _finish_reason(response: dict[str, Any]) -> str | None:
    """Why a response is not complete, in the words of the chat API."""
    details = response.get("incomplete_details")
    reason = words_or_none(details.get("reason")) if isinstance(details, dict) else None
    return "length" if reason == "max_output_tokens" else reason


def _said(response: dict[str, Any]) -> tuple[str, list[dict[str, Any]]]:
    """What the model says, without what it says on the way to its answer, and the tools it calls.

    Raises:
        PossiblyBilled: If the output is not what it may be.
        Permanent: If the model refused.
    """
    try:
        calls = [
            _tool_call(item)
            for item in response["output"]
            if item["type"] == "function_call" and item.keys() >= _OF_A_CALL
        ]
        parts = [
            part
            for item in response["output"]
            if item["type"] == "message" and item.get("phase") != "commentary"
            for part in item["content"]
        ]
        texts = [part["text"] for part in parts if part["type"] == "output_text"]
        refused = any(part["type"] == "refusal" for part in parts)
    except (TypeError, LookupError, AttributeError):
        raise unreadable("its output is not a list of items") from None
    if refused:
        raise Permanent("the model refused this prompt", status=200)
    if not all(isinstance(text, str) for text in texts) or not is_plain(calls):
        raise unreadable("its content is not text")
    return "".join(texts), calls


def _tool_call(item: dict[str, Any]) -> dict[str, Any]:
    """A call in the form of the chat API."""
    function = {"name": item["name"], "arguments": item["arguments"]}
    return {"id": item["call_id"], "type": "function", "function": function}
