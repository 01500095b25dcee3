"""Rows by name, and the owner of claims."""

import sqlite3
from collections.abc import Callable, Iterator
from itertools import count

from attrs import field, frozen

MOST_CLAIMED = 2 * 2**20
"""Bytes or characters of text in one claim, to keep its transaction short."""


@frozen
class Now:
    """The moment at which an operation was submitted, by both clocks."""

    steady: float
    date: float

    def date_of(self, instant: float) -> float:
        """The date of an instant."""
        return instant - self.steady + self.date


@frozen
class Owner:
    """One run of a daemon: the id of its row in `owners`, and its next fencing tokens."""

    id: int
    tokens: Iterator[int] = field(factory=lambda: count(1))


def by_name(found: sqlite3.Cursor) -> sqlite3.Cursor:
    """Make a cursor's rows readable by name."""
    found.row_factory = sqlite3.Row
    return found


def of_limited_size(
    found: sqlite3.Cursor, size_of: Callable[[sqlite3.Row], int], most: int = MOST_CLAIMED
) -> list[sqlite3.Row]:
    """A cursor's first rows, up to the one with which their sizes reach `most`."""
    rows, size = [], 0
    for row in by_name(found):
        rows.append(row)
        size += size_of(row)
        if size >= most:
            break
    found.close()
    return rows
