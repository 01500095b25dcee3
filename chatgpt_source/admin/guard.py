"""Who may use the admin site: without credentials, only callers on this machine.

`kubectl port-forward` counts as this machine, because it connects from inside the pod. All callers
get the metrics and the probes, and the probes without credentials. No web page may use the site but
its own: `origin` reads what browsers say about that. A page of another origin could set a header of
its own only if we allowed it by CORS headers, and we send none.
"""

from chatgpt_source.config import Credentials
from chatgpt_source.http.listen import is_exposed, is_over_loopback
from chatgpt_source.http.server import BoundedRequest, Problem
from chatgpt_source.intake.auth import Guard
from chatgpt_source.intake.health import PROBES
from chatgpt_source.intake.origin import is_foreign, is_known_host

REQUESTED_WITH = "chatgpt-source"
"""The value that each POST must have in X-Requested-With."""


class Admission:
    """Decides who may use the admin site, by the connection and the head of the request.

    Args:
        credentials: The credentials that callers must have; None if they need none.
        where: The endpoint string of the site.
    """

    def __init__(self, credentials: Credentials | None, where: str) -> None:
        self._guard = Guard(credentials, PROBES) if credentials is not None else None
        self._where = where
        self._exposed = is_exposed(where)

    def refusal(self, request: BoundedRequest) -> Problem | None:
        """Why a request is refused; None if it is not.

        With credentials, the Host does not matter: a browser does not send the credentials that it
        has for us to another name. The metrics and the probes tell little, so any address and name
        may get them.
        """
        if self._guard is not None:
            refusal = self._guard.refusal(request)
        elif request.route() in {"/metrics", *PROBES}:
            refusal = None
        else:
            refusal = self._from_elsewhere(request) or _other_host(request)
        reading = request.method in {b"GET", b"HEAD"}
        return refusal or (None if reading else _other_origin(request))

    def _from_elsewhere(self, request: BoundedRequest) -> Problem | None:
        """The refusal of a caller from another machine; addresses in headers prove nothing."""
        host = request.channel.getHost()
        if not self._exposed or is_over_loopback(self._where, host):
            return None
        return Problem(
            403,
            "without credentials, other machines get only the metrics and the probes: call from"
            " this machine as localhost (`kubectl port-forward` does), or set `admin_auth`",
        )


def _other_host(request: BoundedRequest) -> Problem | None:
    """The refusal of a Host that is neither an address nor localhost, against DNS rebinding."""
    if is_known_host(request.only_header("host") or ""):
        return None
    return Problem(
        403,
        "without credentials this can only be reached by an IP address or as localhost:"
        " use one of these in the URL, or set `admin_auth`",
    )


def _other_origin(request: BoundedRequest) -> Problem | None:
    """The refusal of a change that another site's page may have sent."""
    if request.only_header("x-requested-with") != REQUESTED_WITH:
        return Problem(403, f"a POST must have the header X-Requested-With: {REQUESTED_WITH}")
    if request.only_header("sec-fetch-site") == "none" or is_foreign(request):
        return Problem(403, "another site's page must not send this")
    return None
