"""Remove deleted texts from all of SQLite's files, in short steps."""

import os
import sqlite3
from contextlib import suppress

MOST_ROWS_REWRITTEN = 2000
MOST_BYTES_REWRITTEN = 4 * 2**20
"""Rows of `texts` and their bytes, above which they are not rewritten: it would take too long."""


def wipe(db: sqlite3.Connection) -> bool:
    """Remove deleted texts from all files; returns False if that was not possible now.

    `secure_delete` overwrites a deleted row. It does not overwrite copies in the gaps of pages,
    which SQLite leaves when it moves a row, or copies in the write-ahead log. The first are removed
    by rewriting the rows of `texts`, the second by truncating the log. Runs outside a transaction.
    """
    rewritten = True
    try:
        if _may_rewrite(db):
            db.execute("BEGIN IMMEDIATE")
            _rewrite(db)
            db.execute("COMMIT")
    except (sqlite3.Error, OSError):  # as on a full disk: the log can still be truncated
        rewritten = False
        if db.in_transaction:
            db.execute("ROLLBACK")
    (busy, *_) = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return rewritten and not busy


def wipe_at_last(db: sqlite3.Connection, patience: float) -> None:
    """Wipe before the file is closed; if that fails, the next start does.

    Args:
        db: The database.
        patience: Seconds to wait for another process.
    """
    with suppress(sqlite3.Error):  # as on a full disk
        db.execute(f"PRAGMA busy_timeout = {patience * 1000:.0f}")
        wipe(db)


def data_version(db: sqlite3.Connection) -> int:
    """A number that changes with each commit of another process."""
    (version,) = db.execute("PRAGMA data_version").fetchone()
    return int(version)


def _may_rewrite(db: sqlite3.Connection) -> bool:
    """Whether `texts` has few rows, and the disk has room for them; reads no text."""
    rows, size = db.execute(
        "SELECT count(*), coalesce(sum(size), 0) FROM (SELECT size FROM texts LIMIT ?)",
        (MOST_ROWS_REWRITTEN + 1,),
    ).fetchone()
    (_, _, path), *_ = db.execute("PRAGMA database_list")
    disk = os.statvfs(path)
    fits = size * 4 + 2**20 < disk.f_bavail * disk.f_frsize
    return bool(rows <= MOST_ROWS_REWRITTEN and size <= MOST_BYTES_REWRITTEN and fits)


def _rewrite(db: sqlite3.Connection) -> None:
    texts = db.execute("SELECT * FROM texts ORDER BY seq").fetchall()
    db.execute("DELETE FROM texts")
    db.executemany("INSERT INTO texts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", texts)
