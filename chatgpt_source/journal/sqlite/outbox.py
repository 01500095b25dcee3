"""The outbox: one row for each event and destination. Each function runs in a transaction."""

import sqlite3
from collections.abc import Sequence

from attrs import frozen

from chatgpt_source.journal import Claims, Delivered, Ended, Failed, Postponed, changes
from chatgpt_source.journal.sqlite import attempts, leftovers, texts
from chatgpt_source.journal.sqlite.rows import Owner, of_limited_size
from chatgpt_source.journal.sqlite.texts import Part, trace_of
from chatgpt_source.journal.sqlite.together import ForMany, Together, held, insert
from chatgpt_source.journal.states import Event, after
from chatgpt_source.prompt import DEAD_LETTER, Delivery, Leftover, State

_CLAIMED = (
    "seq = (SELECT seq FROM prompts WHERE id = ?) AND destination = ? AND owner = ? AND token = ?"
)


ADD = insert(
    *("outbox", "seq", "destination", "due", "since", "attempts", "owner", "token"),
)
_HELD = ForMany(
    "SELECT json_group_object(place, prompts.seq) FROM given CROSS JOIN prompts USING (id)"
    " CROSS JOIN outbox ON outbox.seq = prompts.seq AND outbox.destination = given.destination"
    " AND outbox.owner = given.owner AND outbox.token = given.token",
    ("place", "id", "destination", "owner", "token"),
)
_DELETE = ForMany(
    "DELETE FROM outbox WHERE (seq, destination) IN (SELECT seq, destination FROM given)",
    ("seq", "destination"),
)
_DELIVER = ForMany(
    f"UPDATE prompts SET {changes.DELIVERED} FROM given WHERE prompts.seq = given.seq",
    ("seq", "date", "attempt", "kept_until", "sent_seconds", "sent_status"),
)


@frozen
class Deliver(Together[Ended]):
    """The end of a claim by a delivery to the prompt's target.

    Attributes:
        owner: Whose claim it is.
        delivery: The claim.
        outcome: How it went.
        now: The time.
        date: The wall clock's.
        leftover: What the provider keeps.
    """

    owner: Owner
    delivery: Delivery
    outcome: Delivered
    now: float
    date: float
    leftover: Leftover | None

    @staticmethod
    def all_of(db: sqlite3.Connection, requests: Sequence["Deliver"]) -> list[Ended]:
        """End the claims of some deliveries; see `Journal.delivery_ended`."""
        seqs = held(db, _HELD, [_claim(each.owner, each.delivery) for each in requests])
        kept = [(seq, each) for seq, each in zip(seqs, requests, strict=True) if seq is not None]
        _DELETE.run(db, [(seq, each.delivery.destination) for seq, each in kept])
        for seq, each in kept:
            leftovers.add(db, each.leftover, each.now)
            attempts.add(db, seq, each.outcome.calls)
        _DELIVER.run(db, [_delivered(seq, each) for seq, each in kept])
        return [Ended(seq is not None) for seq in seqs]


def _delivered(seq: int, end: Deliver) -> tuple[object, ...]:
    """The values of `_DELIVER`."""
    kept_until = end.now + end.outcome.keep if end.outcome.keep else None
    return seq, end.date, end.delivery.attempt, kept_until, *changes.delivering(end.outcome)


def row_of(
    seq: int,
    destination: str,
    due: float,
    *,
    since: float | None = None,
    claim: tuple[int, int] | None = None,
) -> tuple[object, ...]:
    """The row of a prompt's event, for `ADD`.

    Args:
        seq: The prompt's.
        destination: Where the event goes.
        due: When the first attempt is due.
        since: The start of the time that delivering may take; None: `due`.
        claim: The owner and the token of the claim for the first attempt, if it is claimed already.
    """
    owner, token = claim or (None, 0)
    begins = due if since is None else since
    return seq, destination, due, begins, int(claim is not None), owner, token


def add_dead_letter(db: sqlite3.Connection, seq: int, dead_letter: bytes, now: float) -> None:
    """Store a prompt's dead letter, and add its row."""
    texts.set_dead_letter(db, seq, dead_letter)
    ADD.run(db, [row_of(seq, DEAD_LETTER.setting, now)])


def claim_deliveries(
    db: sqlite3.Connection,
    owner: Owner,
    destination: str,
    now: float,
    most: int,
    untried_since: float | None,
) -> Claims[Delivery]:
    """Claim events that are due; see `Journal.claim_deliveries`."""
    part = Part.LETTER if destination == DEAD_LETTER.setting else Part.EVENT
    found = db.execute(
        f"SELECT seq, id, {part.whole} AS event, outbox.since AS since, attempts, accepted,"
        " traceparent, tracestate, request_id, submitted, provider, outbox.held AS held"
        " FROM outbox JOIN prompts USING (seq) JOIN texts USING (seq)"
        " WHERE outbox.owner IS NULL AND destination = ? AND outbox.due <= ?"
        " AND (? IS NULL OR attempts = 0 AND deliveries = 0 AND outbox.since >= ?)"
        " ORDER BY outbox.due, seq LIMIT ?",
        (destination, now, untried_since, untried_since, most),
    )
    rows = of_limited_size(found, lambda row: len(row["event"]))
    deliveries = [
        Delivery(
            row["id"],
            row["event"],
            since=min(row["since"], now),
            attempt=row["attempts"] + 1,
            accepted=row["accepted"],
            trace=trace_of(row),
            request_id=None if part is Part.LETTER else row["request_id"],
            held=row["held"],
            destination=destination,
            token=next(owner.tokens),
            submitted=None if part is Part.LETTER else row["submitted"],
            provider=row["provider"],
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


def ended(
    db: sqlite3.Connection,
    owner: Owner,
    delivery: Delivery,
    outcome: Delivered | Postponed | Failed,
    now: float,
    date: float,
    leftover: Leftover | None,
) -> Ended:
    """End a claim; see `Journal.delivery_ended`. `date` is the wall clock's."""
    claim = _claim(owner, delivery)
    if isinstance(outcome, Postponed):
        changed = db.execute(
            "UPDATE outbox SET due = ?, error = ?, held = coalesce(held, ?), owner = NULL"
            f" WHERE {_CLAIMED} RETURNING seq",
            (outcome.until, outcome.error, outcome.held, *claim),
        ).fetchall()
        for (seq,) in changed:
            attempts.add(db, seq, outcome.calls)
        return Ended(kept=bool(changed))
    ended = db.execute(f"DELETE FROM outbox WHERE {_CLAIMED} RETURNING seq", claim).fetchall()
    if not ended:
        return Ended(kept=False)
    ((seq,),) = ended
    leftovers.add(db, leftover, now)
    attempts.add(db, seq, outcome.calls)
    if delivery.destination == DEAD_LETTER.setting:
        texts.forget_dead_letter(db, seq)
        return Ended(kept=True)
    if isinstance(outcome, Failed):
        db.execute(
            "UPDATE prompts SET state = ?, ended = ?, error = ?, deliveries = deliveries + ?"
            " WHERE seq = ?",
            (
                *(after(State.ANSWERED, Event.FAILED).value, date, outcome.error),
                *(delivery.attempt, seq),
            ),
        )
        if outcome.dead_letter is not None:
            add_dead_letter(db, seq, outcome.dead_letter, now)
    return Ended(kept=True)


def _claim(owner: Owner, delivery: Delivery) -> tuple[str, str, int, int]:
    return delivery.id, delivery.destination, owner.id, delivery.token
