"""What the journal does, each as a function of the connection, run inside a transaction."""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any
from zoneinfo import ZoneInfo

from chatgpt_source.errors import BacklogFull, Draining, NotRedriven, QuotaUsedUp
from chatgpt_source.http.client.retry_after import LONGEST_RETRY_AFTER
from chatgpt_source.journal import Admitted, AskClaims, DeliveryClaims, Terms
from chatgpt_source.journal.sqlite import keys, records, texts
from chatgpt_source.journal.sqlite.schema import AT_ONCE, NOT_YET, UNDER_WAY
from chatgpt_source.journal.sqlite.texts import Part
from chatgpt_source.journal.sqlite.transact import RETRY_AFTER
from chatgpt_source.prompt import Answer, Ask, Delivery, Prompt, State, Trace
from chatgpt_source.quota import Day, day_at

MOST_CLAIMED = 2 * 2**20
"""Bytes or characters of text after which a claim takes no more, so that no commit waits long."""

_OF_ID = "seq = (SELECT seq FROM prompts WHERE id = ?)"


def accept(
    db: sqlite3.Connection, prompt: Prompt, terms: Terms, key: str | None, now: float
) -> Admitted:
    """Admit a prompt, which is due from `now` on; see `Journal.accept`."""
    used = records.units(db, terms.day.date)
    if key is not None and (known := keys.known(db, prompt, key)) is not None:
        return Admitted(known, max(0, terms.limit - used), repeated=True)
    if terms.draining:
        raise Draining("the daemon is stopping", retry_after=RETRY_AFTER)
    _take_unit(db, terms.day, terms.limit, prompt.accepted)
    if records.tally(db).backlog >= terms.max_backlog:
        raise BacklogFull(f"{terms.max_backlog} prompts wait already", retry_after=RETRY_AFTER)
    seq = db.execute(
        "INSERT INTO prompts (id, state, due, day, accepted, since)"
        " VALUES (?, 'accepted', ?, ?, ?, ?)",
        (prompt.id, now, terms.day.date, prompt.accepted, now),
    ).lastrowid
    assert seq is not None  # noqa: S101 - a row was inserted
    texts.add(db, seq, prompt)
    if key is not None:
        keys.add(db, seq, prompt, key)
    return Admitted(prompt.id, terms.limit - used - 1)


def _trace(parent: str | None, state: str | None) -> Trace | None:
    return None if parent is None else Trace(parent, state)


def _take_unit(db: sqlite3.Connection, day: Day, limit: int, now: float) -> None:
    if records.units(db, day.date) >= limit:
        raise QuotaUsedUp(
            f"the day's limit of {limit} prompts is used up", retry_after=day.end - now
        )
    db.execute(
        "INSERT INTO days VALUES (?, 1) ON CONFLICT (day) DO UPDATE SET used = used + 1",
        (day.date,),
    )


def claim_asks(db: sqlite3.Connection, now: float, most: int) -> AskClaims:
    """Claim accepted prompts; see `Journal.claim_asks`."""
    found = db.execute(
        f"SELECT seq, id, {Part.PROMPT.whole}, source, type, accepted, traceparent, tracestate,"
        " tries, asks, min(since, ?), maybe_billed, held FROM prompts JOIN texts USING (seq)"
        " WHERE state = 'accepted' AND due <= ? ORDER BY due, seq LIMIT ?",
        (now, now, most),
    )
    rows = _some(found)
    _claim(db, now, "due = ?, tries = tries + 1, asks = asks + 1", [seq for seq, *_ in rows])
    claimed = [
        Ask(
            Prompt(id_, text, source, type_, accepted, _trace(parent, state)),
            tries + 1,
            asks + 1,
            *others,
        )
        for _, id_, text, source, type_, accepted, parent, state, tries, asks, *others in rows
    ]
    return AskClaims(claimed, _next_due(db, State.ACCEPTED))


def claim_deliveries(
    db: sqlite3.Connection, now: float, most: int, untried_since: float | None
) -> DeliveryClaims:
    """Claim answered prompts; see `Journal.claim_deliveries`."""
    found = db.execute(
        f"SELECT seq, id, {Part.EVENT.whole}, min(since, ?), tries, accepted,"
        f" traceparent, tracestate, {Part.ANSWER.whole}, held"
        " FROM prompts JOIN texts USING (seq)"
        " WHERE state = 'answered' AND due <= ? AND (? IS NULL OR deliveries = 0 AND since >= ?)"
        " ORDER BY due, seq LIMIT ?",
        (now, now, untried_since, untried_since, most),
    )
    rows = _some(found)
    change = "due = ?, tries = tries + 1, deliveries = deliveries + 1"
    _claim(db, now, change, [row[0] for row in rows])
    return DeliveryClaims(
        [
            Delivery(
                id_,
                event,
                since,
                tries + 1,
                accepted,
                _trace(parent, state),
                _request_id(answer),
                held,
            )
            for _, id_, event, since, tries, accepted, parent, state, answer, held in rows
        ],
        _next_due(db, State.ANSWERED),
    )


