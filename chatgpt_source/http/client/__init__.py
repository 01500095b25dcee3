"""The HTTP client for all calls: pool, timeouts, size limits, no cookies, no redirects."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

from attrs import define, field, frozen
from hyperlink import EncodedURL
from treq.client import HTTPClient
from twisted.internet.defer import CancelledError, TimeoutError
from twisted.internet.interfaces import IHostnameResolver, IReactorTime
from twisted.web.client import (
    BrowserLikePolicyForHTTPS,
    HostnameCachingHTTPSPolicy,
    ResponseFailed,
)
from twisted.web.http_headers import Headers

from chatgpt_source.http.client.agent import Agent
from chatgpt_source.http.client.body import TOO_LONG, Body, Collector, Passer, StreamedBody
from chatgpt_source.http.client.certificates import PlatformAndThese
from chatgpt_source.http.client.connect import Connector
from chatgpt_source.http.client.direct import DirectHTTPClient
from chatgpt_source.http.client.pool import Pool
from chatgpt_source.http.client.proxy import Proxies
from chatgpt_source.http.client.resolve import Resolving
from chatgpt_source.http.client.tunnel import wants_credentials
from chatgpt_source.http.client.words import describe
from chatgpt_source.http.client.work_queue import WorkQueue
from chatgpt_source.http.sending import Sending
from chatgpt_source.waiting import with_timeout

NO_PROXIES = Proxies()
MOST_HEADER = 1000
"""Bytes of a header's value that are read; no header that we use is longer."""
_PERHAPS_SENT = (TimeoutError, ResponseFailed)
"""Errors that may come after a call without a body was sent."""


class NotSent(Exception):
    """The request never reached the peer; the text says why."""


class NoReply(Exception):
    """The request may have reached the peer, but no readable response came; the text says why."""


@frozen
class Reply:
    """A peer's response.

    Attributes:
        status: The HTTP status.
        headers: The response's headers.
        body: The body, or the part of it that came.
        flaw: Why the body is not complete; None if it is.
    """

    status: int
    headers: Headers = field(repr=False)
    body: bytes = field(repr=False)
    flaw: str | None = None

    @property
    def is_too_long(self) -> bool:
        """Whether its body has more bytes than are kept."""
        return self.flaw == TOO_LONG

    def header(self, name: str) -> str | None:
        """The ASCII of a header's first value; None if it is absent or over `MOST_HEADER`."""
        for value in self.headers.getRawHeaders(name.encode("ascii"), [])[:1]:
            return value.decode("ascii", "ignore") if len(value) <= MOST_HEADER else None
        return None


