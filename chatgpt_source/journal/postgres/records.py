"""Read the records, the counts and the days; end what is kept no longer."""

import sys
from collections.abc import Sequence

from chatgpt_source.journal import Detail, End, FailureGroup, Kept, Key, Record, Tally, digests
from chatgpt_source.journal.postgres import queues
from chatgpt_source.journal.postgres.accept import IN_BACKLOG
from chatgpt_source.journal.postgres.schema import REASON
from chatgpt_source.journal.postgres.session import Row, Session, Steps, rows_of
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
from chatgpt_source.journal.states import ASKING
from chatgpt_source.prompt import State

PRUNE_STEP = 500
"""Records deleted in one transaction, to keep it short."""
GROUPS_STEP = 10_000
"""Failed prompts read in one statement, to keep it short."""


def record(db: Session, prompt_id: str, now: float, date: float) -> Steps[Record | None]:
    """A prompt's record; see `Journal.record`."""
    rows = yield db.execute(f"{RECORD} WHERE id = %s", (_sought(prompt_id),))
    return _record(db, rows[0], now, date) if rows else None


def detail(db: Session, prompt_id: str, now: float, date: float) -> Steps[Detail | None]:
    """A prompt's detail; see `Journal.detail`."""
    found = yield from record(db, prompt_id, now, date)
    if found is None:
        return None
    calls = db.execute(f"{CALLS} WHERE seq = %s", (found.position,))
    rows = yield db.execute(f"{DETAIL} WHERE prompts.seq = %s", (found.position,))
    if not rows:  # it was purged meanwhile
        return None

    def date_of(stored: float) -> float:
        return stored - db.offset - now + date

    return detail_of(found, rows[0], rows_of(calls), date_of, db.at(now))


def kept(
    db: Session, prompt_id: str, now: float, date: float, needed_until: float | None
) -> Steps[Kept | None]:
    """A prompt's record and its event; see `Journal.kept`."""
    if needed_until is not None:
        db.execute(
            "UPDATE prompts SET needed_until = greatest(coalesce(needed_until, 0), %s)"
            f" WHERE id = %s AND {IN_BACKLOG}",
            (db.at(needed_until), prompt_id),
        )
    found = yield from record(db, prompt_id, now, date)
    if found is None:
        return None
    rows = yield db.execute(
        "SELECT event FROM prompts JOIN texts USING (seq) WHERE id = %s", (prompt_id,)
    )
    event = rows[0]["event"] if rows else None
    return kept_of(found, None if event is None else bytes(event))


def unneeded(db: Session, prompt_id: str) -> Steps[None]:
    """End the need of a prompt's answer; see `Journal.unneeded`."""
    yield db.execute(
        "UPDATE prompts SET needed_until = NULL WHERE id = %s AND needed_until IS NOT NULL",
        (prompt_id,),
    )


def let_lapse(db: Session, now: float) -> Steps[int]:
    """End some needs whose time has come, and so delete their texts; returns how many."""
    ended = 0
    for each in ("needed_until", "kept_until"):
        rows = yield db.execute(
            f"WITH few AS (SELECT seq FROM prompts WHERE {each} <= %s LIMIT {PRUNE_STEP}"
            f" FOR UPDATE SKIP LOCKED) UPDATE prompts SET {each} = NULL FROM few"
            " WHERE prompts.seq = few.seq RETURNING prompts.seq",
            (db.at(now),),
        )
        ended += len(rows)
    return ended


def add_up(db: Session) -> Steps[None]:
    """Add up the counts of prompts that have ended, of which each group adds some.

    No row is changed, so that two processes never wait for each other.
    """
    yield db.execute(
        "WITH few AS MATERIALIZED (SELECT ctid AS place FROM ended_counts FOR UPDATE SKIP LOCKED),"
        " gone AS (DELETE FROM ended_counts USING few WHERE ctid = place RETURNING state, n)"
        " INSERT INTO ended_counts SELECT state, sum(n) FROM gone GROUP BY state"
    )


def prune(db: Session, before: float) -> Steps[int]:
    """Delete some prompts that ended before a date; returns how many."""
    rows = yield db.execute(
        "WITH few AS (SELECT seq FROM prompts WHERE ended < %s AND kept_until IS NULL"
        " AND NOT EXISTS (SELECT 1 FROM outbox WHERE outbox.seq = prompts.seq)"
        f" ORDER BY ended LIMIT {PRUNE_STEP} FOR UPDATE SKIP LOCKED)"
        " DELETE FROM prompts USING few WHERE prompts.seq = few.seq RETURNING state",
        (before,),
    )
    db.ended.subtract(State(row["state"]) for row in rows)
    return len(rows)


def probe(db: Session) -> Steps[None]:
    """Write something; see `Journal.probe`."""
    yield db.execute("UPDATE probes SET count = count + 1")


def ids(db: Session, beginning: str, most: int) -> Steps[list[str]]:
    """The ids that begin so; see `Journal.ids`."""
    beginning = _sought(beginning)
    rows = yield db.execute(
        "SELECT id FROM prompts WHERE id >= %s AND id < %s ORDER BY id LIMIT %s",
        (beginning, beginning + chr(sys.maxunicode), most),
    )
    return [row["id"] for row in rows]


