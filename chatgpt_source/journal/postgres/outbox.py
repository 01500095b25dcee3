"""The outbox: one row for each event and destination. Each function runs in a transaction."""

from collections.abc import Sequence
from typing import Any

from attrs import frozen

from chatgpt_source.journal import Claims, Delivered, Ended, Failed, Postponed, changes
from chatgpt_source.journal.group_commit import Operation
from chatgpt_source.journal.postgres import attempts, leftovers
from chatgpt_source.journal.postgres.session import (
    DELIVERED,
    MOST_CLAIMED,
    Last,
    Session,
    Steps,
    Together,
    arrays,
    rows_of,
)
from chatgpt_source.journal.states import Event, after
from chatgpt_source.prompt import DEAD_LETTER, Delivery, Leftover, State, Trace

_CLAIMED = (
    "seq = (SELECT seq FROM prompts WHERE id = %s) AND destination = %s AND token = %s"
    " AND owner IS NOT NULL"
)

_DELIVERIES = {
    "id": "text",
    "destination": "text",
    "token": "bigint",
    "attempt": "integer",
    "date": "float8",
    "kept_until": "float8",
    "sent_seconds": "float8",
    "sent_status": "integer",
}
"""What is given of a delivery, by name."""
_STATE = after(State.ANSWERED, Event.DELIVERED).value
_DELIVER = (
    f"WITH {arrays(_DELIVERIES)},"
    " gone AS (DELETE FROM outbox USING given JOIN prompts USING (id)"
    " WHERE outbox.seq = prompts.seq AND outbox.destination = given.destination"
    " AND outbox.token = given.token AND outbox.owner IS NOT NULL RETURNING outbox.seq, place),"
    f" ended AS (UPDATE prompts SET {changes.DELIVERED}"
    " FROM gone JOIN given USING (place) WHERE prompts.seq = gone.seq),"
    f" counted AS (INSERT INTO ended_counts SELECT '{_STATE}', count(*) FROM gone)"
    " SELECT place FROM gone"
)
_DELIVERED = (
    f"WITH {arrays(_DELIVERIES)} SELECT place FROM given JOIN prompts USING (id)"
    f" WHERE state = '{_STATE}' AND ended = date"
)


@frozen
class Deliver(Together):
    """The end of a claim by a delivery to the prompt's target.

    Attributes:
        delivery: The claim.
        outcome: How it went.
        now: The time.
        date: The wall clock's.
    """

    rank = DELIVERED
    delivery: Delivery
    outcome: Delivered
    now: float
    date: float

    @staticmethod
    def all_of(db: Session, operations: Sequence[Operation[Any]]) -> Steps[None]:
        """End the claims of a group's deliveries."""
        return deliver(db, operations)


def add(
    db: Session, seq: int, destination: str, due: float, size: int, *, since: float | None = None
) -> None:
    """Add the row of a prompt's event; `due` and `since` are the database's instants."""
    db.execute(
        "INSERT INTO outbox (seq, destination, due, since, size) VALUES (%s, %s, %s, %s, %s)",
        (seq, destination, due, due if since is None else since, size),
    )


def add_dead_letter(db: Session, seq: int, dead_letter: bytes, now: float) -> None:
    """Store a prompt's dead letter, and add its row."""
    db.execute("UPDATE texts SET letter = %s WHERE seq = %s", (dead_letter, seq))
    add(db, seq, DEAD_LETTER.setting, db.at(now), len(dead_letter))


