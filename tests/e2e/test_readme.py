"""The commands of the README and of operations.md, word for word but for the ports."""

import json
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.threads import deferToThread
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import SkipTest

from tests.e2e.processes import ROOT, TWISTD, Daemon, DaemonCase, alive, free_port, kill, until
from tests.fakes.openai import api_error
from tests.rules import PAGE
from tests.test_readme import README, block


class BackgroundTests(DaemonCase):
    async def test_starts_and_stops_as_told(self):
        daemon = Daemon(self, self.config())
        home = Path(tempfile.mkdtemp(dir=daemon.dir))
        environ = {
            "HOME": str(home),
            "PATH": f"{TWISTD.parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
        }

        async def bash(commands: str) -> str:
            done = await deferToThread(
                subprocess.run,
                ["bash", "-ec", commands],
                cwd=daemon.dir,
                env=environ,
                capture_output=True,
                text=True,
                timeout=30,
                check=False,
            )
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            return done.stdout

        state = home / "chatgpt-source-state"
        start, stop = block("state=~/chatgpt-source-state"), block('kill "$(cat $state')
        await bash(start)
        await until((state / "twistd.pid").exists, "the pid file, where it is said to be")
        pid = int((state / "twistd.pid").read_text())
        self.addCleanup(kill, pid)
        await until(daemon.answers, "the start")
        await daemon.reaches(await daemon.accepted("text"), "delivered")
        self.assertTrue((state / "journal.sqlite").exists())
        self.assertIn("the journal is", (state / "twistd.log").read_text())
        await bash(f"state=~/chatgpt-source-state; {stop}")
        await until(lambda: not alive(pid), "the end of it")


class ForwardedTests(DaemonCase):
    """The port that `kubectl port-forward` opens is not there at once."""

    async def test_the_first_prompt_waits_for_the_port(self):
        curl = shutil.which("curl")
        if curl is None:
            raise SkipTest("curl is not installed")
        line = re.search(r"(?m)^kubectl port-forward .* 8080 &\n(curl .*) localhost:8080$", README)
        daemon = Daemon(self, self.config())
        arguments = [*shlex.split(line[1])[1:], "--silent", f"localhost:{daemon.port}"]
        calling = getProcessOutputAndValue(curl, arguments, reactor=reactor)
        await daemon.start()
        said, _, status = await calling.addTimeout(30, reactor)
        self.assertEqual(status, 0)
        await daemon.reaches(json.loads(said)["id"], "delivered")


class CurlTests(DaemonCase):
    """What the README sends, in each form, and the answer that it shows."""

    async def test_every_request_is_accepted(self):
        curl = shutil.which("curl")
        if curl is None:
            raise SkipTest("curl is not installed")
        billing = {"billing": {"url": self.target.origin}}
        daemon = self.daemon(targets=billing, keep_answers=60)
        await daemon.start()
        commands = [
            line
            for text in re.findall(r"(?ms)^```shell\n(curl .*?)^```$", README)
            for line in re.split(r"\n(?=curl )", text.replace("\\\n", ""))
            if "localhost:8082" in line and "<id>" not in line
            if not {"--user", "--oauth2-bearer"} & set(line.split())  # curl asks for a password
        ]
        self.assertGreater(len(commands), 9)
        for command in commands:
            local = shlex.split(command.replace(":8082", f":{daemon.port}"))[1:]
            said = await getProcessOutputAndValue(curl, ["--silent", "--fail", *local])
            self.assertEqual(said[1:], (b"", 0), command)

        def answers() -> list[dict[str, object]]:
            return [each for each in self.target.events if each.get("causationid") == "1"]

        (answer,) = await until(answers, "the answer to the first event")
        shown = [json.loads(text) for text in re.findall(r"(?s)```json\n(.*?)```", README)]
        (example,) = [each for each in shown if "causationid" in each]
        own = {"id", "time", "data"}
        self.assertEqual(list(answer), list(example))
        self.assertEqual(
            {name: answer[name] for name in answer if name not in own},
            {name: example[name] for name in example if name not in own},
        )


class OperatorsTests(DaemonCase):
    """What the pages ask of the operators' site."""

    async def test_every_request_is_taken(self):
        curl = shutil.which("curl")
        if curl is None:
            raise SkipTest("curl is not installed")
        self.openai.script = lambda _: api_error(400)
        port = free_port()
        daemon = self.daemon(admin=f"tcp:{port}:interface=127.0.0.1")
        await daemon.start()
        prompt_id = await daemon.accepted("text", {"Idempotency-Key": "order-4711"})
        await daemon.reaches(prompt_id, "failed")
        commands = [
            line
            for text in re.findall(
                r"(?ms)^```shell\n(curl .*?)^```$", README + PAGE.read_text(encoding="utf-8")
            )
            for line in re.split(r"\n(?=curl )", text.replace("\\\n", ""))
            if "localhost:9464" in line and "/try" not in line
        ]
        self.assertGreater(len(commands), 12)
        told = ""
        for command in commands:
            await daemon.reaches(prompt_id, "failed")
            own = command.replace(":9464", f":{port}").replace("<id>", prompt_id)
            local = shlex.split(own)[1:]
            out, err, status = await getProcessOutputAndValue(curl, ["--silent", "--fail", *local])
            self.assertEqual((err, status), (b"", 0), command)
            told += out.decode()
        for expected in ('"redriven": 1', '"paused": true', f'"prompts": [{{"id": "{prompt_id}"'):
            self.assertIn(expected, told)
