"""Whatever comes in at the door, only well-formed answers go out, and each id is one prompt.

What the fuzzer has found is kept as an example.
"""

import contextlib
import socket
import threading
from typing import Any, cast

import attrs
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol
from twisted.internet.task import deferLater
from twisted.internet.threads import blockingCallFromThread, deferToThread
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from chatgpt_source.http.server import BoundedSite, connections, request
from chatgpt_source.http.server.channel import Channel
from chatgpt_source.http.server.connections import Stage
from tests.door import CONFIG, DoorTestCase
from tests.e2e.processes import DaemonCase, Wire, until
from tests.e2e.requests import pipelines, read_responses
from tests.http.server.test_channel import HalfTransport
from tests.journal.common import DAY

FUZZ = settings(deadline=None, suppress_health_check=list(HealthCheck), database=None)
POST = b"POST / HTTP/1.1\r\nHost: x\r\n"
FOUND = (
    [POST + b"Content-Length: " + b"1" * 5000 + b"\r\n\r\n"],  # int() failed
)
FOREVER = 400
"""Seconds after which no request is under way any more."""


class FuzzCase(DoorTestCase):
    config = attrs.evolve(CONFIG, everyday_limit=10**9, max_body_size=500)

    def setUp(self) -> None:
        super().setUp()
        self.known: set[str] = set()
        self.unexpected: list[object] = []
        for module in (request, connections):
            self.patch(module, "log_unexpected", lambda *about: self.unexpected.append(about))

    def check(self, received: bytes, accepted: int) -> list[int]:
        statuses, ids = read_responses(received)
        self.assertEqual(self.unexpected, [])
        self.assertNotIn(500, statuses)
        self.assertEqual(len(ids - self.known), accepted)  # a key that came before: an old id
        self.known |= ids
        self.assertEqual(self.site.held, 0)
        self.assertEqual(len(self.site.connections), 0)
        return statuses


class MemoryTests(FuzzCase):
    """In pieces exactly as they are cut."""

    def count(self) -> int:
        """Prompts accepted, whatever the day."""
        tally = self.successResultOf(self.journal.tally(DAY.date))
        return int(sum(tally.prompts.values()))

    def converse(self, pieces: list[bytes]) -> bytes:
        transport = HalfTransport()
        channel = cast(Protocol, self.site.buildProtocol(None))
        channel.makeConnection(transport)
        for piece in pieces:
            channel.dataReceived(piece)
        self.clock.pump([1.0] * FOREVER)
        self.assertTrue(transport.half_closed or transport.aborted, transport.value())
        channel.connectionLost(Failure(ConnectionResetError()))
        return transport.value()

    @settings(FUZZ, max_examples=400)
    @given(pipelines())
    @example(FOUND[0])
    def test_anything(self, pieces: list[bytes]) -> None:
        self.channel.connectionLost(Failure(ConnectionResetError()))  # of setUp
        before = self.count()
        received = self.converse(pieces)
        self.check(received, self.count() - before)
        again = self.converse([bytes([byte]) for byte in b"".join(pieces)])
        # However it is cut it is the same; the ids in the answers differ.
        self.assertEqual(read_responses(again)[0], read_responses(received)[0])
        self.known |= read_responses(again)[1]


def read_all(caller: socket.socket) -> bytes:
    """What has been sent until the connection was closed, or reset, as the slow are in the end."""
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while data := caller.recv(65536):
            received += data
    return received


class Counting(ProtocolWrapper):
    """Counts what has come in; a Channel is handed some of it twice, by itself."""

    received = 0

    def dataReceived(self, data: bytes) -> None:
        self.received += len(data)
        super().dataReceived(data)


