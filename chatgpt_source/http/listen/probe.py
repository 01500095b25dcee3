"""Probes whether the daemon could listen somewhere, without a lasting change."""

import errno
import os
import socket
import stat
from contextlib import suppress
from pathlib import Path

from chatgpt_source.http.listen.string import PortUnavailable


def probe_port(port: int) -> str:
    """The interface to listen on: "::" for IPv6 and IPv4, "0.0.0.0" if IPv6 is off.

    Raises:
        PortUnavailable: If the port is taken, or not allowed for this user.
    """
    try:
        try:
            return _probe(socket.AF_INET6, "::", port)
        except OSError as error:
            if error.errno not in {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}:
                raise
        return _probe(socket.AF_INET, "0.0.0.0", port)  # noqa: S104 - others are to reach it
    except OSError as error:
        raise PortUnavailable(
            f"port {port} can't be listened on ({error.strerror}): stop what uses it, or choose"
            " another port",
            taken=error.errno == errno.EADDRINUSE,
        ) from None


def _probe(family: socket.AddressFamily, interface: str, port: int) -> str:
    with socket.socket(family, socket.SOCK_STREAM) as candidate:
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Twisted does
        candidate.bind((interface, port))
        candidate.listen(1)
    return interface


def probe_address(interface: str, port: int) -> None:
    """Check that a port is free at an address.

    Raises:
        OSError: If it is not.
    """
    family = socket.AF_INET6 if ":" in interface else socket.AF_INET
    _probe(family, interface, port)


def probe_path(path: str) -> None:
    """Check that a UNIX socket can be created; one that a crash left may be there.

    Raises:
        ValueError: If it can't.
    """
    folder = Path(path).parent
    if not folder.is_dir():
        raise ValueError("its folder does not exist")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ValueError("its folder can't be written by this user")
    if os.path.lexists(path) and not stat.S_ISSOCK(os.lstat(path).st_mode):
        raise ValueError("there is a file that is not a socket")
    if os.path.lexists(path) and _is_answered(path):
        raise ValueError("another process listens there")


def _is_answered(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
        caller.settimeout(1.0)
        return caller.connect_ex(path) not in {errno.ECONNREFUSED, errno.ENOENT}


def remove_stale(path: str) -> None:
    """Remove the socket that a crash has left."""
    with suppress(OSError):
        if stat.S_ISSOCK(os.lstat(path).st_mode) and not _is_answered(path):
            Path(path).unlink()


def probe_socket(descriptor: int) -> None:
    """Check that an inherited file is a socket that listens.

    Raises:
        ValueError: If it does not.
        OSError: If it is not a socket.
    """
    with socket.socket(fileno=os.dup(descriptor)) as inherited:
        if not inherited.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            raise ValueError("systemd's socket does not listen: it needs ListenStream=")
