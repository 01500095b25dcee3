"""An OpenAI-compatible server: the headers, what an error means, and which models there are."""

import json
from typing import Any

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from chatgpt_source.config.secret import Secret
from chatgpt_source.errors import CallError, PeerFailure, Permanent, Transient
from chatgpt_source.http.client import NoReply, NotSent
from chatgpt_source.prompt import Trace
from chatgpt_source.providers.openai import OpenAI, doubts, read_error, request_headers
from chatgpt_source.providers.openai_chat import settings_sent
from tests.providers.common import CONFIG, DAY, TOKEN, FakePeer, OpenAICase, reply


class HeadersTests(OpenAICase):
    def headers(self, trace: Trace | None = None, **settings_: Any) -> dict[bytes, list[bytes]]:
        headers = request_headers(attrs.evolve(CONFIG, **settings_), trace)
        return {name.lower(): values for name, values in headers.getAllRawHeaders()}

    def test_headers(self) -> None:
        headers = self.headers(
            organization="org-1",
            project="proj_1",
            headers={"X-Title": Secret("t"), "authorization": Secret("Basic x")},
        )
        self.assertEqual(headers[b"openai-organization"], [b"org-1"])
        self.assertEqual(headers[b"openai-project"], [b"proj_1"])
        self.assertEqual(headers[b"x-title"], [b"t"])
        self.assertEqual(headers[b"authorization"], [b"Basic x"])

    def test_azure(self) -> None:
        headers = self.headers(api_version="2024-10-21")
        self.assertEqual(headers[b"api-key"], [TOKEN.encode()])
        self.assertNotIn(b"authorization", headers)

    def test_trace(self) -> None:
        headers = self.headers(Trace("00-a-b-01", "x=1"))
        self.assertEqual(headers[b"traceparent"], [b"00-a-b-01"])
        self.assertEqual(headers[b"tracestate"], [b"x=1"])


class RefusalTests(OpenAICase):
    def read_error(self, body: Any, status: int = 400, **headers: str) -> CallError:
        error = read_error(reply(body, status, **headers), DAY, settings_sent(CONFIG))
        self.assertEqual(error.status, status)
        self.assert_discreet(error)
        return error

    def of(self, error: Any, status: int = 400) -> type:
        return type(self.read_error({"error": error}, status))

    def test_whole(self) -> None:
        quota = {
            "message": "MODELMARK",
            "type": "insufficient_quota",
            "param": None,
            "code": "insufficient_quota",
        }
        self.assertIs(self.of(quota, 429), PeerFailure)
        rate = {"message": "MODELMARK", "type": "tokens", "code": "rate_limit_exceeded"}
        self.assertIs(self.of(rate, 429), Transient)

    def test_code_or_type(self) -> None:
        quota = "insufficient_quota"
        for error in (
            {"code": quota},
            {"type": quota},
            {"code": quota, "type": "requests"},
            {"code": None, "type": quota},
            {"code": 429, "type": quota},
            {"code": "rate_limit", "type": quota},
            {"code": quota, "type": []},
        ):
            self.assertIs(self.of(error, 429), PeerFailure, error)

    def test_param(self) -> None:
        for error in (
            {"code": "x", "param": "model"},
            {"code": None, "param": "model"},
            {"param": "model"},
        ):
            self.assertIs(self.of(error), PeerFailure, error)
        for param in (None, 7, [], ["model"], {}, "PROMPTMARK", "messages"):
            self.assertIs(self.of({"code": "x", "param": param}), Permanent, param)

    def test_odd_bodies(self) -> None:
        odd = (
            None,
            [],
            {},
            "MODELMARK",
            7,
            {"error": None},
            {"error": "MODELMARK"},
            {"error": []},
            {"error": ["MODELMARK"]},
            {"error": {}},
            {"error": {"message": "MODELMARK PROMPTMARK"}},
            {"error": {"code": ["MODELMARK"], "type": {}, "param": 7}},
            {"error": {"code": "MODELMARK", "type": "MODELMARK", "param": "MODELMARK"}},
            {"message": "MODELMARK"},
            b"",
            b"<html>MODELMARK</html>",
            b"\xff\xfe",
            b'{"error"',
            b"[" * 100_000,
            b'{"error":' * 100_000,
            b"9" * 5000,
            b"NaN",
        )
        for body in odd:
            for status, expected in (
                (400, Permanent),
                (422, Permanent),
                (401, PeerFailure),
                (404, PeerFailure),
                (302, PeerFailure),
                (429, Transient),
                (500, Transient),
            ):
                self.assertIs(type(self.read_error(body, status)), expected, (body, status))

    def test_code_is_theirs_and_not_shown_at_length(self) -> None:
        for code in ("MODELMARK_spend_limit_exceeded", "x" * 10**5 + "_spend_limit_exceeded"):
            error = self.read_error({"error": {"code": code}}, 429)
            self.assertIs(type(error), PeerFailure)

    def test_retry_after(self) -> None:
        self.assertEqual(self.read_error({}, 429, retry_after="7").retry_after, 7.0)
        self.assertEqual(self.read_error({}, 429, retry_after_ms="500").retry_after, 0.5)
        date = "Fri, 20 Nov 2026 12:00:09 GMT"
        self.assertEqual(self.read_error({}, 503, retry_after=date).retry_after, 9.0)
        self.assertIsNone(self.read_error({}, 503).retry_after)
        self.assertIsNone(self.read_error({}, 503, retry_after="MODELMARK").retry_after)

    @settings(deadline=None)
    @given(st.binary() | st.text().map(lambda text: json.dumps({"error": text}).encode()))
    def test_any_bytes(self, body: bytes) -> None:
        self.assertIs(type(self.read_error(body)), Permanent)


