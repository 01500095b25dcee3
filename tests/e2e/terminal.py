"""A terminal of 80 columns, as people have it: a pane of tmux."""

import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from uuid import uuid4

from twisted.trial.unittest import SkipTest, SynchronousTestCase, TestCase

COLUMNS = 80
ROWS = 150
PATIENCE = 60.0
ENDED = "it ended with "
COLOUR = re.compile(r"\x1b\[[\d;]*m")


class Terminal:
    """Runs a command in a terminal; `case` ends it.

    Args:
        case: The test.
        command: The command.
        folder: Where it runs.
        environ: Environment variables; without NO_COLOR, there may be colours.
    """

    def __init__(
        self,
        case: TestCase | SynchronousTestCase,
        command: Sequence[str],
        folder: Path,
        environ: Mapping[str, str],
    ) -> None:
        if shutil.which("tmux") is None:
            raise SkipTest("tmux is not installed")
        self.folder = folder
        self._socket = f"chatgpt-source-{uuid4().hex}"
        kept = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "LANG": "C.UTF-8"}
        size = [f"-x{COLUMNS}", f"-y{ROWS}"]
        given = [f"{name}={value}" for name, value in environ.items()]
        waiting = f'{shlex.join(["env", *given, *command])}; echo "{ENDED}$?"; exec cat'
        self._tmux("-f/dev/null", "new-session", "-d", *size, f"-c{folder}", waiting, environ=kept)
        case.addCleanup(self._tmux, "kill-server")

    def _tmux(self, *arguments: str, environ: Mapping[str, str] | None = None) -> str:
        done = subprocess.run(
            ["tmux", "-u", f"-L{self._socket}", *arguments],
            env=environ,
            check=True,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        return done.stdout

    @property
    def screen(self) -> str:
        """What it shows; a line that the terminal had to wrap is one line."""
        return self._tmux("capture-pane", "-p", "-J").rstrip()

    @property
    def colours(self) -> set[str]:
        """The escape codes of the colours that it shows."""
        return set(COLOUR.findall(self._tmux("capture-pane", "-p", "-e")))

    @property
    def ended(self) -> bool:
        """Whether the command has ended."""
        return ENDED in self.screen

    def press(self, key: str) -> None:
        """Press a key, like `C-c`."""
        self._tmux("send-keys", key)

    def wait_for(self, text: str) -> str:
        """Wait until it shows a text; returns the screen."""
        return self.wait_for_match(re.escape(text))

    def wait_for_match(self, pattern: str) -> str:
        """Wait until what it shows matches; returns the screen."""
        deadline = time.monotonic() + PATIENCE
        while not re.search(pattern, screen := self.screen):
            assert ENDED not in screen, screen
            assert time.monotonic() < deadline, f"no {pattern!r} in:\n{screen}"
            time.sleep(0.05)
        return screen

    def wait_for_end(self) -> str:
        """Wait until the command has ended; returns the screen, with its exit status."""
        deadline = time.monotonic() + PATIENCE
        while not self.ended:
            assert time.monotonic() < deadline, self.screen
            time.sleep(0.05)
        return self.screen

    def wide(self) -> list[str]:
        """The lines that do not fit."""
        return [line for line in self.screen.splitlines() if len(line.rstrip()) > COLUMNS]
