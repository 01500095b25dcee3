"""Tidying: stop and delete at the provider what nobody needs there any more.

It is best effort: a failure is logged, and changes no prompt.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial

from attrs import define, field
from twisted.internet.defer import DeferredSemaphore
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from chatgpt_source.errors import CallError, Gone, Transient
from chatgpt_source.log import get_logger
from chatgpt_source.pipeline.calls import foreseen
from chatgpt_source.pipeline.route import Providers
from chatgpt_source.pipeline.tasks import Tasks
from chatgpt_source.providers import Provider

log = get_logger(__name__)

AT_ONCE = 4
"""Calls under way at the most."""
MOST = 1000
"""Calls that wait or are under way at the most; what is more is left out."""
ONCE_MORE_AFTER = 2.0
"""Seconds from a call that failed to its only repetition."""

CANCELLED = "the provider was not told to stop"
FORGOTTEN = "the provider did not delete its answer"

_Call = tuple[Callable[[Provider], Awaitable[None]], str]
"""A call, and what it did not do if it fails."""


@define(eq=False)
class Tidying:
    """Makes the calls that tidy up, a few at once.

    Args:
        clock: The time.
        providers: Make the calls.
        forgets: Whether answers are deleted at the provider once they are delivered.
    """

    _clock: IReactorTime
    _providers: Providers
    _forgets: bool
    _room: DeferredSemaphore = field(init=False, factory=lambda: DeferredSemaphore(AT_ONCE))
    _tasks: Tasks = field(init=False, factory=lambda: Tasks(log, "tidying up at the provider"))
    _ended: bool = field(init=False, default=False)

    def cancel(self, submitted: str, provider: str | None = None) -> None:
        """Let a provider stop its work on a prompt that ended; None: the first.

        What it keeps of that is deleted then, also if it did not say that it has stopped: it may
        have ended before.
        """
        calls: list[_Call] = [(lambda each: each.cancel(submitted), CANCELLED)]
        if self._forgets:
            calls.append((lambda each: each.forget(submitted), FORGOTTEN))
        self._spawn(calls, submitted, provider)

    def forget(self, submitted: str | None, provider: str | None = None) -> None:
        """Let a provider delete what nobody needs of a prompt, if it keeps that."""
        if self._forgets and submitted is not None:
            self._spawn([(lambda each: each.forget(submitted), FORGOTTEN)], submitted, provider)

    async def idle(self) -> None:
        """Wait until no call waits or is under way."""
        await self._tasks.idle()

    def end(self) -> None:
        """Cancel all calls, and make no more."""
        self._ended = True
        self._tasks.cancel()

    def _spawn(self, calls: Sequence[_Call], submitted: str, name: str | None) -> None:
        provider = self._providers.get(name)
        if provider is None or self._ended or len(self._tasks) >= MOST:
            why = "the daemon is stopping" if self._ended else f"{MOST} such calls wait already"
            why = why if provider else f"`fallbacks` does not have `{name}` any more"
            for _, otherwise in calls:
                _warn(otherwise, submitted, why)
            return
        self._tasks.spawn(self._tidy(provider, calls, submitted))

    async def _tidy(self, provider: Provider, calls: Sequence[_Call], submitted: str) -> None:
        for call, otherwise in calls:
            await self._twice(partial(call, provider), otherwise, submitted)

    async def _twice(
        self, call: Callable[[], Awaitable[None]], otherwise: str, submitted: str
    ) -> None:
        try:
            try:
                await self._once(call)
            except Transient:
                await deferLater(self._clock, ONCE_MORE_AFTER)
                await self._once(call)
        except CallError as error:
            _warn(otherwise, submitted, error.reason)

    async def _once(self, call: Callable[[], Awaitable[None]]) -> None:
        await self._room.acquire()
        try:
            with suppress(Gone):
                await foreseen(call(), Transient)
        finally:
            self._room.release()


def _warn(otherwise: str, submitted: str, why: str) -> None:
    log.warn("{otherwise}: submitted={id} {why}", otherwise=otherwise, id=submitted, why=why)
