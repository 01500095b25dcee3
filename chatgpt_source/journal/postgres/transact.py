"""A group of operations in one transaction, its statements in a pipeline.

All operations of a group run side by side: each sends its first statement, all results come back
in one round trip, then each goes on to its second. So a group costs as many round trips as its
longest operation has steps, and the COMMIT goes along with its last statements.

If the connection is lost during a COMMIT, nobody knows whether it was done. Each group writes its
number into its owner's row, so the next connection reads it there, which waits for the old backend.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from math import inf
from typing import Any

import attrs
import psycopg
from attrs import define, field
from psycopg import errors

from chatgpt_source.clock import boot_time
from chatgpt_source.journal import Admitted, Batch, Claims, Ended
from chatgpt_source.journal.group_commit import Operation
from chatgpt_source.journal.postgres.accept import Accept
from chatgpt_source.journal.postgres.connect import Trouble, is_of_statement
from chatgpt_source.journal.postgres.recovery import LEASE, UNTIL, free_days
from chatgpt_source.journal.postgres.session import OTHER, Session
from chatgpt_source.journal.postgres.together import Operations, UnderWay, begin, pipelined, rank_of

ATTEMPTS = 5
"""Attempts of a group that others' transactions are in the way of."""
MOST_BYTES = 4 * 2**20
"""Bytes of text in one transaction: while they are sent, it holds the locks of its prompts."""
NOBODY = 0
"""No owner's id."""
FIRST_DELAY, LONGEST_DELAY = 0.1, 5.0
"""Seconds between two attempts to connect: from, to."""

InTheWay = (errors.DeadlockDetected, errors.SerializationFailure)
ReadOnly = errors.ReadOnlySqlTransaction
OwnerEnded = errors.DivisionByZero
"""`_RENEW` fails the transaction: another process took over, as this run's lease had ended, or the
group was given up."""
_RENEW = (
    f"WITH mine AS (UPDATE owners SET number = %(number)s, until = {UNTIL} WHERE id = %(owner)s"
    " AND NOT ended AND number < %(number)s RETURNING id) SELECT 1 / count(*) FROM mine"
)


