"""Lock, create and open the journal's file."""

import errno
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from functools import partial
from pathlib import Path

from attrs import frozen

from chatgpt_source.errors import JournalError, JournalInUse
from chatgpt_source.journal.sqlite.lock import Lock, is_locked, lock_journal, require_file
from chatgpt_source.journal.sqlite.schema import (
    APPLICATION_ID,
    HEADER,
    VERSION,
    earlier_version,
    is_empty,
    read_as_ours,
    require_ours,
    run_script,
)
from chatgpt_source.journal.sqlite.upgrade import (
    UpgradeStopped,
    require_upgradable,
    upgradable,
    upgraded,
)
from chatgpt_source.journal.sqlite.upkeep import probe

BUSY = 0.25
"""Seconds to wait for another process that writes; an operator's command takes less."""

LONG_LOG = 16 * 2**20
"""Bytes of a write-ahead log that take long to read; a daemon that was killed leaves some 4 MiB."""

_OLDEST = (3, 35)
"""The first SQLite with RETURNING, which claims and ends need."""

_Begin = Callable[[sqlite3.Connection, Path], AbstractContextManager[None]]
"""Makes the transaction in which a daemon begins to use a file."""


@frozen(eq=False, repr=False)
class OpenJournal:
    """An open journal file, and a daemon's lock on it.

    Attributes:
        path: The file's path, without links.
        connection: SQLite's connection.
        lock: The daemon's lock; None for an operator.
        log: The write-ahead log's path, and its status when it was opened; None for an operator.
    """

    path: Path
    connection: sqlite3.Connection
    lock: Lock | None
    log: tuple[str, os.stat_result] | None = None

    def loss(self) -> str | None:
        """Why writes would be lost, for people; None if they would not.

        If the log alone was removed, this copies its contents into the file, if possible.
        """
        if self.lock is None:
            return None
        loss = self.lock.loss()
        if loss is None and self.log is not None and not _is_there(*self.log):
            with suppress(sqlite3.Error):
                self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            return "its log (-wal) was removed or replaced while in use: put it back, or restart"
        return loss

    def close(self) -> None:
        """Close the file, then release the lock."""
        self.connection.close()
        if self.lock is not None:
            self.lock.close()


def open_journal(path: Path, is_stopped: Callable[[], bool] = lambda: False) -> OpenJournal:
    """Lock, upgrade and open the journal at `path` for a daemon; create it if there is none.

    Raises:
        JournalInUse: If another daemon uses it.
        JournalError: If it can't be written, or is no journal of this version or earlier.
        UpgradeStopped: If `is_stopped` returned true; an upgrade calls it now and then.
    """
    require_sqlite(path)
    with in_words(path):
        path = without_links(path)  # SQLite puts its log beside the file that a link points to
        with ExitStack() as undo:
            lock = lock_journal(path)
            undo.callback(lock.close)
            connection = _connect(path, partial(upgraded, is_stopped=is_stopped))
            undo.callback(connection.close)
            if is_stopped():
                raise UpgradeStopped
            log = _log_of(path)
            opened = OpenJournal(path, connection, lock, (str(log), log.stat()))
            undo.pop_all()
        return opened


def open_beside(path: Path) -> OpenJournal:
    """Open the journal at `path` for an operator, while a daemon may use it.

    Raises:
        JournalInUse: If a daemon uses an earlier file of this path.
        JournalError: If there is none, or it is no journal of this version or earlier.
    """
    require_sqlite(path)
    with in_words(path):
        if not path.exists():
            raise JournalError(f"there is no journal {path}: name the daemon's with --journal")
        path = without_links(path)
        require_file(path, path.stat())
        if is_locked(path) and not _log_of(path).exists():
            raise JournalError(
                f"journal {path} is in use by a daemon that knows it by another path: name that one"
            )
        return OpenJournal(path, _connect(path), None)


def open_stopped(path: Path) -> OpenJournal:
    """Lock and open the journal at `path` to be read as it is, while no daemon uses it.

    Raises:
        JournalInUse: If a daemon uses it.
        JournalError: If there is none, or it is no journal of this version or earlier.
    """
    require_sqlite(path)
    with in_words(path):
        if not path.exists():
            raise JournalError(f"there is no journal {path}: name the file with --from")
        path = without_links(path)
        with ExitStack() as undo:
            lock = lock_journal(path)
            undo.callback(lock.close)
            opened = OpenJournal(path, _connect(path), lock)
            undo.pop_all()
        return opened


