"""The calls for a prompt that have rows of their own."""

import sqlite3
from collections.abc import Sequence

from chatgpt_source.journal import changes
from chatgpt_source.journal.attempts import Attempt


def add(db: sqlite3.Connection, seq: int, calls: Sequence[Attempt]) -> None:
    """Store those of some calls that have one."""
    for row in changes.rows_of(seq, calls):
        db.execute(changes.ADD_CALL, row)
