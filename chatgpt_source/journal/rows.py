"""What the engines make of their rows in the same way, and the SQL that they share for it."""

from collections.abc import Callable, Iterable
from typing import Any

from chatgpt_source.http.client.retry_after import LONGEST_RETRY_AFTER
from chatgpt_source.journal import (
    TIME_IS_UP,
    Answered,
    DeadLetter,
    Detail,
    Kept,
    PeerState,
    Record,
)
from chatgpt_source.journal.attempts import Attempt, Kind
from chatgpt_source.prompt import Ask, Delivery, State, Tier, receiver_at
from chatgpt_source.telemetry.observer import AskOutcome, DeliveryOutcome

BEYOND = 2**63 - 1
"""More than any `seq`."""
RECORD = (
    "SELECT prompts.seq AS seq, id, state, accepted, answered, ended, asks,"
    " deliveries + coalesce(attempts, 0) AS deliveries,"
    " coalesce(prompts.error, outbox.error) AS error, request_id, target,"
    " CASE WHEN coalesce(prompts.owner, outbox.owner) IS NULL"
    " THEN coalesce(prompts.due, outbox.due) END AS due"
    " FROM prompts LEFT JOIN outbox ON outbox.seq = prompts.seq AND destination = target"
)
"""The query for the rows of records."""
DETAIL = (
    "SELECT source, type, tier, batch, submitted, polls, ends, answered_by, input_tokens,"
    " output_tokens, ask_seconds, sent_seconds, sent_status, kept_until,"
    " letter.attempts AS letters, letter.error AS letter_error,"
    " CASE WHEN letter.owner IS NULL THEN letter.due END AS letter_due"
    " FROM prompts LEFT JOIN texts USING (seq) LEFT JOIN outbox AS letter"
    " ON letter.seq = prompts.seq AND destination = 'dead_letter'"
)
"""The query for the row of a prompt's detail."""
CALLS = (
    "SELECT kind, number, peer, started, seconds, outcome, status, error, request_id FROM attempts"
)
"""The query for the rows of calls."""


def in_state(state: State | None) -> str:
    """SQL: whether a prompt is in a state, or in any."""
    return "TRUE" if state is None else f"state = '{state.value}'"


def names_of(states: Iterable[State]) -> str:
    """SQL: a list of states."""
    return ", ".join(f"'{state.value}'" for state in states)


def record_of(row: Any, next_attempt: float | None) -> Record:
    """The record in a row of `RECORD`; `next_attempt` is a date."""
    return Record(
        row["id"],
        State(row["state"]),
        accepted=row["accepted"],
        answered=row["answered"],
        ended=row["ended"],
        asks=row["asks"],
        deliveries=row["deliveries"],
        error=row["error"],
        next_attempt=next_attempt,
        request_id=row["request_id"],
        target=row["target"],
        position=row["seq"],
    )


def kept_of(record: Record, event: bytes | None) -> Kept:
    """A record with its event, if that is kept."""
    timed_out = record.state is State.FAILED and (record.error or "").startswith(TIME_IS_UP)
    return Kept(record, event, timed_out)


def detail_of(
    record: Record, row: Any, calls: Iterable[Any], date_of: Callable[[float], float], now: float
) -> Detail:
    """A prompt's detail.

    Args:
        record: Its record.
        row: Its row of `DETAIL`.
        calls: Its rows of `CALLS`.
        date_of: Makes a stored instant a date.
        now: The stored instant that it is.
    """

    def date(instant: float | None) -> float | None:
        return None if instant is None else date_of(instant)

    attempts = [
        Attempt(
            Kind(call["kind"]),
            *(call["number"], call["peer"], call["started"], call["seconds"], call["outcome"]),
            *(call["status"], call["error"] or None, call["request_id"]),
        )
        for call in calls
    ]
    due = row["letter_due"]
    letter = _dead_letter(record, row, attempts, None if due is None else date(max(due, now)))
    attempts += _successes(record, row, attempts)
    return Detail(
        record,
        sorted(attempts, key=lambda each: (each.started, each.number)),
        tier=Tier(row["tier"]),
        deadline=date(row["ends"]),
        dead_letter=letter,
        kept_until=date(row["kept_until"]),
        **{name: row[name] for name in _AS_STORED},
    )


_AS_STORED = (
    *("source", "type", "batch", "submitted", "answered_by", "input_tokens", "output_tokens"),
    *("ask_seconds", "sent_seconds", "sent_status"),
)


def _successes(record: Record, row: Any, attempts: Iterable[Attempt]) -> Iterable[Attempt]:
    """The calls that have no rows of their own: the answer's, and the event's delivery."""
    if record.answered is not None and row["answered_by"] is not None:
        kind, number = Kind.ASK, record.asks
        if row["submitted"] is not None:
            polls = (each.number + 1 for each in attempts if each.kind is Kind.POLL)
            kind, number = Kind.POLL, max(row["polls"] + 1, *polls, 1)
        seconds = row["ask_seconds"]
        yield Attempt(
            *(kind, number, row["answered_by"], record.answered - seconds, seconds),
            *(AskOutcome.ANSWERED.value, 200, None, record.request_id),
        )
    if record.delivered is not None and row["sent_seconds"] is not None:
        seconds = row["sent_seconds"]
        yield Attempt(
            *(Kind.DELIVERY, record.deliveries, receiver_at(record.target).label),
            *(record.delivered - seconds, seconds, DeliveryOutcome.DELIVERED.value),
            row["sent_status"],
        )


def _dead_letter(
    record: Record, row: Any, attempts: Iterable[Attempt], due: float | None
) -> DeadLetter | None:
    """The dead letter of a failed prompt; once its row is gone, its last call says how it ended."""
    if row["letters"] is not None:
        return DeadLetter("waiting", row["letters"], row["letter_error"], due)
    since = record.failed
    calls = [
        each
        for each in attempts
        if each.kind is Kind.DEAD_LETTER and since is not None and each.started >= since
    ]
    if not calls:
        return None
    last = max(calls, key=lambda each: each.number)
    return DeadLetter("failed" if last.error else "delivered", last.number, last.error)


def peer_of(
    row: Any, now: float, steady: Callable[[float | None], float | None] = lambda stored: stored
) -> PeerState:
    """The state in a peer's row; no instant is later than a peer may ask for.

    `steady` makes a stored instant one of this process.
    """
    since, probe_at, throttled = map(
        steady, (row["since"], row["probe_at"], row["throttled_until"])
    )
    latest = now + LONGEST_RETRY_AFTER
    return PeerState(
        row["held"],
        None if since is None else min(since, now),
        row["misses"],
        now if probe_at is not None and probe_at > latest else probe_at,
        None if throttled is None else min(throttled, latest),
        bool(row["failing"]),
    )


def first_delivery(ask: Ask, outcome: Answered, now: float, token: int) -> Delivery:
    """The claim of an answer's event for its first attempt at the target."""
    return Delivery(
        ask.prompt.id,
        outcome.event,
        since=now,
        attempt=1,
        accepted=ask.prompt.accepted,
        trace=ask.prompt.trace,
        request_id=outcome.answer.request_id,
        destination=ask.prompt.target,
        token=token,
        submitted=ask.submitted,
        provider=ask.provider,
    )
