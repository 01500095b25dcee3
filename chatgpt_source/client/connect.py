"""How connections to peers are made, kept, bounded and given up."""

import re
import socket
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
from twisted.web.client import URI, HTTPConnectionPool
from twisted.web.iweb import IAgentEndpointFactory, IPolicyForHTTPS
from zope.interface import alsoProvides, implementer

from chatgpt_source.client.tunnel import Tunnel
from chatgpt_source.proxy import Proxies

CONNECT_TIMEOUT = 10.0
"""Seconds that connecting may take, and that TLS may take after it."""
MOST_HEAD = 128 * 2**10
"""Bytes that a response may have before its body, those of interim responses included."""
STALL = 1.0
"""Seconds a timer may be late before that is taken for a stall of ours, not of the peer."""
AFTER_STALL = 0.2
"""Seconds to read what came meanwhile."""

T = TypeVar("T")


class TooLongHead(Exception):
    """A response whose head does not end."""


def limited(step: Deferred[T], seconds: float, clock: IReactorTime) -> Deferred[T]:
    """End a step with TimeoutError unless it ends in time.

    If the timer itself comes late, as after this process was stopped or its machine asleep, the
    answer may lie unread in a socket: then there is time to read it.
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


class LivePool(HTTPConnectionPool):
    """A pool that does not hand out a connection that its peer has closed meanwhile, or will.

    Twisted learns of that when it next reads; a request that is written before is lost, and looks
    as if it might have been answered.
    """

    def getConnection(self, key: Any, endpoint: IStreamClientEndpoint) -> Deferred[Any]:
        """A live connection, kept or new."""
        for connection in list(self._connections.get(key, ())):
            if not _is_quiet(connection):
                self._timeouts[connection].cancel()
                self._removeConnection(key, connection)
        return super().getConnection(key, endpoint)

    def _putConnection(self, key: Any, connection: Any) -> None:
        if connection.closes:
            connection.transport.loseConnection()
        else:
            super()._putConnection(key, connection)


def _is_quiet(connection: Any) -> bool:
    """Whether nothing has come on an idle connection: not its end, nor bytes nobody asked for."""
    transport = connection.transport
    try:
        handle = getattr(transport, "transport", transport).getHandle()  # under TLS, if any
        handle.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return True
    except (OSError, AttributeError):
        return False
    return False


@implementer(IAgentEndpointFactory)
class Endpoints:
    """Endpoints that are connected once TLS is agreed upon, and bound what a response's head takes.

    Twisted's own are connected with TCP, and a request that is written before the handshake is held
    back: if that fails, it looks as if the request might have been sent.

    Args:
        reactor: Which connects.
        policy: Which certificates are trusted.
        proxies: Through which a TLS connection is made.
    """

    def __init__(self, reactor: Any, policy: IPolicyForHTTPS, proxies: Proxies) -> None:
        self._reactor = reactor
        self._policy = policy
        self._proxies = proxies

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        """Where to connect for a URI."""
        host = uri.host.decode("ascii")
        if uri.scheme != b"https":
            return Guarded(self._direct(host, uri.port))
        proxy = self._proxies.of("https", host, uri.port)
        way = (
            Tunnel(self._reactor, proxy, host, uri.port, CONNECT_TIMEOUT)
            if proxy
            else self._direct(host, uri.port)
        )
        creator = self._policy.creatorForNetloc(uri.host, uri.port)
        return Guarded(_Handshaken(wrapClientTLS(creator, way), self._reactor))

    def _direct(self, host: str, port: int) -> HostnameEndpoint:
        return HostnameEndpoint(self._reactor, host, port, timeout=CONNECT_TIMEOUT)


@implementer(IStreamClientEndpoint)
class _Handshaken:
    """A TLS endpoint that is connected once the handshake is done."""

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


@implementer(IStreamClientEndpoint)
class Guarded:
    """An endpoint whose connections end when a response's head is over `MOST_HEAD` bytes."""

    def __init__(self, endpoint: IStreamClientEndpoint) -> None:
        self._endpoint = endpoint

    def connect(self, protocolFactory: Any) -> Deferred[Any]:  # noqa: N803
        """Connect."""
        return self._endpoint.connect(_GuardingFactory(protocolFactory))


class _GuardingFactory(WrappingFactory):
    noisy = False

    def buildProtocol(self, addr: Any) -> Any:
        protocol = self.wrappedFactory.buildProtocol(addr)
        _HeadGuard(protocol)
        return protocol


class _HeadGuard:
    """Counts what comes on a connection from each request until the final response's head ends.

    The protocol gets `closes`: whether its peer will close it, as one that speaks HTTP/1.0 does
    (RFC 9112, section 9.3), which Twisted does not know.
    """

    _INTERIM = re.compile(rb"\S+ 1\d\d")
    _END = re.compile(rb"\r?\n\r?\n")

    def __init__(self, protocol: Any) -> None:
        self._protocol = protocol
        protocol.closes = False
        self._received, self._request = protocol.dataReceived, protocol.request
        self._lost = protocol.connectionLost
        protocol.dataReceived, protocol.request = self._data_received, self._new_request
        protocol.connectionLost = self._connection_lost
        self._head: bytearray | None = bytearray()
        self._count = 0

    def _new_request(self, request: Any) -> Any:
        self._head, self._count = bytearray(), 0
        return self._request(request)

    def _connection_lost(self, reason: Failure) -> None:
        too_long = self._head is not None and self._count > MOST_HEAD
        self._lost(Failure(TooLongHead()) if too_long else reason)

    def _data_received(self, data: bytes) -> None:
        if self._head is not None:
            seen = max(0, len(self._head) - 3)  # what is before that was searched already
            self._count += len(data)
            self._head += data
            while self._head is not None and (end := self._END.search(self._head, seen)):
                seen = 0
                if self._INTERIM.match(self._head):
                    del self._head[: end.end()]
                else:
                    self._protocol.closes = self._head.startswith(b"HTTP/1.0")
                    self._head = None
            if self._head is not None and self._count > MOST_HEAD:
                self._protocol.transport.abortConnection()
                return
        self._received(data)
