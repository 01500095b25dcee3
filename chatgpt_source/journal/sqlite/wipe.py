"""Remove deleted texts from all of SQLite's files, in short steps."""

import os
import sqlite3

from chatgpt_source.journal.sqlite.rows import of_limited_size
from chatgpt_source.journal.sqlite.texts import Part, place, size_of

MOST_ROWS_REWRITTEN = 2000
MOST_BYTES_REWRITTEN = 4 * 2**20
"""Rows of `texts` and their bytes, above which they are not rewritten: it would take too long."""

STEP_ROWS = 200
STEP_BYTES = 2**19
"""Rows of an earlier version, and their bytes, that one transaction settles."""


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
    except sqlite3.Error:  # as on a full disk: the log can still be truncated
        rewritten = False
        if db.in_transaction:
            db.execute("ROLLBACK")
    (patience,) = db.execute("PRAGMA busy_timeout").fetchone()
    db.execute("PRAGMA busy_timeout = 0")  # other operations would wait for a reader
    try:
        (busy, *_) = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    finally:
        db.execute(f"PRAGMA busy_timeout = {patience}")
    return rewritten and not busy


def _may_rewrite(db: sqlite3.Connection) -> bool:
    """Whether `texts` has few rows, and the disk has room for them; reads no text."""
    rows, sized, size = db.execute(
        "SELECT count(*), count(size), coalesce(sum(size), 0)"
        " FROM (SELECT size FROM texts LIMIT ?)",
        (MOST_ROWS_REWRITTEN + 1,),
    ).fetchone()
    (_, _, path), *_ = db.execute("PRAGMA database_list")
    disk = os.statvfs(path)
    fits = size * 4 + 2**20 < disk.f_bavail * disk.f_frsize
    few = rows <= MOST_ROWS_REWRITTEN and size <= MOST_BYTES_REWRITTEN
    return bool(few and rows == sized and fits)


def _rewrite(db: sqlite3.Connection) -> None:
    texts = db.execute("SELECT * FROM texts ORDER BY seq").fetchall()
    db.execute("DELETE FROM texts")
    db.executemany("INSERT INTO texts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", texts)


def unsettled(db: sqlite3.Connection) -> bool:
    """Whether texts of an earlier version are left for `settle`."""
    return db.execute("SELECT 1 FROM texts WHERE size IS NULL LIMIT 1").fetchone() is not None


def settle(db: sqlite3.Connection) -> bool:
    """Store the size of some texts of an earlier version, and move the long ones to `long_texts`.

    Returns:
        Whether there are more.
    """
    columns = ", ".join(part.column for part in Part)
    found = db.execute(
        f"SELECT seq, source, type, traceparent, tracestate, {columns} FROM texts"
        " WHERE size IS NULL ORDER BY seq LIMIT ?",
        (STEP_ROWS,),
    )
    rows = of_limited_size(found, lambda row: size_of(row[-len(Part) :]), STEP_BYTES)
    for seq, *others in rows:
        texts = others[-len(Part) :]
        kept = [
            None if text is None else place(db, seq, part, text)
            for part, text in zip(Part, texts, strict=True)
        ]
        db.execute(
            "UPDATE texts SET prompt = ?, event = ?, letter = ?, answer = ?, size = ?"
            " WHERE seq = ?",
            (*kept, size_of([*others[: -len(Part)], *kept]), seq),
        )
    return unsettled(db)
