"""The one HTTP client that both calls use: pool, timeouts, size caps, no cookies, no redirects."""

from collections.abc import Sequence
from http.cookiejar import DefaultCookiePolicy
from typing import Any, TypeVar

from attrs import field, frozen
from hyperlink import EncodedURL
from treq.client import HTTPClient
from treq.cookies import IndexableCookieJar
from twisted.internet.defer import (
    CancelledError,
    Deferred,
    TimeoutError,
    maybeDeferred,
    succeed,
)
from twisted.internet.interfaces import IConsumer, IReactorTime, ITransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import (
    BrowserLikePolicyForHTTPS,
    HostnameCachingHTTPSPolicy,
    HTTPConnectionPool,
    RequestTransmissionFailed,
    ResponseDone,
    ResponseFailed,
)
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IBodyProducer, IResponse
from zope.interface import implementer

from chatgpt_source.client.connect import LivePool, limited
from chatgpt_source.client.route import Router
from chatgpt_source.client.tunnel import wants_credentials
from chatgpt_source.client.words import describe
from chatgpt_source.proxy import Proxies
from chatgpt_source.trust import PlatformAndThese

T = TypeVar("T")

KEEP_IDLE = 4.0
"""Seconds an idle connection is kept: less than the 5 s after which common servers close theirs."""
NO_PROXIES = Proxies()
_PERHAPS_SENT = (TimeoutError, RequestTransmissionFailed, ResponseFailed)
"""What a call without a body, which could tell, may fail with after it was sent."""


class NotSent(Exception):
    """The request never reached the peer; the text says why."""


class NoReply(Exception):
    """The request may have reached the peer, but no answer that can be read came; says why."""


@frozen
class Reply:
    """What came back.

    Attributes:
        status: The HTTP status.
        headers: The response's headers.
        body: The body, or as much as came of it.
        flaw: Why the body is not whole; None if it is.
    """

    status: int
    headers: Headers = field(repr=False)
    body: bytes = field(repr=False)
    flaw: str | None = None

    def header(self, name: str) -> str | None:
        """The first value of a header, if it is there and ASCII."""
        for value in self.headers.getRawHeaders(name.encode("ascii"), [])[:1]:
            return value.decode("ascii", "ignore")
        return None


class Client:
    """Calls a peer and reads what comes back, in bounded time and memory.

    Args:
        clock: Measures the timeouts.
        http: The treq client that does the work.
        proxies: Those that it goes through.
    """

    def __init__(
        self, clock: IReactorTime, http: HTTPClient, proxies: Proxies = NO_PROXIES
    ) -> None:
        self._clock = clock
        self._http = http
        self._proxies = proxies

    async def post(
        self, url: EncodedURL, headers: Headers, body: bytes, *, timeout: float, most: int
    ) -> Reply:
        """Send one POST and read the whole answer.

        Args:
            url: Where to.
            headers: Those of the call; User-Agent is added if it is not among them.
            body: What to send.
            timeout: Seconds for everything, connecting and the answer's body included.
            most: Bytes of the answer's body to keep; a longer one is cut, and `flaw` says so.

        Raises:
            NotSent: If it failed before anything was sent to the peer.
            NoReply: If it failed between that and the answer's status.
        """
        return await self._call("POST", url, headers, _Body(body), timeout, most)

    async def get(self, url: EncodedURL, headers: Headers, *, timeout: float, most: int) -> Reply:
        """Send one GET, without a body; as `post` otherwise, but may be sent twice.

        That is where a kept connection turns out to be closed (RFC 9110, section 9.2.2).
        """
        return await self._call("GET", url, headers, None, timeout, most)

    async def _call(
        self,
        method: str,
        url: EncodedURL,
        headers: Headers,
        body: "_Body | None",
        timeout: float,
        most: int,
    ) -> Reply:
        started = self._clock.seconds()
        call = maybeDeferred(
            self._http.request,
            method,
            url,
            headers=headers,
            data=body,
            allow_redirects=False,
            unbuffered=True,
            reactor=self._clock,  # type: ignore[arg-type] # it only tells the time
        )
        try:
            response = await _cancellable(limited(call, timeout, self._clock))
        except CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it was, the call failed
            sent = body.started if body else isinstance(error, _PERHAPS_SENT)
            raise (NoReply if sent else NotSent)(describe(error)) from None
        left = max(0.001, timeout - (self._clock.seconds() - started))
        content, flaw = await _read(response, most, left, self._clock)
        if response.code == 407 and url.scheme == "http":
            proxy = self._proxies.of("http", url.host, url.port or 80)
            if proxy is not None:  # which passed nothing on
                raise NotSent(str(wants_credentials(proxy))) from None
        return Reply(response.code, response.headers, content, flaw)


