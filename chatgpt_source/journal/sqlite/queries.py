"""What the journal tells of its prompts."""

import sqlite3
from collections.abc import Collection, Mapping, Sequence

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
)
from chatgpt_source.journal.executor import Executor
from chatgpt_source.journal.period import Period
from chatgpt_source.journal.sqlite import audit, batches, history, keys, pauses, queues, records
from chatgpt_source.journal.sqlite.rows import Now
from chatgpt_source.prompt import State


class SqliteQueries:
    """The `Queries` of a journal in a SQLite file.

    Args:
        clock: The time, and the date.
        executor: Runs the journal's operations.
    """

    def __init__(self, clock: IReactorTime, executor: Executor[sqlite3.Connection]) -> None:
        self._clock = clock
        self._read = executor.read

    def _now(self) -> Now:
        return Now(self._clock.seconds(), wall(self._clock))

    # The methods of `Queries`, which documents them.

    def record(self, prompt_id: str) -> Deferred[Record | None]:
        now = self._now()
        return self._read(lambda db: records.record(db, prompt_id, now))

    def detail(self, prompt_id: str) -> Deferred[Detail | None]:
        now = self._now()
        return self._read(lambda db: records.detail(db, prompt_id, now))

    def ids(self, beginning: str, most: int) -> Deferred[Sequence[str]]:
        return self._read(lambda db: records.ids(db, beginning, most))

    def records(self, state: State | None, after: int, most: int) -> Deferred[Sequence[Record]]:
        now = self._now()
        return self._read(lambda db: records.records(db, state, after, most, now))

    def ids_of(self, keys_: Sequence[Key]) -> Deferred[Sequence[str]]:
        return self._read(lambda db: keys.ids(db, keys_))

    def latest(
        self, state: State | None, before: int | None, most: int, reason: str | None = None
    ) -> Deferred[Sequence[Record]]:
        now = self._now()
        return self._read(lambda db: records.latest(db, state, before, most, now, reason))

    def failure_groups(self, most: int) -> Deferred[Sequence[FailureGroup]]:
        return self._read(lambda db: records.groups(db, most))

    def ended_asking(self, ids: Collection[str]) -> Deferred[Collection[str]]:
        return self._read(lambda db: records.ended_asking(db, ids))

    def ends(self, since: float, most: int) -> Deferred[Sequence[End]]:
        return self._read(lambda db: records.ends(db, since, most))

    def still_failed(self, ids: Collection[str]) -> Deferred[Collection[str]]:
        return self._read(lambda db: records.still_failed(db, ids))

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
