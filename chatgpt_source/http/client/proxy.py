"""Reads the environment's proxy variables, and chooses the proxy of a call. Pure.

There is no standard for them; this works as in curl. Of HTTPS_PROXY and https_proxy the lower-case
one wins, ALL_PROXY replaces both HTTPS_PROXY and HTTP_PROXY, and an empty variable counts as not
set. https:// and SOCKS proxies are refused.
"""

import re
from base64 import b64encode
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import unquote_to_bytes

from attrs import field, frozen

DEFAULT_PORT = 80
_LABEL = r"[A-Za-z0-9_-]{1,63}"
_AUTHORITY = re.compile(
    rf"(?:(?P<user>[^/?#]*)@)?(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<name>{_LABEL}(?:\.{_LABEL})*\.?))"
    r"(?::(?P<port>[0-9]*))?/?"
)
_EXPECTED = (
    "must be an HTTP proxy like http://proxy.example:3128 or http://user:password@proxy.example:3128"
    " (no https:// or SOCKS, special characters percent-encoded): correct it, or unset it"
)
_EXEMPT = re.compile(
    r"(?:\[(?P<six>[^\]]*)\](?P<bits>/\d+)?|(?P<name>[^:\[\]]+))(?::(?P<port>\d+))?"
)


class ProxyMistake(ValueError):
    """Wrong variables; the text has a line for each, without its value."""

    @property
    def lines(self) -> tuple[str, ...]:
        """What is wrong, which variable each."""
        return tuple(map(str, self.args))

    def __str__(self) -> str:
        return "; ".join(self.lines)


@frozen
class Proxy:
    """An HTTP proxy.

    Attributes:
        host: A name or an address, IPv6 without brackets.
        port: Its port.
        authorization: The value of `Proxy-Authorization`, if any (RFC 7617).
        variable: The variable that names it, for error messages.
    """

    host: str
    port: int
    authorization: bytes | None = field(default=None, repr=False)
    variable: str = field(default="", eq=False)


@frozen
class Exempt:
    """Hosts that are reached without a proxy: an entry of NO_PROXY.

    Attributes:
        hosts: A name in lower case, with its subdomains; or addresses; None: all.
        port: The only port that it applies to; None: all.
    """

    hosts: str | IPv4Network | IPv6Network | None
    port: int | None = None

    def covers(self, name: str, address: IPv4Address | IPv6Address | None, port: int) -> bool:
        """Whether it applies to a host, given as a name in lower case or as an address."""
        if self.port not in {None, port}:
            return False
        if self.hosts is None:
            return True
        if isinstance(self.hosts, str):
            return address is None and f".{name}".endswith(f".{self.hosts}")
        return address is not None and address in self.hosts


@frozen
class Proxies:
    """The proxies of a process.

    Attributes:
        http: The one for http:// URLs.
        https: The one for https:// URLs.
        exempt: Hosts that are reached directly.
    """

    http: Proxy | None = None
    https: Proxy | None = None
    exempt: tuple[Exempt, ...] = ()

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> "Proxies":
        """Read HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY, and their lower-case forms.

        Raises:
            ProxyMistake: If one that is used is not an HTTP proxy.
        """
        found: dict[str, Proxy | None] = {}
        mistakes: dict[str, None] = {}
        for scheme in ("http", "https"):
            names = (f"{scheme}_proxy", f"{scheme}_proxy".upper(), "all_proxy", "ALL_PROXY")
            variable = _first_set(environ, *names)
            if variable is not None:
                found[scheme] = _proxy(environ[variable].strip(), variable)
                if found[scheme] is None:
                    mistakes[f"{variable} {_EXPECTED}"] = None
        if mistakes:
            raise ProxyMistake(*mistakes)
        exempt = _first_set(environ, "no_proxy", "NO_PROXY")
        return cls(
            found.get("http"), found.get("https"), _exempt(environ[exempt]) if exempt else ()
        )

    def of(self, scheme: str, host: str, port: int) -> Proxy | None:
        """The proxy for a URL with this scheme, host and port; None if there is none."""
        proxy = {"http": self.http, "https": self.https}.get(scheme)
        if proxy is None or not self.exempt:
            return proxy
        name = host.strip("[]").lower().rstrip(".")
        try:
            address = ip_address(name)
        except ValueError:
            address = None
        return None if any(entry.covers(name, address, port) for entry in self.exempt) else proxy


def _first_set(environ: Mapping[str, str], *names: str) -> str | None:
    return next((name for name in names if environ.get(name, "").strip()), None)


def _proxy(value: str, variable: str) -> Proxy | None:
    """The proxy that a value names; None if it names none."""
    scheme, separator, authority = value.partition("://")
    if not separator:
        authority = value
    elif scheme.lower() != "http":
        return None
    match = _AUTHORITY.fullmatch(authority)
    if match is None:
        return None
    try:
        host = str(IPv6Address(match["six"])) if match["six"] else match["name"]
        credentials = match["user"] and match["user"].encode("utf-8", "surrogateescape")
    except ValueError:
        return None
    port = int(f"0{match['port'][:6]}") if match["port"] else DEFAULT_PORT
    if not 0 < port < 2**16:
        return None
    return Proxy(host, port, _basic(credentials) if credentials else None, variable)


def _basic(userinfo: bytes) -> bytes:
    """Userinfo of a URL as Basic credentials (RFC 7617); a missing password is empty."""
    user, _, password = userinfo.partition(b":")
    return b"Basic " + b64encode(unquote_to_bytes(user) + b":" + unquote_to_bytes(password))


def _exempt(value: str) -> tuple[Exempt, ...]:
    """The entries of NO_PROXY; those meant for other programs (`<local>`, a path) match nothing."""
    entries = (_entry(word.lower()) for word in re.split(r"[,\s]+", value) if word)
    return tuple(entry for entry in entries if entry is not None)


def _entry(word: str) -> Exempt | None:
    try:
        return Exempt(ip_network(word, strict=False))
    except ValueError:
        match = _EXEMPT.fullmatch(word)
    if match is None:
        return None
    port = int(match["port"][:6]) if match["port"] else None
    name = match["name"]
    if name == "*":
        return Exempt(None, port)
    try:
        return Exempt(ip_network(name or match["six"] + (match["bits"] or ""), strict=False), port)
    except ValueError:
        name = (name or "").removeprefix("*").strip(".")
    return Exempt(name, port) if name else None
