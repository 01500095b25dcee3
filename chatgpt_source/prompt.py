"""The values that packages exchange: prompts, answers, asks, deliveries.

Instants are seconds since the epoch (floats), durations are seconds. A `repr` never holds what a
caller or the model wrote, so it can't reach a log.
"""

import json
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

from attrs import asdict, field, frozen

DEFAULT_SOURCE = "vanus-chatGPT-source"
DEFAULT_TYPE = "vanus-chatGPT-type"


class State(str, Enum):
    """A prompt's state. All but the first three are final."""

    ACCEPTED = "accepted"
    SUBMITTED = "submitted"
    ANSWERED = "answered"
    DELIVERED = "delivered"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Arrival(str, Enum):
    """The form in which a prompt arrived."""

    TEXT = "text"
    EVENT = "event"
    JSON = "json"


class Tier(str, Enum):
    """How a provider serves a call, and what for: the further off the answer, the cheaper.

    `FLEX`: `service_tier: flex`, at half the price, when there is room. `BATCH`: a line of a batch,
    at half the price, within a day.
    """

    STANDARD = "standard"
    FLEX = "flex"
    BATCH = "batch"


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
class Details:
    """What a prompt that is more than a text has besides.

    Attributes:
        conversation: Whether the prompt's text is the JSON of a list of chat messages.
        call: Members of the call to the model that the caller set; `system` is the system prompt.
        attributes: Further attributes of the event: `subject` and extensions.
        metadata: An object that comes back in the event's `data`; None if the caller sent none.
    """

    conversation: bool = False
    call: Mapping[str, Any] = field(factory=dict, repr=False)
    attributes: Mapping[str, str | int | bool] = field(factory=dict, repr=False)
    metadata: Mapping[str, Any] | None = field(default=None, repr=False)

    def to_json(self) -> str | None:
        """For the journal; None for those of a plain text."""
        return None if self is PLAIN or self == PLAIN else json.dumps(asdict(self, recurse=False))

    @classmethod
    def from_json(cls, text: str | None) -> "Details":
        """From the journal; None for those of a plain text."""
        return PLAIN if text is None else cls(**json.loads(text))


