"""Leaves nothing of a forgotten text in any of SQLite's files, in steps that hold nobody up."""

import os
import sqlite3

from chatgpt_source.journal.sqlite.texts import Part, place, size_of

MOST_ROWS_REWRITTEN = 2000
MOST_BYTES_REWRITTEN = 4 * 2**20
"""More rows of `texts` than that are not written anew, so that no commit waits long for it."""

STEP_ROWS = 200
STEP_BYTES = 2**19
"""An earlier version's rows that are settled in one transaction, and about how many bytes."""


def wipe(db: sqlite3.Connection) -> bool:
    """Leave nothing of a forgotten text in any file; False if something was in the way.

    `secure_delete` overwrites a row that is deleted, but neither the copies of it that stayed in
    the gaps of pages when SQLite moved it to another, nor those in the write-ahead log. The former
    go with their page, when the rows of `texts` that are left are written anew; the latter when the
    log is emptied. Runs outside a transaction.
    """
    rewritten = True
    try:
        if _may_rewrite(db):
            db.execute("BEGIN IMMEDIATE")
            _rewrite(db)
            db.execute("COMMIT")
    except sqlite3.Error:  # a full disk, say: the log can be emptied all the same
        rewritten = False
        if db.in_transaction:
            db.execute("ROLLBACK")
    (patience,) = db.execute("PRAGMA busy_timeout").fetchone()
    db.execute("PRAGMA busy_timeout = 0")  # everybody would wait for that reader
    try:
        (busy, *_) = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    finally:
        db.execute(f"PRAGMA busy_timeout = {patience}")
    return rewritten and not busy


def _may_rewrite(db: sqlite3.Connection) -> bool:
    """Whether the rows of `texts` are few, and the disk has room for them; reads no text."""
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
    """Whether an earlier version wrote texts that `settle` has not come to yet."""
    return db.execute("SELECT 1 FROM texts WHERE size IS NULL LIMIT 1").fetchone() is not None


def settle(db: sqlite3.Connection) -> bool:
    """Note the size of some texts that an earlier version wrote, and put the long ones apart.

    Returns:
        Whether there are more.
    """
    found: list[tuple[int, list[str | bytes | None], int]] = []
    read = 0
    columns = ", ".join(part.column for part in Part)
    rows = db.execute(
        f"SELECT seq, source, type, traceparent, tracestate, {columns} FROM texts"
        " WHERE size IS NULL ORDER BY seq LIMIT ?",
        (STEP_ROWS,),
    )
    for seq, *others in rows:
        texts = others[-len(Part) :]
        found.append((seq, texts, size_of(others[: -len(Part)])))
        read += size_of(texts)
        if read >= STEP_BYTES:
            break
    rows.close()
    for seq, texts, size in found:
        kept = [
            None if text is None else place(db, seq, part, text)
            for part, text in zip(Part, texts, strict=True)
        ]
        db.execute(
            "UPDATE texts SET prompt = ?, event = ?, letter = ?, answer = ?, size = ?"
            " WHERE seq = ?",
            (*kept, size + size_of(kept), seq),
        )
    return unsettled(db)