def claim_letters(db: sqlite3.Connection, now: float, most: int) -> DeliveryClaims:
    """Claim dead letters; see `Journal.claim_letters`."""
    found = db.execute(
        f"SELECT seq, id, {Part.LETTER.whole}, min(since, ?), letters, accepted, traceparent,"
        " tracestate, held FROM prompts JOIN texts USING (seq)"
        " WHERE letter_due <= ? ORDER BY letter_due, seq LIMIT ?",
        (now, now, most),
    )
    rows = _some(found)
    _claim(db, now, "letter_due = ?, letters = letters + 1", [seq for seq, *_ in rows])
    (due,) = db.execute(
        "SELECT min(letter_due) FROM prompts WHERE letter_due IS NOT NULL"
    ).fetchone()
    return DeliveryClaims(
        [
            Delivery(id_, letter, since, letters + 1, accepted, _trace(parent, state), held=held)
            for _, id_, letter, since, letters, accepted, parent, state, held in rows
        ],
        _before_claimed(due),
    )


def _some(found: sqlite3.Cursor) -> list[Any]:
    """The first of the rows that were found, by the size of the text in each."""
    rows, size = [], 0
    for row in found:
        rows.append(row)
        size += len(row[2])
        if size >= MOST_CLAIMED:
            break
    found.close()
    return rows


def _claim(db: sqlite3.Connection, now: float, change: str, seqs: Sequence[int]) -> None:
    db.executemany(
        f"UPDATE prompts SET {change}, since = min(since, ?) WHERE seq = ?",
        [(UNDER_WAY, now, seq) for seq in seqs],
    )


def _request_id(answer: str | None) -> str | None:
    told: Mapping[str, Any] = {} if answer is None else json.loads(answer)
    return told.get("request_id")


def _next_due(db: sqlite3.Connection, state: State) -> float | None:
    (due,) = db.execute(
        "SELECT min(due) FROM prompts WHERE state = ? AND due IS NOT NULL", (state.value,)
    ).fetchone()
    return _before_claimed(due)


def _before_claimed(due: float | None) -> float | None:
    return None if due is None or due >= UNDER_WAY else due


def recover(db: sqlite3.Connection, now: float) -> None:
    """Make what a crash left claimed due again, in its old place; its ask may have been billed.

    A daemon's steady clock begins with the wall clock's time: where that was set back since the
    last one, instants lie in the future. None is left there, and nothing is due later than can be.
    """
    for due, states in (("due", "'accepted', 'answered'"), ("letter_due", "'failed'")):
        db.execute(
            f"UPDATE prompts SET {due} = CASE WHEN {due} = :under_way THEN min(since, :now)"
            f" WHEN {due} > :latest THEN :now ELSE {due} END,"
            f" billed = billed OR state = 'accepted' AND {due} = :under_way,"
            f" since = min(since, :now), held = min(held, :now)"
            f" WHERE state IN ({states}) AND {due} > :now",
            {"under_way": UNDER_WAY, "now": now, "latest": now + LONGEST_RETRY_AFTER},
        )


def failing(db: sqlite3.Connection) -> list[State]:
    """The states that prompts wait in whose last attempt failed."""
    return [
        state
        for state in (State.ACCEPTED, State.ANSWERED)
        if db.execute(
            "SELECT 1 FROM prompts WHERE state = ? AND due IS NOT NULL AND error IS NOT NULL",
            (state.value,),
        ).fetchone()
    ]


def answered(
    db: sqlite3.Connection,
    prompt_id: str,
    answer: Answer,
    event: bytes,
    now: float,
    date: float,
    *,
    claim: bool,
) -> None:
    """Keep an answer that came on a date; see `Journal.answered`."""
    told = {
        "model": answer.model,
        "finish_reason": answer.finish_reason,
        "request_id": answer.request_id,
        "usage": answer.usage,
    }
    db.execute(
        "UPDATE prompts SET state = 'answered', due = ?, answered = ?, since = ?, tries = ?,"
        " deliveries = deliveries + ?, error = NULL, held = NULL WHERE id = ?",
        (UNDER_WAY if claim else now, date, now, claim, claim, prompt_id),
    )
    if (seq := _seq(db, prompt_id)) is not None:
        texts.set_answer(db, seq, event, json.dumps(told))


