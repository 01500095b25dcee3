"""Encodes a prompt and its answer as a CloudEvent. Pure."""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any
from urllib.parse import quote

from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from chatgpt_source.errors import CallError
from chatgpt_source.prompt import Answer, Prompt

CONTENT_TYPE = JSONFormat.CONTENT_TYPE
"""The media type of what `encode` returns: structured mode (HTTP binding, section 3.2)."""
_AS_IT_IS = "".join(each for each in map(chr, range(0x21, 0x7F)) if each not in '"%')
"""What is not percent-encoded in a header's value (HTTP binding, section 3.1.3.2)."""
_ALL_AS_IT_IS = re.compile(f"[{re.escape(_AS_IT_IS)}]*")


def encode(
    prompt: Prompt,
    answer: Answer,
    include: Sequence[str] = (),
    extensions: Mapping[str, str] | None = None,
) -> bytes:
    """The event that holds an answer, in the JSON event format.

    It is encoded once and journaled, so that every delivery sends the same event.

    Args:
        prompt: The prompt; the event's `time` is its acceptance.
        answer: The answer.
        include: Names of `INCLUDABLE` to add to `data`; null if the provider did not send them.
        extensions: Further attributes, which replace those of the prompt.
    """
    data: dict[str, Any] = {"content": answer.content}
    if answer.tool_calls is not None:
        data["tool_calls"] = answer.tool_calls
    for name in include:
        data[name] = prompt.content if name == "prompt" else getattr(answer, name)
    if prompt.details.metadata is not None:
        data["metadata"] = prompt.details.metadata
    attributes = _attributes(prompt, prompt.id, prompt.type, prompt.accepted)
    return JSONFormat().write(CloudEvent({**attributes, **(extensions or {})}, data))


def binary(event: bytes) -> tuple[dict[str, str], bytes]:
    """An encoded event in binary mode: its headers and its body (HTTP binding, section 3.1).

    The library would check and convert each attribute again, at three times the price.
    """
    attributes = json.loads(event)
    data = attributes.pop("data")
    headers = {
        "content-type" if name == "datacontenttype" else f"ce-{name}": _in_header(value)
        for name, value in attributes.items()
    }
    return headers, json.dumps(data).encode("ascii")


def _in_header(value: str | int) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if _ALL_AS_IT_IS.fullmatch(text) else quote(text, _AS_IT_IS)


def encode_undelivered(event: bytes, target: str, error: CallError) -> bytes:
    """The dead letter of an event that was not delivered: the event, with Knative's extensions.

    As in Knative Eventing's delivery specification, `knativeerrordest` is the receiver's address,
    `knativeerrorcode` the HTTP status, if there was one, and `knativeerrordata` the reason.
    """
    letter = json.loads(event)
    data = letter.pop("data")
    letter["knativeerrordest"] = target.partition("?")[0]  # the query may hold a secret
    if error.status is not None:
        letter["knativeerrorcode"] = error.status
    letter["knativeerrordata"] = error.reason
    return json.dumps({**letter, "data": data}).encode("ascii")


def encode_unanswered(
    prompt: Prompt,
    asks: int,
    error: CallError,
    now: float,
    extensions: Mapping[str, str] | None = None,
) -> bytes:
    """The dead letter of a prompt that was not answered: an event of a type and id of its own.

    Its id is not the prompt's, which belongs to the answer in case the prompt is redriven.
    """
    attributes = _attributes(prompt, f"{prompt.id}-failed-{asks}", f"{prompt.type}.failed", now)
    told = {"prompt": prompt.id, "reason": error.reason, "status": error.status}
    return JSONFormat().write(CloudEvent({**attributes, **(extensions or {})}, {"error": told}))


def _attributes(prompt: Prompt, id_: str, type_: str, time: float) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": id_,
        "source": prompt.source,
        "type": type_,
        "datacontenttype": "application/json",
        "time": datetime.fromtimestamp(time, timezone.utc),
        **(prompt.trace.members() if prompt.trace else {}),
        **prompt.details.attributes,
    }
