"""Who may talk to the admin site: neither a name that was made to lead here, nor another's page."""

from base64 import b64encode

import attrs

from chatgpt_source.config import Credentials
from chatgpt_source.secret import Secret
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

    def test_as_our_users_call_it(self) -> None:
        for self.host in ("127.0.0.1:9464", "[::1]:9464", "localhost"):
            self.assertEqual(self.get("/api/status").status, 200)
            self.assertEqual(self.get("/").status, 200)


class CredentialsTests(AdminTestCase):
    config = attrs.evolve(
        AdminTestCase.config, admin_auth=Credentials((), {"ann": Secret("secret")})
    )
    KNOWN = "Basic " + b64encode(b"ann:secret").decode()

    def test_are_asked_of_all(self) -> None:
        for path in ("/", "/metrics", "/api/status", "/nothing"):
            answer = self.get(path)
            self.assert_problem(answer, 401)
            self.assertIn("Basic", answer.headers["www-authenticate"])
        self.assert_problem(self.send(ONE_OF_OURS, b"x"), 401)
        self.assertEqual(self.get("/metrics", Authorization=self.KNOWN).status, 200)

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
