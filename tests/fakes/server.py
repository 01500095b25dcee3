"""A real HTTP server on loopback that answers as it is told, however badly.

Each call is answered by the next reply of the queue, else by the script, a function of the request
(plain or `async`). All that comes in is kept in `requests`, whatever was answered.
"""

import json
import socket
import struct
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from enum import Enum
from inspect import isawaitable
from typing import Any

from attrs import Factory, define, field, frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.ssl import CertificateOptions
from twisted.internet.task import deferLater
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.web.http_headers import Headers
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

FILLER = b"x" * 1024


class Fault(Enum):
    """What goes wrong with a reply, beside what its status and body say."""

    NONE = "none"
    CUT = "Content-Length promises more than comes, then the connection closes"
    OVERRUN = "Content-Length promises less than comes"
    STALL = "Content-Length promises more than comes, and the connection stays open"
    ENDLESS = "the body never ends"
    HANG = "nothing is ever answered"
    RESET = "the connection is reset once the request was read"
    RESET_UNREAD = "the connection is reset before the request is read"


@frozen
class Reply:
    """An answer to one call.

    Attributes:
        status: The HTTP status.
        body: The body, as it is.
        headers: The headers; Content-Length is added.
        delay: Seconds until it is sent.
        fault: What goes wrong with it.
    """

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = Factory(dict)
    delay: float = 0.0
    fault: Fault = Fault.NONE

    @classmethod
    def of_json(cls, value: Any, status: int = 200, **others: Any) -> "Reply":
        """A reply whose body is JSON."""
        headers = {"Content-Type": "application/json", **others.pop("headers", {})}
        return cls(status, json.dumps(value).encode(), headers, **others)


@define(eq=False)
class Received:
    """A request, and what it was answered.

    Attributes:
        at: When it was read, by the reactor's clock.
        document: The body as JSON, None if it is not.
        reply: What it was answered, once that is decided.
    """

    method: str
    path: str
    headers: Headers
    body: bytes = field(repr=False)
    at: float
    document: Any = field(default=None, repr=False)
    reply: Reply | None = None

    def header(self, name: str) -> str | None:
        """The first value of a header."""
        values = self.headers.getRawHeaders(name) or [None]
        return values[0]


Script = Callable[[Received], "Reply | Awaitable[Reply]"]


