"""Parses endpoint strings as Twisted does."""

import os
import re
import socket
from pathlib import Path

from attrs import frozen


class PortUnavailable(Exception):
    """The daemon can't listen; the text is one line that says where, why, and what to do.

    Attributes:
        taken: Whether another process listens there.
    """

    def __init__(self, text: str, *, taken: bool = False) -> None:
        super().__init__(text)
        self.taken = taken


EXPECTED = (
    "must be an endpoint string of Twisted's, like tcp:8080:interface=127.0.0.1,"
    " unix:/run/chatgpt-source/socket, ssl:8443:privateKey=/path/key.pem:certKey=/path/cert.pem or"
    " systemd:domain=INET:index=0"
)
FILES = ("privateKey", "certKey", "extraCertChain", "dhParameters", "clientCA")
"""Arguments of `ssl:` that are paths of files."""
REUSE_PORT = "reusePort"
"""The argument, ours and not Twisted's, that lets other processes share the port."""
_LONGEST_PATH = 100
"""Bytes that a UNIX socket's path may have on every supported system."""


@frozen
class Parsed:
    """The parts of an endpoint string.

    Attributes:
        kind: The part before the first colon.
        positional: The arguments without a name.
        named: The arguments with a name.
    """

    kind: str
    positional: tuple[str, ...]
    named: dict[str, str]

    def argument(self, name: str, place: int | None = None) -> str | None:
        """An argument by its name or its position; None if it is missing."""
        if place is not None and place < len(self.positional):
            return self.positional[place]
        return self.named.get(name)

    @property
    def port(self) -> str:
        """The port, for kinds that have one."""
        return self.argument("port", 0) or ""

    @property
    def interface(self) -> str:
        """The interface, for kinds that have one."""
        place = {"tcp": 1, "tcp6": 2}.get(self.kind)
        return self.argument("interface", place) or ("::" if self.kind == "tcp6" else "")

    @property
    def is_shared(self) -> bool:
        """Whether other processes may share the port."""
        return self.named.get(REUSE_PORT) == "yes"


def parse(string: str) -> Parsed:
    """Parse Twisted's syntax: a colon ends an argument, `=` a name, and a backslash quotes."""
    kind, *arguments = _split(string, ":")
    positional: list[str] = []
    named: dict[str, str] = {}
    for argument in arguments:
        name, *value = _split(argument, "=")
        if value:
            named[_unquoted(name)] = _unquoted("=".join(value))
        else:
            positional.append(_unquoted(name))
    return Parsed(_unquoted(kind), tuple(positional), named)


def without(string: str, name: str) -> str:
    """An endpoint string without one of its named arguments."""
    pieces = _split(string, ":")
    return ":".join(piece for piece in pieces if not piece.startswith(f"{name}="))


def _split(text: str, separator: str) -> list[str]:
    """Split at separators that no backslash quotes."""
    pieces = [""]
    for piece in re.findall(r"(?s)\\.|.", text):
        if piece == separator:
            pieces.append("")
        else:
            pieces[-1] += piece
    return pieces


def _unquoted(text: str) -> str:
    return re.sub(r"(?s)\\(.)", r"\1", text)


def check_arguments(parsed: Parsed) -> None:
    """Check the arguments that Twisted's parsers would accept or misread.

    Raises:
        PortUnavailable: If one is wrong; the text continues after the key's name.
    """
    if parsed.kind in {"tcp", "tcp6", "ssl"} and not re.fullmatch("[0-9]{1,5}", parsed.port):
        raise PortUnavailable(EXPECTED)
    if parsed.kind in {"tcp", "tcp6", "ssl"} and int(parsed.port) > 65535:
        raise PortUnavailable("must have a port of at most 65535")
    if REUSE_PORT in {*parsed.named, *parsed.positional}:
        _check_reuse(parsed)
    path = parsed.argument("address", 0) if parsed.kind == "unix" else "/"
    folder = parsed.argument("path", 0) or "" if parsed.kind == "tls" else None
    for given in (path, folder, *(parsed.named.get(name) for name in FILES)):
        if given is not None and not Path(given).is_absolute():
            raise PortUnavailable("must have absolute paths only")
    if len(os.fsencode(path or "")) > _LONGEST_PATH:
        raise PortUnavailable(f"must have a path of at most {_LONGEST_PATH} bytes")


def _check_reuse(parsed: Parsed) -> None:
    elsewhere = {
        "unix": "can't be shared at one path: give each process a unix: socket of its own",
        "systemd": "can't have reusePort: set ReusePort=yes in the .socket unit instead",
    }
    if parsed.kind not in {"tcp", "tcp6", "ssl"}:
        other = "can have reusePort with tcp:, tcp6: and ssl: only"
        raise PortUnavailable(elsewhere.get(parsed.kind, other))
    if parsed.named.get(REUSE_PORT) not in {"yes", "no"}:
        raise PortUnavailable("must have yes or no as its reusePort")
    if parsed.is_shared and int(parsed.port) == 0:
        raise PortUnavailable("must name a port to share it by reusePort=yes: 0 is a free one")
    if parsed.is_shared and not hasattr(socket, "SO_REUSEPORT"):
        raise PortUnavailable("can't have reusePort=yes: this system has no SO_REUSEPORT")
