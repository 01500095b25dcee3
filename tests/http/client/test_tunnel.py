"""The way through a proxy, to real peers with real TLS, on loopback."""

from base64 import b64encode
from typing import Any

from hyperlink import EncodedURL
from twisted.internet import reactor
from twisted.internet.defer import CancelledError
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.http.client import FixedURL, NoReply, NotSent
from chatgpt_source.http.client.proxy import Proxies, Proxy
from chatgpt_source.http.client.response import MOST_HEAD
from chatgpt_source.http.client.tunnel import MOST_ANSWER, ProxyFailed, Tunnel
from tests.certificates import Issued, issue
from tests.fakes.proxy import ESTABLISHED, FakeProxy
from tests.http.client.test_client import OK, ClientCase, Peer, _a_moment

HOST = "model.example"


class TunnelCase(ClientCase):
    def setUp(self) -> None:
        super().setUp()
        self.authority = issue(None)

    def through(self, proxy: FakeProxy, authorization: bytes | None = None) -> None:
        """Have a client that goes through a proxy."""
        port = self.serve(proxy).port
        self.remake(
            proxies=Proxies(https=Proxy("127.0.0.1", port, authorization, "https_proxy")),
            authorities=[self.authority.pem],
        )

    def peer(self, peer: Peer, host: str = HOST, shown: Issued | None = None) -> EncodedURL:
        shown = shown or issue(host, self.authority)
        return self.serve(peer, host=host, options=shown.options())

    async def refusal(self, *answer: Any, **options: Any) -> str:
        """What is said when the proxy answers so; nothing may reach the peer."""
        proxy, peer = FakeProxy(reactor, *answer, **options), Peer()
        self.through(proxy)
        url = self.peer(peer)
        words = await self.error(NotSent, self.post(url))
        self.assertEqual(peer.requests, [])
        await proxy.connections[0].gone
        return words


class WholeTests(TunnelCase):
    async def test_request_and_answer(self) -> None:
        proxy, peer = FakeProxy(reactor), Peer()
        self.through(proxy)
        url = self.peer(peer)
        reply = await self.post(url)
        self.assertEqual((reply.status, reply.body, reply.flaw), (200, b"ok", None))
        ((head, body),) = peer.requests
        self.assertEqual(head.split(b"\r\n")[0], b"POST /x HTTP/1.1")
        self.assertEqual(body, b"PROMPTMARK")
        authority = f"{HOST}:{url.port}".encode()
        self.assertEqual(proxy.heads, [b"CONNECT %b HTTP/1.1\r\nHost: %b" % (authority, authority)])
        # The name that TLS is agreed upon for is the peer's.
        tls = peer.connections[0].transport.getHandle()
        self.assertEqual(tls.get_servername(), HOST.encode())

    async def test_credentials_go_to_the_proxy_alone(self) -> None:
        proxy, peer = FakeProxy(reactor), Peer()
        self.through(proxy, b"Basic " + b64encode(b"user:pw"))
        await self.post(self.peer(peer))
        self.assertIn(b"\r\nProxy-Authorization: Basic dXNlcjpwdw==", proxy.heads[0])
        self.assertNotIn(b"MARK", proxy.heads[0])
        self.assertNotIn(b"proxy-authorization", peer.requests[0][0].lower())

    async def test_an_address_in_brackets(self) -> None:
        proxy = FakeProxy(reactor, b"HTTP/1.1 502 Bad Gateway\r\n\r\n")
        self.through(proxy)
        await self.error(NotSent, self.post(FixedURL.from_text("https://[::1]:7/")))
        self.assertIn(b"CONNECT [::1]:7 HTTP/1.1\r\nHost: [::1]:7", proxy.heads)

    async def test_other_answers_that_are_well(self) -> None:
        for answer in (
            b"HTTP/1.0 200 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\nVia: x\n\n",
            b"HTTP/1.1 200\r\n\r\n",
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
        ):
            proxy, peer = FakeProxy(reactor, answer), Peer()
            self.through(proxy)
            self.assertEqual((await self.post(self.peer(peer))).status, 200, answer)

    async def test_exempt_hosts_are_reached_directly(self) -> None:
        proxy, peer = FakeProxy(reactor), Peer()
        self.serve(proxy)
        environ = {"HTTPS_PROXY": f"127.0.0.1:{self.ports[-1].getHost().port}"}
        for exempt, connections in (("127.0.0.0/8", 0), ("", 1)):
            proxies = Proxies.from_environ({**environ, "NO_PROXY": exempt})
            self.remake(proxies=proxies, authorities=[self.authority.pem])
            self.assertEqual((await self.post(self.peer(peer, "127.0.0.1"))).status, 200)
            self.assertEqual(len(proxy.connections), connections)

    async def test_http_does_not_go_through_it(self) -> None:
        proxy = FakeProxy(reactor)
        self.through(proxy)
        self.assertEqual((await self.post(self.serve(Peer()))).status, 200)
        self.assertEqual(proxy.connections, [])


