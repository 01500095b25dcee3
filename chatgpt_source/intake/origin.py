"""Refuses requests that a browser sent for another site's page; other callers are not affected.

A page of any site can make its visitor's browser send a request here with a body, though it can't
read the response. A page whose name was made to resolve to this machine (DNS rebinding) has the
same origin as this server, but its requests have that name as their Host.
"""

import re
from collections.abc import Collection
from ipaddress import ip_address

from attrs import frozen

from chatgpt_source.http.listen.address import is_loopback
from chatgpt_source.http.server import BoundedRequest, Problem
from chatgpt_source.intake.auth import Guard
from chatgpt_source.intake.handshake import is_handshake

WORD = "cross_site"
"""The reason of such a refusal, for the log and the metrics."""
ANOTHER_SITE = (
    "another site's page must not send this: send credentials, or list the page's origin in"
    " `allow_origins`"
)
ANOTHER_NAME = (
    "a page must use an IP address or localhost as the host: use one of these in its URL, send"
    " credentials, or list the page's origin in `allow_origins`"
)


@frozen(eq=False, repr=False)
class AccessPolicy:
    """Decides who may send prompts, by the head of the request.

    Attributes:
        guard: Checks credentials; None if none are required.
        allowed: The other origins whose pages may send prompts without credentials.
    """

    guard: Guard | None
    allowed: Collection[str] = ()

    def refusal(self, request: BoundedRequest) -> Problem | None:
        """Why a request is refused; None if it is not."""
        if is_handshake(request):
            return None
        unknown = self.guard.refusal(request) if self.guard is not None else None
        shown = self.guard is not None and unknown is None
        spends = request.method == b"POST" and request.route() in {"/", "/prompts"}
        if not spends or shown or not _is_of_a_page(request):
            return unknown
        if (request.only_header("origin") or "").lower() in self.allowed:
            return unknown
        if is_foreign(request):
            return Problem(403, ANOTHER_SITE, word=WORD)
        if _is_misnamed(request):
            return Problem(403, ANOTHER_NAME, word=WORD)
        return unknown


def _is_of_a_page(request: BoundedRequest) -> bool:
    """Whether a browser sent the request for a page."""
    fields = request.requestHeaders
    return fields.hasHeader(b"sec-fetch-site") or fields.hasHeader(b"origin")


def is_foreign(request: BoundedRequest) -> bool:
    """Whether a browser says that a page of another origin sent the request."""
    site, origin = request.only_header("sec-fetch-site"), request.only_header("origin")
    host = (request.only_header("host") or "").lower()
    own = origin is not None and origin.lower() in {f"http://{host}", f"https://{host}"}
    if origin is not None and not own:
        return True
    return site not in {None, "same-origin", "none"} and not (site == "same-site" and own)


def is_known_host(host: str) -> bool:
    """Whether a Host is an IP address or a name of loopback (RFC 6761, 6.3)."""
    found = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9.-]+))(?::[0-9]*)?", host)
    if found is None:
        return False
    name = found[1] or found[2].lower().removesuffix(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _is_misnamed(request: BoundedRequest) -> bool:
    """Whether a page reached loopback by a name that a stranger may have set (DNS rebinding)."""
    known = is_known_host(request.only_header("host") or "")
    return not known and is_loopback(getattr(request.host, "host", ""))
