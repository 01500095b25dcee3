"""Who may talk to the admin site: neither a name that was made to lead here, nor another's page."""

from base64 import b64encode

import attrs
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress

from chatgpt_source.admin.guard import Admission
from chatgpt_source.config import Credentials
from chatgpt_source.config.secret import Secret
from tests.admin.common import AdminTestCase

ONE_OF_OURS = "/api/prompts"


class RebindingTests(AdminTestCase):
    def test_by_another_name_only_the_metrics(self) -> None:
        self.host = "evil.example:9464"
        for path in ("/", "/api/status", "/api/prompts", "/api/prompts/x", "/nothing"):
            self.assertIn("localhost", self.assert_problem(self.get(path), 403))
        self.assertIn("localhost", self.assert_problem(self.send(ONE_OF_OURS, b"x"), 403))
        self.assertEqual(self.get("/metrics").status, 200)
        self.assertEqual(self.model.calls, [])

    def test_two_hosts_are_none(self) -> None:
        self.assert_problem(self.get("/api/status", Host="localhost"), 400)

    def test_what_is_not_utf8(self) -> None:
        self.assert_problem(self.send(ONE_OF_OURS, b"x", X_Requested_With=b"\xff"), 403)
        self.assert_problem(self.send(ONE_OF_OURS, b"x", Origin=b"\xff"), 403)
        self.assert_problem(self.get("/api/events", Sec_Fetch_Site=b"\xff"), 403)
        self.assertEqual(self.get("/metrics", Accept=b"\xff").status, 200)
        self.assertEqual(self.model.calls, [])

    def test_as_our_users_call_it(self) -> None:
        for self.host in ("127.0.0.1:9464", "[::1]:9464", "localhost"):
            self.assertEqual(self.get("/api/status").status, 200)
            self.assertEqual(self.get("/").status, 200)


class ElsewhereTests(AdminTestCase):
    """A site that others reach, without credentials: the metrics, and nothing else, are theirs."""

    config = attrs.evolve(AdminTestCase.config, admin="tcp:9464", everyday_limit=9)
    host = "10.0.0.1:9464"
    PAGES = ("/", "/api/events", "/api/status", "/api/prompts", "/api/prompts/x", "/nothing")

    def test_only_the_metrics(self) -> None:
        self.assertEqual(self.get("/metrics").status, 200)
        for path in self.PAGES:
            detail = self.assert_problem(self.get(path), 403)
            self.assertIn("`admin_auth`", detail)
            self.assertIn("localhost", detail)
        for path in (ONE_OF_OURS, "/api/redrive", "/api/prompts/x/redrive"):
            self.assert_problem(self.send(path, b"x"), 403)
        self.assertEqual((self.model.calls, self.used()), ([], 0))

    def test_whatever_they_say(self) -> None:
        for self.host in ("localhost", "127.0.0.1:9464"):
            for headers in ({}, {"X_Forwarded_For": "127.0.0.1", "Forwarded": "for=127.0.0.1"}):
                self.assert_problem(self.send(ONE_OF_OURS, b"x", **headers), 403)
        for path in ("http://localhost/api/status", "/metrics/../api/status", "//api/status"):
            self.assertIn(self.get(path).status, {403, 404}, path)

    def test_this_machine_has_all_of_it(self) -> None:
        self.host = "localhost:9464"
        for self.address in (
            IPv4Address("TCP", "127.0.0.1", 9464),
            IPv6Address("TCP", "::1", 9464),
            IPv6Address("TCP", "::ffff:127.0.0.1", 9464),
            UNIXAddress(b"/run/admin"),
        ):
            self.assertEqual(self.get("/api/status").status, 200, self.address)
            self.assertEqual(self.send(ONE_OF_OURS, b"x").status, 202, self.address)
            self.host = "evil.example"
            self.assert_problem(self.get("/api/status"), 403)
            self.host = "localhost:9464"

    def test_the_probes_are_everybodys(self) -> None:
        for self.host in ("10.0.0.1:9464", "admin.example"):
            self.assert_probes()

    def test_no_other_address_is_this_machines(self) -> None:
        for self.address in (
            IPv4Address("TCP", "10.0.0.1", 9464),
            IPv6Address("TCP", "fe80::1", 9464),
            IPv6Address("TCP", "::ffff:10.0.0.1", 9464),
            IPv4Address("TCP", "0.0.0.0", 9464),
            IPv4Address("TCP", "", 9464),
        ):
            self.assert_problem(self.get("/api/status"), 403)

    def test_kinds_of_endpoints_that_others_make_are_not_trusted_with_an_address(self) -> None:
        self.address = IPv4Address("TCP", "127.0.0.1", 9464)  # as haproxy's header says
        self.back.admits = Admission(None, "haproxy:tcp:9464").refusal
        self.assert_problem(self.get("/api/status"), 403)
        self.assertEqual(self.get("/metrics").status, 200)


