"""A group of operations in one SQLite transaction; one that fails does not fail the others."""

import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from attrs import define, field

from chatgpt_source.errors import JournalUnavailable
from chatgpt_source.journal.group import RETRY_AFTER, Operation
from chatgpt_source.journal.sqlite.upkeep import probe

PATIENCE = 1.0
"""Seconds to wait for another process that writes; an operator's command takes less."""
PATIENCE_LEFT = 0.1
"""Seconds to wait after a wait that failed, so that reads are not delayed."""
POLL = 0.002
"""Seconds between two attempts to begin."""
LOOK = 1.0
"""Seconds between two checks for writes of another process."""

Operations = Sequence[Operation[sqlite3.Connection]]


@define
class Transactor:
    """Runs groups of operations, each group in one transaction, in the journal's thread.

    A commit that failed may still be complete in the write-ahead log, if the disk's `fsync` failed:
    after a crash, SQLite would recover what was refused. So an empty transaction overwrites it
    before the callers get the error.

    Args:
        patience: Seconds to wait for another process that writes.
        monotonic: The time in seconds.
        sleep: Waits for some seconds.
    """

    patience: float = PATIENCE
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    _waited_in_vain: bool = field(init=False, default=False)
    _half_written: bool = field(init=False, default=False)
    _version: int | None = field(init=False, default=None)
    _looked: float = field(init=False, default=-LOOK)
    _disturbed: bool = field(init=False, default=False)

    def run(self, db: sqlite3.Connection, group: Operations) -> None:
        """Run the writes in one transaction, then the reads; sets the outcome of each."""
        writes = [operation for operation in group if operation.writes]
        if writes:
            self._write(db, writes)
        for operation in group:
            if not operation.writes:
                try:
                    _attempt(db, operation)
                except sqlite3.Error as error:
                    operation.error = unavailable(error)

    def begin(self, db: sqlite3.Connection) -> None:
        """Begin a transaction that writes; waits for another process's transaction to end.

        SQLite's own waits grow to a tenth of a second, and miss shorter gaps between transactions.

        Raises:
            sqlite3.Error: If it can't begin.
        """
        patience = min(self.patience, PATIENCE_LEFT) if self._waited_in_vain else self.patience
        deadline = self.monotonic() + patience
        while True:
            try:
                db.execute("BEGIN IMMEDIATE")
            except sqlite3.Error as error:
                self._waited_in_vain = _is_busy(error) and self.monotonic() >= deadline
                if self._waited_in_vain or not _is_busy(error):
                    raise
            else:
                self._waited_in_vain = False
                return
            self.sleep(POLL)

    def disturbed(self) -> bool:
        """Whether another process has written since the last call."""
        disturbed, self._disturbed = self._disturbed, False
        return disturbed

    def _write(self, db: sqlite3.Connection, writes: Operations) -> None:
        unwritable = self._written_over(db)
        if unwritable is not None:
            _fail(writes, unwritable)
        else:
            error = self._committed(db, writes)
            if error is not None and not _is_busy(error):
                # One that can't be written, as for its size, must not fail the others.
                for operation in writes:
                    self._committed(db, [operation])
            self._written_over(db)
        self._look_for_others(db)

    def _committed(self, db: sqlite3.Connection, writes: Operations) -> Exception | None:
        """Commit the operations; returns why they could not be committed together.

        An operation that is refused has written nothing, so the others need no savepoint.
        """
        try:
            self.begin(db)
            for operation in writes:
                before = db.total_changes
                _attempt(db, operation)
                if operation.error is not None and db.total_changes != before:
                    _roll_back(db)
                    return operation.error
            self._commit(db)
        except sqlite3.Error as error:
            _roll_back(db)
            _fail(writes, error)
            return error
        return None

    def _commit(self, db: sqlite3.Connection) -> None:
        self._half_written = True
        db.execute("COMMIT")
        self._half_written = False

    def _written_over(self, db: sqlite3.Connection) -> sqlite3.Error | None:
        """If a commit failed, overwrite it with an empty transaction."""
        if self._half_written:
            try:
                self.begin(db)
                probe(db)
                self._commit(db)
            except sqlite3.Error as error:
                _roll_back(db)
                return error
        return None

    def _look_for_others(self, db: sqlite3.Connection) -> None:
        now = self.monotonic()
        if now - self._looked < LOOK:
            return
        self._looked = now
        with suppress(sqlite3.Error):
            (version,) = db.execute("PRAGMA data_version").fetchone()
            self._disturbed |= self._version not in {None, version}
            self._version = version


def unavailable(error: sqlite3.Error) -> JournalUnavailable:
    """SQLite's error as the journal's."""
    return JournalUnavailable(str(error), retry_after=RETRY_AFTER)


def _is_busy(error: Exception) -> bool:
    """Whether another process writes, so that retrying each operation alone is no use."""
    return str(error) == "database is locked"


def _roll_back(db: sqlite3.Connection) -> None:
    with suppress(sqlite3.Error):
        db.execute("ROLLBACK")


def _fail(writes: Operations, error: sqlite3.Error) -> None:
    for operation in writes:
        operation.error = unavailable(error)


def _attempt(db: sqlite3.Connection, operation: Operation[sqlite3.Connection]) -> None:
    """Run one operation."""
    operation.result = operation.error = None
    try:
        operation.result = operation.run(db)
    except sqlite3.Error:
        raise
    except Exception as error:  # noqa: BLE001 - a refusal or a bug fails this operation alone
        operation.error = error
