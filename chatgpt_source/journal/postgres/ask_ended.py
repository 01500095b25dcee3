"""End the claims of prompts. Each function runs in a transaction."""

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from chatgpt_source.journal import (
    Answered,
    AskOutcome,
    Batched,
    Ended,
    Failed,
    Postponed,
    Underway,
    changes,
)
from chatgpt_source.journal.group_commit import Operation
from chatgpt_source.journal.postgres import attempts, leftovers, outbox
from chatgpt_source.journal.postgres.session import (
    ANSWERED,
    Last,
    Session,
    Steps,
    Together,
    arrays,
)
from chatgpt_source.journal.rows import first_delivery
from chatgpt_source.journal.states import Event, after
from chatgpt_source.prompt import (
    NOWHERE,
    Ask,
    Leftover,
    State,
)

_OWN_BATCH = " AND EXISTS (SELECT 1 FROM batches WHERE id = %s AND owner = %s)"
_SENT = (
    "INSERT INTO outbox (seq, destination, due, since, attempts, owner, token, size)"
    " SELECT seq, %s::text, %s::float8, %s::float8, %s::integer, %s::bigint, {token},"
    " %s::integer FROM ended RETURNING token"
)
_ANSWERS = {
    "id": "text",
    "token": "bigint",
    "tries": "integer",
    "asks": "integer",
    "request_id": "text",
    "date": "float8",
    "event": "bytea",
    "target": "text",
    "at": "float8",
    "owner": "bigint",
    **changes.ANSWERING,
}
"""What is given of an answer, by name."""
_ANSWER = (
    f"WITH {arrays(_ANSWERS)},"
    f" ended AS (UPDATE prompts SET {changes.ANSWERED} FROM given"
    " WHERE prompts.id = given.id AND prompts.token = given.token"
    " AND prompts.owner IS NOT NULL RETURNING prompts.seq, place),"
    " text AS (UPDATE texts SET event = given.event FROM ended JOIN given USING (place)"
    " WHERE texts.seq = ended.seq),"
    " sent AS (INSERT INTO outbox (seq, destination, due, since, attempts, owner, token, size)"
    " SELECT seq, target, at, at, (owner IS NOT NULL)::integer, owner,"
    " CASE WHEN owner IS NULL THEN 0 ELSE nextval('tokens') END, octet_length(event)"
    " FROM ended JOIN given USING (place) RETURNING seq, token)"
    " SELECT place, token FROM ended JOIN sent USING (seq)"
)
_ANSWERED = (
    f"WITH {arrays(_ANSWERS)} SELECT place, outbox.token FROM given JOIN prompts USING (id, token)"
    " JOIN outbox USING (seq) WHERE destination = given.target AND answered = date"
)


@attrs.frozen
class Answer(Together):
    """The end of a claim by an answer whose event goes to a target.

    Attributes:
        ask: The claim.
        outcome: The answer.
        now: The time.
        date: The wall clock's.
        claim: Whether to claim the event's first delivery.
    """

    rank = ANSWERED
    ask: Ask
    outcome: Answered
    now: float
    date: float
    claim: bool

    @property
    def size(self) -> int:
        """Bytes of its event."""
        return len(self.outcome.event)

    @staticmethod
    def all_of(db: Session, operations: Sequence[Operation[Any]]) -> Steps[None]:
        """End the claims of a group's answers."""
        return answer(db, operations)


