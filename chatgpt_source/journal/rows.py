"""What the engines make of their rows in the same way, and the SQL that they share for it."""

from collections.abc import Callable, Iterable
from typing import Any

from chatgpt_source.http.client.retry_after import LONGEST_RETRY_AFTER
from chatgpt_source.journal import TIME_IS_UP, Answered, Kept, PeerState, Record
from chatgpt_source.prompt import Ask, Delivery, State

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
