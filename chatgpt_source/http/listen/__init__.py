"""Listening where an endpoint string says: what can be wrong with one, and taking the port.

The strings are Twisted's (`tcp:8080:interface=127.0.0.1`, `unix:/run/x.sock`,
`systemd:domain=INET:index=0`, `ssl:8443:privateKey=...:certKey=...`, and those of its plugins). An
`ssl:` string may have a `clientCA` as well, whose certificates callers must have then.
"""

import errno
import os
import socket
from typing import Any, NoReturn

from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred, fail
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

from chatgpt_source.http.listen import tls
from chatgpt_source.http.listen.address import is_loopback
from chatgpt_source.http.listen.probe import (
    probe_address,
    probe_path,
    probe_port,
    probe_socket,
    remove_stale,
)
from chatgpt_source.http.listen.string import (
    EXPECTED,
    Parsed,
    PortUnavailable,
    check_arguments,
    parse,
)
from chatgpt_source.http.listen.tls import Certificates

__all__ = [
    "Certificates",
    "PortUnavailable",
    "check",
    "is_exposed",
    "is_loopback",
    "is_over_loopback",
    "listen",
    "parse",
    "port_string",
    "probe_port",
    "taken",
]

BACKLOG = 1024
"""Connections that may wait to be taken; Twisted's 50 is less than a burst."""
_OF_THE_KERNEL = ("tcp", "tcp6", "ssl", "unix", "systemd")
"""Kinds whose connections have the kernel's word on their addresses, not a proxy's."""


def port_string(port: int, interface: str) -> str:
    """The endpoint string of a port at an interface."""
    return f"tcp:{port}:interface={quoteStringArgument(interface)}"


def check(string: str, key: str = "listen") -> None:
    """See whether an endpoint string can be listened on; nothing is left open.

    Args:
        string: The string.
        key: The setting it is from.

    Raises:
        PortUnavailable: If it can't.
    """
    parsed = parse(string)
    try:
        endpoint = _endpoint(None, parsed, string)
    except PortUnavailable as error:
        raise PortUnavailable(f"`{key}` {error}") from None
    try:
        if parsed.kind in {"tcp", "tcp6", "ssl"}:
            probe_address(parsed.interface, int(parsed.port))
        elif parsed.kind == "unix":
            probe_path(parsed.argument("address", 0) or "")
        elif isinstance(endpoint, AdoptedStreamServerEndpoint):
            probe_socket(endpoint.fileno)
    except (OSError, ValueError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        what = f"port {parsed.port}" if parsed.port.isdigit() else f"`{parsed.kind}:`"
        advice = "create its folder" if "folder" in reason else "stop what uses it"
        raise PortUnavailable(
            f"`{key}`: {what} can't be listened on ({reason}): {advice}, or choose another",
            taken=getattr(error, "errno", None) == errno.EADDRINUSE,
        ) from None


def listen(
    reactor: Any,
    string: str,
    factory: IProtocolFactory,
    key: str = "listen",
    renewable: dict[str, Certificates] | None = None,
) -> "Deferred[IListeningPort]":
    """Listen where a string says, with room for a burst of callers.

    Args:
        reactor: Listens.
        string: The string.
        factory: Makes the protocols.
        key: The setting it is from.
        renewable: Gets its certificates, by that key, if it has some.

    Returns:
        The port; for the kinds named above it is there at once. Fails with PortUnavailable.
    """

    def failed(failure: Failure) -> NoReturn:
        error = failure.value
        cause = getattr(error, "socketError", error)
        reason = getattr(cause, "strerror", None) or type(cause).__name__
        raise PortUnavailable(f"`{key}` can't be listened on: {reason}") from None

    parsed = parse(string)
    try:
        endpoint = _endpoint(reactor, parsed, string)
    except PortUnavailable as error:
        return fail(PortUnavailable(f"`{key}` {error}"))
    if renewable is not None and isinstance(endpoint, tls.Endpoint):
        renewable[key] = endpoint.certificates
    if parsed.kind == "unix":
        remove_stale(parsed.argument("address", 0) or "")
    listening: Deferred[Any] = endpoint.listen(factory)
    return listening.addErrback(failed)


def taken(listening: "Deferred[IListeningPort]") -> IListeningPort:
    """The port that `listen` has taken.

    Raises:
        PortUnavailable: If it could not, or not at once.
    """
    ended: list[Any] = []
    listening.addBoth(ended.append)
    if not ended:
        listening.cancel()
        raise PortUnavailable("what is to be listened on is not there at once: choose another kind")
    if isinstance(ended[0], Failure):
        ended[0].raiseException()
    port: IListeningPort = ended[0]
    return port


def is_exposed(string: str) -> bool:
    """Whether callers from elsewhere get through, with no certificate to show."""
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


def is_over_loopback(string: str, host: IAddress) -> bool:
    """Whether a connection can only have come from this machine.

    Args:
        string: Where it was listened for.
        host: The connection's own end. No packet from elsewhere is let in with a loopback address.
    """
    if parse(string).kind not in _OF_THE_KERNEL:
        return False
    return isinstance(host, UNIXAddress) or is_loopback(getattr(host, "host", ""))


def _endpoint(reactor: Any, parsed: Parsed, string: str) -> IStreamServerEndpoint:
    """The endpoint of a string.

    Raises:
        PortUnavailable: If it is none; the text goes on from the key's name.
    """
    check_arguments(parsed)
    if parsed.kind == "ssl":
        return tls.endpoint(reactor, parsed.positional, parsed.named, BACKLOG)
    if parsed.kind in {"tcp", "tcp6", "unix"}:
        place = 1 if parsed.kind == "tcp6" else 2
        if parsed.argument("backlog", place) is None:
            string += f":backlog={BACKLOG}"
        if parsed.kind == "unix" and parsed.argument("lockfile", 3) is None:
            string += ":lockfile=0"  # which a crash leaves behind, naming a pid that is another's
    try:
        return serverFromString(reactor, string)  # type: ignore[no-any-return]
    except (LookupError, OverflowError):
        if parsed.kind != "systemd":
            raise PortUnavailable(EXPECTED) from None
        raise PortUnavailable(
            "names a socket that systemd has not passed: start the service by its .socket unit"
        ) from None
    except Exception:  # noqa: BLE001 - a parser or a plugin raises what it pleases
        raise PortUnavailable(EXPECTED) from None
