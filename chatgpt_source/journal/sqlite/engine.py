"""A journal in a SQLite file, as an engine."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from attrs import frozen

from chatgpt_source.journal.seen import Seen
from chatgpt_source.journal.sqlite import (
    SqliteJournal,
    check_journal,
    long_work,
    open_beside,
    open_journal,
)
from chatgpt_source.journal.sqlite.look import look


@frozen
class SqliteEngine:
    """An `Engine`; see there.

    Attributes:
        path: The file's path.
    """

    path: Path
    is_remote = False

    @property
    def location(self) -> str:
        """The path."""
        return str(self.path)

    def check(self, *, by_writing: bool) -> None:
        """See `Engine.check`."""
        check_journal(self.path, by_writing=by_writing)

    def look(self, day: str, now: float, *, as_writer: bool = True) -> Seen:
        """See `Engine.look`."""
        return look(self.path, day, now, as_writer=as_writer)

    def long_work(self) -> str | None:
        """See `Engine.long_work`."""
        return long_work(self.path)

    def open(self, is_stopped: Callable[[], bool] = lambda: False) -> "partial[SqliteJournal]":
        """See `Engine.open`."""
        return partial(SqliteJournal, open_journal(self.path, is_stopped))

    def open_beside(self) -> "partial[SqliteJournal]":
        """See `Engine.open_beside`."""
        return partial(SqliteJournal, open_beside(self.path))
