"""When the journal's files are wiped: soon after a text was forgotten, again if that failed."""

import sqlite3
from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from chatgpt_source.journal.sqlite.wipe import settle, wipe

WIPE_AFTER = 30.0
"""Seconds from a delivery until its texts are gone from the write-ahead log too."""
WIPE_RETRY = 5.0
SETTLE_PAUSE = 0.1
"""Seconds between two steps in which an earlier version's texts are settled."""

Job = Callable[[sqlite3.Connection], bool]


class Sweep:
    """Calls for a wipe, and for what an earlier version left, a step at a time.

    Args:
        clock: Says when.
        read: Runs a function in the journal's thread, outside a transaction.
        write: Likewise, inside one.
    """

    def __init__(
        self,
        clock: IReactorTime,
        read: Callable[[Job], Deferred[bool]],
        write: Callable[[Job], Deferred[bool]],
    ) -> None:
        self._clock = clock
        self._read = read
        self._write = write
        self._wipe_call: IDelayedCall | None = None
        self._settle_call: IDelayedCall | None = None
        self._stopped = False

    def wipe_later(self, delay: float = WIPE_AFTER) -> None:
        """Wipe after some seconds, if no wipe is called for yet."""
        if not self._stopped and not _is_active(self._wipe_call):
            self._wipe_call = self._clock.callLater(delay, self._wipe)

    def settle_later(self, delay: float = SETTLE_PAUSE) -> None:
        """Settle some of an earlier version's texts after some seconds, and so on to the last."""
        if not self._stopped:
            self._settle_call = self._clock.callLater(delay, self._settle)

    def stop(self) -> bool:
        """Call for nothing more; returns whether a wipe was called for."""
        self._stopped = True
        called_for = _is_active(self._wipe_call)
        for call in (self._wipe_call, self._settle_call):
            if call is not None and call.active():
                call.cancel()
        return called_for

    def _wipe(self) -> None:
        self._read(wipe).addCallbacks(
            lambda done: None if done else self.wipe_later(WIPE_RETRY),
            lambda _: self.wipe_later(WIPE_RETRY),
        )

    def _settle(self) -> None:
        self._write(settle).addCallbacks(
            lambda more: self.settle_later() if more else self.wipe_later(WIPE_RETRY),
            lambda _: self.settle_later(WIPE_RETRY),
        )


def _is_active(call: IDelayedCall | None) -> bool:
    return call is not None and bool(call.active())
