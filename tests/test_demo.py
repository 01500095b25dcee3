"""The demo's parts that need no process and no model."""

import importlib
import json
import socket
import sys
from io import StringIO
from pathlib import Path
from typing import Any
from unittest.mock import patch

from treq.testing import StubTreq
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.server import Request

from chatgpt_source import demo
from chatgpt_source.config import ConfigError
from chatgpt_source.terminal import Look

PORTS = demo.Ports(8080, 31081, 9464)


class OpenAIEndpointTests(SynchronousTestCase):
    def test_no_key(self) -> None:
        for environ in ({}, {"OPENAI_API_KEY": " "}, {"OPENAI_BASE_URL": "http://elsewhere/v1"}):
            self.assertIsNone(demo.openai_endpoint(environ))

    def test_key_and_address(self) -> None:
        given = {"OPENAI_API_KEY": "sk-1", "OPENAI_BASE_URL": "http://elsewhere/v1"}
        endpoint = demo.openai_endpoint({**given, "HOME": "/root"})
        self.assertEqual(endpoint, demo.Endpoint(given))
        self.assertNotIn("sk-1", repr(endpoint))


class ConfigTests(SynchronousTestCase):
    def test_openai(self) -> None:
        config = demo.make_config(demo.Endpoint({"OPENAI_API_KEY": "sk-1"}), PORTS, "warn")
        self.assertEqual(config.token.read(), "sk-1")
        self.assertEqual(config.base_url, "https://api.openai.com/v1")
        self.assertEqual(config.target, "http://127.0.0.1:31081")
        self.assertEqual((config.port, config.log_level), (8080, "warn"))
        self.assertEqual(config.admin, "tcp:9464:interface=127.0.0.1")
        # Reasoning counts as well: a limit might leave nothing for the answer.
        self.assertIsNone(config.max_tokens)

    def test_local(self) -> None:
        environ = {"OPENAI_API_KEY": "key", "OPENAI_BASE_URL": "http://127.0.0.1:9/v1"}
        endpoint = demo.Endpoint(environ, {"model": "tiny", "max_tokens": 120})
        config = demo.make_config(endpoint, PORTS, "info")
        self.assertEqual(config.base_url, "http://127.0.0.1:9/v1")
        self.assertEqual((config.model, config.max_tokens), ("tiny", 120))

    def test_mistakes_of_the_environment(self) -> None:
        endpoint = demo.Endpoint({"OPENAI_API_KEY": "sk 1", "OPENAI_BASE_URL": "ftp://x"})
        error = self.assertRaises(ConfigError, demo.make_config, endpoint, PORTS, "loud")
        self.assertEqual(len(error.mistakes), 3)
        self.assertNotIn("sk 1", str(error))


class LocalModelTests(SynchronousTestCase):
    def package(self, *files: str) -> str:
        """A package that can't be imported, with these files."""
        root = Path(self.mktemp())
        name = f"weights{id(root)}"
        folder = root / name
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text("raise RuntimeError('imported')")
        for file in files:
            (folder / file).touch()
        self.patch(sys, "path", [str(root.absolute()), *sys.path])
        importlib.invalidate_caches()
        return name

    def test_weights_are_found_without_an_import(self) -> None:
        name = self.package("b.gguf", "a.txt")
        self.assertEqual(demo.find_weights(name).name, "b.gguf")

    def test_no_weights(self) -> None:
        for name in (self.package("a.txt"), "no_such_package_here"):
            error = self.assertRaises(demo.DemoError, demo.find_weights, name)
            self.assertIn(name, str(error))
            self.assertIn("OPENAI_API_KEY", str(error))
            self.assertNotIn("\n", str(error))

    def test_no_wheel(self) -> None:
        self.patch(demo, "find_weights", lambda: Path("weights.gguf"))
        with patch.dict(sys.modules, {"xllamacpp": None}):
            error = self.assertRaises(demo.DemoError, demo.local_endpoint)
        self.assertIn("xllamacpp", str(error))
        self.assertIn("OPENAI_API_KEY", str(error))


class FakeScreen(demo.Screen):
    """Keeps what is shown."""

    def __init__(self, look: Look = Look()) -> None:  # noqa: B008 - it can't be changed
        super().__init__(StringIO(), look)
        self.text = ""

    def _put(self, line: str, end: str = "\n") -> None:
        self.text += line + end


EVENT = """{
  "id": "1",
  "data": {
    "content": "one two three four five six seven"
  }
}
"""


