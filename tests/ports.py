"""Ports of this machine for what the tests start."""

import random
import socket

_ports = iter(random.SystemRandom().sample(range(15000, 31000), 16000))
"""Below those that the kernel hands out to others meanwhile."""


def free_port() -> int:
    """A port that nobody listens on, and that is nobody else's in this run."""
    for port in _ports:
        with socket.socket(socket.AF_INET) as candidate:
            try:
                candidate.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise AssertionError("all ports were used")
