"""Rows by name, and the claims on them."""

import sqlite3
from collections.abc import Iterator
from itertools import count

from attrs import field, frozen

MOST_CLAIMED = 2 * 2**20
"""Bytes or characters of text after which a claim takes no more, so that no commit waits long."""


@frozen
class Owner:
    """One run of a daemon: the id of its row in `owners`, and the numbers of its claims."""

    id: int
    tokens: Iterator[int] = field(factory=lambda: count(1))


def by_name(found: sqlite3.Cursor) -> sqlite3.Cursor:
    """Let the rows that were found be read by name."""
    found.row_factory = sqlite3.Row
    return found


def of_limited_size(found: sqlite3.Cursor, text: str) -> list[sqlite3.Row]:
    """The first of the rows that were found, one at least, by the size of a text in each."""
    rows, size = [], 0
    for row in by_name(found):
        rows.append(row)
        size += len(row[text])
        if size >= MOST_CLAIMED:
            break
    found.close()
    return rows


def seq_of(db: sqlite3.Connection, prompt_id: str) -> int | None:
    """The number of a prompt; None if there is none."""
    row = db.execute("SELECT seq FROM prompts WHERE id = ?", (prompt_id,)).fetchone()
    return row[0] if row else None
