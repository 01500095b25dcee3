"""A group of operations in one transaction, its statements in a pipeline.

All operations of a group run side by side: each sends its first statement, all results come back
in one round trip, then each goes on to its second. So a group costs as many round trips as its
longest operation has steps.

If the connection is lost during a COMMIT, nobody knows whether it was done. Each group writes its
number into its owner's row, so the next connection reads it there, which waits for the old backend.
"""

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from math import inf
from typing import Any

import attrs
import psycopg
from attrs import define, field, frozen
from psycopg import errors

from chatgpt_source.clock import boot_time
from chatgpt_source.errors import JournalUnavailable
from chatgpt_source.journal import Admitted, Claims, Ended
from chatgpt_source.journal.group import RETRY_AFTER, Operation
from chatgpt_source.journal.postgres.asks import Accept, accept
from chatgpt_source.journal.postgres.connect import reason_of
from chatgpt_source.journal.postgres.recovery import LEASE, UNTIL
from chatgpt_source.journal.postgres.session import Cursor, Session, Steps, rows_of

ATTEMPTS = 5
"""Attempts of a group that others' transactions are in the way of."""
NOBODY = 0
"""No owner's id."""
FIRST_DELAY, LONGEST_DELAY = 0.1, 5.0
"""Seconds between two attempts to connect: from, to."""

Operations = Sequence[Operation[Session]]
InTheWay = (errors.DeadlockDetected, errors.SerializationFailure)


@frozen
class Ranked:
    """An operation with its place in a group; all processes lock rows in that order."""

    rank: int
    steps: Callable[[Session], Steps[Any]]

    def __call__(self, db: Session) -> Steps[Any]:
        """Begin it."""
        return self.steps(db)


class _OwnerEnded(Exception):
    """Another process took over: this run's lease had ended."""


@define(eq=False)
class Transactor:
    """Runs groups in the journal's thread, and connects again when the connection is lost.

    Args:
        session: What operations see.
        reconnect: Gives the session another connection.
        monotonic: The time in seconds.
    """

    _session: Session
    _reconnect: Callable[[], None]
    monotonic: Callable[[], float] = boot_time
    stopping: threading.Event = field(factory=threading.Event)
    forsaken: bool = field(init=False, default=False)
    """Whether the next group is to be another owner's."""
    _leased_until: float = field(init=False, default=inf)
    _number: int = field(init=False, default=0)
    _in_doubt: bool = field(init=False, default=False)
    _delay: float = field(init=False, default=0.0)
    _next_attempt: float = field(init=False, default=0.0)
    _trouble: str = field(init=False, default="the database can't be reached")

    @property
    def lease_left(self) -> float:
        """Seconds until the lease ends, as far as this process knows; infinite before it begins."""
        return self._leased_until - self.monotonic()

    def run(self, group: Operations) -> None:
        """Run the writes in one transaction, then the reads; sets the outcome of each."""
        writes = [each for each in group if each.writes]
        reads = [each for each in group if not each.writes]
        for operations, work in ((writes, self._write), (reads, self._read)):
            if operations:
                if self._is_connected():
                    work(operations)
                else:
                    _fail(operations, self._trouble)

    def _is_connected(self) -> bool:
        if not self._session.connection.closed:
            return True
        if self.monotonic() < self._next_attempt:
            return False
        try:
            self._reconnect()
        except Exception as error:  # noqa: BLE001 - whatever it is, there is no connection
            self._trouble = reason_of(error)
            self._delay = min(LONGEST_DELAY, self._delay * 2 or FIRST_DELAY)
            self._next_attempt = self.monotonic() + self._delay
            return False
        self._delay = 0.0
        return True

    def _read(self, reads: Operations) -> None:
        try:
            with self._session.connection.pipeline() as pipeline:
                run_together(self._session, reads, pipeline)
        except psycopg.Error as error:
            self._drop_if_broken(error)
            _fail(reads, reason_of(error))

    def _write(self, writes: Operations) -> None:
        error: Exception | None = None
        for _ in range(ATTEMPTS):
            error = self._try(writes)
            if error is None:
                return
        _fail(writes, reason_of(error or InTheWay[0]()))

    def _try(self, writes: Operations) -> Exception | None:
        """Commit the operations, or fail them; returns the error if they are to be tried again."""
        began = self.monotonic()
        try:
            self._commit(writes)
        except _OwnerEnded as error:
            self._roll_back()
            with suppress(psycopg.Error):  # then the next attempt finds out
                self._begin_anew()
            return error
        except InTheWay as error:
            self._roll_back()
            return error
        except (psycopg.Error, UnicodeError) as error:
            if not (self._in_doubt and self._was_committed()):
                self._give_up(writes, error)
                return None
        if self._session.owner is not None:
            self._leased_until = began + LEASE
            if self.monotonic() >= self._leased_until:
                self._let_claims_go(writes)
        return None

    def _let_claims_go(self, writes: Operations) -> None:
        """Return no claim whose lease may be over: as another owner, let that end unrenewed."""
        for each in writes:
            each.result = without_claims(each.result)
        with suppress(psycopg.Error):  # then the next group finds its owner ended, in time
            self._begin_anew()

    def _give_up(self, writes: Operations, error: Exception) -> None:
        """Fail the operations, but for those that can be written without the others."""
        self._roll_back()
        self._drop_if_broken(error)
        if isinstance(error, psycopg.OperationalError) or len(writes) == 1:
            _fail(writes, reason_of(error))
            return
        for each in writes:  # the data of one must not fail the others
            if self._is_connected():
                self._write([each])
            else:
                _fail([each], self._trouble)

    def _commit(self, writes: Operations) -> None:
        db = self._session
        if self.forsaken and db.owner is not None:
            self._begin_anew()
        db.returned.clear()
        number, owner = self._number + 1, db.owner
        with db.connection.pipeline() as pipeline:
            db.execute("BEGIN")
            renewed = db.execute(
                f"UPDATE owners SET number = %s, until = {UNTIL} WHERE id = %s AND NOT ended"
                " RETURNING id",
                (number, owner),
            )
            accepts = [each for each in writes if isinstance(each.run, Accept)]
            others = [each for each in writes if not isinstance(each.run, Accept)]
            others.sort(key=lambda each: getattr(each.run, "rank", 3))
            run_together(db, others, pipeline)
            if accepts:
                _exhaust(accept(db, accepts), pipeline)
            for day, count in sorted(db.returned.items()):
                db.execute(
                    "UPDATE days SET used = greatest(used - %s, 0) WHERE day = %s", (count, day)
                )
            pipeline.sync()
            if owner is not None and not rows_of(renewed):
                raise _OwnerEnded
        self._in_doubt = owner is not None
        db.connection.execute("COMMIT")
        self._in_doubt, self._number = False, number

    def _was_committed(self) -> bool:
        """Find out what became of a COMMIT whose result was lost."""
        db, number = self._session, self._number + 1
        self._drop()
        while not self.stopping.is_set():
            try:
                if self._is_connected():
                    found = db.connection.execute(
                        "SELECT number FROM owners WHERE id = %s FOR UPDATE", (db.owner,)
                    ).fetchone()
                    self._in_doubt = False
                    self._number = number
                    return found is not None and found["number"] == number
            except psycopg.Error:
                self._drop()
            self.stopping.wait(FIRST_DELAY)
        self._in_doubt = False
        return False

    def _begin_anew(self) -> None:
        """Become another owner, as an owner's id is never used again."""
        db = self._session
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
        if connection.closed or connection.broken:
            self._drop()
            self._trouble = reason_of(error)

    def _drop(self) -> None:
        with suppress(psycopg.Error):
            self._session.connection.close()


