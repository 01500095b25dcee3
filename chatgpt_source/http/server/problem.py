"""Problem details: refusals as responses (RFC 9457)."""

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

WORDS = {
    400: "invalid",
    401: "unauthorized",
    404: "unknown",
    405: "method",
    406: "invalid",
    408: "slow",
    409: "conflict",
    410: "gone",
    413: "too_large",
    415: "charset",
    417: "expectation",
    422: "key_reused",
    429: "quota",
    431: "too_large",
    500: "defect",
    502: "failed",
    503: "busy",
    504: "expired",
}
"""The default word for a refusal, by its status."""

PROBLEM = "application/problem+json"


class Problem(Exception):
    """A refusal, which is sent as a response.

    Attributes:
        status: The HTTP status.
        detail: What is wrong and what to do; never text of the request.
        headers: Further headers of the response; a tuple for one with several values.
        type: The problem's type, a URI.
        word: The reason in one word, for the log.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        headers: Mapping[str, str | tuple[str, ...]] | None = None,
        type: str = "about:blank",  # noqa: A002 - RFC 9457's name
        word: str = "",
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers or {}
        self.type = type
        self.word = word or WORDS.get(status, "")

    def body(self) -> bytes:
        """The problem as JSON (RFC 9457, section 3)."""
        return to_json(
            {
                "type": self.type,
                "title": HTTPStatus(self.status).phrase,
                "status": self.status,
                "detail": self.detail,
            }
        )


def too_large(limit: int) -> Problem:
    """The refusal of a body over its limit."""
    return Problem(413, f"the body must have at most {limit} bytes")


def to_json(value: Mapping[str, Any]) -> bytes:
    """A JSON object in ASCII."""
    return json.dumps(value).encode("ascii")
