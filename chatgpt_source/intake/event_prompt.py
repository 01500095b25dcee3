"""Finds the prompt in a CloudEvent. Pure."""

import base64
import re
from collections.abc import Mapping
from typing import Any

from twisted.internet.interfaces import IReactorTime

from chatgpt_source.cloudevent import read_time
from chatgpt_source.config import Config
from chatgpt_source.config.readers import Wrong
from chatgpt_source.http.server import Problem
from chatgpt_source.http.server.events import data_of, refuse_unknown_charsets
from chatgpt_source.intake.conversation import read_messages, read_text
from chatgpt_source.intake.fields import Fields, make_prompt, submission
from chatgpt_source.intake.times import steady_of
from chatgpt_source.journal import Key, Submission
from chatgpt_source.prompt import DEFAULT_TYPE, Details, Trace
from chatgpt_source.telemetry.tracing import read_trace

Event = Mapping[str, Any]
"""An event in the form of the CloudEvents JSON format, checked."""
MEMBERS = ("prompt", "message", "messages")
"""Members of an event's data that hold a prompt; the first that is there does."""
_KEPT = (("subject", "subject"), ("correlationid", "correlationid"))


def read_submission(
    event: Event,
    fields: Fields,
    config: Config,
    clock: IReactorTime,
    trace: Trace | None,
    most_marks: int,
) -> Submission:
    """The submission of the prompt in an event, which is known by its `source` and `id`.

    Args:
        event: The event.
        fields: The fields that its request sets.
        config: The settings.
        clock: The clock.
        trace: The trace of its request, if any.
        most_marks: The bound of `limited_json` for JSON in Base64.

    Raises:
        Problem: 400 if there is no prompt in it, or if its answer would be of its own type; 415 if
            its data is in a charset that is not read.
    """
    if event["type"] == fields.get("type", DEFAULT_TYPE):
        raise Problem(
            400,
            "the event's type is that of answers, so a broker would send the answer here again:"
            " send events of other types only, or set the answer's with the vanus-type header",
        )
    text, conversation = _prompt(event, config, most_marks)
    prompt = make_prompt(
        text,
        fields,
        config,
        clock,
        trace or _trace(event),
        Details(conversation, attributes=_attributes(event, config.copy_extensions)),
        expiry=_expiry(event, clock),
    )
    key = Key(("event", event["source"], event["id"]), any_content=True)
    return submission(prompt, key, clock)


def _prompt(event: Event, config: Config, most_marks: int) -> tuple[str, bool]:
    """The prompt's text, and whether that is a conversation."""
    where, found = "its data", _data(event, most_marks)
    if not isinstance(found, str):
        pointed = None
        if config.prompt_pointer is not None:
            where, pointed = "what `prompt_pointer` points at", _at(config.prompt_pointer, found)
        if pointed is None and isinstance(found, dict):
            named = [name for name in MEMBERS if found.get(name) is not None]
            where = f"its data's `{named[0]}`" if named else ""
            pointed = found[named[0]] if named else None
        found = pointed
    if found is None:
        pointer = "" if config.prompt_pointer is None else ", or at `prompt_pointer`"
        raise Problem(
            400,
            "the event has no prompt: its data must be text, a JSON string, or an object with"
            f" `prompt`, `message` or `messages`{pointer}",
        )
    try:
        if isinstance(found, list):
            return read_messages(found, system="system" in config.callers_may_set), True
        return read_text(found), False
    except Wrong as wrong:
        raise Problem(400, f"the event's prompt ({where}) must be {wrong}") from None


def _data(event: Event, most_marks: int) -> Any:
    """An event's data: text or a JSON value; None if it has none."""
    encoded = event.get("data_base64")
    if encoded is None:
        return event.get("data")
    refuse_unknown_charsets(event.get("datacontenttype"))
    body = base64.b64decode(encoded)
    member = data_of(body, event.get("datacontenttype"), "datacontenttype", most_marks)
    if "data" not in member:
        raise Problem(400, "the event's data must be JSON, or text in the charset that it names")
    return member["data"]


def _at(pointer: str, value: Any) -> Any:
    """What a JSON Pointer (RFC 6901) points at; None if there is nothing."""
    for token in pointer.split("/")[1:]:
        name = token.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict):
            value = value.get(name)
        elif isinstance(value, list):
            is_index = re.fullmatch("0|[1-9][0-9]{0,8}", name) and int(name) < len(value)
            value = value[int(name)] if is_index else None
        else:
            return None
    return value


def _attributes(event: Event, copies: Mapping[str, str]) -> dict[str, str | int | bool]:
    """The attributes of the answer that come from the event."""
    attributes = {"causationid": event["id"], "correlationid": event["id"]}
    for name, of in (*_KEPT, *copies.items()):
        if event.get(of) is not None:
            attributes[name] = event[of]
    return attributes


def _trace(event: Event) -> Trace | None:
    """The trace in the attributes of the Distributed Tracing extension, if any."""
    given = [event.get(name) for name in ("traceparent", "tracestate")]
    parents, states = ([each.encode()] if isinstance(each, str) else [] for each in given)
    return read_trace(parents, states)


def _expiry(event: Event, clock: IReactorTime) -> float | None:
    """When the event expires, by the steady clock, if it does."""
    given = event.get("expirytime")
    if given is None:
        return None
    date = read_time(given) if isinstance(given, str) else None
    if date is None:
        raise Problem(
            400, "attribute 'expirytime' must be an RFC 3339 time such as 2026-01-31T12:00:00Z"
        )
    return steady_of(date, clock)
