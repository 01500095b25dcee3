"""Read the records, the counts and the days."""

import sqlite3

from chatgpt_source.http.client.retry_after import LONGEST_RETRY_AFTER
from chatgpt_source.journal import End, Record, Tally
from chatgpt_source.journal.sqlite.rows import by_name
from chatgpt_source.journal.sqlite.schema import VERSION, version_of
from chatgpt_source.journal.states import WAITING
from chatgpt_source.prompt import TARGET, State

_BEYOND = 2**63 - 1
"""More than any `seq`."""

_RECORD = (
    "SELECT prompts.seq AS seq, id, state, accepted, answered, ended, asks,"
    " deliveries + coalesce(attempts, 0) AS deliveries,"
    " coalesce(prompts.error, outbox.error) AS error"
    " FROM prompts LEFT JOIN outbox"
    f" ON outbox.seq = prompts.seq AND destination = '{TARGET.setting}'"
)


_ANSWERED = f"SELECT seq FROM outbox WHERE destination = '{TARGET.setting}'"
_WAITING = ", ".join(f"'{state.value}'" for state in WAITING)
BACKLOG = f"SELECT sum(n) FROM counts WHERE state IN ({_WAITING})"
"""The query for the number of prompts in the backlog."""


def record(db: sqlite3.Connection, prompt_id: str) -> Record | None:
    """A prompt's record; see `Journal.record`."""
    row = by_name(db.execute(f"{_RECORD} WHERE id = ?", (prompt_id,))).fetchone()
    return None if row is None else _record(row)


def records(db: sqlite3.Connection, state: State | None, after: int, most: int) -> list[Record]:
    """A page of records; see `Journal.records`."""
    rows = db.execute(
        f"{_RECORD} WHERE {_in(state)} AND prompts.seq > ? ORDER BY prompts.seq LIMIT ?",
        (after, most),
    )
    return [_record(row) for row in by_name(rows)]


def latest(
    db: sqlite3.Connection, state: State | None, before: int | None, most: int
) -> list[Record]:
    """A page of records, the latest first; see `Journal.latest`."""
    page = f"SELECT seq FROM prompts WHERE {_in(state)} AND seq < ? ORDER BY seq DESC LIMIT ?"
    if state is State.ACCEPTED:
        page = page.replace("BY seq", "BY +seq")  # makes SQLite use the index `to_ask`
    elif state is State.ANSWERED:
        page = f"{_ANSWERED} AND seq < ? ORDER BY seq DESC LIMIT ?"
    rows = db.execute(
        f"{_RECORD} WHERE prompts.seq IN ({page}) ORDER BY prompts.seq DESC",
        (_BEYOND if before is None else before, most),
    )
    return [_record(row) for row in by_name(rows)]


def _in(state: State | None) -> str:
    return "TRUE" if state is None else f"state = '{state.value}'"


def oldest(db: sqlite3.Connection) -> float | None:
    """When the oldest prompt of the backlog was accepted; None if there is no backlog."""
    row = db.execute(
        "SELECT accepted FROM prompts WHERE seq = (SELECT min(first) FROM ("
        "SELECT (SELECT min(+seq) FROM prompts WHERE state = 'accepted') AS first"
        f" UNION ALL SELECT (SELECT min(seq) FROM ({_ANSWERED}))))"
    ).fetchone()
    return row[0] if row else None


def ends(db: sqlite3.Connection, since: float, most: int) -> list[End]:
    """The ends of the last prompts; see `Journal.ends`."""
    rows = db.execute(
        "SELECT id, state, ended, error FROM prompts WHERE ended >= ? ORDER BY ended DESC LIMIT ?",
        (since, most),
    )
    return [End(id_, State(state), at, error) for id_, state, at, error in rows]


def _record(row: sqlite3.Row) -> Record:
    state = State(row["state"])
    return Record(
        row["id"],
        state,
        accepted=row["accepted"],
        answered=row["answered"],
        delivered=row["ended"] if state is State.DELIVERED else None,
        asks=row["asks"],
        deliveries=row["deliveries"],
        error=row["error"],
        position=row["seq"],
    )


def tally(db: sqlite3.Connection, day: str) -> Tally:
    """What the journal holds; see `Journal.tally`."""
    return Tally(counts(db), units(db, day), oldest(db))


def counts(db: sqlite3.Connection) -> dict[State, int]:
    """How many prompts are in each state."""
    return {State(state): n for state, n in db.execute("SELECT state, n FROM counts")}


def units(db: sqlite3.Connection, day: str) -> int:
    """The units used of a day."""
    row = db.execute("SELECT used FROM days WHERE day = ?", (day,)).fetchone()
    return row[0] if row else 0


def to_ask(db: sqlite3.Connection, now: float) -> int:
    """The number of prompts that a daemon would ask at once if it started now."""
    claimed = "owner IS NOT NULL OR " if version_of(db) == VERSION else ""
    return _count_due(db, f"prompts WHERE state = 'accepted' AND ({claimed}", now)


def to_deliver(db: sqlite3.Connection, now: float) -> int:
    """The number of events that a daemon would deliver at once if it started now."""
    if version_of(db) < VERSION:
        return _count_due(db, "prompts WHERE state = 'answered' AND (", now)
    outbox = f"outbox WHERE destination = '{TARGET.setting}' AND (owner IS NOT NULL OR "
    return _count_due(db, outbox, now)


def _count_due(db: sqlite3.Connection, where: str, now: float) -> int:
    (count,) = db.execute(
        f"SELECT count(*) FROM {where} due <= ? OR due > ?)",
        (now, now + LONGEST_RETRY_AFTER),  # `recovery.take_over` makes the latter due
    ).fetchone()
    return int(count)
