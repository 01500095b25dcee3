"""HTTP at the edge, for whatever listens: bodies within bounds, answers, and problems.

A refusal is `application/problem+json` (RFC 9457). No prompt, no answer and no header of a caller's
ever appears in one.
"""

from urllib.parse import urlsplit

from chatgpt_source.http.server.problem import Problem, to_json
from chatgpt_source.http.server.request import BoundedRequest
from chatgpt_source.http.server.site import BoundedSite, Handler

__all__ = [
    "BoundedRequest",
    "BoundedSite",
    "Handler",
    "Problem",
    "origin_of",
    "to_json",
]


def origin_of(url: str) -> str:
    """A URL's scheme, host and port: the rest may hold a secret."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
