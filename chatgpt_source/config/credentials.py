"""Reads `auth` and `admin_auth`: the tokens and passwords of callers."""

import re
from collections.abc import Mapping
from typing import Any

from attrs import field, frozen

from chatgpt_source.config.readers import Environ, Wrong, reworded
from chatgpt_source.config.secret import Secret
from chatgpt_source.config.secrets import FORMS, Form, secret

EXPECTED = "a mapping with `bearer` (a list of tokens), `basic` (users and passwords), or both"
TOKEN = Form(r"[A-Za-z0-9._~+/-]+=*", "letters, digits and -._~+/ (RFC 6750)")
"""RFC 6750, section 2.1."""
_LINE = r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]+"
PASSWORD = Form(_LINE, "one line of text", lambda s: s.removesuffix("\n").removesuffix("\r"))
"""RFC 7617, section 2: no control characters. A file's last line end is not part of it."""
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
    with reworded(f"{EXPECTED}; "):
        return Credentials(
            bearer=_bearer(value["bearer"], environ) if "bearer" in value else (),
            basic=_basic(value["basic"], environ) if "basic" in value else {},
        )


def _bearer(value: Any, environ: Environ) -> tuple[Secret, ...]:
    if not isinstance(value, list) or not value:
        raise Wrong(f"`bearer` must be a list of tokens, each {FORMS}")
    read, tokens = secret(TOKEN), []
    for number, given in enumerate(value, 1):
        with reworded(f"token no. {number} must be "):
            tokens.append(read(given, environ))
    return tuple(tokens)


def _basic(value: Any, environ: Environ) -> dict[str, Secret]:
    if not isinstance(value, dict) or not value:
        raise Wrong(f"`basic` must be a mapping of users to passwords, each {FORMS}")
    read, passwords = secret(PASSWORD), {}
    for number, (user, given) in enumerate(value.items(), 1):
        if not isinstance(user, str) or not re.fullmatch(_USER, user):
            raise Wrong(f"the name of user no. {number} must be text without a colon")
        with reworded(f"the password of user no. {number} must be "):
            passwords[user] = read(given, environ)
    return passwords