@define(eq=False, repr=False)
class Client:
    """Calls a peer and reads the response, in bounded time and memory.

    Args:
        clock: Measures the timeouts.
        http: The treq client.
        proxies: The proxies that it uses.
        fresh: As `http`, but with a new connection for each call; None if `http` does that.
        streaming: As `fresh`, but without bounds of a response's body; None if `http` has none.
    """

    _clock: IReactorTime
    _http: HTTPClient
    _proxies: Proxies = NO_PROXIES
    _fresh: HTTPClient | None = None
    _streaming: HTTPClient | None = None

    async def post(
        self,
        url: EncodedURL,
        headers: Headers,
        body: bytes,
        *,
        timeout: float,
        most: int,
        fresh: bool = False,
    ) -> Reply:
        """Send one POST and read the whole response.

        If the peer ends a kept connection at once, without one byte of a response, the request is
        lost and is sent again, on a new connection.

        Args:
            url: The address.
            headers: The call's headers; User-Agent is added if it is missing.
            body: The body to send.
            timeout: Seconds for everything, from connecting to the end of the response.
            most: Bytes of the response's body to keep; a longer one is cut, and `flaw` says so.
            fresh: Whether the call needs a new connection.

        Raises:
            NotSent: If it failed before anything was sent to the peer.
            NoReply: If it failed between that and the response's status.
        """
        http = (self._fresh if fresh else None) or self._http
        return await self._call(http, "POST", url, headers, Body(body), timeout, Collector(most))

    async def send(
        self,
        url: EncodedURL,
        headers: Headers,
        length: int,
        pieces: AsyncIterator[bytes],
        *,
        silence: float,
        most: int,
    ) -> Reply:
        """Send one POST whose body is streamed, on a new connection, otherwise as `post`.

        Args:
            url: The address.
            headers: The call's headers.
            length: How many bytes the body has.
            pieces: The body. What it raises is raised, and the connection ended.
            silence: Seconds in which the peer must take some of the body, or answer.
            most: Bytes of the response's body to keep.

        Raises:
            NotSent: If it failed before anything was sent to the peer.
            NoReply: If it failed between that and the response's status.
            ValueError: If the body has another length.
        """
        http = self._fresh or self._http
        body = StreamedBody(length, pieces, self._clock)
        try:
            return await self._call(
                http, "POST", url, headers, body, silence, Collector(most), body.moved
            )
        except NoReply:
            if body.error is not None:
                raise body.error from None
            raise
        finally:
            body.stopProducing()

    async def receive(
        self,
        url: EncodedURL,
        headers: Headers,
        take: Callable[[bytes], Awaitable[None]],
        *,
        silence: float,
        most: int,
    ) -> Reply:
        """Send one GET on a new connection, and pass on the body of a 200, however long it is.

        Args:
            url: The address.
            headers: The call's headers.
            take: Takes a piece of the body; the next follows once that is done. What it raises is
                raised, and the connection ended.
            silence: Seconds in which the peer must send something.
            most: Bytes to keep of the body of another response.

        Returns:
            The response; that of a 200 is without its body.

        Raises:
            NotSent: If it failed before anything was sent to the peer.
            NoReply: If it failed between that and the response's status.
        """
        http = self._streaming or self._http
        passer = Passer(most, take, self._clock)
        reply = await self._call(http, "GET", url, headers, None, silence, passer, passer.moved)
        if passer.error is not None:
            raise passer.error
        return reply

    async def get(self, url: EncodedURL, headers: Headers, *, timeout: float, most: int) -> Reply:
        """Send one GET, otherwise as `post`.

        It may be sent twice, if a kept connection turns out to be closed (RFC 9110, section 9.2.2).
        """
        return await self._call(self._http, "GET", url, headers, None, timeout, Collector(most))

    async def options(
        self, url: EncodedURL, headers: Headers, *, timeout: float, most: int
    ) -> Reply:
        """Send one OPTIONS, otherwise as `get`."""
        return await self._call(self._http, "OPTIONS", url, headers, None, timeout, Collector(most))

    async def delete(
        self, url: EncodedURL, headers: Headers, *, timeout: float, most: int
    ) -> Reply:
        """Send one DELETE, otherwise as `get`."""
        return await self._call(self._http, "DELETE", url, headers, None, timeout, Collector(most))

    async def _call(
        self,
        http: HTTPClient,
        method: str,
        url: EncodedURL,
        headers: Headers,
        body: Body | StreamedBody | None,
        timeout: float,
        collector: Collector,
        moved: Callable[[], float] | None = None,
    ) -> Reply:
        try:
            response = http.request(
                method,
                url,
                headers=headers,
                data=body,
                allow_redirects=False,
                unbuffered=True,
            )
            await with_timeout(response.addCallback(collector.begin), timeout, self._clock, moved)
        except CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it was, the call failed
            if collector.response is None:
                sent = body.started if body else isinstance(error, _PERHAPS_SENT)
                raise (NoReply if sent else NotSent)(describe(error)) from None
        got = collector.response
        assert got is not None  # noqa: S101 - else the call has failed
        if got.code == 407 and url.scheme == "http":
            proxy = self._proxies.of("http", url.host, url.port or 80)
            if proxy is not None:  # the proxy passed nothing on
                raise NotSent(str(wants_credentials(proxy))) from None
        return Reply(got.code, got.headers, collector.body, collector.flaw)


def make_client(
    reactor: Any,
    connections: int,
    *,
    proxies: Proxies = NO_PROXIES,
    authorities: Sequence[bytes] = (),
    resolver: IHostnameResolver | None = None,
) -> tuple[Client, Pool]:
    """The client of a process, and its pool, which must be closed at the end.

    Args:
        reactor: Makes the connections.
        connections: How many idle connections to one peer may be kept.
        proxies: The proxies to use.
        authorities: PEM texts with certificates of authorities to trust beside the platform's.
        resolver: Resolves names; None for a resolver apart from the reactor's.

    Raises:
        ValueError: If one of the authorities is not what `read_certificates` takes.
    """
    trusted = PlatformAndThese(authorities) if authorities else None
    policy = HostnameCachingHTTPSPolicy(BrowserLikePolicyForHTTPS(trusted))
    resolving = Resolving(reactor, resolver)
    connector = Connector(resolving, policy, WorkQueue(reactor), Sending(reactor))
    pool = Pool(reactor, connections)

    def client_of(kept: Pool | None, *, bounds_bodies: bool = True) -> HTTPClient:
        return DirectHTTPClient(Agent(reactor, connector, proxies, kept, bounds_bodies))

    streaming = client_of(None, bounds_bodies=False)
    return Client(reactor, client_of(pool), proxies, client_of(None), streaming), pool


class FixedURL(EncodedURL):
    """A URL that is ASCII already, so that treq does not encode it at each call.

    treq would also take the address in `http://[::1]/` and the name in `http://my_host/` for
    internationalised names.
    """

    _text: str | None = None

    def to_uri(self) -> "FixedURL":
        """The URL itself."""
        return self

    def to_text(self, with_password: bool = False) -> str:  # noqa: FBT001, FBT002 - as the base's
        """Its text, which is made once."""
        if with_password:
            return super().to_text(with_password=True)
        if self._text is None:
            self._text = super().to_text()
        return self._text
