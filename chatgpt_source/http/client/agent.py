"""Sends requests over kept connections or new ones, directly or through a proxy."""

from functools import lru_cache
from typing import Any

from attrs import define, field, frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from twisted.web.client import URI, ResponseNeverReceived
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IResponse
from zope.interface import implementer

from chatgpt_source import __version__
from chatgpt_source.http.client.connect import Connector
from chatgpt_source.http.client.connection import Connection
from chatgpt_source.http.client.pool import Pool
from chatgpt_source.http.client.proxy import Proxies, Proxy
from chatgpt_source.http.client.unpack import ACCEPT_ENCODING, unpacked

AT_ONCE = 1.0
"""If a kept connection ends within these seconds after a request, it was closing already."""
_USER_AGENT = b"User-Agent: chatgpt-source/" + __version__.encode("ascii")


@frozen
class Way:
    """What a connection leads to. Requests with the same way may use the same connections."""

    tls: bool
    host: str
    port: int
    proxy: Proxy | None = None

    @property
    def passes_credentials(self) -> bool:
        """Whether each request has the proxy's credentials, which only the proxy may get."""
        return not self.tls and self.proxy is not None and self.proxy.authorization is not None


@frozen
class Route:
    """What a request to a URL has, beside its headers and body.

    Attributes:
        way: The way of its connection.
        target: The request's target (RFC 9112, section 3.2).
        headers: Header lines that it has in any case.
    """

    way: Way
    target: bytes
    headers: tuple[bytes, ...]


@implementer(IAgent)
@define(eq=False, repr=False)
class Agent:
    """Sends each request to its peer, or, for http:// URLs, to the proxy that passes it on.

    Args:
        clock: The time.
        connector: Makes connections.
        proxies: The proxies to use.
        pool: Keeps connections; None: each request has a new one.
        bounds_bodies: Whether the responses' bodies are bounded.
    """

    _clock: IReactorTime
    _connector: Connector
    _proxies: Proxies
    _pool: Pool | None
    _bounds_bodies: bool = True
    _route: Any = field(init=False)

    @_route.default
    def _make_route(self) -> Any:
        return lru_cache(maxsize=64)(lambda uri: route(uri, self._proxies))

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,  # noqa: N803
    ) -> Deferred[IResponse]:
        """Send a request; if a kept connection ends at once, again on a new one."""
        to: Route = self._route(uri)
        # Some proxies pass on what follows the first request on a connection as it is.
        pool = None if to.way.passes_credentials else self._pool
        head = _head(method, to, headers, bodyProducer, keep=pool is not None)

        def send(connection: Connection) -> Deferred[IResponse]:
            release = None if pool is None else (lambda done: pool.keep(to.way, done))
            return connection.request(head, bodyProducer, release, bounds_body=self._bounds_bodies)

        def send_on_new() -> Deferred[IResponse]:
            way = to.way
            connecting: Deferred[Any] = self._connector.connect(
                way.host, way.port, way.proxy, tls=way.tls
            )
            return connecting.addCallback(send)

        def failed(failure: Failure) -> Any:
            failure.trap(ResponseNeverReceived)
            if self._clock.seconds() - sent >= AT_ONCE and bodyProducer is not None:
                return failure
            return send_on_new()

        kept = pool.take(to.way) if pool is not None else None
        if kept is None:
            response = send_on_new()
        else:
            sent = self._clock.seconds()
            response = send(kept).addErrback(failed)
        return response.addCallback(unpacked)


def route(uri: bytes, proxies: Proxies) -> Route:
    """The route of a request.

    Without TLS, a proxy gets the absolute form (RFC 9112, section 3.2.2), with `/` for an empty
    path. Some proxies send everything on a connection to the first request's peer, unchanged. So
    each peer has connections of its own.

    Raises:
        ValueError: If the URI has characters that none has.
    """
    if not uri.isascii() or any(byte <= 0x20 or byte == 0x7F for byte in uri):
        raise ValueError("a URI with invalid characters")
    parsed = URI.fromBytes(uri)
    tls, host, netloc = parsed.scheme == b"https", parsed.host.decode("ascii"), parsed.netloc
    proxy = proxies.of("https" if tls else "http", host, parsed.port)
    if parsed.port == (443 if tls else 80):
        netloc = netloc.removesuffix(b":%d" % parsed.port)
    headers = [b"Host: " + netloc]
    target = parsed.originForm
    if proxy is not None and not tls:
        target = b"http://" + parsed.netloc + target
        if proxy.authorization is not None:
            headers.append(b"Proxy-Authorization: " + proxy.authorization)
    return Route(Way(tls, host, parsed.port, proxy), target, tuple(headers))


def _head(
    method: bytes, to: Route, headers: Headers | None, body: IBodyProducer | None, *, keep: bool
) -> bytes:
    headers = headers or Headers()
    lines = [b"%s %s HTTP/1.1" % (method, to.target), *to.headers]
    if not keep:
        lines.append(b"Connection: close")
    if body is not None:
        lines.append(b"Content-Length: %d" % body.length)
    if not headers.hasHeader(b"User-Agent"):
        lines.append(_USER_AGENT)
    if not headers.hasHeader(b"Accept-Encoding"):
        lines.append(ACCEPT_ENCODING)
    lines += [
        name + b": " + value for name, values in headers.getAllRawHeaders() for value in values
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n"
