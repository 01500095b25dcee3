"""What a daemon does to its journal besides its work: old records go, terms and probes come."""

import sqlite3

PRUNE_STEP = 500
"""Records forgotten in one transaction, so that no commit takes long."""
PRUNE_BYTES = 4 * 2**20
"""Bytes of long texts after which one forgets no more: each is overwritten."""


def keep_terms(db: sqlite3.Connection, everyday_limit: int, timezone: str) -> None:
    """Write down what a redrive has to know."""
    db.execute("INSERT OR REPLACE INTO terms VALUES (1, ?, ?)", (everyday_limit, timezone))


def prune(db: sqlite3.Connection, before: float) -> int:
    """Forget some prompts that ended before an instant; returns how many."""
    found = db.execute(
        "SELECT seq, (SELECT coalesce(sum(size), 0) FROM long_texts"
        " WHERE id BETWEEN seq * 4 AND seq * 4 + 3) FROM prompts"
        " WHERE ended < ? AND NOT EXISTS (SELECT 1 FROM outbox WHERE outbox.seq = prompts.seq)"
        " ORDER BY ended LIMIT ?",
        (before, PRUNE_STEP),
    )
    old, size = [], 0
    for seq, bytes_ in found:
        old.append((seq,))
        size += bytes_
        if size >= PRUNE_BYTES:
            break
    found.close()
    db.executemany("DELETE FROM texts WHERE seq = ?", old)
    db.executemany("DELETE FROM prompts WHERE seq = ?", old)
    return len(old)


def probe(db: sqlite3.Connection) -> None:
    """Write something."""
    db.execute("UPDATE probes SET count = count + 1")
