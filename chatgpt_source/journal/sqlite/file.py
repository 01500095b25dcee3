"""The journal's file: locked, opened, made if need be, and known to be ours."""

import fcntl
import os
import sqlite3
from contextlib import closing
from pathlib import Path

from attrs import frozen

from chatgpt_source.journal.sqlite.schema import APPLICATION_ID, CREATE, VERSION
from chatgpt_source.prompt import JournalError


@frozen
class OpenJournal:
    """An open file and the lock that makes this process its only daemon."""

    path: Path
    connection: sqlite3.Connection
    lock: int

    def close(self) -> None:
        """Close the file, then let go of the lock."""
        self.connection.close()
        os.close(self.lock)


def open_journal(path: Path) -> OpenJournal:
    """Lock the journal at `path` and open it, making it if there is none.

    Raises:
        JournalError: If it can't be written, is another daemon's, or is not ours to read.
    """
    try:
        lock = _lock(path)
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            return OpenJournal(path, _connect(path), lock)
        except BaseException:
            os.close(lock)
            raise
    except OSError as error:
        raise JournalError(
            f"journal {path} can't be written ({error.strerror}): make its folder writable for this"
            " user, or set `journal` to another path"
        ) from error
    except sqlite3.Error as error:
        raise JournalError(f"journal {path} can't be opened: {error}") from error


def _lock(path: Path) -> int:
    """An exclusive lock beside the file: SQLite's own locks leave when any descriptor is closed."""
    lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise JournalError(
            f"journal {path} is in use by another daemon: stop that one, or set `journal` to"
            " another path"
        ) from None
    return lock


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path, timeout=5.0, isolation_level=None, check_same_thread=False, cached_statements=256
    )
    try:
        for pragma in (
            "journal_mode = WAL",
            "synchronous = FULL",
            "secure_delete = ON",
            "temp_store = MEMORY",
            "foreign_keys = ON",
        ):
            connection.execute(f"PRAGMA {pragma}")
        connection.execute("BEGIN IMMEDIATE")
        _check_or_create(connection, path)
        connection.execute("UPDATE probes SET count = count + 1")  # proves that it can be written
        connection.execute("COMMIT")
        path.chmod(0o600)
    except BaseException:
        connection.close()
        raise
    return connection


def _check_or_create(connection: sqlite3.Connection, path: Path) -> None:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if not tables:
        for statement in _statements(CREATE):
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {VERSION}")
    elif application != APPLICATION_ID:
        raise JournalError(
            f"journal {path} is another program's database: set `journal` to another path"
        )
    elif version > VERSION:
        raise JournalError(
            f"journal {path} was written by a newer chatgpt-source (schema {version}, this one"
            f" knows {VERSION}): upgrade, or set `journal` to another path"
        )


def _statements(script: str) -> list[str]:
    """Split a script: `executescript` would commit on its own."""
    statements, statement = [], ""
    for line in script.splitlines():
        statement += line + "\n"
        if sqlite3.complete_statement(statement):
            statements.append(statement)
            statement = ""
    return statements


def check_journal(path: Path) -> None:
    """See whether a daemon could use the journal at `path`, and leave it closed.

    Raises:
        JournalError: If it could not.
    """
    with closing(open_journal(path)):
        pass
