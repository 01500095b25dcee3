"""What the journal tells of its prompts."""

from collections.abc import Collection, Mapping, Sequence
from functools import partial

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from chatgpt_source.clock import wall
from chatgpt_source.journal import (
    Detail,
    End,
    FailureGroup,
    Key,
    Pause,
    Queue,
    Record,
    Tally,
    TierTally,
    Waiting,
    added_up,
)
from chatgpt_source.journal.period import Period
from chatgpt_source.journal.postgres import audit, batches, history, pauses, queues, records
from chatgpt_source.journal.postgres.runner import Runner
from chatgpt_source.prompt import State


class PostgresQueries:
    """The `Queries` of a journal in a PostgreSQL database.

    Args:
        clock: The time, and the date.
        runner: Runs the journal's operations.
    """

    def __init__(self, clock: IReactorTime, runner: Runner) -> None:
        self._clock = clock
        self._read = runner.read

    def _now(self) -> tuple[float, float]:
        return self._clock.seconds(), wall(self._clock)

    # The methods of `Queries`, which documents them.

    def record(self, prompt_id: str) -> Deferred[Record | None]:
        now, date = self._now()
        return self._read(lambda db: records.record(db, prompt_id, now, date))

    def detail(self, prompt_id: str) -> Deferred[Detail | None]:
        now, date = self._now()
        return self._read(lambda db: records.detail(db, prompt_id, now, date))

    def ids(self, beginning: str, most: int) -> Deferred[Sequence[str]]:
        return self._read(lambda db: records.ids(db, beginning, most))

    def records(self, state: State | None, after: int, most: int) -> Deferred[Sequence[Record]]:
        now, date = self._now()
        return self._read(lambda db: records.records(db, state, after, most, now, date))

    def ids_of(self, keys: Sequence[Key]) -> Deferred[Sequence[str]]:
        return self._read(lambda db: records.ids_of(db, keys))

    def latest(
        self, state: State | None, before: int | None, most: int, reason: str | None = None
    ) -> Deferred[Sequence[Record]]:
        now, date = self._now()
        return self._read(lambda db: records.latest(db, state, before, most, now, date, reason))

    def failure_groups(self, most: int) -> Deferred[Sequence[FailureGroup]]:
        return Deferred.fromCoroutine(self._groups(most))

    async def _groups(self, most: int) -> Sequence[FailureGroup]:
        found: list[FailureGroup] = []
        after: int | None = -1
        while after is not None:  # in pages, so that no statement takes long
            page, after = await self._read(partial(records.failures, after=after))
            found += page
        return added_up(found)[:most]

    def ended_asking(self, ids: Collection[str]) -> Deferred[Collection[str]]:
        return self._read(lambda db: records.ended_asking(db, list(ids)))

    def ends(self, since: float, most: int) -> Deferred[Sequence[End]]:
        return self._read(lambda db: records.ends(db, since, most))

    def still_failed(self, ids: Collection[str]) -> Deferred[Collection[str]]:
        return self._read(lambda db: records.still_failed(db, list(ids)))

    def tally(self, day: str) -> Deferred[Tally]:
        now = self._clock.seconds()
        return self._read(lambda db: records.tally(db, day, now))

    def tally_tiers(self) -> Deferred[TierTally]:
        return self._read(batches.tally)

    def history(
        self, step: int, since: int, until: int, besides: Collection[int] = ()
    ) -> Deferred[Sequence[Period]]:
        return self._read(lambda db: history.read(db, step, since, until, besides))

    def has_audit_entries(self) -> Deferred[bool]:
        return self._read(audit.are_any)

    def pauses(self) -> Deferred[Mapping[str, Pause]]:
        return self._read(pauses.pauses)

    def waiting(self, queue: Queue, now: float) -> Deferred[Waiting]:
        return self._read(lambda db: queues.waiting(db, queue, now))
