"""Which daemon this is, among those that share a journal: its host's name, and its process id.

In a pod, the host's name is the pod's.
"""

import os
import socket

MOST = 63
"""Characters of a label: PostgreSQL cuts an `application_name` there."""


def host_name() -> str:
    """The name of the machine, or of the pod or the container; in ASCII."""
    return socket.gethostname().encode("ascii", "replace").decode("ascii")


def label(program: str) -> str:
    """A program's name, the host's and the process's id, in one line.

    A host's name that is too long loses its beginning: the end tells pods apart.
    """
    process = str(os.getpid())  # each time: twistd forks after the settings are read
    room = MOST - len(program) - len(process) - 2
    return f"{program} {host_name()[-room:]} {process}"
