"""Who may talk to the admin site: without credentials nobody but whoever is on this machine.

`kubectl port-forward` counts as being there, as it connects from inside the pod. The metrics alone
are for all who reach the site. And no web page but its own may, whatever a browser is made to send:
what browsers tell of that is read in `origin`. A page of any other origin can't set a header of its
own without being allowed to by CORS, of which we send nothing.
"""

from chatgpt_source.config import Credentials
from chatgpt_source.http.listen import is_exposed, is_over_loopback
from chatgpt_source.http.server import BoundedRequest, Problem
from chatgpt_source.intake.auth import Guard
from chatgpt_source.intake.origin import is_foreign, is_known_host, only

REQUESTED_WITH = "chatgpt-source"
"""What the X-Requested-With of each POST must be."""


class Admission:
    """Says who may use the admin site, by their connection and the head of their request.

    Args:
        credentials: What callers have to show, if anything.
        where: The endpoint string of the site.
    """

    def __init__(self, credentials: Credentials | None, where: str) -> None:
        self._guard = Guard(credentials) if credentials is not None else None
        self._where = where
        self._exposed = is_exposed(where)

    def refusal(self, request: BoundedRequest) -> Problem | None:
        """Why a request is refused, if it is.

        With credentials any name will do: a browser gives none of those it keeps for us to a page
        of another name. The metrics, which tell little, go to any address and by any name.
        """
        if self._guard is not None:
            refusal = self._guard.refusal(request)
        elif request.route() == "/metrics":
            refusal = None
        else:
            refusal = self._from_elsewhere(request) or _other_host(request)
        reading = request.method in {b"GET", b"HEAD"}
        return refusal or (None if reading else _other_origin(request))

    def _from_elsewhere(self, request: BoundedRequest) -> Problem | None:
        """The refusal of whoever may be a stranger: addresses in headers are only said to be so."""
        host = request.channel.getHost()  # type: ignore[no-untyped-call]
        if not self._exposed or is_over_loopback(self._where, host):
            return None
        return Problem(
            403,
            "without credentials only the metrics can be had from elsewhere: come from this machine"
            " as localhost (`kubectl port-forward` does), or set `admin_auth`",
        )


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
