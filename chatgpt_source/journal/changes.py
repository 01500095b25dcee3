"""What the end of a claim changes in a prompt's rows, in SQL that every engine reads."""

from collections.abc import Sequence
from typing import Any

from chatgpt_source.journal import (
    Answered,
    AskOutcome,
    Batched,
    Delivered,
    Failed,
    Postponed,
    Underway,
)
from chatgpt_source.journal.attempts import FIRST, LAST, Attempt
from chatgpt_source.journal.states import Event, after
from chatgpt_source.prompt import Ask, State

_COLUMNS = "peer, started, seconds, outcome, status, error, request_id"
_PLACE = f"CASE WHEN n <= {FIRST} THEN n ELSE {FIRST} + 1 + n % {LAST} END"
ADD_CALL = (
    f"INSERT INTO attempts (seq, kind, {_COLUMNS}, place, number)"
    f" SELECT {', '.join('?' * 9)}, {_PLACE}, n FROM (SELECT max(n) AS n FROM (SELECT ? AS n"
    " UNION ALL SELECT max(number) + 1 FROM attempts WHERE seq = ? AND kind = ?) AS numbers) AS one"
    " WHERE TRUE ON CONFLICT (seq, kind, place) DO UPDATE SET number = excluded.number, "
    + ", ".join(f"{each} = excluded.{each}" for each in _COLUMNS.split(", "))
)
"""SQL: adds the row of a call; it takes the row of an earlier one once there are too many.

Polls, and what follows a redrive, count from 1 again: then the numbers of the rows go on.
"""
ANSWERING = {
    "ask_seconds": "float8",
    "answered_by": "text",
    "input_tokens": "bigint",
    "output_tokens": "bigint",
}
"""The columns for the call that brought an answer, and their types."""
_SET_ANSWERING = "".join(f", {each} = ?" for each in ANSWERING)
ANSWERED = (
    f"state = '{after(State.ACCEPTED, Event.ANSWERED).value}', due = NULL, held = NULL,"
    " batch = NULL, error = NULL, owner = NULL, answered = given.date, tries = given.tries,"
    " asks = given.asks, request_id = coalesce(given.request_id, prompts.request_id), "
    + ", ".join(f"{each} = given.{each}" for each in ANSWERING)
)
"""SQL: what an answer changes in its prompt's row, where `given` has its values."""
DELIVERED = (
    f"state = '{after(State.ANSWERED, Event.DELIVERED).value}', ended = given.date, error = NULL,"
    " deliveries = deliveries + given.attempt, kept_until = given.kept_until,"
    " sent_seconds = given.sent_seconds, sent_status = given.sent_status"
)
"""SQL: what a delivery to the target changes in its prompt's row, likewise."""
_LARGEST = 2**63


def change(
    ask: Ask, outcome: AskOutcome, now: float, date: float
) -> tuple[str, tuple[object, ...]]:
    """What the end of a claim changes in its prompt's row: SQL with a `?` a value, and the values.

    `now` is an instant, `date` the wall clock's.
    """
    state = State.SUBMITTED if ask.is_submitted else State.ACCEPTED
    if isinstance(outcome, Underway):
        return _submission(ask, outcome, now)
    if isinstance(outcome, Batched):
        new = after(state, Event.SUBMITTED).value
        change = "state = ?, batch = ?, due = NULL, billed = TRUE, error = NULL, held = NULL"
        return change, (new, outcome.batch)
    if isinstance(outcome, Postponed):
        billed = ask.possibly_billed + outcome.possibly_billed
        delayed = (
            "due = ?, error = ?, possibly_billed = ?, billed = billed OR ?,"
            " held = coalesce(held, ?), request_id = coalesce(?, request_id)"
        )
        values = (
            outcome.until,
            outcome.error,
            billed,
            billed > 0,
            outcome.held,
            outcome.request_id,
        )
        if ask.is_submitted:
            delayed += f", state = '{after(state, Event.LOST).value}', submitted = NULL"
            delayed += ", provider = NULL, batch = NULL"
        if outcome.tier is not None:
            delayed += f", tier = '{outcome.tier.value}'"
        return delayed, values
    moved = "state = ?, due = NULL, held = NULL, request_id = coalesce(?, request_id), batch = NULL"
    if isinstance(outcome, Answered):
        new = after(state, Event.ANSWERED).value
        change = f"{moved}, answered = ?, error = NULL{_SET_ANSWERING}"
        return change, (new, outcome.answer.request_id, date, *answering(outcome))
    new = after(state, Event.FAILED).value
    return f"{moved}, ended = ?, error = ?", (new, outcome.request_id, date, outcome.error)


def _submission(ask: Ask, outcome: Underway, now: float) -> tuple[str, tuple[object, ...]]:
    """What changes in the row of a prompt that the provider works on."""
    since = None
    if outcome.missing:
        since = now if ask.missing_since is None else ask.missing_since
    change = (
        "state = ?, submitted = ?, provider = ?, due = ?, billed = TRUE, error = ?, held = NULL,"
        " polls = ?, missing = ?, missing_since = ?"
    )
    polls = 0 if ask.submitted is None else ask.polls + 1
    missing = ask.missing + 1 if outcome.missing else 0
    new = State.SUBMITTED.value
    provider = outcome.provider if ask.submitted is None else ask.provider
    said = (outcome.submitted, provider, outcome.until, outcome.error)
    return change, (new, *said, polls, missing, since)


def answering(outcome: Answered) -> tuple[object, ...]:
    """The values of `ANSWERING`."""
    call, answer = outcome.calls[-1] if outcome.calls else None, outcome.answer
    return (
        *((call.seconds, call.peer) if call else (None, None)),
        *(_count(answer.input_tokens), _count(answer.output_tokens)),
    )


def _count(told: Any) -> int | None:
    """A provider's count of tokens, if it is one."""
    return told if type(told) is int and 0 <= told < _LARGEST else None


def delivering(outcome: Delivered | Failed) -> tuple[float | None, int | None]:
    """`sent_seconds` and `sent_status`, of the call that delivered the event, if one did."""
    if isinstance(outcome, Failed) or not outcome.calls:
        return None, None
    return outcome.calls[-1].seconds, outcome.calls[-1].status


def rows_of(seq: int, calls: Sequence[Attempt]) -> list[tuple[object, ...]]:
    """The values of `ADD_CALL` for each call that has a row."""
    return [
        (
            *(seq, each.kind.value, each.peer, each.started, each.seconds, each.outcome),
            *(each.status, each.error or "", each.request_id),
            *(each.number, seq, each.kind.value),
        )
        for each in calls
        if each.has_row
    ]
