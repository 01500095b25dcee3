"""The log: one line an event, levels as in the configuration, and nothing secret in a traceback.

A line never holds a prompt, an answer, a key or a header's value: callers pass ids, counts and
reasons. What can't be trusted to keep to that, the text of an unforeseen exception, is left out
by `log_unexpected`, which names the exception's type and the places it passed.
"""

import sys
import traceback
from datetime import datetime, timezone
from typing import TextIO

from constantly import NamedConstant
from twisted.logger import (
    FilteringLogObserver,
    ILogFilterPredicate,
    ILogObserver,
    LogEvent,
    Logger,
    LogLevel,
    LogLevelFilterPredicate,
    PredicateResult,
    formatEvent,
    globalLogPublisher,
)
from twisted.python.failure import Failure
from zope.interface import implementer

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

_ONE_LINE = dict.fromkeys([*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029], " ")
"""What could end a line early, or drive a terminal."""

_levels = LogLevelFilterPredicate(defaultLogLevel=LogLevel.info)


def set_level(name: str) -> None:
    """Let through what is at least as severe as `name`, one of `LEVELS`."""
    _levels.setLogLevelForNamespace("chatgpt_source", LEVELS[name])


def get_logger(namespace: str) -> Logger:
    """A logger whose events below the configured level go nowhere."""
    return Logger(namespace, observer=FilteringLogObserver(globalLogPublisher, [_levels]))


def log_unexpected(log: Logger, doing: str, failure: Failure) -> None:
    """Log a failure nobody foresaw: its type and where it happened, never its text."""
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
    """Writes one line an event: RFC 3339 time in UTC, level, text."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def __call__(self, event: LogEvent) -> None:
        when = datetime.fromtimestamp(event["log_time"], timezone.utc)
        failure = event.get("log_failure")
        if failure is None:
            text = formatEvent(event).translate(_ONE_LINE)
        else:  # from Twisted; what it says may hold anything
            text = f"an error nobody foresaw: {failure.type.__name__} at {_places(failure)}"
        stamp = when.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = f"{stamp} {event['log_level'].name:<8} {text}\n"
        self._out.write(line.encode(self._out.encoding or "utf-8", "replace").decode())
        self._out.flush()


@implementer(ILogFilterPredicate)
class _OursOrSevere:
    """Of what Twisted itself says, lets through warnings and worse."""

    def __call__(self, event: LogEvent) -> NamedConstant:
        ours = str(event.get("log_namespace", "")).startswith("chatgpt_source")
        severe = bool(event.get("log_level", LogLevel.info) >= LogLevel.warn)
        return PredicateResult.yes if ours or severe else PredicateResult.no


def stdout() -> ILogObserver:
    """An observer for `twistd --logger=chatgpt_source.log.stdout`: plain lines to stdout."""
    return FilteringLogObserver(_LineObserver(sys.stdout), [_OursOrSevere()])