class ReuseTests(TunnelCase):
    async def test_a_tunnel_is_used_again(self) -> None:
        proxy, peer, other = FakeProxy(reactor), Peer(), Peer()
        self.through(proxy)
        url, elsewhere = self.peer(peer), self.peer(other)
        for _ in range(3):
            await self.post(url)
            await self.post(elsewhere)
        self.assertEqual([len(each.requests) for each in (peer, other)], [3, 3])
        self.assertEqual([len(each.connections) for each in (peer, other)], [1, 1])
        self.assertEqual(len(proxy.heads), 2)

    async def test_not_when_its_end_lies_unread(self) -> None:
        proxy, peer = FakeProxy(reactor), Peer()
        self.through(proxy)
        url = self.peer(peer)
        await self.post(url)
        (idle,) = self.idle()
        idle.transport.transport.stopReading()  # as if the reactor had not come round to it
        proxy.connections[0].transport.abortConnection()
        await proxy.connections[0].gone
        self.assertEqual((await self.post(url)).status, 200)
        self.assertEqual(len(proxy.heads), 2)

    async def test_the_peers_head_is_bounded(self) -> None:
        self.through(FakeProxy(reactor))
        flood = Peer(b"HTTP/1.1 200 OK\r\n" + b"X-Flood: x\r\n" * (MOST_HEAD // 12 + 1))
        words = await self.error(NoReply, self.post(self.peer(flood)))
        self.assertIn("head is too long", words)

    async def test_a_407_of_the_peer_is_its_answer(self) -> None:
        self.through(FakeProxy(reactor))
        peer = Peer(OK.replace(b"200", b"407"))
        self.assertEqual((await self.post(self.peer(peer))).status, 407)

    async def test_lost_after_the_request(self) -> None:
        proxy, peer = FakeProxy(reactor), Peer(None)
        self.through(proxy)
        peer.on_request = lambda _: proxy.connections[0].transport.abortConnection()
        await self.error(NoReply, self.post(self.peer(peer)))


class RefusalTests(TunnelCase):
    async def test_credentials_are_asked_for(self) -> None:
        words = await self.refusal(
            b"HTTP/1.1 407 Auth\r\nProxy-Authenticate: Basic\r\nContent-Length: 4\r\n\r\nMARK"
        )
        self.assertEqual(words, "the proxy asks for credentials (407): check https_proxy")

    async def test_another_status(self) -> None:
        for status in (302, 400, 403, 502, 503):
            words = await self.refusal(b"HTTP/1.1 %d MARK\r\n\r\nMARK" % status)
            self.assertEqual(words, f"the proxy answered {status} to CONNECT")

    async def test_no_http(self) -> None:
        for answer in (b"SSH-2.0-MARK\r\n\r\n", b"HTTP/2 MARK\r\n\r\n", b"\n\n"):
            words = await self.refusal(answer)
            self.assertEqual(words, "the proxy's answer to CONNECT is not HTTP")

    async def test_an_answer_without_end(self) -> None:
        for answer in (
            b"HTTP/1.1 403 No\r\n" + b"X: MARK\r\n" * (MOST_ANSWER // 9),
            b"HTTP/1.1 100 Continue\r\n\r\n" * (MOST_ANSWER // 25 + 1),
        ):
            words = await self.refusal(answer)
            self.assertEqual(words, "the proxy's answer to CONNECT does not end")

    async def test_closed(self) -> None:
        for answer in (b"", b"HTTP/1.1 403 No\r\n"):
            words = await self.refusal(answer, close=True)
            self.assertEqual(words, "the proxy closed the connection")

    async def test_silent(self) -> None:
        proxy = FakeProxy(reactor, None)
        self.through(proxy)
        await self.error(NotSent, self.post(self.peer(Peer()), timeout=1.0))
        await proxy.connections[0].gone

    async def test_cancelled(self) -> None:
        proxy = FakeProxy(reactor, None)
        self.through(proxy)
        done = self.post(self.peer(Peer()))
        while not proxy.heads:
            await _a_moment()
        done.cancel()
        await self.assertFailure(done, CancelledError)
        await proxy.connections[0].gone

    async def test_unreachable(self) -> None:
        port = reactor.listenTCP(0, Peer(), interface="127.0.0.1")
        proxy = Proxy("127.0.0.1", port.getHost().port)
        await port.stopListening()
        self.remake(proxies=Proxies(https=proxy, http=proxy))
        for scheme in ("http", "https"):
            words = await self.error(
                NotSent, self.post(EncodedURL.from_text(f"{scheme}://{HOST}/"))
            )
            self.assertEqual(words, "the proxy can't be reached (connection refused)")


class TLSTests(TunnelCase):
    async def failed(self, shown: Issued) -> str:
        proxy, peer = FakeProxy(reactor), Peer()
        self.through(proxy)
        words = await self.error(NotSent, self.post(self.peer(peer, shown=shown)))
        self.assertEqual(peer.requests, [])
        await proxy.connections[0].gone
        return words

    async def test_certificate_for_another_name(self) -> None:
        words = await self.failed(issue("127.0.0.1", self.authority))
        self.assertEqual(words, "its TLS certificate is for another name")

    async def test_certificate_that_is_not_trusted(self) -> None:
        words = await self.failed(issue(HOST, issue(None)))
        self.assertEqual(words, "its TLS certificate is not trusted")

    async def test_peer_that_speaks_no_tls(self) -> None:
        proxy = FakeProxy(reactor, ESTABLISHED + b"HTTP/1.1 400 No TLS\r\n\r\n")
        self.through(proxy)
        await self.error(NotSent, self.post(self.peer(Peer())))
        await proxy.connections[0].gone

    async def test_peer_that_closes_in_the_handshake(self) -> None:
        self.through(FakeProxy(reactor))
        peer = Peer(None)
        peer.on_connect = lambda connection: connection.transport.abortConnection()
        url = self.serve(peer, host=HOST).replace(scheme="https")
        await self.error(NotSent, self.post(url))


class TimeTests(SynchronousTestCase):
    def test_the_answer_is_not_waited_for_for_ever(self) -> None:
        memory = MemoryReactorClock()
        tunnel = Tunnel(memory, Proxy("127.0.0.1", 1), HOST, 443, 7)
        done = tunnel.connect(None)
        memory.advance(0)
        factory = memory.tcpClients[0][2]
        entrance = factory.buildProtocol(None)
        transport = StringTransport()
        entrance.makeConnection(transport)
        memory.advance(6.9)
        self.assertNoResult(done)
        memory.advance(0.2)
        error = self.failureResultOf(done, ProxyFailed).value
        self.assertEqual(str(error), "the proxy gave no answer to CONNECT in time")
        self.assertTrue(transport.disconnecting)
