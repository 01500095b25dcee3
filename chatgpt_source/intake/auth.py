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


@frozen
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
        return Problem(
            401,
            f"this needs credentials: send {' or '.join(self._forms())}",
            {"WWW-Authenticate": self._challenges(any(map(_is_bearer, given)))},
        )

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

    def _forms(self) -> list[str]:
        bearer = ["`Authorization: Bearer <token>`"] if self._credentials.bearer else []
        basic = (
            ["`Authorization: Basic <user:password in base64>`"] if self._credentials.basic else []
        )
        return bearer + basic

    def _challenges(self, token_shown: bool) -> tuple[str, ...]:  # noqa: FBT001 - private
        """WWW-Authenticate (RFC 9110, section 11.6.1) for each configured scheme."""
        error = ', error="invalid_token"' if token_shown else ""  # RFC 6750, section 3.1
        bearer = (f'Bearer realm="chatgpt-source"{error}',) if self._credentials.bearer else ()
        basic = 'Basic realm="chatgpt-source", charset="UTF-8"'
        return bearer + ((basic,) if self._credentials.basic else ())


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
