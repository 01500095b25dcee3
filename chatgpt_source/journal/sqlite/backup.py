"""Copy a snapshot of a journal, while a daemon uses it or not."""

import errno
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from chatgpt_source.errors import JournalError
from chatgpt_source.journal.sqlite.schema import read_as_it_is, require_ours

PATIENCE = 5000
"""Milliseconds to wait while the daemon truncates its log."""
OFTEN = 10_000
"""Instructions of SQLite's virtual machine between two checks whether to stop: some ms."""
ROOM = 16 * 2**20
"""Bytes that must stay free on the copy's disk, which may be the journal's."""
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


class BackupStopped(Exception):
    """A backup was stopped; no file is left."""


def back_up(
    db: sqlite3.Connection,
    to: Path,
    is_stopped: Callable[[], bool] = lambda: False,
    advice: str = ", or name another path",
) -> int:
    """Copy an open journal to a new file that its owner alone can read.

    `VACUUM INTO` reads one snapshot while the daemon goes on writing; SQLite's backup API would
    restart after each write. The copy gets its name once it is complete, checked and on disk.

    Args:
        db: The journal.
        to: The copy's path; nothing may exist there.
        is_stopped: Called now and then; returns whether to stop.
        advice: The rest of the advice if there is no room.

    Returns:
        The copy's size in bytes.

    Raises:
        JournalError: If no copy can be made, with what to do.
        BackupStopped: If `is_stopped` returned true.
    """
    if os.path.lexists(to):
        raise _exists(to)
    with _in_words(to, is_stopped):
        require_room(db, to, advice)
        descriptor, name = tempfile.mkstemp(".partial", f".{to.name}.", to.parent)
        partial = Path(name)
        try:
            os.close(descriptor)
            _vacuum_into(db, name, is_stopped)
            _verify(partial, to, is_stopped)
            _sync(partial)
            _give_name(partial, to)
            _sync(to.parent)
        finally:
            partial.unlink(missing_ok=True)
    return to.stat().st_size


def _vacuum_into(db: sqlite3.Connection, name: str, is_stopped: Callable[[], bool]) -> None:
    (patience,) = db.execute("PRAGMA busy_timeout").fetchone()
    db.execute(f"PRAGMA busy_timeout = {PATIENCE}")
    read_as_it_is(db)
    db.set_progress_handler(is_stopped, OFTEN)
    try:
        db.execute("VACUUM INTO CAST(? AS TEXT)", (os.fsencode(name),))  # perhaps not UTF-8
    finally:
        db.set_progress_handler(None, OFTEN)
        db.execute(f"PRAGMA busy_timeout = {patience}")


@contextmanager
def _in_words(to: Path, is_stopped: Callable[[], bool]) -> Iterator[None]:
    """Turn errors into a JournalError with what to do."""
    try:
        yield
    except FileExistsError:
        raise _exists(to) from None
    except (sqlite3.Error, OSError) as error:
        if is_stopped():
            raise BackupStopped from None
        reason = getattr(error, "strerror", None) or str(error)
        raise JournalError(f"no backup {to} can be made ({reason}): name another path") from None


def _exists(to: Path) -> JournalError:
    return JournalError(f"backup {to} exists already: name another path, or move it away")


def require_room(db: sqlite3.Connection, to: Path, advice: str) -> None:
    """Require room for a copy of a journal.

    Raises:
        JournalError: If there is none.
    """
    pages, unused, size = (
        db.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("page_count", "freelist_count", "page_size")
    )
    needed, free = (pages - unused) * size + ROOM, shutil.disk_usage(to.parent).free
    if free < needed:
        raise JournalError(
            f"no backup {to} can be made: it needs {needed >> 20} MiB free, and there are"
            f" {free >> 20}: make room{advice}"
        )


def _verify(copy: Path, to: Path, is_stopped: Callable[[], bool]) -> None:
    """Check that a daemon could start from the copy."""
    uri = f"{copy.absolute().as_uri()}?mode=ro&immutable=1"
    with closing(sqlite3.connect(uri, uri=True)) as db:
        db.set_progress_handler(is_stopped, OFTEN)
        require_ours(db, to, make=False)
        (fault,) = db.execute("PRAGMA quick_check(1)").fetchone()
    if fault != "ok":
        raise JournalError(f"no backup {to} can be made: the copy is damaged: is the journal?")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _give_name(partial: Path, to: Path) -> None:
    """Give the copy its name, without replacing another file."""
    try:
        os.link(partial, to)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if os.path.lexists(to):
            raise _exists(to) from None
        partial.rename(to)
