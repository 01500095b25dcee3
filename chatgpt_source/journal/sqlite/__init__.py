"""The journal in one SQLite file: WAL, `synchronous=FULL`, one connection on one thread.

`asks`, `outbox`, `operator`, `records` and `history` write and read the tables, `transact` commits
groups, `file` opens the file, `recovery` takes over at a start, `wipe` removes deleted texts from
it. This module puts them together as a `Journal`.
"""

import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from math import inf
from typing import TypeVar

from twisted.internet.defer import Deferred, execute, fail, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from chatgpt_source.clock import wall
from chatgpt_source.errors import JournalError, JournalUnavailable
from chatgpt_source.journal import (
    Admitted,
    AskOutcome,
    Batch,
    Cancelled,
    Claims,
    Delivered,
    Detail,
    End,
    Ended,
    Failed,
    FailureGroup,
    Kept,
    Key,
    Pause,
    PeerState,
    Postponed,
    Queue,
    Record,
    Recovered,
    Submission,
    Tally,
    Terms,
    TierTally,
    Waiting,
)
from chatgpt_source.journal.group_commit import RETRY_AFTER, GroupCommit
from chatgpt_source.journal.period import Period
from chatgpt_source.journal.sqlite import (
    asks,
    batches,
    history,
    keys,
    leftovers,
    operator,
    outbox,
    pauses,
    queues,
    records,
    recovery,
    upkeep,
    wipe,
)
from chatgpt_source.journal.sqlite.file import (
    BUSY,
    OpenJournal,
    check_journal,
    open_beside,
    open_journal,
)
from chatgpt_source.journal.sqlite.rows import Now, Owner
from chatgpt_source.journal.sqlite.transact import PATIENCE, Transactor
from chatgpt_source.log import get_logger, log_unexpected
from chatgpt_source.prompt import NOWHERE, Ask, Delivery, Leftover, Prompt, State, Tier
from chatgpt_source.tiers import Tiers

__all__ = ["OpenJournal", "SqliteJournal", "check_journal", "open_beside", "open_journal"]

log = get_logger(__name__)

Result = TypeVar("Result")
InThread = Callable[[Callable[[], None]], Deferred[None]]

PATIENCE_BESIDE = 10.0
"""Seconds that an operator's command waits for a busy daemon."""
STATEMENT_PATIENCE_MS = 5
"""SQLite's own wait for another process, in ms; `Transactor` waits longer."""
WATCH_EVERY = 2.0
"""Seconds between two checks whether the file is still at its path, and is to be wiped."""
WIPE_AFTER = 30.0
"""Seconds from the deletion of a text until the files are wiped, at the next of these checks."""
WIPE_RETRY = 5.0
"""Seconds from a wipe that failed to the next one."""
READ_PATIENCE = 0.9
"""Seconds that a caller waits for a read; under 1 s, as pages are refreshed every second."""
WRITE_PATIENCE = 10.0
"""Seconds that a caller waits for its write to begin."""


