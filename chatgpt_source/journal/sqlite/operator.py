"""Redrive or purge a failed prompt, cancel an accepted one. Each function runs in a transaction."""

import sqlite3
from zoneinfo import ZoneInfo

from chatgpt_source.errors import NotCancelled, NotRedriven
from chatgpt_source.journal import Cancelled, Terms
from chatgpt_source.journal.sqlite import asks, leftovers, outbox, records, texts
from chatgpt_source.journal.sqlite.rows import Now
from chatgpt_source.journal.sqlite.schema import AT_ONCE, NOT_YET, VERSION, version_of
from chatgpt_source.journal.states import TRANSITIONS, Event, after
from chatgpt_source.prompt import DEAD_LETTER, Leftover, State
from chatgpt_source.quota import day_at


def redrive(db: sqlite3.Connection, prompt_id: str, date: float) -> State:
    """Redrive a failed prompt; see `Journal.redrive`. A unit is of the date's day."""
    if version_of(db) < VERSION:
        raise NotRedriven("its journal is an earlier release's: let this release's daemon start")
    row = db.execute(
        "SELECT seq, state, event IS NOT NULL, target FROM prompts JOIN texts USING (seq)"
        " WHERE id = ?",
        (prompt_id,),
    ).fetchone()
    if row is None or row[1] != State.FAILED:
        raise NotRedriven("it is not a failed prompt of this journal")
    seq, _, has_event, target = row
    event = Event.DELIVERED_AGAIN if has_event else Event.ASKED_AGAIN
    state = after(State.FAILED, event)
    if has_event:
        outbox.ADD.run(db, [outbox.row_of(seq, target, AT_ONCE, since=NOT_YET)])
    else:
        _take_unit_again(db, seq, date)
    db.execute("DELETE FROM outbox WHERE seq = ? AND destination = ?", (seq, DEAD_LETTER.setting))
    texts.forget_dead_letter(db, seq)
    db.execute(
        "UPDATE prompts SET state = ?, due = ?, since = ?, ended = NULL, tries = 0,"
        " possibly_billed = 0, deadline = NULL, ends = NULL, tier = 'standard' WHERE seq = ?",
        (state.value, None if has_event else AT_ONCE, NOT_YET, seq),
    )
    if not has_event:
        db.execute("UPDATE prompts SET submitted = NULL, provider = NULL WHERE seq = ?", (seq,))
    return state


def _take_unit_again(db: sqlite3.Connection, seq: int, date: float) -> None:
    terms = db.execute("SELECT everyday_limit, timezone FROM terms").fetchone()
    if terms is None:
        raise NotRedriven("no daemon has used this journal yet")
    limit, zone = terms
    day = day_at(date, ZoneInfo(zone))
    asks.take_units(db, Terms(day, limit, 0), records.units(db, day.date), 1, date)
    db.execute("UPDATE prompts SET day = ?, billed = 0 WHERE seq = ?", (day.date, seq))


def cancel(db: sqlite3.Connection, prompt_id: str, now: Now, *, forget: bool) -> Cancelled | None:
    """Cancel a prompt that waits; see `Journal.cancel`."""
    row = db.execute(
        "SELECT seq, state, owner, day, billed, submitted, provider FROM prompts WHERE id = ?",
        (prompt_id,),
    ).fetchone()
    if row is None:
        return None
    seq, state, owner, day, billed, submitted, provider = row
    if state == State.CANCELLED:
        return Cancelled(repeated=True)
    if Event.CANCELLED not in TRANSITIONS[State(state)]:
        raise NotCancelled(f"it is {state} already")
    if owner is not None:
        raise NotCancelled("the model is being asked at the moment")
    db.execute(
        "UPDATE prompts SET state = ?, due = NULL, ended = ?, held = NULL, batch = NULL"
        " WHERE seq = ?",
        (after(State(state), Event.CANCELLED).value, now.date, seq),
    )
    if not billed:
        asks.give_back_unit(db, day)
    if submitted is not None:
        leftovers.add(db, Leftover(submitted, provider, stop=True, forget=forget), now.steady)
    return Cancelled()


def purge(db: sqlite3.Connection, prompt_id: str) -> bool:
    """Delete a failed prompt; see `Journal.purge`."""
    db.execute(
        "DELETE FROM texts WHERE seq = (SELECT seq FROM prompts WHERE id = ? AND state = 'failed')",
        (prompt_id,),
    )
    # `main`, as an earlier version's journal has a view of this name.
    gone = db.execute("DELETE FROM main.prompts WHERE id = ? AND state = 'failed'", (prompt_id,))
    return gone.rowcount > 0
