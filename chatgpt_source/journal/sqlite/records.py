"""Read the records, the counts and the days."""

import json
import sqlite3
import sys
from collections.abc import Collection

from chatgpt_source.http.client.retry_after import LONGEST_RETRY_AFTER
from chatgpt_source.journal import MOST_COUNTED, Detail, End, FailureGroup, Kept, Record, Tally
from chatgpt_source.journal.rows import (
    BEYOND,
    CALLS,
    DETAIL,
    RECORD,
    detail_of,
    in_state,
    kept_of,
    names_of,
    record_of,
)
from chatgpt_source.journal.sqlite import leftovers, queues
from chatgpt_source.journal.sqlite.rows import Now, by_name
from chatgpt_source.journal.sqlite.schema import REASON, VERSION, version_of
from chatgpt_source.journal.sqlite.texts import Part
from chatgpt_source.journal.states import ASKING, WAITING
from chatgpt_source.prompt import DEAD_LETTER, State, Tier

_EVENTS = f"outbox WHERE destination <> '{DEAD_LETTER.setting}'"
_ANSWERED = f"SELECT seq FROM {_EVENTS}"
_WAITING = names_of(WAITING)
BACKLOG = f"SELECT sum(n) FROM counts WHERE state IN ({_WAITING})"
"""The query for the number of prompts in the backlog."""
_ACCEPTED = "prompts WHERE state = 'accepted'"
_DUE = (
    f"SELECT min(seq) FROM (SELECT seq FROM {_ACCEPTED} AND owner IS NULL AND tier = '{{}}'"
    " AND due <= ?1 ORDER BY due, seq LIMIT ?2)"
)
_FIRST_ONES = (
    f"SELECT (SELECT min(seq) FROM (SELECT seq, not_before FROM {_ACCEPTED} ORDER BY seq LIMIT ?2)"
    " WHERE coalesce(not_before, 0) <= ?1) AS first"
    + "".join(f" UNION ALL SELECT ({_DUE.format(tier.value)})" for tier in Tier)
    + " UNION ALL SELECT (SELECT min(+seq) FROM prompts WHERE state = 'submitted')"
    f" UNION ALL SELECT (SELECT min(seq) FROM ({_ANSWERED}))"
)
"""The query for the first prompt that waits, of each kind.

Of those to ask, it looks at the first that were accepted, and at the first that are due: among
those only, if many that were accepted before it are not to be asked yet."""
_NEXT_REASON = f"SELECT min({REASON}) FROM prompts WHERE state = 'failed'"
_GROUPS = (
    f"WITH RECURSIVE reasons (reason) AS (SELECT ({_NEXT_REASON}) UNION ALL"
    f" SELECT ({_NEXT_REASON} AND {REASON} > reason) FROM reasons WHERE reason IS NOT NULL)"
    " SELECT reason, count(*), min(ended), max(ended) FROM reasons CROSS JOIN prompts"
    f" WHERE state = 'failed' AND {REASON} = reason GROUP BY reason ORDER BY 2 DESC, 1 LIMIT ?"
)
"""The query for groups of failures. It reads one index alone, and is faster than a `GROUP BY`."""


def record(db: sqlite3.Connection, prompt_id: str, now: Now) -> Record | None:
    """A prompt's record; see `Journal.record`."""
    row = by_name(db.execute(f"{RECORD} WHERE id = ?", (prompt_id,))).fetchone()
    return None if row is None else _record(row, now)


def detail(db: sqlite3.Connection, prompt_id: str, now: Now) -> Detail | None:
    """A prompt's detail; see `Journal.detail`."""
    found = record(db, prompt_id, now)
    if found is None or version_of(db) < VERSION:  # the earlier tables have no calls
        return None if found is None else Detail(found)
    of_it = (found.position,)
    row = by_name(db.execute(f"{DETAIL} WHERE prompts.seq = ?", of_it)).fetchone()
    if row is None:  # another process purged it meanwhile
        return None
    calls = by_name(db.execute(f"{CALLS} WHERE seq = ?", of_it)).fetchall()
    return detail_of(found, row, calls, now.date_of, now.steady)


def kept(
    db: sqlite3.Connection, prompt_id: str, now: Now, needed_until: float | None
) -> Kept | None:
    """A prompt's record and its event; see `Journal.kept`."""
    if needed_until is not None:
        db.execute(
            "UPDATE prompts SET needed_until = max(coalesce(needed_until, 0), ?)"
            f" WHERE id = ? AND state IN ({_WAITING})",
            (needed_until, prompt_id),
        )
    found = record(db, prompt_id, now)
    if found is None:
        return None
    row = db.execute(
        f"SELECT {Part.EVENT.whole} FROM prompts JOIN texts USING (seq) WHERE id = ?",
        (prompt_id,),
    ).fetchone()
    return kept_of(found, row and row[0])


def ids(db: sqlite3.Connection, beginning: str, most: int) -> list[str]:
    """The ids that begin so; see `Journal.ids`."""
    found = db.execute(
        "SELECT id FROM prompts WHERE id >= ? AND id < ? ORDER BY id LIMIT ?",
        (beginning, beginning + chr(sys.maxunicode), most),
    )
    return [name for (name,) in found]


