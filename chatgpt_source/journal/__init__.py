"""What must survive a crash: the prompts, their answers, and the day's count.

`Journal` is what the other rooms know; each module beside this one is an engine that keeps it.
Every method that changes something returns once the change is committed to disk, and raises
`JournalUnavailable`, having changed nothing, where it can't be written now.

Each `now`, `until`, `since` and `held` is an instant of the steady clock, which what waits goes by.
The dates of a record are the wall clock's, and the engine's to take.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, Protocol

from attrs import frozen
from twisted.internet.defer import Deferred

from chatgpt_source.prompt import Answer, Ask, Delivery, Prompt, State
from chatgpt_source.quota import Day


@frozen
class Terms:
    """On which terms a prompt is admitted.

    Attributes:
        day: Whose unit it takes.
        limit: Units a day has.
        max_backlog: Prompts that may wait.
        draining: Whether none is admitted any more.
    """

    day: Day
    limit: int
    max_backlog: int
    draining: bool = False


@frozen
class Admitted:
    """A prompt that is in the journal.

    Attributes:
        id: Its id: the earlier prompt's, where an idempotency key came again.
        left: Units its day has left.
        repeated: Whether it is an earlier one.
    """

    id: str
    left: int
    repeated: bool = False


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
    """What is known of a prompt, without a word of its text or its answer.

    Attributes:
        position: Where it stands in the order of acceptance; to list from there on.
    """

    id: str
    state: State
    accepted: float
    answered: float | None
    delivered: float | None
    asks: int
    deliveries: int
    error: str | None
    position: int = 0

    def to_dict(self) -> dict[str, Any]:
        """The record as JSON can hold it; times in RFC 3339, in UTC."""
        return {
            "id": self.id,
            "state": self.state.value,
            "accepted": rfc3339(self.accepted),
            "answered": rfc3339(self.answered),
            "delivered": rfc3339(self.delivered),
            "asks": self.asks,
            "deliveries": self.deliveries,
            "error": self.error,
        }


@frozen
class End:
    """How a prompt ended: DELIVERED, or FAILED by an error; `at` is when."""

    id: str
    state: State
    at: float
    error: str | None = None


def rfc3339(instant: float | None) -> str | None:
    """An instant as JSON can hold it: RFC 3339, in UTC."""
    if instant is None:
        return None
    return datetime.fromtimestamp(instant, timezone.utc).isoformat().replace("+00:00", "Z")


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

    def accept(self, prompt: Prompt, terms: Terms, key: str | None = None) -> Deferred[Admitted]:
        """Keep a prompt and take one unit of its day, both or neither.

        Args:
            prompt: What to keep.
            terms: On which terms.
            key: Its idempotency key, if it has one; looked up before anything else.

        Raises:
            KeyReused: If the key came before with another text, source or type.
            Draining: If none is admitted any more.
            QuotaUsedUp: If the day has no unit left.
            BacklogFull: If too many prompts wait already.
        """

    def claim_asks(self, now: float, most: int) -> Deferred[AskClaims]:
        """Take up to `most` accepted prompts that are due, longest due first, counting an ask.

        Fewer, but one at least, where their texts are long. So do the other claims.
        """

    def claim_deliveries(
        self, now: float, most: int, *, untried_since: float | None
    ) -> Deferred[DeliveryClaims]:
        """Take up to `most` answered prompts that are due, counting a delivery.

        Args:
            now: The time.
            most: How many.
            untried_since: Take only what has been due since then at the earliest, and never tried.
        """

    def answered(
        self, prompt_id: str, answer: Answer, event: bytes, now: float, *, claim: bool
    ) -> Deferred[None]:
        """Keep the answer and its event; `claim` it for its first delivery, or let it be due."""

    def delivered(self, prompt_id: str) -> Deferred[None]:
        """End a prompt well, and forget its text and its answer's."""

    def claim_letters(self, now: float, most: int) -> Deferred[DeliveryClaims]:
        """Take up to `most` dead letters that are due; `since` is when their prompt failed."""

    def failed(
        self,
        prompt_id: str,
        now: float,
        error: str,
        *,
        give_back: bool,
        letter: bytes | None = None,
    ) -> Deferred[None]:
        """Set a prompt aside, keeping its text.

        Args:
            prompt_id: Which.
            now: The time.
            error: The reason.
            give_back: Give its unit back to the day it was taken from, unless an earlier call may
                have been billed: one of `postpone`, or one that `recover` found under way.
            letter: The dead letter that is to be delivered, an event's bytes.
        """

    def letter_ended(
        self, prompt_id: str, since: float, until: float | None, *, held: float | None = None
    ) -> Deferred[None]:
        """Let a dead letter that was claimed wait for its next attempt, or (None) be done with it.

        Args:
            prompt_id: Whose.
            since: The claim's; if the prompt has been redriven meanwhile, nothing is changed.
            until: When the next attempt is due.
            held: When the attempt met a hold, if it did.
        """

    def redrive(self, prompt_id: str) -> Deferred[State]:
        """Take up a failed prompt again; it is due at once, whatever its daemon's clock says.

        Returns:
            ANSWERED if it is to be delivered again; ACCEPTED if it is to be asked again, which
            takes a unit of the day.

        Raises:
            NotRedriven: If it is no failed prompt.
            QuotaUsedUp: If the day has no unit left.
        """

    def purge(self, prompt_id: str) -> Deferred[bool]:
        """Forget a failed prompt and its text; whether there was one."""

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

    def records(self, state: State | None, after: int, most: int) -> Deferred[Sequence[Record]]:
        """Up to `most` prompts, in a state or any, in order of acceptance, `after` a position."""

    def latest(
        self, state: State | None, before: int | None, most: int
    ) -> Deferred[Sequence[Record]]:
        """Up to `most` prompts, in a state or any, the latest first, `before` a position or all."""

    def oldest(self) -> Deferred[float | None]:
        """When the oldest of the prompts that wait was accepted; None if none waits."""

    def ends(self, since: float, most: int) -> Deferred[Sequence[End]]:
        """How the last prompts ended, `most` of them, the latest first, none before `since`."""

    def tally(self, day: str) -> Deferred[Tally]:
        """Count the prompts by state, and the units spent of `day`."""

    def prune(self, before: float) -> Deferred[None]:
        """Forget the prompts that ended before a date, a few at a time, and the days before it."""

    def probe(self) -> Deferred[None]:
        """Write something, so that a journal that healed is seen to have."""

    def close(self) -> Deferred[None]:
        """Finish what was asked for, wipe what was forgotten, and close."""