def _log_of(path: Path) -> Path:
    return Path(f"{path}-wal")


def _is_there(path: str, status: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.stat(path), status)  # noqa: PTH116 - each commit asks this
    except FileNotFoundError:
        return False
    except OSError:
        return True  # the next write says what is wrong


def without_links(path: Path) -> Path:
    """The path with all links resolved.

    Raises:
        OSError: If the links form a loop.
    """
    try:
        return path.resolve()
    except RuntimeError:  # before Python 3.13
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP)) from None


@contextmanager
def in_words(path: Path) -> Iterator[None]:
    """Turn errors of the system or of SQLite into a JournalError with what to do."""
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


def require_sqlite(path: Path) -> None:
    """Require an SQLite that knows our statements.

    Raises:
        JournalError: If this Python has an older one.
    """
    if sqlite3.sqlite_version_info < _OLDEST:
        raise JournalError(
            f"journal {path} can't be used by this Python: its SQLite is {sqlite3.sqlite_version},"
            f" and must be {_OLDEST[0]}.{_OLDEST[1]} or newer"
        )


def _connect(path: Path, begin: _Begin | None = None) -> sqlite3.Connection:
    """Connect, for a daemon if `begin` is given; it creates the journal if there is none."""
    make = begin is not None
    connection = _sqlite(path)
    try:
        require_ours(connection, path, make=make)
        for file in (path, _log_of(path), Path(f"{path}-shm")):
            if make and file.exists():  # SQLite creates the other two with the first one's mode
                file.chmod(0o600)
        for pragma in (
            "journal_mode = WAL",
            "synchronous = FULL",
            "secure_delete = ON",
            "temp_store = MEMORY",
        ):
            connection.execute(f"PRAGMA {pragma}")
        if begin is not None:
            with begin(connection, path):
                if is_empty(connection):
                    _make(connection)
                probe(connection)  # fails if the file can't be written
        else:
            read_as_ours(connection)
        connection.execute(
            "PRAGMA foreign_keys = ON"
        )  # after the upgrade, which may replace a table
    except BaseException:
        connection.close()
        raise
    return connection


def _sqlite(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(
        path, timeout=BUSY, isolation_level=None, check_same_thread=False, cached_statements=256
    )


def _make(connection: sqlite3.Connection) -> None:
    """Create the tables of a new journal, within the caller's transaction."""
    run_script(connection, "tables")
    connection.execute("INSERT INTO secret VALUES (1, ?)", (os.urandom(32),))
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {VERSION}")


def long_work(path: Path) -> str | None:
    """What `open_journal` does that takes long, for people; None if nothing does.

    Raises:
        JournalInUse: If there is such work, and another daemon uses the journal.
        JournalError: If the journal can't be used.
    """
    with in_words(path):
        if not path.is_file():
            return None
        path = without_links(path)
        with path.open("rb") as file:
            version = earlier_version(file.read(HEADER))
        size = _log_size(path)
        if version is None and size <= LONG_LOG:
            return None
        lock_journal(path).close()
    if version is None:
        return f"reading the {size >> 20} MiB that the last run left in the journal's log (-wal)"
    return f"changing the journal's schema from {version} to {VERSION}"


def _log_size(path: Path) -> int:
    try:
        return _log_of(path).stat().st_size
    except FileNotFoundError:
        return 0


def check_journal(path: Path, *, by_writing: bool = True) -> None:
    """Check that a daemon could use the journal at `path`, once no other does.

    It upgrades nothing, and reads no long log: a start does that in the journal's thread.

    Args:
        path: Where it is. If it is not there, it is made: of no content, unless `by_writing`.
        by_writing: Whether to write to it, which takes the disk some 10 ms.

    Raises:
        JournalError: If it could not.
    """
    require_sqlite(path)
    try:
        with in_words(path), ExitStack() as undo:
            path = without_links(path)
            undo.callback(lock_journal(path).close)
            if _log_size(path) > LONG_LOG:
                return
            if by_writing:
                _connect(path, upgradable).close()
                return
            connection = undo.enter_context(closing(_sqlite(path)))
            require_ours(connection, path, make=True)
            require_upgradable(connection, path)
    except JournalInUse:
        with suppress(JournalInUse):  # of an earlier file of this path: this can't be checked yet
            open_beside(path).close()