def make_client(
    reactor: Any,
    connections: int,
    *,
    proxies: Proxies = NO_PROXIES,
    authorities: Sequence[bytes] = (),
) -> tuple[Client, HTTPConnectionPool]:
    """The client of a process, and the pool that is to be closed at its end.

    Args:
        reactor: Which connects.
        connections: How many idle connections to one peer may be kept.
        proxies: Those to go through.
        authorities: PEM texts; who signed the certificates in them is trusted, beside those whom
            the platform trusts.

    Raises:
        ValueError: If one of the authorities is not what `read_authorities` takes.
    """
    trusted = PlatformAndThese(authorities) if authorities else None
    policy = HostnameCachingHTTPSPolicy(BrowserLikePolicyForHTTPS(trusted))
    pool = LivePool(reactor)
    pool.maxPersistentPerHost = connections
    pool.cachedConnectionTimeout = KEEP_IDLE  # type: ignore[assignment] # any number will do
    pool._factory.noisy = False  # noqa: SLF001 - else each connection is logged
    no_cookies = IndexableCookieJar(policy=DefaultCookiePolicy(allowed_domains=[]))
    http = HTTPClient(Router(reactor, policy, pool, proxies), no_cookies)
    return Client(reactor, http, proxies), pool


class FixedURL(EncodedURL):
    """A URL that is ASCII already: treq would work that out again at each call.

    It also would take the address in `http://[::1]/` and the name in `http://my_host/` for
    internationalised names, which they are not.
    """

    def to_uri(self) -> "FixedURL":
        """The URL itself."""
        return self


def _cancellable(call: Deferred[T]) -> Deferred[T]:
    """A call that ends with CancelledError when it is cancelled; an Agent's ends as it likes."""

    def cancel(done: Deferred[T]) -> None:
        done.errback(CancelledError())
        call.cancel()

    def ended(result: Any) -> None:
        if not done.called:
            done.callback(result)

    done: Deferred[T] = Deferred(cancel)
    call.addBoth(ended)
    return done


@implementer(IBodyProducer)
class _Body:
    """A body in memory that knows whether any of it has been handed to a connection."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self.length = len(body)
        self.started = False

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        self.started = True
        consumer.write(self._body)
        return succeed(None)

    def stopProducing(self) -> None:
        pass

    def pauseProducing(self) -> None:
        pass

    def resumeProducing(self) -> None:
        pass


async def _read(
    response: IResponse, most: int, timeout: float, clock: IReactorTime
) -> tuple[bytes, str | None]:
    """The body, up to `most` bytes, and what is wrong with it if anything is."""
    collector = _Collector(most)
    response.deliverBody(collector)
    try:
        flaw = await limited(collector.done, timeout, clock)
    except TimeoutError:
        flaw = "did not end in time"
    return b"".join(collector.chunks), flaw


class _Collector(Protocol):
    """Collects a body; `done` fires with its flaw, if any; cancelling it closes the connection."""

    def __init__(self, most: int) -> None:
        self.chunks: list[bytes] = []
        self.done: Deferred[str | None] = Deferred(lambda _: self._abort())
        self._left = most

    def dataReceived(self, data: bytes) -> None:
        if self._left < 0:
            return
        self.chunks.append(data[: self._left])
        self._left -= len(data)
        if self._left < 0:
            self._end("was longer than it may be")
            self._abort()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        whole = isinstance(reason.value, (ResponseDone, PotentialDataLoss))
        self._end(None if whole else f"was cut short ({describe(reason.value)})")

    def _end(self, flaw: str | None) -> None:
        if not self.done.called:
            self.done.callback(flaw)

    def _abort(self) -> None:
        transport: ITransport | None = self.transport
        if transport is not None:
            # The client's proxy of the transport can only close politely, which a stuck peer
            # that speaks TLS may never answer.
            producer = getattr(transport, "_producer", None)
            getattr(producer, "abortConnection", transport.loseConnection)()