class CertificateTests(AdminTestCase):
    """Whoever gets through has shown what they have to show."""

    config = attrs.evolve(AdminTestCase.config, admin="ssl:9464:privateKey=/k:clientCA=/c")
    host = "10.0.0.1:9464"

    def test_they_have_all_of_it(self) -> None:
        self.assertEqual(self.send(ONE_OF_OURS, b"x").status, 202)


class CredentialsTests(AdminTestCase):
    config = attrs.evolve(
        AdminTestCase.config,
        admin="tcp:9464",
        admin_auth=Credentials((), {"ann": Secret("secret")}),
    )
    KNOWN = "Basic " + b64encode(b"ann:secret").decode()

    def test_are_asked_of_all(self) -> None:
        for path in ("/", "/metrics", "/api/status", "/nothing"):
            answer = self.get(path)
            self.assert_problem(answer, 401)
            self.assertIn("Basic", answer.headers["www-authenticate"])
        self.assert_problem(self.send(ONE_OF_OURS, b"x"), 401)
        self.assertEqual(self.get("/metrics", Authorization=self.KNOWN).status, 200)

    def test_are_not_asked_of_probes(self) -> None:
        self.assert_probes()

    def test_go_by_any_name(self) -> None:
        self.host = "admin.example"
        self.assertEqual(self.get("/api/status", Authorization=self.KNOWN).status, 200)
        self.assert_problem(self.get("/api/status"), 401)

    def test_are_no_use_to_another_page(self) -> None:
        answer = self.send(ONE_OF_OURS, b"x", Authorization=self.KNOWN, Origin="http://evil")
        self.assert_problem(answer, 403)
        answer = self.send(ONE_OF_OURS, b"x", Authorization=self.KNOWN)
        self.assertEqual(answer.status, 202)


class ForgeryTests(AdminTestCase):
    def test_our_page_and_no_page(self) -> None:
        for headers in (
            {},
            {"Origin": "http://localhost:9464"},
            {"Origin": "https://LOCALHOST:9464", "Sec_Fetch_Site": "same-origin"},
        ):
            self.assertEqual(self.send(ONE_OF_OURS, b"x", **headers).status, 202, headers)

    def test_without_the_header_no_page_can_set(self) -> None:
        for value in ("", "XMLHttpRequest"):
            answer = self.send(ONE_OF_OURS, b"x", X_Requested_With=value)
            self.assertIn("X-Requested-With", self.assert_problem(answer, 403))
        self.assertEqual(self.used(), 0)

    def test_from_another_origin(self) -> None:
        for headers in (
            {"Origin": "http://evil.example"},
            {"Origin": "http://localhost"},
            {"Origin": "http://localhost:9464.evil.example"},
            {"Origin": "null"},
            {"Origin": ""},
            {"Sec_Fetch_Site": "cross-site"},
            {"Sec_Fetch_Site": "same-site"},
            {"Sec_Fetch_Site": "none"},
        ):
            self.assert_problem(self.send(ONE_OF_OURS, b"x", **headers), 403)
        self.assertEqual(self.used(), 0)

    def test_nothing_is_ever_allowed_to_other_origins(self) -> None:
        for answer in (
            self.get("/api/status", Origin="http://evil.example"),
            self.send(ONE_OF_OURS, b"x"),
            self.request("OPTIONS", ONE_OF_OURS, Origin="http://evil.example"),
        ):
            allowed = [name for name in answer.headers if name.startswith("access-control")]
            self.assertEqual(allowed, [])

    def test_headers_of_every_answer(self) -> None:
        for answer in (self.get("/"), self.get("/api/status"), self.get("/nothing")):
            self.assertEqual(answer.headers["cache-control"], "no-store")
            self.assertEqual(answer.headers["x-content-type-options"], "nosniff")
            self.assertIn("default-src 'none'", answer.headers["content-security-policy"])