class SocketTests(FuzzCase, TestCase):
    """Over a real socket, from a thread of its own; the journal answers later."""

    def setUp(self) -> None:
        super().setUp()
        self.channel.connectionLost(Failure(ConnectionResetError()))
        self.shut(self.opened)
        self.journal = self.open(lambda run: deferLater(cast(Any, reactor), 0, run))
        self.intake = attrs.evolve(self.intake, journal=self.journal)
        self.site = BoundedSite(cast(Any, self.clock), self.intake.answer, 500)
        self.site.noisy = False
        self.wrapped: list[Counting] = []
        factory = WrappingFactory(self.site)
        factory.protocol = self.made
        factory.noisy = False
        port = cast(Any, reactor).listenTCP(0, factory, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        self.port = port.getHost().port
        self.stopping = threading.Event()
        self.addCleanup(self.stopping.set)

    def made(self, factory: WrappingFactory, channel: Protocol) -> Counting:
        self.wrapped.append(Counting(factory, channel))
        return self.wrapped[-1]

    def test_anything(self) -> Deferred[None]:
        return deferToThread(self.fuzz)

    test_anything.timeout = 300  # type: ignore[attr-defined]

    def fuzz(self) -> None:
        @settings(FUZZ, max_examples=150)
        @given(pipelines())
        @example(FOUND[0])
        def run(pieces: list[bytes]) -> None:
            if not self.stopping.is_set():
                self.one(pieces)

        run()

    def one(self, pieces: list[bytes]) -> None:
        self.wrapped.clear()
        before = self.in_reactor(self.tally)
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as caller:
            caller.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for piece in pieces:
                caller.sendall(piece)
            self.in_reactor(self.settled, sum(map(len, pieces)))
            self.in_reactor(self.pass_time)
            received = read_all(caller)
        self.in_reactor(until, self.gone, "the end of the connection")
        accepted = self.in_reactor(self.tally) - before
        self.check(received, accepted)
        self.assertEqual(self.healthz(), [200])

    def in_reactor(self, call: Any, *args: Any) -> Any:
        async def run() -> Any:
            value = call(*args)
            return await value if hasattr(value, "__await__") else value

        return blockingCallFromThread(reactor, lambda: Deferred.fromCoroutine(run()))

    async def tally(self) -> int:
        """Prompts accepted, whatever the day."""
        tally = self.journal.tally(DAY.date)
        while not tally.called:
            await deferLater(cast(Any, reactor), 0)
            self.clock.advance(0)  # after another group of operations, it waits for some turns
        return int(sum((await tally).prompts.values()))

    async def settled(self, sent: int) -> None:
        """Wait until all has come in, and has been answered as far as it can be."""

        def there() -> bool:
            self.clock.advance(0)  # whoever had to wait has its turn
            if not self.wrapped:
                return False
            (wrapper,) = self.wrapped
            stage = cast(Channel, wrapper.wrappedProtocol).stage
            return stage is Stage.CLOSING or (
                wrapper.received == sent and stage is not Stage.ANSWERING
            )

        await until(there, "all to come in")

    async def pass_time(self) -> None:
        """Let no request be under way any more."""
        for _ in range(FOREVER):
            self.clock.advance(1)
            await deferLater(cast(Any, reactor), 0)
            if self.gone():
                break

    def gone(self) -> bool:
        return len(self.site.connections) == 0

    def healthz(self) -> list[int]:
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as caller:
            caller.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
            return read_responses(read_all(caller))[0]


class DaemonTests(DaemonCase):
    async def test_anything(self) -> None:
        daemon = self.daemon(everyday_limit=10**6, max_body_size=500)
        process = await daemon.start()
        wires = []
        for pieces in [*FOUND, *some(pipelines(), 150)]:
            wire = await Wire.connect(daemon.port)
            wires.append(wire)
            for piece in pieces:
                wire.send(piece)
                await deferLater(reactor, 0)
        self.assertEqual((await daemon.get("/healthz")).status, 200)

        async def alike() -> bool:
            """Whether there are as many ids as prompts; each connection is still read."""
            answer = await daemon.post("the last")
            assert answer.status == 202
            left = int(answer.header("ratelimit").partition("r=")[2].partition(";")[0])
            alike.asked += 1
            ids = [read_responses(wire.received)[1] for wire in wires]
            return len(set().union(*ids)) + alike.asked == 10**6 - left

        alike.asked = 0
        await until(alike, "an id for each prompt")
        for wire in wires:
            self.assertNotIn(500, read_responses(wire.received)[0])
            wire.close()
        self.assertEqual(await daemon.stop(), -15)
        for word in ("nobody foresaw", "withheld", "Traceback", "critical"):
            self.assertNotIn(word, process.text)


def some(strategy: st.SearchStrategy[Any], number: int) -> list[Any]:
    """So many values of a strategy."""
    found: list[Any] = []

    @settings(FUZZ, max_examples=number, phases=[Phase.generate])
    @given(strategy)
    def collect(value: Any) -> None:
        found.append(value)

    collect()
    return found
