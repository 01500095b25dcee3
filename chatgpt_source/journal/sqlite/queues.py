"""What waits for a peer: prompts of a tier, or events for a destination."""

import sqlite3

from chatgpt_source.journal import MOST_COUNTED, Queue, Waiting
from chatgpt_source.journal.sqlite.schema import AT_ONCE
from chatgpt_source.prompt import Tier

_ASKS = "prompts WHERE state = 'accepted' AND owner IS NULL AND tier = ?1"
_EVENTS = "outbox WHERE owner IS NULL AND destination = ?1"
_NEXT = "SELECT min(destination) FROM outbox WHERE owner IS NULL"
_SOME = (
    f"WITH RECURSIVE some (name) AS (SELECT ({_NEXT}) UNION ALL"
    f" SELECT ({_NEXT} AND destination > name) FROM some WHERE name IS NOT NULL)"
)
"""The beginning of a query: `some` has the destinations for which events wait, and NULL."""
DESTINATIONS = f"{_SOME} SELECT name FROM some WHERE name IS NOT NULL"
"""The query for the destinations for which events wait that nobody has claimed."""


def destinations(db: sqlite3.Connection) -> list[str]:
    """The destinations for which events wait that nobody has claimed."""
    return [name for (name,) in db.execute(DESTINATIONS)]


def waiting(db: sqlite3.Connection, queue: Queue, now: float) -> Waiting:
    """What waits in a queue; see `Journal.waiting`."""
    if isinstance(queue, Tier):
        few = (
            f"SELECT since, deadline, ends, due, not_before FROM {_ASKS} ORDER BY due, seq LIMIT ?3"
        )
        which = "coalesce(not_before, 0) <= ?2"
    else:
        few = (
            f"SELECT since, NULL AS deadline, NULL AS ends, due FROM {_EVENTS} AND ?2 = ?2"
            " ORDER BY due, seq LIMIT ?3"
        )
        which = "TRUE"
    row = db.execute(
        "SELECT count(*), min(CASE WHEN deadline IS NULL THEN min(since, ?2) END), min(ends),"
        f" min(due) FROM ({few}) WHERE {which}",
        (queue.value if isinstance(queue, Tier) else queue, now, MOST_COUNTED),
    ).fetchone()
    return Waiting(*row)


def hasten(db: sqlite3.Connection, queue: Queue, now: float) -> int:
    """Make due what waits for another attempt; see `Journal.hasten`."""
    again = "AND due > ?2 AND error IS NOT NULL"
    if isinstance(queue, Tier):
        which = (
            f"seq IN (SELECT seq FROM {_ASKS} {again} AND coalesce(not_before, 0) <= ?2"
            " ORDER BY due, seq LIMIT ?3)"
        )
        changed = db.execute(
            f"UPDATE prompts SET due = ?2 WHERE {which}", (queue.value, now, MOST_COUNTED)
        )
    else:
        which = f"seq IN (SELECT seq FROM {_EVENTS} {again} ORDER BY due, seq LIMIT ?3)"
        changed = db.execute(
            f"UPDATE outbox SET due = ?2 WHERE destination = ?1 AND {which}",
            (queue, now, MOST_COUNTED),
        )
    return changed.rowcount


def first_due(db: sqlite3.Connection) -> float | None:
    """When the call was due that is due the longest; see `Tally.due`.

    A redriven prompt's time is not known until it is claimed.
    """
    (first,) = db.execute(
        f"{_SOME} SELECT min(due) FROM (SELECT min(due) AS due FROM prompts"
        " WHERE state = 'accepted' AND owner IS NULL AND tier = ?1 AND due > ?2"
        " UNION ALL SELECT (SELECT min(due) FROM outbox WHERE owner IS NULL"
        " AND destination = name AND due > ?2) FROM some)",
        (Tier.STANDARD.value, AT_ONCE),
    ).fetchone()
    return None if first is None else float(first)
