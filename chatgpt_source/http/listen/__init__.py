"""Checks endpoint strings, and listens on them.

The strings are Twisted's (`tcp:8080:interface=127.0.0.1`, `unix:/run/x.sock`,
`systemd:domain=INET:index=0`, `ssl:8443:privateKey=...:certKey=...`, and those of its plugins). An
`ssl:` string may also have a `clientCA`; callers then need a certificate signed by it. With
`reusePort=yes`, other processes may listen at the same port (`tcp:`, `tcp6:` and `ssl:`).
"""

import errno
import os
import socket
from typing import Any

from twisted.internet.address import UNIXAddress
from twisted.internet.endpoints import (
    AdoptedStreamServerEndpoint,
    quoteStringArgument,
    serverFromString,
)
from twisted.internet.interfaces import (
    IAddress,
    IListeningPort,
    IProtocolFactory,
    IStreamServerEndpoint,
)
from twisted.python.failure import Failure

from chatgpt_source.http.listen import shared, tls
from chatgpt_source.http.listen.address import is_loopback
from chatgpt_source.http.listen.probe import (
    probe_address,
    probe_path,
    probe_socket,
    remove_stale,
)
from chatgpt_source.http.listen.string import (
    EXPECTED,
    REUSE_PORT,
    Parsed,
    PortUnavailable,
    check_arguments,
    parse,
    without,
)
from chatgpt_source.http.listen.tls import Certificates

BACKLOG = 1024
"""Connections that may wait to be accepted; Twisted's 50 is too few for a burst."""
_ANYWHERE = {"", "::", "0.0.0.0"}  # noqa: S104 - names of it
_OF_THE_KERNEL = ("tcp", "tcp6", "ssl", "unix", "systemd")
"""Kinds whose connections' addresses come from the kernel, not from a proxy."""


def port_string(port: int, interface: str) -> str:
    """The endpoint string for a port at an interface."""
    return f"tcp:{port}:interface={quoteStringArgument(interface)}"


