"""Calls through a proxy that others wrote (proxy.py), in a process of its own."""

import signal
import sys
from pathlib import Path
from urllib.parse import quote

from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.error import ConnectError
from twisted.internet.protocol import Protocol

from chatgpt_source.http.client import FixedURL, NotSent
from chatgpt_source.http.client.proxy import Proxies
from tests.certificates import issue
from tests.e2e.processes import Daemon, DaemonCase, Running, free_port, together, until
from tests.http.client.test_client import ClientCase, Peer

USER, PASSWORD = "us er", "p@ss/MARK"


class RealProxy:
    """proxy.py, listening on loopback.

    Args:
        case: Its cleanups end it.
        locked: Whether it asks for USER and PASSWORD.
    """

    def __init__(self, case, *, locked=False):
        self.port = free_port()
        self.origin = f"http://127.0.0.1:{self.port}"
        self.key = f"http://{quote(USER)}:{quote(PASSWORD, safe='')}@127.0.0.1:{self.port}"
        self._case = case
        self._home = Path(case.mktemp()).absolute()
        self._options = ["--basic-auth", f"{USER}:{PASSWORD}"] if locked else []

    async def start(self):
        """Start it, and wait until it listens."""
        self._home.mkdir(parents=True)
        process = Running(bytearray())
        arguments = ["--hostname", "127.0.0.1", "--port", str(self.port), "--threaded"]
        arguments += ["--num-acceptors", "1", "--num-workers", "1", "--log-level", "ERROR"]
        reactor.spawnProcess(
            process,
            sys.executable,
            [sys.executable, "-m", "proxy", *arguments, *self._options],
            env={"HOME": str(self._home)},
            path=str(self._home),
        )
        self._case.addCleanup(self._end, process)

        async def listens():
            assert process.status is None, process.text
            try:
                endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", self.port)
                wire = await connectProtocol(endpoint, Protocol())
            except ConnectError:
                return False
            wire.transport.loseConnection()
            return True

        await until(listens, "the proxy")
        return self

    async def _end(self, process):
        process.signal(signal.SIGTERM)
        await process.end()


class ClientTests(ClientCase):
    def setUp(self):
        super().setUp()
        self.shown = issue("127.0.0.1")
        self.peer = Peer()

    def through(self, **environ):
        self.remake(proxies=Proxies.from_environ(environ), authorities=[self.shown.pem])

    def urls(self):
        """The peer's, by http and by https."""
        plain = self.serve(self.peer).to_text()
        secret = self.serve(self.peer, options=self.shown.options()).to_text()
        return FixedURL.from_text(plain), FixedURL.from_text(secret)

    def seen(self):
        """The heads of the requests at the peer: those that the proxy passed on tell so."""
        return [head.lower() for head, _ in self.peer.requests]

    async def test_both_ways(self):
        proxy = await RealProxy(self).start()
        self.through(ALL_PROXY=proxy.origin)
        for url in self.urls():
            reply = await self.post(url, b"x" * 100_000)
            self.assertEqual((reply.status, reply.body, reply.flaw), (200, b"ok", None))
            self.assertEqual((await self.get(url)).status, 200)
        self.assertEqual([len(body) for _, body in self.peer.requests], [100_000, 0] * 2)
        passed_on, through_tunnel = self.seen()[0], self.seen()[2]
        self.assertIn(b"post /x http/1.1", passed_on)
        self.assertIn(b"\r\nvia:", passed_on)
        self.assertNotIn(b"\r\nvia:", through_tunnel)

    async def test_a_tunnel_is_used_again(self):
        proxy = await RealProxy(self).start()
        self.through(https_proxy=proxy.origin)
        _, url = self.urls()
        for _ in range(5):
            self.assertEqual((await self.post(url)).status, 200)
        self.assertEqual((len(self.peer.requests), len(self.peer.connections)), (5, 1))

    async def test_credentials_never_reach_the_peer(self):
        proxy = await RealProxy(self, locked=True).start()
        self.through(all_proxy=proxy.key)
        for url in self.urls():
            for _ in range(3):
                self.assertEqual((await self.post(url)).status, 200)
        self.assertEqual(len(self.seen()), 6)
        for head in self.seen():
            self.assertNotIn(b"proxy-authorization", head)

    async def test_peers_are_not_mixed_up(self):
        proxy = await RealProxy(self).start()
        self.through(all_proxy=proxy.origin)
        first, second = Peer(), Peer()
        urls = [FixedURL.from_text(self.serve(peer).to_text()) for peer in (first, second)]
        for _ in range(3):
            for url in urls:
                self.assertEqual((await self.post(url)).status, 200)
        self.assertEqual([len(peer.requests) for peer in (first, second)], [3, 3])

    async def test_wrong_credentials(self):
        proxy = await RealProxy(self, locked=True).start()
        for value in (proxy.origin, proxy.key.replace("MARK", "WRONGMARK")):
            self.through(HTTP_PROXY=value, HTTPS_PROXY=value)
            for url, name in zip(self.urls(), ("HTTP_PROXY", "HTTPS_PROXY"), strict=True):
                words = await self.error(NotSent, self.post(url))
                self.assertEqual(words, f"the proxy asks for credentials (407): check {name}")
        self.assertEqual(self.peer.requests, [])

    async def test_a_dead_proxy_and_what_is_exempt(self):
        at = f"127.0.0.1:{free_port()}"
        for url in self.urls():
            self.through(ALL_PROXY=at, NO_PROXY=f"127.0.0.1:{url.port}")
            self.assertEqual((await self.post(url)).status, 200)
            self.through(ALL_PROXY=at, NO_PROXY=f"127.0.0.1:{url.port + 1}")
            words = await self.error(NotSent, self.post(url))
            self.assertEqual(words, "the proxy can't be reached (connection refused)")

    async def test_a_peer_that_is_down(self):
        proxy = await RealProxy(self).start()
        self.through(ALL_PROXY=proxy.origin)
        words = await self.error(
            NotSent, self.post(FixedURL.from_text(f"https://127.0.0.1:{free_port()}/"))
        )
        self.assertRegex(words, "^the proxy (answered 50[0-9] to CONNECT|closed the connection)$")


