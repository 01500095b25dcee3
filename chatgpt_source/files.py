"""Reading a file that a user names (regular, bounded, never waited for), and how many are open."""

import errno
import os
import resource
import stat
from contextlib import suppress
from pathlib import Path

MOST_BYTES = 2**20
"""Bytes a file may have unless its reader says otherwise."""
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def kind_of(status: os.stat_result) -> str | None:
    """What a file is, in words; None if it is a regular file."""
    if stat.S_ISREG(status.st_mode):
        return None
    return _KINDS.get(stat.S_IFMT(status.st_mode), "something else")


def read_file(path: Path, most: int = MOST_BYTES) -> bytes:
    """The bytes of a regular file; links to one are followed, and the null device is empty.

    Raises:
        OSError: If it can't be read, is not a regular file, or has more than `most` bytes.
    """
    status = path.stat()  # before it is opened: to open a device may do something
    if _is_null(status):
        return b""
    _require_regular(status)
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    with open(descriptor, "rb") as opened:  # noqa: PTH123 - a descriptor has no path
        _require_regular(os.fstat(descriptor))  # it may be another by now
        content = opened.read(most + 1) or b""
    if len(content) > most:
        raise OSError(errno.EFBIG, f"it has more than {most} bytes")
    return content


def _require_regular(status: os.stat_result) -> None:
    kind = kind_of(status)
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if kind is not None:
        raise OSError(errno.EINVAL, f"it is {kind}, not a regular file")


def _is_null(status: os.stat_result) -> bool:
    try:
        return os.path.samestat(status, os.stat(os.devnull))  # noqa: PTH116 - for samestat
    except OSError:
        return False


def hard_limit() -> int:
    """How many files this process may be allowed to open."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return hard if hard != resource.RLIM_INFINITY else 2**31


def raise_limit() -> int:
    """Allow this process as many open files as it may have; returns how many it may."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with suppress(ValueError, OSError):  # macOS refuses "unlimited"
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
