"""The daemon: its options, its parts, one ordered start and one ordered stop. Decides nothing."""

import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar, TypeVar

from twisted.application.service import IService, Service
from twisted.internet.defer import CancelledError, Deferred, TimeoutError, succeed
from twisted.internet.interfaces import IListeningPort
from twisted.internet.threads import deferToThreadPool
from twisted.logger import ILogObserver
from twisted.python import usage
from twisted.python.components import Componentized
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool
from twisted.web.client import HTTPConnectionPool

from chatgpt_source import __version__, check
from chatgpt_source.access import AccessLog
from chatgpt_source.auth import Guard
from chatgpt_source.client import make_client
from chatgpt_source.config import Config, ConfigError, files_for_callers, load, require_files
from chatgpt_source.delivery import Target
from chatgpt_source.health import Health
from chatgpt_source.intake import OPEN_PATHS, Intake
from chatgpt_source.journal.sqlite import SqliteJournal, check_journal, open_journal
from chatgpt_source.listen import PortUnavailable, listen, taken
from chatgpt_source.log import (
    get_logger,
    is_stdout_the_log,
    log_unexpected,
    set_format,
    set_level,
    stdout,
)
from chatgpt_source.openai import Model
from chatgpt_source.pipeline import Pipeline
from chatgpt_source.prompt import JournalError, JournalUnavailable
from chatgpt_source.quota import Calendar, Midnight
from chatgpt_source.span import NO_SPANS, Spans, are_wanted
from chatgpt_source.watch import Watchers
from chatgpt_source.web import BoundedRequest, BoundedSite, origin_of

log = get_logger(__name__)

CLOSE_TIMEOUT = 1.5
"""Seconds that each of closing the port, the journal and the connections may take at a stop."""
MOST_OPERATORS = 100
"""Connections that the admin site may have."""

T = TypeVar("T")


class Options(usage.Options):
    """What `twistd chatgpt-source` takes; the settings are in the config file."""

    optFlags: ClassVar = [
        ["check", None, "Say what the daemon would do, or what is wrong, without starting it."]
    ]
    longdesc = (
        "Takes prompts by POST, asks a chat model, and delivers the answers as CloudEvents. It is"
        " configured by the YAML file that CONNECTOR_CONFIG names (default"
        " /vanus-connect/config/config.yml) and by the environment; see the README."
    )

    def postOptions(self) -> None:
        """Do what --check says, here: twistd would next mind a running daemon's pidfile.

        Raises:
            SystemExit: With status 0 if the daemon would start, else with a line for each mistake.
        """
        if self["check"]:
            try:
                facts = check.gather(os.environ, self.parent or {}, time.time())
            except check.Mistakes as mistakes:
                raise SystemExit(str(mistakes)) from None
            sys.stdout.write("".join(f"{line}\n" for line in check.tell(facts)))
            raise SystemExit(0)


def makeService(options: Options) -> IService:
    """The daemon as a service; everything that can be found wrong is found here.

    This runs before twistd changes to --rundir, forks and changes the user, so nothing is left
    open.

    Raises:
        SystemExit: With one line for each mistake.
    """
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    twistd: Mapping[str, Any] = options.parent or {}
    try:
        config = load(os.environ)
        require_files(config, check.hard_limit())
        journal = check.journal_path(config, twistd)
        where = check.check_prompts(config)
        check.check_admin(config)
        if not check.changes_user(twistd):
            check_journal(journal)  # else it would be made as the wrong user's
    except (ConfigError, JournalError, PortUnavailable) as error:
        raise SystemExit(str(error)) from None
    set_level(config.log_level)
    set_format(config.log_format)
    return ChatGPTSource(
        reactor,
        config,
        journal,
        where,
        foreground=bool(twistd.get("nodaemon", True)),
        log_to_stdout=is_stdout_the_log(twistd),
    )


