"""Says who acts on the admin site, for the log's audit lines."""

from base64 import b64decode

from chatgpt_source.config import Credentials
from chatgpt_source.http.server import BoundedRequest
from chatgpt_source.log.audit import A_BEARER, ANYBODY


def operator_of(request: BoundedRequest, credentials: Credentials | None) -> str:
    """Who sent a request that `Admission` let in.

    Args:
        request: The request.
        credentials: The credentials of the site. Without any, nobody has proved a name.

    Returns:
        The user's name; of a bearer token, and of a caller that needs no credentials, words.
    """
    if credentials is None:
        return ANYBODY
    given = request.requestHeaders.getRawHeaders(b"authorization", [])
    scheme, _, shown = b"".join(given).strip().partition(b" ")
    if scheme.lower() != b"basic":
        return A_BEARER
    return b64decode(shown.strip()).partition(b":")[0].decode("utf-8", "replace")