def ended(
    db: Session,
    ask: Ask,
    outcome: AskOutcome,
    now: float,
    date: float,
    *,
    claim: bool,
    leftover: Leftover | None,
) -> Steps[Ended]:
    """End a claim; see `Journal.ask_ended`. `date` is the wall clock's."""
    change, values = changes.change(
        attrs.evolve(ask, missing_since=db.stored(ask.missing_since)),
        _stored(db, outcome),
        db.at(now),
        date,
    )
    query = (
        f"WITH ended AS (UPDATE prompts SET {change.replace('?', '%s')}, tries = %s, asks = %s,"
        " owner = NULL WHERE id = %s AND token = %s AND owner IS NOT NULL"
        f"{_OWN_BATCH if isinstance(outcome, Batched) else ''} RETURNING seq, day, billed)"
    )
    more: tuple[object, ...] = (outcome.batch, db.owner) if isinstance(outcome, Batched) else ()
    sent = "NULL"
    nowhere = ask.prompt.target == NOWHERE
    if isinstance(outcome, Answered):
        query += ", text AS (UPDATE texts SET event = %s FROM ended WHERE texts.seq = ended.seq)"
        more = (outcome.event,)
        if not nowhere:
            query += f", sent AS ({_SENT.format(token='nextval($$tokens$$)' if claim else '0')})"
            sent = "(SELECT token FROM sent)"
            at, owner = db.at(now), db.owner if claim else None
            more += (ask.prompt.target, at, at, int(claim), owner, len(outcome.event))
    rows = yield db.execute(
        f"{query} SELECT seq, day, billed, {sent} AS token FROM ended",
        (*values, ask.attempt, ask.total, ask.prompt.id, ask.token, *more),
    )
    if not rows:
        return Ended(kept=False)
    (row,) = rows
    leftovers.add(db, leftover, now)
    if not isinstance(outcome, Batched):
        attempts.add(db, row["seq"], outcome.calls)
    if isinstance(outcome, Answered) and nowhere:
        _finish(db, row["seq"], outcome, now, date)
    elif isinstance(outcome, Answered) and claim:
        return Ended(kept=True, delivery=first_delivery(ask, outcome, now, row["token"]))
    elif isinstance(outcome, Failed):
        _fail(db, row, outcome, now)
    return Ended(kept=True)


def _finish(db: Session, seq: int, outcome: Answered, now: float, date: float) -> None:
    """An answer that goes nowhere is finished."""
    state = after(State.ACCEPTED, Event.FINISHED)
    db.ended[state] += 1
    kept_until = db.at(now + outcome.keep) if outcome.keep else None
    db.execute(
        "UPDATE prompts SET state = %s, ended = %s, kept_until = %s WHERE seq = %s",
        (state.value, date, kept_until, seq),
    )


def _fail(db: Session, row: Mapping[str, Any], outcome: Failed, now: float) -> None:
    """Count a failure, store its dead letter, and give back its unit."""
    db.ended[after(State.ACCEPTED, Event.FAILED)] += 1
    if outcome.dead_letter is not None:
        outbox.add_dead_letter(db, row["seq"], outcome.dead_letter, now)
    if outcome.give_back and not row["billed"]:
        db.returned[row["day"]] += 1


def answer(db: Session, operations: Sequence[Operation[Any]]) -> Steps[None]:
    """End the claims of a group's answers; sets the outcome of each."""
    requests: list[Answer] = [operation.run for operation in operations]  # type: ignore[misc]
    # A delivery that nobody waits for any more must not be claimed.
    claims = [
        each.claim and not operation.waiter.called
        for operation, each in zip(operations, requests, strict=True)
    ]
    rows = [
        (
            *(each.ask.prompt.id, each.ask.token, each.ask.attempt, each.ask.total),
            *(each.outcome.answer.request_id, each.date, each.outcome.event),
            *(each.ask.prompt.target, db.at(each.now), db.owner if claim else None),
            *changes.answering(each.outcome),
        )
        for each, claim in zip(requests, claims, strict=True)
    ]
    values = dict(zip(_ANSWERS, map(list, zip(*rows, strict=True)), strict=True))
    kept = yield Last(db.execute(_ANSWER, values), _ANSWERED, values)
    tokens = {row["place"]: row["token"] for row in kept}
    for place, (operation, each) in enumerate(zip(operations, requests, strict=True), 1):
        delivery = None
        if each.claim and place in tokens:
            delivery = first_delivery(each.ask, each.outcome, each.now, tokens[place])
        operation.result = Ended(place in tokens, delivery)


def _stored(db: Session, outcome: AskOutcome) -> AskOutcome:
    """The outcome with the database's instants."""
    if isinstance(outcome, Postponed):
        return attrs.evolve(outcome, until=db.at(outcome.until), held=db.stored(outcome.held))
    if isinstance(outcome, Underway):
        return attrs.evolve(outcome, until=db.at(outcome.until))
    return outcome
