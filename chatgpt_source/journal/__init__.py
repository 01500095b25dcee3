"""What must survive a crash: the prompts, their answers, and the day's count.

`Journal` is what the other rooms know; each module beside this one is an engine that keeps it.
Every method that changes something returns once the change is committed to disk, and raises
`JournalUnavailable`, having changed nothing, where it can't be written now. An end of a claim may
be repeated after that: if the first try was kept after all, so is the second.

Each `now`, `until`, `since` and `held` is an instant of the steady clock, which what waits goes by.
The dates of a record are the wall clock's, and the engine's to take.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, Generic, Protocol, TypeVar

from attrs import field, frozen
from twisted.internet.defer import Deferred

from chatgpt_source.journal.states import WAITING
from chatgpt_source.prompt import Answer, Ask, Delivery, Prompt, State
from chatgpt_source.quota import Day

Work = TypeVar("Work", Ask, Delivery)


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
class Claims(Generic[Work]):
    """What was claimed, and when the next that waits is due (None: none waits)."""

    claimed: Sequence[Work]
    next_due: float | None


@frozen
class Answered:
    """A claim ends: the model answered. The event is to be delivered to the target from now on."""

    answer: Answer
    event: bytes = field(repr=False)


@frozen
class Delivered:
    """A claim ends: its destination has the event."""


@frozen
class Postponed:
    """A claim ends: the attempt failed, and there is to be another.

    Attributes:
        until: When it is due.
        error: Why the attempt failed.
        possibly_billed: Whether the attempt may have been billed.
        held: When it met a hold, if it did.
    """

    until: float
    error: str
    possibly_billed: bool = False
    held: float | None = None


@frozen
class Failed:
    """A claim ends: there is to be no other attempt.

    Attributes:
        error: The reason.
        give_back: Give the prompt's unit back to the day it was taken from, unless an earlier call
            may have been billed: one that was postponed so, or whose owner ended before it did.
        dead_letter: An event that is to be delivered to `dead_letter` from now on.
    """

    error: str
    give_back: bool = False
    dead_letter: bytes | None = field(default=None, repr=False)


@frozen
class Ended:
    """What became of the end of a claim.

    Attributes:
        kept: False if the claim was no longer its owner's: nothing was changed.
        delivery: The delivery that was claimed with it, if one was asked for.
    """

    kept: bool
    delivery: Delivery | None = None


@frozen
class PeerState:
    """What is known of a peer, for the next start.

    Attributes:
        held: The trouble in words, while its circuit is open.
        since: From when it has been open.
        misses: How many probes in a row met it open.
        probe_at: When the next one is due.
        throttled_until: Until when the peer asked not to be called.
        failing: Whether the last call failed.
    """

    held: str | None = None
    since: float | None = None
    misses: int = 0
    probe_at: float | None = None
    throttled_until: float | None = None
    failing: bool = False


@frozen
class Recovered:
    """What a journal knows at a start.

    Attributes:
        peers: The state of each peer whose settings are still those that it was stored with.
        failing: The states that prompts wait in whose last attempt failed.
    """

    peers: Mapping[str, PeerState]
    failing: Collection[State]


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
        """Prompts that wait for a call."""
        return sum(self.prompts[state] for state in WAITING)


class Journal(Protocol):
    """Where prompts live until they are delivered or set aside."""

    @property
    def location(self) -> str:
        """Where it lies, for people."""

    @property
    def fault(self) -> str | None:
        """Why the last write failed, in words; None while writes succeed."""

    def recover(self, everyday_limit: int, timezone: str, peers: Mapping[str, str]) -> Recovered:
        """Begin a run, whose owner this journal is from now on; called once, before all else.

        What other runs had claimed and did not end is due again, in its old place; such an ask may
        have been billed. No instant is left in the future, and nothing is due later than can be.

        Args:
            everyday_limit: Units a day has, for a redrive beside this run.
            timezone: Whose days these are.
            peers: The settings that decide how each peer answers, as one text a peer. It may hold
                secrets: a digest alone is kept, keyed with the journal's own.

        Raises:
            JournalError: If the journal can't be written.
        """

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

    def claim_asks(self, now: float, most: int) -> Deferred[Claims[Ask]]:
        """Take up to `most` accepted prompts that are due, longest due first, counting an ask.

        Fewer, but one at least, where their texts are long. So does the other claim.
        """

    def claim_deliveries(
        self, destination: str, now: float, most: int, *, untried_since: float | None = None
    ) -> Deferred[Claims[Delivery]]:
        """Take up to `most` events that are due at a destination, counting a delivery.

        Args:
            destination: Whose.
            now: The time.
            most: How many.
            untried_since: Take only what has been due since then at the earliest, and never tried.
        """

    def ask_ended(
        self, ask: Ask, outcome: Answered | Postponed | Failed, now: float, *, claim: bool = False
    ) -> Deferred[Ended]:
        """End the claim of an ask; changes nothing if it is no longer this run's.

        Args:
            ask: What was claimed.
            outcome: How its call ended.
            now: The time.
            claim: Claim the delivery of the answer as well, for its first attempt.
        """

    def delivery_ended(
        self, delivery: Delivery, outcome: Delivered | Postponed | Failed, now: float
    ) -> Deferred[Ended]:
        """End the claim of a delivery; changes nothing if it is no longer this run's.

        `Delivered` to the target ends the prompt well and forgets its texts, `Failed` sets it aside
        and keeps them. A dead letter ends alone: its prompt stays as it is.
        """

    def remember(self, peer: str, state: PeerState) -> Deferred[None]:
        """Keep what is known of a peer that `recover` was told of."""

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
        """Forget the prompts that ended before a date, a few at a time; renew the lease.

        A prompt with an event that is still to be delivered is kept.
        """

    def probe(self) -> Deferred[None]:
        """Write something, so that a journal that healed is seen to have."""

    def close(self) -> Deferred[None]:
        """Finish what was asked for, wipe what was forgotten, and close.

        What is still claimed is anybody's from then on.
        """
