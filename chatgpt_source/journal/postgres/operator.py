"""Redrive or purge a failed prompt, cancel an accepted one. Each function runs in a transaction."""

from zoneinfo import ZoneInfo

from chatgpt_source.errors import NotCancelled, NotRedriven
from chatgpt_source.journal import Cancelled, Terms, admission
from chatgpt_source.journal.postgres import leftovers, outbox
from chatgpt_source.journal.postgres.schema import AT_ONCE, NOT_YET
from chatgpt_source.journal.postgres.session import Session, Steps
from chatgpt_source.journal.states import TRANSITIONS, Event, after
from chatgpt_source.prompt import DEAD_LETTER, Leftover, State
from chatgpt_source.quota import day_at


def redrive(db: Session, prompt_id: str, date: float) -> Steps[State]:
    """Redrive a failed prompt; see `Journal.redrive`. A unit is of the date's day."""
    rows = yield db.execute(
        "SELECT seq, state, octet_length(event) AS size, target FROM prompts JOIN texts USING (seq)"
        " WHERE id = %s FOR NO KEY UPDATE OF prompts",
        (prompt_id,),
    )
    if not rows or rows[0]["state"] != State.FAILED:
        raise NotRedriven("it is not a failed prompt of this journal")
    (row,) = rows
    seq, has_event = row["seq"], row["size"] is not None
    state = after(State.FAILED, Event.DELIVERED_AGAIN if has_event else Event.ASKED_AGAIN)
    if has_event:
        outbox.add(db, seq, row["target"], AT_ONCE, row["size"], since=NOT_YET)
    else:
        yield from _take_unit_again(db, seq, date)
    db.ended[State.FAILED] -= 1
    db.execute("DELETE FROM outbox WHERE seq = %s AND destination = %s", (seq, DEAD_LETTER.setting))
    db.execute("UPDATE texts SET letter = NULL WHERE seq = %s AND letter IS NOT NULL", (seq,))
    yield db.execute(
        "UPDATE prompts SET state = %s, due = %s, since = %s, ended = NULL, tries = 0,"
        " possibly_billed = 0, deadline = NULL, ends = NULL, tier = 'standard' WHERE seq = %s",
        (state.value, None if has_event else AT_ONCE, NOT_YET, seq),
    )
    return state


def _take_unit_again(db: Session, seq: int, date: float) -> Steps[None]:
    rows = yield db.execute("SELECT everyday_limit, timezone FROM terms")
    if not rows:
        raise NotRedriven("no daemon has used this journal yet")
    limit, zone = rows[0]["everyday_limit"], rows[0]["timezone"]
    day = day_at(date, ZoneInfo(zone))
    (row,) = yield db.execute(
        "INSERT INTO days VALUES (%s, 0) ON CONFLICT (day) DO UPDATE SET used = days.used"
        " RETURNING used",
        (day.date,),
    )
    admission.check_units(Terms(day, limit, 0), row["used"], 1, date)
    db.execute("UPDATE days SET used = used + 1 WHERE day = %s", (day.date,))
    db.execute(
        "UPDATE prompts SET day = %s, billed = FALSE, submitted = NULL, provider = NULL"
        " WHERE seq = %s",
        (day.date, seq),
    )


def cancel(
    db: Session, prompt_id: str, now: float, date: float, *, forget: bool
) -> Steps[Cancelled | None]:
    """Cancel a prompt that waits; see `Journal.cancel`."""
    rows = yield db.execute(
        "SELECT seq, state, owner, day, billed, submitted, provider FROM prompts WHERE id = %s"
        " FOR UPDATE",
        (prompt_id,),
    )
    if not rows:
        return None
    (row,) = rows
    state = State(row["state"])
    if state is State.CANCELLED:
        return Cancelled(repeated=True)
    if Event.CANCELLED not in TRANSITIONS[state]:
        raise NotCancelled(f"it is {state.value} already")
    if row["owner"] is not None:
        raise NotCancelled("the model is being asked at the moment")
    yield db.execute(
        "UPDATE prompts SET state = %s, due = NULL, ended = %s, held = NULL, batch = NULL"
        " WHERE seq = %s",
        (after(state, Event.CANCELLED).value, date, row["seq"]),
    )
    db.ended[State.CANCELLED] += 1
    if not row["billed"]:
        db.returned[row["day"]] += 1
    if row["submitted"] is not None:
        left = Leftover(row["submitted"], row["provider"], stop=True, forget=forget)
        leftovers.add(db, left, now)
    return Cancelled()


def purge(db: Session, prompt_id: str) -> Steps[bool]:
    """Delete a failed prompt; see `Journal.purge`.

    The row of its dead letter goes first, as it does when that is delivered.
    """
    db.execute(
        "DELETE FROM outbox USING prompts WHERE outbox.seq = prompts.seq AND id = %s"
        " AND state = 'failed'",
        (prompt_id,),
    )
    gone = yield db.execute(
        "DELETE FROM prompts WHERE id = %s AND state = 'failed' RETURNING seq", (prompt_id,)
    )
    db.ended[State.FAILED] -= len(gone)
    return bool(gone)
