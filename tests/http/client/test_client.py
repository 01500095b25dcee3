"""The HTTP client, against real peers on loopback that behave in every way peers do."""

from collections.abc import Callable
from functools import cache
from typing import Any

from hyperlink import EncodedURL
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.error import DNSLookupError
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import CertificateOptions
from twisted.internet.task import Clock, LoopingCall
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.http_headers import Headers

from chatgpt_source import __version__
from chatgpt_source.http.client import Client, NoReply, NotSent, Reply, make_client
from chatgpt_source.http.client.pool import KEEP_IDLE, Pool
from tests.certificates import Issued, issue

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Connection(Protocol):
    """Collects what comes, and hands it over at the end of each request."""

    def __init__(self, peer: "Peer") -> None:
        self.peer = peer
        self.data = b""
        self.gone: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        self.peer.connections.append(self)
        self.peer.on_connect(self)

    def dataReceived(self, data: bytes) -> None:
        self.data += data
        head, end, body = self.data.partition(b"\r\n\r\n")
        if end and len(body) >= _length(head):
            self.data = b""
            self.peer.requests.append((head, body))
            self.peer.on_request(self)

    def connectionLost(self, reason: Failure = ...) -> None:  # type: ignore[assignment]
        self.reason = reason
        self.gone.callback(None)


def _length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.split(b":")[1])
    return 0


class Peer(Factory):
    """A server that answers with fixed bytes, or as told."""

    noisy = False

    def __init__(self, answer: bytes | None = OK, *, close: bool = False) -> None:
        self.connections: list[Connection] = []
        self.requests: list[tuple[bytes, bytes]] = []
        self.on_connect: Callable[[Connection], Any] = lambda _: None
        self.requested: Deferred[Connection] = Deferred()

        def on_request(connection: Connection) -> None:
            if answer is not None:
                connection.transport.write(answer)
            if close:
                connection.transport.loseConnection()
            if not self.requested.called:
                self.requested.callback(connection)

        self.on_request: Callable[[Connection], Any] = on_request

    def buildProtocol(self, _: object) -> Connection:
        return Connection(self)


@cache
def certificate() -> Issued:
    """A certificate of 127.0.0.1 that nobody trusts."""
    return issue("127.0.0.1")


class FailingResolver:
    """Knows no name at all."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def resolveHostName(self, receiver: Any, name: str, *_: Any, **__: Any) -> Any:
        self.asked.append(name)
        receiver.resolutionBegan(self)
        receiver.resolutionComplete()
        return receiver


class ClientCase(TestCase):
    timeout = 60

    def setUp(self) -> None:
        self.pools: list[Pool] = []
        self.remake()
        self.ports: list[IListeningPort] = []
        self.peers: list[Any] = []

    async def tearDown(self) -> None:
        await _a_moment()  # a reply may be told of before its connection is given back
        for pool in self.pools:
            await pool.close()
        for port in self.ports:
            await port.stopListening()
        for peer in self.peers:
            for connection in peer.connections:
                if connection.transport.connected:
                    connection.transport.abortConnection()
                await connection.gone

    def remake(self, **options: Any) -> None:
        """Have another client."""
        self.client, self.pool = make_client(reactor, 4, **options)  # type: ignore[arg-type]
        self.pools.append(self.pool)

    def idle(self) -> list[Any]:
        """The idle connections of the client, the one used last at the end."""
        return [connection for kept in self.pool._idle.values() for _, connection in kept]

    def serve(
        self,
        peer: Any,
        path: str = "/x",
        *,
        tls: bool = False,
        host: str = "127.0.0.1",
        options: CertificateOptions | None = None,
    ) -> EncodedURL:
        """Listen, and say where; a `host` other than this machine's leads here by a proxy only."""
        if tls or options:
            options = options or certificate().options()
            port = reactor.listenSSL(0, peer, options, interface="127.0.0.1")
        else:
            port = reactor.listenTCP(0, peer, interface="127.0.0.1")
        self.ports.append(port)
        self.peers.append(peer)
        scheme = "https" if tls or options else "http"
        return EncodedURL.from_text(f"{scheme}://{host}:{port.getHost().port}{path}")

    def post(
        self,
        url: EncodedURL,
        body: bytes = b"PROMPTMARK",
        timeout: float = 10.0,
        most: int = 1000,
        *,
        fresh: bool = False,
    ) -> Deferred[Reply]:
        headers = Headers({b"Content-Type": [b"text/plain"], b"Authorization": [b"TOKENMARK"]})
        return Deferred.fromCoroutine(
            self.client.post(url, headers, body, timeout=timeout, most=most, fresh=fresh)
        )

    def get(self, url: EncodedURL, timeout: float = 10.0) -> Deferred[Reply]:
        headers = Headers({b"Authorization": [b"TOKENMARK"]})
        return Deferred.fromCoroutine(self.client.get(url, headers, timeout=timeout, most=1000))

    async def error(self, kind: type[Exception], done: Deferred[Reply]) -> str:
        error = await self.assertFailure(done, kind)
        self.assertIsNone(error.__cause__)
        self.assertTrue(error.__suppress_context__)
        for mark in ("MARK", "127.0.0.1"):
            self.assertNotIn(mark, str(error))
        return str(error)


