"""Lines to a stream that nobody may read: from a thread, bounded, and never waited for.

A pipe whose reader is stuck would otherwise stop whoever writes a line. The stream stays as it is,
blocking: whoever started us may share it.
"""

import atexit
import os
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from select import select
from weakref import WeakSet

MOST_BYTES = 2**20
"""How much may wait to be written; of what comes beyond it, nothing is kept."""
SPACING = 0.02
"""Seconds from one write to the next, so that what comes meanwhile rides along."""
STEP = 2**16
"""Bytes that are written at once, at the most."""
PATIENCE = 0.5
"""Seconds that `flush` waits."""
LOOK = 0.002

_all: "WeakSet[Lines]" = WeakSet()


class Lines:
    """Writes lines to a file descriptor, in order, from a thread that the first line starts.

    Args:
        fd: Where to; an error costs the lines that it befalls.
        lost: The line that tells how many were lost, once there is room again.

    Attributes:
        dropped: Lines that were not written, for want of room or by an error.
    """

    def __init__(self, fd: int, lost: Callable[[int], bytes]) -> None:
        self.dropped = 0
        self._fd = fd
        self._lost = lost
        self._begin()
        _all.add(self)

    def _begin(self) -> None:
        self._queue: SimpleQueue[bytes] = SimpleQueue()
        self._lock = threading.RLock()  # a signal's handler may write while its thread does
        self._put = self._done = 0
        self._told = self.dropped
        self._broken = False
        self._gave_up_at = -1
        self._thread: threading.Thread | None = None

    def write(self, line: bytes) -> None:
        """Let a line be written soon, or drop it if too much waits already."""
        with self._lock:
            if self._put - self._done + len(line) > MOST_BYTES:
                self.dropped += 1
                return
            if self.dropped != self._told and not self._broken:
                self._tell()
            self._enqueue(line)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="log", daemon=True)
                self._thread.start()

    def flush(self, patience: float) -> None:
        """Wait until all is written, but no longer than so many seconds, and only once in vain."""
        deadline = time.monotonic() + patience
        while self._done not in {self._put, self._gave_up_at}:
            if time.monotonic() > deadline:
                self._gave_up_at = self._done
            time.sleep(LOOK)

    def _enqueue(self, line: bytes) -> None:
        self._put += len(line)
        self._queue.put(line)

    def _tell(self) -> None:
        number, self._told = self.dropped - self._told, self.dropped
        self._enqueue(self._lost(number))

    def _run(self) -> None:
        while True:
            batch = [self._queue.get()]
            try:
                while True:
                    batch.append(self._queue.get_nowait())
            except Empty:
                pass
            self._broken = not self._write(b"".join(batch))
            with self._lock:
                if self.dropped != self._told and self._done == self._put and not self._broken:
                    self._tell()
            if self._put - self._done < STEP:
                time.sleep(SPACING)

    def _write(self, text: bytes) -> bool:
        data = memoryview(text)
        while data:
            try:
                written = os.write(self._fd, data[:STEP])
            except BlockingIOError:  # somebody else has made the stream so
                select([], [self._fd], [])
                continue
            except OSError:
                with self._lock:
                    self.dropped += bytes(data).count(b"\n")
                self._done += len(data)
                return False
            data = data[written:]
            self._done += written
        return True


def dropped() -> int:
    """How many lines were dropped, of all there were."""
    return sum(lines.dropped for lines in _all)


def flush(patience: float = PATIENCE) -> None:
    """Wait until all lines are written, but not for ever; for the end of the process."""
    for lines in [*_all]:
        lines.flush(patience)


def _begin_anew() -> None:
    """In a child: what waits is its parent's to write, and no thread came along."""
    for lines in [*_all]:
        lines._begin()  # noqa: SLF001 - of this module


os.register_at_fork(after_in_child=_begin_anew)
atexit.register(flush)
