"""An HTTP proxy that answers CONNECT as told, and may lead to a port of this machine."""

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure

ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


class FakeProxy(Factory):
    """Answers each CONNECT with fixed bytes; behind a 200 is the port it asks for, here.

    Args:
        reactor: The real reactor.
        answer: What is sent once the request is there; None: nothing.
        close: Whether it then closes.

    Attributes:
        heads: The requests.
        connections: Those to it.
    """

    noisy = False

    def __init__(self, reactor: Any, answer: bytes | None = ESTABLISHED, *, close: bool = False):
        self.reactor = reactor
        self.answer = answer
        self.close = close
        self.heads: list[bytes] = []
        self.connections: list[_Near] = []

    def buildProtocol(self, _: object) -> "_Near":
        near = _Near(self)
        self.connections.append(near)
        return near


class _Near(Protocol):
    """The connection of the client."""

    def __init__(self, proxy: FakeProxy) -> None:
        self.proxy = proxy
        self.data = b""
        self.far: Any = None
        self.gone: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        if self.far is not None:
            self.far.transport.write(data)
            return
        self.data += data
        head, end, self.data = self.data.rpartition(b"\r\n\r\n")
        if end:
            self.proxy.heads.append(head)
            self.leads(head)

    def leads(self, head: bytes) -> None:
        if self.proxy.answer is None:
            return
        if b" 200" not in self.proxy.answer:
            self.say()
            return
        port = int(head.split()[1].rpartition(b":")[2])
        factory = Factory.forProtocol(lambda: _Far(self))
        factory.noisy = False
        TCP4ClientEndpoint(self.proxy.reactor, "127.0.0.1", port).connect(factory)

    def say(self) -> None:
        self.transport.write(self.proxy.answer)
        if self.proxy.close:
            self.transport.loseConnection()

    def connectionLost(self, _reason: Failure) -> None:
        if self.far is not None:
            self.far.transport.loseConnection()
        self.gone.callback(None)


class _Far(Protocol):
    """The connection to where the client wants to be."""

    def __init__(self, near: _Near) -> None:
        self.near = near

    def connectionMade(self) -> None:
        self.near.far = self
        self.near.say()

    def dataReceived(self, data: bytes) -> None:
        self.near.transport.write(data)

    def connectionLost(self, _reason: Failure) -> None:
        self.near.transport.loseConnection()