class ScreenTests(SynchronousTestCase):
    def test_an_event_in_colours(self) -> None:
        screen = FakeScreen(Look(30, colour=True))
        screen.write(EVENT)
        self.assertEqual(
            screen.text,
            """{
  ^[36m"id": ^[0m"1",
  ^[36m"data": ^[0m{
    ^[36m"content": ^[0m^[1;32m"one two three^[0m
^[1;32m      four five six seven"^[0m
  }
}
""".replace("^", "\x1b"),
        )

    def test_an_event_without_colours(self) -> None:
        screen = FakeScreen(Look(80))
        screen.write(EVENT)
        self.assertEqual(screen.text, EVENT)

    def test_what_is_done(self) -> None:
        screen = FakeScreen(Look(22))
        screen.done("The sink:", "prints the events")
        self.assertEqual(screen.text, "✓ The sink: prints the\n  events\n")

    def test_what_takes_time(self) -> None:
        for look, text in ((Look(80), "Loading\r       \r"), (Look(), "")):
            screen = FakeScreen(look)
            self.assertEqual(screen.wait("Loading", lambda: 7), 7)
            self.assertEqual(screen.text, text)


class PortTests(SynchronousTestCase):
    def test_arguments(self) -> None:
        self.assertEqual(demo.read_ports([]), PORTS)
        given = ["--port", "0", "--display-port=7", "--admin-port=8"]
        self.assertEqual(demo.read_ports(given), demo.Ports(0, 7, 8))

    def test_bad_arguments(self) -> None:
        self.patch(sys, "stderr", StringIO())
        for bad in ("x", "-1", "65536", ""):
            self.assertRaises(SystemExit, demo.read_ports, [f"--port={bad}"])
        self.assertIn("a whole number from 0 to 65535, not 'x'", sys.stderr.getvalue())

    def test_taken(self) -> None:
        screen = FakeScreen()
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            other = demo.choose_port(port, screen)
        self.assertNotIn(other, {0, port})
        self.assertIn(str(port), screen.text)

    def test_free_and_any(self) -> None:
        screen = FakeScreen()
        port = demo.choose_port(0, screen)
        self.assertTrue(0 < port < 65536)
        self.assertEqual(demo.choose_port(port, screen), port)
        self.assertEqual(screen.text, "")


class Source(Resource):
    """Answers as the source does: one record a look, the last one for ever."""

    isLeaf = True

    def __init__(self, status: int, *records: tuple[str, Any]) -> None:
        super().__init__()
        self.status = status
        self.records = list(records)
        self.prompts: list[bytes] = []
        self.types: list[str | None] = []

    def render(self, request: Request) -> bytes:
        if request.method == b"POST":
            self.prompts.append(request.content.read())
            self.types.append(request.getHeader("content-type"))
            request.setResponseCode(self.status)
            request.setHeader("Location", "/prompts/some-id")
            is_event = self.types[-1] == "application/cloudevents+json"
            return b"" if is_event else b'{"id": "some-id", "status": "accepted"}'
        assert request.path == b"/prompts/some-id", request.path
        state, error = self.records.pop(0) if len(self.records) > 1 else self.records[0]
        return json.dumps({"state": state, "error": error}).encode()


class ShowTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.screen = FakeScreen()

    def show(self, source: Source) -> "Deferred[None]":
        http: Any = StubTreq(source)
        ports = demo.Ports(8099, 8100, 8101)
        showing = Deferred.fromCoroutine(demo.show(http, self.clock, ports, self.screen))
        for _ in range(50):
            http.flush()
            self.clock.advance(0.1)
        return showing

    def test_delivered(self) -> None:
        source = Source(202, ("accepted", None), ("answered", None), ("delivered", None))
        self.successResultOf(self.show(source))
        prompt, event = source.prompts
        self.assertEqual(prompt, b"What is the capital of Japan?")
        self.assertEqual(json.loads(event)["data"], "What is 2 plus 2?")
        self.assertEqual(source.types, [None, "application/cloudevents+json"])
        screen = self.screen.text
        for shown in (
            "curl --data 'What is the capital of Japan?' http://localhost:8099",
            '202 {"id": "some-id", "status": "accepted"}',
            "This is the answer: a CloudEvent",
            "curl --header 'Content-Type: application/cloudevents+json' \\\n",
            "the event's id as causationid",
            "http://localhost:8099/prompts/some-id",
            "README.md",
            "Ctrl-C",
        ):
            self.assertIn(shown, screen)
        self.assertLessEqual(max(map(len, screen.splitlines())), 80)

    def test_error(self) -> None:
        for state in ("accepted", "failed"):
            self.screen.text = ""
            source = Source(202, ("accepted", None), (state, "the model answered 401"))
            self.successResultOf(self.show(source))
            self.assertEqual(len(source.prompts), 1)
            screen = self.screen.text
            self.assertIn(f"the prompt is {state}: the model answered 401", screen)
            self.assertNotIn("This is the answer", screen)

    def test_not_accepted(self) -> None:
        self.successResultOf(self.show(Source(503)))
        self.assertIn("did not accept", self.screen.text)

    def test_waiting_can_be_cancelled(self) -> None:
        showing = self.show(Source(202, ("accepted", None)))
        self.assertNoResult(showing)
        showing.cancel()
        self.failureResultOf(showing)
        self.assertEqual(self.clock.getDelayedCalls(), [])