def _seq(db: sqlite3.Connection, prompt_id: str) -> int | None:
    row = db.execute("SELECT seq FROM prompts WHERE id = ?", (prompt_id,)).fetchone()
    return row[0] if row else None


def delivered(db: sqlite3.Connection, prompt_id: str, date: float) -> None:
    """End a prompt well on a date; see `Journal.delivered`."""
    db.execute(
        "UPDATE prompts SET state = 'delivered', due = NULL, ended = ?, error = NULL WHERE id = ?",
        (date, prompt_id),
    )
    db.execute(f"DELETE FROM texts WHERE {_OF_ID}", (prompt_id,))


def failed(
    db: sqlite3.Connection,
    prompt_id: str,
    now: float,
    date: float,
    error: str,
    *,
    give_back: bool,
    letter: bytes | None,
) -> None:
    """Set a prompt aside on a date; see `Journal.failed`."""
    db.execute(
        "UPDATE prompts SET state = 'failed', due = NULL, ended = ?, since = ?, error = ?,"
        " letter_due = ?, letters = 0, held = NULL WHERE id = ?",
        (date, now, error, None if letter is None else now, prompt_id),
    )
    if (seq := _seq(db, prompt_id)) is not None:
        texts.set_letter(db, seq, letter)
    if give_back:
        db.execute(
            "UPDATE days SET used = used - 1"
            " WHERE day = (SELECT day FROM prompts WHERE id = ? AND NOT billed) AND used > 0",
            (prompt_id,),
        )


def postpone(
    db: sqlite3.Connection,
    prompt_id: str,
    until: float,
    error: str,
    *,
    maybe_billed: bool,
    held: float | None,
) -> None:
    """Let a claimed prompt wait; see `Journal.postpone`."""
    db.execute(
        "UPDATE prompts SET due = ?, error = ?, maybe_billed = maybe_billed + ?,"
        " billed = billed OR ?, held = coalesce(held, ?) WHERE id = ?",
        (until, error, maybe_billed, maybe_billed, held, prompt_id),
    )


def letter_ended(
    db: sqlite3.Connection, prompt_id: str, since: float, until: float | None, held: float | None
) -> None:
    """Let a dead letter wait, or be done with it; see `Journal.letter_ended`."""
    changed = db.execute(
        "UPDATE prompts SET letter_due = ?, held = coalesce(held, ?)"
        " WHERE id = ? AND letter_due = ? AND since = ?",
        (until, held, prompt_id, UNDER_WAY, since),
    )
    if until is None and changed.rowcount:
        db.execute(f"UPDATE texts SET letter = NULL WHERE {_OF_ID}", (prompt_id,))


def redrive(db: sqlite3.Connection, prompt_id: str, date: float) -> State:
    """Take a failed prompt up again, for a unit of the date's day; see `Journal.redrive`."""
    row = db.execute(
        "SELECT state, event IS NOT NULL FROM prompts JOIN texts USING (seq) WHERE id = ?",
        (prompt_id,),
    ).fetchone()
    if row is None or row[0] != State.FAILED:
        raise NotRedriven("it is not a failed prompt of this journal")
    state = State.ANSWERED if row[1] else State.ACCEPTED
    if state is State.ACCEPTED:
        terms = db.execute("SELECT everyday_limit, timezone FROM terms").fetchone()
        if terms is None:
            raise NotRedriven("no daemon has used this journal yet")
        day = day_at(date, ZoneInfo(terms[1]))
        _take_unit(db, day, terms[0], date)
        db.execute("UPDATE prompts SET day = ?, billed = 0 WHERE id = ?", (day.date, prompt_id))
    db.execute(
        "UPDATE prompts SET state = ?, due = ?, since = ?, ended = NULL, tries = 0,"
        " maybe_billed = 0, held = NULL, letter_due = NULL WHERE id = ?",
        (state.value, AT_ONCE, NOT_YET, prompt_id),
    )
    db.execute(f"UPDATE texts SET letter = NULL WHERE {_OF_ID}", (prompt_id,))
    return state


def purge(db: sqlite3.Connection, prompt_id: str) -> bool:
    """Forget a failed prompt; see `Journal.purge`."""
    db.execute(
        f"DELETE FROM texts WHERE {_OF_ID}"
        " AND seq IN (SELECT seq FROM prompts WHERE state = 'failed')",
        (prompt_id,),
    )
    gone = db.execute("DELETE FROM prompts WHERE id = ? AND state = 'failed'", (prompt_id,))
    return gone.rowcount > 0
