"""What a start that goes on after `startService` needs of twistd, which has no interface for it.

Where it daemonises, twistd's parent process waits to hear how the start went, and hears that all is
well as soon as `startService` has returned; and whatever happens once the reactor runs, the exit
status is 0. `tests/e2e/test_waiting.py` holds this to the installed release.
"""

import atexit
import os
import sys
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Any

from chatgpt_source.log.lines import flush

_PIPE = "statusPipe"
"""Where twistd keeps the pipe to its parent, among its options."""
_MOST = 100
"""Bytes that the parent reads."""


class Parent:
    """The process that waits for the end of a start; where there is none, telling it does nothing.

    Args:
        twistd: twistd's options.
    """

    def __init__(self, twistd: MutableMapping[str, Any]) -> None:
        self._twistd = twistd
        self._pipe: int | None = None

    def hold(self) -> None:
        """Let it wait on, until it is told."""
        self._pipe = self._twistd.pop(_PIPE, None)

    def tell(self, error: str | None = None) -> None:
        """Tell it that the start went well, or why it did not."""
        pipe, self._pipe = self._pipe, None
        if pipe is None:
            return
        message = "0" if error is None else f"1 {error}"
        with suppress(OSError):  # it was killed meanwhile
            os.write(pipe, message.encode("ascii", "backslashreplace")[:_MOST])
        os.close(pipe)


def fail_at_exit(reason: str = "") -> None:
    """Have the process end with status 1, once it has done all that it does at its end.

    Args:
        reason: What to write on standard error before that, where the log goes elsewhere.
    """
    if reason and sys.__stderr__ is not None:
        sys.__stderr__.write(f"{reason}\n")
    atexit.register(_exit)


def _exit() -> None:
    flush()
    for stream in (sys.__stdout__, sys.__stderr__):
        with suppress(OSError, ValueError):
            if stream is not None:
                stream.flush()
    os._exit(1)
