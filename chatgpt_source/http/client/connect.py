"""Makes connections to peers, with time limits."""

from typing import Any, TypeVar

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import (
    IDelayedCall,
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
from chatgpt_source.http.client.turns import Turns

CONNECT_TIMEOUT = 10.0
"""Seconds that connecting may take, and again that the TLS handshake may take."""
STALL = 1.0
"""Seconds that a timer may be late; beyond that, our own process stood still."""
AFTER_STALL = 0.2
"""Seconds to read what came while our process stood still."""

T = TypeVar("T")


def limited(step: Deferred[T], seconds: float, clock: IReactorTime) -> Deferred[T]:
    """End a step with TimeoutError unless it ends in time.

    If the timer itself is late, because this process was stopped or its machine slept, the response
    may be unread in a socket. The step then gets more time to read it.
    """
    due = clock.seconds() + seconds
    expired = False
    timers: list[IDelayedCall] = []

    def expire() -> None:
        if clock.seconds() - due > STALL:
            timers.append(clock.callLater(AFTER_STALL, cancel))
        else:
            cancel()

    def cancel() -> None:
        nonlocal expired
        expired = True
        step.cancel()

    def ended(result: Any) -> Any:
        for timer in timers:
            if timer.active():
                timer.cancel()
        if expired and isinstance(result, Failure):
            raise TimeoutError(seconds)
        return result

    timers.append(clock.callLater(seconds, expire))
    return step.addBoth(ended)


@implementer(IAgentEndpointFactory)
class Endpoints:
    """Endpoints that connect once the TLS handshake is done, and that bound responses.

    Twisted's own endpoints connect after TCP, and buffer a request until the handshake. If that
    fails, the request looks as if it might have been sent.

    Args:
        reactor: Makes the connections.
        policy: Which certificates are trusted.
        proxies: The proxies for TLS connections.
        turns: Says when data is read.
    """

    def __init__(
        self, reactor: Any, policy: IPolicyForHTTPS, proxies: Proxies, turns: Turns
    ) -> None:
        self._reactor = reactor
        self._policy = policy
        self._proxies = proxies
        self._turns = turns

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        """The endpoint for a URI."""
        host = uri.host.decode("ascii")
        if uri.scheme != b"https":
            return Guarded(self._direct(host, uri.port), self._turns)
        proxy = self._proxies.of("https", host, uri.port)
        way = (
            Tunnel(self._reactor, proxy, host, uri.port, CONNECT_TIMEOUT)
            if proxy
            else self._direct(host, uri.port)
        )
        creator = self._policy.creatorForNetloc(uri.host, uri.port)
        return Guarded(_Handshaken(wrapClientTLS(creator, way), self._reactor), self._turns)

    def _direct(self, host: str, port: int) -> HostnameEndpoint:
        return HostnameEndpoint(self._reactor, host, port, timeout=CONNECT_TIMEOUT)


@implementer(IStreamClientEndpoint)
class _Handshaken:
    """A TLS endpoint that connects once the handshake is done."""

    def __init__(self, endpoint: IStreamClientEndpoint, clock: IReactorTime) -> None:
        self._endpoint = endpoint
        self._clock = clock

    def connect(self, protocolFactory: Any) -> Deferred[Any]:  # noqa: N803
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, factory: Any) -> Any:
        waiting = _WaitForHandshake(factory)
        protocol: Any = await self._endpoint.connect(waiting)
        try:
            await limited(waiting.done, CONNECT_TIMEOUT, self._clock)
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