def without_claims(result: Any) -> Any:
    """What an operation returns, as if it had claimed nothing."""
    if isinstance(result, Claims):
        return attrs.evolve(result, claimed=[])
    if isinstance(result, Ended):
        return attrs.evolve(result, delivery=None)
    if isinstance(result, list):
        return [
            attrs.evolve(each, ask=None) if isinstance(each, Admitted) else each for each in result
        ]
    return result


def run_together(db: Session, operations: Operations, pipeline: psycopg.Pipeline) -> None:
    """Run operations side by side; sets the outcome of each."""
    under_way: list[tuple[Operation[Session], Steps[Any], Cursor | None]] = []
    for operation in operations:
        operation.result = operation.error = None
        steps: Steps[Any] = operation.run(db)
        under_way += _step(operation, steps, None)
    while under_way:
        pipeline.sync()
        going_on, under_way = under_way, []
        for operation, steps, cursor in going_on:
            under_way += _step(operation, steps, cursor)


def _step(
    operation: Operation[Session], steps: Steps[Any], cursor: Cursor | None
) -> list[tuple[Operation[Session], Steps[Any], Cursor | None]]:
    """Go on with one operation; returns it if it has another step."""
    try:
        sent = next(steps) if cursor is None else steps.send(rows_of(cursor))
    except StopIteration as stop:
        operation.result = stop.value
        return []
    except (psycopg.Error, UnicodeError):
        raise
    except Exception as error:  # noqa: BLE001 - a refusal or a bug fails this operation alone
        operation.error = error
        return []
    return [(operation, steps, sent)]


def _exhaust(steps: Steps[None], pipeline: psycopg.Pipeline) -> None:
    with suppress(StopIteration):
        cursor = next(steps)
        while True:
            pipeline.sync()
            cursor = steps.send(rows_of(cursor))


def _fail(operations: Operations, reason: str) -> None:
    for operation in operations:
        operation.error = JournalUnavailable(reason, retry_after=RETRY_AFTER)
