"""Writes lines to a stream in order, with bounded memory, and without blocking.

A pipe whose reader is stuck would otherwise block the daemon. The stream itself stays blocking,
because other processes may share it. So a thread writes, and other code writes only what the stream
takes at once.
"""

import atexit
import os
import stat
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from select import PIPE_BUF, POLLOUT, poll
from typing import TextIO
from weakref import WeakSet

from attrs import define

MOST_BYTES = 2**20
"""Bytes of lines that may wait to be written; further lines are dropped."""
SPACING = 0.05
"""Seconds from one write of lines to the next, unless many wait; those of that time share one."""
STEP = 2**16
"""Bytes that the thread writes at once, and that others write before the thread takes over."""
PATIENCE = 0.5
"""Seconds that `flush` waits."""
LOOK = 0.002
AGAIN = 1.0
"""Seconds until a stream is checked again; a terminal may not signal that it takes more."""

Ended = Callable[[OSError | None], None]

_all: "WeakSet[Lines]" = WeakSet()
_shared: "dict[int, Lines]" = {}


@define(eq=False, repr=False)
class Piece:
    """Data that is written in one piece, unless it is taken back before the write begins.

    Attributes:
        rest: The part that is not written yet.
        begun: Whether a part may be written.
        ended: Whether it is finished: written, taken back or failed.
        error: The error of the write, if any.
        done: Called at the end, if that comes after `put` returned.
    """

    rest: bytes | memoryview
    is_line: bool
    begun: bool = False
    ended: bool = False
    error: OSError | None = None
    done: Ended | None = None


