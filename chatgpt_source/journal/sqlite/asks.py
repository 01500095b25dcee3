"""Admit prompts, claim them for an ask, and end the claims. Each function runs in a transaction."""

import json
import sqlite3

from chatgpt_source.errors import BacklogFull, Draining, QuotaUsedUp
from chatgpt_source.journal import Admitted, Answered, Claims, Ended, Failed, Postponed, Terms
from chatgpt_source.journal.group import RETRY_AFTER
from chatgpt_source.journal.sqlite import keys, outbox, records, texts
from chatgpt_source.journal.sqlite.rows import Owner, of_limited_size
from chatgpt_source.journal.sqlite.texts import Part, trace_of
from chatgpt_source.journal.states import Event, after
from chatgpt_source.prompt import TARGET, Ask, Delivery, Prompt, State
from chatgpt_source.quota import Day

_CLAIMED = "id = ? AND owner = ? AND token = ?"
_TO_CLAIM = "prompts WHERE state = 'accepted' AND owner IS NULL"
_ADMISSION = (
    f"SELECT coalesce((SELECT used FROM days WHERE day = ?), 0), ({records.BACKLOG}),"
    f" NOT EXISTS (SELECT 1 FROM {_TO_CLAIM} AND due <= ?)"
)
"""The units used of a day, the backlog, and whether no other prompt is due."""


def accept(
    db: sqlite3.Connection,
    prompt: Prompt,
    terms: Terms,
    key: str | None,
    owner: Owner | None,
    now: float,
) -> Admitted:
    """Admit a prompt, and claim it for its owner, if any; see `Journal.accept`.

    It is due from `now` on.
    """
    used, backlog, is_first = db.execute(_ADMISSION, (terms.day.date, now)).fetchone()
    if key is not None and (known := keys.known(db, prompt, key)) is not None:
        return Admitted(known, max(0, terms.limit - used), repeated=True)
    if terms.draining:
        raise Draining("the daemon is stopping", retry_after=RETRY_AFTER)
    if backlog >= terms.max_backlog and used < terms.limit:  # else the day's limit is the reason
        raise BacklogFull(f"{terms.max_backlog} prompts wait already", retry_after=RETRY_AFTER)
    take_unit(db, terms.day, used, terms.limit, prompt.accepted)
    ask = None
    if owner is not None and is_first:
        ask = Ask(prompt, attempt=1, total=1, since=now, token=next(owner.tokens))
    seq = db.execute(
        "INSERT INTO prompts (id, state, due, day, accepted, since, tries, asks, owner, token)"
        " VALUES (?, 'accepted', ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(prompt.id, now, terms.day.date, prompt.accepted, now),
            *((1, 1, owner.id, ask.token) if owner and ask else (0, 0, None, 0)),
        ),
    ).lastrowid
    assert seq is not None  # noqa: S101 - a row was inserted
    texts.add(db, seq, prompt)
    if key is not None:
        keys.add(db, seq, prompt, key)
    return Admitted(prompt.id, terms.limit - used - 1, ask=ask)


def take_unit(db: sqlite3.Connection, day: Day, used: int, limit: int, now: float) -> None:
    """Take a unit of a day that has `used` of `limit` units taken.

    Raises:
        QuotaUsedUp: If none is left.
    """
    if used >= limit:
        raise QuotaUsedUp(
            f"the day's limit of {limit} prompts is used up", retry_after=day.end - now
        )
    db.execute(
        "INSERT INTO days VALUES (?, 1) ON CONFLICT (day) DO UPDATE SET used = used + 1",
        (day.date,),
    )


