"""What waits for a peer: prompts of a tier, or events for a destination."""

from chatgpt_source.journal import MOST_COUNTED, Queue, Waiting
from chatgpt_source.journal.postgres.schema import AT_ONCE
from chatgpt_source.journal.postgres.session import Session, Steps
from chatgpt_source.prompt import Tier

_ASKS = "prompts WHERE state = 'accepted' AND owner IS NULL AND tier = %(queue)s"
_EVENTS = "outbox WHERE owner IS NULL AND destination = %(queue)s"
FIRST_DUE = (
    "SELECT least((SELECT min(due) FROM prompts WHERE state = 'accepted' AND owner IS NULL"
    f" AND tier = '{Tier.STANDARD.value}' AND due > {AT_ONCE}),"
    f" (SELECT min(due) FROM outbox WHERE owner IS NULL AND due > {AT_ONCE}))"
)
"""The query for when the call was due that is due the longest, by the database's clock.

A redriven prompt's time is not known until it is claimed.
"""


def waiting(db: Session, queue: Queue, now: float) -> Steps[Waiting]:
    """What waits in a queue; see `Journal.waiting`."""
    if isinstance(queue, Tier):
        few = f"SELECT since, deadline, ends, due, not_before FROM {_ASKS}"
        which = "coalesce(not_before, 0) <= %(now)s"
    else:
        few = f"SELECT since, NULL::float8 AS deadline, NULL::float8 AS ends, due FROM {_EVENTS}"
        which = "TRUE"
    (row,) = yield db.execute(
        "SELECT count(*) AS count, min(least(since, %(now)s)) FILTER (WHERE deadline IS NULL)"
        " AS since, min(ends) AS ends, min(due) AS due"
        f" FROM ({few} ORDER BY due, seq LIMIT %(most)s) AS few WHERE {which}",
        _values(db, queue, now),
    )
    return Waiting(row["count"], *(db.steady(row[name]) for name in ("since", "ends", "due")))


def hasten(db: Session, queue: Queue, now: float) -> Steps[int]:
    """Make due what waits for another attempt; see `Journal.hasten`."""
    table, few, own = "outbox", _EVENTS, "AND destination = %(queue)s"
    if isinstance(queue, Tier):
        table, few, own = "prompts", f"{_ASKS} AND coalesce(not_before, 0) <= %(now)s", ""
    rows = yield db.execute(
        f"WITH few AS (SELECT seq FROM {few} AND due > %(now)s AND error IS NOT NULL"
        " ORDER BY due, seq LIMIT %(most)s FOR UPDATE SKIP LOCKED)"
        f" UPDATE {table} SET due = %(now)s FROM few WHERE {table}.seq = few.seq {own}"
        f" RETURNING {table}.seq",
        _values(db, queue, now),
    )
    return len(rows)


def _values(db: Session, queue: Queue, now: float) -> dict[str, object]:
    name = queue.value if isinstance(queue, Tier) else queue
    return {"queue": name, "now": db.at(now), "most": MOST_COUNTED}
