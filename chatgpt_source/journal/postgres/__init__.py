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

`accept`, `asks`, `ask_ended`, `outbox`, `leftovers`, `batches`, `operator`, `records` and `history`
write and read the tables, `transact` commits groups, `recovery` has the leases, `background` is
what a daemon does unasked, `connect` opens a connection, `link` opens it again. This module puts
them together as a `Journal`.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from chatgpt_source.clock import wall
from chatgpt_source.errors import JournalUnavailable
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
from chatgpt_source.journal.postgres import (
    accept,
    ask_ended,
    asks,
    audit,
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
)
from chatgpt_source.journal.postgres.background import Background
from chatgpt_source.journal.postgres.connect import Database, open_journal
from chatgpt_source.journal.postgres.link import Link, database_date
from chatgpt_source.journal.postgres.queries import PostgresQueries
from chatgpt_source.journal.postgres.runner import Runner
from chatgpt_source.journal.postgres.session import (
    ANSWERED,
    CLAIM,
    DELIVERED,
    Connection,
    Session,
    Steps,
)
from chatgpt_source.journal.postgres.transact import Transactor
from chatgpt_source.log import get_logger
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


class PostgresJournal(PostgresQueries):
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
        database, connection = opened
        self._location = database.location
        self._in_thread = in_thread
        self._session = Session(connection)
        link = Link(database, self._session, clock, date_by)
        self._transactor = Transactor(self._session, link.reconnect, link.settle)
        self._executor: Executor[Session] = Executor(
            self.location, GroupCommit(in_thread, self._transactor.run, clock)
        )
        self._runner = Runner(clock, self._executor)
        super().__init__(clock, self._runner)
        self._write = self._runner.write
        self._background = Background(clock, self._runner, self._session, link)
        self._peers: Mapping[str, str] = {}

    @property
    def fault(self) -> str | None:
        return self._executor.fault

    @property
    def location(self) -> str:
        return self._location

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

    @property
    def takeovers(self) -> int:
        return self._background.takeovers

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

        recovered = await self._runner.write_once_reachable(steps)
        if self._session.differs:
            log.warn(
                "other daemons that share the journal have another `everyday_limit` or `timezone`:"
                " each goes by its own"
            )
        self._background.start()
        return recovered

    # The methods of `Journal`, which documents them.

    def accept(
        self, submissions: Sequence[Submission], terms: Terms, *, claim: bool = False
    ) -> Deferred[Sequence[Admitted]]:
        if claim:
            self._require_owner()
        request = accept.Accept(submissions, terms, claim, self._clock.seconds())
        return self._runner.write_with_others(request, WRITE_PATIENCE)

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
        return self._claim(lambda db: batches.open_batch(db, key, date))

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
            answer = ask_ended.Answer(ask, outcome, now, date, claim)
            return self._runner.write_with_others(answer, delay=outcome.commit_delay)
        return self._write(
            lambda db: ask_ended.ended(db, ask, outcome, now, date, claim=claim, leftover=leftover),
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
            deliver = outbox.Deliver(delivery, outcome, now, date)
            return self._runner.write_with_others(deliver, delay=outcome.commit_delay)
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

    def audit(self, entry: AuditEntry) -> Deferred[None]:
        return self._write(lambda db: audit.add(db, entry), WRITE_PATIENCE)

    def take_audit_entries(self) -> Deferred[Sequence[AuditEntry]]:
        return self._write(audit.take)

    def pause(self, what: str, who: str) -> Deferred[Pause]:
        now = self._clock.seconds()
        return self._write(lambda db: pauses.pause(db, what, who, db.at(now)), WRITE_PATIENCE)

    def resume(self, what: str, who: str) -> Deferred[Pause | None]:
        now = self._clock.seconds()
        return self._write(lambda db: pauses.resume(db, what, who, db.at(now)), WRITE_PATIENCE)

    def hasten(self, queue: Queue, now: float) -> Deferred[int]:
        return self._write(lambda db: queues.hasten(db, queue, now), WRITE_PATIENCE)

    def kept(self, prompt_id: str, needed_until: float | None = None) -> Deferred[Kept | None]:
        now, date = self._now()

        def steps(db: Session) -> Steps[Kept | None]:
            return records.kept(db, prompt_id, now, date, needed_until)

        if needed_until is None:
            return self._read(steps, WRITE_PATIENCE)
        return self._write(steps, WRITE_PATIENCE)

    def unneeded(self, prompt_id: str) -> Deferred[None]:
        return self._write(lambda db: records.unneeded(db, prompt_id))

    def redrive(self, prompt_id: str) -> Deferred[State]:
        now = self._clock.seconds()
        return self._write(lambda db: operator.redrive(db, prompt_id, db.at(now)), WRITE_PATIENCE)

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

    def prune_history(self, date: float) -> Deferred[None]:
        return self._write(lambda db: history.prune(db, date))

    def probe(self) -> Deferred[None]:
        return self._write(records.probe)

    def close(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._close())

    async def _close(self) -> None:
        self._background.stop()
        now = self._clock.seconds()
        if self._session.owner is not None:
            leaving = self._write(lambda db: recovery.leave(db, now))
            leaving.addErrback(lambda failure: failure.trap(JournalUnavailable) and None)
            self._transactor.stopping.set()
        await self._executor.close()
        await self._in_thread(self._session.connection.close)

    def _require_owner(self) -> None:
        if self._session.owner is None:
            raise RuntimeError("nothing can be claimed before `recover`")

    def _claim(self, steps: Callable[[Session], Steps[Result]]) -> Deferred[Result]:
        self._require_owner()
        return self._write(steps, rank=CLAIM)
