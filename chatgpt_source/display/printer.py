"""Printing on a stream that nobody may read: what is said to be printed is, and none waits long."""

from functools import partial
from typing import Any, TextIO

from attrs import define
from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.task import deferLater

from chatgpt_source.log.lines import PATIENCE as MOMENT
from chatgpt_source.log.lines import Lines, Piece, lines_of
from chatgpt_source.waiting import with_timeout

PATIENCE = 2.0
"""Seconds that a text may wait to be printed."""
MOST_WAITING = 64 * 2**20
"""Bytes that may wait to be printed; a text that waits alone may have more."""
LOOK = 0.02
"""Seconds between two looks whether all is printed."""


class Unread(Exception):
    """Nobody reads what is printed."""


@define(eq=False)
class _Printing:
    """A text that was not printed at once.

    Attributes:
        data: The text.
        piece: What of it is to be written.
        printed: Whether it is.
        waiter: Who waits for that.
    """

    data: bytes
    piece: Piece | None = None
    printed: bool = False
    waiter: "Deferred[None] | None" = None


class Printer:
    """Prints texts, each whole, in the order in which they come.

    Args:
        out: Where to.
        reactor: Its clock, and the way into its thread.

    Attributes:
        encoding: What texts must be encoded in.
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
            Unread: If it is not, for nobody reads.
            OSError, ValueError: If it can't be: the reader is gone, the stream is closed.
        """
        if self._lines is None:
            self._out.write(data.decode(self.encoding))
            self._out.flush()
            return
        printing = self._printed_late(data) or self._begin(self._lines, data)
        if not printing.printed:
            await self._wait(self._lines, printing)

    async def stop(self) -> None:
        """Let what waits be printed in a moment, else give it up."""
        deadline = self._reactor.seconds() + MOMENT
        waiters = [each.waiter for each in self._waiting if each.waiter is not None]
        while any(not waiter.called for waiter in waiters):
            if self._reactor.seconds() > deadline:
                for waiter in waiters:
                    waiter.cancel()
            await deferLater(self._reactor, LOOK)

    def _printed_late(self, data: bytes) -> _Printing | None:
        """What was begun when its sender was told to come back: that is printed after all."""
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
        """Be told by the thread that writes."""
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
