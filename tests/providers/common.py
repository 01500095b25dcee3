"""What the tests of providers share."""

import json
from typing import Any

from hyperlink import EncodedURL
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http_headers import Headers

from chatgpt_source.config import Config
from chatgpt_source.config.secret import Secret
from chatgpt_source.http.client import Reply
from chatgpt_source.prompt import Prompt

TOKEN = "sk-TOKENMARK"
MARKS = ("PROMPTMARK", "MODELMARK", "TOKENMARK")
"""What no failure's text may hold."""

CONFIG = Config(target="http://target/", token=Secret(TOKEN))
PROMPT = Prompt("id", "PROMPTMARK \u00e9\n\U0001f600", "source", "type", 1.0)
DAY = 1795176000.0  # 2026-11-20T12:00:00Z


def reply(body: Any, status: int = 200, flaw: str | None = None, **headers: str) -> Reply:
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
    named = {name.replace("_", "-"): [value] for name, value in headers.items()}
    return Reply(status, Headers(named), body, flaw)


class OpenAICase(SynchronousTestCase):
    def assert_discreet(self, error: BaseException) -> None:
        for shown in (str(error), repr(error), str(getattr(error, "reason", ""))):
            for mark in MARKS:
                self.assertNotIn(mark, shown)
            self.assertLess(len(shown), 300)


class FakePeer:
    """Stands in for `Client`: notes what is posted, and brings what it is told to."""

    def __init__(self, outcome: Reply | BaseException) -> None:
        self.outcome = outcome
        self.posted: list[tuple[str, Headers, bytes, float, int]] = []
        self.fresh: list[bool] = []

    async def get(self, url: EncodedURL, headers: Headers, *, timeout: float, most: int) -> Reply:
        return await self.post(url, headers, b"", timeout=timeout, most=most)

    async def post(
        self,
        url: EncodedURL,
        headers: Headers,
        body: bytes,
        *,
        timeout: float,
        most: int,
        fresh: bool = False,
    ) -> Reply:
        self.fresh.append(fresh)
        self.posted.append((url.to_text(), headers, body, timeout, most))
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome
