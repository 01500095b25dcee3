"""The calls for a prompt that have rows of their own."""

from collections.abc import Sequence

from chatgpt_source.journal import changes
from chatgpt_source.journal.attempts import Attempt
from chatgpt_source.journal.postgres.session import Session

_ADD = changes.ADD_CALL.replace("%", "%%").replace("?", "%s")


def add(db: Session, seq: int, calls: Sequence[Attempt]) -> None:
    """Store those of some calls that have one."""
    for row in changes.rows_of(seq, calls):
        db.execute(_ADD, row)
