"""Secrets: given as they are, or kept in a file that may change while we run."""

from collections.abc import Callable
from pathlib import Path

from chatgpt_source.files import read_file
from chatgpt_source.log import get_logger

log = get_logger(__name__)

MOST_BYTES = 64 * 2**10
"""Bytes a secret's file may have; a key is a fraction of it."""


class SecretUnusable(Exception):
    """A secret can't be had, or can't be what it is meant for; says why, and never what it is."""


class Secret:
    """A secret text, which no `repr` shows.

    A mounted Kubernetes Secret is rotated by replacing its file, so a file is looked at whenever
    the secret is needed, and read again if it is another. If that fails, the secret stays as it is.

    Args:
        value: The secret.
        file: Where it came from, if from a file.
        check: Returns what is to be used of a file's text; raises SecretUnusable if it can't be.
    """

    def __init__(
        self, value: str, file: Path | None = None, check: Callable[[str], str] = str.strip
    ) -> None:
        self._value = value
        self._file = file
        self._check = check
        self._mark = _mark(file)

    @classmethod
    def of_file(cls, file: Path, check: Callable[[str], str]) -> "Secret":
        """The secret in a file.

        Raises:
            SecretUnusable: If it can't be read, or is not what `check` takes.
        """
        secret = cls("", file, check)  # which notes what file it is, before it is read
        secret._value = _read(file, check)
        return secret

    def reload(self) -> bool:
        """Read its file anew, whether it has changed or not; whether it has one.

        Raises:
            SecretUnusable: If that is of no use; the secret stays as it is.
        """
        if self._file is None:
            return False
        self._mark = _mark(self._file)
        self._value = _read(self._file, self._check)
        return True

    def read(self) -> str:
        """The secret as it is now."""
        mark = _mark(self._file)
        if self._file is not None and mark != self._mark:
            self._mark = mark
            try:
                self._value = _read(self._file, self._check)
            except SecretUnusable as error:
                log.warn("{error}: going on with what was in it before", error=str(error))
        return self._value

    def __repr__(self) -> str:
        return "Secret(...)"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return (self._value, self._file) == (other._value, other._file)

    def __hash__(self) -> int:
        return hash((self._value, self._file))


def _mark(file: Path | None) -> tuple[int, ...] | None:
    """What changes when a file is replaced or written."""
    try:
        status = file.stat() if file else None
    except OSError:
        return None
    return status and (status.st_ino, status.st_mtime_ns, status.st_size)


def _read(file: Path, check: Callable[[str], str]) -> str:
    try:
        text = read_file(file, MOST_BYTES).decode("utf-8")
    except OSError as error:
        raise SecretUnusable(f"the file {file} can't be read ({error.strerror})") from None
    except ValueError:
        raise SecretUnusable(f"the file {file} does not hold text in UTF-8") from None
    try:
        return check(text)
    except SecretUnusable as error:
        raise SecretUnusable(f"the file {file} does not hold {error}") from None
