"""What asking and delivering do alike: make a call that is foreseen, and record what it brought."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from chatgpt_source.errors import CallError, JournalUnavailable, Transient
from chatgpt_source.log import get_logger, log_unexpected
from chatgpt_source.pipeline.worker import POLL_INTERVAL
from chatgpt_source.prompt import Delivery, Prompt
from chatgpt_source.telemetry.spans import Span

log = get_logger(__name__)

Random = Callable[[], float]
Traced = TypeVar("Traced", Prompt, Delivery)
Result = TypeVar("Result")


def within(span: Span, work: Traced) -> Traced:
    """Work that is part of a span."""
    return work if span.trace is work.trace else attrs.evolve(work, trace=span.trace)


async def foreseen(call: Awaitable[Result], otherwise: type[Transient]) -> Result:
    """What a call brings; an exception nobody foresaw counts as the class `otherwise`."""
    try:
        return await call
    except (CallError, CancelledError):
        raise
    except Exception:  # noqa: BLE001 - a bug must not end a prompt's way without a reason
        log_unexpected(log, "a call", Failure())
        raise otherwise("something nobody foresaw went wrong; the log says where") from None


async def recorded(clock: IReactorTime, record: Callable[[], Deferred[Result]]) -> Result:
    """Record what a call brought, as soon as the journal can be written."""
    while True:
        try:
            return await record()
        except JournalUnavailable:  # noqa: PERF203 - waiting is the point
            await deferLater(clock, POLL_INTERVAL)