class ScriptedServer:
    """A server to start, to tell what to answer, and to stop.

    Args:
        reactor: The real reactor.

    Attributes:
        requests: All that came in, in order.
        complaints: What was wrong with the requests that were not what such a server expects.
        script: What is answered where the queue is empty.
        tls: What it needs to speak TLS, if it shall; told before it starts.
        lingers: Seconds after which it closes a connection on which it has answered; None: never.
    """

    def __init__(self, reactor: Any) -> None:
        self.requests: list[Received] = []
        self.complaints: list[str] = []
        self.script: Script = self.default
        self._reactor = reactor
        self._queue: deque[Reply] = deque()
        self._listening: IListeningPort | None = None
        self._factory: _Factory | None = None
        self._answering: set[Deferred[None]] = set()
        self.port = 0
        self.tls: CertificateOptions | None = None
        self.lingers: float | None = None

    @property
    def origin(self) -> str:
        """Its scheme, host and port."""
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Listen; after a stop, on the same port again."""
        factory = self._factory = _Factory(Site(_Leaf(self), parsePOSTFormSubmission=False), self)
        if self.tls:
            factory = TLSMemoryBIOFactory(self.tls, isClient=False, wrappedFactory=factory)
        self._listening = self._reactor.listenTCP(
            self.port, factory, backlog=1024, interface="127.0.0.1"
        )
        self.port = self._listening.getHost().port

    async def stop(self) -> None:
        """Listen no more, and drop all connections."""
        listening, self._listening = self._listening, None
        if listening is None:
            return
        await listening.stopListening()
        for answering in list(self._answering):
            answering.cancel()
        for connection in list(self._factory.protocols):
            connection.reset()
        while self._factory.protocols:
            await deferLater(self._reactor, 0.005)

    def queue(self, *replies: Reply) -> None:
        """Answer the next calls so, before the script is asked again."""
        self._queue.extend(replies)

    def objection(self, request: Received) -> Reply | None:
        """The answer to a request that is wrong, whatever the script says; None if it is right."""
        raise NotImplementedError

    def aside(self, request: Received) -> Reply | None:  # noqa: ARG002 - for those that have some
        """The answer to a request that is not what the queue and the script are for."""
        return None

    def default(self, request: Received) -> Reply:
        """The answer unless something else was asked for."""
        raise NotImplementedError

    def answered(self, request: Received) -> None:
        """Called once a whole reply without a fault was sent."""

    def _resets_next(self) -> bool:
        if self._queue and self._queue[0].fault is Fault.RESET_UNREAD:
            self._queue.popleft()
            return True
        return False

    def _handle(self, request: Request) -> None:
        connection = request.channel.transport
        answering = Deferred.fromCoroutine(self._answer(request, connection))
        self._answering.add(answering)
        answering.addBoth(self._ended, answering, connection)

    def _ended(self, result: Any, answering: "Deferred[None]", connection: "_Connection") -> None:
        self._answering.discard(answering)
        connection.busy = False
        if isinstance(result, Failure):
            if not result.check(CancelledError):  # which is a stop
                # A test that waits for an answer shall see why there was none.
                self.complaints.append(result.getTraceback())
                connection.reset()
        elif self.lingers is not None:
            self._reactor.callLater(self.lingers, connection.close)

    async def _answer(self, request: Request, connection: "_Connection") -> None:
        body = request.content.read()
        try:
            document = json.loads(body)
        except ValueError:
            document = None
        received = Received(
            request.method.decode(),
            request.uri.decode(),
            request.requestHeaders.copy(),
            body,
            self._reactor.seconds(),
            document,
        )
        self.requests.append(received)
        reply = self.objection(received) or self.aside(received)
        if reply is None:
            reply = self._queue.popleft() if self._queue else self.script(received)
        received.reply = await reply if isawaitable(reply) else reply
        if received.reply.delay:
            await deferLater(self._reactor, received.reply.delay)
        if not connection.connected:
            return
        if received.reply.fault is Fault.NONE:
            self.answered(received)
        await self._send(request, received.reply, connection)

    async def _send(self, request: Request, reply: Reply, connection: "_Connection") -> None:
        fault, body = reply.fault, reply.body
        if fault in {Fault.RESET, Fault.RESET_UNREAD}:
            connection.reset()
            return
        if fault is Fault.HANG:
            return
        request.setResponseCode(reply.status)
        for name, value in reply.headers.items():
            request.setHeader(name, value)
        if fault is Fault.ENDLESS:
            request.write(body)
            while connection.connected:
                request.write(FILLER)
                await deferLater(self._reactor, 0.02)
            return
        promised = {Fault.CUT: 100, Fault.STALL: 100, Fault.OVERRUN: -5}.get(fault, 0)
        request.setHeader("Content-Length", str(len(body) + promised))
        request.write(b"" if request.method == b"HEAD" else body)
        if fault is Fault.CUT:
            request.loseConnection()
        elif fault is not Fault.STALL:
            request.finish()


class _Leaf(Resource):
    isLeaf = True

    def __init__(self, server: ScriptedServer) -> None:
        super().__init__()
        self._server = server

    def render(self, request: Request) -> int:
        self._server._handle(request)
        return NOT_DONE_YET


class _Connection(ProtocolWrapper):
    """A connection that can be reset, also before its next request is read."""

    connected = True
    busy = False

    def dataReceived(self, data: bytes) -> None:
        if not self.busy and self.factory.server._resets_next():
            self.reset()
            return
        self.busy = True
        super().dataReceived(data)

    def connectionLost(self, reason: Failure) -> None:
        self.connected = False
        super().connectionLost(reason)

    def close(self) -> None:
        if self.connected:
            self.transport.loseConnection()

    def reset(self) -> None:
        if self.connected:
            linger = struct.pack("ii", 1, 0)  # a reset, not a polite end
            tcp = self.transport.transport if self.factory.server.tls else self.transport
            tcp.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            tcp.abortConnection()


class _Factory(WrappingFactory):
    protocol = _Connection
    noisy = False

    def __init__(self, site: Site, server: ScriptedServer) -> None:
        site.noisy = False
        site.log = lambda _: None
        super().__init__(site)
        self.server = server
