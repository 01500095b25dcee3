"""Pages of other sites, and names that were made to lead here."""

from typing import Any, cast

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.config import Credentials
from chatgpt_source.config.secret import Secret
from chatgpt_source.intake.auth import Guard
from chatgpt_source.intake.origin import AccessPolicy, is_known_host
from tests.door import DoorTestCase

HERE = "localhost:8080"


class KnownHostTests(SynchronousTestCase):
    def test_addresses_and_localhost(self) -> None:
        for host in (
            "localhost",
            "LOCALHOST:9464",
            "localhost.:9464",
            "demo.localhost:80",
            "127.0.0.1",
            "10.1.2.3:9464",
            "[::1]",
            "[fe80::1]:9464",
        ):
            self.assertTrue(is_known_host(host), host)

    def test_all_others(self) -> None:
        for host in (
            "",
            "evil.example",
            "evil.example:9464",
            "localhost.evil.example",
            "notlocalhost",
            "127.0.0.1.evil.example",
            "1.2.3",
            "[::1",
            "::1",
            "localhost:9464:1",
            "localhost@evil.example",
            "localhost\n",
            "[evil]",
        ):
            self.assertFalse(is_known_host(host), host)


class DoorTests(DoorTestCase):
    host = HERE

    def setUp(self) -> None:
        super().setUp()
        self.refused: list[int] = []
        self.open_to()

    def open_to(self, *allowed: str, auth: Credentials | None = None) -> None:
        guard = Guard(auth, ("/healthz",)) if auth else None
        self.site.admits = AccessPolicy(guard, allowed).refusal
        self.site.refused = lambda _, problem: self.refused.append(problem)

    def at(self, address: Any) -> None:
        self.address = address
        self.connect()

    def assert_refused(self, **headers: str) -> None:
        self.assert_problem(self.post(**headers), 403)
        self.assertEqual(self.refused.pop().status, 403)

    def assert_accepted(self, **headers: str) -> None:
        self.assertIn(self.post(**headers).status, {202, 429}, headers)

    def test_a_page_of_another_site(self) -> None:
        for headers in (
            {"Sec_Fetch_Site": "cross-site"},
            {"Sec_Fetch_Site": "cross-site", "Origin": "http://localhost:8080"},
            {"Sec_Fetch_Site": "same-site"},
            {"Sec_Fetch_Site": "same-site", "Origin": "http://localhost:3000"},
            {"Sec_Fetch_Site": "what comes next"},
            {"Sec_Fetch_Site": "same-origin", "Origin": "http://evil.example"},
            {"Sec_Fetch_Site": "none", "Origin": "null"},
            {"Origin": "http://evil.example"},
            {"Origin": "http://localhost"},
            {"Origin": "http://localhost:8080.evil.example"},
            {"Origin": "null"},
            {"Origin": ""},
            {"Origin": "http://localhost:8080\r\nOrigin: http://localhost:8080"},
        ):
            self.assert_refused(**headers)
        self.assertEqual(self.used(), 0)

    def test_what_is_not_utf8(self) -> None:
        for headers in ({"Origin": b"\xff"}, {"Sec_Fetch_Site": b"cross-site\xff"}):
            self.connect()
            self.assert_problem(self.post(**headers), 403)
        self.host = "caf\xe9"
        self.at(IPv4Address("TCP", "127.0.0.1", 8080))
        self.assert_problem(self.post(Origin=f"http://{self.host}"), 403)
        self.assertEqual(self.used(), 0)

    def test_every_path_that_accepts_prompts(self) -> None:
        for path in ("/", "/prompts"):
            answer = self.request("POST", path, b"x", Origin="http://evil.example")
            self.assert_problem(answer, 403)

    def test_our_own_page_and_no_page(self) -> None:
        for headers in (
            {},
            {"Origin": "http://localhost:8080"},
            {"Origin": "https://LOCALHOST:8080", "Sec_Fetch_Site": "same-origin"},
            {"Origin": "http://localhost:8080", "Sec_Fetch_Site": "same-site"},
            {"Sec_Fetch_Site": "same-origin"},
            {"Sec_Fetch_Site": "none"},
        ):
            self.assert_accepted(**headers)

    def test_what_spends_nothing_is_open(self) -> None:
        for path in ("/healthz", "/readyz"):
            answer = self.request("GET", path, Origin="http://evil.example")
            self.assertEqual(answer.status, 200)
        self.assert_problem(self.request("GET", "/", Origin="http://evil.example"), 405)

    def test_a_name_that_was_made_to_lead_here(self) -> None:
        self.host = "evil.example:8080"
        page = {"Origin": "http://evil.example:8080", "Sec_Fetch_Site": "same-origin"}
        for address in (
            IPv4Address("TCP", "127.0.0.1", 8080),
            IPv4Address("TCP", "127.1.2.3", 8080),
            IPv6Address("TCP", "::1", 8080),
            IPv6Address("TCP", "::ffff:127.0.0.1", 8080),
        ):
            self.at(address)
            self.assert_refused(**page)
            self.assert_refused(Sec_Fetch_Site="none")
            self.assert_accepted()  # no browser
        for address in (
            IPv4Address("TCP", "10.1.2.3", 8080),
            IPv6Address("TCP", "2001:db8::1", 8080),
            UNIXAddress(b"/run/prompts.sock"),
        ):
            self.at(address)
            self.assert_accepted(**page)

    def test_allowed_origins(self) -> None:
        self.open_to("https://app.example")
        for headers in (
            {"Origin": "https://app.example", "Sec_Fetch_Site": "cross-site"},
            {"Origin": "https://APP.example"},
        ):
            self.assert_accepted(**headers)
        for origin in ("http://app.example", "https://app.example:8443", "null", ""):
            self.assert_refused(Origin=origin)
        self.assert_refused(Sec_Fetch_Site="cross-site")
        self.at(IPv4Address("TCP", "127.0.0.1", 8080))
        self.host = "app.example"
        self.assert_accepted(Origin="https://app.example", Sec_Fetch_Site="same-origin")

    def test_credentials(self) -> None:
        self.open_to("https://app.example", auth=Credentials((Secret("token"),), {}))
        foreign = {"Origin": "http://evil.example", "Sec_Fetch_Site": "cross-site"}
        self.assert_accepted(Authorization="Bearer token", **foreign)
        self.assert_refused(**foreign)
        self.assert_refused(Authorization="Bearer other", **foreign)
        self.assert_problem(self.post(), 401)
        self.assert_problem(self.post(Origin="https://app.example"), 401)

    def test_no_body_of_theirs_is_held(self) -> None:
        head = f"POST / HTTP/1.1\r\nHost: {HERE}\r\nOrigin: null\r\nContent-Length: 900\r\n\r\n"
        self.channel.dataReceived(head.encode() + b"x" * 800)
        self.assertEqual(cast(Any, self.channel).requests[0].body(), b"")
        self.channel.dataReceived(b"x" * 100)
        self.assertEqual([problem.status for problem in self.refused], [403])
