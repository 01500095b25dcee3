"""Reports the result of a late start to twistd's parent process; uses private parts of twistd.

In the background, twistd's parent process waits for the result of the start. twistd reports success
as soon as `startService` has returned, and its exit status is 0 whatever happens once the reactor
runs. It has no public interface to change that. `tests/e2e/test_waiting.py` checks this module
against the installed release.
"""

import atexit
import os
import sys
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Any

from chatgpt_source.log.lines import flush

_PIPE = "statusPipe"
"""The key of the pipe to the parent, among twistd's options."""
_MOST = 100
"""The most bytes that the parent reads."""


class Parent:
    """The process that waits for the start's result; without one, the methods do nothing.

    Args:
        twistd: twistd's options.
    """

    def __init__(self, twistd: MutableMapping[str, Any]) -> None:
        self._twistd = twistd
        self._pipe: int | None = None

    def hold(self) -> None:
        """Keep it waiting until `tell`."""
        self._pipe = self._twistd.pop(_PIPE, None)

    def tell(self, error: str | None = None) -> None:
        """Tell it that the start succeeded, or why it failed."""
        pipe, self._pipe = self._pipe, None
        if pipe is None:
            return
        message = "0" if error is None else f"1 {error}"
        with suppress(OSError):  # the parent was killed
            os.write(pipe, message.encode("ascii", "backslashreplace")[:_MOST])
        os.close(pipe)


def fail_at_exit(reason: str = "") -> None:
    """Make the process exit with status 1, after all other work at its end.

    Args:
        reason: The text for standard error, if the log goes elsewhere.
    """
    if reason and sys.__stderr__ is not None:
        with suppress(OSError):  # nobody reads it, or the disk is full
            sys.__stderr__.write(f"{reason}\n")
    atexit.register(_exit)


def _exit() -> None:
    flush()
    for stream in (sys.__stdout__, sys.__stderr__):
        with suppress(OSError, ValueError):
            if stream is not None:
                stream.flush()
    os._exit(1)
