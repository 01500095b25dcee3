"""The journal's file: locked, opened, made if need be, and known to be ours."""

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from attrs import frozen

from chatgpt_source.errors import JournalError, JournalInUse
from chatgpt_source.journal.sqlite.lock import Lock, is_locked, lock_journal, require_file
from chatgpt_source.journal.sqlite.schema import (
    APPLICATION_ID,
    BESIDE_AN_OLD_ONE,
    VERSION,
    is_empty,
    require_ours,
    run_script,
    version_of,
)
from chatgpt_source.journal.sqlite.upgrade import upgraded

BUSY = 0.25
"""Seconds to wait for another process that writes; an operator's command takes less."""


@frozen
class OpenJournal:
    """An open file and, if it is a daemon's, the lock that makes this process its only one.

    Attributes:
        path: The file's, without links.
        connection: SQLite's.
        lock: The daemon's lock; None if it is an operator's.
        log: What the write-ahead log was once it was open; None if it is an operator's.
    """

    path: Path
    connection: sqlite3.Connection
    lock: Lock | None
    log: os.stat_result | None = None

    def loss(self) -> str | None:
        """Why what is written would be lost, in words; None where nothing speaks for it.

        Where the log alone was removed, what is in it goes into the file, as far as that can be.
        """
        if self.lock is None:
            return None
        loss = self.lock.loss()
        if loss is None and self.log is not None and not _is_there(_log_of(self.path), self.log):
            with suppress(sqlite3.Error):
                self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            return "its log (-wal) was removed or replaced while in use: put it back, or restart"
        return loss

    def close(self) -> None:
        """Close the file, then let go of the lock."""
        self.connection.close()
        if self.lock is not None:
            self.lock.close()


def open_journal(path: Path) -> OpenJournal:
    """Lock the journal at `path` and open it, making it if there is none: what a daemon does.

    Raises:
        JournalInUse: If it is another daemon's.
        JournalError: If it can't be written, or is not ours to read.
    """
    with in_words(path):
        path = without_links(path)  # SQLite keeps its log beside what a link points at
        lock = lock_journal(path)
        try:
            connection = _connect(path)
            return OpenJournal(path, connection, lock, _log_of(path).stat())
        except BaseException:
            lock.close()
            raise


def open_beside(path: Path) -> OpenJournal:
    """Open the journal at `path` beside the daemon that may be using it: what an operator does.

    Raises:
        JournalInUse: If the daemon's file is another one by now.
        JournalError: If there is none, or it is not ours to read.
    """
    with in_words(path):
        if not path.exists():
            raise JournalError(f"there is no journal {path}: name the daemon's with --journal")
        path = without_links(path)
        require_file(path, path.stat())
        if is_locked(path) and not _log_of(path).exists():
            raise JournalError(
                f"journal {path} is in use by a daemon that knows it by another path: name that one"
            )
        return OpenJournal(path, _connect(path, make=False), None)


def _log_of(path: Path) -> Path:
    return Path(f"{path}-wal")


def _is_there(path: Path, status: os.stat_result) -> bool:
    try:
        return os.path.samestat(path.stat(), status)
    except FileNotFoundError:
        return False
    except OSError:
        return True  # the next write says what is wrong


def without_links(path: Path) -> Path:
    """The path that `path` leads to.

    Raises:
        OSError: If it leads in a circle.
    """
    try:
        return path.resolve()
    except RuntimeError:  # before Python 3.13
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP)) from None


@contextmanager
def in_words(path: Path) -> Iterator[None]:
    """Say in words what the system or SQLite says of the journal at `path`."""
    try:
        yield
    except OSError as error:
        advice = {
            errno.ENOENT: "create its folder",
            errno.ENOTDIR: "create its folder",
            errno.EISDIR: "it must be a file, not a folder: move it away",
        }.get(error.errno or 0, "make it and its folder writable for this user")
        raise JournalError(
            f"journal {path} can't be written ({error.strerror}): {advice}, or set `journal` to"
            " another path"
        ) from error
    except sqlite3.Error as error:
        raise JournalError(
            f"journal {path} can't be used ({error}): restore it, or set `journal` to another path"
        ) from error


def _connect(path: Path, *, make: bool = True) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path, timeout=BUSY, isolation_level=None, check_same_thread=False, cached_statements=256
    )
    try:
        require_ours(connection, path, make=make)
        for file in (path, _log_of(path), Path(f"{path}-shm")):
            if make and file.exists():  # SQLite makes the other two with the first one's mode
                file.chmod(0o600)
        for pragma in (
            "journal_mode = WAL",
            "synchronous = FULL",
            "secure_delete = ON",
            "temp_store = MEMORY",
        ):
            connection.execute(f"PRAGMA {pragma}")
        if make:
            with upgraded(connection, path):
                if is_empty(connection):
                    _make(connection)
                connection.execute("UPDATE probes SET count = count + 1")  # it can be written
        elif version_of(connection) < VERSION:
            connection.execute(BESIDE_AN_OLD_ONE)
        connection.execute("PRAGMA foreign_keys = ON")  # an upgrade may replace a table
    except BaseException:
        connection.close()
        raise
    return connection


def _make(connection: sqlite3.Connection) -> None:
    """Make the tables of a new journal, within the caller's transaction."""
    run_script(connection, "tables")
    connection.execute("INSERT INTO secret VALUES (1, ?)", (os.urandom(32),))
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {VERSION}")


def check_journal(path: Path) -> None:
    """See whether a daemon could use the journal at `path`, once none has it; leave it closed.

    Raises:
        JournalError: If it could not.
    """
    try:
        opened = open_journal(path)
    except JournalInUse:
        try:
            opened = open_beside(path)
        except JournalInUse:
            return  # by one whose file is another by now: nothing can be told of ours yet
    opened.close()
