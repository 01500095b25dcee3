"""Batches, and the tiers of prompts that wait. Each function runs in a transaction."""

import json
import sqlite3
from collections.abc import Collection

from chatgpt_source.journal import Batch, Claims, TierTally
from chatgpt_source.journal.sqlite import asks
from chatgpt_source.journal.sqlite.rows import Owner, by_name
from chatgpt_source.prompt import Ask, Tier
from chatgpt_source.tiers import Tiers

MOVED = 500
"""Prompts that are moved to another tier in one transaction, to keep it short."""
_LOWER = (Tier.BATCH, Tier.FLEX)


def move_up(db: sqlite3.Connection, now: float, tiers: Tiers) -> bool:
    """Move prompts to other tiers; see `Journal.move_up`."""
    least = {Tier.BATCH: tiers.batch_over, Tier.FLEX: tiers.flex_over}
    moved = 0
    for tier in _LOWER:
        rows = db.execute(
            "SELECT seq, deadline FROM prompts WHERE state = 'accepted' AND tier <> 'standard'"
            " AND tier = ? AND deadline <= ? AND owner IS NULL LIMIT ?",
            (tier.value, now + least[tier], MOVED),
        ).fetchall()
        others = [(tiers.above(tier, deadline - now).value, seq) for seq, deadline in rows]
        db.executemany(
            "UPDATE prompts SET tier = ?1, due = max(min(due, ?2), coalesce(not_before, 0))"
            " WHERE seq = ?3",
            [(tier_above, now, seq) for tier_above, seq in others],
        )
        moved += len(rows)
    return moved > 0


def is_due(db: sqlite3.Connection, now: float, since: float, full: int) -> bool:
    """Whether a batch is to be gathered; see `Journal.is_batch_due`."""
    some = (
        "SELECT 1 FROM prompts"
        " WHERE state = 'accepted' AND tier = 'batch' AND owner IS NULL AND due <= ?"
    )
    (due,) = db.execute(
        f"SELECT EXISTS ({some}) OR (SELECT count(*) FROM ({some} LIMIT ?)) >= ?",
        (since, now, full, full),
    ).fetchone()
    return bool(due)


def open_batch(db: sqlite3.Connection, key: str, date: float) -> Batch:
    """Store a new batch; see `Journal.open_batch`."""
    row = db.execute("INSERT INTO batches (key, created) VALUES (?, ?)", (key, date)).lastrowid
    assert row is not None  # noqa: S101 - a row was inserted
    return Batch(row, key, date)


def batches(db: sqlite3.Connection) -> list[Batch]:
    """All batches; see `Journal.batches`."""
    return [_batch(row) for row in by_name(db.execute("SELECT * FROM batches ORDER BY id"))]


def tally(db: sqlite3.Connection) -> TierTally:
    """Count what waits for each tier; see `Journal.tally_tiers`."""
    known = dict(
        db.execute(
            "SELECT tier, n FROM tiers"
            " UNION ALL SELECT 'accepted', n FROM counts WHERE state = 'accepted'"
        )
    )
    waiting = {tier: known.get(tier.value, 0) for tier in Tier}
    waiting[Tier.STANDARD] = known["accepted"] - sum(waiting.values())
    found = by_name(
        db.execute(
            "SELECT batches.*, (SELECT count(*) FROM prompts WHERE batch = batches.id) AS prompts"
            " FROM batches ORDER BY id"
        )
    )
    return TierTally(waiting, tuple((_batch(row), row["prompts"]) for row in found))


def _batch(row: sqlite3.Row) -> Batch:
    return Batch(
        row["id"],
        row["key"],
        row["created"],
        row["deadline"],
        row["file"],
        row["remote"],
        None if row["results"] is None else tuple(json.loads(row["results"])),
        bool(row["cancelled"]),
    )


def store(db: sqlite3.Connection, batch: Batch) -> bool:
    """Store a batch; see `Journal.store_batch`."""
    results = None if batch.results is None else json.dumps(batch.results)
    db.execute(
        "UPDATE batches SET deadline = ?, file = ?, remote = ?, results = ?, cancelled = ?"
        " WHERE id = ?",
        (batch.deadline, batch.file, batch.remote, results, batch.cancelled, batch.id),
    )
    return True


def drop(db: sqlite3.Connection, batch: int) -> None:
    """Delete a batch; see `Journal.drop_batch`."""
    db.execute("DELETE FROM batches WHERE id = ?", (batch,))


def claim(
    db: sqlite3.Connection,
    owner: Owner,
    batch: int,
    now: float,
    most: int,
    ids: Collection[str] | None,
) -> Claims[Ask]:
    """Claim prompts of a batch; see `Journal.claim_batched`."""
    which = "batch = ?"
    values: tuple[object, ...] = (batch,)
    if ids is not None:
        which += f" AND id IN ({', '.join('?' * len(ids))})"
        values += tuple(ids)
    claimed = asks.claim_uncalled(db, owner, now, most, f"{which} ORDER BY seq", values)
    return Claims(claimed, None)
