"""A group of operations in one SQLite transaction; one that fails does not fail the others."""

import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from attrs import define, field

from chatgpt_source.errors import JournalUnavailable
from chatgpt_source.journal.group_commit import RETRY_AFTER
from chatgpt_source.journal.sqlite.file import OpenJournal
from chatgpt_source.journal.sqlite.together import Operations, in_order, outcomes
from chatgpt_source.journal.sqlite.upkeep import probe

PATIENCE = 1.0
"""Seconds to wait for another process that writes; an operator's command takes less."""
PATIENCE_LEFT = 0.1
"""Seconds to wait after a wait that failed, so that reads are not delayed."""
POLL = 0.002
"""Seconds between two attempts to begin."""
OFTEN = 1000
"""Instructions of SQLite's virtual machine between two looks at the time: some tens of rows."""

Result = TypeVar("Result")


class TakesLong(Exception):
    """An operation would have taken too long; nothing is changed."""


@define(eq=False, repr=False)
class Transactor:
    """Runs groups of operations, each group in one transaction, in the journal's thread.

    A commit that failed may still be complete in the write-ahead log, if the disk's `fsync` failed:
    after a crash, SQLite would recover what was refused. So an empty transaction overwrites it
    before the callers get the error.

    Args:
        opened: The journal's file.
        patience: Seconds to wait for another process that writes.
        monotonic: The time in seconds.
        sleep: Waits for some seconds.
    """

    _opened: OpenJournal
    patience: float = PATIENCE
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    _waited_in_vain: bool = field(init=False, default=False)
    _half_written: bool = field(init=False, default=False)

    @property
    def _db(self) -> sqlite3.Connection:
        return self._opened.connection

    def run(self, group: Operations) -> None:
        """Run the writes in one transaction, then the reads; sets the outcome of each."""
        try:
            self._require_file()
        except JournalUnavailable as error:
            _fail(group, error)
            return
        writes = [operation for operation in group if operation.writes]
        if writes:
            self._write(writes)
        for operation in group:
            if not operation.writes:
                try:
                    _attempt(self._db, [operation])
                except sqlite3.Error as error:
                    operation.error = unavailable(error)

    def alone(
        self, run: Callable[[sqlite3.Connection], Result], within: float | None = None
    ) -> Result:
        """Run an operation in a transaction of its own.

        Args:
            run: The operation.
            within: The seconds that it may take; it then does not wait for another process either.

        Raises:
            TakesLong: If it would take longer.
            sqlite3.Error: If it fails.
        """
        db = self._db
        if within is not None:
            until = self.monotonic() + within
            db.set_progress_handler(lambda: self.monotonic() > until, OFTEN)
        try:
            if within is None:
                self.begin()
            else:
                db.execute("BEGIN IMMEDIATE")
            result = run(db)
            db.execute("COMMIT")
        except sqlite3.Error as error:
            _roll_back(db)
            if within is not None and (_is_busy(error) or str(error) == "interrupted"):
                raise TakesLong from None
            raise
        finally:
            db.set_progress_handler(None, OFTEN)
        return result

    def _require_file(self) -> None:
        """Require that what is written can be found at the next start.

        Raises:
            JournalUnavailable: If it can't.
        """
        loss = self._opened.loss()
        if loss is not None:
            raise JournalUnavailable(loss, retry_after=RETRY_AFTER)

    def begin(self) -> None:
        """Begin a transaction that writes; waits for another process's transaction to end.

        SQLite's own waits grow to a tenth of a second, and miss shorter gaps between transactions.

        Raises:
            sqlite3.Error: If it can't begin.
        """
        patience = min(self.patience, PATIENCE_LEFT) if self._waited_in_vain else self.patience
        deadline = self.monotonic() + patience
        while True:
            try:
                self._db.execute("BEGIN IMMEDIATE")
            except sqlite3.Error as error:
                self._waited_in_vain = _is_busy(error) and self.monotonic() >= deadline
                if self._waited_in_vain or not _is_busy(error):
                    raise
            else:
                self._waited_in_vain = False
                return
            self.sleep(POLL)

    def _write(self, writes: Operations) -> None:
        unwritable = self._written_over()
        if unwritable is not None:
            _fail(writes, unwritable)
            return
        error = self._committed(writes)
        if error is not None and not (_is_busy(error) or isinstance(error, JournalUnavailable)):
            # One that can't be written, as for its size, must not fail the others.
            for operation in writes:
                self._committed([operation])
        self._written_over()

    def _committed(self, writes: Operations) -> Exception | None:
        """Commit the operations; returns why they could not be committed together.

        An operation that is refused has written nothing, so the others need no savepoint.
        """
        db = self._db
        try:
            self.begin()
            for some in in_order(writes):
                before = db.total_changes
                error = _attempt(db, some)
                if error is not None and (db.total_changes != before or len(some) > 1):
                    _roll_back(db)
                    return error
            self._require_file()
            self._commit()
        except (sqlite3.Error, JournalUnavailable) as error:
            _roll_back(db)
            _fail(writes, error)
            return error
        return None

    def _commit(self) -> None:
        self._half_written = True
        self._db.execute("COMMIT")
        self._half_written = False

    def _written_over(self) -> sqlite3.Error | None:
        """If a commit failed, overwrite it with an empty transaction."""
        if self._half_written:
            try:
                self.begin()
                probe(self._db)
                self._commit()
            except sqlite3.Error as error:
                _roll_back(self._db)
                return error
        return None


def unavailable(error: Exception) -> JournalUnavailable:
    """SQLite's error, or the file's loss, as the journal's."""
    return JournalUnavailable(str(error), retry_after=RETRY_AFTER)


def _is_busy(error: Exception) -> bool:
    """Whether another process writes."""
    return str(error) == "database is locked"


def _roll_back(db: sqlite3.Connection) -> None:
    with suppress(sqlite3.Error):
        db.execute("ROLLBACK")


def _fail(writes: Operations, error: Exception) -> None:
    for operation in writes:
        operation.error = unavailable(error)


def _attempt(db: sqlite3.Connection, operations: Operations) -> Exception | None:
    """Do operations at a time; returns the error if they could not be done together."""
    for each in operations:
        each.result = each.error = None
    try:
        found = outcomes(db, operations)
    except sqlite3.Error:
        raise
    except Exception as error:  # noqa: BLE001 - a refusal or a bug fails this operation alone
        for each in operations:
            each.error = error
        return error
    for each, outcome in zip(operations, found, strict=True):
        if isinstance(outcome, Exception):
            each.error = outcome
        else:
            each.result = outcome
    return None
