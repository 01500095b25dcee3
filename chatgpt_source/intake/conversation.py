"""Checks what callers write for the model: texts, conversations and objects. Pure."""

import json
from collections.abc import Mapping
from typing import Any

from chatgpt_source import limited_json
from chatgpt_source.config.readers import Wrong

MOST_DEPTH = 50
"""How deep an object or a message may be nested."""
ROLES = ("user", "assistant", "system", "developer")
_SYSTEM = ("system", "developer")
"""The roles that give the model its instructions."""
_WHOLE = "whole characters, without lone surrogates"


def read_text(value: Any) -> str:
    """Text that is not blank.

    Raises:
        Wrong: If it is none.
    """
    if not isinstance(value, str) or not value.strip():
        raise Wrong("text that is not blank")
    _encoded(value, f"text of {_WHOLE}")
    return value


def read_object(value: Any) -> Mapping[str, Any]:
    """An object that can be passed on.

    Raises:
        Wrong: If it is none.
    """
    if not isinstance(value, dict):
        raise Wrong("an object")
    if limited_json.is_deeper(value, MOST_DEPTH):
        raise Wrong(f"an object that is nested at most {MOST_DEPTH} deep")
    _encoded(json.dumps(value, ensure_ascii=False), f"an object of {_WHOLE}")
    return value


def read_messages(value: Any, *, system: bool) -> str:
    """A conversation, as the JSON of its messages.

    Args:
        value: The messages.
        system: Whether the caller may give the model its instructions.

    Raises:
        Wrong: If it is none.
    """
    if not isinstance(value, list) or not value:
        raise Wrong("a list of messages, each with `role` and `content`")
    if limited_json.is_deeper(value, MOST_DEPTH):
        raise Wrong(f"a list of messages that is nested at most {MOST_DEPTH} deep")
    for number, message in enumerate(value, 1):
        fault = _fault(message, system=system)
        if fault:
            raise Wrong(f"a list of messages; message no. {number} must {fault}")
    text = json.dumps(value, ensure_ascii=False)
    _encoded(text, f"a list of messages of {_WHOLE}")
    return text


def _fault(message: Any, *, system: bool) -> str | None:
    """What a message must do; None if it does."""
    if not isinstance(message, dict) or message.keys() != {"role", "content"}:
        return "have `role` and `content`, and nothing else"
    role, content = message["role"], message["content"]
    if role not in ROLES:
        return f"have one of the roles {', '.join(ROLES)}"
    if role in _SYSTEM and not system:
        return f"have another role than {role}: `callers_may_set` does not list `system`"
    if isinstance(content, str):
        return None if content.strip() else "have content that is not blank"
    if isinstance(content, list) and content and all(map(_is_part, content)):
        return None
    return "have content that is text, or a list of parts, each an object with its `type`"


def _is_part(part: Any) -> bool:
    return isinstance(part, dict) and isinstance(part.get("type"), str)


def _encoded(text: str, expected: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise Wrong(expected) from None
