"""The event that every rival makes of an answer."""

from typing import Any


def event_of(id_: str, time: str, answer: str | None) -> dict[str, Any]:
    """A CloudEvent in the JSON event format."""
    return {
        "specversion": "1.0",
        "id": id_,
        "source": "relay",
        "type": "answer",
        "datacontenttype": "application/json",
        "time": time,
        "data": {"content": answer},
    }
