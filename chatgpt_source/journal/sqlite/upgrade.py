"""Copy a journal of an earlier version, then upgrade it."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from glob import escape
from itertools import count
from pathlib import Path

from chatgpt_source.errors import JournalError
from chatgpt_source.journal.sqlite.backup import back_up
from chatgpt_source.journal.sqlite.schema import VERSION, is_empty, run_script, version_of
from chatgpt_source.journal.sqlite.texts import settle
from chatgpt_source.log import get_logger

log = get_logger(__name__)


@contextmanager
def upgraded(db: sqlite3.Connection, path: Path) -> Iterator[None]:
    """A transaction that begins with an upgrade to this version; foreign keys must be off.

    Before an upgrade, the journal is copied to a file beside it, which stays.

    Raises:
        JournalError: If no copy can be made.
    """
    version = VERSION if is_empty(db) else version_of(db)
    copy = _copy(db, path, version) if version < VERSION else None
    try:
        db.execute("BEGIN IMMEDIATE")
        for earlier in range(version, VERSION):
            run_script(db, f"upgrade_{earlier}")
            db.execute(f"PRAGMA user_version = {earlier + 1}")
        if version < VERSION:
            settle(db)
        yield
    except BaseException:
        if copy is not None:
            copy.unlink(missing_ok=True)  # the journal is unchanged
        raise
    db.execute("COMMIT")
    if copy is not None:
        log.warn(
            "journal {path} was of schema {old} and is of schema {new} now; {copy} is a copy of it"
            " as it was: remove that once no earlier release is to start from it",
            path=str(path),
            old=version,
            new=VERSION,
            copy=str(copy),
        )


def _copy(db: sqlite3.Connection, path: Path, version: int) -> Path:
    for left in path.parent.glob(f".{escape(path.name)}.schema-*.partial*"):
        left.unlink(missing_ok=True)  # of a start that was killed
    copy = _free_name(path, version)
    try:
        back_up(db, copy, advice="")
    except JournalError as error:
        raise JournalError(
            f"journal {path} is of schema {version}, and not upgraded without a copy: {error}"
        ) from None
    return copy


def _free_name(path: Path, version: int) -> Path:
    """A path without an earlier copy, which an operator may still need."""
    name = f"{path.name}.schema-{version}"
    names = (f"{name}{'' if n == 1 else f'-{n}'}.backup" for n in count(1))
    return next(each for each in map(path.with_name, names) if not each.exists())
