"""What the journal is told of a call that has ended, in the words that the observer has for it."""

from chatgpt_source.errors import CallError
from chatgpt_source.journal.attempts import Attempt, Kind
from chatgpt_source.pipeline.breaker import Call
from chatgpt_source.prompt import DEAD_LETTER, Ask, Delivery, Receiver, asked_peer
from chatgpt_source.telemetry.observer import AskOutcome, DeliveryOutcome, PollOutcome


def of_ask(
    ask: Ask,
    call: Call,
    now: float,
    date: float,
    fallback: str | None,
    error: CallError | None,
    *,
    answered: bool = False,
    request_id: str | None = None,
) -> Attempt:
    """A call that asked the model, or looked for an answer there.

    Args:
        ask: The claim, with the call's numbers.
        call: The call.
        now: When it ended.
        date: The date of that.
        fallback: The fallback that was called; None: the first provider.
        error: How it failed, if it did.
        answered: Whether it brought the answer.
        request_id: The provider's id of the call, if it succeeded.
    """
    if ask.is_submitted:
        outcome = PollOutcome.of(error, answered=answered).value
    else:
        outcome = AskOutcome.of(error, submitted=error is None and not answered).value
    is_poll = ask.submitted is not None
    seconds = now - call.started
    return Attempt(
        Kind.POLL if is_poll else Kind.ASK,
        ask.polls + 1 if is_poll else ask.total,
        asked_peer(ask.prompt.tier, fallback),
        date - seconds,
        seconds,
        outcome,
        error.status if error else None,
        error.reason if error else None,
        error.request_id if error else request_id,
    )


def of_delivery(
    delivery: Delivery,
    receiver: Receiver,
    call: Call,
    now: float,
    date: float,
    error: CallError | None = None,
    *,
    status: int | None = None,
) -> Attempt:
    """A call to a receiver of events; `status` is its HTTP status if it succeeded."""
    seconds = now - call.started
    return Attempt(
        Kind.DEAD_LETTER if receiver is DEAD_LETTER else Kind.DELIVERY,
        delivery.attempt,
        receiver.label,
        date - seconds,
        seconds,
        DeliveryOutcome.of(error).value,
        error.status if error else status,
        error.reason if error else None,
    )
