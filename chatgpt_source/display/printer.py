"""Prints to a stream that may not be read, without blocking, and reports what was printed."""

from functools import partial
from typing import Any, TextIO

from attrs import define
from twisted.internet.defer import CancelledError, Deferred, DeferredList, TimeoutError

from chatgpt_source.log.lines import PATIENCE as MOMENT
from chatgpt_source.log.lines import Lines, Piece, lines_of
from chatgpt_source.waiting import completes, with_timeout

PATIENCE = 2.0
"""Seconds that a text may wait to be printed."""
MOST_WAITING = 64 * 2**20
"""Bytes that may wait to be printed; a text that waits alone may have more."""


class Unread(Exception):
    """The output is not read."""


@define(eq=False, repr=False)
class _Printing:
    """A text that was not printed at once.

    Attributes:
        data: The text.
        piece: The piece of output that holds it.
        printed: Whether it is printed.
        waiter: Fires when it is.
    """

    data: bytes
    piece: Piece | None = None
    printed: bool = False
    waiter: "Deferred[None] | None" = None


class Printer:
    """Prints texts, each in one piece, in the order of their arrival.

    Args:
        out: The stream.
        reactor: The clock, and the way into the reactor's thread.

    Attributes:
        encoding: The encoding for texts.
    """

    def __init__(self, out: TextIO, reactor: Any) -> None:
        self.encoding = out.encoding or "utf-8"
        self._out = out
        self._reactor = reactor
        self._lines = lines_of(out)
        self._waiting: set[_Printing] = set()
        self._late: _Printing | None = None
        self._unread = False

    async def print(self, data: bytes) -> None:
        """Print a text; returns once it is printed.

        Raises:
            Unread: If it is not printed, because the output is not read.
            OSError, ValueError: If the reader is gone, or the stream is closed.
        """
        if self._lines is None:
            self._out.write(data.decode(self.encoding))
            self._out.flush()
            return
        printing = self._printed_late(data) or self._begin(self._lines, data)
        if not printing.printed:
            await self._wait(self._lines, printing)

    async def stop(self) -> None:
        """Wait a moment for what is not printed yet, then give it up."""
        waiters = [each.waiter for each in self._waiting if each.waiter is not None]
        await completes(DeferredList(waiters), MOMENT, self._reactor)

    def _printed_late(self, data: bytes) -> _Printing | None:
        """Texts that were being written when their senders got a 503: they get printed."""
        late = self._late
        if late is None or late.data != data:
            return None
        self._late = None
        return late

    def _begin(self, lines: Lines, data: bytes) -> _Printing:
        if self._unread and not lines.ready():
            raise Unread
        waits = sum(len(each.data) for each in self._waiting)
        if waits and waits + len(data) > MOST_WAITING:
            raise Unread
        self._unread = False
        printing = _Printing(data)
        printing.piece = lines.put(data, partial(self._written, printing))
        if printing.piece is None:
            printing.printed = True
        else:
            self._waiting.add(printing)
        return printing

    async def _wait(self, lines: Lines, printing: _Printing) -> None:
        printing.waiter = Deferred()
        try:
            await with_timeout(printing.waiter, PATIENCE, self._reactor)
        except (CancelledError, TimeoutError):
            self._unread = True
            printing.waiter = None
            if printing.piece is None or not lines.take_back(printing.piece):
                self._late = printing
            else:
                self._waiting.discard(printing)
            raise Unread from None

    def _written(self, printing: _Printing, error: OSError | None) -> None:
        """Called by the thread that writes."""
        self._reactor.callFromThread(self._end, printing, error)

    def _end(self, printing: _Printing, error: OSError | None) -> None:
        self._waiting.discard(printing)
        printing.printed = error is None
        if error is not None and self._late is printing:
            self._late = None
        if printing.waiter is None:
            return
        if error is None:
            printing.waiter.callback(None)
        else:
            printing.waiter.errback(error)
