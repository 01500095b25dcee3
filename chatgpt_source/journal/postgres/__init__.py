"""The journal in a PostgreSQL database, which several daemons share.

Time: operations speak of instants of their process's steady clock. The database stores what several
processes compare (`due`, `since`, deadlines, the ends of needs) by its own clock. Each process
measures the offset between the two when it connects and at each renewal of its lease, and adds or
subtracts it where an instant enters or leaves this package (`Session.stored`, `Session.steady`);
nothing else converts. Leases are compared within the database alone, by `clock_timestamp()`. The
dates of a record (`accepted`, `answered`, `ended`) are for people: the wall clock's of the process
that wrote them, never compared with an instant.

A claim has a token from a sequence, unlike every other, and its owner, a row of `owners`. Every
group that an owner commits renews its lease. Once that has ended, any other owner ends its claims;
the end of such a claim then changes nothing, as its token is no longer one of a claim.

`asks`, `outbox`, `leftovers`, `batches`, `operator`, `records` and `history` write and read the
tables, `transact` commits groups, `recovery` has the leases, `connect` the connection.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import psycopg
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall, deferLater
from twisted.python.failure import Failure

from chatgpt_source.clock import wall
from chatgpt_source.errors import JournalError, JournalUnavailable, JournalUnreachable
from chatgpt_source.journal import (
    Admitted,
    Answered,
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
    added_up,
)
from chatgpt_source.journal.group_commit import RETRY_AFTER, GroupCommit
from chatgpt_source.journal.period import Period
from chatgpt_source.journal.postgres import (
    asks,
    batches,
    history,
    leftovers,
    operator,
    outbox,
    pauses,
    peers,
    queues,
    records,
    recovery,
    schema,
)
from chatgpt_source.journal.postgres.connect import Database, connect, is_passing, reason_of
from chatgpt_source.journal.postgres.session import (
    ANSWERED,
    CLAIM,
    DELIVERED,
    OTHER,
    Connection,
    Session,
    Steps,
    Together,
)
from chatgpt_source.journal.postgres.together import Ranked
from chatgpt_source.journal.postgres.transact import Transactor
from chatgpt_source.log import get_logger, log_unexpected
from chatgpt_source.prompt import (
    DEAD_LETTER,
    NOWHERE,
    Ask,
    Delivery,
    Leftover,
    Prompt,
    State,
    Tier,
)
from chatgpt_source.tiers import Tiers

__all__ = ["PostgresJournal", "open_journal"]

log = get_logger(__name__)

Result = TypeVar("Result")
InThread = Callable[[Callable[[], None]], Deferred[None]]

RENEW_EVERY = 5.0
"""Seconds between two renewals of the lease."""
SWEEP_EVERY = 1.0
"""Seconds between two looks for leases that have ended."""
WATCH_EVERY = 2.0
"""Seconds between two deletions of texts that are kept no longer."""
STEP = 2.0
"""Seconds by which the database's clock may gain or lose before it counts as set."""
RECOVER_EVERY = 2.0
"""Seconds between two attempts to begin, while the database can't be reached."""
READ_PATIENCE = 0.9
"""Seconds that a caller waits for a read; under 1 s, as pages are refreshed every second."""
WRITE_PATIENCE = 10.0
"""Seconds that a caller waits for its write to begin."""


def database_date(connection: Connection) -> float:
    """The database's clock."""
    row = connection.execute("SELECT extract(epoch FROM clock_timestamp())::float8 AS at")
    found = row.fetchone()
    return float(found["at"]) if found else 0.0


def open_journal(database: Database, *, beside: bool = False) -> tuple[Database, Connection]:
    """Connect, and create the tables if there are none.

    Args:
        database: The database.
        beside: Require that there are tables.

    Raises:
        JournalUnreachable: If it can't be reached now; the text has no secret.
        JournalError: If it can't be used.
    """
    where = f"journal {database.location}"
    try:
        connection = connect(database.conninfo)
    except psycopg.Error as error:
        raise JournalUnreachable(f"{where} can't be opened: {reason_of(error)}") from None
    try:
        schema.require(connection, make=not beside)
    except JournalError as error:
        connection.close()
        raise JournalError(f"{where} can't be used: {error}") from None
    except psycopg.Error as error:
        connection.close()
        reason = reason_of(error)
        kind = JournalUnreachable if is_passing(reason) else JournalError
        raise kind(f"{where} can't be opened: {reason}") from None
    except BaseException:
        connection.close()
        raise
    return database, connection


