"""Admit one daemon to a journal, by locks on the file itself and on a lock file beside it.

Every release locks the lock file. That can be deleted, and does not protect a file with two paths,
so the journal itself is locked, too. On Linux, `flock` is independent of SQLite's `fcntl` locks.
Those are lost when the process closes any descriptor of the file, so ours is closed after SQLite's.
On NFS, `flock` uses `fcntl` locks; a journal does not belong there.
"""

import errno
import fcntl
import os
import stat
import sys
import time
from contextlib import suppress
from pathlib import Path

from attrs import frozen

from chatgpt_source.errors import JournalError, JournalInUse
from chatgpt_source.files import kind_of

_HAS_OWN_FLOCK = sys.platform.startswith("linux")
"""Elsewhere, `flock` and `fcntl` locks may be the same, and ours would lock SQLite out."""
TRIES, PAUSE = 5, 0.02
"""How often, and after how many seconds, a lock file without the other lock is checked again."""


@frozen(eq=False, repr=False)
class Lock:
    """A daemon's locks on its journal.

    Attributes:
        path: The journal's path, without links; text, because each commit looks at it.
        status: The file's status when it was locked.
        descriptors: The locked descriptors.
    """

    path: str
    status: os.stat_result
    descriptors: tuple[int, ...]

    def loss(self) -> str | None:
        """Why writes would be lost, or shared with another daemon, for people; None if neither."""
        try:
            now = os.stat(self.path)  # noqa: PTH116 - a Path would cost several times the call
        except (FileNotFoundError, NotADirectoryError):
            return "its file was removed or renamed while in use: put it back, or restart"
        except OSError:
            return None  # the next write reports it
        if not os.path.samestat(now, self.status):
            return "its file was replaced by another while in use: put it back, or restart"
        if now.st_nlink > 1:
            return "its file got a second name (a hard link) while in use: remove that"
        return None

    def close(self) -> None:
        """Release the locks; SQLite's connection must be closed before."""
        for descriptor in self.descriptors:
            os.close(descriptor)


def lock_journal(path: Path) -> Lock:
    """Lock the journal at `path`, a path without links; create an empty file if there is none.

    Raises:
        JournalInUse: If another daemon uses it.
        JournalError: If it is no regular file with one name.
        OSError: If it can't be opened.
    """
    with suppress(FileNotFoundError):
        require_file(path, path.stat())  # before a file is created or a device is opened
    descriptors: list[int] = []
    try:
        descriptors.append(_locked(_beside(path), path))
        if _HAS_OWN_FLOCK:
            descriptors.append(_locked(path, path))
            status = os.fstat(descriptors[-1])
        else:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            status = path.stat()
        require_file(path, status)
        _require_same(path, status)
    except BaseException:
        for descriptor in descriptors:
            os.close(descriptor)
        raise
    return Lock(str(path), status, tuple(descriptors))


def require_file(path: Path, status: os.stat_result) -> None:
    """Require a journal to be a regular file with one name.

    Raises:
        JournalError: If it is not.
        OSError: If it is a folder.
    """
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    kind = kind_of(status)
    if kind is not None:
        raise JournalError(
            f"journal {path} must be a regular file, and is {kind}: set `journal` to another path"
        )
    if status.st_nlink > 1:
        raise JournalError(
            f"journal {path} must have one name, and has {status.st_nlink} (hard links), by which"
            f" two daemons could use it at once: remove the others (find / -xdev -samefile {path})"
        )


def _require_same(path: Path, status: os.stat_result) -> None:
    if not os.path.samestat(path.stat(), status):
        raise JournalError(f"journal {path} was replaced while it was opened: start again")


def is_locked(path: Path) -> bool:
    """Whether a daemon uses the journal at `path`; takes a lock for a moment to find out.

    This process must not have the journal open (see above).

    Raises:
        JournalInUse: If a daemon uses an earlier file of this path. The log at this path is that
            file's: SQLite would use it for this one, and delete it on closing.
    """
    if not _HAS_OWN_FLOCK:
        return _is_locked(_beside(path))
    for _ in range(TRIES):  # a daemon that starts or ends has one lock for a moment
        by_name, itself = _is_locked(_beside(path)), _is_locked(path)
        if itself or not by_name:
            return itself
        time.sleep(PAUSE)
    raise JournalInUse(
        f"journal {path} was replaced while a daemon uses the file before it: stop that daemon, or"
        " put its file back"
    )


def _beside(path: Path) -> Path:
    return Path(f"{path}.lock")


def _locked(file: Path, journal: Path) -> int:
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise JournalInUse(
            f"journal {journal} is in use by another daemon: stop that one, or set `journal` to"
            " another path"
        ) from None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _is_locked(file: Path) -> bool:
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
