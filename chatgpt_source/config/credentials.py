"""Reads `auth` and `admin_auth`: the tokens and passwords of callers."""

import re
from collections.abc import Mapping
from typing import Any

from attrs import field, frozen

from chatgpt_source.config.readers import Environ, Reader, Wrong
from chatgpt_source.config.secret import Secret, SecretUnusable
from chatgpt_source.config.secrets import FORMS, secret

EXPECTED = "a mapping with `bearer` (a list of tokens), `basic` (users and passwords), or both"
_A_TOKEN = "letters, digits and -._~+/ (RFC 6750)"  # noqa: S105 - says so
_A_PASSWORD = "one line of text"  # noqa: S105 - says so
_LINE = r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]+"
_USER = _LINE.replace("^", "^:")


@frozen
class Credentials:
    """The credentials of callers.

    Attributes:
        bearer: Tokens (RFC 6750).
        basic: Passwords by user (RFC 7617).
    """

    bearer: tuple[Secret, ...] = ()
    basic: Mapping[str, Secret] = field(factory=dict, repr=False)


def credentials(value: Any, environ: Environ) -> Credentials:
    """The credentials in a setting."""
    if not isinstance(value, dict) or not value or set(value) - {"bearer", "basic"}:
        raise Wrong(EXPECTED)
    bearer, basic = value.get("bearer"), value.get("basic")
    try:
        return Credentials(
            bearer=_bearer(bearer, environ) if "bearer" in value else (),
            basic=_basic(basic, environ) if "basic" in value else {},
        )
    except Wrong as wrong:
        raise Wrong(f"{EXPECTED}; {wrong}") from None


def _bearer(value: Any, environ: Environ) -> tuple[Secret, ...]:
    if not isinstance(value, list) or not value:
        raise Wrong(f"`bearer` must be a list of tokens, each {FORMS}")
    return tuple(
        _named(f"token no. {number}", _read_token, given, environ)
        for number, given in enumerate(value, 1)
    )


def _basic(value: Any, environ: Environ) -> dict[str, Secret]:
    if not isinstance(value, dict) or not value:
        raise Wrong(f"`basic` must be a mapping of users to passwords, each {FORMS}")
    passwords = {}
    for number, (user, given) in enumerate(value.items(), 1):
        if not isinstance(user, str) or not re.fullmatch(_USER, user):
            raise Wrong(f"the name of user no. {number} must be text without a colon")
        name = f"the password of user no. {number}"
        passwords[user] = _named(name, _read_password, given, environ)
    return passwords


def _named(name: str, read: Reader, value: Any, environ: Environ) -> Secret:
    try:
        read_secret: Secret = read(value, environ)
    except Wrong as wrong:
        raise Wrong(f"{name} must be {wrong}") from None
    return read_secret


def _token(value: str) -> str:
    """RFC 6750, section 2.1."""
    if not re.fullmatch(r"[A-Za-z0-9._~+/-]+=*", value.strip()):
        raise SecretUnusable(_A_TOKEN)
    return value.strip()


def _password(value: str) -> str:
    """RFC 7617, section 2: no control characters. A file's last line end is not part of it."""
    value = value.removesuffix("\n").removesuffix("\r")
    if not re.fullmatch(_LINE, value):
        raise SecretUnusable(_A_PASSWORD)
    return value


_read_token = secret(_token, _A_TOKEN)
_read_password = secret(_password, _A_PASSWORD)