class DaemonTests(DaemonCase):
    def settings(self, **settings):
        return self.config(ca_file=str(self.authority), **settings)

    def setUp(self):
        super().setUp()
        shown = issue("127.0.0.1")
        self.authority = Path(self.mktemp()).absolute()
        self.authority.parent.mkdir(parents=True, exist_ok=True)
        self.authority.write_bytes(shown.pem)
        self.openai.tls = shown.options()

    async def secure(self):
        """Have the model speak TLS."""
        await self.openai.stop()
        self.openai.start()

    async def test_model_and_target_through_a_proxy(self):
        await self.secure()
        proxy = await RealProxy(self, locked=True).start()
        variables = {"HTTP_PROXY": proxy.key, "HTTPS_PROXY": proxy.key}
        daemon = Daemon(self, self.settings(), **variables)
        await daemon.start()
        for _ in range(3):
            await daemon.reaches(await daemon.accepted("what is vanus"), "delivered")
        self.assertEqual(len(self.openai.asks), 3)
        for request in self.target.requests:
            self.assertIn("proxy.py", request.header("via"))
        for request in self.openai.requests + self.target.requests:
            self.assertIsNone(request.header("proxy-authorization"))
        self.assertNotIn("MARK", daemon.text)
        self.assert_fair()

    async def test_no_proxy(self):
        await self.secure()
        variables = {"ALL_PROXY": f"127.0.0.1:{free_port()}", "NO_PROXY": "127.0.0.0/8"}
        daemon = Daemon(self, self.settings(), **variables)
        await daemon.start()
        await daemon.reaches(await daemon.accepted("text"), "delivered")

    async def test_wrong_credentials_and_a_dead_proxy(self):
        await self.secure()
        proxy = await RealProxy(self, locked=True).start()
        dead = f"http://127.0.0.1:{free_port()}"
        first = Daemon(self, self.settings(), https_proxy=proxy.key.replace("MARK", "WRONG"))
        second = Daemon(self, self.settings(), https_proxy=dead)
        for daemon, words in (
            (first, "the proxy asks for credentials (407): check https_proxy"),
            (second, "the proxy can't be reached (connection refused)"),
        ):
            await daemon.start()
            record = await daemon.reaches(
                await daemon.accepted("text"), lambda record: record["error"]
            )
            self.assertEqual(record["error"], f"the model can't be reached: {words}")
            self.assertEqual(record["state"], "accepted")
        self.assertEqual(self.openai.requests, [])

    async def test_authorities_in_the_environment(self):
        await self.secure()
        daemon = Daemon(self, self.config(), K_CA_CERTS=self.authority.read_text())
        await daemon.start()
        await daemon.reaches(await daemon.accepted("text"), "delivered")

    async def test_mistakes(self):
        nothing = self.authority.with_name("nothing.pem")
        nothing.write_text("MARK")
        daemons = {
            "HTTPS_PROXY": Daemon(self, self.config(), HTTPS_PROXY="socks5://MARK@h"),
            "K_CA_CERTS": Daemon(self, self.config(), K_CA_CERTS="MARK"),
            "ca_file": Daemon(self, self.config(ca_file=str(nothing))),
        }
        ends = await together(*(daemon.fail() for daemon in daemons.values()))
        for name, (status, said) in zip(daemons, ends, strict=True):
            self.assertEqual((status, len(said.splitlines())), (1, 1), said)
            self.assertIn(name, said)
            self.assertNotIn("MARK", said)