class Lines:
    """Writes to a file descriptor; an error drops the lines of that write.

    Attributes:
        dropped: Lines that were dropped, for lack of room or by an error.
        lost: Makes the line that says how many were dropped, once there is room again.
    """

    def __init__(self, fd: int, lost: Callable[[int], bytes] | None = None) -> None:
        self.dropped = 0
        self.lost = lost
        self._fd = fd
        self._begin()
        _all.add(self)

    def _begin(self) -> None:
        self._lock = threading.RLock()  # a signal handler may write while its thread does
        self._writing = threading.Lock()
        self._pieces: deque[Piece] = deque()
        self._batch: deque[Piece] = deque()  # the pieces that are begun
        self._wake: SimpleQueue[None] = SimpleQueue()
        self._idle = True
        self._put = self._done = self._of_lines = 0
        self._told = self.dropped
        self._broken = False
        self._gave_up_at = -1
        self._at_once = _takes_at_once(self._fd)
        self._thread: threading.Thread | None = None

    def write(self, line: bytes) -> None:
        """Write a line soon, or drop it if too much waits already."""
        with self._lock:
            if self._of_lines + len(line) > MOST_BYTES:
                self.dropped += 1
                return
            if not self._broken:
                self._tell()
            waited = self._of_lines
            self._enqueue(Piece(line, is_line=True))
            if self._idle or waited < STEP <= self._of_lines:
                self._wake_up()

    def put(self, data: bytes, done: Ended) -> Piece | None:
        """Write data that must not be dropped: at once if the stream takes it, else soon.

        Args:
            data: The data; the caller bounds how much of it waits.
            done: Called, in any thread, once it is written or has failed.

        Returns:
            None if it is written already: then `done` is not called.

        Raises:
            OSError: If it can't be written.
        """
        if not data:
            return None
        piece = Piece(data, is_line=False)
        with self._lock:
            self._enqueue(piece)
        if self._at_once:
            self._write_at_once()
        with self._lock:
            if not piece.ended:
                piece.done = done
                self._wake_up()
                return piece
        if piece.error is not None:
            raise piece.error
        return None

    def take_back(self, piece: Piece) -> bool:
        """Cancel a piece; returns whether that was still possible."""
        with self._lock:
            if piece.begun:
                return False
            self._done += len(piece.rest)
            self._pieces.remove(piece)
            return True

    def ready(self) -> bool:
        """Whether no piece is partly written, and the stream takes more."""
        return not self._batch and self._takes_more(0)

    def flush(self, patience: float) -> None:
        """Wait until all is written, for at most so many seconds; not again after a timeout."""
        deadline = time.monotonic() + patience
        with self._lock:
            if self._put != self._done:
                self._wake_up()
        while self._is_awaited():
            if time.monotonic() > deadline:
                self._gave_up_at = self._done
            time.sleep(LOOK)

    def _is_awaited(self) -> bool:
        with self._lock:  # what is written is then told to those who put it, and counted, too
            return self._done not in {self._put, self._gave_up_at}

    def _enqueue(self, piece: Piece) -> None:
        self._put += len(piece.rest)
        self._of_lines += len(piece.rest) if piece.is_line else 0
        self._pieces.append(piece)

    def _wake_up(self) -> None:
        self._idle = False
        self._wake.put(None)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="lines", daemon=True)
            self._thread.start()

    def _tell(self) -> None:
        number, self._told = self.dropped - self._told, self.dropped
        if number and self.lost is not None:
            self._enqueue(Piece(self.lost(number), is_line=True))

    def _run(self) -> None:
        while True:
            self._wake.get()
            while self._has_work():
                if not self._write_lines() and self._takes_more(AGAIN):
                    with self._writing:
                        self._write_some(STEP)
                if self._only_lines(STEP):
                    self._pause()

    def _takes_more(self, timeout: float) -> bool:
        """Whether the stream takes more within so many seconds, or would report an error."""
        asking = poll()  # `select` takes no descriptor above 1,023
        asking.register(self._fd, POLLOUT)
        return bool(asking.poll(timeout * 1000))

    def _has_work(self) -> bool:
        with self._lock:
            self._idle = not (self._pieces or self._batch)
            return not self._idle

    def _only_lines(self, most: int) -> bool:
        """Whether lines of so many bytes at most are all that waits, and none is partly written."""
        with self._lock:
            waiting = self._put - self._done
            return not self._batch and waiting == self._of_lines and waiting <= most

    def _pause(self) -> None:
        with suppress(Empty):
            self._wake.get(timeout=SPACING)

    def _write_lines(self) -> bool:
        """Write lines if they are all that waits, however long it takes; returns whether it did.

        To ask first whether the stream is ready costs the other threads a switch.
        """
        if not self._at_once:  # a terminal may not signal that it takes more
            return False
        with self._writing:
            return self._write_some(STEP, ready=False)

    def _write_at_once(self) -> None:
        if not self._writing.acquire(blocking=False):
            return  # the thread is writing
        try:
            until = self._done + STEP
            while self._done < until and self._done != self._put and self._takes_more(0):
                self._write_some(PIPE_BUF)
        finally:
            self._writing.release()

    def _write_some(self, most: int, *, ready: bool = True) -> bool:
        """Make one write: a part of a large piece, or whole small ones. Returns whether it did.

        Unless the stream is ready, it only writes lines: a piece that may be taken back stays so.
        """
        with self._lock:
            only_lines = self._only_lines(most)
            if not (only_lines or ready):
                return False
            size = self._begin_lines() if only_lines else self._begin_batch(most)
            data = b"".join([piece.rest[:most] for piece in self._batch])
        error = None
        try:
            written = os.write(self._fd, data) if data else 0
        except BlockingIOError:  # another process has made the stream non-blocking, and filled it
            return True
        except OSError as failed:
            written, error = size, failed
        with self._lock:
            self._broken = error is not None
            if only_lines and written == size and error is None:
                self._end_lines(size)
            else:
                self._account(written, error)
            if self._put == self._done and not self._broken:
                self._tell()
        return True

    def _begin_lines(self) -> int:
        """Begin all that waits: lines, which nobody takes back. Returns their size."""
        self._batch, self._pieces = self._pieces, self._batch
        return self._of_lines

    def _end_lines(self, size: int) -> None:
        self._batch.clear()
        self._done += size
        self._of_lines -= size

    def _begin_batch(self, most: int) -> int:
        """Begin at least one piece, and others that fit. Returns the size of all.

        A piece that may be taken back is begun with others only if the stream takes all or nothing.
        """
        size = sum(len(piece.rest) for piece in self._batch)
        lines_alone = all(piece.is_line for piece in self._batch)
        while self._pieces:
            piece = self._pieces[0]
            lines_alone &= piece.is_line
            size += len(piece.rest)
            if self._batch and size > (most if lines_alone else PIPE_BUF * self._at_once):
                return size - len(piece.rest)
            piece.begun = True
            self._batch.append(self._pieces.popleft())
        return size

    def _account(self, written: int, error: OSError | None) -> None:
        self._done += written
        while self._batch and written >= len(self._batch[0].rest):
            piece = self._batch.popleft()
            written -= len(piece.rest)
            self._end(piece, len(piece.rest), error)
        if written:
            piece = self._batch[0]
            piece.rest = memoryview(piece.rest)[written:]
            self._of_lines -= written if piece.is_line else 0

    def _end(self, piece: Piece, size: int, error: OSError | None) -> None:
        piece.ended, piece.error = True, error
        if piece.is_line:
            self._of_lines -= size
            if error is not None:
                self.dropped += 1
        elif piece.done is not None:
            piece.done(error)


def _takes_at_once(fd: int) -> bool:
    """Whether it takes PIPE_BUF bytes without blocking once it is ready; a disk may block."""
    try:
        mode = os.fstat(fd).st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode)


def lines_of(stream: TextIO | None) -> Lines | None:
    """The shared Lines of a stream's descriptor; None if it has no descriptor."""
    try:
        fd = stream.fileno()  # type: ignore[union-attr]
    except (AttributeError, OSError, ValueError):  # a stream in memory
        return None
    if fd not in _shared:
        _shared[fd] = Lines(fd)
    return _shared[fd]


def dropped() -> int:
    """How many lines were dropped so far."""
    return sum(lines.dropped for lines in _all)


def flush(patience: float = PATIENCE) -> None:
    """Wait until all lines are written, with a bound; for the end of the process."""
    for lines in [*_all]:
        lines.flush(patience)


def _begin_anew() -> None:
    """Reset after a fork: the parent writes what waits, and the child has no thread."""
    for lines in [*_all]:
        lines._begin()  # noqa: SLF001 - of this module


os.register_at_fork(after_in_child=_begin_anew)
atexit.register(flush)
