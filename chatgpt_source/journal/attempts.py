"""What the journal keeps of the calls for a prompt: those that failed, and how the last one went.

A call that brings the answer, or delivers the event, is kept in columns of the prompt's own row.
Every other call has a row: it failed, or submitted the prompt, or delivered its dead letter. A poll
that found the provider at work has none.
"""

from enum import Enum

from attrs import frozen

from chatgpt_source.telemetry.observer import DeliveryOutcome, PollOutcome

FIRST = LAST = 10
"""A prompt has rows of so many first calls of a kind, and of so many last ones."""
_WITHOUT_ROW = {PollOutcome.ANSWERED.value, PollOutcome.UNDERWAY.value}


class Kind(str, Enum):
    """What a call was for."""

    ASK = "ask"
    POLL = "poll"
    DELIVERY = "delivery"
    DEAD_LETTER = "dead_letter"


@frozen
class Attempt:
    """A call for a prompt that has ended.

    Attributes:
        kind: What it was for.
        number: Which of its kind it was, from 1.
        peer: The label of whom it called, as `model.flex` or `target`.
        started: When it was started, a date.
        seconds: How long it took; of a prompt in a batch, how long the batch did.
        outcome: What it brought, in the observer's word.
        status: The peer's HTTP status, if it answered.
        error: Why it failed; None if it did not.
        request_id: The provider's id of the call, if known.
    """

    kind: Kind
    number: int
    peer: str
    started: float
    seconds: float
    outcome: str
    status: int | None = None
    error: str | None = None
    request_id: str | None = None

    @property
    def has_row(self) -> bool:
        """Whether it is kept in a row of its own."""
        if self.kind is Kind.DELIVERY:
            return self.outcome != DeliveryOutcome.DELIVERED.value
        return self.outcome not in _WITHOUT_ROW
