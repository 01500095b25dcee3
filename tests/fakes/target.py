"""A receiver of CloudEvents in structured mode that keeps them."""

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

from tests.fakes.server import Received, Reply, ScriptedServer

_MEDIA_TYPE = re.compile(r"(?i)application/cloudevents\+json(\s*;\s*charset=\"?utf-8\"?)?")


class FakeTarget(ScriptedServer):
    """Answers 200 to each event, and 400 to what is none.

    Args:
        reactor: The real reactor.

    Attributes:
        events: The events that were answered with a 2xx, in order.
        options: What `OPTIONS` is answered.
    """

    def __init__(self, reactor: Any) -> None:
        super().__init__(reactor)
        self.events: list[dict[str, Any]] = []
        self.options = Reply(405)

    def aside(self, request: Received) -> Reply | None:
        return self.options if request.method == "OPTIONS" else None

    def default(self, _request: Received) -> Reply:
        return Reply(200)

    def objection(self, request: Received) -> Reply | None:
        wrong = None if request.method == "OPTIONS" else _wrong_with(request)
        if wrong is None:
            return None
        self.complaints.append(wrong)
        return Reply(400, wrong.encode(), {"Content-Type": "text/plain; charset=utf-8"})

    def answered(self, request: Received) -> None:
        if 200 <= request.reply.status < 300 and request.method == "POST":
            self.events.append(request.document)

    def bodies(self, event_id: str) -> list[bytes]:
        """The bodies of all attempts to deliver an event, taken or not."""
        return [
            r.body
            for r in self.requests
            if isinstance(r.document, dict) and r.document.get("id") == event_id
        ]


def _wrong_with(request: Received) -> str | None:
    """Why a request is no event in structured mode (CloudEvents HTTP binding, section 3.2)."""
    if request.method != "POST":
        return "an event comes by POST"
    if not _MEDIA_TYPE.fullmatch(request.header("content-type") or ""):
        return "the media type must be application/cloudevents+json"
    return wrong_with_event(request.document)


def wrong_with_event(event: Any) -> str | None:
    """Why a JSON value is no event (CloudEvents JSON format); None if it is one."""
    if not isinstance(event, dict):
        return "an event is a JSON object"
    return next((rule for rule, holds in _RULES.items() if not holds(event)), None)


def _is_timestamp(value: Any) -> bool:
    try:
        moment = datetime.fromisoformat(value.replace("Z", "+00:00"))
    except (ValueError, AttributeError):
        return False
    return moment.tzinfo is not None


def _is_name(name: str) -> bool:
    return re.fullmatch("[a-z0-9]+|data_base64", name) is not None


_RULES: dict[str, Callable[[dict[str, Any]], bool]] = {
    "specversion must be 1.0": lambda event: event.get("specversion") == "1.0",
    "id, source and type must be strings that are not empty": lambda event: all(
        isinstance(event.get(name), str) and event[name] for name in ("id", "source", "type")
    ),
    "a name is made of lower-case letters and digits": lambda event: all(map(_is_name, event)),
    "data and data_base64 exclude each other": lambda event: (
        not {"data", "data_base64"} <= {*event}
    ),
    "time must be a timestamp (RFC 3339)": lambda event: (
        "time" not in event or _is_timestamp(event["time"])
    ),
}
