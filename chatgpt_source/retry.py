"""Which failure is of which class, and how long to wait. Pure: tables and functions.

The classes are those of `prompt.CallError`. Statuses are HTTP's (RFC 9110).
"""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import timezone
from email.utils import parsedate_to_datetime
from types import MappingProxyType

from attrs import field, frozen

from chatgpt_source.prompt import Again, CallError, Hold, Receiver, Rejected

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

_MODEL_HOLDS = {
    401: "check `token`",
    402: "check the account's balance",
    403: "check what `token` may use",
    404: "check `base_url` and `model`",
    405: "check `base_url`",
}
"""Statuses that are wrong with us, whatever the prompt, and what an operator should look at."""

_Class = tuple[type[CallError], str]


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


def should_retry(header: Callable[[str], str | None]) -> bool | None:
    """What `x-should-retry` (OpenAI) says of trying again; None if nothing."""
    return {"true": True, "false": False}.get((header("x-should-retry") or "").strip().lower())


@frozen
class Answered:
    """What the model's server answered, other than with a 200.

    Attributes:
        status: The HTTP status.
        codes: `error.code` and `error.type`: compatible servers use either.
        param: `error.param`.
        wait: What `retry_after` made of the headers.
        should_retry: What `should_retry` did.
    """

    status: int
    codes: Sequence[str] = field(default=(), repr=False)
    param: str | None = field(default=None, repr=False)
    wait: float | None = None
    should_retry: bool | None = None


def model_error(answered: Answered, ours: Mapping[str, str] = MappingProxyType({})) -> CallError:
    """What an answer of the model other than 200 means.

    Args:
        answered: The answer.
        ours: Members of the request that the settings set, and by which of them: a 400 about one is
            not the prompt's fault.
    """
    kind, why = _model_class(answered, ours)
    return kind(
        f"the model answered {answered.status}{why}",
        status=answered.status,
        retry_after=answered.wait,
    )


def _model_class(answered: Answered, ours: Mapping[str, str]) -> _Class:
    status = answered.status
    empty = next(filter(None, map(_EMPTY_ACCOUNT.fullmatch, answered.codes)), None)
    account = f" ({empty[1]})" if empty else ""
    member = re.split(r"[.\[]", answered.param or "", maxsplit=1)[0]
    return _first(
        (status == 429 and bool(empty), Hold, f"{account}: check the account's balance"),
        (status in _MODEL_HOLDS, Hold, f": {_MODEL_HOLDS.get(status)}"),
        (300 <= status < 400, Hold, ", a redirect, which is not followed: check `base_url`"),
        (
            status == 400 and member in ours,
            Hold,
            f" because of `{member}`: check `{ours.get(member)}`",
        ),
        (answered.should_retry is False, Rejected, " and says not to try again"),
        (status in {408, 409, 429} or status >= 500, Again, ""),
        (answered.should_retry is True, Again, " and says to try again"),
        (True, Rejected, ": it refuses this prompt"),
    )


def receiver_error(receiver: Receiver, status: int, wait: float | None = None) -> CallError:
    """What an answer of a receiver of events other than a 2xx means.

    Args:
        receiver: Who answered.
        status: The HTTP status.
        wait: What `retry_after` made of the headers.
    """
    setting = f"check `{receiver.setting}`"
    kind, why = _first(
        (status in {404, 408, 409, 429} or status >= 500, Again, ""),
        (status in {401, 403}, Hold, ": check what it asks of its callers"),
        (status == 410, Hold, f": it asks us to stop: {setting}"),
        (300 <= status < 400, Rejected, f", a redirect, which is not followed: {setting}"),
        (True, Rejected, ": it refuses this event"),
    )
    return kind(f"{receiver.name} answered {status}{why}", status=status, retry_after=wait)


def _first(*rows: tuple[bool, type[CallError], str]) -> _Class:
    """The class and the words of the first row that holds."""
    return next((kind, why) for holds, kind, why in rows if holds)
