"""Looks again and again at what others have done with a journal."""

from collections.abc import Awaitable, Callable

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from chatgpt_source.journal import Journal
from chatgpt_source.journal.unforeseen import log_unforeseen
from chatgpt_source.log import get_logger

log = get_logger(__name__)


async def _ended(look: Awaitable[None]) -> None:
    await look


@define(eq=False, repr=False)
class Watch:
    """Repeats a look while it is started; of a journal that is not shared, only if it is to always.

    A journal that can't be used now is looked at again the next time.

    Args:
        clock: The time.
        journal: The journal.
        seconds: From one look to the next.
        look: Looks once.
        doing: What it does, for people.
        always: Whether to look at a journal that no other daemon uses, too.
    """

    _clock: IReactorTime
    _journal: Journal
    _seconds: float
    _look: Callable[[], Awaitable[None]]
    _doing: str
    _always: bool = False
    _loop: LoopingCall | None = field(init=False, default=None)

    def start(self) -> None:
        """Begin to look."""
        if self._always or self._journal.is_shared:
            self._loop = LoopingCall(self._look_once)
            self._loop.clock = self._clock
            self._loop.start(self._seconds, now=False)

    def stop(self) -> None:
        """Look no more."""
        if self._loop is not None and self._loop.running:
            self._loop.stop()

    def _look_once(self) -> Deferred[None]:
        return Deferred.fromCoroutine(_ended(self._look())).addErrback(
            log_unforeseen, log, self._doing
        )