def claim_asks(db: sqlite3.Connection, owner: Owner, now: float, most: int) -> Claims[Ask]:
    """Claim accepted prompts; see `Journal.claim_asks`."""
    found = db.execute(
        f"SELECT seq, id, {Part.PROMPT.whole} AS text, source, type, accepted, traceparent,"
        " tracestate, tries, asks, since, possibly_billed, held"
        " FROM prompts JOIN texts USING (seq)"
        " WHERE state = 'accepted' AND owner IS NULL AND due <= ? ORDER BY due, seq LIMIT ?",
        (now, most),
    )
    rows = of_limited_size(found, lambda row: len(row["text"]))
    asks = [
        Ask(
            Prompt(
                row["id"], row["text"], row["source"], row["type"], row["accepted"], trace_of(row)
            ),
            attempt=row["tries"] + 1,
            total=row["asks"] + 1,
            since=min(row["since"], now),
            possibly_billed=row["possibly_billed"],
            held=row["held"],
            token=next(owner.tokens),
        )
        for row in rows
    ]
    db.executemany(
        "UPDATE prompts SET owner = ?, token = ?, tries = tries + 1, asks = asks + 1, since = ?"
        " WHERE seq = ?",
        [(owner.id, ask.token, ask.since, row["seq"]) for ask, row in zip(asks, rows, strict=True)],
    )
    (due,) = db.execute(f"SELECT min(due) FROM {_TO_CLAIM}").fetchone()
    return Claims(asks, due)


def ended(
    db: sqlite3.Connection,
    owner: Owner,
    ask: Ask,
    outcome: Answered | Postponed | Failed,
    now: float,
    date: float,
    *,
    claim: bool,
) -> Ended:
    """End a claim; see `Journal.ask_ended`. `date` is the wall clock's."""
    change, values = _change(outcome, date)
    ended = db.execute(
        f"UPDATE prompts SET {change}, owner = NULL WHERE {_CLAIMED} RETURNING seq, day, billed",
        (*values, ask.prompt.id, owner.id, ask.token),
    ).fetchall()
    if not ended:
        return Ended(kept=False)
    ((seq, day, billed),) = ended
    if isinstance(outcome, Answered):
        _set_answer(db, seq, outcome)
        if claim:
            return Ended(kept=True, delivery=_claim_delivery(db, seq, owner, ask, outcome, now))
        outbox.add(db, seq, TARGET, now)
    elif isinstance(outcome, Failed):
        if outcome.dead_letter is not None:
            outbox.add_dead_letter(db, seq, outcome.dead_letter, now)
        if outcome.give_back and not billed:
            db.execute("UPDATE days SET used = used - 1 WHERE used > 0 AND day = ?", (day,))
    return Ended(kept=True)


def _change(outcome: Answered | Postponed | Failed, date: float) -> tuple[str, tuple[object, ...]]:
    """What the end of a claim changes in its prompt's row: SQL, and its values."""
    if isinstance(outcome, Postponed):
        billed = outcome.possibly_billed
        delayed = (
            "due = ?, error = ?, possibly_billed = possibly_billed + ?, billed = billed OR ?,"
            " held = coalesce(held, ?)"
        )
        return delayed, (outcome.until, outcome.error, billed, billed, outcome.held)
    moved = "state = ?, due = NULL, held = NULL"
    if isinstance(outcome, Answered):
        state = after(State.ACCEPTED, Event.ANSWERED)
        return f"{moved}, answered = ?, error = NULL", (state.value, date)
    state = after(State.ACCEPTED, Event.FAILED)
    return f"{moved}, ended = ?, error = ?", (state.value, date, outcome.error)


def _set_answer(db: sqlite3.Connection, seq: int, outcome: Answered) -> None:
    answer = outcome.answer
    report = {
        "model": answer.model,
        "finish_reason": answer.finish_reason,
        "request_id": answer.request_id,
        "usage": answer.usage,
    }
    texts.set_answer(db, seq, outcome.event, json.dumps(report))


def _claim_delivery(
    db: sqlite3.Connection, seq: int, owner: Owner, ask: Ask, outcome: Answered, now: float
) -> Delivery:
    """Put the event into the outbox, claimed for its first attempt."""
    delivery = Delivery(
        ask.prompt.id,
        outcome.event,
        since=now,
        attempt=1,
        accepted=ask.prompt.accepted,
        trace=ask.prompt.trace,
        request_id=outcome.answer.request_id,
        token=next(owner.tokens),
    )
    outbox.add(db, seq, TARGET, now, claim=(owner.id, delivery.token))
    return delivery