def check(string: str, key: str = "listen") -> None:
    """Check that the daemon could listen on an endpoint string; leaves nothing open.

    Args:
        string: The string.
        key: The setting that holds it.

    Raises:
        PortUnavailable: If it can't.
    """
    parsed, endpoint = _endpoint(None, string, key)
    try:
        if parsed.is_shared:
            # One that listened would get callers, and reset them.
            shared.bind(parsed.interface, int(parsed.port)).close()
        elif parsed.kind in {"tcp", "tcp6", "ssl"}:
            probe_address(parsed.interface, int(parsed.port))
        elif parsed.kind == "unix":
            probe_path(parsed.argument("address", 0) or "")
        elif isinstance(endpoint, AdoptedStreamServerEndpoint):
            probe_socket(endpoint.fileno)
    except (OSError, ValueError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        what = f"port {parsed.port}" if parsed.port.isdigit() else f"`{parsed.kind}:`"
        taken = getattr(error, "errno", None) == errno.EADDRINUSE
        advice = "create its folder" if "folder" in reason else "stop what uses it"
        if taken and parsed.is_shared:
            reason += ", by what does not share it, or runs as another user"
        raise PortUnavailable(
            f"`{key}`: {what} can't be listened on ({reason}): {advice}, or choose another",
            taken=taken,
        ) from None


def listen(
    reactor: Any,
    string: str,
    factory: IProtocolFactory,
    key: str = "listen",
    renewable: dict[str, Certificates] | None = None,
) -> IListeningPort:
    """Listen on an endpoint string, with room for a burst of callers.

    Args:
        reactor: Listens.
        string: The string.
        factory: Makes the protocols.
        key: The setting that holds the string.
        renewable: Gets the endpoint's certificates, if it has any, by that key.

    Raises:
        PortUnavailable: If it can't, or not at once, as some plugins' endpoints do.
    """
    parsed, endpoint = _endpoint(reactor, string, key)
    certificates = getattr(endpoint, "certificates", None)
    if renewable is not None and isinstance(certificates, Certificates):
        renewable[key] = certificates
    if parsed.kind == "unix":
        remove_stale(parsed.argument("address", 0) or "")
    ended: list[Any] = []
    listening = endpoint.listen(factory).addBoth(ended.append)
    if not ended:
        listening.cancel()
        raise PortUnavailable("this kind of endpoint does not listen at once: choose another kind")
    if isinstance(ended[0], Failure):
        cause = getattr(ended[0].value, "socketError", ended[0].value)
        reason = getattr(cause, "strerror", None) or type(cause).__name__
        raise PortUnavailable(f"`{key}` can't be listened on: {reason}")
    port: IListeningPort = ended[0]
    return port


def is_exposed(string: str) -> bool:
    """Whether callers from other machines can connect without a certificate."""
    parsed = parse(string)
    if parsed.kind == "unix" or parsed.argument("clientCA") is not None:
        return False
    interface = parsed.interface
    if parsed.kind == "systemd":
        try:
            endpoint: Any = serverFromString(None, string)
            with socket.socket(fileno=os.dup(endpoint.fileno)) as inherited:
                name = inherited.getsockname()
        except Exception:  # noqa: BLE001 - it has been checked, or will be
            return True
        if not isinstance(name, tuple):
            return False
        interface = name[0]
    return interface != "localhost" and not is_loopback(interface)


def is_shared(string: str) -> bool:
    """Whether other processes may listen at the same port."""
    return parse(string).is_shared


def have_one_port(string: str, other: str) -> bool:
    """Whether two endpoint strings can't both be listened on, as they have one port."""
    pair = parse(string), parse(other)
    if not all(each.kind in {"tcp", "tcp6", "ssl"} and each.port.isdecimal() for each in pair):
        return False
    port, where = {int(each.port) for each in pair}, {each.interface for each in pair}
    return len(port) == 1 and port != {0} and (len(where) == 1 or bool(where & _ANYWHERE))


def is_over_loopback(string: str, host: IAddress) -> bool:
    """Whether a connection must have come from this machine.

    Args:
        string: The endpoint string.
        host: Our end of the connection. The kernel drops other machines' packets to loopback.
    """
    if parse(string).kind not in _OF_THE_KERNEL:
        return False
    return isinstance(host, UNIXAddress) or is_loopback(getattr(host, "host", ""))


def _endpoint(reactor: Any, string: str, key: str) -> tuple[Parsed, IStreamServerEndpoint]:
    """A string's parts and its endpoint.

    Raises:
        PortUnavailable: If the string is invalid.
    """
    parsed = parse(string)
    try:
        return parsed, _endpoint_of(reactor, parsed, string)
    except PortUnavailable as error:
        raise PortUnavailable(f"`{key}` {error}") from None


def _endpoint_of(reactor: Any, parsed: Parsed, string: str) -> IStreamServerEndpoint:
    """The endpoint of a string.

    Raises:
        PortUnavailable: If the string is invalid; the text continues after the key's name.
    """
    check_arguments(parsed)
    if parsed.kind == "ssl":
        return tls.endpoint(reactor, parsed, BACKLOG)
    backlog = parsed.argument("backlog", 1 if parsed.kind == "tcp6" else 2)
    string = without(string, REUSE_PORT)
    if parsed.kind in {"tcp", "tcp6", "unix"}:
        if backlog is None:
            string += f":backlog={BACKLOG}"
        if parsed.kind == "unix" and parsed.argument("lockfile", 3) is None:
            string += ":lockfile=0"  # a crash leaves a lock that names another process's pid
    try:
        endpoint: IStreamServerEndpoint = serverFromString(reactor, string)
    except (LookupError, OverflowError):
        if parsed.kind != "systemd":
            raise PortUnavailable(EXPECTED) from None
        raise PortUnavailable(
            "names a socket that systemd has not passed: start the service by its .socket unit"
        ) from None
    except Exception:  # noqa: BLE001 - a parser or a plugin raises what it pleases
        raise PortUnavailable(EXPECTED) from None
    if parsed.is_shared:
        depth = BACKLOG if backlog is None else int(backlog)
        return shared.Endpoint(reactor, int(parsed.port), depth, parsed.interface)
    return endpoint
