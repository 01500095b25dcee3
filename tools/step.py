"""Runs a command for the Makefile, and shows one line in the place of what the command prints.

    python3 tools/step.py LOG TEXT COMMAND...

In a terminal, the line shows that time passes, and how much pip has downloaded. What the command
prints goes to the file LOG. If the command fails, a second line says why and what to do. It runs
before anything is installed, so it needs nothing but Python.
"""

import os
import re
import shutil
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
FRAME = 0.1
"""Seconds from one picture to the next."""
GREEN, RED, YELLOW = 32, 31, 33
PYTHON = (3, 10)
REASONS = {
    r"ensurepip is not|No module named '?(venv|ensurepip)": "this Python can't make environments."
    " Install python3-venv (Debian, Ubuntu), or name another Python: make PYTHON=python3.12",
    r"No space left on device": "the disk is full. Make room, and try again",
    r"connection broken|NewConnectionError|ConnectTimeout|Failed to establish|name resolution"
    r"|Network is unreachable|No route to host|ProxyError|CERTIFICATE_VERIFY_FAILED": "pip does not"
    " reach its index. Connect to the network, or name a proxy (PIP_PROXY) or a mirror"
    " (PIP_INDEX_URL), and try again",
    r"No matching distribution found": "pip's index has nothing that fits this machine and Python"
    f" {sys.version_info[0]}.{sys.version_info[1]}",
}
"""What a log may have, and what to tell people then."""
PROGRESS = re.compile(r"Progress (\d+) of \d+$", re.MULTILINE)
"""What pip prints with --progress-bar raw."""


def reason_in(log: str) -> str:
    """Why a command failed, by its log: words for people."""
    for pattern, words in REASONS.items():
        if re.search(pattern, log):
            return words
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith("error:")]
    return (errors or lines or ["it printed nothing"])[-1]


def downloaded(log: str) -> int:
    """The bytes that pip has downloaded, by its log."""
    total = last = 0
    for size in map(int, PROGRESS.findall(log)):
        total += size - last if size >= last else size  # less than before: the next file
        last = size
    return total


class Line:
    """The line of a step: drawn again and again in a terminal, else printed once."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.out = sys.stdout
        self.is_terminal = self.out.isatty() and os.environ.get("TERM") != "dumb"
        self.colour = self.is_terminal and not os.environ.get("NO_COLOR")
        self.shown = 0
        if not self.is_terminal:
            self.out.write(f"{text} ...\n")
            self.out.flush()

    def draw(self, mark: str, after: str, colour: int, end: str = "") -> None:
        """Show the line with a mark before it, and something after it."""
        if not self.is_terminal:
            return
        room = shutil.get_terminal_size().columns - 1
        text = f"{self.text}  {after}"[: room - 2]
        blank = " " * (self.shown - len(text))
        painted = f"\x1b[{colour}m{mark}\x1b[0m" if self.colour else mark
        self.out.write(f"\r{painted} {text}{blank}{end}")
        self.out.flush()
        self.shown = len(text)

    def tell(self, words: str) -> None:
        """Say what is wrong; in a terminal, in lines that fit."""
        if self.is_terminal:
            words = textwrap.fill(words, shutil.get_terminal_size().columns - 1)
        sys.stderr.write(f"{words}\n")


def run(log: Path, text: str, command: "list[str]") -> int:
    """Run a command; returns its exit status."""
    log.parent.mkdir(parents=True, exist_ok=True)
    line = Line(text)
    started = time.monotonic()

    def after() -> str:
        size = downloaded(log.read_text("utf-8", "replace"))
        taken = f"{time.monotonic() - started:.0f} s"
        return f"{size / 1e6:.0f} MB, {taken}" if size else taken

    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        ended = threading.Event()
        threading.Thread(target=lambda: (process.wait(), ended.set()), daemon=True).start()
        frame = 0
        try:
            while not ended.wait(FRAME):
                line.draw(SPINNER[frame % len(SPINNER)], after(), YELLOW)
                frame += 1
        except KeyboardInterrupt:
            process.wait()
            line.draw("✗", "stopped", RED, "\n")
            return 130
    if process.returncode:
        line.draw("✗", after(), RED, "\n")
        reason = reason_in(log.read_text("utf-8", "replace")).rstrip(".")
        line.tell(f"This failed: {reason}. {log} has the details.")
    else:
        line.draw("✓", after(), GREEN, "\n")
    return process.returncode


def main() -> None:
    """Run the command of the command line."""
    if sys.version_info < PYTHON:
        found = ".".join(map(str, sys.version_info[:2]))
        wanted = ".".join(map(str, PYTHON))
        raise SystemExit(
            f"ChatGPT Source needs Python {wanted} or newer, and this is {found}. Name another"
            " one: make PYTHON=python3.12"
        )
    sys.stdout.reconfigure(errors="replace")  # a terminal may lack ✓
    log, text, *command = sys.argv[1:]
    raise SystemExit(run(Path(log), text, command))


if __name__ == "__main__":
    main()