class ChatGPTSource(Service):
    """The running daemon.

    Args:
        reactor: The reactor.
        config: The settings.
        journal: The journal's file.
        where: The endpoint string of where to listen.
        foreground: Whether a failed start may end the process, as it must under --nodaemon; where
            twistd has forked, only an exception reaches the parent.
        log_to_stdout: Whether to take the log of the application it joins.
    """

    name = "chatgpt-source"

    def __init__(
        self,
        reactor: Any,
        config: Config,
        journal: Path,
        where: str,
        *,
        foreground: bool,
        log_to_stdout: bool = False,
    ) -> None:
        self._reactor = reactor
        self._config = config
        self._journal_path = journal
        self._where = where
        self._foreground = foreground
        self._log_to_stdout = log_to_stdout
        self._port: IListeningPort | None = None
        self._admin_port: IListeningPort | None = None
        self._running: _Running | None = None

    def setServiceParent(self, parent: Any) -> None:
        """Join an application; twistd asks it for an observer unless `--logger` names one."""
        if self._log_to_stdout and isinstance(parent, Componentized):
            parent.setComponent(ILogObserver, stdout())
        super().setServiceParent(parent)

    def privilegedStartService(self) -> None:
        """Take the ports, while those under 1024 are still allowed."""
        super().privilegedStartService()
        _raise_file_limit()
        guard = Guard(self._config.auth, OPEN_PATHS) if self._config.auth else None
        site = BoundedSite(
            self._reactor,
            self._answer,
            self._config.max_body_size,
            guard.refusal if guard else None,
            files_for_callers(self._config, resource.getrlimit(resource.RLIMIT_NOFILE)[0]),
            self._refused,
            AccessLog(self._reactor),
        )
        self._port = self._or_end(lambda: taken(listen(self._reactor, self._where, site)))
        if self._config.admin is not None:
            self._admin_port = self._listen_for_operators(self._config.admin)

    def _listen_for_operators(self, where: str) -> IListeningPort:
        from chatgpt_source.admin import Admission  # noqa: PLC0415 - only its users pay for it

        site = BoundedSite(
            self._reactor,
            self._answer_admin,
            self._config.max_body_size,
            Admission(self._config.admin_auth).refusal,
            MOST_OPERATORS,
        )
        return self._or_end(lambda: taken(listen(self._reactor, where, site, "admin")))

    def startService(self) -> None:
        """Open the journal, take up what is unfinished, and take what comes."""
        super().startService()
        self._running = self._or_end(
            lambda: _Running(self._reactor, self._config, self._journal_path)
        )
        self._running.start()
        for warning in check.unguarded(self._config):
            log.warn("{warning}", warning=warning)

    def stopService(self) -> Deferred[None]:
        """Accept nothing more, drain, close the journal, then the connections.

        The admin site is there to the end: whoever stops it may want to see how that goes.
        """
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        super().stopService()
        _end_at_once_on_a_second_signal()
        if self._port is not None:
            await _bounded(self._port.stopListening(), self._reactor)
        if self._running is not None:
            await self._running.stop()
        if self._admin_port is not None:
            await _bounded(self._admin_port.stopListening(), self._reactor)
        self._port = self._admin_port = None
        log.info("stopped")

    async def _answer(self, request: BoundedRequest) -> None:
        if self._running is not None:  # no request is read before the start is complete
            await self._running.intake.answer(request)

    def _refused(self, request: BoundedRequest, status: int) -> None:
        if self._running is not None:
            self._running.intake.refused(request, status)

    async def _answer_admin(self, request: BoundedRequest) -> None:
        if self._running is not None and self._running.admin is not None:
            await self._running.admin.answer(request)

    def _or_end(self, step: Callable[[], T]) -> T:
        try:
            return step()
        except (JournalError, PortUnavailable) as error:
            if self._foreground:
                raise SystemExit(str(error)) from None
            raise


