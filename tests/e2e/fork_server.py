"""A process that has imported all that the daemon needs, and forks others off itself on demand.

What a daemon does before it reads its settings is to import its modules, for half a second. Who
starts hundreds of them, as the tests do, has that done once. A process that was forked differs in
nothing else: it runs its code with its arguments, folder, environment and output, as `python -c`.

`python -m tests.e2e.fork_server FD` takes a connected socket. A line of JSON on it asks for a
process, and carries three files: its standard output, its standard error, and where to write its
exit status, or minus the signal that ended it. The answer is its pid. All end when the other side
hangs up.
"""

import gc
import json
import os
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any

from tests.e2e import shifted_clock

PID = struct.Struct("q")
_LINE = 2**16
_MODULES = (
    "chatgpt_source.admin",
    "chatgpt_source.journal.command",
    "chatgpt_source.service",
    "twisted.internet.default",
    "twisted.scripts._twistd_unix",
)


def main() -> str:
    """Fork until the other side hangs up; returns in another process: its code."""
    _import_all()
    gc.collect()
    gc.freeze()
    process, files = _serve(socket.socket(fileno=int(sys.argv[1])))
    _become(process, files)
    code: str = process["code"]
    return code


def _import_all() -> None:
    for module in _MODULES:
        import_module(module)
    with suppress(ImportError):
        import_module("chatgpt_source.journal.postgres")
    plugins, services = (
        import_module("twisted.plugin"),
        import_module("twisted.application.service"),
    )
    list(plugins.getPlugins(services.IServiceMaker))
    assert "twisted.internet.reactor" not in sys.modules, "all would share it"


def _serve(asked: socket.socket) -> tuple[dict[str, Any], Sequence[int]]:
    """Fork, and tell the ends; returns in another process: what it is to be, and its output."""
    told: dict[int, int] = {}
    woken, waker = socket.socketpair()
    waker.setblocking(False)  # noqa: FBT003 - its only parameter
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(waker.fileno())
    while True:
        ready, _, _ = select.select([asked, woken], [], [])
        if woken in ready:
            woken.recv(_LINE)
            _tell_ends(told)
        if asked not in ready:
            continue
        line, files, _, _ = socket.recv_fds(asked, _LINE, 3)
        while line and not line.endswith(b"\n"):
            line += asked.recv(_LINE)
        if not line:
            for pid in told:
                os.kill(pid, signal.SIGKILL)
            sys.exit()
        *output, status = files
        if not (pid := os.fork()):
            return json.loads(line), output
        for file in output:
            os.close(file)
        told[pid] = status
        asked.sendall(PID.pack(pid))


def _tell_ends(told: dict[int, int]) -> None:
    for pid in list(told):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            with suppress(BrokenPipeError), os.fdopen(told.pop(pid), "wb") as file:
                file.write(b"%d" % os.waitstatus_to_exitcode(status))


def _become(process: dict[str, Any], output: Sequence[int]) -> None:
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for file, own in zip((os.open(os.devnull, os.O_RDONLY), *output), range(3), strict=True):
        os.dup2(file, own)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    sys.stdout = os.fdopen(1, "w", closefd=False)  # the server's knows another file's position
    os.chdir(process["folder"])
    os.environ.clear()
    os.environ.update(process["environ"])
    time.tzset()
    sys.argv[:] = process["argv"]
    if process["clock"]:
        shifted_clock.go_by(process["clock"])


if __name__ == "__main__":
    exec(main(), {"__name__": "__main__"})
