"""Claimed work, and how a claim ends."""

from collections.abc import Sequence
from typing import Generic, TypeVar

from attrs import field, frozen

from chatgpt_source.journal.attempts import Attempt
from chatgpt_source.prompt import Answer, Ask, Delivery, Leftover, Tier

Work = TypeVar("Work", Ask, Delivery, Leftover)

MOST_DELAY = 0.02
"""Seconds that a commit which no caller waits for may wait for others, at most."""
LEAST_DELAY = 0.001
"""Seconds below which nothing waits: the reactor's timers have whole milliseconds."""
SHARE = 0.04
"""The part of the time of a call by which the commit of its answer may come later."""


@frozen
class Claims(Generic[Work]):
    """The claimed work, and when the next is due; None if none waits."""

    claimed: Sequence[Work]
    next_due: float | None


@frozen
class Answered:
    """A claim ends: the model answered.

    Delivery of the event to the prompt's target is due; without a target, the prompt ends.

    Attributes:
        answer: The answer.
        event: Its event.
        keep: Seconds for which the event is kept if the prompt ends with this.
        calls: The calls of this claim, the last one last.
    """

    answer: Answer
    event: bytes = field(repr=False)
    keep: float = 0
    calls: Sequence[Attempt] = ()

    @property
    def commit_delay(self) -> float:
        """Seconds that its commit may wait for others: the event waits for it."""
        delay = min(SHARE * self.calls[-1].seconds, MOST_DELAY) if self.calls else 0.0
        return delay if delay >= LEAST_DELAY else 0.0


@frozen
class Delivered:
    """A claim ends: the destination accepted the event.

    Attributes:
        keep: Seconds for which the event is kept.
        calls: The call of this claim.
        is_last_slot: Whether no slot for a delivery is free until it is committed.
    """

    keep: float = 0
    calls: Sequence[Attempt] = ()
    is_last_slot: bool = False

    @property
    def commit_delay(self) -> float:
        """Seconds that its commit may wait for others: at most the next event waits for it."""
        return 0.0 if self.is_last_slot else MOST_DELAY


@frozen
class Postponed:
    """A claim ends: the attempt failed, and another follows.

    Attributes:
        until: When the next attempt is due.
        error: Why this one failed.
        possibly_billed: Whether this one may have been billed.
        held: When it met a hold, if it did.
        request_id: The provider's id of the call, if known.
        tier: The tier that serves the next attempt; None: the same.
        calls: The calls of this claim, the last one last.
    """

    until: float
    error: str
    possibly_billed: bool = False
    held: float | None = None
    request_id: str | None = None
    tier: Tier | None = None
    calls: Sequence[Attempt] = ()


@frozen
class Underway:
    """A claim ends: the provider works on the prompt, and keeps it under an id; a poll is due.

    A prompt that was not submitted before counts as billed from now on.

    Attributes:
        submitted: The provider's id.
        until: When the next poll is due.
        missing: Whether the provider said that it has no such id.
        provider: The provider's name; None: the first.
        error: Why the last poll failed, if it did.
        calls: The calls of this claim, the last one last.
    """

    submitted: str
    until: float
    missing: bool = False
    provider: str | None = None
    error: str | None = None
    calls: Sequence[Attempt] = ()


@frozen
class Batched:
    """A claim ends: the prompt is in a batch, and counts as billed from now on.

    Attributes:
        batch: The batch's id.
    """

    batch: int


@frozen
class Failed:
    """A claim ends: no other attempt follows.

    Attributes:
        error: The reason.
        give_back: Give the prompt's unit back to its day, unless an earlier call may have been
            billed: it was postponed as possibly billed, or its owner ended before it.
        dead_letter: An event whose delivery to `dead_letter` is due.
        request_id: The provider's id of the call, if known.
        calls: The calls of this claim, the last one last; none if its time was up before.
    """

    error: str
    give_back: bool = False
    dead_letter: bytes | None = field(default=None, repr=False)
    request_id: str | None = None
    calls: Sequence[Attempt] = ()


AskOutcome = Answered | Underway | Batched | Postponed | Failed
"""How the claim of a prompt ends."""


@frozen
class Ended:
    """The result of the end of a claim.

    Attributes:
        kept: False if the fencing token was old: nothing was changed.
        delivery: The delivery that was claimed with it, if that was requested.
    """

    kept: bool
    delivery: Delivery | None = None
