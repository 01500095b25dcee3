"""Which way a request goes, by real proxies' and peers' eyes."""

from twisted.internet import reactor

from chatgpt_source.http.client import FixedURL, NoReply, NotSent
from chatgpt_source.http.client.proxy import Proxies, Proxy
from chatgpt_source.http.client.response import MOST_HEAD
from tests.certificates import issue
from tests.fakes.proxy import FakeProxy
from tests.http.client.test_client import OK, ClientCase, Peer

HOST = "target.example"
REFUSED = b"HTTP/1.1 407 Auth\r\nContent-Length: 4\r\n\r\nMARK"


class AbsoluteFormTests(ClientCase):
    """A proxy that passes requests on looks like a peer that is asked for others' pages."""

    def through(self, proxy: Peer, authorization: bytes | None = None, no_proxy: str = "") -> None:
        at = Proxy("127.0.0.1", self.serve(proxy).port, authorization, "HTTP_PROXY")
        exempt = Proxies.from_environ({"NO_PROXY": no_proxy}).exempt
        self.remake(proxies=Proxies(http=at, exempt=exempt))

    async def test_request(self) -> None:
        proxy = Peer()
        self.through(proxy)
        for url, target, host in (
            (f"http://{HOST}/a%20b?c=%2F", f"http://{HOST}/a%20b?c=%2F", HOST),
            (f"http://{HOST}:81", f"http://{HOST}:81/", f"{HOST}:81"),
            (f"http://{HOST}?q=/", f"http://{HOST}/?q=/", HOST),
            ("http://[::1]:81/a", "http://[::1]:81/a", "[::1]:81"),
        ):
            reply = await self.post(FixedURL.from_text(url))
            self.assertEqual((reply.status, reply.body), (200, b"ok"))
            head, body = proxy.requests[-1]
            lines = head.lower().split(b"\r\n")
            self.assertEqual(head.split()[1], target.encode())
            self.assertIn(b"host: " + host.encode(), lines)
            self.assertIn(b"authorization: tokenmark", lines)
            self.assertNotIn(b"proxy-", head.lower())
            self.assertEqual(body, b"PROMPTMARK")

    async def test_get(self) -> None:
        proxy = Peer()
        self.through(proxy)
        self.assertEqual((await self.get(FixedURL.from_text(f"http://{HOST}/"))).status, 200)
        self.assertIn(b"GET http://target.example/ HTTP/1.1", proxy.requests[0][0])

    async def test_credentials(self) -> None:
        proxy, peer = Peer(), Peer()
        self.through(proxy, b"Basic eA==", no_proxy="127.0.0.1")
        await self.post(FixedURL.from_text(f"http://{HOST}/"))
        self.assertIn(b"\r\nProxy-Authorization: Basic eA==", proxy.requests[0][0])
        await self.post(self.serve(peer))
        self.assertNotIn(b"proxy-", peer.requests[0][0].lower())
        self.assertEqual(len(proxy.requests), 1)

    async def test_each_peer_has_connections_of_its_own(self) -> None:
        """Some proxies send all that comes on one to the peer that the first request was for."""
        proxy = Peer()
        self.through(proxy)
        for host in ("a.example", "b.example", "a.example", "b.example", "a.example:81"):
            await self.post(FixedURL.from_text(f"http://{host}/"))
        self.assertEqual((len(proxy.requests), len(proxy.connections)), (5, 3))

    async def test_with_credentials_each_request_has(self) -> None:
        """Some proxies pass on what comes after the first request as it is."""
        proxy = Peer()
        self.through(proxy, b"Basic eA==")
        for _ in range(3):
            await self.post(FixedURL.from_text(f"http://{HOST}/"))
        self.assertEqual((len(proxy.requests), len(proxy.connections)), (3, 3))
        self.assertIn(b"connection: close", proxy.requests[0][0].lower())

    async def test_not_mixed_up_with_what_is_reached_directly(self) -> None:
        """A peer that is the proxy, too, has a connection of its own."""
        proxy = Peer()
        self.through(proxy, no_proxy="127.0.0.1")
        port = self.ports[-1].getHost().port
        for url in (f"http://{HOST}/", f"http://127.0.0.1:{port}/", f"http://{HOST}/"):
            await self.post(FixedURL.from_text(url))
        self.assertEqual((len(proxy.requests), len(proxy.connections)), (3, 2))

    async def test_an_http_1_0_proxy_closes(self) -> None:
        proxy = Peer(OK.replace(b"HTTP/1.1", b"HTTP/1.0"))
        self.through(proxy)
        for _ in range(3):
            self.assertEqual((await self.post(FixedURL.from_text(f"http://{HOST}/"))).status, 200)
        self.assertEqual(len(proxy.connections), 3)

    async def test_credentials_are_asked_for(self) -> None:
        proxy = Peer(REFUSED)
        self.through(proxy)
        for _ in range(2):
            words = await self.error(NotSent, self.post(FixedURL.from_text(f"http://{HOST}/")))
            self.assertEqual(words, "the proxy asks for credentials (407): check HTTP_PROXY")
        self.assertEqual(len(proxy.connections), 1)

    async def test_a_407_of_an_exempt_peer_is_its_answer(self) -> None:
        self.through(Peer(), no_proxy="127.0.0.1")
        self.assertEqual((await self.post(self.serve(Peer(REFUSED)))).status, 407)

    async def test_other_answers_are_the_peers(self) -> None:
        self.through(Peer(OK.replace(b"200", b"502")))
        self.assertEqual((await self.post(FixedURL.from_text(f"http://{HOST}/"))).status, 502)

    async def test_faults(self) -> None:
        for proxy, words in (
            (Peer(None, close=True), "the connection was closed"),
            (
                Peer(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * MOST_HEAD),
                "its answer's head is too long",
            ),
        ):
            self.through(proxy)
            url = FixedURL.from_text(f"http://{HOST}/")
            self.assertEqual(await self.error(NoReply, self.post(url)), words)

    async def test_https_does_not_go_through_it(self) -> None:
        proxy = Peer()
        self.through(proxy)
        await self.error(NotSent, self.post(self.serve(Peer(), tls=True)))
        self.assertEqual(proxy.connections, [])


class BothTests(ClientCase):
    async def test_one_proxy_for_both(self) -> None:
        proxy = FakeProxy(reactor, REFUSED)
        environ = {"ALL_PROXY": f"127.0.0.1:{self.serve(proxy).port}"}
        self.remake(proxies=Proxies.from_environ(environ))
        for scheme in ("http", "https"):
            words = await self.error(NotSent, self.get(FixedURL.from_text(f"{scheme}://{HOST}/")))
            self.assertEqual(words, "the proxy asks for credentials (407): check ALL_PROXY")
        self.assertEqual([head.split()[0] for head in proxy.heads], [b"GET", b"CONNECT"])

    async def test_a_407_through_a_tunnel_is_the_peers_answer(self) -> None:
        shown = issue("127.0.0.1")
        environ = {"ALL_PROXY": f"127.0.0.1:{self.serve(FakeProxy(reactor)).port}"}
        self.remake(proxies=Proxies.from_environ(environ), authorities=[shown.pem])
        url = self.serve(Peer(REFUSED), options=shown.options())
        self.assertEqual((await self.post(url)).status, 407)
