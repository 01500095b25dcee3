"""The engines of the journal, and the choice of one: a SQLite file, or a PostgreSQL database."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from twisted.internet.interfaces import IReactorTime

from chatgpt_source.errors import JournalError
from chatgpt_source.journal import Journal
from chatgpt_source.journal.group_commit import InThread
from chatgpt_source.journal.seen import Seen
from chatgpt_source.journal.sqlite.engine import SqliteEngine

Opened = Callable[[IReactorTime, InThread], Journal]
"""An open journal; its `close` closes what was opened."""

_URL = re.compile(r"postgres(ql)?://")


class Engine(Protocol):
    """Opens one journal, of one kind."""

    @property
    def location(self) -> str:
        """The journal's place, for people; it has no secret."""

    @property
    def is_remote(self) -> bool:
        """Whether it is reached over a network: opening it may take seconds."""

    def check(self, *, by_writing: bool) -> None:
        """Check what a start can before it opens the journal; a file is created.

        Args:
            by_writing: Whether to write to it, too.

        Raises:
            JournalError: If a daemon could not use it.
        """

    def look(self, day: str, now: float, *, as_writer: bool = True) -> Seen:
        """Read it, and create and change nothing.

        Args:
            day: The day whose units are counted.
            now: The time.
            as_writer: Whether this process is to be able to write it, as its daemon is.

        Raises:
            JournalError: If a daemon could not use it.
        """

    def long_work(self) -> str | None:
        """What `open` does that takes long, network apart, for people; None if nothing does.

        Raises:
            JournalInUse: If there is such work, and another daemon uses the journal.
            JournalError: If it can't be used.
        """

    def open(self, is_stopped: Callable[[], bool] = ...) -> Opened:
        """Open it for a daemon.

        Args:
            is_stopped: Called now and then, in this thread, by what takes long; returns whether to
                stop that. Then `open` raises an exception.

        Raises:
            JournalInUse: If another daemon uses it, and it is for one.
            JournalUnreachable: If it can't be reached now.
            JournalError: If it can't be used.
        """

    def open_beside(self) -> Opened:
        """Open it for an operator's command, beside daemons.

        Raises:
            JournalError: If it can't be used, or there is none.
        """


def is_url(where: str) -> bool:
    """Whether a journal is in PostgreSQL, not in a file."""
    return _URL.match(where) is not None


def engine_of(
    where: str, password: Callable[[], str] | None = None, folder: Path = Path()
) -> Engine:
    """The engine of a journal.

    Args:
        where: A path, or a URL `postgresql://`.
        password: The database's password, if it is not in the URL.
        folder: What a relative path is relative to.

    Raises:
        JournalError: If its driver is not installed, or the URL can't be read.
    """
    if not is_url(where):
        return SqliteEngine(Path(folder, where).absolute())
    try:
        from chatgpt_source.journal.postgres.engine import (  # noqa: PLC0415 - an extra
            PostgresEngine,
        )
    except ImportError:
        raise JournalError(
            "a journal in PostgreSQL needs the extra `postgres`: in the folder of the source, pip"
            " install '.[postgres]'"
        ) from None
    return PostgresEngine.of(where, password)
