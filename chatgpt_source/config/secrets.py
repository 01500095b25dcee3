"""Reads secrets from the config: the value itself, or the name of a variable or a file."""

import re
from base64 import b64decode
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any

from chatgpt_source.config.readers import Environ, Reader, Wrong, file, text
from chatgpt_source.config.secret import Secret, SecretUnusable

FORMS = "as it is, {env: NAME} or {file: /absolute/path}"


def secret(check: Callable[[str], str], expected: str) -> Reader:
    """Reads a secret in one of its forms.

    Args:
        check: Returns the secret in its text; raises SecretUnusable if there is none.
        expected: What it must be, in words.
    """

    def read(value: Any, environ: Environ) -> Secret:
        wanted = f"{expected}, {FORMS}"
        try:
            if not isinstance(value, dict):
                return Secret(check(text(value, environ)))
            if set(value) == {"file"}:
                return Secret.of_file(file(value["file"], environ), check)
            if set(value) == {"env"} and isinstance(value["env"], str):
                return Secret(check(text(environ.get(value["env"]), environ)))
        except SecretUnusable as error:
            about = f"; {error}" if isinstance(value, dict) and "file" in value else ""
            raise Wrong(wanted + about) from None
        except Wrong:
            pass
        if isinstance(value, dict) and set(value) == {"env"}:
            wanted += "; the variable it names is not set, or is empty"
        raise Wrong(wanted)

    return read


def secret_file(check: Callable[[str], str], expected: str) -> Reader:
    """The path of a file that holds a secret; arguments as for `secret`."""

    def read(value: Any, environ: Environ) -> Secret:
        try:
            return Secret.of_file(file(value, environ), check)
        except SecretUnusable as error:
            raise Wrong(f"the absolute path of a file that holds {expected}; {error}") from None

    return read


def api_key(value: str) -> str:
    """An API key that can be sent in a header."""
    if not re.fullmatch(r"[\x21-\x7e]+", value.strip()):
        raise SecretUnusable(API_KEY)
    return value.strip()


API_KEY = "the API key: printable ASCII without spaces"


def _header_value(value: str) -> str:
    """A header's value (RFC 9110, section 5.5), without obsolete characters."""
    if not re.fullmatch(r"[\x20-\x7e\t]*", value.strip()):
        raise SecretUnusable("a header's value: one line of printable ASCII")
    return value.strip()


def headers(*reserved: str) -> Reader:
    """A mapping of header names to values, each a secret.

    Args:
        reserved: Names, in lower case, that the user must not set; `*` is a wildcard.
    """
    wanted = f"a mapping of header names to values, each {FORMS}"
    read_value = secret(_header_value, "one line of printable ASCII")

    def read(value: Any, environ: Environ) -> dict[str, Secret]:
        if not isinstance(value, dict):
            raise Wrong(wanted)
        read_headers: dict[str, Secret] = {}
        for number, (name, given) in enumerate(value.items(), 1):
            if not isinstance(name, str) or not re.fullmatch(
                r"[!#$%&'*+.^_`|~\w-]+", name, re.ASCII
            ):
                raise Wrong(f"{wanted}; the name of its header no. {number} can't be one")
            shown = name if re.fullmatch(r"[A-Za-z-]{1,40}", name) else f"its header no. {number}"
            if any(fnmatchcase(name.lower(), pattern) for pattern in reserved):
                raise Wrong(f"{wanted}, without {shown}, which is set by the call itself")
            if name.lower() in {known.lower() for known in read_headers}:
                raise Wrong(f"{wanted}; {shown} is there twice")
            try:
                read_headers[name] = read_value(given, environ)
            except Wrong as wrong:
                raise Wrong(f"{wanted}; {shown} must be {wrong}") from None
        return read_headers

    return read


WEBHOOK = "whsec_ and then base64 (Standard Webhooks)"


def _webhook_secret(value: str) -> str:
    prefix, _, encoded = value.strip().partition("_")
    try:
        if prefix == "whsec" and b64decode(encoded + "=" * (-len(encoded) % 4), validate=True):
            return value.strip()
    except ValueError:
        pass
    raise SecretUnusable(WEBHOOK)


def webhook_secrets(value: Any, environ: Environ) -> tuple[Secret, ...]:
    """A Standard Webhooks secret, or a list of them while they are rotated."""
    read = secret(_webhook_secret, WEBHOOK)
    many = value if isinstance(value, list) and value else [value]
    try:
        return tuple(read(each, environ) for each in many)
    except Wrong as wrong:
        raise Wrong(f"{wrong}; or a list of such") from None
