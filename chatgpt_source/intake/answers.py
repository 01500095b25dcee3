"""Answers a request with a prompt's event, or says why there is none."""

import json
from collections.abc import Mapping
from math import ceil

from chatgpt_source.delivery.event import binary
from chatgpt_source.http.server import BoundedRequest, Problem, to_json
from chatgpt_source.intake.accepting import Accepted
from chatgpt_source.intake.preferences import Form
from chatgpt_source.journal import Kept, Record
from chatgpt_source.prompt import Answer, Arrival, State

NO_STORE = {"Cache-Control": "no-store"}
SOONEST, LATEST = 1, 60
"""The least and the most seconds after which a caller looks for an answer again."""


def answer_accepted(request: BoundedRequest, accepted: Accepted, at: str = "/prompts") -> None:
    """Answer with what was accepted.

    An event gets no body: brokers take any body that is not an event for a failed delivery.

    Args:
        request: The request.
        accepted: What was accepted.
        at: The path of prompts.
    """
    body = b""
    if accepted.arrival is not Arrival.EVENT:
        body = to_json({"id": accepted.ids[0], "status": "accepted"})
    request.answer(202, body, accepted.headers(at))


def answer_with_event(
    request: BoundedRequest,
    kept: Kept,
    form: Form,
    applied: str | None = None,
    more: Mapping[str, str] | None = None,
) -> None:
    """Answer with the event of a prompt that is asked no more.

    Args:
        request: The request.
        kept: The prompt, and its event.
        form: The form of the answer.
        applied: The preference of a caller who waited. It gets an answer also if that could not be
            delivered.
        more: Further header fields.

    Raises:
        Problem: If there is no event.
    """
    waited = applied is not None
    headers = {**NO_STORE, **(more or {})}
    if kept.event is None or (kept.record.state is State.FAILED and not waited):
        raise _without_event(kept, headers, waited=waited)
    if applied is not None:
        headers["Preference-Applied"] = applied
    body, media_type = kept.event, form.value
    if form is Form.BINARY:
        own, body = binary(kept.event)
        media_type = own.pop("content-type")
        headers |= own
    elif form is Form.TEXT:
        data = json.loads(kept.event)["data"]
        body = Answer(data["content"], tool_calls=data.get("tool_calls")).text.encode("utf-8")
        media_type = "text/plain; charset=utf-8"
    request.answer(200, body, headers, media_type)


def answer_later(request: BoundedRequest, record: Record, now: float) -> None:
    """Answer with the record of a prompt that has no answer yet.

    Args:
        request: The request.
        record: The record.
        now: The date.
    """
    due = record.next_attempt
    wait = SOONEST if due is None else min(LATEST, max(SOONEST, ceil(due - now)))
    request.answer(202, to_json(record.to_dict()), {"Retry-After": str(wait), **NO_STORE})


def _without_event(kept: Kept, headers: Mapping[str, str], *, waited: bool) -> Problem:
    """Why there is no event; a caller who waited learns whether asking or its time is to blame."""
    record = kept.record
    status = 410
    if record.state is State.FAILED:
        detail = f"the prompt has failed: {record.error}"
        if waited:
            status = 504 if kept.timed_out else 502
    elif record.state is State.CANCELLED:
        detail = "the prompt was cancelled: send a new one"
    else:
        detail = (
            "the event was delivered, and its text is not kept any more: `keep_answers` says how"
            " long it is kept"
        )
    return Problem(status, detail, headers)
