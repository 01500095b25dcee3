"""Decide what to do with a prompt after a failed call. Pure.

A hold is a failure of the settings or of the peer, so all calls to the peer wait. If other prompts'
calls succeed, the failure is the prompt's own, and the other calls go on.
"""

from collections.abc import Callable

from attrs import frozen

from chatgpt_source.errors import CallError, PeerFailure, Permanent
from chatgpt_source.pipeline.backoff import backoff, probe_interval

POSSIBLY_BILLED_ATTEMPTS = 3
"""Asks that may have been billed, after which a prompt fails."""
RECENT = 60.0
"""Seconds after a success in which the peer counts as working."""
FEW, MOST_IN_A_ROW = 10, 50
"""Refusals in a row, without a success: from `FEW` on, a repeated 403 or 404 is tried again; from
`MOST_IN_A_ROW` on, every refusal is a hold."""

_OWN = {400, 403, 404}
"""Statuses of a hold that one prompt can cause."""


@frozen
class Tried:
    """The calls for the prompt.

    Attributes:
        attempt: Which call of its kind failed, from 1.
        started: When that call was started.
        gave_up: Whether `give_up_after` is over.
        tried_out: Whether no further call is allowed.
        held: When an earlier call first met a hold; None if none has.
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
    """The calls to the same peer for other prompts.

    Attributes:
        started: When the latest call that succeeded was started.
        succeeded: When a call last succeeded.
        refusals: Calls since then that failed by the prompt's own fault.
        held: Whether all calls are held.
    """

    started: float
    succeeded: float
    refusals: int = 0
    held: bool = False


@frozen
class Retry:
    """Try the prompt again at an instant; calls for other prompts go on."""

    at: float


@frozen
class Hold:
    """Hold all calls to the peer; the prompt waits, too."""


@frozen
class Fail:
    """Fail the prompt, with a reason."""

    reason: str


Decision = Retry | Hold | Fail


def decide(
    error: CallError, tried: Tried, others: Others, now: float, random: Callable[[], float]
) -> Decision:
    """Decide what to do with a prompt.

    Args:
        error: How its call failed.
        tried: Its calls.
        others: The calls for other prompts.
        now: The time.
        random: Numbers from 0 to 1, for the backoff's jitter.
    """
    if isinstance(error, Permanent):
        return Fail(error.reason)
    if isinstance(error, PeerFailure):
        return _decide_hold(error, tried, others, now, random)
    if tried.tried_out:
        return _given_up(error, "the last attempt of those allowed")
    if tried.gave_up:
        return _given_up(error, "after `give_up_after`")
    return Retry(now + (error.retry_after or backoff(tried.attempt, random)))


def _decide_hold(
    error: PeerFailure, tried: Tried, others: Others, now: float, random: Callable[[], float]
) -> Decision:
    """Decide whether a hold is the prompt's own fault.

    It is, if a call that was started later succeeded. A call that was started earlier proves less,
    since the peer may have changed in between. It counts for asks alone: a 400 fails the prompt at
    once, a 403 or 404 must occur again, and not after many refusals in a row.
    """
    recent = now - others.succeeded <= RECENT
    own = error.status in _OWN
    if recent and others.started > (tried.started if tried.held is None else tried.held):
        if own:
            return _given_up(error, "while others succeed")
        if tried.gave_up:
            return _given_up(error, "after `give_up_after`, while others succeed")
        if tried.held is not None:
            return Retry(now + probe_interval(tried.attempt))
    if not (recent and own and tried.asked) or others.held or others.refusals >= MOST_IN_A_ROW:
        return Hold()
    if error.status == 400 or (tried.held is not None and others.refusals < FEW):
        return _given_up(error, "while others succeed")
    return Retry(now + backoff(tried.attempt, random))


def _given_up(error: CallError, why: str) -> Fail:
    """Fail with the reason of the last call, by which failures are grouped, and why it is over."""
    has_advice = ": " in error.reason
    return Fail(f"{error.reason} ({why})" if has_advice else f"{error.reason}: {why}")
