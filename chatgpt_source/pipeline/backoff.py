"""The wait before the next attempt, in seconds. Pure."""

from collections.abc import Callable

FIRST_BACKOFF = 0.5
LONGEST_BACKOFF = 60.0
FIRST_POLL = 1.0
LONGEST_POLL = 10.0
LONGEST_BATCH_POLL = 60.0
FIRST_LIMIT = 600.0
LONGEST_LIMIT = 3600.0
FIRST_PROBE = 30.0
LONGEST_PROBE = 600.0


def backoff(attempt: int, random: Callable[[], float]) -> float:
    """Seconds to wait after the `attempt`th failure: 0.5 s doubling to 60 s, times 0.75 to 1."""
    return _doubled(FIRST_BACKOFF, attempt, LONGEST_BACKOFF) * (0.75 + random() / 4)


def poll_interval(number: int) -> float:
    """Seconds to the `number`th poll of a submitted prompt: 1 s doubling to 10 s."""
    return _doubled(FIRST_POLL, number, LONGEST_POLL)


def batch_interval(number: int) -> float:
    """Seconds to the `number`th poll of a batch: 1 s doubling to 60 s."""
    return _doubled(FIRST_POLL, number, LONGEST_BATCH_POLL)


def limit_interval(number: int) -> float:
    """Seconds from the `number`th batch in a row without room: 10 min doubling to 1 h."""
    return _doubled(FIRST_LIMIT, number, LONGEST_LIMIT)


def probe_interval(misses: int) -> float:
    """Seconds from the `misses`th hold in a row to the next probe: 30 s doubling to 10 min."""
    return _doubled(FIRST_PROBE, misses, LONGEST_PROBE)


def _doubled(first: float, count: int, longest: float) -> float:
    return min(longest, first * float(2 ** min(count - 1, 20)))
