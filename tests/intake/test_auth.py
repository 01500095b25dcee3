"""Who may call."""

from base64 import b64encode
from pathlib import Path
from typing import Any, cast

import attrs

from chatgpt_source.config import Credentials
from chatgpt_source.config.secret import Secret
from chatgpt_source.http.server import BoundedSite
from chatgpt_source.intake import auth
from chatgpt_source.intake.auth import Guard
from chatgpt_source.intake.health import PROBES
from tests.door import CONFIG, DoorTestCase, ParsedResponse

BOTH = Credentials(
    bearer=(Secret("token-one"), Secret("token-two")),
    basic={"ann": Secret("päss:word"), "bob": Secret("other")},
)


def basic(text: str) -> str:
    return "Basic " + b64encode(text.encode()).decode()


class AuthTestCase(DoorTestCase):
    credentials = BOTH
    config = attrs.evolve(CONFIG, everyday_limit=100)

    def connect(self) -> None:
        guard = Guard(self.credentials, PROBES)
        self.site = BoundedSite(
            cast(Any, self.clock), self.intake.answer, self.config.max_body_size, guard.refusal
        )
        super().connect()

    def refused(self, **headers: str | bytes) -> ParsedResponse:
        answer = self.post(**headers)
        detail = self.assert_problem(answer, 401)
        self.assertIn("Authorization", detail)
        return answer


class BothTests(AuthTestCase):
    def test_what_to_send_is_told_for_each_scheme(self) -> None:
        detail = self.refused().json["detail"]
        for form in ("Bearer <token>", "Basic <user:password in base64>"):
            self.assertIn(f"`Authorization: {form}`", detail)

    def test_who_shows_what_is_right_is_let_in(self) -> None:
        for value in (
            "Bearer token-one",
            "bearer token-two",
            "BEARER   token-one ",
            basic("ann:päss:word"),
            basic("bob:other").replace("Basic", "bASIC"),
        ):
            self.assertEqual(self.post(Authorization=value).status, 202, value)

    def test_anything_else_gets_the_same_answer(self) -> None:
        nothing = self.refused()
        challenges = [
            'Bearer realm="chatgpt-source"',
            'Basic realm="chatgpt-source", charset="UTF-8"',
        ]
        self.assertEqual(self.challenges(), challenges)
        for value in (
            "",
            "token-one",
            "Bearer",
            basic("ann:other"),
            basic("bob:päss:word"),
            basic("eve:other"),
            basic("ann"),
            basic(":"),
            basic(""),
            "Basic päss".encode(),
            "Basic !!!!",
            "Basic " + "A" * 5,
            "Digest x",
            "Negotiate token-one",
            b"\xff\xfe",
        ):
            answer = self.refused(Authorization=value)
            self.assertEqual((answer.body, self.challenges()), (nothing.body, challenges), value)
        for value in ("Bearer token", "Bearer token-ones", "Bearer token-one x", b"Bearer \xff"):
            answer = self.refused(Authorization=value)
            self.assertEqual(answer.body, nothing.body)
            challenge = 'Bearer realm="chatgpt-source", error="invalid_token"'  # RFC 6750, 3.1
            self.assertEqual(self.challenges(), [challenge, challenges[1]])
        self.assertEqual(self.used(), 0)

    def challenges(self) -> list[str]:
        lines = self.transport.value().partition(b"\r\n\r\n")[0].decode().split("\r\n")
        name = "www-authenticate: "
        return [line[len(name) :] for line in lines if line.lower().startswith(name)]

    def test_given_twice(self) -> None:
        self.refused(Authorization=b"Bearer token-one\r\nAuthorization: Bearer token-one")

    def test_what_needs_it(self) -> None:
        prompt_id = self.post(Authorization="Bearer token-one").json["id"]
        path = f"/prompts/{prompt_id}"
        for method, target in (
            ("GET", path),
            ("GET", "/prompts/unknown"),
            ("GET", "/"),
            ("GET", "/nowhere"),
            ("POST", "/?/healthz"),
            ("POST", "//healthz"),
            ("POST", "/healthz/.."),
            ("POST", "http://x/"),
        ):
            answer = self.request(method, target, b"text")
            self.assertEqual(answer.status, 401, target)
        self.assertEqual(self.request("GET", path, Authorization=basic("bob:other")).status, 200)

    def test_probes_have_no_credentials(self) -> None:
        for path in ("/healthz", "/readyz", "/readyz?x", "http://x/healthz"):
            self.assertEqual(self.request("GET", path).status, 200, path)
        self.assertEqual(self.request("POST", "/healthz").status, 405)

    def test_all_there_is_is_compared_whoever_asks(self) -> None:
        compared: list[str] = []
        same = auth._same
        self.patch(
            auth, "_same", lambda secret, shown: compared.append(secret) or same(secret, shown)
        )
        for user in ("ann", "eve"):
            compared.clear()
            self.post(Authorization=basic(f"{user}:x"))
            self.assertEqual(compared, ["päss:word", "ann", "other", "bob"])
        for token in ("token-one", "x"):
            compared.clear()
            self.post(Authorization=f"Bearer {token}")
            self.assertEqual(compared, ["token-one", "token-two"])

    def test_a_large_body_of_a_stranger_is_not_held(self) -> None:
        self.channel.dataReceived(
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n" + b"x" * 999
        )
        (request,) = self.channel.requests  # type: ignore[attr-defined]
        self.assertEqual(request.body(), b"")
        self.channel.dataReceived(b"x")
        self.assertEqual(ParsedResponse(self.transport.value()).status, 401)

    def test_a_repr_shows_no_secret(self) -> None:
        shown = repr(BOTH) + repr(attrs.evolve(CONFIG, auth=BOTH))
        for word in ("token-one", "päss", "other", "ann", "bob"):
            self.assertNotIn(word, shown)


class BearerTests(AuthTestCase):
    credentials = Credentials(bearer=(Secret("t"),))

    def test_a_scheme_that_is_not_set(self) -> None:
        answer = self.refused(Authorization=basic("t:t"))
        self.assertEqual(answer.headers["www-authenticate"], 'Bearer realm="chatgpt-source"')
        self.assertNotIn("Basic", answer.json["detail"])

    def test_a_secret_follows_its_file(self) -> None:
        file = Path(self.mktemp())
        file.write_text("old\n")
        secret = Secret.of_file(file, str.strip)
        self.credentials = Credentials(bearer=(secret,))
        self.connect()
        self.assertEqual(self.post(Authorization="Bearer old").status, 202)
        file.write_text("newer\n")
        self.refused(Authorization="Bearer old")
        self.assertEqual(self.post(Authorization="Bearer newer").status, 202)


class BasicTests(AuthTestCase):
    credentials = Credentials(basic={"ann": Secret("x")})

    def test_a_scheme_that_is_not_set(self) -> None:
        answer = self.refused(Authorization="Bearer x")
        self.assertTrue(answer.headers["www-authenticate"].startswith("Basic "))
        self.assertNotIn("Bearer", answer.json["detail"])