class SqliteJournal:
    """A `Journal` in a SQLite file.

    Args:
        opened: The file, open; closed by `close`.
        clock: The time, and the date.
        in_thread: Runs a function in the journal's own thread.
    """

    def __init__(self, opened: OpenJournal, clock: IReactorTime, in_thread: InThread) -> None:
        self._opened = opened
        self._clock = clock
        self._in_thread = in_thread
        opened.connection.execute(f"PRAGMA busy_timeout = {STATEMENT_PATIENCE_MS}")
        patience = PATIENCE if self._is_daemons else PATIENCE_BESIDE
        self._transactor = Transactor(opened, patience)
        self._group: GroupCommit[sqlite3.Connection] = GroupCommit(
            in_thread, self._transactor.run, clock
        )
        self._watch = LoopingCall(self._look)
        self._watch.clock = clock
        self._wipe_at: float | None = None
        self._data_version: int | None = None
        self._closing = False
        self._fault: str | None = None
        self._run: Owner | None = None
        self._fingerprints: Mapping[str, bytes] = {}
        self._has_batches = False

    @property
    def fault(self) -> str | None:
        if self._group.silent_for >= READ_PATIENCE:
            return self._group.silence().reason
        return self._fault

    @property
    def location(self) -> str:
        """The file's path."""
        return str(self._opened.path)

    @property
    def _is_daemons(self) -> bool:
        return self._opened.lock is not None

    @property
    def _owner(self) -> Owner:
        if self._run is None:
            raise RuntimeError("nothing can be claimed before `recover`")
        return self._run

    @property
    def owner(self) -> int | None:
        return None if self._run is None else self._run.id

    is_shared = False
    lease_left = inf
    losses = takeovers = 0

    @property
    def date(self) -> float:
        return wall(self._clock)

    def forsake(self) -> None:
        """See `Journal.forsake`: nobody else can take anything over."""

    def recover(
        self, everyday_limit: int, timezone: str, peers: Mapping[str, str], keep: float
    ) -> Deferred[Recovered]:
        """See `Journal.recover`; fires at once."""
        return execute(self._recover, everyday_limit, timezone, peers, keep)

    def _recover(
        self, everyday_limit: int, timezone: str, peers: Mapping[str, str], keep: float
    ) -> Recovered:
        db = self._opened.connection
        now = self._clock.seconds()
        try:
            self._transactor.begin()
            self._run = recovery.new_owner(db, wall(self._clock))
            recovery.take_over(db, now, keep)
            upkeep.keep_terms(db, everyday_limit, timezone)
            self._fingerprints = recovery.fingerprints(db, peers)
            destinations = queues.destinations(db)
            recovered = Recovered(
                recovery.recall(db, self._fingerprints, now),
                recovery.failing(db, destinations),
                destinations,
                pauses.pauses(db),
            )
            db.execute("COMMIT")
        except sqlite3.Error as error:
            raise JournalError(f"journal {self.location} can't be written: {error}") from error
        self._wipe_later(WIPE_RETRY)
        self._watch.start(WATCH_EVERY, now=False)
        return recovered

    # The methods of `Journal`, which documents them.

    def accept(
        self, submissions: Sequence[Submission], terms: Terms, *, claim: bool = False
    ) -> Deferred[Sequence[Admitted]]:
        now = self._clock.seconds()
        owner = self._owner if claim else None
        return self._write(
            lambda db: asks.accept(db, submissions, terms, owner, now), WRITE_PATIENCE
        )

    def claim_asks(
        self, now: float, most: int, tier: Tier = Tier.STANDARD
    ) -> Deferred[Claims[Ask]]:
        owner = self._owner
        return self._write(lambda db: asks.claim_asks(db, owner, now, most, tier))

    def claim_expired(self, now: float, most: int) -> Deferred[Claims[Ask]]:
        owner = self._owner
        return self._write(lambda db: asks.claim_expired(db, owner, now, most))

    def claim_submitted(self, now: float, most: int) -> Deferred[Claims[Ask]]:
        owner = self._owner
        return self._write(lambda db: asks.claim_submitted(db, owner, now, most))

    def move_up(self, now: float, tiers: Tiers) -> Deferred[bool]:
        return self._write(lambda db: batches.move_up(db, now, tiers))

    def is_batch_due(self, now: float, since: float, full: int) -> Deferred[bool]:
        return self._read(lambda db: batches.is_due(db, now, since, full))

    def open_batch(self, key: str) -> Deferred[Batch]:
        date = wall(self._clock)
        self._has_batches = True
        return self._write(lambda db: batches.open_batch(db, key, date))

    def claim_batches(self) -> Deferred[Sequence[Batch]]:
        def claimed(found: Sequence[Batch]) -> Sequence[Batch]:
            self._has_batches, had = True, self._has_batches
            return [] if had else found

        return self.batches().addCallback(claimed)

    def batches(self) -> Deferred[Sequence[Batch]]:
        return self._read(batches.batches, None)

    def store_batch(self, batch: Batch) -> Deferred[bool]:
        return self._write(lambda db: batches.store(db, batch))

    def drop_batch(self, batch: int) -> Deferred[None]:
        return self._write(lambda db: batches.drop(db, batch))

    def batched(self, batch: int, after: int, most: int) -> Deferred[Sequence[tuple[int, Prompt]]]:
        return self._read(lambda db: asks.prompts_in(db, batch, after, most), None)

    def claim_batched(
        self, batch: int, now: float, most: int, ids: Collection[str] | None = None
    ) -> Deferred[Claims[Ask]]:
        owner = self._owner
        return self._write(lambda db: batches.claim(db, owner, batch, now, most, ids))

    def claim_deliveries(
        self, destination: str, now: float, most: int, *, untried_since: float | None = None
    ) -> Deferred[Claims[Delivery]]:
        owner = self._owner
        return self._write(
            lambda db: outbox.claim_deliveries(db, owner, destination, now, most, untried_since)
        )

    def ask_ended(
        self,
        ask: Ask,
        outcome: AskOutcome,
        now: float,
        *,
        claim: bool = False,
        leftover: Leftover | None = None,
    ) -> Deferred[Ended]:
        owner, date = self._owner, wall(self._clock)
        if ask.prompt.target == NOWHERE:
            self._wipe_later()
        return self._write(
            lambda db: asks.ended(
                db, owner, ask, outcome, now, date, claim=claim, leftover=leftover
            )
        )

    def delivery_ended(
        self,
        delivery: Delivery,
        outcome: Delivered | Postponed | Failed,
        now: float,
        *,
        leftover: Leftover | None = None,
    ) -> Deferred[Ended]:
        owner, date = self._owner, wall(self._clock)
        if not isinstance(outcome, Postponed):
            self._wipe_later()
        return self._write(
            lambda db: outbox.ended(db, owner, delivery, outcome, now, date, leftover)
        )

    def claim_leftovers(self, now: float, most: int) -> Deferred[Claims[Leftover]]:
        owner = self._owner
        return self._write(lambda db: leftovers.claim(db, owner, now, most))

    def leftover_ended(self, leftover: Leftover, until: float | None) -> Deferred[None]:
        owner = self._owner
        return self._write(lambda db: leftovers.ended(db, owner, leftover, until))

    def remember(self, peer: str, state: PeerState) -> Deferred[None]:
        fingerprint = self._fingerprints[peer]
        return self._write(lambda db: recovery.remember(db, peer, fingerprint, state))

    def news_of_peers(self) -> Deferred[Mapping[str, PeerState]]:
        return succeed({})

    def claim_probe(self, peer: str, state: PeerState, now: float) -> Deferred[bool]:  # noqa: ARG002 - there is no other
        return succeed(True)  # noqa: FBT003 - the answer

    def waiting(self, queue: Queue, now: float) -> Deferred[Waiting]:
        return self._read(lambda db: queues.waiting(db, queue, now))

    def hasten(self, queue: Queue, now: float) -> Deferred[int]:
        return self._write(lambda db: queues.hasten(db, queue, now), WRITE_PATIENCE)

    def pause(self, what: str, who: str) -> Deferred[Pause]:
        date = wall(self._clock)
        return self._write(lambda db: pauses.pause(db, what, who, date), WRITE_PATIENCE)

    def resume(self, what: str, who: str) -> Deferred[Pause | None]:
        date = wall(self._clock)
        return self._write(lambda db: pauses.resume(db, what, who, date), WRITE_PATIENCE)

    def pauses(self) -> Deferred[Mapping[str, Pause]]:
        return self._read(pauses.pauses)

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

    def kept(self, prompt_id: str, needed_until: float | None = None) -> Deferred[Kept | None]:
        now = self._now()
        submit = self._read if needed_until is None else self._write
        return submit(lambda db: records.kept(db, prompt_id, now, needed_until), WRITE_PATIENCE)

    def ended_asking(self, ids: Collection[str]) -> Deferred[Collection[str]]:
        return self._read(lambda db: records.ended_asking(db, ids))

    def unneeded(self, prompt_id: str) -> Deferred[None]:
        self._wipe_later()
        return self._write(lambda db: upkeep.unneeded(db, prompt_id))

    def ends(self, since: float, most: int) -> Deferred[Sequence[End]]:
        return self._read(lambda db: records.ends(db, since, most))

    def still_failed(self, ids: Collection[str]) -> Deferred[Collection[str]]:
        return self._read(lambda db: records.still_failed(db, ids))

    def tally(self, day: str) -> Deferred[Tally]:
        now = self._clock.seconds()
        return self._read(lambda db: records.tally(db, day, now))

    def tally_tiers(self) -> Deferred[TierTally]:
        return self._read(batches.tally)

    def redrive(self, prompt_id: str) -> Deferred[State]:
        date = wall(self._clock)
        return self._write(lambda db: operator.redrive(db, prompt_id, date), WRITE_PATIENCE)

    def cancel(self, prompt_id: str, *, forget: bool = False) -> Deferred[Cancelled | None]:
        self._wipe_later()
        now = self._now()
        return self._write(
            lambda db: operator.cancel(db, prompt_id, now, forget=forget), WRITE_PATIENCE
        )

    def purge(self, prompt_id: str) -> Deferred[bool]:
        self._wipe_later()
        return self._write(lambda db: operator.purge(db, prompt_id), WRITE_PATIENCE)

    def prune(self, before: float) -> Deferred[None]:
        return Deferred.fromCoroutine(self._prune(before))

    async def _prune(self, before: float) -> None:
        await self.probe()  # so that an idle daemon notices a full disk too
        while await self._write(lambda db: upkeep.prune(db, before)):
            self._wipe_later()

    def keep_history(self, periods: Sequence[Period]) -> Deferred[None]:
        rows = [each.to_row() for each in periods]
        return self._write(lambda db: history.keep(db, rows), WRITE_PATIENCE)

    def history(
        self, step: int, since: int, until: int, besides: Collection[int] = ()
    ) -> Deferred[Sequence[Period]]:
        return self._read(lambda db: history.read(db, step, since, until, besides))

    def prune_history(self, date: float) -> Deferred[None]:
        return self._write(lambda db: history.prune(db, date))

    def probe(self) -> Deferred[None]:
        return self._write(upkeep.probe)

    def close(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._close())

    async def _close(self) -> None:
        self._closing = True
        if self._watch.running:
            self._watch.stop()
        await self._group.when_idle()
        self._group.stop()
        if self._is_daemons or self._wipe_at is not None:  # else an operator deleted nothing
            await self._in_thread(self._wipe_at_last)
        self._opened.close()

    def _look(self) -> Deferred[None]:
        """Check whether the file was lost, or is back, or is to be wiped."""
        return Deferred.fromCoroutine(self._look_and_wipe()).addErrback(
            lambda failure: (
                None
                if failure.check(JournalUnavailable)
                else log_unexpected(log, "looking at the journal", failure)
            )
        )

    async def _look_and_wipe(self) -> None:
        version = await self._read(wipe.data_version).addErrback(self._unwell)
        if self._data_version not in {None, version}:  # another process may have deleted texts
            self._wipe_later()
        self._data_version = version
        if self._fault is not None:
            await self.probe()
        await self._let_lapse()
        if self._wipe_at is not None and self._wipe_at <= self._clock.seconds():
            self._wipe_at = None
            done = False
            try:
                done = await self._read(wipe.wipe, None)
            finally:
                if not done:
                    self._wipe_later(WIPE_RETRY)

    async def _let_lapse(self) -> None:
        """Delete the texts that are not needed and not kept any more."""
        now = self._clock.seconds()
        if await self._read(lambda db: upkeep.has_lapsed(db, now)):
            self._wipe_later()
            while await self._write(lambda db: upkeep.let_lapse(db, now)):
                pass

    def _now(self) -> Now:
        return Now(self._clock.seconds(), wall(self._clock))

    def _wipe_later(self, delay: float = WIPE_AFTER) -> None:
        if self._wipe_at is None:
            self._wipe_at = self._clock.seconds() + delay

    def _write(
        self, run: Callable[[sqlite3.Connection], Result], patience: float | None = None
    ) -> Deferred[Result]:
        return self._submit(run, patience, writes=True).addCallbacks(self._well, self._unwell)

    def _read(
        self, run: Callable[[sqlite3.Connection], Result], patience: float | None = READ_PATIENCE
    ) -> Deferred[Result]:
        return self._submit(run, patience, writes=False)

    def _submit(
        self, run: Callable[[sqlite3.Connection], Result], patience: float | None, *, writes: bool
    ) -> Deferred[Result]:
        if self._closing:
            return fail(JournalUnavailable("the journal is closed", retry_after=RETRY_AFTER))
        return self._group.submit(run, writes=writes, patience=patience)

    def _well(self, result: Result) -> Result:
        if self._fault is not None:
            log.info("journal {path} can be written again", path=self.location)
            self._fault = None
        return result

    def _unwell(self, failure: Failure) -> Failure:
        error = failure.value
        if isinstance(error, JournalUnavailable):
            if self._fault is None:
                log.error(
                    "journal {path} can't be written: {reason}; accepting no prompts until it can",
                    path=self.location,
                    reason=error.reason,
                )
            self._fault = error.reason
        return failure

    def _wipe_at_last(self) -> None:
        db = self._opened.connection
        with suppress(sqlite3.Error):  # as on a full disk: the next start wipes
            db.execute(f"PRAGMA busy_timeout = {BUSY * 1000:.0f}")
            wipe.wipe(db)
