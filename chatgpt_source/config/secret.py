"""A secret: a fixed value, or the content of a file that may change while the daemon runs."""

from collections.abc import Callable
from pathlib import Path

from attrs import define, field

from chatgpt_source.files import read_file
from chatgpt_source.log import get_logger

log = get_logger(__name__)

MOST_BYTES = 64 * 2**10
"""Bytes that a secret's file may have; a key has far fewer."""


class SecretUnusable(Exception):
    """A secret can't be read or used; the text says why, and never holds the secret."""


@define(repr=False, unsafe_hash=True)
class Secret:
    """A secret text, which no `repr` shows.

    A mounted Kubernetes Secret is rotated by replacing its file. So each use checks whether the
    file has changed, and reads it again if so. If that fails, the old secret stays in use.

    Args:
        value: The secret.
        file: The file that holds it, if one does.
        check: Returns the secret in a file's text; raises SecretUnusable if there is none.
    """

    _value: str
    _file: Path | None = None
    _check: Callable[[str], str] = field(default=str.strip, eq=False)
    _mark: tuple[int, ...] | None = field(init=False, eq=False, default=None)

    @classmethod
    def of_file(cls, file: Path, check: Callable[[str], str]) -> "Secret":
        """The secret in a file.

        Raises:
            SecretUnusable: If it can't be read, or `check` refuses it.
        """
        secret = cls("", file, check)
        secret.reload()
        return secret

    def reload(self) -> bool:
        """Read its file anew, even if it has not changed; returns whether there is a file.

        Raises:
            SecretUnusable: If the file can't be used; the old secret stays in use.
        """
        if self._file is None:
            return False
        self._mark = _mark(self._file)  # before it is read, so that a later change is seen
        self._value = _read(self._file, self._check)
        return True

    def read(self) -> str:
        """The current secret."""
        if _mark(self._file) != self._mark:
            try:
                self.reload()
            except SecretUnusable as error:
                log.warn("{error}: its old content stays in use", error=str(error))
        return self._value

    def __repr__(self) -> str:
        return "Secret(...)"


def _mark(file: Path | None) -> tuple[int, ...] | None:
    """A value that changes when the file is replaced or written."""
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
