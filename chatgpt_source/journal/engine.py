"""The choice of the journal's engine. Today there is one, SQLite."""

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from chatgpt_source.journal import Journal
from chatgpt_source.journal.sqlite import (
    OpenJournal,
    SqliteJournal,
    check_journal,
    open_beside,
    open_journal,
)
from chatgpt_source.journal.sqlite.look import Seen, look

__all__ = [
    "OpenJournal",
    "Seen",
    "check_journal",
    "journal_in",
    "look",
    "open_beside",
    "open_journal",
]


def journal_in(
    opened: OpenJournal,
    clock: IReactorTime,
    in_thread: Callable[[Callable[[], None]], Deferred[None]],
) -> Journal:
    """The journal in an open file.

    Args:
        opened: By `open_journal` or `open_beside`; closed by the journal's `close`.
        clock: The time.
        in_thread: Runs a function in the journal's own thread.
    """
    return SqliteJournal(opened, clock, in_thread)
