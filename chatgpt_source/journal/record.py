"""What is told of a prompt: its record, its event, and its end."""

from typing import Any

from attrs import field, frozen

from chatgpt_source.clock import rfc3339
from chatgpt_source.prompt import TARGET, State

TIME_IS_UP = "its time is up"
"""The beginning of the reason why a prompt failed at its deadline, or expired."""


@frozen
class Record:
    """A prompt's record, without its text and its answer.

    Attributes:
        ended: When it reached a final state.
        next_attempt: When its next call is due; None if none is, or one is under way.
        request_id: The provider's id of its last call, if known.
        target: The destination of its event.
        position: Its place in the order of acceptance, for `records` and `latest`.
    """

    id: str
    state: State
    accepted: float
    answered: float | None
    ended: float | None
    asks: int
    deliveries: int
    error: str | None
    next_attempt: float | None = None
    request_id: str | None = None
    target: str = TARGET.setting
    position: int = 0

    @property
    def delivered(self) -> float | None:
        """When it was delivered."""
        return self.ended if self.state is State.DELIVERED else None

    @property
    def failed(self) -> float | None:
        """When it failed."""
        return self.ended if self.state is State.FAILED else None

    def to_dict(self) -> dict[str, Any]:
        """The record for JSON; times in RFC 3339, in UTC."""
        return {
            "id": self.id,
            "state": self.state.value,
            "accepted": rfc3339(self.accepted),
            "answered": rfc3339(self.answered),
            "delivered": rfc3339(self.delivered),
            "failed": rfc3339(self.failed),
            "asks": self.asks,
            "deliveries": self.deliveries,
            "error": self.error,
            "next_attempt": rfc3339(self.next_attempt),
            "request_id": self.request_id,
            "target": self.target,
        }


@frozen
class Kept:
    """A prompt's record, and its event while that is kept.

    Attributes:
        record: The record.
        event: The event's bytes, in structured mode; None if there is none, or it is gone.
        timed_out: Whether it failed because its time was up.
    """

    record: Record
    event: bytes | None = field(repr=False)
    timed_out: bool = False


@frozen
class End:
    """The end of a prompt, DELIVERED or FAILED with an error; its date and its target."""

    id: str
    state: State
    at: float
    error: str | None = None
    target: str = TARGET.destination


@frozen
class Cancelled:
    """A prompt is cancelled.

    Attributes:
        repeated: Whether it was cancelled before.
    """

    repeated: bool = False