class PostgresJournal:
    """A `Journal` in a PostgreSQL database.

    Args:
        opened: By `open_journal`; closed by `close`.
        clock: The time, and the date.
        in_thread: Runs a function in the journal's own thread.
        date_by: The database's clock.
    """

    def __init__(
        self,
        opened: tuple[Database, Connection],
        clock: IReactorTime,
        in_thread: InThread,
        date_by: Callable[[Connection], float] = database_date,
    ) -> None:
        self._database, connection = opened
        self._clock = clock
        self._in_thread = in_thread
        self._date_by = date_by
        self._session = Session(connection)
        self._transactor = Transactor(self._session, self._reconnect, self._settle)
        self._group: GroupCommit[Session] = GroupCommit(in_thread, self._transactor.run, clock)
        self._watches = [
            (LoopingCall(self._renew), RENEW_EVERY),
            (LoopingCall(self._sweep), SWEEP_EVERY),
            (LoopingCall(self._let_lapse), WATCH_EVERY),
        ]
        for watch, _ in self._watches:
            watch.clock = clock
        self._closing = False
        self._fault: str | None = None
        self.takeovers = 0
        self._peers: Mapping[str, str] = {}

    @property
    def fault(self) -> str | None:
        if self._group.silent_for >= READ_PATIENCE:
            return self._group.silence().reason
        return self._fault

    @property
    def location(self) -> str:
        return self._database.location

    def _settle(self) -> None:
        """Read what a session needs besides its connection."""
        connection = self._session.connection
        connection.add_notice_handler(self._session.notice)
        row = connection.execute("SELECT value FROM secret").fetchone()
        self._session.secret = bytes(row["value"]) if row else b""
        self._set_clock(self._session)

    def _set_clock(self, db: Session) -> None:
        """Measure the offset of the database's clock."""
        before, was, is_known = self._clock.seconds(), db.offset, db.error > 0
        date = self._date_by(db.connection)
        after = self._clock.seconds()
        db.set_clock(date, before, after)
        if is_known and abs(db.offset - was) > STEP:  # all leases may seem to be over, or to go on
            db.sweep_after = max(db.sweep_after, after + recovery.LEASE)

    def _reconnect(self) -> None:
        self._session.connection = connect(self._database.conninfo)
        self._session.sweep_after = self._clock.seconds() + recovery.LEASE

    is_shared = True

    @property
    def owner(self) -> int | None:
        return self._session.owner or None

    @property
    def date(self) -> float:
        return self._session.at(self._clock.seconds())

    @property
    def lease_left(self) -> float:
        return self._transactor.lease_left

    @property
    def losses(self) -> int:
        return self._transactor.losses

    def forsake(self) -> None:
        self._transactor.forsaken = True

    def recover(
        self, everyday_limit: int, timezone: str, peers: Mapping[str, str], keep: float
    ) -> Deferred[Recovered]:
        self._peers = peers
        return Deferred.fromCoroutine(self._recover(everyday_limit, timezone, keep))

    async def _recover(self, everyday_limit: int, timezone: str, keep: float) -> Recovered:
        def steps(db: Session) -> Steps[Recovered]:
            now = self._clock.seconds()
            return recovery.recover(db, now, keep, everyday_limit, timezone, self._peers)

        while True:
            try:
                recovered = await self._write(steps)
                break
            except JournalUnavailable as error:
                if not is_passing(error.reason):
                    raise JournalError(
                        f"journal {self.location} can't be written: {error.reason}"
                    ) from None
            await deferLater(self._clock, RECOVER_EVERY)
        if self._session.differs:
            log.warn(
                "other daemons that share the journal have another `everyday_limit` or `timezone`:"
                " each goes by its own"
            )
        for watch, seconds in self._watches:
            watch.start(seconds, now=False)
        return recovered

    # The methods of `Journal`, which documents them.

    def accept(
        self, submissions: Sequence[Submission], terms: Terms, *, claim: bool = False
    ) -> Deferred[Sequence[Admitted]]:
        if claim:
            self._require_owner()
        request = asks.Accept(submissions, terms, claim, self._clock.seconds())
        return self._with_others(request, WRITE_PATIENCE)

    def claim_asks(
        self, now: float, most: int, tier: Tier = Tier.STANDARD
    ) -> Deferred[Claims[Ask]]:
        return self._claim(lambda db: asks.claim_asks(db, now, most, tier))

    def claim_expired(self, now: float, most: int) -> Deferred[Claims[Ask]]:
        return self._claim(lambda db: asks.claim_expired(db, now, most))

    def claim_submitted(self, now: float, most: int) -> Deferred[Claims[Ask]]:
        return self._claim(lambda db: asks.claim_submitted(db, now, most))

    def move_up(self, now: float, tiers: Tiers) -> Deferred[bool]:
        return self._write(lambda db: batches.move_up(db, now, tiers))

    def is_batch_due(self, now: float, since: float, full: int) -> Deferred[bool]:
        return self._read(lambda db: batches.is_due(db, now, since, full))

    def open_batch(self, key: str) -> Deferred[Batch]:
        date = wall(self._clock)
        return self._write(lambda db: batches.open_batch(db, key, date))

    def claim_batches(self) -> Deferred[Sequence[Batch]]:
        return self._claim(batches.claim)

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
        some = None if ids is None else list(ids)
        return self._claim(lambda db: asks.claim_batched(db, batch, now, most, some))

    def claim_deliveries(
        self, destination: str, now: float, most: int, *, untried_since: float | None = None
    ) -> Deferred[Claims[Delivery]]:
        return self._claim(
            lambda db: outbox.claim_deliveries(db, destination, now, most, untried_since)
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
        date = wall(self._clock)
        is_alike = leftover is None and ask.prompt.target != NOWHERE
        if isinstance(outcome, Answered) and is_alike and len(outcome.calls) <= 1:
            return self._with_others(asks.Answer(ask, outcome, now, date, claim))
        return self._write(
            lambda db: asks.ended(db, ask, outcome, now, date, claim=claim, leftover=leftover),
            rank=ANSWERED,
        )

    def delivery_ended(
        self,
        delivery: Delivery,
        outcome: Delivered | Postponed | Failed,
        now: float,
        *,
        leftover: Leftover | None = None,
    ) -> Deferred[Ended]:
        date = wall(self._clock)
        is_letter = delivery.destination == DEAD_LETTER.setting
        if isinstance(outcome, Delivered) and leftover is None and not is_letter:
            return self._with_others(outbox.Deliver(delivery, outcome, now, date))
        return self._write(
            lambda db: outbox.ended(db, delivery, outcome, now, date, leftover), rank=DELIVERED
        )

    def claim_leftovers(self, now: float, most: int) -> Deferred[Claims[Leftover]]:
        return self._claim(lambda db: leftovers.claim(db, now, most))

    def leftover_ended(self, leftover: Leftover, until: float | None) -> Deferred[None]:
        return self._write(lambda db: leftovers.ended(db, leftover, until))

    def remember(self, peer: str, state: PeerState) -> Deferred[None]:
        settings = self._peers[peer]
        return self._write(lambda db: peers.remember(db, peer, settings, state))

    def news_of_peers(self) -> Deferred[Mapping[str, PeerState]]:
        now = self._clock.seconds()
        return self._read(lambda db: peers.news(db, self._peers, now))

    def claim_probe(self, peer: str, state: PeerState, now: float) -> Deferred[bool]:
        settings = self._peers[peer]
        return self._write(lambda db: peers.claim_probe(db, peer, settings, state, now))

    def pause(self, what: str, who: str) -> Deferred[Pause]:
        date = wall(self._clock)
        return self._write(lambda db: pauses.pause(db, what, who, date), WRITE_PATIENCE)

    def resume(self, what: str, who: str) -> Deferred[Pause | None]:
        date = wall(self._clock)
        return self._write(lambda db: pauses.resume(db, what, who, date), WRITE_PATIENCE)

    def pauses(self) -> Deferred[Mapping[str, Pause]]:
        return self._read(pauses.pauses)

    def waiting(self, queue: Queue, now: float) -> Deferred[Waiting]:
        return self._read(lambda db: queues.waiting(db, queue, now))

    def hasten(self, queue: Queue, now: float) -> Deferred[int]:
        return self._write(lambda db: queues.hasten(db, queue, now), WRITE_PATIENCE)

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

    def kept(self, prompt_id: str, needed_until: float | None = None) -> Deferred[Kept | None]:
        now, date = self._now()

        def steps(db: Session) -> Steps[Kept | None]:
            return records.kept(db, prompt_id, now, date, needed_until)

        if needed_until is None:
            return self._read(steps, WRITE_PATIENCE)
        return self._write(steps, WRITE_PATIENCE)

    def ended_asking(self, ids: Collection[str]) -> Deferred[Collection[str]]:
        return self._read(lambda db: records.ended_asking(db, list(ids)))

    def unneeded(self, prompt_id: str) -> Deferred[None]:
        return self._write(lambda db: records.unneeded(db, prompt_id))

    def ends(self, since: float, most: int) -> Deferred[Sequence[End]]:
        return self._read(lambda db: records.ends(db, since, most))

    def still_failed(self, ids: Collection[str]) -> Deferred[Collection[str]]:
        return self._read(lambda db: records.still_failed(db, list(ids)))

    def tally(self, day: str) -> Deferred[Tally]:
        now = self._clock.seconds()
        return self._read(lambda db: records.tally(db, day, now))

    def tally_tiers(self) -> Deferred[TierTally]:
        return self._read(batches.tally)

    def redrive(self, prompt_id: str) -> Deferred[State]:
        date = self.date
        return self._write(lambda db: operator.redrive(db, prompt_id, date), WRITE_PATIENCE)

    def cancel(self, prompt_id: str, *, forget: bool = False) -> Deferred[Cancelled | None]:
        now, date = self._now()
        return self._write(
            lambda db: operator.cancel(db, prompt_id, now, date, forget=forget), WRITE_PATIENCE
        )

    def purge(self, prompt_id: str) -> Deferred[bool]:
        return self._write(lambda db: operator.purge(db, prompt_id), WRITE_PATIENCE)

    def prune(self, before: float) -> Deferred[None]:
        return Deferred.fromCoroutine(self._prune(before))

    async def _prune(self, before: float) -> None:
        await self.probe()
        while await self._write(lambda db: records.prune(db, before)):
            pass

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
        return self._write(records.probe)

    def close(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._close())

    async def _close(self) -> None:
        for watch, _ in self._watches:
            if watch.running:
                watch.stop()
        now = self._clock.seconds()
        if self._session.owner is not None:
            leaving = self._write(lambda db: recovery.leave(db, now))
            leaving.addErrback(lambda failure: failure.trap(JournalUnavailable) and None)
            self._closing = True
            self._transactor.stopping.set()
            await leaving
        self._closing = True
        await self._group.when_idle()
        self._group.stop()
        await self._in_thread(self._session.connection.close)

    def _renew(self) -> Deferred[None]:
        """Renew the lease, as every group does, and look at the database's clock."""

        async def renew() -> None:
            await self.probe()
            await self._read(self._measure)

        return Deferred.fromCoroutine(renew()).addErrback(
            self._unexpected, "renewing the journal's lease"
        )

    def _measure(self, db: Session) -> Steps[None]:
        self._set_clock(db)
        yield from ()

    def _sweep(self) -> Deferred[None]:
        """End the leases that are over.

        After an outage of the database, all may be over: who lives has time to renew its own.
        """
        now = self._clock.seconds()
        if now < self._session.sweep_after:
            return succeed(None)

        async def sweep() -> None:
            # These may be what connects again after an outage, or finds that the database's clock
            # was set: both put the sweep off.
            is_over = await self._read(recovery.is_any_over)
            if is_over:
                await self._read(self._measure)
            if is_over and self._clock.seconds() >= self._session.sweep_after:
                ended = await self._write(lambda db: recovery.sweep(db, now))
                self.takeovers += ended > 0
                if ended:
                    log.warn(
                        "the lease of {number} of the daemons that share the journal has ended,"
                        " {lease:.0f} s after its last commit: taking over what it had claimed",
                        number=ended,
                        lease=recovery.LEASE,
                    )

        return Deferred.fromCoroutine(sweep()).addErrback(
            self._unexpected, "taking over what other daemons have left"
        )

    def _let_lapse(self) -> Deferred[None]:
        now = self._clock.seconds()

        async def lapse() -> None:
            while await self._write(lambda db: records.let_lapse(db, now)):
                pass
            await self._write(records.add_up)

        return Deferred.fromCoroutine(lapse()).addErrback(
            self._unexpected, "deleting texts from the journal"
        )

    @staticmethod
    def _unexpected(failure: Failure, doing: str) -> None:
        if not failure.check(JournalUnavailable):
            log_unexpected(log, doing, failure)

    def _now(self) -> tuple[float, float]:
        return self._clock.seconds(), wall(self._clock)

    def _require_owner(self) -> None:
        if self._session.owner is None:
            raise RuntimeError("nothing can be claimed before `recover`")

    def _claim(self, steps: Callable[[Session], Steps[Result]]) -> Deferred[Result]:
        self._require_owner()
        return self._write(steps, rank=CLAIM)

    def _write(
        self,
        steps: Callable[[Session], Steps[Result]],
        patience: float | None = None,
        rank: int = OTHER,
    ) -> Deferred[Result]:
        return self._submit(Ranked(rank, steps), patience, writes=True).addCallbacks(
            self._well, self._unwell
        )

    def _with_others(self, request: Together, patience: float | None = None) -> Deferred[Any]:
        return self._submit(request, patience, writes=True).addCallbacks(self._well, self._unwell)

    def _read(
        self,
        steps: Callable[[Session], Steps[Result]],
        patience: float | None = READ_PATIENCE,
    ) -> Deferred[Result]:
        return self._submit(Ranked(OTHER, steps), patience, writes=False)

    def _submit(self, run: Any, patience: float | None, *, writes: bool) -> Deferred[Any]:
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
            if self._fault != error.reason:
                log.error(
                    "journal {path} can't be written: {reason}; accepting no prompts until it can",
                    path=self.location,
                    reason=error.reason,
                )
            self._fault = error.reason
        return failure
