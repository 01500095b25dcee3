"""Routes a request: directly to its peer, through a tunnel, or over a proxy without TLS."""

from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.web.client import URI, Agent, HTTPConnectionPool, ProxyAgent
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IPolicyForHTTPS, IResponse
from zope.interface import implementer

from chatgpt_source import __version__
from chatgpt_source.http.client.connect import CONNECT_TIMEOUT, Endpoints
from chatgpt_source.http.client.guard import Guarded
from chatgpt_source.http.client.proxy import Proxies, Proxy
from chatgpt_source.http.client.tunnel import ProxyEndpoint
from chatgpt_source.http.client.unpack import unpacked
from chatgpt_source.http.client.work_queue import WorkQueue

_USER_AGENT = b"chatgpt-source/" + __version__.encode("ascii")


@implementer(IAgent)
@define(eq=False)
class Router:
    """Sends each request to its peer, or, for http:// URLs, to the proxy that passes it on.

    Args:
        reactor: Makes the connections.
        policy: Which certificates are trusted.
        pool: Keeps the connections.
        proxies: The proxies to use.
        queue: Says when data is read.
    """

    _reactor: Any
    _policy: IPolicyForHTTPS
    _pool: HTTPConnectionPool
    _proxies: Proxies
    _queue: WorkQueue
    _direct: Any = field(init=False)
    _proxied: dict[tuple[bytes, int], Any] = field(init=False, factory=dict)

    @_direct.default
    def _make_direct(self) -> Any:
        endpoints = Endpoints(self._reactor, self._policy, self._proxies, self._queue)
        return Agent.usingEndpointFactory(self._reactor, endpoints, self._pool)

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,  # noqa: N803
    ) -> Deferred[IResponse]:
        """Send a request; adds a missing User-Agent to its headers, which treq has copied."""
        headers = headers or Headers()
        if not headers.hasHeader(b"User-Agent"):
            headers.setRawHeaders(b"User-Agent", [_USER_AGENT])
        agent = self._direct
        if self._proxies.http is not None and uri.startswith(b"http:"):
            parsed = URI.fromBytes(uri)
            proxy = self._proxies.of("http", parsed.host.decode("ascii"), parsed.port)
            if proxy is not None:
                agent = self._through(proxy, (parsed.host, parsed.port))
                # The absolute form (RFC 9112, section 3.2.2), with `/` for an empty path.
                uri = b"http://" + parsed.netloc + parsed.originForm
                if proxy.authorization is not None:
                    headers.setRawHeaders(b"Proxy-Authorization", [proxy.authorization])
        response: Deferred[IResponse] = agent.request(method, uri, headers, bodyProducer)
        return response.addCallback(unpacked)

    def _through(self, proxy: Proxy, peer: tuple[bytes, int]) -> Any:
        """The agent that sends a proxy the requests for one peer.

        Some proxies send everything on a connection to the first request's peer, unchanged. So
        each peer has connections of its own. With credentials, which only the proxy may get, each
        request has a connection of its own.
        """
        if peer not in self._proxied:
            endpoint = Guarded(ProxyEndpoint(self._reactor, proxy, CONNECT_TIMEOUT), self._queue)
            pool = self._pool if proxy.authorization is None else None
            self._proxied[peer] = ProxyAgent(endpoint, self._reactor, pool)
        return self._proxied[peer]
