"""Copy a journal of an earlier version, then upgrade it."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from glob import escape
from itertools import count
from pathlib import Path

from chatgpt_source.errors import JournalError
from chatgpt_source.journal.sqlite.backup import OFTEN, back_up, require_room
from chatgpt_source.journal.sqlite.schema import VERSION, is_empty, run_script, version_of
from chatgpt_source.journal.sqlite.texts import settle
from chatgpt_source.log import get_logger

log = get_logger(__name__)


class UpgradeStopped(Exception):
    """A start was stopped; unless it had done all, the journal is unchanged and has no copy."""


@contextmanager
def upgraded(db: sqlite3.Connection, path: Path, is_stopped: Callable[[], bool]) -> Iterator[None]:
    """A transaction that begins with an upgrade to this version; foreign keys must be off.

    Before an upgrade, the journal is copied to a file beside it, which stays.

    Raises:
        JournalError: If no copy can be made.
        UpgradeStopped: If `is_stopped`, which is called now and then, returned true.
    """
    version = VERSION if is_empty(db) else version_of(db)
    copy = None
    try:
        if version < VERSION:
            copy = _copy(db, path, version, is_stopped)
        db.execute("BEGIN IMMEDIATE")
        if version < VERSION:
            _upgrade(db, path, version, is_stopped)
        yield
    except BaseException:
        if copy is not None:
            copy.unlink(missing_ok=True)  # the journal is unchanged
        if is_stopped():
            raise UpgradeStopped from None
        raise
    db.execute("COMMIT")
    if copy is not None:
        with suppress(sqlite3.Error):  # then the log has it
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        log.warn(
            "journal {path} was of schema {old} and is of schema {new} now; {copy} is a copy of it"
            " as it was: remove that once no earlier release is to start from it",
            path=str(path),
            old=version,
            new=VERSION,
            copy=str(copy),
        )


@contextmanager
def upgradable(db: sqlite3.Connection, path: Path) -> Iterator[None]:
    """A transaction without an upgrade, in a journal that could be upgraded.

    Raises:
        JournalError: If there is no room for the copy.
    """
    require_upgradable(db, path)
    db.execute("BEGIN IMMEDIATE")
    yield
    db.execute("COMMIT")


def require_upgradable(db: sqlite3.Connection, path: Path) -> None:
    """Require room for a copy of a journal of an earlier version.

    Raises:
        JournalError: If there is none.
    """
    version = version_of(db)
    if version < VERSION and not is_empty(db):
        with _in_words(path, version):
            require_room(db, _free_name(path, version), advice="")


def _upgrade(
    db: sqlite3.Connection, path: Path, version: int, is_stopped: Callable[[], bool]
) -> None:
    db.set_progress_handler(is_stopped, OFTEN)
    try:
        for earlier in range(version, VERSION):
            run_script(db, f"upgrade_{earlier}")
            db.execute(f"PRAGMA user_version = {earlier + 1}")
        settle(db)
    except sqlite3.Error as error:
        raise JournalError(
            f"journal {path} is of schema {version}, and can't be changed to {VERSION} ({error}):"
            " it is as it was; has its disk room?"
        ) from None
    finally:
        db.set_progress_handler(None, OFTEN)


def _copy(db: sqlite3.Connection, path: Path, version: int, is_stopped: Callable[[], bool]) -> Path:
    for left in path.parent.glob(f".{escape(path.name)}.schema-*.partial*"):
        left.unlink(missing_ok=True)  # of a start that was killed
    copy = _free_name(path, version)
    with _in_words(path, version):
        back_up(db, copy, is_stopped, advice="")
    return copy


@contextmanager
def _in_words(path: Path, version: int) -> Iterator[None]:
    """Say of an error why a copy is made."""
    try:
        yield
    except JournalError as error:
        raise JournalError(
            f"journal {path} is of schema {version}, and not upgraded without a copy: {error}"
        ) from None


def _free_name(path: Path, version: int) -> Path:
    """A path without an earlier copy, which an operator may still need."""
    name = f"{path.name}.schema-{version}"
    names = (f"{name}{'' if n == 1 else f'-{n}'}.backup" for n in count(1))
    return next(each for each in map(path.with_name, names) if not each.exists())
