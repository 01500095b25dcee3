"""An HTTP server that passes all requests to one handler, and always sends a response."""

from attrs import define, field
from twisted.internet.interfaces import IAddress, IProtocolNegotiationFactory
from twisted.internet.protocol import ServerFactory
from zope.interface import implementer

from chatgpt_source.http.sending import Sending
from chatgpt_source.http.server.channel import Channel
from chatgpt_source.http.server.request import BoundedRequest, Site
from chatgpt_source.http.server.scheduler import ReadScheduler


@implementer(IProtocolNegotiationFactory)
@define(eq=False, repr=False, slots=False)
class BoundedSite(Site, ServerFactory[Channel]):
    """An HTTP server, without Twisted's slow access log."""

    noisy = False
    _scheduler: ReadScheduler = field(init=False)
    _sending: Sending = field(init=False)

    @_scheduler.default
    def _make_scheduler(self) -> ReadScheduler:
        return ReadScheduler(self.reactor)

    @_sending.default
    def _make_sending(self) -> Sending:
        return Sending(self.reactor)

    def buildProtocol(self, _: IAddress | None) -> Channel:
        """The channel of a new connection."""
        channel = Channel(self.connections, self._scheduler, self._sending)
        channel.site = self
        channel.requestFactory = BoundedRequest  # type: ignore[assignment]
        return channel

    def acceptableProtocols(self) -> list[bytes]:
        """Only HTTP/1.1: HTTP/2 would bypass the bounds of Channel."""
        return [b"http/1.1"]
