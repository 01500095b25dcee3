"""Makes connections to peers, with time limits."""

from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.web.iweb import IPolicyForHTTPS

from chatgpt_source.http.client.connection import Connection, Connections
from chatgpt_source.http.client.proxy import Proxy
from chatgpt_source.http.client.tunnel import ProxyEndpoint, Tunnel
from chatgpt_source.http.client.work_queue import WorkQueue
from chatgpt_source.http.sending import Sending
from chatgpt_source.waiting import with_timeout

CONNECT_TIMEOUT = 10.0
"""Seconds that connecting may take, and again that the TLS handshake may take."""


@frozen(eq=False, repr=False)
class Connector:
    """Makes connections to peers.

    Args:
        reactor: Makes them.
        policy: Which certificates are trusted.
        queue: Says when bytes are read.
        sending: Says when they are sent.
    """

    _reactor: Any
    _policy: IPolicyForHTTPS
    _queue: WorkQueue
    _sending: Sending

    def connect(
        self, host: str, port: int, proxy: Proxy | None = None, *, tls: bool
    ) -> Deferred[Connection]:
        """Connect to a peer.

        Args:
            host: Its name or address, IPv6 without brackets.
            port: Its port.
            proxy: The proxy that leads to it: by a tunnel with TLS; without TLS, the connection is
                one to the proxy.
            tls: Whether to use TLS. The connection is made once the handshake is done, so that no
                request is sent before.
        """
        way: Any
        if proxy is None:
            way = HostnameEndpoint(self._reactor, host, port, timeout=CONNECT_TIMEOUT)
        elif tls:
            way = Tunnel(self._reactor, proxy, host, port, CONNECT_TIMEOUT)
        else:
            way = ProxyEndpoint(self._reactor, proxy, CONNECT_TIMEOUT)
        if not tls:
            connecting: Deferred[Connection] = way.connect(self._connections())
            return connecting
        creator = self._policy.creatorForNetloc(host.encode("ascii"), port)
        return Deferred.fromCoroutine(self._shake_hands(wrapClientTLS(creator, way)))

    def _connections(self, secured: Deferred[None] | None = None) -> Connections:
        return Connections(self._queue, self._sending, secured)

    async def _shake_hands(self, endpoint: Any) -> Connection:
        secured: Deferred[None] = Deferred()
        connection: Connection = await endpoint.connect(self._connections(secured))
        try:
            await with_timeout(secured, CONNECT_TIMEOUT, self._reactor)
        except BaseException:
            connection.abortConnection()
            raise
        return connection