class WholeTests(ClientCase):
    async def test_status_headers_body(self) -> None:
        peer = Peer(
            b"HTTP/1.1 418 Teapot\r\nContent-Length: 4\r\nRetry-After: 7\r\nX-A: 1\r\nX-A: 2\r\n"
            b"X-Odd: caf\xe9\r\n\r\nabcd"
        )
        reply = await self.post(self.serve(peer))
        self.assertEqual((reply.status, reply.body, reply.flaw), (418, b"abcd", None))
        self.assertEqual(reply.header("retry-after"), "7")
        self.assertEqual(reply.header("x-a"), "1")
        self.assertEqual(reply.header("x-odd"), "caf")
        self.assertIsNone(reply.header("x-none"))

    async def test_request(self) -> None:
        peer = Peer()
        await self.post(self.serve(peer, "/a%20b?c=%2F"), b"\x00\xff body")
        ((head, body),) = peer.requests
        lines = head.split(b"\r\n")
        self.assertEqual(lines[0], b"POST /a%20b?c=%2F HTTP/1.1")
        self.assertEqual(body, b"\x00\xff body")
        named = {name.lower(): value for name, _, value in (x.partition(b": ") for x in lines[1:])}
        self.assertEqual(named[b"content-type"], b"text/plain")
        self.assertEqual(named[b"content-length"], b"7")
        self.assertEqual(named[b"authorization"], b"TOKENMARK")
        self.assertEqual(named[b"user-agent"], b"chatgpt-source/" + __version__.encode())
        self.assertNotIn(b"cookie", named)
        self.assertNotIn(b"transfer-encoding", named)

    async def test_user_agent_may_be_given(self) -> None:
        peer = Peer()
        url = self.serve(peer)
        await self.client.post(url, Headers({"User-Agent": ["mine"]}), b"", timeout=5, most=9)
        head = peer.requests[0][0].lower() + b"\r\n"
        self.assertIn(b"\r\nuser-agent: mine\r\n", head)
        self.assertEqual(head.count(b"user-agent"), 1)

    async def test_headers_given_are_not_changed(self) -> None:
        headers = Headers({b"A": [b"b"]})
        await self.client.post(self.serve(Peer()), headers, b"x", timeout=10, most=10)
        self.assertEqual(list(headers.getAllRawHeaders()), [(b"A", [b"b"])])

    async def test_empty_body(self) -> None:
        for answer in (
            b"HTTP/1.1 204 No Content\r\n\r\n",
            b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n",
        ):
            reply = await self.post(self.serve(Peer(answer)))
            self.assertEqual((reply.body, reply.flaw), (b"", None))

    async def test_chunked(self) -> None:
        answer = (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"
        )
        reply = await self.post(self.serve(Peer(answer)))
        self.assertEqual((reply.body, reply.flaw), (b"abc", None))

    async def test_ended_by_closing(self) -> None:
        reply = await self.post(self.serve(Peer(b"HTTP/1.1 200 OK\r\n\r\nabc", close=True)))
        self.assertEqual((reply.body, reply.flaw), (b"abc", None))

    async def test_interim_answers(self) -> None:
        reply = await self.post(self.serve(Peer(b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK)))
        self.assertEqual((reply.status, reply.body), (200, b"ok"))

    async def test_redirect_is_not_followed(self) -> None:
        other = Peer()
        to = self.serve(other).to_text().encode()
        for status in (301, 302, 303, 307, 308):
            answer = b"HTTP/1.1 %d X\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n" % (status, to)
            reply = await self.post(self.serve(Peer(answer)))
            self.assertEqual(reply.status, status)
        self.assertEqual(other.connections, [])

    async def test_cookies_are_not_kept(self) -> None:
        peer = Peer(
            b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b; Path=/\r\nSet-Cookie: c=d\r\n"
            b"Content-Length: 0\r\n\r\n"
        )
        url = self.serve(peer)
        for _ in range(2):
            await self.post(url)
        for head, _ in peer.requests:
            self.assertNotIn(b"cookie", head.lower())

    async def test_reply_does_not_show_what_it_holds(self) -> None:
        reply = await self.post(self.serve(Peer(OK.replace(b"ok", b"zz"))))
        self.assertNotIn("zz", repr(reply))
        self.assertNotIn("Content", repr(reply))


