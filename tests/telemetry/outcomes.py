"""Ended calls, made up."""

from typing import Any

from chatgpt_source.errors import Permanent
from chatgpt_source.prompt import Ask, Delivery, Prompt, State
from chatgpt_source.telemetry.observer import AskEnded, DeliveryEnded

SOME = {"started": 0.0, "seconds": 1.0}


def ended(
    state: State | None,
    reason: str | None = None,
    *,
    name: str = "p",
    accepted: float = 0.0,
    **more: Any,
) -> AskEnded | DeliveryEnded:
    """A call by which a prompt reached a state."""
    error = Permanent(reason) if reason else None
    what = {**SOME, "date": accepted, "error": error, "state": state, "reason": reason, **more}
    if state in {State.DELIVERED, State.FAILED}:
        delivery = Delivery(name, b"{}", 0.0, 1, accepted)
        return DeliveryEnded(delivery=delivery, **what)
    return AskEnded(ask=Ask(Prompt(name, "x", "s", "t", accepted), 1, 1, 0.0), **what)


def tell(observer: Any, call: AskEnded | DeliveryEnded) -> None:
    """Tell an observer of a call."""
    (observer.asked if isinstance(call, AskEnded) else observer.sent)(call)
