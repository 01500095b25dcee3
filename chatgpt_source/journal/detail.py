"""What is told of a prompt besides its record: what happened to it, call by call."""

from collections.abc import Sequence
from typing import Any

from attrs import asdict, field, frozen

from chatgpt_source.clock import rfc3339
from chatgpt_source.journal.attempts import Attempt, Kind
from chatgpt_source.journal.record import Record
from chatgpt_source.prompt import State, Tier


@frozen
class DeadLetter:
    """A prompt's dead letter.

    Attributes:
        state: `waiting`, `delivered`, or `failed`.
        attempts: How many calls there were for it.
        error: Why the last one failed, if it did.
        next_attempt: When its next call is due, a date; None if none is, or one is under way.
    """

    state: str
    attempts: int
    error: str | None = None
    next_attempt: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """It for JSON; times in RFC 3339, in UTC."""
        return asdict(self) | {"next_attempt": rfc3339(self.next_attempt)}


@frozen
class Detail:
    """A prompt's record, and what happened to it, call by call.

    A journal of an earlier schema has the record alone. Tokens are as the provider counts them.

    Attributes:
        record: The record.
        attempts: Its calls, the latest last: those that failed, some of them if they are many,
            and those that brought the answer and delivered it. A call under way when its process
            was killed is not among them.
        source: The event's `source`, while the prompt's text is kept.
        type: The event's `type`, likewise.
        tier: The tier that serves it next, or served it last.
        batch: The journal's id of the batch that it is in.
        submitted: The id under which the provider keeps its answer.
        deadline: When it is too late to ask it, a date, if it is ever.
        answered_by: The label of the peer that brought the answer.
        input_tokens: The tokens of the prompt in the call that brought the answer.
        output_tokens: The tokens of the answer.
        ask_seconds: How long that call took.
        sent_seconds: How long the call took that delivered the event.
        sent_status: The HTTP status of that call.
        dead_letter: Its dead letter, if it has or had one.
        kept_until: Until when the event is kept, a date, if it is kept after its delivery.
    """

    record: Record
    attempts: Sequence[Attempt] = ()
    source: str | None = field(default=None, repr=False)
    type: str | None = field(default=None, repr=False)
    tier: Tier | None = None
    batch: int | None = None
    submitted: str | None = None
    deadline: float | None = None
    answered_by: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    ask_seconds: float | None = None
    sent_seconds: float | None = None
    sent_status: int | None = None
    dead_letter: DeadLetter | None = None
    kept_until: float | None = None

    @property
    def is_under_way(self) -> bool:
        """Whether a call for it is under way: it is asked or delivered."""
        called = self.record.state in {State.ACCEPTED, State.ANSWERED}
        return called and self.record.next_attempt is None

    @property
    def unlisted(self) -> int:
        """How many calls, but for polls, have ended that are not among the attempts."""
        letter = self.dead_letter
        made, calling = self.record.asks + self.record.deliveries, self.is_under_way
        if letter is not None:
            made += letter.attempts
            calling |= letter.state == "waiting" and letter.next_attempt is None
        listed = sum(each.kind is not Kind.POLL for each in self.attempts)
        return max(0, made - listed - (calling or self.batch is not None))

    def to_dict(self) -> dict[str, Any]:
        """The record for JSON, and all of this; times in RFC 3339, in UTC."""
        letter = self.dead_letter
        return {
            **self.record.to_dict(),
            "source": self.source,
            "type": self.type,
            "tier": None if self.tier is None else self.tier.value,
            "batch": self.batch,
            "submitted": self.submitted,
            "deadline": rfc3339(self.deadline),
            "answered_by": self.answered_by,
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "ask_seconds": _rounded(self.ask_seconds),
            "sent_seconds": _rounded(self.sent_seconds),
            "sent_status": self.sent_status,
            "dead_letter": None if letter is None else letter.to_dict(),
            "kept_until": rfc3339(self.kept_until),
            "unlisted": self.unlisted,
            "attempts": [
                asdict(each)
                | {
                    "kind": each.kind.value,
                    "started": rfc3339(each.started),
                    "seconds": _rounded(each.seconds),
                }
                for each in self.attempts
            ],
        }


def _rounded(seconds: float | None) -> float | None:
    """A duration for JSON, to the millisecond."""
    return None if seconds is None else round(seconds, 3)
