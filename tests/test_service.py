"""The daemon put together: what makeService finds wrong, and how a start that fails ends.

What it does once it runs is shown by the tests in `tests/e2e`, on the real thing.
"""

import contextlib
import socket
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from typing import Any, cast
from unittest.mock import Mock, call

import attrs
from twisted.application.service import IService, IServiceMaker
from twisted.internet.defer import Deferred, succeed
from twisted.internet.testing import MemoryReactor, MemoryReactorClock
from twisted.plugin import getPlugins
from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase

import chatgpt_source
from chatgpt_source import __version__, check, service
from chatgpt_source.config import Config
from chatgpt_source.config.secret import Secret
from chatgpt_source.errors import JournalError
from chatgpt_source.journal import Recovered
from chatgpt_source.journal.sqlite import SqliteJournal, open_journal
from chatgpt_source.journal.sqlite.engine import SqliteEngine
from chatgpt_source.service import ChatGPTSource, Options, makeService
from tests.e2e.processes import free_port
from tests.test_dockerfile import setup_argument

PACKAGE = "chatgpt_source"
ROOT = Path(__file__).parent.parent
CLOCKS = {"clock", "_clock", "reactor", "_reactor"}
"""What parts of the daemon have, and values have not."""


def is_ours(each: object) -> bool:
    """Whether this is one of our classes that attrs has made."""
    return isinstance(each, type) and each.__module__.startswith(PACKAGE) and attrs.has(each)


class MakeServiceTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.home = Path(self.mktemp())
        self.home.mkdir()
        self.config = self.home / "config.yml"
        self.patch(service.os, "environ", {"CONNECTOR_CONFIG": str(self.config)})
        self.write(port=free_port())

    def write(self, **settings: object) -> None:
        lines = {"target": "http://localhost:9", "token": "t", **settings}
        self.config.write_text("".join(f"{key}: {value}\n" for key, value in lines.items()))

    def options(self, **twistd: object) -> Options:
        options = Options()
        options.parent = {"rundir": str(self.home), "nodaemon": True, **twistd}
        return options

    def message(self, **twistd: object) -> str:
        return str(self.assertRaises(SystemExit, makeService, self.options(**twistd)).code)

    def test_made(self) -> None:
        self.assertTrue(IService.providedBy(makeService(self.options())))

    def test_every_mistake_has_its_line(self) -> None:
        self.write(port="x", everyday_limit=0)
        port, limit = self.message().splitlines()
        self.assertTrue(port.startswith("`port` must be"), port)
        self.assertTrue(limit.startswith("`everyday_limit` must be"), limit)

    def test_concurrency_that_can_not_fit(self) -> None:
        self.patch(check, "hard_limit", lambda: 300)
        self.assertRegex(self.message(), r"\A`concurrency` must be at most 50 [^\n]+\Z")

    def test_what_is_wrong_with_the_machine_is_said_all_at_once(self) -> None:
        self.patch(check, "hard_limit", lambda: 300)
        with socket.create_server(("127.0.0.1", 0)) as taken:
            self.write(
                port=taken.getsockname()[1],
                journal="/nonexistent/j.sqlite",
                admin=f"'tcp:{taken.getsockname()[1]}:interface=127.0.0.1'",
            )
            starts = [line.split()[0] for line in self.message().splitlines()]
        self.assertEqual(starts, ["`concurrency`", "journal", "port", "`admin`:"])

    def test_a_socket_that_systemd_has_not_passed(self) -> None:
        self.config.write_text(
            "target: http://localhost:9\ntoken: t\nlisten: systemd:domain=INET:index=0\n"
        )
        self.assertRegex(self.message(), r"\A`listen` [^\n]*systemd[^\n]+\Z")

    def test_a_busy_port(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            self.write(port=port)
            self.assertRegex(self.message(), rf"\Aport {port} [^\n]+\Z")

    def test_a_journal_in_use(self) -> None:
        opened = open_journal(self.home / "journal.sqlite")
        self.addCleanup(opened.close)
        self.assertTrue(IService.providedBy(makeService(self.options())))  # its start will wait

    def test_a_journal_in_use_that_would_not_do(self) -> None:
        opened = open_journal(self.home / "journal.sqlite")
        self.addCleanup(opened.close)
        opened.connection.execute("PRAGMA user_version = 999")
        self.assertRegex(self.message(), r"\Ajournal [^\n]+ newer [^\n]+\Z")

    def test_the_journal_is_in_the_rundir(self) -> None:
        makeService(self.options())
        self.assertTrue((self.home / "journal.sqlite").exists())

    def test_another_users_journal_is_not_made_as_root(self) -> None:
        makeService(self.options(uid=10001))
        self.assertFalse((self.home / "journal.sqlite").exists())


class StartTests(SynchronousTestCase):
    def start(self, *, foreground: bool) -> ChatGPTSource:
        nowhere = Path(self.mktemp()) / "deeper" / "journal.sqlite"
        config = Config(target="http://localhost:9", token=Secret("t"))
        reactor: Any = MemoryReactor()
        engine = SqliteEngine(nowhere)
        daemon = ChatGPTSource(reactor, config, engine, "tcp:8080", {"nodaemon": foreground})
        daemon.privilegedStartService()
        self.assertEqual(reactor.tcpServers[0][0], 8080)
        return daemon

    def test_in_the_foreground_a_failed_start_is_one_line(self) -> None:
        daemon = self.start(foreground=True)
        error = self.assertRaises(SystemExit, daemon.startService)
        self.assertNotIn("\n", str(error.code))

    def test_after_the_fork_it_is_an_exception_that_reaches_the_parent(self) -> None:
        self.assertRaises(JournalError, self.start(foreground=False).startService)

    def test_a_journal_that_takes_time_to_recover_is_waited_for(self) -> None:
        recovering: Deferred[Recovered] = Deferred()
        self.patch(SqliteJournal, "recover", lambda *_: recovering)
        engine = SqliteEngine(Path(self.mktemp()))
        self.patch(service, "Signals", Mock())
        failed = Mock()
        self.patch(service, "fail_at_exit", failed)
        reactor: Any = MemoryReactorClock()
        config = Config(target="http://localhost:9", token=Secret("t"))
        daemon = ChatGPTSource(reactor, config, engine, "tcp:8080", {"nodaemon": False})
        daemon.privilegedStartService()
        daemon.startService()
        failed.assert_not_called()
        recovering.errback(JournalError("it is gone"))
        failed.assert_called_once_with("it is gone")
        self.assertIsNone(daemon._running)
        self.assertTrue(reactor.hasStopped)


class StopTests(SynchronousTestCase):
    STEPS = ("waiting.cancel", "port.stopListening", "running.stop", "signals.remove")

    def test_each_step_is_taken_whatever_became_of_the_others(self) -> None:
        self.patch(service, "end_at_once_on_a_second_signal", Mock())
        for step in (None, "heard", *self.STEPS, "admin_port.stopListening"):
            log, parts, reactor = Mock(), Mock(), cast(Any, MemoryReactorClock())
            self.patch(service, "log", log)
            config = Config(target="http://localhost:9", token=Secret("t"))
            engine = Mock(is_remote=True)
            daemon = ChatGPTSource(reactor, config, engine, "tcp:8080", {})
            for part in ("waiting", "port", "admin_port", "running", "signals"):
                setattr(daemon, f"_{part}", getattr(parts, part))
            daemon._site = Mock()
            heard = daemon._site.connections.all_heard = Mock(side_effect=lambda: succeed(None))
            parts.running.stop.side_effect = lambda: succeed(None)
            if step == "heard":
                heard.side_effect = ValueError("MARKED")
            elif step is not None:
                parts.configure_mock(**{f"{step}.side_effect": ValueError("MARKED")})
            stopped = daemon.stopService()
            reactor.advance(0)
            self.successResultOf(stopped)
            for each in (*self.STEPS, "admin_port.stopListening"):
                self.assertEqual(parts.mock_calls.count(getattr(call, each)()), 1, (each, step))
            log.info.assert_called_once_with("stopped")
            self.assertEqual(log.error.call_count, 0 if step is None else 1, step)
            self.assertNotIn("MARKED", str(log.mock_calls))


class PluginTests(SynchronousTestCase):
    def test_both_are_offered(self) -> None:
        offered = {maker.tapname: maker for maker in getPlugins(IServiceMaker)}
        self.assertTrue(issubclass(offered["chatgpt-source"].options, usage.Options))
        self.assertTrue(issubclass(offered["cloudevents-display"].options, usage.Options))

    def test_its_version(self) -> None:
        self.assertEqual(__version__, setup_argument("version"))

    def test_takes_no_arguments(self) -> None:
        self.assertRaises(usage.UsageError, Options().parseOptions, ["surplus"])


class ImportTests(SynchronousTestCase):
    def test_python_does_not_look_for_cycles_in_what_is_imported(self) -> None:
        counted = (
            "import gc, treq\n"
            "looks = []\n"
            "gc.callbacks.append(lambda phase, info: looks.append(phase))\n"
            "import chatgpt_source.service\n"
            "print(looks.count('start'))\n"
        )
        program = [sys.executable, "-c", counted]
        ran = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=True)
        self.assertLess(int(ran.stdout), 10)


class PartsTests(SynchronousTestCase):
    def test_they_have_no_comparison_and_no_text(self) -> None:
        for each in walk_packages(chatgpt_source.__path__, f"{PACKAGE}."):
            with contextlib.suppress(ImportError):  # of an extra that is not installed
                import_module(each.name)
        modules = [module for name, module in sys.modules.items() if name.startswith(PACKAGE)]
        classes = {each for module in modules for each in vars(module).values() if is_ours(each)}
        parts = {each for each in classes if CLOCKS.intersection(attrs.fields_dict(each))}
        self.assertIn(ChatGPTSource, parts)
        needless = {each for each in parts if {"__eq__", "__repr__"} & vars(each).keys()}
        self.assertEqual(needless, set())
