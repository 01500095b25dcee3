"""Who may talk to the admin site: no web page but its own, whatever a browser is made to send.

What browsers tell of that is read in `origin`. A page of any other origin can't set a header of its
own without being allowed to by CORS, of which we send nothing.
"""

from chatgpt_source.auth import Guard
from chatgpt_source.config import Credentials
from chatgpt_source.origin import is_foreign, is_known_host, only
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
    if is_known_host(only(request, "host") or ""):
        return None
    return Problem(
        403,
        "without credentials this can only be reached by an IP address or as localhost:"
        " use one of these in the URL, or set `admin_auth`",
    )


def _other_origin(request: BoundedRequest) -> Problem | None:
    """The refusal of a change that comes neither from our own page nor from no page at all."""
    if only(request, "x-requested-with") != REQUESTED_WITH:
        return Problem(403, f"a POST must have the header X-Requested-With: {REQUESTED_WITH}")
    if only(request, "sec-fetch-site") == "none" or is_foreign(request):
        return Problem(403, "another site's page must not send this")
    return None
