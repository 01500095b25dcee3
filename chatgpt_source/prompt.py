"""The values that packages exchange: prompts, answers, asks, deliveries.

Instants are seconds since the epoch (floats), durations are seconds. A `repr` never holds what a
caller or the model wrote, so it can't reach a log.
"""

from collections.abc import Mapping
from enum import Enum
from typing import Any

from attrs import field, frozen

DEFAULT_SOURCE = "vanus-chatGPT-source"
DEFAULT_TYPE = "vanus-chatGPT-type"


class State(str, Enum):
    """A prompt's state. `DELIVERED` and `FAILED` are final."""

    ACCEPTED = "accepted"
    ANSWERED = "answered"
    DELIVERED = "delivered"
    FAILED = "failed"


@frozen
class Trace:
    """A caller's trace: its `traceparent` and `tracestate` (W3C Trace Context)."""

    parent: str = field(repr=False)
    state: str | None = field(default=None, repr=False)

    def members(self) -> dict[str, str]:
        """Its headers; also the event's attributes of the Distributed Tracing extension."""
        state = {} if self.state is None else {"tracestate": self.state}
        return {"traceparent": self.parent, **state}


def _in_utf8(text: str | bytes) -> bytes:
    return text.encode("utf-8") if isinstance(text, str) else text


@frozen
class Prompt:
    """A prompt that a caller sent.

    Many prompts wait at once, so the text is kept in UTF-8: one character can make a `str` four
    times as large.

    Attributes:
        id: A UUID4; the event's id as well.
        source: The event's `source`, a URI-reference.
        type: The event's `type`.
        accepted: When it was accepted.
        trace: The trace of its request, if any.
    """

    id: str
    _utf8: bytes = field(repr=False, alias="text", converter=_in_utf8)
    source: str = field(repr=False)
    type: str = field(repr=False)
    accepted: float
    trace: Trace | None = None

    @property
    def text(self) -> str:
        """The body of the request, decoded; never blank."""
        return self._utf8.decode("utf-8")


@frozen
class Answer:
    """The model's answer, and the provider's report of the call.

    Attributes:
        usage: The provider's counts of tokens, by its own names.
    """

    content: str = field(repr=False)
    model: str | None = None
    finish_reason: str | None = None
    request_id: str | None = None
    usage: Mapping[str, Any] | None = field(default=None, repr=False)


@frozen
class Ask:
    """A prompt that was claimed for a call to the model.

    Attributes:
        prompt: The prompt.
        attempt: The number of this call since `since`, from 1.
        total: The number of this call of all, from 1.
        since: The start of the time that asking may take, by the steady clock.
        possibly_billed: How many earlier calls may have been billed without an answer.
        held: When a call for it first met a hold, if one did.
        token: The claim's fencing token.
    """

    prompt: Prompt
    attempt: int
    total: int
    since: float
    possibly_billed: int = 0
    held: float | None = None
    token: int = 0


@frozen
class Delivery:
    """An outbox row that was claimed for a call to its destination.

    Attributes:
        id: The prompt's id.
        event: The event's bytes, in structured mode (CloudEvents JSON format).
        since: The start of the time that delivering may take, by the steady clock.
        attempt: The number of this call since then, from 1.
        accepted: When the prompt was accepted.
        trace: The prompt's trace.
        request_id: The provider's id of the call that brought the answer.
        held: When a call for it first met a hold, if one did.
        destination: Where it goes: a `Receiver`'s setting.
        token: The claim's fencing token.
    """

    id: str
    event: bytes = field(repr=False)
    since: float
    attempt: int
    accepted: float
    trace: Trace | None = None
    request_id: str | None = None
    held: float | None = None
    destination: str = "target"
    token: int = 0


@frozen
class Receiver:
    """A receiver of events.

    Attributes:
        name: Its name for messages.
        setting: The setting with its address.
    """

    name: str
    setting: str


MODEL = "model"
"""The model's name among the peers that the journal remembers; a receiver's is its setting."""
TARGET = Receiver("the target", "target")
DEAD_LETTER = Receiver("the dead letter's receiver", "dead_letter")
