"""Batches, and the tiers of prompts that wait. Each function runs in a transaction."""

import json

from chatgpt_source.journal import Batch, TierTally
from chatgpt_source.journal.postgres.session import Row, Session, Steps, rows_of
from chatgpt_source.prompt import Tier
from chatgpt_source.tiers import Tiers

MOVED = 500
"""Prompts that are moved to another tier in one transaction, to keep it short."""
_LOWER = (Tier.BATCH, Tier.FLEX)


def move_up(db: Session, now: float, tiers: Tiers) -> Steps[bool]:
    """Move prompts to other tiers; see `Journal.move_up`."""
    least = {Tier.BATCH: tiers.batch_over, Tier.FLEX: tiers.flex_over}
    moved = 0
    for tier in _LOWER:
        rows = yield db.execute(
            "SELECT seq, deadline FROM prompts WHERE state = 'accepted' AND tier <> 'standard'"
            " AND tier = %s AND deadline <= %s AND owner IS NULL LIMIT %s FOR UPDATE SKIP LOCKED",
            (tier.value, db.at(now + least[tier]), MOVED),
        )
        seqs = [row["seq"] for row in rows]
        others = [tiers.above(tier, row["deadline"] - db.at(now)).value for row in rows]
        yield db.execute(
            "UPDATE prompts SET tier = other.tier,"
            " due = greatest(least(due, %s), coalesce(not_before, 0))"
            " FROM unnest(%s::bigint[], %s::text[]) AS other (seq, tier)"
            " WHERE prompts.seq = other.seq",
            (db.at(now), seqs, others),
        )
        moved += len(rows)
    return moved > 0


def is_due(db: Session, now: float, since: float, full: int) -> Steps[bool]:
    """Whether a batch is to be gathered; see `Journal.is_batch_due`."""
    some = (
        "SELECT 1 FROM prompts"
        " WHERE state = 'accepted' AND tier = 'batch' AND owner IS NULL AND due <= %s"
    )
    (row,) = yield db.execute(
        f"SELECT EXISTS ({some}) OR (SELECT count(*) FROM ({some} LIMIT %s) AS few) >= %s AS due",
        (db.at(since), db.at(now), full, full),
    )
    return bool(row["due"])


def open_batch(db: Session, key: str, date: float) -> Steps[Batch]:
    """Store a new batch; see `Journal.open_batch`."""
    (row,) = yield db.execute(
        "INSERT INTO batches (key, created, owner) VALUES (%s, %s, %s) RETURNING id",
        (key, date, db.owner),
    )
    return Batch(row["id"], key, date)


def claim(db: Session) -> Steps[list[Batch]]:
    """Claim batches; see `Journal.claim_batches`."""
    rows = yield db.execute(
        "UPDATE batches SET owner = %s WHERE owner IS NULL RETURNING *", (db.owner,)
    )
    return [_batch(db, row) for row in sorted(rows, key=lambda row: row["id"])]


def batches(db: Session) -> Steps[list[Batch]]:
    """All batches; see `Journal.batches`."""
    rows = yield db.execute("SELECT * FROM batches ORDER BY id")
    return [_batch(db, row) for row in rows]


def tally(db: Session) -> Steps[TierTally]:
    """Count what waits for each tier; see `Journal.tally_tiers`."""
    counted = db.execute(
        "SELECT tier, count(*) AS n FROM prompts WHERE state = 'accepted' GROUP BY tier"
    )
    rows = yield db.execute(
        "SELECT batches.*, (SELECT count(*) FROM prompts WHERE batch = batches.id) AS prompts"
        " FROM batches ORDER BY id"
    )
    known = {row["tier"]: row["n"] for row in rows_of(counted)}
    waiting = {tier: known.get(tier.value, 0) for tier in Tier}
    return TierTally(waiting, tuple((_batch(db, row), row["prompts"]) for row in rows))


def _batch(db: Session, row: Row) -> Batch:
    return Batch(
        *(row["id"], row["key"], row["created"], db.steady(row["deadline"])),
        *(row["file"], row["remote"]),
        None if row["results"] is None else tuple(json.loads(row["results"])),
        row["cancelled"],
    )


def store(db: Session, batch: Batch) -> Steps[bool]:
    """Store a batch; see `Journal.store_batch`."""
    results = None if batch.results is None else json.dumps(batch.results)
    deadline = db.stored(batch.deadline)
    kept = yield db.execute(
        "UPDATE batches SET deadline = %s, file = %s, remote = %s, results = %s, cancelled = %s"
        " WHERE id = %s AND owner = %s RETURNING id",
        (
            *(deadline, batch.file, batch.remote, results, batch.cancelled),
            *(batch.id, db.owner),
        ),
    )
    return bool(kept)


def drop(db: Session, batch: int) -> Steps[None]:
    """Delete a batch; see `Journal.drop_batch`."""
    yield db.execute("DELETE FROM batches WHERE id = %s AND owner = %s", (batch, db.owner))
