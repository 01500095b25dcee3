"""What must survive a crash: the prompts, their answers, and the day's count.

`Journal` is what the other rooms know; each module beside this one is an engine that keeps it.
Every method that changes something returns once the change is committed to disk, and raises
`JournalUnavailable`, having changed nothing, where it can't be written now.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from attrs import field, frozen
from twisted.internet.defer import Deferred

from chatgpt_source.prompt import Answer, Prompt, State
from chatgpt_source.quota import Day


@frozen
class Ask:
    """A prompt that was claimed for a call to the model.

    Attributes:
        prompt: What to ask.
        attempt: Which call this is, from 1.
        maybe_billed: How many earlier calls may have been billed without an answer reaching us.
        held: When a call of it last met a hold, if one did.
    """

    prompt: Prompt
    attempt: int
    maybe_billed: int = 0
    held: float | None = None


@frozen
class Delivery:
    """An answered prompt that was claimed for a call to the target.

    Attributes:
        id: The prompt's id.
        event: The event's bytes, in structured mode (CloudEvents JSON format).
        answered: When the answer was journaled.
        attempt: Which call this is, from 1.
    """

    id: str
    event: bytes = field(repr=False)
    answered: float
    attempt: int


@frozen
class AskClaims:
    """What was claimed to be asked, and when the next that waits is due (None: none waits)."""

    claimed: Sequence[Ask]
    next_due: float | None


@frozen
class DeliveryClaims:
    """What was claimed to be delivered, and when the next that waits is due."""

    claimed: Sequence[Delivery]
    next_due: float | None


@frozen
class Record:
    """What is known of a prompt, without a word of its text or its answer."""

    id: str
    state: State
    accepted: float
    answered: float | None
    delivered: float | None
    asks: int
    deliveries: int
    error: str | None


@frozen
class Tally:
    """How many prompts are in each state, and how many units a day has spent."""

    prompts: Mapping[State, int]
    used: int

    @property
    def backlog(self) -> int:
        """Prompts that are neither delivered nor failed."""
        return self.prompts[State.ACCEPTED] + self.prompts[State.ANSWERED]


class Journal(Protocol):
    """Where prompts live until they are delivered or set aside."""

    @property
    def location(self) -> str:
        """Where it lies, for people."""

    @property
    def fault(self) -> str | None:
        """Why the last write failed, in words; None while writes succeed."""

    def accept(self, prompt: Prompt, day: Day, limit: int, max_backlog: int) -> Deferred[int]:
        """Keep a prompt and take one unit of its day, both or neither.

        Returns:
            How many units the day has left.

        Raises:
            QuotaUsedUp: If `limit` prompts were already admitted in `day`.
            BacklogFull: If `max_backlog` prompts wait already.
        """

    def claim_asks(self, now: float, most: int) -> Deferred[AskClaims]:
        """Take up to `most` accepted prompts that are due, longest due first, counting an ask."""

    def claim_deliveries(
        self, now: float, most: int, *, untried_since: float | None
    ) -> Deferred[DeliveryClaims]:
        """Take up to `most` answered prompts that are due, counting a delivery.

        Args:
            now: The time.
            most: How many.
            untried_since: Take only what was answered since then and has never been tried.
        """

    def answered(
        self, prompt_id: str, answer: Answer, event: bytes, now: float, *, claim: bool
    ) -> Deferred[None]:
        """Keep the answer and its event; `claim` it for its first delivery, or let it be due."""

    def delivered(self, prompt_id: str, now: float) -> Deferred[None]:
        """End a prompt well, and forget its text and its answer's."""

    def failed(self, prompt_id: str, now: float, error: str, *, give_back: bool) -> Deferred[None]:
        """Set a prompt aside, keeping its text; `give_back` the unit to the day it was of."""

    def postpone(
        self,
        prompt_id: str,
        until: float,
        error: str,
        *,
        maybe_billed: bool = False,
        held: float | None = None,
    ) -> Deferred[None]:
        """Let a claimed prompt wait for its next attempt.

        Args:
            prompt_id: Which.
            until: When it is due.
            error: Why the attempt failed.
            maybe_billed: Count the attempt as one that may have been billed.
            held: When it met a hold, if it did.
        """

    def record(self, prompt_id: str) -> Deferred[Record | None]:
        """What is known of a prompt; None if there is none."""

    def tally(self, day: str) -> Deferred[Tally]:
        """Count the prompts by state, and the units spent of `day`."""

    def prune(self, before: float) -> Deferred[None]:
        """Forget the prompts that ended before an instant, a few at a time, and the days before."""

    def probe(self) -> Deferred[None]:
        """Write something, so that a journal that healed is seen to have."""

    def close(self) -> Deferred[None]:
        """Finish what was asked for, wipe what was forgotten, and close."""
