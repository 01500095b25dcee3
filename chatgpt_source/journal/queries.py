"""What a journal tells of its prompts, to people and to what serves them."""

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from twisted.internet.defer import Deferred

from chatgpt_source.journal.batch import TierTally
from chatgpt_source.journal.detail import Detail
from chatgpt_source.journal.pause import Pause
from chatgpt_source.journal.peer import Queue, Waiting
from chatgpt_source.journal.period import Period
from chatgpt_source.journal.reasons import FailureGroup
from chatgpt_source.journal.record import End, Record
from chatgpt_source.journal.submission import Key
from chatgpt_source.journal.tally import Tally
from chatgpt_source.prompt import State


class Queries(Protocol):
    """The part of a `Journal` that changes nothing, and takes part in no work."""

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

        With a reason, they are those of its `FailureGroup`, whatever `state` says.
        """

    def failure_groups(self, most: int) -> Deferred[Sequence[FailureGroup]]:
        """Up to `most` groups of failed prompts, by `reason_of` their errors, the largest first.

        It reads all failed prompts, so it is not to be called all the time.
        """

    def ended_asking(self, ids: Collection[str]) -> Deferred[Collection[str]]:
        """Those of some prompts that wait for no answer any more."""

    def ends(self, since: float, most: int) -> Deferred[Sequence[End]]:
        """The ends of up to `most` prompts, the latest first, none before `since`, a date."""

    def still_failed(self, ids: Collection[str]) -> Deferred[Collection[str]]:
        """Those of some prompts that are failed now."""

    def tally(self, day: str) -> Deferred[Tally]:
        """Count the prompts by state, and the units used of `day`; find the oldest that waits."""

    def tally_tiers(self) -> Deferred[TierTally]:
        """Count what waits for each tier, and what is in batches."""

    def history(
        self, step: int, since: int, until: int, besides: Collection[int] = ()
    ) -> Deferred[Sequence[Period]]:
        """The periods of a step that began from `since` to before `until`, two dates, in order.

        Those with the same start are added up, but for those of the owners `besides`.
        """

    def has_audit_entries(self) -> Deferred[bool]:
        """Whether there is something for `Journal.take_audit_entries`."""

    def pauses(self) -> Deferred[Mapping[str, Pause]]:
        """The last pause of each thing, or that it was resumed."""

    def waiting(self, queue: Queue, now: float) -> Deferred[Waiting]:
        """What waits in a queue, without what is claimed, or is not to be asked yet."""
