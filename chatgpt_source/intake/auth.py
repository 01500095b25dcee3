"""Checks a request's credentials, and refuses others with a 401.

Neither the response nor its timing says which part was wrong: the given credentials are compared
with all known ones, by digests of equal length.
"""

import hmac
from base64 import b64decode
from collections.abc import Collection
from hashlib import sha256
from secrets import token_bytes

from attrs import frozen

from chatgpt_source.config import Credentials
from chatgpt_source.http.server import BoundedRequest, Problem

_KEY = token_bytes(32)


@frozen(eq=False, repr=False)
class Guard:
    """Refuses requests without valid credentials.

    Args:
        credentials: The valid credentials.
        open_paths: The paths that need none.
    """

    _credentials: Credentials
    _open_paths: Collection[str] = ()

    def refusal(self, request: BoundedRequest) -> Problem | None:
        """The 401 for a request, by its head; None if it may pass."""
        if request.route() in self._open_paths:
            return None
        given = request.requestHeaders.getRawHeaders(b"authorization", [])
        if len(given) == 1 and self._allows(given[0]):
            return None
        return self._demand(token_shown=any(map(_is_bearer, given)))

    def _allows(self, given: bytes) -> bool:
        scheme, _, shown = given.strip().partition(b" ")
        shown = shown.strip()
        allowed = False
        if scheme.lower() == b"bearer":
            for token in self._credentials.bearer:
                allowed |= _same(token.read(), shown)
        elif scheme.lower() == b"basic":
            user, _, password = _decoded(shown).partition(b":")
            for name, secret in self._credentials.basic.items():
                right = _same(secret.read(), password)  # for every user, known or not
                allowed |= _same(name, user) & right
        return allowed

    def _demand(self, *, token_shown: bool) -> Problem:
        """The 401, with a WWW-Authenticate for each scheme (RFC 9110, section 11.6.1)."""
        forms, challenges = [], []
        if self._credentials.bearer:
            error = ', error="invalid_token"' if token_shown else ""  # RFC 6750, section 3.1
            forms.append("`Authorization: Bearer <token>`")
            challenges.append(f'Bearer realm="chatgpt-source"{error}')
        if self._credentials.basic:
            forms.append("`Authorization: Basic <user:password in base64>`")
            challenges.append('Basic realm="chatgpt-source", charset="UTF-8"')
        detail = f"this needs credentials: send {' or '.join(forms)}"
        return Problem(401, detail, {"WWW-Authenticate": tuple(challenges)})


def _is_bearer(given: bytes) -> bool:
    return given.strip().lower().startswith(b"bearer ")


def _decoded(shown: bytes) -> bytes:
    try:
        return b64decode(shown, validate=True)
    except ValueError:
        return b""


def _same(secret: str, shown: bytes) -> bool:
    return hmac.compare_digest(_digest(secret.encode()), _digest(shown))


def _digest(value: bytes) -> bytes:
    return hmac.digest(_KEY, value, sha256)
