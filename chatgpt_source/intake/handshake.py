"""The handshake of CloudEvents webhooks: who may send events here (HTTP 1.1 Web Hooks, 4). Pure."""

import re
from collections.abc import Collection, Mapping

from chatgpt_source.http.server import BoundedRequest, Problem

ANY = "*"
"""Stands for every sender, and for any rate."""


def is_handshake(request: BoundedRequest) -> bool:
    """Whether a sender asks for permission to send events; it has no credentials yet."""
    if request.method != b"OPTIONS" or request.route() != "/":
        return False
    return request.requestHeaders.hasHeader(b"webhook-request-origin")


def permission(
    request: BoundedRequest, origins: Collection[str]
) -> Mapping[str, str | tuple[str, ...]] | None:
    """The headers that permit a sender to send events; None if it has not asked.

    Args:
        request: The request.
        origins: The senders that may send events; `ANY` for all.

    Raises:
        Problem: If it may not send events.
    """
    if not is_handshake(request):
        return None
    origin = (request.only_header("webhook-request-origin") or "").lower()
    allowed = next((each for each in origins if each == ANY or each.lower() == origin), None)
    if allowed is None:
        detail = "this host may not send events: `webhook_origins` does not list it"
        raise Problem(405, detail, {"Allow": "POST"})
    granted = {"Allow": "POST", "WebHook-Allowed-Origin": allowed}
    rate = request.only_header("webhook-request-rate")
    if rate:
        granted["WebHook-Allowed-Rate"] = rate if re.fullmatch("[1-9][0-9]{0,9}", rate) else ANY
    return granted