@define(eq=False, repr=False)
class Transactor:
    """Runs groups in the journal's thread, and connects again when the connection is lost.

    Args:
        session: What operations see.
        reconnect: Gives the session another connection.
        settle: Reads what the session needs besides its connection.
        monotonic: The time in seconds.
    """

    _session: Session
    _reconnect: Callable[[], None]
    _settle: Callable[[], None]
    monotonic: Callable[[], float] = boot_time
    stopping: threading.Event = field(factory=threading.Event)
    forsaken: bool = field(init=False, default=False)
    """Whether the next group is to be another owner's."""
    losses: int = field(init=False, default=0)
    """How often it has become another owner because the lease had ended."""
    _leased_until: float = field(init=False, default=inf)
    _is_settled: bool = field(init=False, default=False)
    _number: int = field(init=False, default=0)
    _commit_sent: bool = field(init=False, default=False)
    _under_way: UnderWay = field(init=False, factory=UnderWay)
    _delay: float = field(init=False, default=0.0)
    _next_attempt: float = field(init=False, default=0.0)
    _trouble: Trouble = field(init=False, factory=lambda: Trouble.of(psycopg.OperationalError()))

    @property
    def lease_left(self) -> float:
        """Seconds until the lease ends, as far as this process knows; infinite before it begins."""
        return self._leased_until - self.monotonic()

    def run(self, group: Operations) -> None:
        """Run the writes, then the reads; sets the outcome of each.

        Those that may wait for a prompt that another process writes have a transaction each: with
        one prompt in hand nobody waits for another.
        """
        writes = [each for each in group if each.writes]
        reads = [each for each in group if not each.writes]
        together = [each for each in writes if rank_of(each) < OTHER]
        parts = [(part, self._write) for part in of_bounded_size(together)]
        parts += [([each], self._write) for each in writes if rank_of(each) == OTHER]
        for operations, work in (*parts, (reads, self._read)):
            if operations:
                if self._is_connected():
                    work(operations)
                else:
                    _fail(operations, self._trouble)

    def _is_connected(self) -> bool:
        connection = self._session.connection
        if not connection.closed and self._is_settled:
            return True
        if connection.closed and self.monotonic() < self._next_attempt:
            return False
        try:
            if connection.closed:
                self._is_settled = False
                self._reconnect()
            self._settle()
        except Exception as error:  # noqa: BLE001 - whatever it is, there is no connection
            self._trouble = Trouble.of(error)
            self._drop()
            self._delay = min(LONGEST_DELAY, self._delay * 2 or FIRST_DELAY)
            self._next_attempt = self.monotonic() + self._delay
            return False
        self._is_settled, self._delay = True, 0.0
        return True

    def _read(self, reads: Operations) -> None:
        try:
            with pipelined(self._session.connection) as pipeline:
                under_way = UnderWay()
                under_way.begin(begin(self._session, reads))
                under_way.until_last(pipeline)
            under_way.go_on()
        except (psycopg.Error, UnicodeError) as error:
            self._drop_if_broken(error)
            if len(reads) == 1 or isinstance(error, psycopg.OperationalError):
                _fail(reads, Trouble.of(error))
                return
            for each in reads:  # one that can't be sent must not fail the others
                if self._is_connected():
                    self._read([each])
                else:
                    _fail([each], self._trouble)

    def _write(self, writes: Operations) -> None:
        if self.forsaken and self._session.owner is not None:
            self._try_anew()
        error: Exception | None = None
        for _ in range(ATTEMPTS):
            error = self._try(writes)
            if error is None:
                return
        _fail(writes, Trouble.of(error or InTheWay[0]()))

    def _try(self, writes: Operations) -> Exception | None:
        """Commit the operations, or fail them; returns the error if they are to be tried again."""
        began, owner = self.monotonic(), self._session.owner
        try:
            self._commit(writes)
        except (psycopg.Error, UnicodeError) as error:
            if not (self._is_in_doubt(error) and self._was_committed()):
                self._session.owner = owner
                if isinstance(error, errors.LockNotAvailable) and self._are_days_freed():
                    return error
                if not isinstance(error, (*InTheWay, OwnerEnded)):
                    self._give_up(writes, error)
                    return None
                self._roll_back()
                if isinstance(error, OwnerEnded):
                    self._try_anew()
                return error
        if self._session.owner is not None:
            self._leased_until = began + LEASE
            if self.forsaken or self.monotonic() >= self._leased_until:
                self._let_claims_go(writes)
        return None

    def _is_in_doubt(self, error: Exception) -> bool:
        """Whether a COMMIT was sent whose result was lost with its connection.

        A server that ends a session says so after the COMMIT's result, and closes it later.
        """
        sent, self._commit_sent = self._commit_sent, False
        return sent and not is_of_statement(error)

    def _let_claims_go(self, writes: Operations) -> None:
        """Return no claim whose lease may be over, or is not renewed: become another owner."""
        for each in writes:
            each.result = without_claims(each.result)
        self._try_anew()

    def _are_days_freed(self) -> bool:
        """End the sessions that keep the days' rows and stand still; returns whether any did."""
        self._roll_back()
        try:
            return free_days(self._session.connection)
        except psycopg.Error:  # what comes next meets it, too
            return False

    def _give_up(self, writes: Operations, error: Exception) -> None:
        """Fail the operations, but for those that can be written without the others."""
        self._roll_back()
        self._drop_if_broken(error)
        if isinstance(error, errors.LockNotAvailable) and writes:
            # What needs the day fails alone: the rest, and be it the lease, must not end with it.
            accepts, others = _accepts_apart(writes)
            failed, rest = (accepts, others) if accepts else (others, [])
            _fail(failed, Trouble.of(error))
            self._write(rest)
            return
        if isinstance(error, psycopg.OperationalError) or len(writes) == 1:
            _fail(writes, Trouble.of(error))
            return
        for each in writes:  # the data of one must not fail the others
            if self._is_connected():
                self._write([each])
            else:
                _fail([each], self._trouble)

    def _commit(self, writes: Operations) -> None:
        """Commit the operations in as few round trips as they have steps.

        The days are locked last, in their order: nobody waits for another lock with one in hand.
        """
        db = self._session
        db.returned.clear()
        db.ended.clear()
        db.unconfirmed = False
        number, owner = self._number + 1, db.owner
        accepts, others = _accepts_apart(writes)
        under_way = self._under_way = UnderWay()
        with pipelined(db.connection) as pipeline:
            db.execute("BEGIN")
            if owner is not None:
                db.execute(_RENEW, {"number": number, "owner": owner})
            under_way.begin(begin(db, others))
            under_way.until_last(pipeline)
            under_way.begin(begin(db, accepts))
            under_way.until_last(pipeline)
            for state, count in db.ended.items():
                db.execute("INSERT INTO ended_counts VALUES (%s, %s)", (state.value, count))
            for day, count in sorted(db.returned.items()):
                db.execute(
                    "UPDATE days SET used = greatest(used - %s, 0) WHERE day = %s", (count, day)
                )
            self._commit_sent = db.owner is not None
            committed = db.execute("COMMIT")
        if db.unconfirmed and self._commit_sent:
            self._drop()  # then it is looked up, which waits for the standby too
            raise psycopg.OperationalError
        self._commit_sent, self._number = False, number
        if committed.statusmessage != "COMMIT":
            raise errors.InFailedSqlTransaction
        under_way.go_on()

    def _was_committed(self) -> bool:
        """Find out what became of a COMMIT whose result was lost; then end its operations.

        One that was not done must not be done later, though it may still be on its way: its number
        is passed over.
        """
        db, number = self._session, self._number + 1
        self._drop()
        while not self.stopping.is_set():
            db.unconfirmed = False
            try:
                if self._is_connected():
                    was_done = self._ask_for(number)
                    if db.unconfirmed:
                        self._drop()
                        continue
                    if not was_done:
                        self._number = number + 1
                        return False
                    self._under_way.go_on_without_rows(db)
                    self._number = number
                    return True
            except psycopg.Error:
                self._drop()
            self.stopping.wait(FIRST_DELAY)
        return False

    def _ask_for(self, number: int) -> bool:
        """Whether a group was committed; if not, it can't be any more."""
        db = self._session
        with db.connection.transaction():
            found = db.connection.execute(
                "SELECT number FROM owners WHERE id = %s FOR UPDATE", (db.owner,)
            ).fetchone()
            was_done = found is not None and found["number"] == number
            if not was_done:
                db.connection.execute(
                    "UPDATE owners SET number = %s WHERE id = %s", (number + 1, db.owner)
                )
        return was_done

    def _try_anew(self) -> None:
        """Become another owner; if that fails, the next group finds its owner ended, and tries."""
        try:
            self._begin_anew()
        except psycopg.Error as error:
            self._trouble = Trouble.of(error)
            self._drop()  # a session from before a copy of the journal may not

    def _begin_anew(self) -> None:
        """Become another owner, as an owner's id is never used again."""
        db = self._session
        self.losses += not self.forsaken and db.owner != NOBODY
        db.owner = NOBODY  # so that the next group tries again if this fails
        row = db.connection.execute(
            f"INSERT INTO owners (until) VALUES ({UNTIL}) RETURNING id"
        ).fetchone()
        db.owner = row["id"] if row else NOBODY
        self._number, self.forsaken = 0, False

    def _roll_back(self) -> None:
        with suppress(psycopg.Error):
            self._session.connection.execute("ROLLBACK")

    def _drop_if_broken(self, error: Exception) -> None:
        connection = self._session.connection
        # A server that takes no writes any more is not the one that the URL asks for.
        if connection.closed or connection.broken or isinstance(error, ReadOnly):
            self._drop()
            self._trouble = Trouble.of(error)

    def _drop(self) -> None:
        with suppress(psycopg.Error):
            self._session.connection.close()


def of_bounded_size(operations: Operations) -> Iterator[Operations]:
    """The operations in parts, each with few texts, so that none takes long to send."""
    part: list[Operation[Session]] = []
    size = 0
    for each in operations:
        own = getattr(each.run, "size", 0)
        if part and size + own > MOST_BYTES:
            yield part
            part, size = [], 0
        part.append(each)
        size += own
    if part:
        yield part


def _accepts_apart(writes: Operations) -> tuple[Operations, Operations]:
    """The operations that accept prompts, and so need the day; and the others."""
    accepts = [each for each in writes if isinstance(each.run, Accept)]
    return accepts, [each for each in writes if not isinstance(each.run, Accept)]


def without_claims(result: Any) -> Any:
    """What an operation returns, as if it had claimed nothing."""
    if isinstance(result, Claims):
        return attrs.evolve(result, claimed=[])
    if isinstance(result, Ended):
        return attrs.evolve(result, delivery=None)
    if isinstance(result, list):
        return [
            attrs.evolve(each, ask=None) if isinstance(each, Admitted) else each
            for each in result
            if not isinstance(each, Batch)
        ]
    return result


def _fail(operations: Operations, trouble: Trouble) -> None:
    for operation in operations:
        operation.error = trouble.error()