def ended_asking(db: sqlite3.Connection, ids: Collection[str]) -> list[str]:
    """Those that wait for no answer; see `Journal.ended_asking`."""
    found = db.execute(
        "SELECT prompts.id FROM prompts JOIN json_each(?) ON prompts.id = value"
        f" WHERE state NOT IN ({names_of(ASKING)})",
        (json.dumps(list(ids)),),
    )
    return [name for (name,) in found]


def still_failed(db: sqlite3.Connection, ids: Collection[str]) -> list[str]:
    """Those that are failed; see `Journal.still_failed`."""
    found = db.execute(
        "SELECT prompts.id FROM prompts JOIN json_each(?) ON prompts.id = value"
        " WHERE state = 'failed'",
        (json.dumps(list(ids)),),
    )
    return [name for (name,) in found]


def records(
    db: sqlite3.Connection, state: State | None, after: int, most: int, now: Now
) -> list[Record]:
    """A page of records; see `Journal.records`."""
    rows = db.execute(
        f"{RECORD} WHERE {in_state(state)} AND prompts.seq > ? ORDER BY prompts.seq LIMIT ?",
        (after, most),
    )
    return [_record(row, now) for row in by_name(rows)]


def latest(
    db: sqlite3.Connection,
    state: State | None,
    before: int | None,
    most: int,
    now: Now,
    reason: str | None = None,
) -> list[Record]:
    """A page of records, the latest first; see `Journal.latest`."""
    page = f"SELECT seq FROM prompts WHERE {in_state(state)} AND seq < ? ORDER BY seq DESC LIMIT ?"
    if state is State.SUBMITTED:
        page = page.replace("AND seq", "AND +seq").replace("BY seq", "BY +seq")  # by `to_poll`
    elif state is State.ANSWERED:
        page = f"{_ANSWERED} AND seq < ? ORDER BY seq DESC LIMIT ?"
    which: tuple[str, ...] = ()
    if reason is not None:
        page = (
            f"SELECT seq FROM prompts WHERE state = 'failed' AND {REASON} = ? AND seq < ?"
            " ORDER BY seq DESC LIMIT ?"
        )
        which = (reason,)
    rows = db.execute(
        f"{RECORD} WHERE prompts.seq IN ({page}) ORDER BY prompts.seq DESC",
        (*which, BEYOND if before is None else before, most),
    )
    return [_record(row, now) for row in by_name(rows)]


def groups(db: sqlite3.Connection, most: int) -> list[FailureGroup]:
    """The failed prompts by reason; see `Journal.failure_groups`."""
    return [FailureGroup(*row) for row in db.execute(_GROUPS, (most,))]


def oldest(db: sqlite3.Connection, now: float) -> float | None:
    """When the oldest prompt that waits was accepted; see `Tally.oldest`."""
    row = db.execute(
        f"SELECT accepted FROM prompts WHERE seq = (SELECT min(first) FROM ({_FIRST_ONES}))",
        (now, MOST_COUNTED),
    ).fetchone()
    return row[0] if row else None


def ends(db: sqlite3.Connection, since: float, most: int) -> list[End]:
    """The ends of the last prompts; see `Journal.ends`."""
    rows = db.execute(
        "SELECT id, state, ended, error, target FROM prompts WHERE ended >= ? AND state <> ?"
        " ORDER BY ended DESC LIMIT ?",
        (since, State.CANCELLED.value, most),
    )
    return [End(id_, State(state), *others) for id_, state, *others in rows]


def _record(row: sqlite3.Row, now: Now) -> Record:
    due = row["due"]
    return record_of(row, None if due is None else now.date_of(max(due, now.steady)))


def tally(db: sqlite3.Connection, day: str, now: float) -> Tally:
    """What the journal holds; see `Journal.tally`."""
    first_due = queues.first_due(db)
    return Tally(counts(db), units(db, day), oldest(db, now), leftovers.count(db), due=first_due)


def counts(db: sqlite3.Connection) -> dict[State, int]:
    """How many prompts are in each state."""
    known = dict(db.execute("SELECT state, n FROM counts"))
    return {state: known.get(state.value, 0) for state in State}


def units(db: sqlite3.Connection, day: str) -> int:
    """The units used of a day."""
    row = db.execute("SELECT used FROM days WHERE day = ?", (day,)).fetchone()
    return row[0] if row else 0


def to_ask(db: sqlite3.Connection, now: float) -> int:
    """The number of prompts that a daemon would ask at once if it started now."""
    accepted = f"prompts WHERE state = '{State.ACCEPTED.value}'"
    return _count_due(db, accepted, now, "coalesce(not_before, 0)")


def to_deliver(db: sqlite3.Connection, now: float) -> int:
    """The number of events that a daemon would deliver at once if it started now."""
    return _count_due(db, _EVENTS, now)


def _count_due(db: sqlite3.Connection, where: str, now: float, own: str = "0") -> int:
    # `recovery.take_over` makes due what is due later than a peer may ask for.
    (count,) = db.execute(
        f"SELECT count(*) FROM {where} AND (owner IS NOT NULL OR due <= ? OR due > max(?, {own}))",
        (now, now + LONGEST_RETRY_AFTER),
    ).fetchone()
    return int(count)
