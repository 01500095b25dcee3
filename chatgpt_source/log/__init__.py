"""Formats and writes the log: one line for each event, as text or JSON, without secrets.

A line never holds a prompt, an answer, a key or a header's value: callers pass ids, counts and
reasons. The text of an unexpected exception may hold anything, so `log_unexpected` logs only the
exception's type and the places in its traceback.
"""

import json
import sys
import time
import traceback
from collections.abc import Mapping
from datetime import datetime, timezone
from functools import lru_cache
from math import isfinite
from string import Formatter
from typing import Any, TextIO

from twisted.logger import (
    FilteringLogObserver,
    ILogObserver,
    LogEvent,
    Logger,
    LogLevel,
    LogLevelFilterPredicate,
    LogPublisher,
    formatEvent,
    globalLogPublisher,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from chatgpt_source.log.lines import lines_of

LEVELS = {
    "trace": LogLevel.debug,
    "debug": LogLevel.debug,
    "info": LogLevel.info,
    "warn": LogLevel.warn,
    "warning": LogLevel.warn,
    "error": LogLevel.error,
    "fatal": LogLevel.critical,
    "panic": LogLevel.critical,
}
"""The Go connector's level names (those of zerolog), and `warning`, as Twisted's levels."""

FORMATS = ("auto", "text", "json")
"""The formats of a line; `auto` is text on a terminal and JSON elsewhere."""

_ONE_LINE = dict.fromkeys([*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029], " ")
"""Characters that could end a line early, or control a terminal."""

_NAMES = {LogLevel.critical: "fatal"}
"""Zerolog's names of levels that have another name in Twisted."""
_OWN_MEMBERS = ("time", "level", "logger", "message")

_levels = LogLevelFilterPredicate(defaultLogLevel=LogLevel.info)
_ours_or_severe = LogLevelFilterPredicate(defaultLogLevel=LogLevel.warn)
"""Passes our own events, and Twisted's from the level of warnings."""
_ours_or_severe.setLogLevelForNamespace("chatgpt_source", LogLevel.debug)
_chosen = {"format": "auto"}


def set_format(name: str) -> None:
    """Set the format of lines, one of `FORMATS`; existing observers use it too."""
    _chosen["format"] = name


def set_level(name: str) -> None:
    """Log only what is at least as severe as `name`, one of `LEVELS`."""
    _levels.setLogLevelForNamespace("chatgpt_source", LEVELS[name])


def get_logger(namespace: str) -> Logger:
    """A logger that drops events below the configured level."""
    return Logger(namespace, observer=FilteringLogObserver(globalLogPublisher, [_levels]))


def log_unexpected(log: Logger, doing: str, failure: Failure) -> None:
    """Log an unexpected failure: its type and where it happened, never its text."""
    log.error(
        "{doing}: {kind} (its text is withheld) at {places}",
        doing=doing,
        kind=failure.type.__name__ if failure.type else "unknown",
        places=_places(failure),
    )


def _places(failure: Failure) -> str:
    frames = traceback.extract_tb(failure.tb)[-4:]
    return " < ".join(f"{frame.filename}:{frame.lineno}" for frame in reversed(frames))


@implementer(ILogObserver)
class _LineObserver:
    """Writes one line for each event: RFC 3339 time in UTC, level, text, and in JSON its fields.

    If `out` has a file descriptor, writing does not block; lines that it does not take are dropped.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._encoding = out.encoding or "utf-8"
        self._auto = "text" if out.isatty() else "json"
        self._lines = lines_of(out)
        if self._lines is not None:
            self._lines.lost = self._lost

    def __call__(self, event: LogEvent) -> None:
        line = self._line(event)
        if self._lines is not None:
            self._lines.write(line)
        else:
            self._out.write(line.decode(self._encoding))
            self._out.flush()

    def _lost(self, lines: int) -> bytes:
        told = "{lines} log lines were dropped: stdout was not read"
        event = {"log_namespace": __name__, "log_level": LogLevel.warn, "log_time": time.time()}
        return self._line({**event, "log_format": told, "lines": lines})

    def _line(self, event: LogEvent) -> bytes:
        stamp, level = _stamp(event["log_time"]), event["log_level"]
        name = _NAMES.get(level, level.name)
        chosen = _chosen["format"]
        if (self._auto if chosen == "auto" else chosen) == "json":
            own = {
                "time": stamp,
                "level": name,
                "logger": str(event.get("log_namespace", "")),
                "message": text_of(event),
            }
            line = json.dumps(own | _fields(event))
        else:
            line = f"{stamp} {name:<8} {text_of(event)}"
        return f"{line}\n".encode(self._encoding, "replace")


def _stamp(instant: float) -> str:
    second, thousandths = divmod(int(instant * 1000), 1000)
    return f"{_second(second)}.{thousandths:03}Z"


@lru_cache(maxsize=8)
def _second(instant: int) -> str:
    return datetime.fromtimestamp(instant, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")


def text_of(event: LogEvent) -> str:
    """An event's text on one line; of an unexpected failure, only its type and place."""
    failure = event.get("log_failure")
    if failure is not None:  # from Twisted: its text may hold anything
        return f"unexpected error: {failure.type.__name__} at {_places(failure)}"
    try:
        return _clean(event["log_format"].format_map(event))  # takes a third of formatEvent's time
    except Exception:  # noqa: BLE001 - a field's own; formatEvent knows what to say then
        return _clean(formatEvent(event))


def _clean(text: str) -> str:
    """Text on one line that can be encoded."""
    if text.isprintable():
        return text
    return text.translate(_ONE_LINE).encode("utf-8", "replace").decode("utf-8")


def _fields(event: LogEvent) -> dict[str, Any]:
    """The plain values that the format string of one of our events names."""
    if not is_ours(event) or "log_failure" in event:
        return {}
    return {name: _plain(event.get(name)) for name in _named(event.get("log_format") or "")}


@lru_cache(maxsize=256)
def _named(log_format: str) -> tuple[str, ...]:
    try:
        names = [name for _, name, _, _ in Formatter().parse(log_format) if name]
    except ValueError:  # there is no format string
        return ()
    return tuple(name for name in names if name.isidentifier() and name not in _OWN_MEMBERS)


def _plain(value: object) -> str | float | bool | None:
    """A value for JSON: text, a number or a boolean; nothing of any other value."""
    if isinstance(value, str):
        return _clean(value)
    if isinstance(value, float):
        return round(value, 6) if isfinite(value) else None
    return value if isinstance(value, int) else None


def is_ours(event: LogEvent) -> bool:
    """Whether an event is this package's."""
    return str(event.get("log_namespace", "")).startswith("chatgpt_source")


def stdout() -> ILogObserver:
    """An observer for `twistd --logger=chatgpt_source.log.stdout`: lines on stdout, if open."""
    out: TextIO | None = sys.stdout
    if out is None:  # it was closed before the start, so its descriptor may be another file's
        return LogPublisher()
    return lines_to(out)


def lines_to(out: TextIO) -> ILogObserver:
    """An observer that writes lines to a stream."""
    return FilteringLogObserver(_LineObserver(out), [_ours_or_severe])


def is_stdout_the_log(twistd: Mapping[str, Any]) -> bool:
    """Whether twistd's options leave the log on stdout, so that we choose its format."""
    to_file = twistd.get("logfile") not in {None, "", "-"}
    return bool(twistd.get("nodaemon")) and not to_file and not twistd.get("syslog")
