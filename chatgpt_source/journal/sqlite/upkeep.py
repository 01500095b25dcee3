"""A daemon's upkeep of its journal: store the terms, delete old records, probe."""

import sqlite3

from chatgpt_source.journal.sqlite.rows import of_limited_size

PRUNE_STEP = 500
"""Records deleted in one transaction, to keep it short."""
_NEEDS = ("needed_until", "kept_until")
_LAPSED = "FROM prompts WHERE {0} IS NOT NULL AND {0} <= ?"
PRUNE_BYTES = 4 * 2**20
"""Bytes of long texts deleted in one transaction: SQLite overwrites each."""


def keep_terms(db: sqlite3.Connection, everyday_limit: int, timezone: str) -> None:
    """Store what a redrive by another process needs."""
    db.execute("INSERT OR REPLACE INTO terms VALUES (1, ?, ?)", (everyday_limit, timezone))


def prune(db: sqlite3.Connection, before: float) -> int:
    """Delete some prompts that ended before a date; returns how many."""
    old = _some(
        db,
        "FROM prompts WHERE ended < ? AND kept_until IS NULL"
        " AND NOT EXISTS (SELECT 1 FROM outbox WHERE outbox.seq = prompts.seq) ORDER BY ended",
        before,
    )
    db.executemany("DELETE FROM texts WHERE seq = ?", old)
    db.executemany("DELETE FROM prompts WHERE seq = ?", old)
    return len(old)


def _some(db: sqlite3.Connection, of: str, value: float) -> list[tuple[int]]:
    """The `seq` of the first of some prompts, as many as one transaction may delete."""
    found = db.execute(
        "SELECT seq, (SELECT coalesce(sum(size), 0) FROM long_texts"
        f" WHERE id BETWEEN seq * 4 AND seq * 4 + 3) AS size {of} LIMIT ?",
        (value, PRUNE_STEP),
    )
    rows = of_limited_size(found, lambda row: int(row["size"]), PRUNE_BYTES)
    return [(row["seq"],) for row in rows]


def has_lapsed(db: sqlite3.Connection, now: float) -> bool:
    """Whether `let_lapse` has something to do."""
    some = " UNION ALL ".join(f"SELECT 1 {_LAPSED.format(each)}" for each in _NEEDS)
    return bool(db.execute(f"SELECT EXISTS ({some})", (now, now)).fetchone()[0])


def let_lapse(db: sqlite3.Connection, now: float) -> int:
    """End some needs whose time has come, and so delete their texts; returns how many."""
    ended = 0
    for each in _NEEDS:
        lapsed = _some(db, _LAPSED.format(each), now)
        db.executemany(f"UPDATE prompts SET {each} = NULL WHERE seq = ?", lapsed)
        ended += len(lapsed)
    return ended


def unneeded(db: sqlite3.Connection, prompt_id: str) -> None:
    """End the need of a prompt's answer; see `Journal.unneeded`."""
    db.execute(
        "UPDATE prompts SET needed_until = NULL WHERE id = ? AND needed_until IS NOT NULL",
        (prompt_id,),
    )


def probe(db: sqlite3.Connection) -> None:
    """Write something; see `Journal.probe`."""
    db.execute("UPDATE probes SET count = count + 1")
