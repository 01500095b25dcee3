"""A daemon's upkeep of its journal: store the terms, delete old records, probe."""

import sqlite3

from chatgpt_source.journal.sqlite.rows import of_limited_size

PRUNE_STEP = 500
"""Records deleted in one transaction, to keep it short."""
PRUNE_BYTES = 4 * 2**20
"""Bytes of long texts deleted in one transaction: SQLite overwrites each."""


def keep_terms(db: sqlite3.Connection, everyday_limit: int, timezone: str) -> None:
    """Store what a redrive by another process needs."""
    db.execute("INSERT OR REPLACE INTO terms VALUES (1, ?, ?)", (everyday_limit, timezone))


def prune(db: sqlite3.Connection, before: float) -> int:
    """Delete some prompts that ended before a date; returns how many."""
    found = db.execute(
        "SELECT seq, (SELECT coalesce(sum(size), 0) FROM long_texts"
        " WHERE id BETWEEN seq * 4 AND seq * 4 + 3) AS size FROM prompts"
        " WHERE ended < ? AND NOT EXISTS (SELECT 1 FROM outbox WHERE outbox.seq = prompts.seq)"
        " ORDER BY ended LIMIT ?",
        (before, PRUNE_STEP),
    )
    rows = of_limited_size(found, lambda row: int(row["size"]), PRUNE_BYTES)
    old = [(row["seq"],) for row in rows]
    db.executemany("DELETE FROM texts WHERE seq = ?", old)
    db.executemany("DELETE FROM prompts WHERE seq = ?", old)
    return len(old)


def probe(db: sqlite3.Connection) -> None:
    """Write something; see `Journal.probe`."""
    db.execute("UPDATE probes SET count = count + 1")
