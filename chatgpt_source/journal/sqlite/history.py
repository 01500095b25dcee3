"""What happened, by the minute and by the hour. Each function runs in a transaction."""

import sqlite3
from collections.abc import Collection, Iterable, Sequence

from chatgpt_source.journal.period import KEPT, Merging, Period, Row


def keep(db: sqlite3.Connection, rows: Iterable[Row]) -> None:
    """Store periods; see `Journal.keep_history`."""
    db.executemany("INSERT OR REPLACE INTO history VALUES (?, ?, ?, ?)", rows)


def read(
    db: sqlite3.Connection, step: int, since: int, until: int, besides: Collection[int]
) -> Sequence[Period]:
    """The periods of a time; see `Journal.history`."""
    merging = Merging(step)
    for start, owner, counts in db.execute(
        "SELECT start, owner, counts FROM history WHERE step = ? AND start >= ? AND start < ?"
        " ORDER BY start, owner",
        (step, since, until),
    ):
        if owner not in besides:
            merging.add(start, owner, counts)
    return list(merging.merged.values())


def prune(db: sqlite3.Connection, date: float) -> None:
    """Delete the periods that are kept no longer; see `Journal.prune_history`."""
    db.executemany(
        "DELETE FROM history WHERE step = ? AND start < ?",
        [(step, date - seconds) for step, seconds in KEPT.items()],
    )
