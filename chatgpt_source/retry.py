"""Which failure is of which class, and how long to wait. Pure: tables and functions.

The classes are those of `prompt.CallError`. Statuses are HTTP's (RFC 9110).
"""

import re
from collections.abc import Callable, Iterable
from datetime import timezone
from email.utils import parsedate_to_datetime

from chatgpt_source.prompt import Again, CallError, Hold, Rejected

FIRST_BACKOFF = 0.5
LONGEST_BACKOFF = 60.0
LONGEST_RETRY_AFTER = 3600.0
FIRST_PROBE = 30.0
LONGEST_PROBE = 600.0
MAYBE_BILLED_ATTEMPTS = 3
"""The first ask and two more: each may have cost money."""

_EMPTY_ACCOUNT = re.compile(
    r"(?:\w*_(?=spend_limit))?(insufficient_quota|credit_balance_exhausted"
    r"|organization_usage_limit_exceeded|(?<=_)spend_limit_exceeded)"
)
_OUR_PARAMETERS = frozenset({"model", "max_completion_tokens", "max_tokens"})
"""Members of the request that the configuration sets: a 400 about one is not the prompt's fault."""

_ADVICE = {
    401: "check `token`",
    402: "check the account's balance",
    403: "check what `token` may use",
    404: "check `base_url` and `model`",
    405: "check `base_url`",
    410: "the target asks us to stop: check `target`",
}


def backoff(attempt: int, random: Callable[[], float]) -> float:
    """Seconds to wait after the `attempt`th failure: 0.5 s doubling to 60 s, times 0.75 to 1."""
    return _doubled(FIRST_BACKOFF, attempt, LONGEST_BACKOFF) * (0.75 + random() / 4)


def probe_interval(misses: int) -> float:
    """Seconds from the `misses`th hold in a row to the next probe: 30 s doubling to 10 min."""
    return _doubled(FIRST_PROBE, misses, LONGEST_PROBE)


def _doubled(first: float, count: int, longest: float) -> float:
    return min(longest, first * float(2 ** min(count - 1, 20)))


def retry_after(header: Callable[[str], str | None], now: float) -> float | None:
    """How long a peer asks us to wait, in seconds, at most an hour; None if it does not say.

    `retry-after-ms` (OpenAI) goes before `Retry-After`, in seconds or as a date (RFC 9110, section
    10.2.3). What can't be read, or is not in the future, counts as not said.
    """
    value = header("retry-after")
    waits = (
        (_number(header("retry-after-ms")) or 0) / 1000,
        _number(value) or 0,
        _until(value, now) if value and _number(value) is None else 0,
    )
    return next((min(wait, LONGEST_RETRY_AFTER) for wait in waits if wait > 0), None)


def _number(value: str | None) -> float | None:
    plain = re.fullmatch(r"[+-]?[0-9]{1,30}(?:\.[0-9]*)?", (value or "").strip())
    return float(plain[0]) if plain else None


def _until(value: str, now: float) -> float:
    try:
        date = parsedate_to_datetime(value)
        if date.tzinfo is None:  # RFC 9110, section 5.6.7: all are in UTC
            date = date.replace(tzinfo=timezone.utc)
        return date.timestamp() - now
    except (TypeError, ValueError, OverflowError):
        return 0


def model_error(
    status: int, codes: Iterable[str], param: str | None, wait: float | None = None
) -> CallError:
    """What an answer of the model other than 200 means.

    Args:
        status: The HTTP status.
        codes: `error.code` and `error.type`: compatible servers use either.
        param: `error.param`.
        wait: What `retry_after` made of the headers.
    """
    told = f"the model answered {status}"
    empty = next(filter(None, map(_EMPTY_ACCOUNT.fullmatch, codes)), None)
    if status == 429 and empty:
        return Hold(f"{told} ({empty[1]}): check the account's balance", status=status)
    if status in {408, 409, 429} or status >= 500:
        return Again(told, status=status, retry_after=wait)
    if status in {401, 402, 403, 404, 405}:
        return Hold(f"{told}: {_ADVICE[status]}", status=status)
    if 300 <= status < 400:
        return Hold(f"{told}, a redirect, which is not followed: check `base_url`", status=status)
    if status == 400 and param in _OUR_PARAMETERS:
        setting = "max_tokens" if param == "max_completion_tokens" else param
        return Hold(f"{told} because of `{param}`: check `{setting}`", status=status)
    return Rejected(f"{told}: it refuses this prompt", status=status)


def target_error(status: int, wait: float | None = None) -> CallError:
    """What an answer of the target other than a 2xx means; arguments as for `model_error`."""
    told = f"the target answered {status}"
    if status in {404, 408, 409, 429} or status >= 500:
        return Again(told, status=status, retry_after=wait)
    if status in {401, 403, 410}:
        advice = "check what the target asks of its callers"
        return Hold(f"{told}: {_ADVICE[410] if status == 410 else advice}", status=status)
    if 300 <= status < 400:
        return Rejected(f"{told}, a redirect, which is not followed: check `target`", status=status)
    return Rejected(f"{told}: it refuses this event", status=status)
