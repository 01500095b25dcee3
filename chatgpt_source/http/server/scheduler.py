"""Bounds the time that reading callers' data may take in one turn of the reactor.

The reactor delivers what has arrived on all connections. A channel asks here before it reads on.
Once the turn's share of time is used up, it waits and goes on in a later turn, one step a turn.
Channels with something new come first, but at least one of those with more to read gets a step: a
caller with one request does not wait for callers that sent thousands at once.
"""

from collections import OrderedDict
from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from chatgpt_source.log import get_logger, log_unexpected

log = get_logger(__name__)

SHARE = 0.005
"""Seconds of each turn that reading may take."""
UNTIMED = 16
"""Reads in a row without a look at the clock, which costs a little."""


class Reader(Protocol):
    """A channel that waits for its turn."""

    def read_on(self) -> None:
        """Take one step."""

    def abort(self) -> None:
        """Close, after an unexpected error in a step."""


class ReadScheduler:
    """Says which channels may read, and calls those that had to wait.

    Args:
        clock: The time.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._new: OrderedDict[Reader, None] = OrderedDict()
        self._more: OrderedDict[Reader, None] = OrderedDict()
        self._next: IDelayedCall | None = None
        self._turning = False
        self._reads = 0
        self._began = 0.0

    def may_read(self, *, more: bool = False) -> bool:
        """Whether one more step fits into this turn, and no other reader comes first.

        Args:
            more: Whether the reader had its turn, and has more to read.
        """
        if self._next is None and not self._turning:
            self._reads += 1
            if self._reads < UNTIMED and not more:
                return True
            self._arm()
        return not (self._new or (more and self._more) or self._is_over())

    def wait(self, reader: Reader, *, more: bool) -> None:
        """Call a reader in a later turn.

        Args:
            reader: The reader; one that waits already keeps its place.
            more: As for `may_read`.
        """
        if reader not in self._new and reader not in self._more:
            (self._more if more else self._new)[reader] = None
        if self._next is None:
            self._arm()

    def leave(self, reader: Reader) -> None:
        """Remove a reader."""
        self._new.pop(reader, None)
        self._more.pop(reader, None)

    def _arm(self) -> None:
        """Notice the next turn; the rest of this one counts from now."""
        if not self._turning:
            self._began = self._clock.seconds()
        self._next = self._clock.callLater(0, self._turn)

    def _is_over(self) -> bool:
        """Whether the share is used up; also if the clock was set back."""
        return not 0 <= self._clock.seconds() - self._began < SHARE

    def _turn(self) -> None:
        self._next = None
        self._turning = True
        self._reads = 0
        self._began = self._clock.seconds()
        new, more = len(self._new), len(self._more)  # each that waits now gets one step at most
        while new and not self._is_over():
            new -= 1
            self._step(self._new)
        while more:
            more -= 1
            self._step(self._more)
            if self._is_over():
                break
        if self._next is None and (self._new or self._more):
            self._arm()
        self._turning = False

    def _step(self, queue: "OrderedDict[Reader, None]") -> None:
        if not queue:  # the last one has left it meanwhile
            return
        reader, _ = queue.popitem(last=False)
        try:
            reader.read_on()
        except Exception:  # noqa: BLE001 - the others are to have their turn
            log_unexpected(log, "reading on", Failure())
            reader.abort()
