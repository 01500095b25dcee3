"""The outbox: an event that is to be delivered is a row, with a destination and attempts."""

import json
import sqlite3
from collections.abc import Mapping
from typing import Any

from chatgpt_source.journal import Claims, Delivered, Ended, Failed, Postponed
from chatgpt_source.journal.sqlite import texts
from chatgpt_source.journal.sqlite.rows import Owner, of_limited_size, seq_of
from chatgpt_source.journal.sqlite.texts import Part, trace_of
from chatgpt_source.journal.states import Event, after
from chatgpt_source.prompt import DEAD_LETTER, TARGET, Delivery, Receiver, State

_CLAIMED = (
    "seq = (SELECT seq FROM prompts WHERE id = ?) AND destination = ? AND owner = ? AND token = ?"
)


def add(
    db: sqlite3.Connection, seq: int, to: Receiver, due: float, since: float | None = None
) -> None:
    """Let a prompt's event be delivered, as from an instant."""
    db.execute(
        "INSERT INTO outbox (seq, destination, due, since) VALUES (?, ?, ?, ?)",
        (seq, to.setting, due, due if since is None else since),
    )


def add_claimed(db: sqlite3.Connection, seq: int, owner: Owner, delivery: Delivery) -> None:
    """Let a prompt's event be delivered by its owner, whose first attempt this is."""
    due = delivery.since
    db.execute(
        "INSERT INTO outbox (seq, destination, due, since, attempts, owner, token)"
        " VALUES (?, ?, ?, ?, 1, ?, ?)",
        (seq, delivery.destination, due, due, owner.id, delivery.token),
    )


def claim_deliveries(
    db: sqlite3.Connection,
    owner: Owner,
    destination: str,
    now: float,
    most: int,
    untried_since: float | None,
) -> Claims[Delivery]:
    """Claim what is due at a destination; see `Journal.claim_deliveries`."""
    part = Part.LETTER if destination == DEAD_LETTER.setting else Part.EVENT
    answer = "NULL" if part is Part.LETTER else Part.ANSWER.whole
    found = db.execute(
        f"SELECT seq, id, {part.whole} AS event, outbox.since AS since, attempts, accepted,"
        f" traceparent, tracestate, {answer} AS answer, outbox.held AS held"
        " FROM outbox JOIN prompts USING (seq) JOIN texts USING (seq)"
        " WHERE outbox.owner IS NULL AND destination = ? AND outbox.due <= ?"
        " AND (? IS NULL OR attempts = 0 AND deliveries = 0 AND outbox.since >= ?)"
        " ORDER BY outbox.due, seq LIMIT ?",
        (destination, now, untried_since, untried_since, most),
    )
    rows = of_limited_size(found, "event")
    deliveries = [
        Delivery(
            row["id"],
            row["event"],
            since=min(row["since"], now),
            attempt=row["attempts"] + 1,
            accepted=row["accepted"],
            trace=trace_of(row),
            request_id=_request_id(row["answer"]),
            held=row["held"],
            destination=destination,
            token=next(owner.tokens),
        )
        for row in rows
    ]
    db.executemany(
        "UPDATE outbox SET owner = ?, token = ?, attempts = attempts + 1, since = ?"
        " WHERE seq = ? AND destination = ?",
        [
            (owner.id, delivery.token, delivery.since, row["seq"], destination)
            for delivery, row in zip(deliveries, rows, strict=True)
        ],
    )
    (due,) = db.execute(
        "SELECT min(due) FROM outbox WHERE owner IS NULL AND destination = ?", (destination,)
    ).fetchone()
    return Claims(deliveries, due)


def give_back(db: sqlite3.Connection, owner: Owner, delivery: Delivery) -> None:
    """Let an event that was claimed, and not delivered, be due again."""
    db.execute(
        f"UPDATE outbox SET owner = NULL, attempts = attempts - 1 WHERE {_CLAIMED}",
        _claim(owner, delivery),
    )


def _request_id(answer: str | None) -> str | None:
    told: Mapping[str, Any] = {} if answer is None else json.loads(answer)
    return told.get("request_id")


def postponed(
    db: sqlite3.Connection, owner: Owner, delivery: Delivery, outcome: Postponed
) -> Ended:
    """Let an event wait for its next attempt; see `Journal.delivery_ended`."""
    changed = db.execute(
        "UPDATE outbox SET due = ?, error = ?, held = coalesce(held, ?), owner = NULL"
        f" WHERE {_CLAIMED}",
        (outcome.until, outcome.error, outcome.held, *_claim(owner, delivery)),
    )
    return Ended(kept=changed.rowcount > 0)


def ended(
    db: sqlite3.Connection,
    owner: Owner,
    delivery: Delivery,
    outcome: Delivered | Failed,
    now: float,
    date: float,
) -> Ended:
    """Be done with an event, on a date; see `Journal.delivery_ended`."""
    gone = db.execute(f"DELETE FROM outbox WHERE {_CLAIMED}", _claim(owner, delivery))
    if not gone.rowcount:
        return Ended(kept=False)
    if delivery.destination == DEAD_LETTER.setting:
        texts.forget_letter(db, delivery.id)
    elif isinstance(outcome, Delivered):
        _end_prompt(db, delivery, Event.DELIVERED, date, None)
    else:
        _end_prompt(db, delivery, Event.FAILED, date, outcome.error)
        _add_letter(db, delivery.id, outcome.dead_letter, now)
    return Ended(kept=True)


def _claim(owner: Owner, delivery: Delivery) -> tuple[str, str, int, int]:
    return delivery.id, delivery.destination, owner.id, delivery.token


def _end_prompt(
    db: sqlite3.Connection, delivery: Delivery, event: Event, date: float, error: str | None
) -> None:
    db.execute(
        "UPDATE prompts SET state = ?, ended = ?, error = ?, deliveries = deliveries + ?"
        " WHERE id = ?",
        (after(State.ANSWERED, event).value, date, error, delivery.attempt, delivery.id),
    )


def _add_letter(db: sqlite3.Connection, prompt_id: str, letter: bytes | None, now: float) -> None:
    seq = seq_of(db, prompt_id)
    if seq is not None and letter is not None:
        texts.set_letter(db, seq, letter)
        add(db, seq, DEAD_LETTER, now)


def waits_after_a_failure(db: sqlite3.Connection) -> bool:
    """Whether an event waits for the target whose last attempt there failed."""
    found = db.execute(
        "SELECT 1 FROM outbox WHERE destination = ? AND error IS NOT NULL LIMIT 1",
        (TARGET.setting,),
    )
    return found.fetchone() is not None