def ids_of(db: Session, keys: Sequence[Key]) -> Steps[list[str]]:
    """The ids of the prompts that came with some keys; see `Journal.ids_of`."""
    rows = yield db.execute(
        "SELECT id FROM keys JOIN prompts USING (seq) WHERE digest = ANY (%s) ORDER BY id",
        ([digests.digest(db.secret, *key.words) for key in keys],),
    )
    return [row["id"] for row in rows]


def ended_asking(db: Session, ids: Sequence[str]) -> Steps[list[str]]:
    """Those that wait for no answer; see `Journal.ended_asking`."""
    rows = yield db.execute(
        f"SELECT id FROM prompts WHERE id = ANY (%s) AND state NOT IN ({names_of(ASKING)})",
        (ids,),
    )
    return [row["id"] for row in rows]


def still_failed(db: Session, ids: Sequence[str]) -> Steps[list[str]]:
    """Those that are failed; see `Journal.still_failed`."""
    rows = yield db.execute(
        "SELECT id FROM prompts WHERE id = ANY (%s) AND state = 'failed'", (ids,)
    )
    return [row["id"] for row in rows]


def records(
    db: Session, state: State | None, after: int, most: int, now: float, date: float
) -> Steps[list[Record]]:
    """A page of records; see `Journal.records`."""
    rows = yield db.execute(
        f"{RECORD} WHERE {in_state(state)} AND prompts.seq > %s ORDER BY prompts.seq LIMIT %s",
        (after, most),
    )
    return [_record(db, row, now, date) for row in rows]


def latest(
    db: Session,
    state: State | None,
    before: int | None,
    most: int,
    now: float,
    date: float,
    reason: str | None = None,
) -> Steps[list[Record]]:
    """A page of records, the latest first; see `Journal.latest`."""
    page = f"{in_state(state)} AND prompts.seq < %s ORDER BY prompts.seq DESC LIMIT %s"
    values: tuple[object, ...] = (BEYOND if before is None else before, most)
    if reason is not None:
        page = (  # by itself, as `outbox` has a column `error`, too
            f"prompts.seq IN (SELECT seq FROM prompts WHERE state = 'failed' AND {REASON} = %s"
            " AND seq < %s ORDER BY seq DESC LIMIT %s) ORDER BY prompts.seq DESC"
        )
        values = (_sought(reason), *values)
    rows = yield db.execute(f"{RECORD} WHERE {page}", values)
    return [_record(db, row, now, date) for row in rows]


def failures(db: Session, after: int) -> Steps[tuple[list[FailureGroup], int | None]]:
    """A page of the failed prompts, grouped by reason, and its end; None if it is the last."""
    rows = yield db.execute(
        "SELECT reason, count(*) AS count, min(ended) AS first, max(ended) AS last,"
        f" max(seq) AS seq FROM (SELECT {REASON} AS reason, ended, seq FROM prompts"
        f" WHERE state = 'failed' AND seq > %s ORDER BY seq LIMIT {GROUPS_STEP}) AS page"
        " GROUP BY reason",
        (after,),
    )
    found = [FailureGroup(row["reason"], row["count"], row["first"], row["last"]) for row in rows]
    is_last = sum(each.count for each in found) < GROUPS_STEP
    return found, None if is_last else max(row["seq"] for row in rows)


def ends(db: Session, since: float, most: int) -> Steps[list[End]]:
    """The ends of the last prompts; see `Journal.ends`."""
    rows = yield db.execute(
        "SELECT id, state, ended, error, target FROM prompts WHERE ended >= %s"
        " AND state <> 'cancelled' ORDER BY ended DESC LIMIT %s",
        (since, most),
    )
    return [
        End(row["id"], State(row["state"]), row["ended"], row["error"], row["target"])
        for row in rows
    ]


def tally(db: Session, day: str, now: float) -> Steps[Tally]:
    """What the journal holds; see `Journal.tally`."""
    counted = db.execute(
        f"SELECT state, count(*) AS n FROM prompts WHERE {IN_BACKLOG} GROUP BY state"
        " UNION ALL SELECT state, sum(n)::bigint FROM ended_counts GROUP BY state"
    )
    (row,) = yield db.execute(
        "SELECT coalesce((SELECT used FROM days WHERE day = %s), 0) AS used,"
        f" (SELECT accepted FROM prompts WHERE {IN_BACKLOG} AND (state <> 'accepted'"
        " OR due <= %s OR coalesce(not_before, 0) <= %s)"
        " ORDER BY seq LIMIT 1) AS oldest,"
        f" (SELECT count(*) FROM leftovers) AS leftovers, ({queues.FIRST_DUE}) AS due,"
        " (SELECT count(*) FROM owners WHERE NOT ended AND until >= clock_timestamp()) AS daemons",
        (day, db.at(now), db.at(now)),
    )
    known = {found["state"]: found["n"] for found in rows_of(counted)}
    return Tally(
        {state: known.get(state.value, 0) for state in State},
        *(row["used"], row["oldest"], row["leftovers"], row["daemons"], db.steady(row["due"])),
    )


def _sought(text: str) -> str:
    """A text to look for; for one that the database can't hold, another that nothing matches."""
    return text.replace("\0", "\ufffd")


def _record(db: Session, row: Row, now: float, date: float) -> Record:
    due = row["due"]
    return record_of(row, None if due is None else max(due - db.offset, now) - now + date)
