"""Reads the JSON of `POST /prompts`, and names every mistake in it. Pure."""

import re
from collections.abc import Callable, Mapping
from math import inf
from typing import Any

from attrs import field, frozen
from twisted.internet.interfaces import IReactorTime

from chatgpt_source.cloudevent import is_string
from chatgpt_source.config import CALLERS_MEMBERS, Config
from chatgpt_source.config.readers import Reader, Wrong, callers_format, number, whole
from chatgpt_source.http.server import Problem
from chatgpt_source.http.server.events import quoted
from chatgpt_source.intake.conversation import read_messages, read_object, read_text
from chatgpt_source.intake.fields import FIELDS, Fields
from chatgpt_source.intake.times import FORM, read_instant
from chatgpt_source.prompt import Details

MOST_WORDS = 2**10
"""Characters of a member that is no prompt, object or system prompt."""
MOST_NAMED = 10
"""How many unknown members a refusal names."""
_API_NAMES = {"max_tokens": "max_completion_tokens"}
"""Members of a call that have another name there."""


@frozen
class Written:
    """What a document says of a prompt.

    Attributes:
        text: The prompt's text.
        fields: The fields that it or a header sets.
        details: What the prompt has besides.
        not_before: When it may be asked, by the steady clock; None: at once.
    """

    text: str = field(repr=False)
    fields: Fields = field(repr=False)
    details: Details
    not_before: float | None


def members_of(document: Any) -> Mapping[str, Any]:
    """The members of a JSON object that are not null, which is as good as absent.

    Raises:
        Problem: 400 if it is no object.
    """
    if not isinstance(document, dict):
        raise Problem(400, "the body must be a JSON object with `prompt` or `messages`")
    return {name: value for name, value in document.items() if value is not None}


def read_members(
    members: Mapping[str, Any], headers: Fields, config: Config, clock: IReactorTime
) -> Written:
    """What the members of a document say, and the headers where the document does not.

    Raises:
        Problem: 400 with a line for each mistake.
    """
    mistakes: list[str] = []
    read: dict[str, Any] = {}
    for name in [name for name in _READERS if name in members]:
        if name in CALLERS_MEMBERS and name not in config.callers_may_set:
            mistakes.append(f"`{name}` must be left out: `callers_may_set` does not list it")
            continue
        try:
            read[name] = _READERS[name](members[name], config, clock)
        except Wrong as wrong:
            mistakes.append(f"`{name}` must be {wrong}")
    if ("prompt" in members) == ("messages" in members):
        mistakes.append("there must be `prompt` or `messages`, and not both")
    fields = {**headers, **{name: read[name] for name in FIELDS if name in read}}
    not_before = read.get("not_before")
    if not_before is not None and fields.get("deadline", inf) <= not_before:
        mistakes.append("`not_before` must be before the deadline")
    unknown = [name for name in members if name not in _READERS]
    if unknown:
        shown = ", ".join(map(quoted, unknown[:MOST_NAMED]))
        mistakes.append(f"unknown members ({len(unknown)}): {shown}; known: {', '.join(_READERS)}")
    if mistakes:
        raise Problem(400, "\n".join(mistakes))
    details = Details(
        conversation="messages" in read,
        call={_API_NAMES.get(name, name): read[name] for name in CALLERS_MEMBERS if name in read},
        attributes={"subject": read["subject"]} if "subject" in read else {},
        metadata=read.get("metadata"),
    )
    return Written(read.get("prompt") or read["messages"], fields, details, not_before)


def _words(value: Any) -> str:
    text = read_text(value)
    if len(text) > MOST_WORDS:
        raise Wrong(f"text of at most {MOST_WORDS} characters")
    return text


def _word(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[\x21-\x7e]{1,200}", value):
        raise Wrong("a word in ASCII")
    return value


def _subject(value: Any) -> str:
    if not is_string(_words(value)):
        raise Wrong("text without control characters")
    return str(value)


def _instant(value: Any) -> str:
    """The text of an instant: a number would leave open what it counts."""
    if not isinstance(value, str):
        raise Wrong(f"text: {FORM}")
    return _words(value)


Read = Callable[[Any, Config, IReactorTime], Any]


def _plain(read: Callable[[Any], Any]) -> Read:
    return lambda value, _, __: read(value)


def _as_in_config(read: Reader) -> Read:
    return lambda value, _, __: read(value, {})


def _field(read: Callable[[str, Config, IReactorTime], Any]) -> Read:
    return lambda value, config, clock: read(_words(value), config, clock)


_READERS: Mapping[str, Read] = {
    "prompt": _plain(read_text),
    "messages": lambda value, config, _: read_messages(
        value, system="system" in config.callers_may_set
    ),
    **{name: _field(read) for name, read in FIELDS.items()},
    "deadline": lambda value, *given: FIELDS["deadline"](_instant(value), *given),
    "subject": _plain(_subject),
    "metadata": _plain(read_object),
    "not_before": lambda value, _, clock: read_instant(_instant(value), clock),
    "model": _plain(_words),
    "max_tokens": _as_in_config(whole(1, 10**9)),
    "temperature": _as_in_config(number(0, 2)),
    "reasoning_effort": _plain(_word),
    "response_format": lambda value, *_: callers_format(read_object(value), {}),
    "system": _plain(read_text),
}
"""How each member is read; they raise Wrong."""
