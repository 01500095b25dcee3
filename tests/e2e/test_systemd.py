"""Started by systemd's own tool for socket activation, as deploy/chatgpt-source.socket has it."""

import re
import shutil
import signal

from twisted.internet import reactor
from twisted.trial.unittest import SkipTest

from tests.e2e.processes import (
    LOG_TO_STDOUT,
    ROOT,
    TWISTD,
    Daemon,
    DaemonCase,
    Running,
    free_port,
    until,
)

UNIT = (ROOT / "deploy" / "chatgpt-source.socket").read_text()


class SocketActivationTests(DaemonCase):
    async def test_a_caller_starts_it_and_is_answered(self):
        activate = shutil.which("systemd-socket-activate")
        if activate is None:
            raise SkipTest("systemd-socket-activate is not installed")
        told = re.search(r'listen: "(.+)"', UNIT)[1]
        config = self.config(listen=told)
        del config["port"]
        daemon = Daemon(self, config)
        daemon.port = free_port()
        process = daemon.process = Running(daemon.output)
        self.addCleanup(daemon._kill, process)
        command = [activate, f"--listen=[::]:{daemon.port}", "--fdname=chatgpt-source.socket"]
        command += [f"--setenv={name}={value}" for name, value in daemon.environ.items()]
        command += [f"--setenv=PYTHONPATH={ROOT}", str(TWISTD), "--nodaemon", "--pidfile="]
        command += [f"--rundir={daemon.dir}", LOG_TO_STDOUT, "chatgpt-source"]
        reactor.spawnProcess(process, activate, command, env={}, path=str(daemon.dir))
        await until(lambda: "Listening on" in process.text, "the socket")
        prompt_id = await daemon.accepted("text")  # it waits at the socket for the start
        await daemon.reaches(prompt_id, "delivered")
        self.assertEqual(await daemon.stop(), -signal.SIGTERM)
