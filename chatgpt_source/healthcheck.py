"""`python -m chatgpt_source.healthcheck`: checks whether the container's daemon is healthy.

The image does not know where the daemon listens. So this asks every port that a process in the
container listens on, by HTTP and by HTTPS. For Linux.
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
        process: A process id, or a pattern of ids.
    """
    # /proc/<id>/fd lists a process's sockets by inode, /proc/net/tcp and tcp6 the port of an inode.
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
    """Whether `GET /healthz` at a port gets a 200, by HTTP or HTTPS.

    Args:
        port: The port, on this machine.
        seconds: The most seconds for each step.
    """
    anyone = SSLContext(PROTOCOL_TLS_CLIENT)  # this is loopback: the certificate does not matter
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
    """The exit status: 0 if a daemon is healthy at one of its ports, else 1.

    Args:
        arguments: The id of the only process to ask; empty for all.
    """
    ports = listening_ports(*arguments)
    return 0 if any(is_well(port, WITHIN / len(ports) / 2) for port in ports) else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:2]))
