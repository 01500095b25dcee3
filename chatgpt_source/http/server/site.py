"""An HTTP server that passes all requests to one handler, and always sends a response."""

from collections.abc import Collection

from twisted.internet.interfaces import IAddress, IProtocolNegotiationFactory, IReactorTime
from twisted.internet.protocol import ServerFactory
from twisted.web.http import Request
from zope.interface import implementer

from chatgpt_source.http.server.channel import Channel
from chatgpt_source.http.server.connections import MOST_CONNECTIONS, Connections
from chatgpt_source.http.server.problem import Problem
from chatgpt_source.http.server.request import Access, Admits, BoundedRequest, Handler, Refused
from chatgpt_source.http.server.scheduler import ReadScheduler


def _all_welcome(_: BoundedRequest) -> Problem | None:
    return None


@implementer(IProtocolNegotiationFactory)
class BoundedSite(ServerFactory[Channel]):
    """An HTTP server, without Twisted's slow access log.

    Args:
        reactor: The clock for timeouts.
        handler: Answers each request, or raises Problem; any other exception becomes a 500.
        max_body_size: Bytes that a request's body may have; a larger one gets a 413.
        admits: Says why a request is refused by its head; its body is then dropped.
        connections_at_most: How many connections there may be.
        refused: Is told of each refused request, and why.
        access: Is told of each response.
        probes: Paths that are answered however many callers wait; a few connections are reserved
            for them. Their responses must not take long.

    Attributes:
        connections: The callers' connections.
        held: Bytes of larger bodies in memory.
    """

    noisy = False

    def __init__(
        self,
        reactor: IReactorTime,
        handler: Handler,
        max_body_size: int,
        admits: Admits = _all_welcome,
        connections_at_most: int = MOST_CONNECTIONS,
        refused: Refused = lambda *_: None,
        access: Access = lambda *_: None,
        probes: Collection[str] = (),
    ) -> None:
        self.reactor = reactor
        self.handler = handler
        self.max_body_size = max_body_size
        self.admits = admits
        self.refused = refused
        self.access = access
        self.probes = probes
        self.held = 0
        self.connections = Connections(
            reactor, min(connections_at_most, MOST_CONNECTIONS), keep=bool(probes)
        )
        self._scheduler = ReadScheduler(reactor)

    def buildProtocol(self, _: IAddress | None) -> Channel:
        """The channel of a new connection."""
        channel = Channel(self.connections, self._scheduler)
        channel.factory = self
        channel.requestFactory = BoundedRequest  # type: ignore[assignment]
        return channel

    def acceptableProtocols(self) -> list[bytes]:
        """Only HTTP/1.1: HTTP/2 would bypass the bounds of Channel."""
        return [b"http/1.1"]

    def log(self, request: Request) -> None:
        """Write nothing; Twisted's channel expects this method."""
