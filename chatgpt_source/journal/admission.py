"""Whether prompts may be admitted."""

from chatgpt_source.errors import BacklogFull, Draining, Paused, QuotaUsedUp
from chatgpt_source.journal import Terms
from chatgpt_source.journal.group_commit import RETRY_AFTER

PAUSED_RETRY_AFTER = 60.0
"""Seconds after which a caller may see whether the intake goes on."""


def check(terms: Terms, used: int, backlog: int, count: int) -> None:
    """Check that the daemon admits so many prompts beside its backlog.

    Raises:
        Draining: If it admits none any more.
        Paused: If the intake is paused.
        BacklogFull: If too many wait already.
    """
    if terms.draining:
        raise Draining("the daemon is stopping", retry_after=RETRY_AFTER)
    if terms.paused:
        raise Paused("an operator has paused the intake", retry_after=PAUSED_RETRY_AFTER)
    fits = used + count <= terms.limit  # else the day's limit is the reason
    if fits and backlog + count > terms.max_backlog:
        reason = f"{terms.max_backlog} prompts wait already"
        if count > 1:
            reason = f"{backlog} prompts wait, {terms.max_backlog} may, and these are {count}"
        raise BacklogFull(reason, retry_after=RETRY_AFTER)


def check_units(terms: Terms, used: int, count: int, now: float) -> None:
    """Check that a day that has `used` of its units taken has so many left.

    Raises:
        QuotaUsedUp: If it has not.
    """
    if used + count > terms.limit:
        reason = f"the day's limit of {terms.limit} prompts is used up"
        left = max(0, terms.limit - used)
        if left > 0:
            reason = f"the day has {left} of its {terms.limit} prompts left, and these are {count}"
        raise QuotaUsedUp(reason, retry_after=terms.day.end - now, left=left)
