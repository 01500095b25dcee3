"""The twistd service: its options, one ordered start and one ordered stop."""

import gc

# Objects that are made until Python looks for cycles. What is imported below stays, a prompt leaves
# no cycle, and with Python's own 700 a start and a prompt take a twentieth more CPU.
gc.set_threshold(20_000)

import os
import sys
import time
from collections.abc import Iterable, Iterator, MutableMapping
from contextlib import contextmanager
from functools import partial
from typing import Any, ClassVar

from attrs import define, field
from twisted.application.service import IService, Service
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IListeningPort
from twisted.internet.task import deferLater, react
from twisted.internet.threads import deferToThreadPool
from twisted.logger import ILogObserver
from twisted.python import usage
from twisted.python.components import Componentized
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from chatgpt_source import __version__, check
from chatgpt_source.application import CLOSE_TIMEOUT, Application, thread
from chatgpt_source.clock import steady
from chatgpt_source.config import Config, files_for_callers
from chatgpt_source.errors import JournalError
from chatgpt_source.files import raise_limit
from chatgpt_source.http.listen import is_shared, listen
from chatgpt_source.http.listen.string import PortUnavailable
from chatgpt_source.http.listen.tls import Certificates
from chatgpt_source.http.server import BoundedSite
from chatgpt_source.intake.access_log import AccessLog
from chatgpt_source.intake.auth import Guard
from chatgpt_source.intake.health import PROBES
from chatgpt_source.intake.origin import AccessPolicy
from chatgpt_source.intake.starting import Starting
from chatgpt_source.journal.engine import Engine
from chatgpt_source.log import (
    get_logger,
    is_stdout_the_log,
    log_unexpected,
    set_format,
    set_level,
    stdout,
)
from chatgpt_source.log.file import ReopenableLog, log_of
from chatgpt_source.log.lines import flush
from chatgpt_source.output import written
from chatgpt_source.process.parent import Parent, fail_at_exit
from chatgpt_source.process.signals import Signals, end_at_once_on_a_second_signal
from chatgpt_source.process.steps import take_all
from chatgpt_source.terminal import look_of
from chatgpt_source.waiting import completes

log = get_logger(__name__)

LAST_CALLERS = 1.0
"""Seconds that a stop leaves to those who have connected and not sent their first request, where
other daemons share the port or the journal: they would have served who is turned away here."""
MOST_OPERATORS = 60
"""Connections that the admin site may have."""


class Options(usage.Options):
    """The options of `twistd chatgpt-source`; the settings are in the config file."""

    optFlags: ClassVar = [
        ["check", None, "Say what the daemon would do, or what is wrong, without starting it."],
        ["online", None, "With --check: also try the keys and the targets, without a prompt."],
    ]
    longdesc = (
        "Takes prompts by POST, asks a chat model, and delivers the answers as CloudEvents. It is"
        " configured by the YAML file that CONNECTOR_CONFIG names (default"
        " /vanus-connect/config/config.yml) and by the environment; see the README."
    )

    def postOptions(self) -> None:
        """Run --check here, before twistd refuses because of a running daemon's pidfile.

        Raises:
            SystemExit: With status 0 if the daemon would start, and with --online gets through.
            Mistakes: If it would not.
            UsageError: If --online comes alone.
        """
        if self["online"] and not self["check"]:
            raise usage.UsageError("--online belongs to --check")
        if self["check"]:
            facts = check.gather(os.environ, self.parent or {}, time.time())
            _say(check.tell(facts))
            if self["online"]:
                react(lambda reactor: Deferred.fromCoroutine(_try_online(reactor, facts.config)))
            raise SystemExit(0)

    def opt_version(self) -> None:
        """Say which release this is."""
        _say([f"chatgpt-source {__version__}"])
        raise SystemExit(0)

    def opt_help(self) -> None:
        """Display this help and exit."""
        with written(sys.stdout):
            super().opt_help()


def _say(lines: Iterable[str]) -> None:
    """Print lines; in a terminal folded, with those that follow under the first's text."""
    with written(sys.stdout):
        look = look_of(sys.stdout, os.environ)
        sys.stdout.write("".join(f"{look.fold(line, ' ' * 10)}\n" for line in lines))


