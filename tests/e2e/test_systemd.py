"""Started as the units of deploy/ have it, by systemd's own tool for socket activation."""

import re
import shlex
import shutil
import signal
from functools import partial
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.error import ConnectError
from twisted.trial.unittest import SkipTest

from tests.e2e.processes import (
    LOG_TO_STDOUT,
    ROOT,
    STARTED,
    TWISTD,
    Daemon,
    DaemonCase,
    Running,
    call,
    free_port,
    until,
)
from tests.journal.postgres_server import server

UNIT = (ROOT / "deploy" / "chatgpt-source.socket").read_text()
ARRIVED = r"(?m)^chatgpt_source_prompts_arrived_total\S* [1-9]"
INSTANCE = (ROOT / "deploy" / "chatgpt-source@.service").read_text()


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


class InstanceTests(DaemonCase):
    """Instances of deploy/chatgpt-source@.service; what systemd does for them is done here."""

    def setUp(self):
        self.url = server().schema()
        super().setUp()
        self.folder = Path(self.mktemp()).absolute()
        self.port, self.admin = free_port(), free_port() // 10
        keys = "listen|admin|token_file|journal|journal_password"
        told = dict(re.findall(rf"(?m)^#   ({keys}): (.+)$", INSTANCE))
        told["journal"] = self.url
        lines = [f"target: {self.target.origin}", f"base_url: {self.openai.base_url}"]
        lines += [f"{key}: {value}" for key, value in told.items()]
        text = "\n".join(lines).replace(":8080:", f":{self.port}:").replace("946", f"{self.admin}")
        self.text = text.replace("/run/credentials", str(self.folder))

    def start(self, instance):
        """Start an instance; returns its process and the folder of its state."""
        credentials = self.folder / f"chatgpt-source@{instance}.service"
        credentials.mkdir(parents=True)
        config = self.text.replace("%i", instance)
        for name in re.findall(r"(?m)^LoadCredential=(.+):", INSTANCE):
            (credentials / name).write_text(config if name == "config.yml" else "secret")
        text = INSTANCE.replace("%i", instance)
        text = text.replace("%d", str(credentials)).replace("%S", str(self.folder))
        state = self.folder / re.search(r"(?m)^StateDirectory=(.+)$", text)[1]
        state.mkdir()
        environ = dict(
            each.split("=", 1) for each in re.search(r"(?m)^Environment=(.+)$", text)[1].split()
        )
        command = shlex.split(re.search(r"(?m)^ExecStart=(.+)$", text)[1])
        process = Running(bytearray())
        self.addCleanup(self.end, process)
        reactor.spawnProcess(
            process,
            str(TWISTD),
            command,
            env={"PYTHONPATH": str(ROOT), **environ},
            path=str(self.folder),
        )
        return process, state

    async def end(self, process):
        process.signal(signal.SIGKILL)
        await process.end()

    async def has(self, pattern, instance, process):
        """Whether a line of its metrics is so; it has none while it starts."""
        self.assertIs(process.status, None, process.text)
        try:
            answer = await call("GET", f"http://127.0.0.1:{self.admin}{instance}/metrics")
        except ConnectError:
            return False
        return answer.status == 200 and re.search(pattern, answer.body.decode())

    async def test_two_instances_share_the_port_and_the_journal(self):
        started = {instance: self.start(instance) for instance in ("1", "2")}
        for instance, (process, _) in started.items():
            has = partial(self.has, "chatgpt_source", instance, process)
            await until(has, "a start", STARTED)

        async def both_have_some():
            answer = await call("POST", f"http://127.0.0.1:{self.port}/", "text")
            self.assertEqual(answer.status, 202, answer.body)
            found = [await self.has(ARRIVED, each, started[each][0]) for each in started]
            return all(found)

        await until(both_have_some, "prompts at each")
        for process, state in started.values():
            process.signal(signal.SIGTERM)
            self.assertEqual(await process.end(), -signal.SIGTERM, process.text)
            self.assertEqual(list(state.iterdir()), [])
        self.assert_fair()
