"""What becomes of a prompt after a call that failed. Pure: what is known goes in, a decision out.

A hold is a failure that is wrong with us or the peer, so all calls are held. Where others succeed
meanwhile, it is that prompt's own instead, which must hold nobody else.
"""

from collections.abc import Callable

from attrs import frozen

from chatgpt_source.errors import CallError, PeerFailure, Permanent
from chatgpt_source.pipeline.backoff import backoff, probe_interval

POSSIBLY_BILLED_ATTEMPTS = 3
"""The first ask and two more: each may have cost money."""
RECENT = 60.0
"""Seconds for which a success shows that a peer works."""
FEW, MOST_IN_A_ROW = 10, 50
"""So many refusals without a success between them are hardly, or not at all, the prompts' own."""

_OWN = {400, 403, 404}
"""Statuses of a hold that may as well be one prompt's own."""


@frozen
class Tried:
    """How the calls for a prompt have gone.

    Attributes:
        attempt: Which call of its kind failed, from 1.
        started: When that call was started.
        gave_up: Whether `give_up_after` is over.
        tried_out: Whether it was the last of those allowed.
        held: When one of its calls first met a hold; None if none has before.
        asked: Whether it was a call to the model.
    """

    attempt: int
    started: float
    gave_up: bool = False
    tried_out: bool = False
    held: float | None = None
    asked: bool = False


@frozen
class Others:
    """How the calls to the same peer go for other prompts.

    Attributes:
        started: When the youngest of the calls that succeeded was started.
        succeeded: When the last of them ended.
        refusals: Calls since then that were refused to one prompt, as it seemed.
        held: Whether all calls are held.
    """

    started: float
    succeeded: float
    refusals: int = 0
    held: bool = False


@frozen
class Retry:
    """Try the prompt again, from this instant on; no other is concerned."""

    at: float


@frozen
class Hold:
    """Hold all calls to the peer, and let the prompt wait with the others."""


@frozen
class Fail:
    """Set the prompt aside, for this reason."""

    reason: str


Decision = Retry | Hold | Fail


def decide(
    error: CallError, tried: Tried, others: Others, now: float, random: Callable[[], float]
) -> Decision:
    """What becomes of a prompt.

    Args:
        error: How its call failed.
        tried: How its calls have gone.
        others: How those for other prompts go.
        now: The time.
        random: Numbers from 0 to 1, for the backoff's jitter.
    """
    if isinstance(error, Permanent):
        return Fail(error.reason)
    if isinstance(error, PeerFailure):
        return _decide_hold(error, tried, others, now, random)
    if tried.tried_out:
        return Fail(f"{error.reason} (the last attempt of those allowed)")
    if tried.gave_up:
        return Fail(f"{error.reason} (after `give_up_after`)")
    return Retry(now + (error.retry_after or backoff(tried.attempt, random)))


def _decide_hold(
    error: PeerFailure, tried: Tried, others: Others, now: float, random: Callable[[], float]
) -> Decision:
    """Whose fault a hold is.

    Others that were called later and succeeded prove that it is this prompt's. Those called before
    prove little: a peer that has changed its mind may still finish them. They count for the model
    alone, and for a 400 at once: a 403 or 404 must come again, and not to many in a row.
    """
    recent = now - others.succeeded <= RECENT
    own = error.status in _OWN
    if recent and others.started > (tried.started if tried.held is None else tried.held):
        if own:
            return Fail(f"{error.reason} (while others succeed)")
        if tried.gave_up:
            return Fail(f"{error.reason} (after `give_up_after`, while others succeed)")
        if tried.held is not None:
            return Retry(now + probe_interval(tried.attempt))
    if not (recent and own and tried.asked) or others.held or others.refusals >= MOST_IN_A_ROW:
        return Hold()
    if error.status == 400 or (tried.held is not None and others.refusals < FEW):
        return Fail(f"{error.reason} (while others succeed)")
    return Retry(now + backoff(tried.attempt, random))


def next_try(decision: Retry | Hold, opens_at: float, now: float) -> float:
    """When a prompt is tried again, not before its peer may be called.

    Args:
        decision: What was decided.
        opens_at: When the peer may be called.
        now: The time.
    """
    # One that is held is due behind those that waited before it: each probe takes a different one.
    return max(decision.at if isinstance(decision, Retry) else now, opens_at)
