"""treq's client without its layers, held to treq's own."""

from typing import Any

from treq.client import HTTPClient
from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http_headers import Headers

from chatgpt_source.http.client import FixedURL
from chatgpt_source.http.client.body import Body
from chatgpt_source.http.client.direct import DirectHTTPClient

URL = FixedURL.from_text("http://[::1]:8080/a%20b?c=%2F")


class Response:
    code = 200
    headers = Headers()


class Agent:
    """Keeps what it is asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []

    def request(self, method: bytes, uri: bytes, headers: Headers, body: Any) -> Deferred[Any]:
        fields = dict(headers.getAllRawHeaders()) if headers else {}
        fields.pop(b"Accept-Encoding", None)  # which our agent adds
        self.asked.append((method, uri, fields, body))
        return succeed(Response())


class DirectTests(SynchronousTestCase):
    def test_the_agent_is_asked_the_same(self) -> None:
        body = Body(b"abc")
        headers = Headers({"Content-Type": ["text/plain"], "X-Two": ["1", "2"]})
        asked = []
        for make in (HTTPClient, DirectHTTPClient):
            agent: Any = Agent()
            for method, given, data in (("POST", headers, body), ("GET", headers, None)):
                response = make(agent).request(
                    *(method, URL), headers=given, data=data, allow_redirects=False, unbuffered=True
                )
                self.assertEqual(self.successResultOf(response).code, 200)
            asked.append(agent.asked)
        self.assertEqual(*asked)
        self.assertEqual(len(asked[0]), 2)

    def test_an_option_that_needs_a_layer(self) -> None:
        agent: Any = Agent()
        bare = {"allow_redirects": False, "unbuffered": True}
        for options in ({}, {**bare, "allow_redirects": True}, {**bare, "cookies": {"a": "b"}}):
            with self.assertRaises(TypeError):
                DirectHTTPClient(agent).request("GET", URL, **options)
        self.assertEqual(agent.asked, [])
