"""Reads files that a user names (regular, bounded, without blocking); limits open files."""

import errno
import os
import resource
import stat
from contextlib import suppress
from pathlib import Path

MOST_BYTES = 2**20
"""Bytes that a file may have by default."""
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def kind_of(status: os.stat_result) -> str | None:
    """The kind of a file in words; None if it is a regular file."""
    if stat.S_ISREG(status.st_mode):
        return None
    return _KINDS.get(stat.S_IFMT(status.st_mode), "something else")


def read_file(path: Path, most: int = MOST_BYTES) -> bytes:
    """The content of a regular file; follows links, and reads the null device as empty.

    Raises:
        OSError: If it can't be read, is not a regular file, or has more than `most` bytes.
    """
    status = path.stat()  # before it is opened: opening a device can have effects
    if _is_null(status):
        return b""
    _require_regular(status)
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    with open(descriptor, "rb") as opened:  # noqa: PTH123 - a descriptor has no path
        _require_regular(os.fstat(descriptor))  # the path may name another file by now
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
    """The hard limit of open files."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return hard if hard != resource.RLIM_INFINITY else 2**31


def raise_limit() -> int:
    """Raise this process's limit of open files to the hard limit; returns the limit."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with suppress(ValueError, OSError):  # macOS refuses "unlimited"
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
