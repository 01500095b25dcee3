"""Which proxy a call goes through, by the environment."""

from base64 import b64decode

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.http.client.proxy import Proxies, Proxy, ProxyMistake

PROXY = Proxy("proxy.example", 3128)
VARIABLES = [
    name for each in ("http_proxy", "https_proxy", "all_proxy") for name in (each, each.upper())
]


def https(value: str) -> Proxy | None:
    return Proxies.from_environ({"HTTPS_PROXY": value}).https


def goes_through(no_proxy: str, host: str, port: int = 443) -> bool:
    environ = {"HTTPS_PROXY": "proxy.example:3128", "NO_PROXY": no_proxy}
    return Proxies.from_environ(environ).of("https", host, port) == PROXY


class VariableTests(SynchronousTestCase):
    def hosts(self, **environ: str) -> tuple[str | None, str | None]:
        proxies = Proxies.from_environ(environ)
        found = [proxies.of(scheme, "peer.example", 1) for scheme in ("http", "https")]
        return tuple(proxy and proxy.host for proxy in found)

    def test_none(self) -> None:
        self.assertEqual(self.hosts(), (None, None))
        self.assertEqual(Proxies.from_environ({}), Proxies())

    def test_each_for_its_scheme(self) -> None:
        self.assertEqual(self.hosts(HTTP_PROXY="a", HTTPS_PROXY="b"), ("a", "b"))
        self.assertEqual(self.hosts(http_proxy="a"), ("a", None))
        self.assertEqual(self.hosts(https_proxy="b"), (None, "b"))

    def test_lower_case_wins(self) -> None:
        self.assertEqual(self.hosts(HTTP_PROXY="a", http_proxy="b"), ("b", None))
        self.assertEqual(self.hosts(all_proxy="b", ALL_PROXY="a"), ("b", "b"))

    def test_all_stands_in_for_both(self) -> None:
        self.assertEqual(self.hosts(ALL_PROXY="a"), ("a", "a"))
        self.assertEqual(self.hosts(all_proxy="a", HTTP_PROXY="b"), ("b", "a"))

    def test_empty_is_not_set(self) -> None:
        self.assertEqual(self.hosts(http_proxy="", HTTP_PROXY=" ", ALL_PROXY="a"), ("a", "a"))

    def test_no_proxy_in_either_case(self) -> None:
        self.assertEqual(self.hosts(ALL_PROXY="a", no_proxy="*"), (None, None))
        self.assertEqual(self.hosts(ALL_PROXY="a", NO_PROXY="*"), (None, None))
        self.assertEqual(self.hosts(ALL_PROXY="a", NO_PROXY="*", no_proxy="x"), ("a", "a"))

    def test_the_variable_is_kept(self) -> None:
        proxies = Proxies.from_environ({"http_proxy": "a", "ALL_PROXY": "b"})
        self.assertEqual(proxies.http.variable, "http_proxy")
        self.assertEqual(proxies.https.variable, "ALL_PROXY")

    def test_another_scheme_has_none(self) -> None:
        self.assertIsNone(Proxies.from_environ({"ALL_PROXY": "a"}).of("ftp", "h", 21))


class ValueTests(SynchronousTestCase):
    def test_forms(self) -> None:
        for value, host, port in (
            ("http://proxy.example:3128", "proxy.example", 3128),
            ("http://proxy.example:3128/", "proxy.example", 3128),
            ("HTTP://proxy.example", "proxy.example", 80),
            ("http://proxy.example:", "proxy.example", 80),
            ("proxy.example:3128", "proxy.example", 3128),
            (" proxy ", "proxy", 80),
            ("10.0.0.1:8080", "10.0.0.1", 8080),
            ("http://[::1]:3128", "::1", 3128),
            ("[2001:DB8::1]", "2001:db8::1", 80),
            ("a_proxy.:65535", "a_proxy.", 65535),
        ):
            self.assertEqual(https(value), Proxy(host, port), value)

    def test_credentials(self) -> None:
        for value, userinfo in (
            ("http://user:pw@p:1", b"user:pw"),
            ("user:pw@p", b"user:pw"),
            ("http://user@p", b"user:"),
            ("http://us%40er:p%3Aw%2f@p", b"us@er:p:w/"),
            ("http://user:p@ss:word@p", b"user:p@ss:word"),
            ("http://Gr%C3%BC\u00df:\udcff@p", "Gr\u00fc\u00df:".encode() + b"\xff"),
            ("http://user:100%@p", b"user:100%"),
        ):
            scheme, _, credentials = https(value).authorization.partition(b" ")
            self.assertEqual((scheme, b64decode(credentials)), (b"Basic", userinfo), value)
        for value in ("http://p", "http://@p"):
            self.assertIsNone(https(value).authorization, value)

    def test_credentials_are_not_shown(self) -> None:
        proxies = Proxies.from_environ({"HTTPS_PROXY": "http://MARK:MARK@p"})
        self.assertNotIn("MARK", repr(proxies))
        self.assertNotIn("Basic", repr(proxies))

    def test_what_is_no_proxy(self) -> None:
        for value in (
            "https://MARK:3128",
            "socks5://MARK:1080",
            "socks5h://MARK@h",
            "http://",
            "://h",
            "http://MARK:0",
            "http://h:65536",
            "http://h:99999999999999999999999",
            "http://h:MARK",
            "http://h/MARK",
            "http://h?MARK",
            "http://user:MA#RK@h",
            "http://MARK@",
            "http://::1:3128",
            "http://[::MARK]:1",
            "http://[1.2.3.4]",
            "http://a..b",
            "http://" + "x" * 64,
            "http://MA RK",
            "http://M\u00c4RK",
            "http://\ud800@h",
        ):
            mistake = self.assertRaises(ProxyMistake, https, value)
            self.assertEqual(len(mistake.lines), 1)
            text = str(mistake)
            self.assertTrue(text.startswith("HTTPS_PROXY must be an HTTP proxy"), text)
            self.assertNotIn("MARK", text)
            self.assertNotIn("\n", text)

    def test_all_mistakes_at_once(self) -> None:
        environ = {"http_proxy": "socks5://a", "HTTPS_PROXY": "https://a"}
        mistake = self.assertRaises(ProxyMistake, Proxies.from_environ, environ)
        self.assertEqual([line.split()[0] for line in mistake.lines], [*environ])
        mistake = self.assertRaises(ProxyMistake, Proxies.from_environ, {"ALL_PROXY": "https://a"})
        self.assertEqual(len(mistake.lines), 1)

    def test_what_does_not_count_is_no_mistake(self) -> None:
        environ = {"all_proxy": "socks5://a", "http_proxy": "b", "https_proxy": "c"}
        self.assertEqual(Proxies.from_environ(environ), Proxies(Proxy("b", 80), Proxy("c", 80)))