class GetTests(ClientCase):
    async def test_without_a_body(self) -> None:
        peer = Peer()
        reply = await self.get(self.serve(peer, "/v1/models"))
        self.assertEqual((reply.status, reply.body, reply.flaw), (200, b"ok", None))
        ((head, body),) = peer.requests
        lines = head.lower().split(b"\r\n")
        self.assertEqual((lines[0], body), (b"get /v1/models http/1.1", b""))
        names = {line.partition(b":")[0] for line in lines[1:]}
        self.assertEqual(names, {b"host", b"authorization", b"user-agent", b"accept-encoding"})

    async def test_a_delete_is_sent_so_too(self) -> None:
        peer = Peer()
        url = self.serve(peer, "/v1/responses/x")
        headers = Headers({b"Authorization": [b"TOKENMARK"]})
        reply = await self.client.delete(url, headers, timeout=10.0, most=1000)
        self.assertEqual((reply.status, reply.body), (200, b"ok"))
        ((head, body),) = peer.requests
        self.assertTrue(head.startswith(b"DELETE /v1/responses/x HTTP/1.1"))
        self.assertNotIn(b"content-length", head.lower())
        self.assertEqual(body, b"")

    async def test_not_sent(self) -> None:
        port = reactor.listenTCP(0, Peer(), interface="127.0.0.1")
        number = port.getHost().port
        await port.stopListening()
        url = EncodedURL.from_text(f"http://127.0.0.1:{number}/")
        self.assertEqual(await self.error(NotSent, self.get(url)), "connection refused")
        await self.error(NotSent, self.get(self.serve(Peer(), tls=True)))

    async def test_no_reply(self) -> None:
        url = self.serve(Peer(None, close=True))
        self.assertEqual(await self.error(NoReply, self.get(url)), "the connection was closed")
        url = self.serve(Peer(b"SSH-2.0\r\n", close=True))
        self.assertEqual(await self.error(NoReply, self.get(url)), "its answer is not valid HTTP")
        url = self.serve(Peer(None))
        self.assertEqual(await self.error(NoReply, self.get(url, 0.2)), "no answer in time")

    async def test_is_sent_again_where_a_kept_connection_was_closed(self) -> None:
        peer = Peer()
        url = self.serve(peer)
        await self.get(url)
        answer = peer.on_request

        def once(connection: Connection) -> None:
            peer.on_request = answer
            connection.transport.abortConnection()

        peer.on_request = once
        self.assertEqual((await self.get(url)).status, 200)
        self.assertEqual(len(peer.requests), 3)


