"""What the end of a claim changes in a prompt's row, in SQL that every engine reads."""

from chatgpt_source.journal import Answered, AskOutcome, Batched, Postponed, Underway
from chatgpt_source.journal.states import Event, after
from chatgpt_source.prompt import Ask, State


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
        return f"{moved}, answered = ?, error = NULL", (new, outcome.answer.request_id, date)
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
