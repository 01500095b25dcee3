"""Reads what a peer's response says about retrying. Pure."""

import re
from collections.abc import Callable
from datetime import timezone
from email.utils import parsedate_to_datetime

LONGEST_RETRY_AFTER = 3600.0
"""The most seconds that we wait for a peer."""


def read_retry_after(header: Callable[[str], str | None], now: float) -> float | None:
    """How long a peer asks us to wait, in seconds, at most an hour; None if it does not say.

    `retry-after-ms` (OpenAI) has priority over `Retry-After`, which has seconds or a date (RFC
    9110, section 10.2.3). A value that can't be read, or is not in the future, is ignored.
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


def read_should_retry(header: Callable[[str], str | None]) -> bool | None:
    """The value of `x-should-retry` (OpenAI); None if it is absent or unclear."""
    return {"true": True, "false": False}.get((header("x-should-retry") or "").strip().lower())