PLAIN = Details()
"""The details of a prompt that is only a text."""


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
        target: The destination of its event: a target's name, or `NOWHERE`.
        details: What it has besides.
        not_before: When it may be asked, by the steady clock; None: at once.
        deadline: When asking ends, by the steady clock, instead of `give_up_after`; None: it has
            no deadline.
        expiry: When it expires as well, by the steady clock, if it does.
        tier: How it is to be served next.
    """

    id: str
    _utf8: bytes = field(repr=False, alias="text", converter=_in_utf8)
    source: str = field(repr=False)
    type: str = field(repr=False)
    accepted: float
    trace: Trace | None = None
    target: str = "target"
    details: Details = PLAIN
    not_before: float | None = None
    deadline: float | None = None
    expiry: float | None = None
    tier: Tier = Tier.STANDARD

    @property
    def text(self) -> str:
        """The prompt as text, never blank; of a conversation, the JSON of its messages."""
        return self._utf8.decode("utf-8")

    @property
    def content(self) -> Any:
        """The text, or the list of messages of a conversation."""
        return json.loads(self._utf8) if self.details.conversation else self.text

    @property
    def ends(self) -> float | None:
        """When it is too late to ask, by the steady clock; None: never."""
        if self.deadline is None or self.expiry is None:
            return self.expiry if self.deadline is None else self.deadline
        return min(self.deadline, self.expiry)


@frozen
class Answer:
    """The model's answer, and the provider's report of the call.

    Attributes:
        content: The text; where JSON was asked for, its value; None beside tool calls alone.
        usage: The provider's counts of tokens, by its own names.
        service_tier: The tier that was billed, in the provider's word.
        provider: The name of the provider.
        tool_calls: The tools that it calls, in the form of the chat API; None: it calls none.
    """

    content: Any = field(repr=False)
    model: str | None = None
    finish_reason: str | None = None
    request_id: str | None = None
    usage: Mapping[str, Any] | None = field(default=None, repr=False)
    service_tier: str | None = None
    provider: str | None = None
    tool_calls: Sequence[Any] | None = field(default=None, repr=False)

    @property
    def input_tokens(self) -> Any:
        """The tokens of the prompt, by the name of either API; None if they are not told."""
        usage = self.usage or {}
        return usage.get("prompt_tokens", usage.get("input_tokens"))

    @property
    def output_tokens(self) -> Any:
        """The tokens of the answer, likewise."""
        usage = self.usage or {}
        return usage.get("completion_tokens", usage.get("output_tokens"))

    @property
    def cached_tokens(self) -> Any:
        """Those tokens of the prompt that the provider had in its cache, likewise."""
        usage = self.usage or {}
        details = usage.get("prompt_tokens_details", usage.get("input_tokens_details"))
        return details.get("cached_tokens") if isinstance(details, dict) else None

    @property
    def text(self) -> str:
        """The text; else the JSON of the value, or of the tool calls alone."""
        if isinstance(self.content, str):
            return self.content
        told = self.content if self.content is not None else self.tool_calls
        return json.dumps(told, ensure_ascii=False)


@frozen
class Submitted:
    """A prompt that the provider works on, and keeps under an id.

    Attributes:
        id: The provider's id, a plain word.
    """

    id: str


@frozen
class Ask:
    """A prompt that was claimed for a call to the model, or for a poll of a submitted one.

    Attributes:
        prompt: The prompt.
        attempt: The number of this call since `since`, from 1.
        total: The number of this call of all, from 1.
        since: The start of the time that asking may take, by the steady clock.
        possibly_billed: How many earlier calls may have been billed without an answer.
        held: When a call for it first met a hold, if one did.
        token: The claim's fencing token.
        submitted: The provider's id of a submitted prompt; else None.
        polls: How many polls there were before this one, since it was submitted.
        missing_since: Since when the provider says that it has no such id, if it does.
        missing: How many polls in a row said so.
        provider: The name of the provider that a prompt was submitted to; None: the first.
        batch: The journal's id of the batch that has the prompt, if one does.
    """

    prompt: Prompt
    attempt: int
    total: int
    since: float
    possibly_billed: int = 0
    held: float | None = None
    token: int = 0
    submitted: str | None = None
    polls: int = 0
    missing_since: float | None = None
    missing: int = 0
    provider: str | None = None
    batch: int | None = None

    @property
    def is_submitted(self) -> bool:
        """Whether a provider works on the prompt, or may: alone, or in a batch."""
        return self.submitted is not None or self.batch is not None


@frozen
class Leftover:
    """What a provider keeps of a prompt under an id, and nobody needs any more.

    Attributes:
        submitted: The provider's id.
        provider: The provider's name; None: the first.
        stop: Whether the provider is to be told to stop its work on it.
        forget: Whether the provider is to be told to delete it.
        since: From when on nobody needs it, by the steady clock; of a claim.
        tries: How many claims there were before.
        id: The journal's id; of a claim.
        token: The claim's fencing token.
    """

    submitted: str
    provider: str | None = None
    stop: bool = False
    forget: bool = False
    since: float = 0.0
    tries: int = 0
    id: int = 0
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
        submitted: The provider's id of the prompt's answer, if it keeps that under one.
        provider: The name of that provider; None: the first.
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
    submitted: str | None = None
    provider: str | None = None


@frozen
class Receiver:
    """A receiver of events.

    People read its name, wherever it is told of. The setting is only in advice to change that, the
    label only where machines read it or operators type it.

    Attributes:
        name: Its name for people, on the page, in the log and in errors.
        setting: The setting with its address.
    """

    name: str
    setting: str

    @property
    def destination(self) -> str:
        """Its name for prompts and the journal."""
        return self.setting.removeprefix(_NAMED)

    @property
    def label(self) -> str:
        """Its name among the peers for machines: `target.<name>` for a named target."""
        return self.setting.replace(_NAMED, "target.", 1)


_NAMED = "targets."

MODEL = "model"
"""The model's name among the peers that the journal remembers; a receiver's is its destination."""
NOWHERE = "none"
"""The target of a prompt whose answer is kept for its caller, and not delivered."""
TARGET = Receiver("the target", "target")
DEAD_LETTER = Receiver("the dead letter's receiver", "dead_letter")


def asked_peer(tier: Tier, fallback: str | None = None) -> str:
    """The label of whom a call asks: a fallback, or a tier of the first provider."""
    if fallback is not None:
        return f"{MODEL}.{fallback}"
    return MODEL if tier is Tier.STANDARD else f"{MODEL}.{tier.value}"


def is_asked(peer: str) -> bool:
    """Whether a peer is the model, at whichever provider and on whichever tier."""
    return peer.partition(".")[0] == MODEL  # no target's name is `model`, or has a dot


def receiver_at(destination: str) -> Receiver:
    """The receiver at a destination."""
    for each in (TARGET, DEAD_LETTER):
        if each.destination == destination:
            return each
    return Receiver(f"the target `{destination}`", f"{_NAMED}{destination}")


def receiver_of(label: str) -> Receiver:
    """The receiver with a label."""
    return receiver_at(label.removeprefix("target."))