class ConnectionTests(ClientCase):
    async def test_connection_is_used_again(self) -> None:
        peer = Peer()
        url = self.serve(peer)
        for _ in range(3):
            await self.post(url)
        self.assertEqual((len(peer.requests), len(peer.connections)), (3, 1))

    async def test_as_many_idle_ones_as_told(self) -> None:
        peer = Peer(None)
        url = self.serve(peer)
        done = [self.post(url) for _ in range(4)]
        while len(peer.requests) < 4:
            await _a_moment()
        for connection in peer.connections:
            connection.transport.write(OK)
        for reply in done:
            await reply
        peer.on_request = lambda connection: connection.transport.write(OK)
        for reply in [self.post(url) for _ in range(4)]:
            await reply
        self.assertEqual(len(peer.connections), 4)

    async def test_connection_that_the_peer_closed(self) -> None:
        peer = Peer()
        url = self.serve(peer)
        await self.post(url)
        peer.connections[0].transport.loseConnection()
        await peer.connections[0].gone
        self.assertEqual((await self.post(url)).status, 200)
        self.assertEqual(len(peer.connections), 2)

    def test_idle_for_less_than_peers_keep_theirs(self) -> None:
        self.assertLess(KEEP_IDLE, 5.0)


def _a_moment() -> Deferred[None]:
    """Let the reactor go round."""
    moment: Deferred[None] = Deferred()
    reactor.callLater(0, moment.callback, None)
    return moment


