"""Reads secrets from the config: the value itself, or the name of a variable or a file."""

import re
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any

from attrs import frozen

from chatgpt_source.config.readers import Environ, Reader, Wrong, file, reworded, text
from chatgpt_source.config.secret import Secret, SecretUnusable

FORMS = "as it is, {env: NAME} or {file: /absolute/path}"


@frozen
class Form:
    """What the text of a secret must be.

    Attributes:
        pattern: A regular expression for all of it.
        expected: The same in words.
        strip: Removes what may stand around the secret.
    """

    pattern: str
    expected: str
    strip: Callable[[str], str] = str.strip

    def __call__(self, given: str) -> str:
        """The secret in a text.

        Raises:
            SecretUnusable: If there is none.
        """
        value = self.strip(given)
        if not re.fullmatch(self.pattern, value):
            raise SecretUnusable(self.expected)
        return value


API_KEY = Form(r"[\x21-\x7e]+", "the API key: printable ASCII without spaces")
HEADER = Form(r"[\x20-\x7e\t]*", "one line of printable ASCII")
"""RFC 9110, section 5.5, without obsolete characters."""
PASSWORD = Form(r"[^\0\r\n]+", "the password: one line", lambda text: text.rstrip("\r\n"))
WEBHOOK = Form(
    r"whsec_(?=[A-Za-z0-9+/])([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}={0,2}|[A-Za-z0-9+/]{3}=?|=*)",
    "whsec_ and then base64 (Standard Webhooks)",
)


def secret(form: Form) -> Reader:
    """Reads a secret: the value itself, or the name of a variable or a file."""

    def read(value: Any, environ: Environ) -> Secret:
        wanted = f"{form.expected}, {FORMS}"
        try:
            if not isinstance(value, dict):
                return Secret(form(text(value, environ)))
            if set(value) == {"file"}:
                return Secret.of_file(file(value["file"], environ), form)
            if set(value) == {"env"} and isinstance(value["env"], str):
                return Secret(form(text(environ.get(value["env"]), environ)))
        except SecretUnusable as error:
            about = f"; {error}" if isinstance(value, dict) and "file" in value else ""
            raise Wrong(wanted + about) from None
        except Wrong:
            pass
        if isinstance(value, dict) and set(value) == {"env"}:
            wanted += "; the variable it names is not set, or is empty"
        raise Wrong(wanted)

    return read


def secret_file(form: Form) -> Reader:
    """The path of a file that holds a secret."""

    def read(value: Any, environ: Environ) -> Secret:
        try:
            return Secret.of_file(file(value, environ), form)
        except SecretUnusable as error:
            expected = f"the absolute path of a file that holds {form.expected}"
            raise Wrong(f"{expected}; {error}") from None

    return read


def headers(*reserved: str) -> Reader:
    """A mapping of header names to values, each a secret.

    Args:
        reserved: Names, in lower case, that the user must not set; `*` is a wildcard.
    """
    wanted = f"a mapping of header names to values, each {FORMS}"
    read_value = secret(HEADER)

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
            with reworded(f"{wanted}; {shown} must be "):
                read_headers[name] = read_value(given, environ)
        return read_headers

    return read


def webhook_secrets(value: Any, environ: Environ) -> tuple[Secret, ...]:
    """A Standard Webhooks secret, or a list of them while they are rotated."""
    read = secret(WEBHOOK)
    many = value if isinstance(value, list) and value else [value]
    with reworded("", "; or a list of such"):
        return tuple(read(each, environ) for each in many)
