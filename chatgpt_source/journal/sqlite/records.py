"""What the journal says of its prompts and its days, found out without writing."""

import sqlite3
from typing import Any

from chatgpt_source.http.client.retry_after import LONGEST_RETRY_AFTER
from chatgpt_source.journal import End, Record, Tally
from chatgpt_source.prompt import State

_BEYOND = 2**63 - 1
"""A `seq` that none has."""

_RECORD = "SELECT seq, id, state, accepted, answered, ended, asks, deliveries, error FROM prompts"


def record(db: sqlite3.Connection, prompt_id: str) -> Record | None:
    """What is known of a prompt; see `Journal.record`."""
    row = db.execute(f"{_RECORD} WHERE id = ?", (prompt_id,)).fetchone()
    return None if row is None else _record(row)


def records(db: sqlite3.Connection, state: State | None, after: int, most: int) -> list[Record]:
    """A page of what is known; see `Journal.records`."""
    rows = db.execute(
        f"{_RECORD} WHERE (? IS NULL OR state = ?) AND seq > ? ORDER BY seq LIMIT ?",
        (state, state, after, most),
    )
    return [_record(row) for row in rows]


def latest(
    db: sqlite3.Connection, state: State | None, before: int | None, most: int
) -> list[Record]:
    """A page of what is known, backwards; see `Journal.latest`."""
    of_state = "TRUE" if state is None else f"state = '{state.value}'"
    if state in {State.ACCEPTED, State.ANSWERED}:
        of_state += " AND due IS NOT NULL"  # as all of these are: so it is found in `work`
    page = f"SELECT seq FROM prompts WHERE {of_state} AND seq < ? ORDER BY seq DESC LIMIT ?"
    rows = db.execute(
        f"{_RECORD} WHERE seq IN ({page}) ORDER BY seq DESC",
        (_BEYOND if before is None else before, most),
    )
    return [_record(row) for row in rows]


def oldest(db: sqlite3.Connection) -> float | None:
    """When the oldest prompt that waits was accepted; see `Journal.oldest`."""
    row = db.execute(
        "SELECT accepted FROM prompts WHERE seq = (SELECT min(seq) FROM prompts"
        " WHERE state IN ('accepted', 'answered') AND due IS NOT NULL)"
    ).fetchone()
    return row[0] if row else None


def ends(db: sqlite3.Connection, since: float, most: int) -> list[End]:
    """How the last prompts ended; see `Journal.ends`."""
    rows = db.execute(
        "SELECT id, state, ended, error FROM prompts WHERE ended >= ? ORDER BY ended DESC LIMIT ?",
        (since, most),
    )
    return [End(id_, State(state), at, error) for id_, state, at, error in rows]


def _record(row: tuple[Any, ...]) -> Record:
    seq, id_, state, accepted, answered_, ended, asks, deliveries, error = row
    delivered_ = ended if state == State.DELIVERED else None
    return Record(id_, State(state), accepted, answered_, delivered_, asks, deliveries, error, seq)


def tally(db: sqlite3.Connection, day: str = "") -> Tally:
    """How many prompts are in each state, and the units spent of `day`."""
    counts = {State(state): n for state, n in db.execute("SELECT state, n FROM counts")}
    return Tally(counts, units(db, day))


def units(db: sqlite3.Connection, day: str) -> int:
    """The units spent of a day."""
    row = db.execute("SELECT used FROM days WHERE day = ?", (day,)).fetchone()
    return row[0] if row else 0


def due(db: sqlite3.Connection, state: State, now: float) -> int:
    """The prompts in a state that a daemon that starts now takes up at once."""
    (count,) = db.execute(
        "SELECT count(*) FROM prompts WHERE state = ? AND (due <= ? OR due > ?)",
        (state.value, now, now + LONGEST_RETRY_AFTER),  # what `recover` makes due
    ).fetchone()
    return int(count)
