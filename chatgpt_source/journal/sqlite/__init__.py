"""The journal in one SQLite file: WAL, `synchronous=FULL`, one connection on one thread.

`asks`, `outbox`, `operator`, `records` and `history` write and read the tables, `transact` commits
groups, whose operations of a kind go `together`, `file` opens the file, `recovery` takes over at a
start, `background` is what it does unasked, `wipe` removes deleted texts from it. This module puts
them together as a `Journal`.
"""

import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from math import inf

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime

from chatgpt_source.clock import wall
from chatgpt_source.errors import JournalError
from chatgpt_source.journal import (
    Admitted,
    Answered,
    AskOutcome,
    AuditEntry,
    Batch,
    Cancelled,
    Claims,
    Delivered,
    Ended,
    Failed,
    Kept,
    Pause,
    PeerState,
    Postponed,
    Queue,
    Recovered,
    Submission,
    Terms,
)
from chatgpt_source.journal.executor import WRITE_PATIENCE, Executor
from chatgpt_source.journal.group_commit import GroupCommit, InThread
from chatgpt_source.journal.period import Period
from chatgpt_source.journal.sqlite import (
    asks,
    audit,
    batches,
    history,
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
from chatgpt_source.journal.sqlite.background import Background
from chatgpt_source.journal.sqlite.file import (
    BUSY,
    OpenJournal,
    check_journal,
    long_work,
    open_beside,
    open_journal,
)
from chatgpt_source.journal.sqlite.queries import SqliteQueries
from chatgpt_source.journal.sqlite.rows import Owner
from chatgpt_source.journal.sqlite.transact import PATIENCE, TakesLong, Transactor
from chatgpt_source.prompt import DEAD_LETTER, NOWHERE, Ask, Delivery, Leftover, Prompt, State, Tier
from chatgpt_source.tiers import Tiers

__all__ = [
    "OpenJournal",
    "SqliteJournal",
    "check_journal",
    "long_work",
    "open_beside",
    "open_journal",
]

PATIENCE_BESIDE = 10.0
"""Seconds that an operator's command waits for a busy daemon."""
BRIEFLY = 0.01
"""Seconds that `recover` may take in the reactor's thread; it has to wait for little else yet."""
STATEMENT_PATIENCE_MS = 5
"""SQLite's own wait for another process, in ms; `Transactor` waits longer."""


class SqliteJournal(SqliteQueries):
    """A `Journal` in a SQLite file.

    Args:
        opened: The file, open; closed by `close`.
        clock: The time, and the date.
        in_thread: Runs a function in the journal's own thread.
    """

    def __init__(self, opened: OpenJournal, clock: IReactorTime, in_thread: InThread) -> None:
        self._opened = opened
        self._in_thread = in_thread
        opened.connection.execute(f"PRAGMA busy_timeout = {STATEMENT_PATIENCE_MS}")
        patience = PATIENCE if self._is_daemons else PATIENCE_BESIDE
        self._transactor = Transactor(opened, patience)
        self._executor: Executor[sqlite3.Connection] = Executor(
            self.location, GroupCommit(in_thread, self._transactor.run, clock)
        )
        super().__init__(clock, self._executor)
        self._write = self._executor.write
        self._background = Background(clock, self._executor)
        self._wipe_later = self._background.wipe_later
        self._run: Owner | None = None
        self._fingerprints: Mapping[str, bytes] = {}
        self._has_batches = False

    @property
    def fault(self) -> str | None:
        return self._executor.fault

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
        """See `Journal.recover`; fires at once, unless it takes long."""
        now = self._now()
        return Deferred.fromCoroutine(
            self._recover(
                lambda db: recovery.recover(db, now, keep, everyday_limit, timezone, peers)
            )
        )

    async def _recover(self, run: Callable[[sqlite3.Connection], recovery.Begun]) -> Recovered:
        begun: list[recovery.Begun] = []
        try:
            try:
                begun.append(self._transactor.alone(run, BRIEFLY))
            except TakesLong:
                await self._in_thread(lambda: begun.append(self._transactor.alone(run)))
        except sqlite3.Error as error:
            raise JournalError(f"journal {self.location} can't be written: {error}") from error
        ((self._run, self._fingerprints, recovered),) = begun
        self._background.start()
        return recovered

    # The methods of `Journal`, which documents them.

    def accept(
        self, submissions: Sequence[Submission], terms: Terms, *, claim: bool = False
    ) -> Deferred[Sequence[Admitted]]:
        now = self._clock.seconds()
        owner = self._owner if claim else None
        return self._write(asks.Accept(submissions, terms, claim, now, owner), WRITE_PATIENCE)

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
        if isinstance(outcome, Answered):
            answer = asks.Answer(owner, ask, outcome, now, date, claim, leftover)
            return self._write(answer, delay=outcome.commit_delay)
        return self._write(lambda db: asks.ended(db, owner, ask, outcome, now, date, leftover))

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
        if isinstance(outcome, Delivered) and delivery.destination != DEAD_LETTER.setting:
            deliver = outbox.Deliver(owner, delivery, outcome, now, date, leftover)
            return self._write(deliver, delay=outcome.commit_delay)
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

    def hasten(self, queue: Queue, now: float) -> Deferred[int]:
        return self._write(lambda db: queues.hasten(db, queue, now), WRITE_PATIENCE)

    def audit(self, entry: AuditEntry) -> Deferred[None]:
        return self._write(lambda db: audit.add(db, entry), WRITE_PATIENCE)

    def take_audit_entries(self) -> Deferred[Sequence[AuditEntry]]:
        return self._write(audit.take)

    def pause(self, what: str, who: str) -> Deferred[Pause]:
        date = wall(self._clock)
        return self._write(lambda db: pauses.pause(db, what, who, date), WRITE_PATIENCE)

    def resume(self, what: str, who: str) -> Deferred[Pause | None]:
        date = wall(self._clock)
        return self._write(lambda db: pauses.resume(db, what, who, date), WRITE_PATIENCE)

    def kept(self, prompt_id: str, needed_until: float | None = None) -> Deferred[Kept | None]:
        now = self._now()
        submit = self._read if needed_until is None else self._write
        return submit(lambda db: records.kept(db, prompt_id, now, needed_until), WRITE_PATIENCE)

    def unneeded(self, prompt_id: str) -> Deferred[None]:
        self._wipe_later()
        return self._write(lambda db: upkeep.unneeded(db, prompt_id))

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

    def prune_history(self, date: float) -> Deferred[None]:
        return self._write(lambda db: history.prune(db, date))

    def probe(self) -> Deferred[None]:
        return self._write(upkeep.probe)

    def close(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._close())

    async def _close(self) -> None:
        self._background.stop()
        await self._executor.close()
        await self._in_thread(self._close_file)

    def _close_file(self) -> None:
        if self._is_daemons or self._background.is_to_wipe:  # else an operator deleted nothing
            wipe.wipe_at_last(self._opened.connection, BUSY)
        self._opened.close()