async def _try_online(reactor: Any, config: Config) -> None:
    """Try the keys and the targets, and say what came of it.

    Raises:
        SystemExit: With status 1 if something is not well.
    """
    from chatgpt_source.online import try_all  # noqa: PLC0415 - only its users pay for it

    found = await try_all(reactor, config)
    _say([f"online:   {each.line}" for each in found])
    if not all(each.is_well for each in found):
        raise SystemExit(1)


def makeService(options: Options) -> IService:
    """The daemon as a service; checks everything that can be checked before the start.

    This runs before twistd changes to --rundir, forks and changes the user, so it leaves nothing
    open.

    Raises:
        Mistakes: If the daemon can't start.
    """
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    twistd: MutableMapping[str, Any] = {} if options.parent is None else options.parent
    facts = check.gather(os.environ, twistd, time.time(), starting=True)
    config = facts.config
    set_level(config.log_level)
    set_format(config.log_format)
    return ChatGPTSource(reactor, config, facts.engine, facts.where, twistd)


@define(eq=False, repr=False, slots=False)
class ChatGPTSource(Service):
    """The running daemon.

    Args:
        reactor: The reactor.
        config: The settings.
        engine: Opens the journal.
        where: The endpoint string for prompts.
        twistd: twistd's own options. A failed start ends the process with --nodaemon; after a
            fork, only an exception reaches the parent.
    """

    name = "chatgpt-source"
    _reactor: Any
    _config: Config
    _engine: Engine
    _where: str
    _twistd: MutableMapping[str, Any] = field(factory=dict)
    _log_file: ReopenableLog | None = field(init=False)
    _parent: Parent = field(init=False)
    _threads: ThreadPool = field(init=False)
    _starting: Starting = field(init=False)
    _site: BoundedSite = field(init=False)
    _admin_site: BoundedSite | None = field(init=False, default=None)
    _port: IListeningPort | None = field(init=False, default=None)
    _admin_port: IListeningPort | None = field(init=False, default=None)
    _running: Application | None = field(init=False, default=None)
    _waiting: Deferred[None] = field(init=False, factory=lambda: succeed(None))
    _certificates: dict[str, Certificates] = field(init=False, factory=dict)
    _signals: Signals | None = field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        self._log_file, self._parent = log_of(self._twistd), Parent(self._twistd)
        self._threads = thread("journal")
        in_thread = partial(deferToThreadPool, self._reactor, self._threads)
        self._starting = Starting(self._engine, self._reactor, in_thread)

    def setServiceParent(self, parent: Any) -> None:
        """Join an application; twistd asks it for an observer unless `--logger` names one."""
        if isinstance(parent, Componentized):
            if self._log_file is not None:
                parent.setComponent(ILogObserver, self._log_file.observer())
            elif is_stdout_the_log(self._twistd):
                parent.setComponent(ILogObserver, stdout())
        super().setServiceParent(parent)

    def privilegedStartService(self) -> None:
        """Open the ports, while those under 1024 are still allowed."""
        super().privilegedStartService()
        steady(self._reactor)
        files = raise_limit()
        guard = Guard(self._config.auth, PROBES) if self._config.auth else None
        self._site = BoundedSite(
            self._reactor,
            self._starting.answer,
            self._config.max_body_size,
            AccessPolicy(guard, self._config.allow_origins).refusal,
            files_for_callers(self._config, files),
            access=AccessLog(self._reactor),
            probes=PROBES,
        )
        with self._ending_on_error():
            self._port = self._listen(self._where, self._site, "listen")
            if self._config.admin is not None:
                self._admin_site = self._make_admin_site(self._config.admin)
                self._admin_port = self._listen(self._config.admin, self._admin_site, "admin")

    def _make_admin_site(self, where: str) -> BoundedSite:
        from chatgpt_source import admin  # noqa: PLC0415 - only its users pay for it

        return BoundedSite(
            self._reactor,
            self._starting.answer,
            self._config.max_body_size,
            admin.Admission(self._config.admin_auth, where).refusal,
            MOST_OPERATORS,
            probes=admin.PROBES,
        )

    def _listen(self, where: str, site: BoundedSite, key: str) -> IListeningPort:
        return listen(self._reactor, where, site, key, self._certificates)

    def startService(self) -> None:
        """Open the journal, and start the application.

        If another daemon uses the journal, or it takes time to open or recover, this waits in
        the background.
        """
        super().startService()
        with self._ending_on_error():
            beginning = Deferred.fromCoroutine(self._begin())
            if beginning.called:
                _raise_failure(beginning)
            else:
                self._parent.hold()
                self._waiting = Deferred.fromCoroutine(self._complete(beginning))
        self._signals = Signals(self._reactor, self._config, self._certificates, self._log_file)
        self._signals.install()

    async def _begin(self) -> None:
        self._threads.start()
        opened = await self._starting.open()
        application = Application(self._reactor, self._config, opened, self._threads)
        recovered = await application.recover()
        self._running = application
        application.start(recovered)
        application.serve(self._site, self._admin_site)
        for warning in check.unguarded(self._config):
            log.warn("{warning}", warning=warning)
        gc.freeze()  # what the start has made stays: Python need not look for cycles in it again

    async def _complete(self, beginning: Deferred[None]) -> None:
        """Wait for a start that takes time, and tell the parent process how it ended."""
        try:
            await beginning
        except CancelledError:
            self._parent.tell("it was stopped while it waited for the journal")
        except JournalError as error:
            self._fail(str(error))
        except Exception:  # noqa: BLE001 - else it would wait for ever
            log_unexpected(log, "starting", Failure())
            self._fail("the start failed; the log says where")
        else:
            self._parent.tell()

    def _fail(self, reason: str) -> None:
        """End a start that had to wait, with a reason."""
        log.error("{reason}", reason=reason)
        self._parent.tell(reason)
        fail_at_exit("" if is_stdout_the_log(self._twistd) else reason)
        self._reactor.stop()

    def stopService(self) -> Deferred[None]:
        """Accept nothing more, drain, close the journal, then the connections.

        The admin site stays up until the end, so that operators can watch the stop.
        """
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        super().stopService()
        end_at_once_on_a_second_signal()
        await take_all(
            log,
            ("waiting no longer for the journal", self._waiting.cancel),
            ("closing the port", lambda: self._close(self._port)),
            ("ending the opening of the journal", self._end_opening),
            ("hearing the last callers", self._hear_last_callers),
            ("stopping", self._stop_running),
            ("closing the admin port", lambda: self._close(self._admin_port)),
            ("removing the signals' handlers", self._remove_signals),
        )
        self._port = self._admin_port = None
        log.info("stopped")
        flush()  # twistd may end this process by a signal after this

    async def _end_opening(self) -> None:
        if not await completes(self._starting.stop(), self._config.drain_timeout, self._reactor):
            log.warn("opening the journal does not end in time: stopping without it")

    async def _hear_last_callers(self) -> None:
        if self._running is not None and (is_shared(self._where) or self._engine.is_remote):
            await completes(self._site.connections.all_heard(), LAST_CALLERS, self._reactor)
            await deferLater(self._reactor, 0)  # the last one's request is being passed on

    async def _stop_running(self) -> None:
        if self._running is not None:
            await self._running.stop()

    def _remove_signals(self) -> None:
        if self._signals is not None:
            self._signals.remove()

    async def _close(self, port: IListeningPort | None) -> None:
        if port is not None:
            await completes(maybeDeferred(port.stopListening), CLOSE_TIMEOUT, self._reactor)

    @contextmanager
    def _ending_on_error(self) -> Iterator[None]:
        """In the foreground, ends the process with one line if a step of the start fails."""
        try:
            yield
        except (JournalError, PortUnavailable) as error:
            if self._twistd.get("nodaemon", True):
                raise SystemExit(str(error)) from None
            raise


def _raise_failure(fired: Deferred[None]) -> None:
    """Raise the error of a Deferred that has fired, if it failed."""
    failures: list[Failure] = []
    fired.addErrback(failures.append)
    for failure in failures:
        failure.raiseException()
