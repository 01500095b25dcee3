"""Processes that are forked off one that has imported all they need: the tests' own end of it."""

import atexit
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.abstract import FileDescriptor
from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.internet.fdesc import readFromFD, setNonBlocking
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from tests.e2e.fork_server import PID

ROOT = Path(__file__).parent.parent.parent


class Fork:
    """A process that was forked: the transport of its protocol, like that of `spawnProcess`.

    Args:
        protocol: What is told of its output and of its end.
        code: The Python code that it runs.
        argv: What it has as `sys.argv`.
        environ: Its environment variables.
        folder: Where it runs.
        clock: The file with the offsets of its clocks, if it does not go by everybody's.

    Attributes:
        pid: Its process id.
    """

    def __init__(
        self,
        protocol: ProcessProtocol,
        code: str,
        argv: Sequence[str],
        environ: Mapping[str, str],
        folder: Path,
        clock: Path | None = None,
    ) -> None:
        ours, its = zip(*(os.pipe() for _ in range(3)), strict=True)
        self._protocol = protocol
        self._status = b""
        self._open = len(ours)
        process = {"code": code, "argv": list(argv), "environ": dict(environ)}
        process |= {"folder": str(folder), "clock": clock and str(clock)}
        self.pid = _server().fork(process, its)
        for file in its:
            os.close(file)
        protocol.makeConnection(self)  # type: ignore[arg-type] # it has what is used of it
        received = (partial(protocol.childDataReceived, fd) for fd in (1, 2))
        for file, take in zip(ours, (*received, self._told), strict=True):
            _Pipe(file, take, self._closed).startReading()  # type: ignore[no-untyped-call]

    def signalProcess(self, number: int) -> None:
        """Send a signal.

        Raises:
            ProcessExitedAlready: If it has ended.
        """
        if self._status:
            raise ProcessExitedAlready
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            raise ProcessExitedAlready from None

    def _told(self, status: bytes) -> None:
        self._status += status

    def _closed(self) -> None:
        self._open -= 1
        if self._open:
            return
        status = int(self._status)
        ended = ProcessTerminated(max(status, 0), -min(status, 0) or None)
        self._protocol.processEnded(Failure(ended if status else ProcessDone(0)))


class _Pipe(FileDescriptor):
    """The end of a pipe that is read."""

    def __init__(
        self, file: int, received: Callable[[bytes], None], closed: Callable[[], None]
    ) -> None:
        super().__init__(reactor)
        setNonBlocking(file)
        self._file, self._received, self._closed = file, received, closed

    def fileno(self) -> int:
        return self._file

    def doRead(self) -> Any:
        return readFromFD(self._file, self._received)

    def connectionLost(self, reason: Failure) -> None:
        super().connectionLost(reason)  # type: ignore[no-untyped-call]
        os.close(self._file)
        self._closed()


class _Server:
    """The process that forks; see `fork_server`."""

    def __init__(self) -> None:
        self._ours, its = socket.socketpair()
        with its:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.e2e.fork_server", str(its.fileno())],
                cwd=ROOT,
                env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
                pass_fds=[its.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )

    def fork(self, process: Mapping[str, Any], files: Sequence[int]) -> int:
        """Fork one off; returns its pid."""
        line = json.dumps(process).encode() + b"\n"
        sent = socket.send_fds(self._ours, [line], files)
        self._ours.sendall(line[sent:])
        pid: int
        (pid,) = PID.unpack(self._ours.recv(PID.size))
        return pid

    def end(self) -> None:
        """End it, and all that it has forked."""
        self._ours.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(10)


@cache
def _server() -> _Server:
    """The one of this process."""
    started = _Server()
    atexit.register(started.end)
    return started
