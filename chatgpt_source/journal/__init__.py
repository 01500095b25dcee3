"""The journal's interface: it keeps prompts, answers, deliveries and the day's count over a crash.

Each engine is a package beside this module. A method that writes returns once the change is
committed to disk. If the journal can't be written now, it raises `JournalUnavailable` and changes
nothing. While an engine does not know whether a change was committed, it goes on to find out.

Each `now`, `until`, `since` and `held` is an instant of the steady clock. The dates of a record are
the wall clock's, read by the engine.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timezone
from enum import Enum
from types import MappingProxyType
from typing import Any, Generic, Protocol, TypeVar

from attrs import asdict, field, frozen
from twisted.internet.defer import Deferred

from chatgpt_source.journal.attempts import Attempt, Kind
from chatgpt_source.journal.period import Period
from chatgpt_source.journal.states import backlog_of
from chatgpt_source.prompt import TARGET, Answer, Ask, Delivery, Leftover, Prompt, State, Tier
from chatgpt_source.quota import Day
from chatgpt_source.tiers import Tiers

Work = TypeVar("Work", Ask, Delivery, Leftover)

TIME_IS_UP = "its time is up"
"""The beginning of the reason why a prompt failed at its deadline, or expired."""
LAST_POLL = 60.0
"""Seconds after its deadline in which a submitted prompt may have its last poll."""


@frozen
class Terms:
    """The limits under which a prompt is admitted.

    Attributes:
        day: The day whose unit it takes.
        limit: The units of a day.
        max_backlog: How many prompts may wait.
        draining: Whether no prompt is admitted any more.
        paused: Whether an operator has paused the intake.
    """

    day: Day
    limit: int
    max_backlog: int
    draining: bool = False
    paused: bool = False


@frozen
class Key:
    """What a repeated prompt is recognised by.

    Attributes:
        words: Equal words are the same key. They are stored as a keyed digest.
        any_content: Whether a repeat may have another content.
    """

    words: tuple[str, ...] = field(repr=False)
    any_content: bool = False


@frozen
class Submission:
    """A prompt that is to be accepted.

    Attributes:
        prompt: The prompt.
        key: Its idempotency key, if any.
        needed_until: Until when somebody waits for its answer, by the steady clock, if so.
    """

    prompt: Prompt
    key: Key | None = None
    needed_until: float | None = None


@frozen
class Admitted:
    """A prompt that is in the journal.

    Attributes:
        id: Its id; the earlier prompt's, if the idempotency key is known.
        left: The units that its day has left.
        repeated: Whether it is an earlier prompt.
        ask: The claim for its first call, if that was requested.
    """

    id: str
    left: int
    repeated: bool = False
    ask: Ask | None = None


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


@frozen
class Delivered:
    """A claim ends: the destination accepted the event.

    Attributes:
        keep: Seconds for which the event is kept.
        calls: The call of this claim.
    """

    keep: float = 0
    calls: Sequence[Attempt] = ()


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


class Phase(str, Enum):
    """Where a batch is on its way.

    `GATHERING`: prompts are put into it. `UPLOADING`, `SUBMITTING`: its file, and then the batch,
    is sent. `SUBMITTED`: the provider works on it. `CANCELLING`: the provider was told to stop it.
    `COLLECTING`: it has ended, and its results are read.
    """

    GATHERING = "gathering"
    UPLOADING = "uploading"
    SUBMITTING = "submitting"
    SUBMITTED = "submitted"
    CANCELLING = "cancelling"
    COLLECTING = "collecting"


@frozen
class Batch:
    """Prompts that are sent to the provider together, in one file.

    Attributes:
        id: Its id.
        key: What the provider keeps with it, so that it is found after a crash.
        created: The date on which it was opened.
        deadline: The first deadline of its prompts, by the steady clock; None while it is open.
        file: The provider's id of its file, once that is uploaded.
        remote: The provider's id of the batch, once that is submitted.
        results: The provider's ids of the files with its results, once it has ended.
        cancelled: Whether the provider was told to stop it.
    """

    id: int
    key: str
    created: float
    deadline: float | None = None
    file: str | None = None
    remote: str | None = None
    results: Sequence[str] | None = None
    cancelled: bool = False

    @property
    def phase(self) -> Phase:
        """Where it is on its way."""
        if self.results is not None:
            return Phase.COLLECTING
        if self.remote is not None:
            return Phase.CANCELLING if self.cancelled else Phase.SUBMITTED
        if self.deadline is None:
            return Phase.GATHERING
        return Phase.UPLOADING if self.file is None else Phase.SUBMITTING


@frozen
class TierTally:
    """What waits for each tier, and what is in batches, at one moment.

    Attributes:
        waiting: How many accepted prompts each tier is to serve.
        batches: The batches, the oldest first, each with how many prompts are in it.
    """

    waiting: Mapping[Tier, int]
    batches: Sequence[tuple[Batch, int]] = ()


@frozen
class PeerState:
    """A breaker's state, stored for the next start.

    Attributes:
        held: Why the circuit is open, for people; None while it is closed.
        since: When it opened.
        misses: How many calls in a row met a hold.
        probe_at: When the next probe is due.
        throttled_until: When calls may begin after a 429.
        failing: Whether the last call failed.
    """

    held: str | None = None
    since: float | None = None
    misses: int = 0
    probe_at: float | None = None
    throttled_until: float | None = None
    failing: bool = False


@frozen
class Pause:
    """What an operator has paused, or resumed again.

    Attributes:
        what: What it is: `intake`, `asking`, or a receiver's label.
        who: Who did that.
        since: Its date.
        resumed: Whether it goes on since then.
    """

    what: str
    who: str
    since: float
    resumed: bool = False


@frozen
class Group:
    """The prompts that have failed for the same reason.

    Attributes:
        reason: The reason, without its details.
        count: How many there are.
        first: The date on which the first of them failed.
        last: The date on which the last of them failed.
    """

    reason: str
    count: int
    first: float
    last: float

    def with_more(self, other: "Group") -> "Group":
        """This one with the prompts of another one of the same reason."""
        first, last = min(self.first, other.first), max(self.last, other.last)
        return Group(self.reason, self.count + other.count, first, last)


@frozen
class Recovered:
    """What a journal has at a start.

    Attributes:
        peers: The state of each peer whose settings have not changed.
        failing: The peers for which work waits after a failed attempt.
        destinations: The destinations for which events wait.
        pauses: As `Journal.pauses`.
    """

    peers: Mapping[str, PeerState]
    failing: Collection[str]
    destinations: Collection[str] = ()
    pauses: Mapping[str, Pause] = MappingProxyType({})


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
    def unlisted(self) -> int:
        """How many asks and deliveries have ended that are not among the attempts."""
        of_both = {Kind.ASK, Kind.DELIVERY}
        listed = sum(each.kind in of_both for each in self.attempts)
        is_claimed = (
            self.record.state in {State.ACCEPTED, State.ANSWERED}
            and self.record.next_attempt is None
        )
        under_way = is_claimed or self.batch is not None
        return max(0, self.record.asks + self.record.deliveries - listed - under_way)

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


@frozen
class Cancelled:
    """A prompt is cancelled.

    Attributes:
        repeated: Whether it was cancelled before.
    """

    repeated: bool = False


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


def added_up(groups: Iterable[Group]) -> list[Group]:
    """Groups with those of the same reason in one, the largest first."""
    by_reason: dict[str, Group] = {}
    for each in groups:
        known = by_reason.get(each.reason)
        by_reason[each.reason] = each if known is None else known.with_more(each)
    return sorted(by_reason.values(), key=lambda each: (-each.count, each.reason))


def reason_of(error: str) -> str:
    """The reason of a failed prompt, without its details: as the engines group by it."""
    return min(error.partition(": ")[0], error.partition(" (")[0], key=len)


def rfc3339(instant: float | None) -> str | None:
    """A date for JSON: RFC 3339, in UTC."""
    if instant is None:
        return None
    return datetime.fromtimestamp(instant, timezone.utc).isoformat().replace("+00:00", "Z")


@frozen
class Tally:
    """What the journal holds at one moment.

    Attributes:
        prompts: How many prompts are in each state.
        used: How many units of a day are used.
        oldest: When the oldest prompt of the backlog was accepted, of those that may be asked
            already; None if there is none.
        leftovers: How many leftovers wait to be cancelled or deleted.
        daemons: How many daemons use it now.
        due: When the call was due that is due the longest, of those of the standard tier and of
            deliveries, by the steady clock; it may lie ahead. None if none waits.
    """

    prompts: Mapping[State, int]
    used: int
    oldest: float | None = None
    leftovers: int = 0
    daemons: int = 1
    due: float | None = None

    @property
    def backlog(self) -> int:
        """Prompts that wait for a call."""
        return backlog_of(self.prompts)


MOST_COUNTED = 1000
"""How many prompts or events that wait are counted at the most."""

Queue = Tier | str
"""Where work waits for a peer: the prompts to ask on a tier, or the events for a destination."""


@frozen
class Waiting:
    """What waits for a peer.

    Attributes:
        count: How many prompts or events; no more than `MOST_COUNTED` are counted.
        since: The first start of the time that they may take, of those without a deadline.
        ends: The first of their own deadlines and expiries.
        due: When the first of their next calls is due, in the past if it only waits for room.
    """

    count: int = 0
    since: float | None = None
    ends: float | None = None
    due: float | None = None


class Journal(Protocol):
    """Keeps prompts, and everything about them.

    A claim belongs to its owner, one run of a daemon, for as long as that keeps its lease. The
    engine renews the lease, or has no need to if a journal has one owner at a time. Once a lease
    has ended, other owners take over its claims. A claim that is committed later than its own
    lease's end is not returned, so each claim that is returned may be called.
    """

    @property
    def location(self) -> str:
        """Its place, for people."""

    @property
    def fault(self) -> str | None:
        """Why the last write failed, for people; None if it succeeded."""

    @property
    def is_shared(self) -> bool:
        """Whether other daemons may use it at the same time."""

    @property
    def date(self) -> float:
        """The date whose day gives units: the database's, where daemons share one."""

    @property
    def owner(self) -> int | None:
        """This run's number among all that have used it; None before `recover`."""

    @property
    def lease_left(self) -> float:
        """Seconds until others may take this owner's claims over; infinite if none is there to.

        It is measured by a clock that also counts the time in which this machine sleeps.
        """

    @property
    def losses(self) -> int:
        """How often this owner's lease has ended unnoticed, so that it is another owner now."""

    @property
    def takeovers(self) -> int:
        """How often this process has ended the leases of others: then there may be work."""

    def forsake(self) -> None:
        """Claim as another owner from now on.

        The claims of the owner until now are not renewed: they are taken over once the lease has
        ended. Their ends are kept until then.
        """

    def recover(
        self, everyday_limit: int, timezone: str, peers: Mapping[str, str], keep: float
    ) -> Deferred[Recovered]:
        """Begin a run as a new owner; called once, before anything else.

        An engine that is reached over a network connects here.

        Claims of earlier owners end: their work is due again, in its old order, and their asks
        count as possibly billed. Instants in the future are corrected, so that nothing is due later
        than a peer may ask for, and no event is kept longer than it may be.

        Args:
            everyday_limit: The units of a day, for a redrive by another process.
            timezone: The days' time zone.
            peers: The settings that decide how each peer answers, as one text a peer. It may have
                secrets, so only a digest is stored, keyed with the journal's secret.
            keep: Seconds for which a delivered event is kept.

        Raises:
            JournalError: If the journal can't be written.
        """

    def accept(
        self, submissions: Sequence[Submission], terms: Terms, *, claim: bool = False
    ) -> Deferred[Sequence[Admitted]]:
        """Store prompts and take a unit of the day for each, all or nothing.

        A prompt whose key is known is not stored again, and takes no unit.

        Args:
            submissions: The prompts, with their keys, which are checked before the limits.
            terms: The limits.
            claim: Also claim them for a call, unless another prompt is due.

        Raises:
            KeyReused: If a key came before with another content.
            Draining: If no prompt is admitted any more.
            Paused: If the intake is paused.
            QuotaUsedUp: If the day has too few units left.
            BacklogFull: If too many prompts wait already.
        """

    def claim_asks(
        self, now: float, most: int, tier: Tier = Tier.STANDARD
    ) -> Deferred[Claims[Ask]]:
        """Claim up to `most` accepted prompts of a tier that are due, and count an ask.

        The longest due come first.

        If the texts are long, it claims fewer, but at least one. So does `claim_deliveries`.
        """

    def claim_expired(self, now: float, most: int) -> Deferred[Claims[Ask]]:
        """Claim up to `most` prompts whose time is up; no ask is counted.

        They are accepted, or in a batch; or submitted, and there was no poll until `LAST_POLL`
        after that. Its `next_due` is when the next one's time will be up.
        """

    def claim_submitted(self, now: float, most: int) -> Deferred[Claims[Ask]]:
        """Claim up to `most` submitted prompts whose poll is due; no ask is counted.

        None of a batch is among them.

        The end of such a claim, `ask_ended`, is `Underway` if there is no answer yet, `Answered`,
        `Failed`, or `Postponed`: the provider has lost it, and it is asked again.
        """

    def move_up(self, now: float, tiers: Tiers) -> Deferred[bool]:
        """Move some accepted prompts to the tiers that their deadlines ask for by now.

        They are due there, unless they are not to be asked yet.

        Returns:
            Whether there were any, and so may be more.
        """

    def is_batch_due(self, now: float, since: float, full: int) -> Deferred[bool]:
        """Whether a batch is to be gathered: a prompt waits for one since then, or `full` do."""

    def open_batch(self, key: str) -> Deferred[Batch]:
        """Store a new batch; `ask_ended` puts prompts into it (`Batched`)."""

    def claim_batches(self) -> Deferred[Sequence[Batch]]:
        """Claim the batches that nobody has, the oldest first; who opens one has it."""

    def batches(self) -> Deferred[Sequence[Batch]]:
        """All batches, the oldest first."""

    def store_batch(self, batch: Batch) -> Deferred[bool]:
        """Store what has changed of a batch, and return True; False if another owner has it."""

    def drop_batch(self, batch: int) -> Deferred[None]:
        """Delete a batch that has no prompts any more, unless another owner has it."""

    def batched(self, batch: int, after: int, most: int) -> Deferred[Sequence[tuple[int, Prompt]]]:
        """Up to `most` prompts of a batch, each with its place; `after` a place, in their order.

        If the texts are long, there are fewer, but at least one, if any.
        """

    def claim_batched(
        self, batch: int, now: float, most: int, ids: Collection[str] | None = None
    ) -> Deferred[Claims[Ask]]:
        """Claim up to `most` prompts of a batch, of some ids or of all; no ask is counted.

        The end of such a claim is `Answered`, `Failed`, or `Postponed`: then the prompt is in the
        batch no more.
        """

    def claim_deliveries(
        self, destination: str, now: float, most: int, *, untried_since: float | None = None
    ) -> Deferred[Claims[Delivery]]:
        """Claim up to `most` events that are due at a destination, and count a delivery.

        Args:
            destination: The destination.
            now: The time.
            most: How many.
            untried_since: Claim only events that are due since then at the earliest, and untried.
        """

    def ask_ended(
        self,
        ask: Ask,
        outcome: AskOutcome,
        now: float,
        *,
        claim: bool = False,
        leftover: Leftover | None = None,
    ) -> Deferred[Ended]:
        """End the claim of an ask; with an old fencing token, change nothing.

        Args:
            ask: The claimed work, with the numbers of its last call, and of the calls before it
                that may have been billed.
            outcome: How its call ended.
            now: The time.
            claim: Also claim the first delivery of the answer.
            leftover: What the provider keeps, and nobody needs after this end.
        """

    def delivery_ended(
        self,
        delivery: Delivery,
        outcome: Delivered | Postponed | Failed,
        now: float,
        *,
        leftover: Leftover | None = None,
    ) -> Deferred[Ended]:
        """End the claim of a delivery; with an old fencing token, change nothing.

        At the target, `Delivered` ends the prompt, `Failed` ends it and keeps its texts. The end of
        a dead letter does not change its prompt. The texts of a delivered prompt are deleted once
        they are not needed and not kept any more.
        """

    def remember(self, peer: str, state: PeerState) -> Deferred[None]:
        """Store the state of a peer; `recover` must have got the peer's settings."""

    def news_of_peers(self) -> Deferred[Mapping[str, PeerState]]:
        """The states that other owners with the same settings have stored since the last call."""

    def claim_probe(self, peer: str, state: PeerState, now: float) -> Deferred[bool]:
        """Whether this owner is to probe a held peer.

        If so, its state is stored, and no other owner probes it before the state's `probe_at`.
        """

    def waiting(self, queue: Queue, now: float) -> Deferred[Waiting]:
        """What waits in a queue, without what is claimed, or is not to be asked yet."""

    def hasten(self, queue: Queue, now: float) -> Deferred[int]:
        """Make due what waits in a queue for another attempt; returns how much that was.

        It is no more than `MOST_COUNTED`, what would be due next first.
        """

    def claim_leftovers(self, now: float, most: int) -> Deferred[Claims[Leftover]]:
        """Claim up to `most` leftovers that are due, and count a try; all are due at a start."""

    def leftover_ended(self, leftover: Leftover, until: float | None) -> Deferred[None]:
        """End the claim of a leftover; with an old fencing token, change nothing.

        Args:
            leftover: The leftover, with what is still to be done.
            until: When the next try is due; None: none follows.
        """

    def cancel(self, prompt_id: str, *, forget: bool = False) -> Deferred[Cancelled | None]:
        """Cancel a prompt that waits, delete its text, and give back its unit unless billed.

        If a provider keeps it under an id, that is a leftover then, which is to be stopped.

        Args:
            prompt_id: The prompt's id.
            forget: Whether the provider is to delete what it keeps, too.

        Returns:
            None if there is no such prompt; else it is cancelled, also if it was before.

        Raises:
            NotCancelled: If a call for it is under way, or it was answered or has failed.
        """

    def kept(self, prompt_id: str, needed_until: float | None = None) -> Deferred[Kept | None]:
        """A prompt's record and its event; None if there is no such prompt.

        Args:
            prompt_id: The prompt's id.
            needed_until: Also keep its texts until then, if it has any.
        """

    def ended_asking(self, ids: Collection[str]) -> Deferred[Collection[str]]:
        """Those of some prompts that wait for no answer any more."""

    def unneeded(self, prompt_id: str) -> Deferred[None]:
        """Nobody waits for a prompt's answer any more: it is kept no longer than otherwise."""

    def redrive(self, prompt_id: str) -> Deferred[State]:
        """Redrive a failed prompt; it is due at once, whatever its daemon's clock says.

        Returns:
            ANSWERED if it is delivered again; ACCEPTED if it is asked again, which takes a unit of
            the day.

        Raises:
            NotRedriven: If there is no failed prompt with this id.
            QuotaUsedUp: If the day has no unit left.
        """

    def purge(self, prompt_id: str) -> Deferred[bool]:
        """Delete a failed prompt and its texts; returns whether there was one."""

    def pause(self, what: str, who: str) -> Deferred[Pause]:
        """Store that something is paused; returns the pause, an earlier one if it was already."""

    def resume(self, what: str, who: str) -> Deferred[Pause | None]:
        """Store that something goes on; returns that, or None if it was not paused."""

    def pauses(self) -> Deferred[Mapping[str, Pause]]:
        """The last pause of each thing, or that it was resumed."""

    def record(self, prompt_id: str) -> Deferred[Record | None]:
        """A prompt's record; None if there is none."""

    def detail(self, prompt_id: str) -> Deferred[Detail | None]:
        """A prompt's record, and what happened to it, call by call; None if there is none."""

    def ids(self, beginning: str, most: int) -> Deferred[Sequence[str]]:
        """The ids of up to `most` prompts that begin so, in their order."""

    def records(self, state: State | None, after: int, most: int) -> Deferred[Sequence[Record]]:
        """Up to `most` records in order of acceptance, `after` a position, in a state or any."""

    def ids_of(self, keys: Sequence[Key]) -> Deferred[Sequence[str]]:
        """The ids of the prompts that came with some idempotency keys, in their order."""

    def latest(
        self, state: State | None, before: int | None, most: int, reason: str | None = None
    ) -> Deferred[Sequence[Record]]:
        """Up to `most` records, the latest first, `before` a position or all, in a state or any.

        With a reason, they are those of its `Group`, whatever `state` says.
        """

    def groups(self, most: int) -> Deferred[Sequence[Group]]:
        """Up to `most` groups of failed prompts, by `reason_of` their errors, the largest first.

        It reads all failed prompts, so it is not to be called all the time.
        """

    def ends(self, since: float, most: int) -> Deferred[Sequence[End]]:
        """The ends of up to `most` prompts, the latest first, none before `since`, a date."""

    def still_failed(self, ids: Collection[str]) -> Deferred[Collection[str]]:
        """Those of some prompts that are failed now."""

    def tally(self, day: str) -> Deferred[Tally]:
        """Count the prompts by state, and the units used of `day`; find the oldest that waits."""

    def tally_tiers(self) -> Deferred[TierTally]:
        """Count what waits for each tier, and what is in batches."""

    def prune(self, before: float) -> Deferred[None]:
        """Delete the prompts that ended before a date, a few at a time.

        A prompt with a row in the outbox is kept.
        """

    def keep_history(self, periods: Sequence[Period]) -> Deferred[None]:
        """Store periods; each takes the place of the one with the same step, start and owner."""

    def history(
        self, step: int, since: int, until: int, besides: Collection[int] = ()
    ) -> Deferred[Sequence[Period]]:
        """The periods of a step that began from `since` to before `until`, two dates, in order.

        Those with the same start are added up, but for those of the owners `besides`.
        """

    def prune_history(self, date: float) -> Deferred[None]:
        """Delete the periods that at a date are kept no longer (`period.KEPT`)."""

    def probe(self) -> Deferred[None]:
        """Write something, to find out whether the journal can be written again."""

    def close(self) -> Deferred[None]:
        """Finish the operations under way, wipe deleted texts, and close.

        Other owners may take over the claims after that.
        """
