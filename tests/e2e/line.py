"""A line between a replica and its database that can be cut, so that no packet passes."""

from typing import Any

from attrs import Factory, define, field
from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory as ProtocolFactory
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure

UP, DOWN = "to the database", "from the database"


class Joint(Protocol):
    """One end of a connection that is passed on: what it reads goes out at the other end."""

    def __init__(self) -> None:
        self.other: Joint | None = None
        self.early: list[bytes] = []
        self.is_open = True

    def dataReceived(self, data: bytes) -> None:
        if self.other is None:
            self.early.append(data)
        else:
            self.other.transport.write(data)

    def connectionLost(self, _reason: Failure) -> None:
        self.is_open = False
        if self.other is not None and self.other.is_open:
            self.other.transport.loseConnection()

    def join(self, other: "Joint") -> None:
        """Begin to pass on, to and from another end."""
        if not self.is_open:
            other.transport.abortConnection()
            return
        for one, another in ((self, other), (other, self)):
            one.other = another
            for data in one.early:
                another.transport.write(data)
            one.early.clear()


class _End(Joint):
    """An end that reads nothing while its way is cut."""

    def __init__(self, line: "Line", way: str) -> None:
        super().__init__()
        self.line = line
        self.way = way
        self.loses = False
        """Whether what it reads next is lost."""

    def connectionMade(self) -> None:
        self.line.ends.append(self)
        if self.way in self.line.is_cut:
            self.transport.pauseProducing()

    def dataReceived(self, data: bytes) -> None:
        if self.line.loses and self.way == UP and b"COMMIT" in data and self.other is not None:
            self.other.loses = True
        if self.loses:
            self.line.loses = max(0, self.line.loses - 1)
            self.transport.abortConnection()
        else:
            super().dataReceived(data)

    def connectionLost(self, reason: Failure) -> None:
        self.line.ends.remove(self)
        super().connectionLost(reason)


@define(eq=False)
class Line:
    """Passes connections on to a port of this machine.

    While a way is cut, its packets are neither passed on nor lost, and nobody is told: so it is
    for TCP, which sends lost packets again.

    Attributes:
        to: The port.
        port: Where it listens.
        ends: The ends of its connections.
        is_cut: The ways that are cut.
        loses: How many results of COMMITs are lost next, each with its connection.
    """

    to: int
    port: int = 0
    ends: list[_End] = Factory(list)
    is_cut: set[str] = Factory(set)
    loses: int = 0
    _listening: IListeningPort | None = field(init=False, default=None)

    def start(self) -> None:
        """Listen."""
        factory = ProtocolFactory()
        factory.noisy = False
        factory.buildProtocol = self._accepted
        self._listening = reactor.listenTCP(self.port, factory, interface="127.0.0.1")
        self.port = self._listening.getHost().port

    async def stop(self) -> None:
        """Listen no more, and reset all connections."""
        if self._listening is not None:
            await self._listening.stopListening()
        self.reset()

    def cut(self, *ways: str) -> None:
        """Let nothing pass, both ways or one."""
        self.is_cut |= set(ways or (UP, DOWN))
        for end in self.ends:
            if end.way in self.is_cut and not end.transport.disconnecting:
                end.transport.pauseProducing()

    def mend(self) -> None:
        """Let everything pass again, and what has waited."""
        self.is_cut.clear()
        for end in list(self.ends):
            end.transport.resumeProducing()

    def reset(self) -> None:
        """Reset all connections."""
        for end in list(self.ends):
            end.transport.abortConnection()

    def _accepted(self, _address: Any) -> _End:
        near, far = _End(self, UP), _End(self, DOWN)

        def failed(_: Failure) -> None:
            if near.is_open:
                near.transport.abortConnection()

        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", self.to)
        connectProtocol(endpoint, far).addCallbacks(near.join, failed)
        return near
