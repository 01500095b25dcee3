"""A real model answers through the real daemon into the real Display sink, each a process."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source import demo
from tests.e2e.processes import free_port
from tests.e2e.test_demo import PATIENCE, ROOT, require_model

TWISTD = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()"]


def request(url: str, body: bytes | None = None, **headers: str) -> tuple[int, Any]:
    asked = urllib.request.Request(url, body, headers)
    try:
        with urllib.request.urlopen(asked, timeout=PATIENCE) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def wait_until(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + PATIENCE
    while not (result := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {PATIENCE} s for: {what}")
        time.sleep(0.05)
    return result


def accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


class LocalModelTests(SynchronousTestCase):
    def setUp(self) -> None:
        require_model()
        self.endpoint: demo.Endpoint | None = demo.local_endpoint()
        self.addCleanup(setattr, self, "endpoint", None)  # ends its server
        self.environ = self.endpoint.environ
        self.dir = Path(self.mktemp()).absolute()
        self.dir.mkdir(parents=True)
        self.port, self.display_port = free_port(), free_port()

    def start(self, name: str, port: int, *arguments: str, **environ: str) -> None:
        with (self.dir / f"{name}.out").open("wb") as out:
            process = subprocess.Popen(
                [*TWISTD, "--nodaemon", "--pidfile=", name, *arguments],
                cwd=self.dir,
                env={**os.environ, "PYTHONPATH": str(ROOT), **environ},
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        self.addCleanup(process.wait, 30)
        self.addCleanup(process.terminate)
        wait_until(lambda: accepts(port), f"{name}: {self.output(name)}")

    def output(self, name: str) -> str:
        return (self.dir / f"{name}.out").read_text()

    def start_all(self, **further: Any) -> None:
        settings = {
            "target": f"http://127.0.0.1:{self.display_port}",
            "token": self.environ["OPENAI_API_KEY"],
            "base_url": self.environ["OPENAI_BASE_URL"],
            "port": self.port,
            "max_tokens": 24,
            **further,
        }
        config = self.dir / "config.yml"
        config.write_text(json.dumps(settings))  # JSON is YAML
        self.start("cloudevents-display", self.display_port, f"--port={self.display_port}")
        self.start("chatgpt-source", self.port, CONNECTOR_CONFIG=str(config))

    def ask(self, prompt: str, **headers: str) -> dict[str, Any]:
        """Send a prompt; returns its record once it has come to an end."""
        status, accepted = request(f"http://127.0.0.1:{self.port}/", prompt.encode(), **headers)
        self.assertEqual((status, accepted["status"]), (202, "accepted"))

        def ended() -> Any:
            _, record = request(f"http://127.0.0.1:{self.port}/prompts/{accepted['id']}")
            return record if record["state"] in {"delivered", "failed"} else None

        return wait_until(ended, f"the prompt to end: {self.output('chatgpt-source')}")

    def events(self) -> list[dict[str, Any]]:
        output = self.output("cloudevents-display")
        starts = [at for at in range(len(output)) if output.startswith('{\n  "specversion"', at)]
        return [json.JSONDecoder().raw_decode(output, at)[0] for at in starts]

    def test_answers_become_events(self) -> None:
        self.start_all()
        first = self.ask("what is vanus")
        second = self.ask("say hello", **{"vanus-source": "/my/app", "vanus-type": "greeting"})
        for record in (first, second):
            self.assertEqual((record["state"], record["error"]), ("delivered", None))
            self.assertEqual((record["asks"], record["deliveries"]), (1, 1))
        one, two = self.events()
        members = {"specversion", "id", "source", "type", "datacontenttype", "time", "data"}
        for event, record in ((one, first), (two, second)):
            self.assertEqual(set(event), members)
            self.assertEqual(event["id"], record["id"])
            self.assertEqual(event["datacontenttype"], "application/json")
            self.assertEqual(set(event["data"]), {"content"})
            self.assertTrue(event["data"]["content"].strip())
        self.assertEqual(one["source"], "vanus-chatGPT-source")
        self.assertEqual(one["type"], "vanus-chatGPT-type")
        self.assertEqual((two["source"], two["type"]), ("/my/app", "greeting"))

    def test_what_else_can_be_sent_and_told(self) -> None:
        names = ["prompt", "usage", "model", "finish_reason", "request_id"]
        self.start_all(
            temperature=0, top_p=0.9, body={"top_k": 40, "seed": 7}, include=names, model="tiny"
        )
        records = [self.ask("what is vanus") for _ in range(2)]
        self.assertEqual([record["state"] for record in records], ["delivered"] * 2)
        one, two = (event["data"] for event in self.events())
        self.assertEqual(one["content"], two["content"])  # at temperature 0
        self.assertEqual(set(one), {"content", *names})
        self.assertEqual(one["prompt"], "what is vanus")
        self.assertGreater(one["usage"]["completion_tokens"], 0)
        wait_until(
            lambda: "`model` tiny is not among the models" in self.output("chatgpt-source"),
            "the warning that the server lists another model",
        )

    def test_prompt_over_the_context_fails(self) -> None:
        self.start_all()
        record = self.ask("hello " * 3000)
        self.assertEqual((record["state"], record["asks"], record["deliveries"]), ("failed", 1, 0))
        self.assertIn("400", record["error"])
        self.assertNotIn("hello", self.output("chatgpt-source") + record["error"])
        self.assertEqual(self.ask("what is vanus")["state"], "delivered")
        self.assertEqual(len(self.events()), 1)

    def test_what_the_model_server_keeps_to(self) -> None:
        url = f"{self.environ['OPENAI_BASE_URL']}/chat/completions"
        key = {"Authorization": f"Bearer {self.environ['OPENAI_API_KEY']}"}
        asked: dict[str, Any] = {
            "model": "any name",
            "messages": [{"role": "user", "content": "what is vanus"}],
            "max_completion_tokens": 8,
            "temperature": 0,
        }

        def post(body: bytes, **headers: str) -> tuple[int, Any]:
            return request(url, body, **{"Content-Type": "application/json"}, **headers)

        answers = [post(json.dumps(asked).encode(), **key) for _ in range(2)]
        self.assertEqual([status for status, _ in answers], [200, 200])
        contents = [answer["choices"][0]["message"]["content"] for _, answer in answers]
        self.assertEqual(contents[0], contents[1])
        self.assertTrue(contents[0].strip())
        self.assertEqual(answers[0][1]["choices"][0]["finish_reason"], "length")
        self.assertEqual(post(json.dumps(asked).encode())[0], 401)
        self.assertEqual(post(b'{"messages": ', **key)[0], 400)
        asked["messages"][0]["content"] = "hello " * 3000
        status, refused = post(json.dumps(asked).encode(), **key)
        self.assertEqual((status, refused["error"]["type"]), (400, "exceed_context_size_error"))
