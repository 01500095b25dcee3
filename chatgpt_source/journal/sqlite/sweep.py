"""Schedules wipes: some time after a text was deleted, and again after a failure."""

import sqlite3
from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from chatgpt_source.journal.sqlite.wipe import settle, wipe

WIPE_AFTER = 30.0
"""Seconds from the deletion of a text until the files are wiped."""
WIPE_RETRY = 5.0
"""Seconds from a wipe that failed to the next one."""
SETTLE_PAUSE = 0.1
"""Seconds between two steps of settling an earlier version's texts."""

Job = Callable[[sqlite3.Connection], bool]


class Sweep:
    """Schedules wipes, and the settling of an earlier version's texts.

    Args:
        clock: The time.
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
        """Wipe after some seconds, if no wipe is scheduled yet."""
        if not self._stopped and not _is_active(self._wipe_call):
            self._wipe_call = self._clock.callLater(delay, self._wipe)

    def settle_later(self, delay: float = SETTLE_PAUSE) -> None:
        """Begin to settle an earlier version's texts after some seconds."""
        if not self._stopped:
            self._settle_call = self._clock.callLater(delay, self._settle)

    def stop(self) -> bool:
        """Cancel all; returns whether a wipe was scheduled."""
        self._stopped = True
        scheduled = _is_active(self._wipe_call)
        for call in (self._wipe_call, self._settle_call):
            if call is not None and call.active():
                call.cancel()
        return scheduled

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
