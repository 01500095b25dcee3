"""`python -m chatgpt_source.healthcheck`: whether a daemon in this container is well.

Where the daemon listens is its own business, not the image's: so this asks at each port that a
process here listens on, in HTTP and in HTTPS. For Linux.
"""

import sys
from collections.abc import Sequence
from contextlib import suppress
from glob import glob
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from ssl import CERT_NONE, PROTOCOL_TLS_CLIENT, SSLContext

WITHIN = 4.0
"""Seconds for all ports together."""
_LISTENS = "0A"


def listening_ports(process: str = "[0-9]*") -> list[int]:
    """The TCP ports that processes listen on.

    Args:
        process: A process id; else a pattern of such.
    """
    # /proc/<id>/fd has a process's sockets by inode, /proc/net/tcp and tcp6 have each inode's port.
    held = {Path(file).resolve().name for file in glob(f"/proc/{process}/fd/*")}  # noqa: PTH207 - a file that is gone by now is no error
    tables = [Path(f"/proc/net/{name}") for name in ("tcp", "tcp6")]
    lines = [line for table in tables if table.exists() for line in table.open("rb")]
    rows = [line.decode("ascii").split() for line in lines]
    return sorted(
        {
            int(row[1].rpartition(":")[2], 16)
            for row in rows
            if row[3] == _LISTENS and f"socket:[{row[9]}]" in held
        }
    )


def is_well(port: int, seconds: float) -> bool:
    """Whether `GET /healthz` at a port is answered with 200, in HTTP or HTTPS.

    Args:
        port: The port, on this machine.
        seconds: How long each step of either may take.
    """
    anyone = SSLContext(PROTOCOL_TLS_CLIENT)  # it is this machine: the certificate says nothing
    anyone.check_hostname, anyone.verify_mode = False, CERT_NONE
    for connection in (
        HTTPConnection("localhost", port, timeout=seconds),
        HTTPSConnection("localhost", port, timeout=seconds, context=anyone),
    ):
        with suppress(OSError, HTTPException):
            connection.request("GET", "/healthz")
            if connection.getresponse().status == 200:
                return True
    return False


def main(arguments: Sequence[str]) -> int:
    """The exit status: 0 if a daemon says at one of its ports that it is well, else 1.

    Args:
        arguments: The id of the one process to ask, if not all are to be asked.
    """
    ports = listening_ports(*arguments)
    return 0 if any(is_well(port, WITHIN / len(ports) / 2) for port in ports) else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:2]))
