"""A group of operations in one SQLite transaction; one that fails does not fail the others."""

import sqlite3
from collections.abc import Sequence
from contextlib import suppress

from chatgpt_source.journal.group import Operation
from chatgpt_source.prompt import JournalUnavailable

RETRY_AFTER = 5.0
"""Seconds after which a caller who met an unwritable journal may try again."""

Operations = Sequence[Operation[sqlite3.Connection]]


def transact(db: sqlite3.Connection, group: Operations) -> None:
    """Run a group: the writes in one transaction, then the reads; sets the outcome of each."""
    writes = [operation for operation in group if operation.writes]
    if writes and not _committed(db, writes) and not _is_busy(writes[0].error):
        # So that one that can't be written, say for its size, does not take the rest with it.
        for operation in writes:
            _committed(db, [operation])
    for operation in group:
        if not operation.writes:
            try:
                _attempt(db, operation)
            except sqlite3.Error as error:
                operation.error = unavailable(error)


def unavailable(error: sqlite3.Error) -> JournalUnavailable:
    """What SQLite says is wrong, as the other rooms know it."""
    return JournalUnavailable(str(error), retry_after=RETRY_AFTER)


def _is_busy(error: Exception | None) -> bool:
    """Whether another process writes, which each operation alone would wait for as well."""
    return error is not None and str(error) == "database is locked"


def _committed(db: sqlite3.Connection, writes: Operations) -> bool:
    try:
        db.execute("BEGIN IMMEDIATE")
        for operation in writes:
            db.execute("SAVEPOINT operation")
            if not _attempt(db, operation):
                db.execute("ROLLBACK TO operation")
            db.execute("RELEASE operation")
        db.execute("COMMIT")
    except sqlite3.Error as error:
        with suppress(sqlite3.Error):
            db.execute("ROLLBACK")
        for operation in writes:
            operation.error = unavailable(error)
        return False
    return True


def _attempt(db: sqlite3.Connection, operation: Operation[sqlite3.Connection]) -> bool:
    """Run one operation; whether what it did is to be kept."""
    operation.result = operation.error = None
    try:
        operation.result = operation.run(db)
    except sqlite3.Error:
        raise
    except Exception as error:  # noqa: BLE001 - a refusal, or a bug: its waiter's, not its neighbours'
        operation.error = error
        return False
    return True