def claim_deliveries(
    db: Session, destination: str, now: float, most: int, untried_since: float | None
) -> Steps[Claims[Delivery]]:
    """Claim events that are due; see `Journal.claim_deliveries`."""
    is_letter = destination == DEAD_LETTER.setting
    claimed = db.execute(
        "WITH due AS MATERIALIZED (SELECT outbox.seq, outbox.due, outbox.size FROM outbox"
        " JOIN prompts USING (seq) WHERE outbox.owner IS NULL AND destination = %(to)s"
        " AND outbox.due <= %(now)s AND (%(since)s::float8 IS NULL OR attempts = 0"
        " AND deliveries = 0 AND outbox.since >= %(since)s::float8)"
        " ORDER BY outbox.due, outbox.seq LIMIT %(most)s FOR UPDATE OF outbox SKIP LOCKED),"
        " few AS (SELECT seq, sum(size) OVER (ORDER BY due, seq) - size AS before FROM due)"
        " UPDATE outbox SET owner = %(owner)s, token = nextval('tokens'),"
        " attempts = attempts + 1, since = least(outbox.since, %(now)s)"
        " FROM few JOIN prompts USING (seq) JOIN texts USING (seq)"
        f" WHERE outbox.seq = few.seq AND destination = %(to)s AND before < {MOST_CLAIMED}"
        f" RETURNING outbox.seq, outbox.due, id, {'letter' if is_letter else 'event'} AS event,"
        " outbox.since, attempts, accepted, traceparent, tracestate, request_id, submitted,"
        " provider, outbox.held, outbox.token",
        {
            "to": destination,
            "now": db.at(now),
            "since": db.stored(untried_since),
            "most": most,
            "owner": db.owner,
        },
    )
    (row,) = yield db.execute(
        "SELECT min(due) AS due FROM outbox WHERE owner IS NULL AND destination = %s",
        (destination,),
    )
    deliveries = [
        Delivery(
            row["id"],
            bytes(row["event"]),
            since=row["since"] - db.offset,
            attempt=row["attempts"],
            accepted=row["accepted"],
            trace=row["traceparent"] and Trace(row["traceparent"], row["tracestate"]),
            request_id=None if is_letter else row["request_id"],
            held=db.steady(row["held"]),
            destination=destination,
            token=row["token"],
            submitted=None if is_letter else row["submitted"],
            provider=row["provider"],
        )
        for row in sorted(rows_of(claimed), key=lambda row: (row["due"], row["seq"]))
    ]
    return Claims(deliveries, db.steady(row["due"]))


def ended(
    db: Session,
    delivery: Delivery,
    outcome: Delivered | Postponed | Failed,
    now: float,
    date: float,
    leftover: Leftover | None,
) -> Steps[Ended]:
    """End a claim; see `Journal.delivery_ended`. `date` is the wall clock's."""
    claim = (delivery.id, delivery.destination, delivery.token)
    if isinstance(outcome, Postponed):
        rows = yield db.execute(
            "UPDATE outbox SET due = %s, error = %s, held = coalesce(held, %s), owner = NULL"
            f" WHERE {_CLAIMED} RETURNING seq",
            (db.at(outcome.until), outcome.error, db.stored(outcome.held), *claim),
        )
        for row in rows:
            attempts.add(db, row["seq"], outcome.calls)
        return Ended(kept=bool(rows))
    query = f"WITH gone AS (DELETE FROM outbox WHERE {_CLAIMED} RETURNING seq), other AS ("
    is_letter = delivery.destination == DEAD_LETTER.setting
    values: tuple[object, ...] = ()
    state = State.ANSWERED
    if is_letter:
        query += "UPDATE texts SET letter = NULL FROM gone WHERE texts.seq = gone.seq)"
    else:
        error = kept_until = None
        event = Event.DELIVERED
        if isinstance(outcome, Failed):
            error, event = outcome.error, Event.FAILED
        elif outcome.keep:
            kept_until = db.at(now + outcome.keep)
        query += (
            "UPDATE prompts SET state = %s, ended = %s, error = %s, deliveries = deliveries + %s,"
            " kept_until = %s, sent_seconds = %s, sent_status = %s FROM gone"
            " WHERE prompts.seq = gone.seq)"
        )
        state = after(State.ANSWERED, event)
        sent = changes.delivering(outcome)
        values = (state.value, date, error, delivery.attempt, kept_until, *sent)
    rows = yield db.execute(f"{query} SELECT seq FROM gone", (*claim, *values))
    if not rows:
        return Ended(kept=False)
    leftovers.add(db, leftover, now)
    attempts.add(db, rows[0]["seq"], outcome.calls)
    if not is_letter:
        db.ended[state] += 1
    if not is_letter and isinstance(outcome, Failed) and outcome.dead_letter is not None:
        add_dead_letter(db, rows[0]["seq"], outcome.dead_letter, now)
    return Ended(kept=True)


def deliver(db: Session, operations: Sequence[Operation[Any]]) -> Steps[None]:
    """End the claims of a group's deliveries; sets the outcome of each."""
    requests: list[Deliver] = [operation.run for operation in operations]  # type: ignore[misc]
    rows = [
        (
            *(each.delivery.id, each.delivery.destination, each.delivery.token),
            *(each.delivery.attempt, each.date),
            db.at(each.now + each.outcome.keep) if each.outcome.keep else None,
            *changes.delivering(each.outcome),
        )
        for each in requests
    ]
    values = dict(zip(_DELIVERIES, map(list, zip(*rows, strict=True)), strict=True))
    kept = yield Last(db.execute(_DELIVER, values), _DELIVERED, values)
    places = {row["place"] for row in kept}
    for place, operation in enumerate(operations, 1):
        operation.result = Ended(place in places)