class DoubtsTests(OpenAICase):
    def doubts(self, *models: Any, model: str = "gpt-6-luna", **others: Any) -> str | None:
        return doubts(reply({"object": "list", "data": list(models)}, **others), model)

    def test_known(self) -> None:
        for known in ({"id": "gpt-6-luna"}, {"id": "gpt-6-luna", "shutdown_date": None}):
            self.assertIsNone(self.doubts({"id": "other"}, known))

    def test_unknown(self) -> None:
        doubt = self.doubts({"id": "other"})
        assert doubt
        self.assertIn("`model` gpt-6-luna is not among the models", doubt)

    def test_listed_by_another_name(self) -> None:
        """Ollama adds the tag that is meant where none is given, Gemini the kind of thing."""
        for id_ in ("llama3.2:latest", "models/llama3.2"):
            self.assertIsNone(self.doubts({"id": id_}, model="llama3.2"))
            listed = {"id": id_, "shutdown_date": "2027-01-14"}
            self.assertIn("has a shutdown date", str(self.doubts(listed, model="llama3.2")))
        for id_ in ("llama3.2:1b", "llama3.2-vision", "models/llama3.2:1b"):
            self.assertIn("is not among", str(self.doubts({"id": id_}, model="llama3.2")))

    def test_to_be_shut_down(self) -> None:
        for date, shown in (
            ("2027-01-14", " (2027-01-14)"),
            ("2027-01-14T00:00:00Z", " (2027-01-14)"),
            (1800000000, " (2027-01-15)"),
            (10**30, ""),
            (2**39, ""),
            (1800000000000, ""),
            ("MODELMARK", ""),
            (["x"], ""),
        ):
            doubt = self.doubts({"id": "gpt-6-luna", "shutdown_date": date})
            assert doubt
            self.assertIn(f"has a shutdown date{shown}:", doubt)
            self.assertNotIn("MODELMARK", doubt)

    def test_servers_that_say_nothing(self) -> None:
        for body in (b"", b"<html>", b"[]", {}, {"data": None}, {"data": []}, {"data": [7]}):
            self.assertIsNone(doubts(reply(body), "gpt-6-luna"))
        for status in (401, 403, 404, 500):
            self.assertIsNone(self.doubts({"id": "other"}, status=status))
        self.assertIsNone(self.doubts({"id": "other"}, flaw="was cut short"))

    @settings(deadline=None)
    @given(st.binary())
    def test_anything(self, body: bytes) -> None:
        doubts(reply(body), "gpt-6-luna")

    def test_asked_of_the_server(self) -> None:
        for outcome in (NotSent("x"), NoReply("x"), reply(b"", 404)):
            peer = FakePeer(outcome)
            model = OpenAI(peer, Clock(), CONFIG)  # type: ignore[arg-type]
            self.assertIsNone(self.successResultOf(Deferred.fromCoroutine(model.doubts())))
            ((url, headers, *_),) = peer.posted
            self.assertEqual(url, "https://api.openai.com/v1/models")
            self.assertTrue(headers.hasHeader("authorization"))
