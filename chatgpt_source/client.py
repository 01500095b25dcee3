"""The one HTTP client that both calls use: pool, timeouts, size caps, no cookies, no redirects."""

from http.cookiejar import DefaultCookiePolicy
from typing import Any, TypeVar

from attrs import field, frozen
from hyperlink import EncodedURL
from OpenSSL import SSL
from service_identity import VerificationError
from treq.client import HTTPClient
from treq.cookies import IndexableCookieJar
from twisted.internet import error as net
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
from twisted.web._newclient import ParseError
from twisted.web.client import (
    Agent,
    BrowserLikePolicyForHTTPS,
    HostnameCachingHTTPSPolicy,
    HTTPConnectionPool,
    ResponseDone,
)
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IBodyProducer, IResponse
from zope.interface import implementer

from chatgpt_source import __version__
from chatgpt_source.connect import Endpoints, LivePool, TooLongHead, limited

T = TypeVar("T")

KEEP_IDLE = 4.0
"""Seconds an idle connection is kept: less than the 5 s after which common servers close theirs."""


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
    """Posts to a peer and reads what comes back, in bounded time and memory.

    Args:
        clock: Measures the timeouts.
        http: The treq client that does the work.
        once: Another that keeps no connections, for peers that close theirs after each answer.
    """

    def __init__(
        self, clock: IReactorTime, http: HTTPClient, once: HTTPClient | None = None
    ) -> None:
        self._clock = clock
        self._http = http
        self._once = once or http
        self._closing: set[tuple[str, int | None]] = set()

    async def post(
        self, url: EncodedURL, headers: Headers, body: bytes, *, timeout: float, most: int
    ) -> Reply:
        """Send one POST and read the whole answer.

        Args:
            url: Where to.
            headers: Those of the call; User-Agent is added.
            body: What to send.
            timeout: Seconds for everything, connecting and the answer's body included.
            most: Bytes of the answer's body to keep; a longer one is cut, and `flaw` says so.

        Raises:
            NotSent: If it failed before anything was sent.
            NoReply: If it failed between that and the answer's status.
        """
        started = self._clock.seconds()
        headers = headers.copy()
        headers.setRawHeaders(b"User-Agent", [b"chatgpt-source/" + __version__.encode("ascii")])
        producer = _Body(body)
        peer = (url.host, url.port)
        call = maybeDeferred(
            (self._once if peer in self._closing else self._http).request,
            "POST",
            url,
            headers=headers,
            data=producer,
            allow_redirects=False,
            unbuffered=True,
            reactor=self._clock,  # type: ignore[arg-type] # it only tells the time
        )
        try:
            response = await _cancellable(limited(call, timeout, self._clock))
        except CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it was, the call failed
            raise (NoReply if producer.started else NotSent)(_describe(error)) from None
        if response.version[1:] == (1, 0):
            self._closing.add(peer)  # RFC 9112, section 9.3: it closes, and Twisted would not know
        left = max(0.001, timeout - (self._clock.seconds() - started))
        content, flaw = await _read(response, most, left, self._clock)
        return Reply(response.code, response.headers, content, flaw)


def make_client(reactor: Any, connections: int) -> tuple[Client, HTTPConnectionPool]:
    """The client of a process, and the pool that is to be closed at its end.

    Args:
        reactor: Which connects.
        connections: How many idle connections to one peer may be kept.
    """
    endpoints = Endpoints(reactor, HostnameCachingHTTPSPolicy(BrowserLikePolicyForHTTPS()))
    pool = LivePool(reactor)
    pool.maxPersistentPerHost = connections
    pool.cachedConnectionTimeout = KEEP_IDLE  # type: ignore[assignment] # any number will do
    once = HTTPConnectionPool(reactor, persistent=False)
    for each in (pool, once):
        each._factory.noisy = False  # noqa: SLF001 - else each connection is logged
    no_cookies = IndexableCookieJar(policy=DefaultCookiePolicy(allowed_domains=[]))
    clients = [
        HTTPClient(Agent.usingEndpointFactory(reactor, endpoints, each), no_cookies)
        for each in (pool, once)
    ]
    return Client(reactor, *clients), pool


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
        self._end(None if whole else f"was cut short ({_describe(reason.value)})")

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


_WORDS: dict[type[BaseException], str] = {
    TimeoutError: "no answer in time",
    net.TimeoutError: "no connection in time",
    net.TCPTimedOutError: "no connection in time",
    net.ConnectionRefusedError: "connection refused",
    net.DNSLookupError: "its name can't be resolved",
    net.NoRouteError: "no route to it",
    net.ConnectionDone: "the connection was closed",
    net.ConnectionLost: "the connection was lost",
    ParseError: "its answer is not valid HTTP",
    ValueError: "its answer is not valid HTTP",
    KeyError: "its answer is not valid HTTP",
    TooLongHead: "its answer's head is too long",
}


def _causes(error: BaseException | None) -> list[BaseException]:
    """An exception, then what Twisted's wrappers say caused it."""
    if error is None:
        return []
    reasons = getattr(error, "reasons", None) or []
    return [error, *(cause for reason in reasons for cause in _causes(reason.value))]


def _describe(error: BaseException | None) -> str:
    """An exception in words that hold nothing of the call's content."""
    causes = _causes(error)
    if any(isinstance(cause, VerificationError) for cause in causes):
        return "its TLS certificate is for another name"
    if any(isinstance(cause, SSL.Error) for cause in causes):
        untrusted = any("certificate verify failed" in repr(cause) for cause in causes)
        return "its TLS certificate is not trusted" if untrusted else "TLS can't be agreed upon"
    for cause in reversed(causes):
        for kind in type(cause).__mro__:
            if kind in _WORDS:
                return _WORDS[kind]
    return type(causes[-1]).__name__ if causes else "unknown"
