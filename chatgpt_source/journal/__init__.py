"""The journal's interface: it keeps prompts, answers, deliveries and the day's count over a crash.

Each engine is a package beside this module. A method that writes returns once the change is
committed to disk. If the journal can't be written now, it raises `JournalUnavailable` and changes
nothing. While an engine does not know whether a change was committed, it goes on to find out.

Each `now`, `until`, `since` and `held` is an instant of the steady clock. The dates of a record are
the wall clock's, read by the engine.
"""

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Protocol

from attrs import frozen
from twisted.internet.defer import Deferred

from chatgpt_source.journal.audit_entry import AuditEntry
from chatgpt_source.journal.batch import Batch, Phase, TierTally
from chatgpt_source.journal.detail import DeadLetter, Detail
from chatgpt_source.journal.outcomes import (
    Answered,
    AskOutcome,
    Batched,
    Claims,
    Delivered,
    Ended,
    Failed,
    Postponed,
    Underway,
    Work,
)
from chatgpt_source.journal.pause import Pause
from chatgpt_source.journal.peer import MOST_COUNTED, PeerState, Queue, Waiting
from chatgpt_source.journal.period import Period
from chatgpt_source.journal.queries import Queries
from chatgpt_source.journal.reasons import FailureGroup, added_up, reason_of
from chatgpt_source.journal.record import TIME_IS_UP, Cancelled, End, Kept, Record
from chatgpt_source.journal.submission import Admitted, Key, Submission, Terms
from chatgpt_source.journal.tally import Tally
from chatgpt_source.prompt import Ask, Delivery, Leftover, Prompt, State, Tier
from chatgpt_source.tiers import Tiers

__all__ = [
    "LAST_POLL",
    "MOST_COUNTED",
    "TIME_IS_UP",
    "Admitted",
    "Answered",
    "AskOutcome",
    "AuditEntry",
    "Batch",
    "Batched",
    "Cancelled",
    "Claims",
    "DeadLetter",
    "Delivered",
    "Detail",
    "End",
    "Ended",
    "Failed",
    "FailureGroup",
    "Journal",
    "Kept",
    "Key",
    "Pause",
    "PeerState",
    "Phase",
    "Postponed",
    "Queue",
    "Record",
    "Recovered",
    "Submission",
    "Tally",
    "Terms",
    "TierTally",
    "Underway",
    "Waiting",
    "Work",
    "added_up",
    "reason_of",
]

LAST_POLL = 60.0
"""Seconds after its deadline in which a submitted prompt may have its last poll."""


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


class Journal(Queries, Protocol):
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
            TooLate: If one that is no repeat came after its deadline.
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

        There are none if another owner has the batch.

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

    def audit(self, entry: AuditEntry) -> Deferred[None]:
        """Store what an operator's command has done, so that a daemon logs it."""

    def take_audit_entries(self) -> Deferred[Sequence[AuditEntry]]:
        """Some of what commands have done, in order; no call of any owner returns it again."""

    def pause(self, what: str, who: str) -> Deferred[Pause]:
        """Store that something is paused; returns the pause, an earlier one if it was already."""

    def resume(self, what: str, who: str) -> Deferred[Pause | None]:
        """Store that something goes on; returns that, or None if it was not paused."""

    def prune(self, before: float) -> Deferred[None]:
        """Delete the prompts that ended before a date, a few at a time.

        A prompt with a row in the outbox is kept.
        """

    def keep_history(self, periods: Sequence[Period]) -> Deferred[None]:
        """Store periods; each takes the place of the one with the same step, start and owner."""

    def prune_history(self, date: float) -> Deferred[None]:
        """Delete the periods that at a date are kept no longer (`period.KEPT`)."""

    def probe(self) -> Deferred[None]:
        """Write something, to find out whether the journal can be written again."""

    def close(self) -> Deferred[None]:
        """Finish the operations under way, wipe deleted texts, and close.

        Other owners may take over the claims after that.
        """