class _Running:
    """The parts of a started daemon, wired.

    Raises:
        JournalError: If the journal can't be used.
    """

    def __init__(self, reactor: Any, config: Config, journal: Path) -> None:
        self._reactor = reactor
        self._config = config
        self._threads = _thread("journal")
        self._journal = SqliteJournal(open_journal(journal), reactor, self._in_thread)
        self._journal.recover(config.everyday_limit, config.timezone.key)
        self._client, self._pool = make_client(
            reactor,
            config.concurrency,
            proxies=config.proxies,
            authorities=config.ca_file + config.authorities,
        )
        self._model = Model(self._client, reactor, config)
        mode = config.content_mode
        target = Target(
            self._client,
            reactor,
            config.target,
            mode,
            config.target_headers,
            config.signing_secret,
        )
        letters = (
            Target(self._client, reactor, config.dead_letter, mode) if config.dead_letter else None
        )
        watchers = Watchers()
        self._spans = _open_spans(config)
        self._pipeline = Pipeline(
            reactor,
            self._journal,
            config,
            self._model.ask,
            target.deliver,
            letters.deliver if letters else None,
            watcher=watchers,
            spans=self._spans,
        )
        self._doubts: Deferred[None] = succeed(None)
        calendar = Calendar(config.timezone)
        self._midnight = Midnight(reactor, calendar, self._prune)
        health = Health(reactor, config, calendar, self._journal, self._pipeline)
        self.intake = Intake(
            reactor,
            config,
            calendar,
            self._journal,
            self._pipeline,
            health,
            watchers,
            self._spans,
        )
        self.admin = None
        if config.admin is not None:
            from chatgpt_source.admin import Admin  # noqa: PLC0415 - only its users pay for it

            self.admin = Admin(
                reactor,
                config,
                calendar,
                self._journal,
                self._pipeline,
                self.intake,
                health,
                watchers,
            )

    def start(self) -> None:
        """Begin; says in the log with what."""
        config = self._config
        self._threads.start()
        for warning in config.warnings:
            log.warn("{warning}", warning=warning)
        log.info(
            "chatgpt-source {version}: prompts at {where}, at most {limit} a day ({zone});"
            " {model} at {base}; events to {target}; settings from {origin}",
            version=__version__,
            where=config.listen or f"port {config.port}",
            limit=config.everyday_limit,
            zone=config.timezone.key,
            model=config.model,
            base=origin_of(config.base_url),
            target=origin_of(config.target),
            origin=config.origin,
        )
        log.info("the journal is {path}", path=self._journal.location)
        if self.admin is not None:
            log.info("the admin site is at {endpoint}", endpoint=config.admin)
            self.admin.start()
        self._pipeline.start()
        self._midnight.start()
        self._doubts = Deferred.fromCoroutine(self._tell_doubts())

    async def _tell_doubts(self) -> None:
        try:
            doubt = await self._model.doubts()
        except CancelledError:
            return
        except Exception:  # noqa: BLE001 - whatever it was, prompts are asked all the same
            log_unexpected(log, "asking which models there are", Failure())
        else:
            if doubt is not None:
                log.warn("{doubt}", doubt=doubt)

    async def stop(self) -> None:
        """Drain, close the journal, then the connections."""
        self._midnight.stop()
        self._doubts.cancel()
        await self._pipeline.drain()
        if await _bounded(self._journal.close(), self._reactor):
            self._threads.stop()
        else:
            log.warn("the journal does not close in time: ending without it")
        await _bounded(_closed(self._pool), self._reactor)
        if self._spans is not NO_SPANS:
            await self._export_spans()
        if self.admin is not None:
            self.admin.stop()

    async def _export_spans(self) -> None:
        thread = _thread("spans")
        thread.start()
        done = deferToThreadPool(self._reactor, thread, self._spans.close)
        if await _bounded(done, self._reactor):
            thread.stop()

    def _in_thread(self, run: Callable[[], None]) -> Deferred[None]:
        return deferToThreadPool(self._reactor, self._threads, run)

    def _prune(self) -> Deferred[None]:
        done = self._journal.prune(self._reactor.seconds() - self._config.keep)
        return done.addErrback(lambda failure: failure.trap(JournalUnavailable) and None)


def _thread(name: str) -> ThreadPool:
    """One thread, which can't keep the process: if it hangs, that ends as in a crash."""
    pool = ThreadPool(1, 1, name)
    pool.threadFactory = partial(Thread, daemon=True)  # type: ignore[assignment] # as callable
    return pool


def _open_spans(config: Config) -> Spans:
    """Spans, if they are wanted and the extra for them is installed."""
    if not are_wanted(os.environ):
        return NO_SPANS
    try:
        from chatgpt_source.otel import open_spans  # noqa: PLC0415 - only its users pay for it
    except ImportError:
        log.warn("spans are wanted (OTEL_...), but the extra `otel` is not installed: tracing none")
        return NO_SPANS
    return open_spans(config, os.environ)


async def _bounded(step: Deferred[Any] | None, clock: Any) -> bool:
    """Wait for a step of the stop, but not for ever; whether it came to its end."""
    try:
        if step is not None:
            await step.addTimeout(CLOSE_TIMEOUT, clock)
    except TimeoutError:
        return False
    return True


def _closed(pool: HTTPConnectionPool) -> Deferred[Any]:
    done: Deferred[Any] = pool.closeCachedConnections()
    return done


def _end_at_once_on_a_second_signal() -> None:
    """Whoever asks twice does not want to wait; what is under way is in the journal."""
    for number in (signal.SIGTERM, signal.SIGINT):
        with suppress(ValueError):  # not in the main thread: an embedding program's business
            signal.signal(number, lambda number, _: os._exit(128 + number))


def _raise_file_limit() -> None:
    """Allow this process as many open files as it may have."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with suppress(ValueError, OSError):  # macOS refuses "unlimited"
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
