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

from attrs import frozen
from constantly import NamedConstant
from twisted.logger import (
    ILogObserver,
    LogEvent,
    Logger,
    LogLevel,
    LogPublisher,
    formatEvent,
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
_quoted = json.JSONEncoder().encode
_OWN_MEMBERS = ("time", "level", "logger", "message")

_dropped = {LogLevel.debug}
"""The levels that our loggers drop."""
_chosen = {"format": "auto"}


def set_format(name: str) -> None:
    """Set the format of lines, one of `FORMATS`; existing observers use it too."""
    _chosen["format"] = name


def set_level(name: str) -> None:
    """Log only what is at least as severe as `name`, one of `LEVELS`."""
    _dropped.clear()
    _dropped.update(level for level in LogLevel.iterconstants() if level < LEVELS[name])


class _Leveled(Logger):
    """Makes its parent's events in a fraction of the time, and none of what is below the level."""

    def emit(
        self,
        level: NamedConstant,
        format: str | None = None,  # noqa: A002 - the parent's name
        **kwargs: object,
    ) -> None:
        if level in _dropped:
            return
        kwargs["log_logger"] = self
        kwargs["log_level"] = level
        kwargs["log_namespace"] = self.namespace
        kwargs["log_source"] = self.source
        kwargs["log_format"] = format
        kwargs["log_time"] = time.time()
        self.observer(kwargs)


def get_logger(namespace: str) -> Logger:
    """A logger that drops events below the configured level."""
    return _Leveled(namespace)


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
        head = _head(event.get("log_namespace", ""), event.get("log_level", LogLevel.debug))
        if not head.is_written:
            return
        line = self._line(event, head)
        if self._lines is not None:
            self._lines.write(line)
        else:
            self._out.write(line.decode(self._encoding))
            self._out.flush()

    def _lost(self, lines: int) -> bytes:
        told = "{lines} log lines were dropped: stdout was not read"
        head = _head(__name__, LogLevel.warn)
        event = {"log_time": time.time(), "log_format": told, "lines": lines}
        return self._line(event, head)

    def _line(self, event: LogEvent, head: "_Head") -> bytes:
        text, stamp = text_of(event), _stamp(event["log_time"])
        chosen = _chosen["format"]
        if (self._auto if chosen == "auto" else chosen) == "json":
            fields = _fields(event) if head.is_ours else ""
            line = f'{{"time": "{stamp}", {head.json}, "message": {_quoted(text)}{fields}}}\n'
        else:
            line = f"{stamp} {head.text} {text}\n"
        return line.encode(self._encoding, "replace")


@frozen
class _Head:
    """What the lines of one logger at one level have in common.

    Attributes:
        text: The level, in a line of text.
        json: The level and the logger's name, as members in JSON.
        is_ours: Whether the logger is this package's.
        is_written: Whether they are written: our own, and Twisted's from the level of warnings.
    """

    text: str
    json: str
    is_ours: bool
    is_written: bool


@lru_cache(maxsize=512)
def _head(namespace: str, level: NamedConstant) -> _Head:
    name = _NAMES.get(level, level.name)
    ours = is_ours({"log_namespace": namespace})
    return _Head(
        text=f"{name:<8}",
        json=f'"level": "{name}", "logger": {_quoted(namespace)}',
        is_ours=ours,
        is_written=ours or (bool(namespace) and level >= LogLevel.warn),
    )


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


def _fields(event: LogEvent) -> str:
    """The plain values that the format string of one of our events names, as members in JSON."""
    if "log_failure" in event:
        return ""
    named = _named(event.get("log_format") or "")
    return "".join([f"{key}{_plain(event.get(name))}" for name, key in named])


@lru_cache(maxsize=256)
def _named(log_format: str) -> tuple[tuple[str, str], ...]:
    """The names in a format string, each with how it is written before its value in JSON."""
    try:
        names = dict.fromkeys(name for _, name, _, _ in Formatter().parse(log_format) if name)
    except ValueError:  # there is no format string
        return ()
    return tuple(
        (name, f", {_quoted(name)}: ")
        for name in names
        if name.isidentifier() and name not in _OWN_MEMBERS
    )


def _plain(value: object) -> str:
    """A value in JSON: text, a number or a boolean; nothing of any other value."""
    if isinstance(value, str):
        return _quoted(_clean(value))
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, float) and isfinite(value):
        return float.__repr__(round(value, 6))
    return "null"


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
    return _LineObserver(out)


def is_stdout_the_log(twistd: Mapping[str, Any]) -> bool:
    """Whether twistd's options leave the log on stdout, so that we choose its format."""
    to_file = twistd.get("logfile") not in {None, "", "-"}
    return bool(twistd.get("nodaemon")) and not to_file and not twistd.get("syslog")
