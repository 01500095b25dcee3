"""The output of a command: all that it says is written, or it ends with a line that says why."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from typing import TextIO


def require_open(name: str, stream: TextIO | None) -> None:
    """Let nothing be half done for want of a place to tell it.

    Args:
        name: The stream's name, for people.
        stream: The stream; None if it is closed.

    Raises:
        SystemExit: If it is closed.
    """
    if stream is None:
        raise SystemExit(f"{name} is closed: lead it to a file, as by >/dev/null")


@contextmanager
def written(out: TextIO) -> Iterator[None]:
    """Write to the end what is said meanwhile; characters that the locale lacks are escaped.

    Raises:
        SystemExit: If it can't be written; without words if nobody reads it, as with `| head`.
    """
    require_open("stdout", out)
    try:
        if isinstance(out, TextIOWrapper):
            out.reconfigure(errors="backslashreplace")  # as stderr has them
        try:
            yield
        finally:
            out.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())  # Python writes the rest at its end
        if isinstance(error, BrokenPipeError):
            raise SystemExit(1) from None
        raise SystemExit(f"the output can't be written: {error.strerror}") from None
