"""What happened, by the minute and by the hour. Each function runs in a transaction."""

from collections.abc import Collection, Sequence

from chatgpt_source.journal.period import KEPT, Merging, Period, Row
from chatgpt_source.journal.postgres.session import Session, Steps


def keep(db: Session, rows: Sequence[Row]) -> Steps[None]:
    """Store periods; see `Journal.keep_history`."""
    yield db.execute(
        "INSERT INTO history SELECT * FROM"
        " unnest(%s::integer[], %s::bigint[], %s::bigint[], %s::text[])"
        " ON CONFLICT (step, start, owner) DO UPDATE SET counts = EXCLUDED.counts",
        [list(column) for column in zip(*rows, strict=True)],
    )


def read(
    db: Session, step: int, since: int, until: int, besides: Collection[int]
) -> Steps[Sequence[Period]]:
    """The periods of a time; see `Journal.history`."""
    rows = yield db.execute(
        "SELECT start, owner, counts FROM history WHERE step = %s AND start >= %s AND start < %s"
        " ORDER BY start, owner",
        (step, since, until),
    )
    merging = Merging(step)
    for row in rows:
        if row["owner"] not in besides:
            merging.add(row["start"], row["owner"], row["counts"])
    return list(merging.merged.values())


def prune(db: Session, date: float) -> Steps[None]:
    """Delete the periods that are kept no longer, unless another process does at the moment."""
    for step, seconds in KEPT.items():
        yield db.execute(
            "WITH old AS (SELECT start, owner FROM history WHERE step = %s AND start < %s"
            " FOR UPDATE SKIP LOCKED) DELETE FROM history USING old WHERE step = %s"
            " AND history.start = old.start AND history.owner = old.owner",
            (step, int(date - seconds), step),
        )
