"""The HTTP server: requests with bounded bodies, responses, and problems.

A refusal is `application/problem+json` (RFC 9457). It never holds a prompt, an answer or a caller's
header.
"""

from urllib.parse import urlsplit

from chatgpt_source.http.server.problem import Problem, to_json
from chatgpt_source.http.server.request import BoundedRequest, Handler
from chatgpt_source.http.server.site import BoundedSite

__all__ = [
    "BoundedRequest",
    "BoundedSite",
    "Handler",
    "Problem",
    "origin_of",
    "to_json",
]


def origin_of(url: str) -> str:
    """A URL's scheme, host and port; the rest may hold a secret."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
