"""What the journal does unasked: it looks for its file, and removes deleted texts from it."""

import sqlite3

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from chatgpt_source.journal.executor import Executor
from chatgpt_source.journal.sqlite import upkeep, wipe
from chatgpt_source.journal.unforeseen import log_unforeseen
from chatgpt_source.log import get_logger

log = get_logger(__name__)

WATCH_EVERY = 2.0
"""Seconds between two checks whether the file is still at its path, and is to be wiped."""
WIPE_AFTER = 30.0
"""Seconds from the deletion of a text until the files are wiped, at the next of these checks."""
WIPE_RETRY = 5.0
"""Seconds from a wipe that failed to the next one."""


@define(eq=False, repr=False)
class Background:
    """Checks again and again whether the file was lost, or is back, or is to be wiped.

    Args:
        clock: The time.
        executor: Runs the journal's operations.
    """

    _clock: IReactorTime
    _executor: Executor[sqlite3.Connection]
    _watch: LoopingCall = field(init=False)
    _wipe_at: float | None = field(init=False, default=None)
    _data_version: int | None = field(init=False, default=None)

    @_watch.default
    def _make_watch(self) -> LoopingCall:
        watch = LoopingCall(self._look)
        watch.clock = self._clock
        return watch

    @property
    def is_to_wipe(self) -> bool:
        """Whether texts may have been deleted since the files were wiped."""
        return self._wipe_at is not None

    def start(self) -> None:
        """Begin; an earlier run may have left texts in the files."""
        self.wipe_later(WIPE_RETRY)
        self._watch.start(WATCH_EVERY, now=False)

    def stop(self) -> None:
        """End."""
        if self._watch.running:
            self._watch.stop()

    def wipe_later(self, delay: float = WIPE_AFTER) -> None:
        """Wipe the files in some seconds, unless that is to be done already."""
        if self._wipe_at is None:
            self._wipe_at = self._clock.seconds() + delay

    def _look(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._look_and_wipe()).addErrback(
            log_unforeseen, log, "looking at the journal"
        )

    async def _look_and_wipe(self) -> None:
        version = await self._executor.look(wipe.data_version)
        if self._data_version not in {None, version}:  # another process may have deleted texts
            self.wipe_later()
        self._data_version = version
        if self._executor.fault is not None:
            await self._executor.write(upkeep.probe)
        await self._let_lapse()
        if self._wipe_at is not None and self._wipe_at <= self._clock.seconds():
            self._wipe_at = None
            done = False
            try:
                done = await self._executor.read(wipe.wipe, None)
            finally:
                if not done:
                    self.wipe_later(WIPE_RETRY)

    async def _let_lapse(self) -> None:
        """Delete the texts that are not needed and not kept any more."""
        now = self._clock.seconds()
        if await self._executor.read(lambda db: upkeep.has_lapsed(db, now)):
            self.wipe_later()
            while await self._executor.write(lambda db: upkeep.let_lapse(db, now)):
                pass
