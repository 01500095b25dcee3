"""The whole door over a connection in memory, on a real journal and an idle pipeline."""

import json
from typing import Any, cast

from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Protocol
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.config import Config
from chatgpt_source.config.secret import Secret
from chatgpt_source.health.judge import Judge
from chatgpt_source.health.recent import Recent
from chatgpt_source.health.refusals import Refusals
from chatgpt_source.http.server import BoundedSite
from chatgpt_source.intake.access_log import AccessLog
from chatgpt_source.intake.api import Intake
from chatgpt_source.intake.health import Health
from chatgpt_source.intake.waiting import Waiters
from chatgpt_source.pipeline import Pipeline
from chatgpt_source.quota import Calendar
from chatgpt_source.telemetry.observer import Observers
from chatgpt_source.telemetry.outcome_log import OutcomeLog
from tests.clocks import Clocks
from tests.journal.common import JournalTestCase

CONFIG = Config(target="http://target", token=Secret("t"), everyday_limit=3, max_body_size=1000)


class ParsedResponse:
    """A parsed response."""

    def __init__(self, raw: bytes) -> None:
        head, _, self.body = raw.partition(b"\r\n\r\n")
        status, *lines = head.decode().split("\r\n")
        self.status = int(status.split()[1])
        pairs = (line.split(": ", 1) for line in lines)
        self.headers = {name.lower(): value for name, value in pairs}

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class DoorDriver(SynchronousTestCase):
    """Drives the door; mixed into a test with a journal and a clock."""

    journal: Any
    clock: Clocks
    config = CONFIG
    host = "x"
    address: IAddress = IPv4Address("TCP", "10.0.0.1", 8080)
    """Where a caller's connection leads."""

    def setUp(self) -> None:
        super().setUp()
        clock = cast(Any, self.clock)
        calendar = Calendar(self.config.timezone)
        self.pipeline = Pipeline(
            clock, self.journal, self.config, cast(Any, None), {"target": cast(Any, None)}
        )
        watched = self.journal, self.pipeline, Recent(clock), Refusals(clock)
        judge = Judge(clock, self.config, calendar, *watched)
        self.waiters = Waiters(clock)
        self.observers = Observers(OutcomeLog(), self.waiters, judge.refusals)
        self.intake = Intake(
            clock,
            self.config,
            calendar,
            self.journal,
            self.pipeline,
            Health(judge),
            self.waiters,
            self.observers,
        )
        self.site = BoundedSite(
            clock, self.intake.answer, self.config.max_body_size, access=AccessLog(clock)
        )
        self.connect()

    def connect(self) -> None:
        self.transport = StringTransport(self.address)
        self.channel = cast(Protocol, self.site.buildProtocol(None))
        self.channel.makeConnection(self.transport)
        self.addCleanup(self.channel.connectionLost, Failure(ConnectionResetError()))

    def request(
        self, method: str, path: str = "/", body: bytes = b"", **headers: str | bytes
    ) -> ParsedResponse:
        self.transport.clear()
        lines = [f"{method} {path} HTTP/1.1".encode(), b"Host: " + self.host.encode()]
        for name, value in headers.items():
            raw = value if isinstance(value, bytes) else value.encode()
            lines.append(name.replace("_", "-").encode() + b": " + raw)
        lines.append(f"Content-Length: {len(body)}".encode())
        self.channel.dataReceived(b"\r\n".join([*lines, b"", body]))
        return self.come()

    def come(self) -> ParsedResponse:
        """The response that has come."""
        return ParsedResponse(self.transport.value())

    def post(self, body: bytes = b"what is vanus", **headers: str | bytes) -> ParsedResponse:
        return self.request("POST", "/", body, **headers)

    def assert_problem(self, answer: ParsedResponse, status: int) -> str:
        self.assertEqual(answer.status, status, answer.body)
        self.assertEqual(answer.headers["content-type"], "application/problem+json")
        self.assertEqual(set(answer.json), {"type", "title", "status", "detail"})
        self.assertEqual(answer.json["status"], status)
        return str(answer.json["detail"])


class DoorTestCase(DoorDriver, JournalTestCase):
    """The door on a journal in a file."""
