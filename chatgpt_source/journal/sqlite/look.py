"""Read a journal without writing to it, while a daemon uses it or not."""

import errno
import os
import sqlite3
from contextlib import closing
from pathlib import Path

from chatgpt_source.errors import JournalError
from chatgpt_source.journal.seen import Seen
from chatgpt_source.journal.sqlite import records
from chatgpt_source.journal.sqlite.file import in_words, require_sqlite, without_links
from chatgpt_source.journal.sqlite.lock import is_locked, require_file
from chatgpt_source.journal.sqlite.schema import (
    APPLICATION_ID,
    VERSION,
    read_as_ours,
    require_ours,
    version_of,
)
from chatgpt_source.journal.sqlite.upgrade import require_upgradable


def look(path: Path, day: str, now: float, *, as_writer: bool = True) -> Seen:
    """Read the journal at `path`, and check that a daemon could use it.

    Args:
        path: Its path; there may be no file yet.
        day: The day whose units are counted.
        now: The time.
        as_writer: Whether to require that this process's user can write it, as for the daemon's.

    Raises:
        JournalError: If a daemon could not use it.
    """
    require_sqlite(path)
    with in_words(path):
        path = without_links(path)
        is_there = path.exists()
        if is_there:
            require_file(path, path.stat())
        if as_writer:
            _require_writable(path.parent)
        if not is_there:
            os.stat(path.parent)  # noqa: PTH116 - raises an error that `in_words` explains
            return Seen(str(path), current=VERSION)
        if as_writer:
            _require_writable(path)
        in_use = is_locked(path)
        with closing(sqlite3.connect(_uri(path, in_use=in_use), uri=True)) as db:
            seen = _seen(db, path, day, now, in_use=in_use)
            if as_writer:
                require_upgradable(db, path)
            return seen


def _require_writable(path: Path) -> None:
    mode = os.R_OK | os.W_OK | (os.X_OK if path.is_dir() else 0)
    path.stat()
    if not os.access(path, mode):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def _uri(path: Path, *, in_use: bool) -> str:
    """The URI that creates no file beside it; after a clean stop there is no log."""
    wal = Path(f"{path}-wal")
    still = not in_use and not (wal.exists() and wal.stat().st_size)
    return f"{path.as_uri()}?mode=ro{'&immutable=1' if still else ''}"


def _seen(db: sqlite3.Connection, path: Path, day: str, now: float, *, in_use: bool) -> Seen:
    require_ours(db, path, make=True)
    if db.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        return Seen(str(path), int(in_use), current=VERSION)  # an empty file
    read_as_ours(db)
    db.execute("BEGIN")  # one snapshot
    (fault,) = db.execute("PRAGMA quick_check(1)").fetchone()
    if fault != "ok":
        raise JournalError(
            f"journal {path} is damaged: restore it from a backup, or set `journal` to another path"
        )
    return Seen(
        str(path),
        int(in_use),
        schema=version_of(db),
        current=VERSION,
        prompts=records.counts(db),
        to_ask=records.to_ask(db, now),
        to_deliver=records.to_deliver(db, now),
        used=records.units(db, day),
    )
