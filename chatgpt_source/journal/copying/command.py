"""`chatgpt-source-journal copy`."""

import json
import signal
import time
from pathlib import Path
from typing import TextIO

from attrs import define, field

from chatgpt_source.journal.copying import source as sources
from chatgpt_source.journal.copying import target as targets
from chatgpt_source.journal.copying.counting import Count, compare
from chatgpt_source.journal.postgres.engine import PostgresEngine
from chatgpt_source.output import written
from chatgpt_source.words import count

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class CopyStopped(Exception):
    """A signal stopped the copy; it can be gone on with."""


@define
class Watcher:
    """Tells how far a copy has come, and stops it between two transactions once a signal has come.

    Attributes:
        err: The output; a terminal sees the progress.
        all: How many prompts there are.
        signals: The signals that have come.
        copied: How many prompts were copied, in this run and before.
    """

    err: TextIO
    all: int = 0
    signals: list[int] = field(factory=list)
    copied: int = 0

    def has_copied(self, prompts: int) -> None:
        """Note the end of a transaction.

        Raises:
            CopyStopped: If a signal has come.
        """
        self.copied += prompts
        self.show(f"{self.copied:,} of {self.all:,} prompts")
        self.go_on()

    def go_on(self) -> None:
        """Stop if a signal has come.

        Raises:
            CopyStopped: If one has.
        """
        if self.signals:
            raise CopyStopped

    def show(self, text: str) -> None:
        """Show a text in place of the one before it, in a terminal."""
        if self.err.isatty():
            self.err.write(f"\r\x1b[K{text}")
            self.err.flush()


def run(path: Path, engine: PostgresEngine, out: TextIO, err: TextIO, *, as_json: bool) -> int:
    """Copy a journal, and print what both then have.

    Returns:
        The exit status: 1 if they differ.

    Raises:
        JournalError: If it can't be copied.
    """
    watcher, began = Watcher(err), time.monotonic()
    before = {
        each: signal.signal(each, lambda number, _: watcher.signals.append(number))
        for each in SIGNALS
    }
    try:
        with sources.opened(path) as source, targets.opened(engine.database) as target:
            watcher.all = source.count()
            is_new = targets.copy(source, target, watcher.has_copied)
            watcher.show("counting")
            counts = compare(source, target, watcher.go_on)
            is_same = all(each.is_same for each in counts)
            if is_same:
                target.end()
    except CopyStopped:
        watcher.show("")
        err.write("stopped: start it again, and it goes on; no daemon starts on the copy yet\n")
        return 128 + watcher.signals[0]
    finally:
        watcher.show("")
        for each, handler in before.items():
            signal.signal(each, handler)
    seconds = time.monotonic() - began
    with written(out):
        if as_json:
            out.writelines(f"{json.dumps(_values(each))}\n" for each in counts)
            end = {"from": str(path), "to": engine.location, "prompts": watcher.copied}
            out.write(json.dumps({**end, "seconds": round(seconds, 1), "same": is_same}) + "\n")
        else:
            out.write(f"{'':<36}{'file':>15}{'database':>15}\n")
            out.writelines(f"{_line(each)}\n" for each in counts)
            out.write(_summary(path, engine, watcher.copied, seconds) if is_same else "")
    if not is_same and is_new:
        err.write(
            f"{path} and {engine.location} differ, and no daemon starts on the latter: drop its"
            " tables, and copy again\n"
        )
    elif not is_same:
        err.write(f"{engine.location} was whole, and was changed since\n")
    return 0 if is_same else 1


def _values(count: Count) -> dict[str, object]:
    return {
        "counted": count.what,
        "from": count.source,
        "to": count.target,
        "same": count.is_same,
    }


def _line(count: Count) -> str:
    line = f"{count.what:<36}{count.source:>15,}{count.target:>15,}"
    return line if count.is_same else f"{line}  differ"


def _summary(path: Path, engine: PostgresEngine, copied: int, seconds: float) -> str:
    return (
        f"{count(copied, 'prompt')} copied in {seconds:.1f} s: set `journal` to"
        f" {engine.location}, with its user, and start the daemons.\n{path} is as it was. Move it"
        " away: a daemon that starts on it would answer again what waits in it.\n"
    )
