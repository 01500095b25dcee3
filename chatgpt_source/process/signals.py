"""Handles SIGHUP (read certificates and secrets anew) and SIGUSR1 (reopen the log file)."""

import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import attrs
from attrs import define, field
from twisted.internet.error import ReactorNotRunning

from chatgpt_source.config import Config
from chatgpt_source.config.secret import Secret, SecretUnusable
from chatgpt_source.http.listen.string import PortUnavailable
from chatgpt_source.http.listen.tls import Certificates
from chatgpt_source.log import get_logger
from chatgpt_source.log.file import ReopenableLog
from chatgpt_source.log.lines import flush

log = get_logger(__name__)


@define(eq=False, repr=False)
class Signals:
    """The handlers of both signals.

    Args:
        reactor: Runs the handlers, and is stopped when the terminal is closed.
        config: The settings, with the secrets to read anew.
        certificates: The endpoints' certificates, by the settings' keys.
        log_file: The log file, if there is one.
    """

    _reactor: Any
    _config: Config
    _certificates: Mapping[str, Certificates]
    _log_file: ReopenableLog | None
    _had_terminal: bool = field(init=False, factory=lambda: _has_terminal())  # noqa: PLW0108 - defined below
    _installed: list[int] = field(init=False, factory=list)

    def install(self) -> None:
        """Install the handlers, unless the program that embeds us has its own."""
        for number, act in ((signal.SIGHUP, self.hang_up), (signal.SIGUSR1, self.reopen)):
            with suppress(ValueError):  # not in the main thread: an embedding program's business
                if signal.getsignal(number) is signal.SIG_DFL:
                    signal.signal(number, lambda *_, act=act: self._reactor.callFromThread(act))
                    self._installed.append(number)

    def remove(self) -> None:
        """Remove the handlers."""
        while self._installed:
            signal.signal(self._installed.pop(), signal.SIG_DFL)

    def hang_up(self) -> None:
        """Handle SIGHUP: reload; stop if it came because our terminal was closed."""
        if self._had_terminal and not _has_terminal():
            log.info("SIGHUP: the terminal was closed: stopping")
            with suppress(ReactorNotRunning):  # the kernel and a shell may both have told
                self._reactor.stop()
        else:
            self.reload()

    def reload(self) -> None:
        """Read certificates and secrets anew; keep the old value of those that can't be used."""
        read, kept = [], []
        for key, certificates in self._certificates.items():
            try:
                certificates.renew()
                read.append(f"the certificates of `{key}`")
            except PortUnavailable as error:  # noqa: PERF203 - each on its own
                kept.append(f"the certificates of `{key}`, which {error}")
        number = 0
        for secret in _secrets(self._config):
            try:
                if secret.reload():
                    number += 1
            except SecretUnusable as error:  # noqa: PERF203 - each on its own
                kept.append(f"a secret: {error}")
        if number:
            read.append(f"{number} secrets" if number > 1 else "1 secret")
        tell = log.warn if kept else log.info
        tell(
            "SIGHUP: read anew: {read}; kept as before: {kept}",
            read=", ".join(read) or "nothing",
            kept="; ".join(kept) or "the other settings, which need a restart",
        )

    def reopen(self) -> None:
        """Handle SIGUSR1: open the log file anew, for example after it was renamed."""
        if self._log_file is None:
            log.info("SIGUSR1: twistd does not log to a file: nothing to open anew")
            return
        path = str(self._log_file.path)
        try:
            self._log_file.reopen()
        except OSError as error:
            log.warn(
                "SIGUSR1: log file {path} can't be opened anew ({reason}): going on as before",
                path=path,
                reason=error.strerror,
            )
        else:
            log.info("SIGUSR1: log file {path} was opened anew", path=path)


def end_at_once_on_a_second_signal() -> None:
    """End the process at a second signal; the journal has what is under way."""
    for number in (signal.SIGTERM, signal.SIGINT):
        with suppress(ValueError):  # not in the main thread: an embedding program's business
            signal.signal(number, _end)


def _end(number: int, _: object) -> None:
    flush()
    os._exit(128 + number)


def _secrets(value: Any) -> Iterator[Secret]:
    """The secrets in the settings."""
    if isinstance(value, Secret):
        yield value
    elif isinstance(value, Mapping):
        yield from _secrets(tuple(value.values()))
    elif attrs.has(type(value)):
        yield from _secrets(attrs.astuple(value, recurse=False))
    elif isinstance(value, tuple):
        for each in value:
            yield from _secrets(each)


def _has_terminal() -> bool:
    """Whether output goes to an open terminal."""
    return any(os.isatty(descriptor) for descriptor in (1, 2))
