"""A log file in twistd's own format that can be reopened, for example after a rotation."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from twisted.logger import (
    FileLogObserver,
    ILogObserver,
    LogEvent,
    formatEventAsClassicLogText,
    formatTime,
)
from twisted.python.logfile import LogFile

from chatgpt_source.log import is_ours, text_of


class ReopenableLog:
    """The log of `--logfile`; it rotates at 1 MB, as twistd's does.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()  # twistd changes folders
        self._file: Any = None

    def observer(self) -> ILogObserver:
        """An observer that writes to the file.

        Raises:
            SystemExit: With one line, if it can't be written.
        """
        try:
            self._file = LogFile.fromFullPath(str(self.path))
        except OSError as error:
            raise SystemExit(
                f"log file {self.path} can't be written ({error.strerror}): name another with"
                " --logfile"
            ) from None
        return FileLogObserver(self._file, line_of)

    def reopen(self) -> None:
        """Continue in the file that has the path now, or in a new one.

        Raises:
            OSError: If it can't be written; the old file stays open.
        """
        with self.path.open("ab"):
            pass
        if self._file is not None:
            self._file.reopen()


def line_of(event: LogEvent) -> str | None:
    """An event's line in twistd's format; of our own events in a third of the time.

    Of an unexpected failure it says what our own format says: its text may hold anything.
    """
    if "log_failure" in event:
        event = {**event, "log_format": "{text}", "text": text_of(event)}
        del event["log_failure"]
    if not is_ours(event):
        return formatEventAsClassicLogText(event, _time_of)
    origin = f"{event['log_namespace']}#{event['log_level'].name}"
    return f"{_time_of(event['log_time'])} [{origin}] {text_of(event)}\n"


def _time_of(instant: float | None) -> str:
    return formatTime(None) if instant is None else _second(int(instant))


@lru_cache(maxsize=8)
def _second(instant: int) -> str:
    return formatTime(instant)


def log_of(twistd: Mapping[str, Any]) -> ReopenableLog | None:
    """The log file that twistd's options name; None if there is none."""
    name = twistd.get("logfile")
    if twistd.get("logger") or twistd.get("syslog") or name == "-":
        return None
    if not name and twistd.get("nodaemon", True):
        return None
    return ReopenableLog(Path(name or "twistd.log"))
