"""Makes connections to peers, with time limits."""

from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import (
    IHandshakeListener,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.protocols.policies import WrappingFactory
from twisted.python.failure import Failure
from twisted.web.client import URI
from twisted.web.iweb import IAgentEndpointFactory, IPolicyForHTTPS
from zope.interface import alsoProvides, implementer

from chatgpt_source.http.client.guard import Guarded
from chatgpt_source.http.client.proxy import Proxies
from chatgpt_source.http.client.tunnel import Tunnel
from chatgpt_source.http.client.work_queue import WorkQueue
from chatgpt_source.waiting import with_timeout

CONNECT_TIMEOUT = 10.0
"""Seconds that connecting may take, and again that the TLS handshake may take."""


@implementer(IAgentEndpointFactory)
@frozen
class Endpoints:
    """Endpoints that connect once the TLS handshake is done, and that bound responses.

    Twisted's own endpoints connect after TCP, and buffer a request until the handshake. If that
    fails, the request looks as if it might have been sent.

    Args:
        reactor: Makes the connections.
        policy: Which certificates are trusted.
        proxies: The proxies for TLS connections.
        queue: Says when data is read.
    """

    _reactor: Any
    _policy: IPolicyForHTTPS
    _proxies: Proxies
    _queue: WorkQueue

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        """The endpoint for a URI."""
        host = uri.host.decode("ascii")
        if uri.scheme != b"https":
            return Guarded(self._direct(host, uri.port), self._queue)
        proxy = self._proxies.of("https", host, uri.port)
        way = (
            Tunnel(self._reactor, proxy, host, uri.port, CONNECT_TIMEOUT)
            if proxy
            else self._direct(host, uri.port)
        )
        creator = self._policy.creatorForNetloc(uri.host, uri.port)
        return Guarded(_Handshaken(wrapClientTLS(creator, way), self._reactor), self._queue)

    def _direct(self, host: str, port: int) -> HostnameEndpoint:
        return HostnameEndpoint(self._reactor, host, port, timeout=CONNECT_TIMEOUT)


@implementer(IStreamClientEndpoint)
@frozen
class _Handshaken:
    """A TLS endpoint that connects once the handshake is done."""

    _endpoint: IStreamClientEndpoint
    _clock: IReactorTime

    def connect(self, protocolFactory: Any) -> Deferred[Any]:  # noqa: N803
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, factory: Any) -> Any:
        waiting = _WaitForHandshake(factory)
        protocol: Any = await self._endpoint.connect(waiting)
        try:
            await with_timeout(waiting.done, CONNECT_TIMEOUT, self._clock)
        except BaseException:
            protocol.transport.abortConnection()
            raise
        return protocol


class _WaitForHandshake(WrappingFactory):
    """Builds a factory's protocols; `done` fires when the handshake of the first one ends."""

    noisy = False

    def __init__(self, factory: Any) -> None:
        super().__init__(factory)
        self.done: Deferred[None] = Deferred()

    def buildProtocol(self, addr: Any) -> Any:
        protocol = self.wrappedFactory.buildProtocol(addr)
        lost = protocol.connectionLost

        def handshake_completed() -> None:
            protocol.connectionLost = lost
            self.done.callback(None)

        def connection_lost(reason: Failure) -> None:
            lost(reason)
            if not self.done.called:
                self.done.errback(reason)

        protocol.handshakeCompleted = handshake_completed
        protocol.connectionLost = connection_lost
        alsoProvides(protocol, IHandshakeListener)
        return protocol