class CapTests(ClientCase):
    async def capped(self, first: bytes, *more: bytes, most: int) -> Reply:
        """What comes of a body that goes on and never ends; the peer must see the close."""
        peer = Peer(b"HTTP/1.1 200 OK\r\nContent-Length: 999999\r\n\r\n" + first)
        done = self.post(self.serve(peer), most=most)
        connection = await peer.requested
        for piece in more:
            for _ in range(5):
                await _a_moment()
            connection.transport.write(piece)
        reply = await done
        await connection.gone
        return reply

    async def test_longer_than_it_may_be(self) -> None:
        reply = await self.capped(b"a" * 11, most=10)
        self.assertEqual(reply.body, b"a" * 10)
        self.assertEqual(reply.flaw, "was longer than it may be")

    async def test_in_pieces(self) -> None:
        reply = await self.capped(b"a" * 6, b"b" * 6, most=10)
        self.assertEqual(reply.body, b"a" * 6 + b"b" * 4)
        self.assertEqual(reply.flaw, "was longer than it may be")

    async def test_piece_that_ends_just_at_the_cap(self) -> None:
        reply = await self.capped(b"a" * 10, b"b", most=10)
        self.assertEqual(reply.body, b"a" * 10)
        self.assertEqual(reply.flaw, "was longer than it may be")

    async def test_whole_body_that_is_just_too_long(self) -> None:
        peer = Peer(b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n" + b"a" * 11)
        reply = await self.post(self.serve(peer), most=10)
        self.assertEqual((reply.body, bool(reply.flaw)), (b"a" * 10, True))

    async def test_just_as_long_as_it_may_be(self) -> None:
        peer = Peer(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n" + b"a" * 10)
        reply = await self.post(self.serve(peer), most=10)
        self.assertEqual((reply.body, reply.flaw), (b"a" * 10, None))


class FaultTests(ClientCase):
    async def test_refused(self) -> None:
        port = reactor.listenTCP(0, Peer(), interface="127.0.0.1")
        number = port.getHost().port
        await port.stopListening()
        url = EncodedURL.from_text(f"http://127.0.0.1:{number}/")
        self.assertEqual(await self.error(NotSent, self.post(url)), "connection refused")

    async def test_no_such_name(self) -> None:
        resolver = FailingResolver()
        self.remake(resolver=resolver)
        url = EncodedURL.from_text("http://model.invalid/")
        words = await self.error(NotSent, self.post(url))
        self.assertEqual(words, "its name can't be resolved")
        self.assertEqual(resolver.asked, ["model.invalid"])

    async def test_host_that_is_none(self) -> None:
        for host in ("a..b", "x" * 64 + ".invalid"):
            await self.error(NotSent, self.post(EncodedURL.from_text(f"http://{host}/")))

    async def test_reset_after_the_request(self) -> None:
        peer = Peer(None)
        peer.on_request = lambda connection: connection.transport.abortConnection()
        words = await self.error(NoReply, self.post(self.serve(peer)))
        self.assertEqual(words, "the connection was lost")

    async def test_closed_after_the_request(self) -> None:
        words = await self.error(NoReply, self.post(self.serve(Peer(None, close=True))))
        self.assertEqual(words, "the connection was closed")

    async def test_no_http(self) -> None:
        for answer in (
            b"SSH-2.0-MODELMARK\r\n",
            b"HTTP/1.1 MARK MARK\r\n\r\n",
            b"\x16\x03\x01\r\n",
        ):
            await self.error(NoReply, self.post(self.serve(Peer(answer, close=True))))

    async def test_cut_within_the_headers(self) -> None:
        await self.error(
            NoReply, self.post(self.serve(Peer(b"HTTP/1.1 200 OK\r\nA: ", close=True)))
        )

    async def test_cut_within_the_body(self) -> None:
        for answer in (
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n5\r\n",
        ):
            reply = await self.post(self.serve(Peer(answer, close=True)))
            self.assertEqual((reply.status, reply.body), (200, b"abc"))
            self.assertRegex(str(reply.flaw), r"^was cut short \(.+\)$")

    async def test_chunks_that_are_none(self) -> None:
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        for chunks in (b"MARK\r\n", b"-5\r\nMARKS\r\n0\r\n\r\n"):
            reply = await self.post(self.serve(Peer(head + chunks)))
            self.assertEqual(reply.flaw, "was cut short (its answer is not valid HTTP)")

    async def test_no_answer_in_time(self) -> None:
        peer = Peer(None)
        words = await self.error(NoReply, self.post(self.serve(peer), timeout=1.0))
        self.assertEqual(words, "no answer in time")
        await peer.connections[0].gone

    async def test_body_that_does_not_end_in_time(self) -> None:
        for head in (b"Content-Length: 9", b"Transfer-Encoding: chunked", b"X: y"):
            peer = Peer(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n3\r\nabc")
            reply = await self.post(self.serve(peer), timeout=1.0)
            self.assertEqual(reply.status, 200)
            self.assertEqual(reply.flaw, "did not end in time")
            await peer.connections[0].gone

    async def test_one_timeout_for_all_of_it(self) -> None:
        """Headers late, and a body that trickles: the end comes when it was to come."""
        peer = Peer(None)
        answered, timeout = 0.0, 3.0
        done = self.post(self.serve(peer), timeout=timeout)
        connection = await peer.requested

        trickle = LoopingCall(lambda: connection.transport.write(b"a"))

        def answer() -> None:
            nonlocal answered
            answered = reactor.seconds()
            connection.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n")
            trickle.start(0.02)

        reactor.callLater(timeout / 2, answer)
        reply = await done
        self.assertEqual(reply.flaw, "did not end in time")
        self.assertLess(reactor.seconds() - answered, timeout)
        trickle.stop()
        await connection.gone

    async def test_cancel_aborts(self) -> None:
        for answer in (None, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"):
            peer = Peer(answer)
            done = self.post(self.serve(peer))
            connection = await peer.requested
            for _ in range(5):
                await _a_moment()
            done.cancel()
            await self.assertFailure(done, CancelledError)
            await connection.gone

    async def test_cancel_while_connecting(self) -> None:
        done = self.post(self.serve(Peer()))
        done.cancel()
        await self.assertFailure(done, CancelledError)
        await _a_moment()

    async def test_large_body_is_sent(self) -> None:
        peer = Peer()
        body = bytes(3 * 10**6)
        self.assertEqual((await self.post(self.serve(peer), body)).status, 200)
        self.assertEqual(len(peer.requests[0][1]), len(body))


class TLSTests(ClientCase):
    async def test_certificate_that_is_not_trusted(self) -> None:
        peer = Peer()
        words = await self.error(NotSent, self.post(self.serve(peer, tls=True)))
        self.assertEqual(words, "its TLS certificate is not trusted")
        self.assertEqual(peer.requests, [])

    async def test_peer_that_speaks_no_tls(self) -> None:
        """Of a request that was never encrypted, nothing was sent."""
        peer = Peer(None)
        peer.on_connect = lambda connection: connection.transport.write(
            b"HTTP/1.1 400 Bad Request\r\n\r\n"
        )
        url = self.serve(peer).replace(scheme="https")
        await self.error(NotSent, self.post(url))
        self.assertEqual(peer.requests, [])

    async def test_peer_that_closes_in_the_handshake(self) -> None:
        peer = Peer(None)
        peer.on_connect = lambda connection: connection.transport.loseConnection()
        await self.error(NotSent, self.post(self.serve(peer).replace(scheme="https")))

    async def test_peer_that_is_silent_in_the_handshake(self) -> None:
        peer = Peer(None)
        url = self.serve(peer).replace(scheme="https")
        await self.error(NotSent, self.post(url, timeout=1.0))
        await peer.connections[0].gone


class UnforeseenTests(SynchronousTestCase):
    """What no peer can be brought to do."""

    def post(self, outcome: Callable[[], Deferred[Any]]) -> Deferred[Reply]:
        class HTTP:
            def request(self, *_: object, **__: object) -> Deferred[Any]:
                return outcome()

        client = Client(Clock(), HTTP())  # type: ignore[arg-type]
        url = EncodedURL.from_text("http://h/")
        return Deferred.fromCoroutine(
            client.post(url, Headers(), b"PROMPTMARK", timeout=5, most=10)
        )

    def test_failure_of_an_unknown_kind(self) -> None:
        error = self.failureResultOf(
            self.post(lambda: fail(ZeroDivisionError("PROMPTMARK"))), NotSent
        ).value
        self.assertEqual(str(error), "ZeroDivisionError")

    def test_name_that_is_not_found(self) -> None:
        error = self.failureResultOf(
            self.post(lambda: fail(DNSLookupError("PROMPTMARK"))), NotSent
        ).value
        self.assertEqual(str(error), "its name can't be resolved")

    def test_timeout_by_the_clock_it_was_given(self) -> None:
        clock = Clock()
        asked: list[Deferred[Any]] = []

        class HTTP:
            def request(self, *_: object, **__: object) -> Deferred[Any]:
                asked.append(Deferred())
                return asked[0]

        client = Client(clock, HTTP())  # type: ignore[arg-type]
        url = EncodedURL.from_text("http://h/")
        done = Deferred.fromCoroutine(client.post(url, Headers(), b"x", timeout=5, most=10))
        clock.advance(4.9)
        self.assertNoResult(done)
        clock.advance(0.2)
        self.assertEqual(str(self.failureResultOf(done, NotSent).value), "no answer in time")
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_pool_is_the_one_returned(self) -> None:
        client, pool = make_client(Clock(), 7)
        self.assertIsInstance(pool, Pool)
        self.assertIsInstance(client, Client)
        self.assertEqual(pool.most, 7)
