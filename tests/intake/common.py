"""Requests in memory, as `intake.reading` reads them."""

import json
from typing import Any, cast

from attrs import evolve
from twisted.internet.protocol import Protocol
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.config import Config
from chatgpt_source.config.secret import Secret
from chatgpt_source.http.server import BoundedRequest, BoundedSite, Problem
from chatgpt_source.intake.reading import Received, read_json, read_root
from chatgpt_source.journal import Submission
from chatgpt_source.prompt import Prompt, Trace
from tests.clocks import Clocks

NOW = 1_800_000_000.0
"""2027-01-15T08:00:00Z, by the steady clock; by the wall clock it is an hour later."""
AHEAD = 3600.0
CONFIG = Config(target="http://target", token=Secret("t"))
STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
EVENT: dict[str, Any] = {
    "specversion": "1.0",
    "id": "1",
    "source": "/tests",
    "type": "t",
    "data": "what is vanus",
}


class ReadingCase(SynchronousTestCase):
    config = CONFIG

    def setUp(self) -> None:
        self.clock = Clocks()
        self.clock.advance(NOW)
        self.clock.step(AHEAD)
        self.trace: Trace | None = None

    def configure(self, **settings: Any) -> None:
        self.config = evolve(self.config, **settings)

    def request(self, body: bytes | str, *lines: str) -> BoundedRequest:
        """A request as the server makes it, of a body and the lines of its head."""
        body = body.encode() if isinstance(body, str) else body
        requests: list[BoundedRequest] = []

        async def take(request: BoundedRequest) -> None:
            requests.append(request)

        site = BoundedSite(self.clock, take, 2**21)
        channel = cast(Protocol, site.buildProtocol(None))
        channel.makeConnection(StringTransport())
        head = ["POST / HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *lines, "", ""]
        channel.dataReceived("\r\n".join(head).encode() + body)
        [request] = requests
        return request

    def root(self, body: bytes | str, *lines: str) -> Received:
        request = self.request(body, *lines)
        return read_root(request, self.config, cast(Any, self.clock), self.trace)

    def json(self, document: Any, *lines: str) -> Received:
        body = document if isinstance(document, (bytes, str)) else json.dumps(document)
        lines = lines or ("Content-Type: application/json",)
        request = self.request(body, *lines)
        return read_json(request, self.config, cast(Any, self.clock), self.trace)

    def event(self, *lines: str, **members: Any) -> Received:
        """A structured event, EVENT with some members changed; without those that are `...`."""
        event = {name: value for name, value in {**EVENT, **members}.items() if value is not ...}
        return self.root(json.dumps(event), f"Content-Type: {STRUCTURED}", *lines)

    def one(self, received: Received) -> Submission:
        [submission] = received.submissions
        return submission

    def prompt(self, received: Received) -> Prompt:
        return self.one(received).prompt

    def refused(self, pattern: str, call: Any, *args: Any, status: int = 400, **more: Any) -> str:
        problem = self.assertRaises(Problem, call, *args, **more)
        self.assertEqual(problem.status, status, problem.detail)
        self.assertRegex(problem.detail, pattern)
        return str(problem.detail)
