"""The values that travel through the rooms, and the ways a call or a prompt can fail.

Instants are seconds since the epoch (floats), durations are seconds. What a caller or the model
wrote is never part of a `repr`, so it can't reach a log by way of one.
"""

from collections.abc import Mapping
from enum import Enum
from typing import Any

from attrs import field, frozen

DEFAULT_SOURCE = "vanus-chatGPT-source"
DEFAULT_TYPE = "vanus-chatGPT-type"


class State(str, Enum):
    """How far a prompt has come. `DELIVERED` and `FAILED` are ends."""

    ACCEPTED = "accepted"
    ANSWERED = "answered"
    DELIVERED = "delivered"
    FAILED = "failed"


@frozen
class Trace:
    """The trace that a caller is in: its `traceparent` and `tracestate` (W3C Trace Context)."""

    parent: str = field(repr=False)
    state: str | None = field(default=None, repr=False)

    def members(self) -> dict[str, str]:
        """Its headers; an event's attributes of the Distributed Tracing extension as well."""
        state = {} if self.state is None else {"tracestate": self.state}
        return {"traceparent": self.parent, **state}


def _in_utf8(text: str | bytes) -> bytes:
    return text.encode("utf-8") if isinstance(text, str) else text


@frozen
class Prompt:
    """A question somebody asked us to pass on.

    Many wait at once, so a text is kept in UTF-8: one character may make a `str` four times as
    large.

    Attributes:
        id: A UUID4; the event's id as well.
        source: The event's `source`, a URI-reference.
        type: The event's `type`.
        accepted: When it was accepted.
        trace: The trace its request was part of, if any.
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
    """What the model said, and what its provider says of the call.

    Attributes:
        usage: The tokens counted, in the provider's own words.
    """

    content: str = field(repr=False)
    model: str | None = None
    finish_reason: str | None = None
    request_id: str | None = None
    usage: Mapping[str, Any] | None = field(default=None, repr=False)


@frozen
class Receiver:
    """One who gets events.

    Attributes:
        name: Its name, for people.
        setting: The setting that says where it is.
    """

    name: str
    setting: str


TARGET = Receiver("the target", "target")
DEAD_LETTER = Receiver("the dead letter's receiver", "dead_letter")


class CallError(Exception):
    """A call to the model or the target that did not do its work.

    The subclass is the policy: what to do with the prompt. The text says what happened in words an
    operator can act on, and holds nothing that a caller, the model or the target wrote.

    Attributes:
        status: The peer's HTTP status, if it answered.
        retry_after: How long the peer asked us to wait, in seconds.
        request_id: The model provider's name for the call that the prompt's way led to, if any.
    """

    def __init__(
        self,
        reason: str,
        *,
        status: int | None = None,
        retry_after: float | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status
        self.retry_after = retry_after
        self.request_id = request_id

    @property
    def throttled(self) -> bool:
        """Whether the peer said that we call too often (RFC 6585, section 4)."""
        return self.status == 429


class Again(CallError):
    """Worth trying again, after a while."""


class MaybeBilled(Again):
    """Worth trying again, but the model may have answered, and billed, without our seeing it."""


class Hold(CallError):
    """Wrong with us or with the peer, not with this prompt: stop calling, and probe."""


class Rejected(CallError):
    """This prompt can't succeed: set it aside."""


class Refusal(Exception):
    """A prompt that can't be accepted now; nothing was changed.

    Attributes:
        retry_after: Seconds until another try may succeed.
    """

    def __init__(self, reason: str, *, retry_after: float) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after = retry_after


class QuotaUsedUp(Refusal):
    """The day's limit is reached."""


class BacklogFull(Refusal):
    """As many prompts wait as `max_backlog` allows."""


class Draining(Refusal):
    """The daemon is stopping."""


class JournalUnavailable(Refusal):
    """The journal can't be written; it may heal."""


class KeyReused(Exception):
    """An idempotency key came again, with another prompt, source or type."""


class NotRedriven(Exception):
    """A prompt can't be taken up again; the text says why."""


class JournalError(Exception):
    """The journal can't be opened; the text is one line that names the file."""


class JournalInUse(JournalError):
    """Another daemon has the journal, for now at least."""
