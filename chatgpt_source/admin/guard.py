"""Who may talk to the admin site: no web page but its own, whatever a browser is made to send.

Two attacks come by way of an operator's browser. A page whose name is made to resolve to this
machine (DNS rebinding) counts as of one origin with us, but its requests carry that name as their
Host. A page of any other origin can send a POST, but neither read an answer nor set a header of its
own without being allowed to by CORS, of which we send nothing.
"""

import re
from ipaddress import ip_address

from chatgpt_source.auth import Guard
from chatgpt_source.config import Credentials
from chatgpt_source.web import BoundedRequest, Problem

REQUESTED_WITH = "chatgpt-source"
"""What the X-Requested-With of each POST must be."""


class Admission:
    """Says who may use the admin site, by the head of their request.

    Args:
        credentials: What callers have to show, if anything.
    """

    def __init__(self, credentials: Credentials | None) -> None:
        self._guard = Guard(credentials) if credentials is not None else None

    def refusal(self, request: BoundedRequest) -> Problem | None:
        """Why a request is refused, if it is.

        With credentials any name will do: a browser gives none of those it keeps for us to a page
        of another name. Of the metrics, which tell little, the name does not matter.
        """
        if self._guard is not None:
            refusal = self._guard.refusal(request)
        else:
            refusal = None if request.route() == "/metrics" else _other_host(request)
        reading = request.method in {b"GET", b"HEAD"}
        return refusal or (None if reading else _other_origin(request))


def _other_host(request: BoundedRequest) -> Problem | None:
    """The refusal of a name that is neither an address nor localhost: names can be made to lie."""
    if is_known_host(_only(request, "host") or ""):
        return None
    return Problem(
        403,
        "without credentials this can only be reached by an IP address or as localhost:"
        " use one of these in the URL, or set `admin_auth`",
    )


def is_known_host(host: str) -> bool:
    """Whether a Host is an IP address, or a name that is this machine's own (RFC 6761, 6.3)."""
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


def _other_origin(request: BoundedRequest) -> Problem | None:
    """The refusal of a change that comes neither from our own page nor from no page at all."""
    if _only(request, "x-requested-with") != REQUESTED_WITH:
        return Problem(403, f"a POST must have the header X-Requested-With: {REQUESTED_WITH}")
    site, origin = _only(request, "sec-fetch-site"), _only(request, "origin")
    host = (_only(request, "host") or "").lower()
    if site not in {None, "same-origin"} or (
        origin is not None and origin.lower() not in {f"http://{host}", f"https://{host}"}
    ):
        return Problem(403, "another site's page must not send this")
    return None


def _only(request: BoundedRequest, name: str) -> str | None:
    """The value of a header; empty, which is never right, where it came more than once."""
    values = request.requestHeaders.getRawHeaders(name)
    if values is None:
        return None
    return values[0].strip() if len(values) == 1 else ""
