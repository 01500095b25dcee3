"""Connects to a host through an HTTP proxy by `CONNECT` (RFC 9110, section 9.3.6)."""

import re
from typing import Any

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from chatgpt_source.http.client.proxy import Proxy
from chatgpt_source.waiting import with_timeout

MOST_ANSWER = 16 * 2**10
"""Bytes that a proxy's answer to CONNECT may have, with those of interim answers."""


class ProxyFailed(Exception):
    """The proxy did not connect to the peer, which received nothing; the text says why.

    Attributes:
        reasons: The exceptions that caused it, if any.
    """

    def __init__(self, words: str, *reasons: Failure) -> None:
        super().__init__(words)
        self.reasons = reasons


def wants_credentials(proxy: Proxy) -> ProxyFailed:
    """The error for a proxy's 407 (RFC 9110, section 15.5.8)."""
    return ProxyFailed(f"the proxy asks for credentials (407): check {proxy.variable}")


@implementer(IStreamClientEndpoint)
class ProxyEndpoint:
    """An endpoint that connects to a proxy, and fails with ProxyFailed.

    Args:
        reactor: Makes the connection.
        proxy: The proxy.
        timeout: Seconds that connecting may take.
    """

    def __init__(self, reactor: Any, proxy: Proxy, timeout: float) -> None:
        self._endpoint = HostnameEndpoint(reactor, proxy.host, proxy.port, timeout=timeout)

    def connect(self, protocolFactory: Any) -> Deferred[Any]:  # noqa: N803
        """Connect to the proxy."""
        return self._endpoint.connect(protocolFactory).addErrback(
            lambda failure: Failure(ProxyFailed("the proxy can't be reached", failure))
        )


@implementer(IStreamClientEndpoint)
class Tunnel:
    """An endpoint that connects to a host through a proxy.

    Args:
        reactor: Makes the connection.
        proxy: The proxy.
        host: A name, which the proxy resolves, or an address, IPv6 without brackets.
        port: The host's.
        timeout: Seconds that connecting to the proxy may take, and its answer after that.
    """

    def __init__(self, reactor: Any, proxy: Proxy, host: str, port: int, timeout: float) -> None:
        self._clock: IReactorTime = reactor
        self._endpoint = ProxyEndpoint(reactor, proxy, timeout)
        self._proxy = proxy
        self._authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._timeout = timeout

    def connect(self, protocolFactory: Any) -> Deferred[Any]:  # noqa: N803
        """Connect through the proxy."""
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, factory: Any) -> Any:
        entrance: _Entrance = await self._endpoint.connect(
            _EntranceFactory(self._proxy, self._request())
        )
        try:
            await with_timeout(entrance.opened, self._timeout, self._clock)
            return entrance.lead_to(factory.buildProtocol(entrance.transport.getPeer()))
        except BaseException as error:
            entrance.transport.abortConnection()
            if isinstance(error, TimeoutError):
                raise ProxyFailed("the proxy gave no answer to CONNECT in time") from None
            raise

    def _request(self) -> bytes:
        lines = [f"CONNECT {self._authority} HTTP/1.1", f"Host: {self._authority}"]
        request = "\r\n".join(lines).encode("ascii")
        if self._proxy.authorization is not None:
            request += b"\r\nProxy-Authorization: " + self._proxy.authorization
        return request + b"\r\n\r\n"


class _Entrance(Protocol):
    """Our end of a tunnel: sends the CONNECT request, reads the answer, then passes data on.

    Attributes:
        opened: Fires when the proxy has opened the tunnel, or with ProxyFailed.
    """

    _END = re.compile(rb"\r?\n\r?\n")
    _STATUS = re.compile(rb"HTTP/1\.[0-9] ([0-9]{3})\b")
    transport: Any

    def __init__(self, proxy: Proxy, request: bytes) -> None:
        self.opened: Deferred[None] = Deferred()
        self._proxy = proxy
        self._request = request
        self._inner: Any = None
        self._count = 0
        self._received = bytearray()

    def connectionMade(self) -> None:
        self.transport.write(self._request)

    def lead_to(self, protocol: Any) -> Any:
        """Give the connection to a protocol, with the bytes after the proxy's answer."""
        self._inner = protocol
        protocol.makeConnection(self.transport)
        if self._received:
            protocol.dataReceived(bytes(self._received))
        return protocol

    def dataReceived(self, data: bytes) -> None:
        if self._inner is not None:
            self._inner.dataReceived(data)
            return
        seen = max(0, len(self._received) - 3)  # the part before that was searched already
        self._count += len(data)
        self._received += data
        while not self.opened.called and (end := self._END.search(self._received, seen)):
            seen = 0
            match = self._STATUS.match(self._received)
            status = int(match[1]) if match else None
            del self._received[: end.end()]
            self._answered(status)
        if not self.opened.called and self._count > MOST_ANSWER:
            self._fail(ProxyFailed("the proxy's answer to CONNECT does not end"))

    def _answered(self, status: int | None) -> None:
        if status is None:
            self._fail(ProxyFailed("the proxy's answer to CONNECT is not HTTP"))
        elif 200 <= status < 300:
            self.opened.callback(None)
        elif status == 407:
            self._fail(wants_credentials(self._proxy))
        elif not 100 <= status < 200:  # interim answers
            self._fail(ProxyFailed(f"the proxy answered {status} to CONNECT"))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._inner is not None:
            self._inner.connectionLost(reason)
        else:
            self._fail(ProxyFailed("the proxy closed the connection"))

    def _fail(self, error: ProxyFailed) -> None:
        if not self.opened.called:
            self.opened.errback(error)


class _EntranceFactory(Factory):
    noisy = False

    def __init__(self, proxy: Proxy, request: bytes) -> None:
        self._proxy = proxy
        self._request = request

    def buildProtocol(self, addr: Any) -> _Entrance:  # noqa: ARG002 - there is but one
        return _Entrance(self._proxy, self._request)