class ExemptTests(SynchronousTestCase):
    def test_covered(self) -> None:
        for entry, host in (
            ("*", "any.example"),
            ("*", "::1"),
            ("peer.example", "peer.example"),
            ("example", "peer.example"),
            (".example", "peer.example"),
            (".peer.example", "peer.example"),
            ("*.example", "a.peer.example"),
            ("PEER.example.", "peer.EXAMPLE"),
            ("peer.example", "peer.example."),
            ("peer.example:443", "peer.example"),
            ("*:443", "peer.example"),
            ("10.0.0.1", "10.0.0.1"),
            ("10.0.0.0/8", "10.1.2.3"),
            ("10.1.2.3/8", "10.9.9.9"),
            ("10.0.0.0/8:443", "10.1.2.3"),
            ("10.0.0.1:443", "10.0.0.1"),
            ("::1", "::1"),
            ("0:0::1", "[::1]"),
            ("[::1]", "::1"),
            ("[::1]:443", "::1"),
            ("fd00::/8", "fdab::1"),
            ("[fd00::]/8", "fdab::1"),
            ("[fd00::/8]:443", "FDAB::1"),
        ):
            self.assertFalse(goes_through(entry, host), (entry, host))
            self.assertFalse(goes_through(f"other,{entry}", host), (entry, host))
            self.assertFalse(goes_through(f" ,{entry}\tother", host), (entry, host))

    def test_not_covered(self) -> None:
        for entry, host in (
            ("", "peer.example"),
            (",", "peer.example"),
            ("peer.example", "otherpeer.example"),
            ("a.peer.example", "peer.example"),
            ("peer.example:80", "peer.example"),
            ("*:80", "peer.example"),
            ("10.0.0.1", "10.0.0.10"),
            ("0.1", "10.0.0.1"),
            ("10.0.0.0/33", "10.0.0.0"),
            ("10.0.0.0/8", "::a00:1"),
            ("::/0", "10.0.0.1"),
            ("[::1]:80", "::1"),
            ("[]", "peer.example"),
            ("<local>", "peer.example"),
            ("/var/run/docker.sock", "peer.example"),
            ("http://peer.example", "peer.example"),
            (".", "peer.example"),
            ("*.", "peer.example"),
            ("peer.*", "peer.example"),
        ):
            self.assertTrue(goes_through(entry, host), (entry, host))


class AnythingTests(SynchronousTestCase):
    pieces = st.lists(
        st.sampled_from(
            [*"%@:/?#[]*.,-0189", "http://", "socks5://", "::1", "10.0.0.0/8", "\udcff"]
        )
        | st.text(max_size=3)
    ).map("".join)

    @settings(deadline=None, max_examples=300)
    @given(st.dictionaries(st.sampled_from([*VARIABLES, "no_proxy", "NO_PROXY"]), pieces), pieces)
    def test_nothing_but_a_mistake(self, environ: dict[str, str], host: str) -> None:
        try:
            proxies = Proxies.from_environ(environ)
        except ProxyMistake as mistake:
            for line in mistake.lines:
                self.assertIn(line.split()[0], VARIABLES)
                self.assertNotIn("\n", line)
            return
        for scheme in ("http", "https"):
            proxy = proxies.of(scheme, host, 443)
            if proxy is not None:
                self.assertRegex(proxy.host, r"\A[\w.:-]+\Z")
                self.assertIn(proxy.port, range(1, 65536))
