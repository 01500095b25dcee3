"""The steps that asking and delivering share: make the call, postpone the next, record it."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from chatgpt_source.errors import CallError, JournalUnavailable, PeerFailure, Transient
from chatgpt_source.journal import Failed, Postponed, Underway
from chatgpt_source.log import get_logger, log_unexpected
from chatgpt_source.pipeline.decide import Hold, Retry
from chatgpt_source.pipeline.worker import POLL_INTERVAL
from chatgpt_source.prompt import Delivery, Prompt, State
from chatgpt_source.telemetry.spans import Span

log = get_logger(__name__)

MISSING_POLLS, MISSING_FOR = 3, 30.0
"""The polls in a row, and the seconds from the first of them to the last, after which an id that
the provider does not have is given up."""

Random = Callable[[], float]
Traced = TypeVar("Traced", Prompt, Delivery)
Result = TypeVar("Result")


def within(span: Span, work: Traced) -> Traced:
    """The same work as a part of a span."""
    return work if span.trace is work.trace else attrs.evolve(work, trace=span.trace)


async def foreseen(call: Awaitable[Result], otherwise: type[Transient]) -> Result:
    """The result of a call; an unexpected exception is logged and raised as `otherwise`."""
    try:
        return await call
    except CancelledError:
        raise
    except CallError as error:
        raise error.bare()  # noqa: B904 - the same error
    except Exception:  # noqa: BLE001 - a bug must not leave a prompt without a reason
        log_unexpected(log, "a call", Failure())
        raise otherwise("something nobody foresaw went wrong; the log says where") from None


def postponed(
    decision: Retry | Hold,
    error: CallError,
    opens_at: float,
    now: float,
    *,
    possibly_billed: bool = False,
    ends: float | None = None,
) -> Postponed:
    """The end of a claim that is to be repeated, once its peer's breaker opens at the earliest.

    It is due at `ends` at the latest.
    """
    # After a hold, a prompt is due after those that waited before it: each probe takes another one.
    until = max(decision.at if isinstance(decision, Retry) else now, opens_at)
    return Postponed(
        until if ends is None else min(until, ends),
        error.reason,
        possibly_billed=possibly_billed,
        held=now if isinstance(error, PeerFailure) else None,
        request_id=error.request_id,
    )


def is_given_up(polls: int, since: float, now: float) -> bool:
    """Whether a provider has said often and long enough that it does not have an id.

    Args:
        polls: How many polls in a row said so.
        since: When the first of them did.
        now: The time.
    """
    return polls >= MISSING_POLLS and now - since >= MISSING_FOR


def miss(missing: dict[str, str], destination: str) -> None:
    """Note, with words for people, and warn that events wait for a target that is not set."""
    missing[destination] = (
        f"events wait for the target `{destination}`, which `targets` does not have any more, and"
        " are not delivered: put it back there, and start again"
    )
    log.warn("{told}", told=missing[destination])


def report(outcome: Failed | Postponed | Underway, now: float, *, held: bool) -> dict[str, Any]:
    """The observer's values for a call after which the work goes on, or has failed."""
    if isinstance(outcome, Failed):
        return {"state": State.FAILED, "reason": outcome.error}
    return {"wait": max(0.0, outcome.until - now), "held": held}


async def recorded(clock: IReactorTime, record: Callable[[], Deferred[Result]]) -> Result:
    """Record an outcome; while the journal can't be written, try again every `POLL_INTERVAL`."""
    while True:
        try:
            return await record()
        except JournalUnavailable:  # noqa: PERF203 - waiting is the point
            await deferLater(clock, POLL_INTERVAL)
