"""What is read anew at a SIGHUP, and what is told of it."""

import os
import signal
from pathlib import Path
from typing import Any

from twisted.internet.error import ReactorNotRunning
from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.config import Config, Credentials
from chatgpt_source.config.secret import Secret
from chatgpt_source.log.file import log_of
from chatgpt_source.process import signals
from chatgpt_source.process.signals import Signals


class SignalsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.events: list[Any] = []
        self.patch(signals, "log", Logger(observer=self.events.append))
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()

    def secret(self, name: str) -> Secret:
        file = self.folder / name
        file.write_text("old")
        return Secret.of_file(file, str.strip)

    def test_every_secret_wherever_it_is(self) -> None:
        names = ("token", "header", "signing", "bearer", "basic")
        of = {name: self.secret(name) for name in names}
        config = Config(
            target="http://x",
            token=of["token"],
            headers={"x": of["header"], "y": Secret("as it is")},
            signing_secret=(of["signing"],),
            admin_auth=Credentials((of["bearer"],), {"user": of["basic"]}),
        )
        before = {name: (self.folder / name).stat() for name in names}
        for name in names:
            (self.folder / name).write_text("new")
            times = (before[name].st_atime_ns, before[name].st_mtime_ns)
            os.utime(self.folder / name, ns=times)  # what a look at the file does not show
        (self.folder / "basic").unlink()
        Signals(None, config, {}, None).reload()
        self.assertEqual([of[name].read() for name in names], ["new"] * 4 + ["old"])
        (event,) = self.events
        self.assertEqual(event["read"], "4 secrets")
        self.assertIn("basic can't be read", event["kept"])

    def test_what_needs_a_restart_is_told(self) -> None:
        Signals(None, Config(target="http://x", token=Secret("t")), {}, None).reload()
        (event,) = self.events
        self.assertEqual(event["read"], "nothing")
        self.assertEqual(event["kept"], "the other settings, which need a restart")

    def test_a_handler_that_is_there_stays(self) -> None:
        theirs = signal.getsignal(signal.SIGHUP)
        self.addCleanup(signal.signal, signal.SIGHUP, theirs)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        ours = Signals(None, Config(target="http://x", token=Secret("t")), {}, None)
        ours.install()
        self.assertIs(signal.getsignal(signal.SIGHUP), signal.SIG_IGN)
        ours.remove()
        self.assertIs(signal.getsignal(signal.SIGUSR1), signal.SIG_DFL)

    def test_a_terminal_that_goes_twice(self) -> None:
        self.patch(signals, "_has_terminal", lambda: True)
        stopping: list[bool] = []

        class Reactor:
            def stop(self) -> None:
                if stopping:
                    raise ReactorNotRunning
                stopping.append(True)

        ours = Signals(Reactor(), Config(target="http://x", token=Secret("t")), {}, None)
        self.patch(signals, "_has_terminal", lambda: False)
        ours.hang_up()
        ours.hang_up()
        self.assertEqual(stopping, [True])

    def test_which_log_is_a_file(self) -> None:
        for options, name in (
            ({"nodaemon": True}, None),
            ({"nodaemon": True, "logfile": "-"}, None),
            ({"nodaemon": True, "logfile": "x"}, "x"),
            ({"nodaemon": False}, "twistd.log"),
            ({"nodaemon": False, "syslog": True}, None),
            ({"nodaemon": False, "logger": print}, None),
        ):
            log = log_of(options)
            self.assertEqual(log and log.path.name, name, options)
