"""Makes the calls about batches until they succeed, with waits between them that end at a stop."""

from collections.abc import Awaitable, Callable
from math import inf
from typing import Any, TypeVar

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from chatgpt_source.errors import CallError, Gone, Permanent, PossiblyBilled, Transient
from chatgpt_source.log import get_logger
from chatgpt_source.pipeline.backoff import backoff
from chatgpt_source.pipeline.breaker import Breaker, Call
from chatgpt_source.pipeline.calls import Random, foreseen

log = get_logger(__name__)

Result = TypeVar("Result")

PAUSED = "asking is paused"
LOOK_EVERY = 2.0
"""Seconds between two looks whether the breaker lets calls pass, or a pause is over."""


class Stopped(Exception):
    """The daemon stops; the next start goes on."""


class Taken(Exception):
    """Another daemon has taken the batch over."""


class TooLate(Exception):
    """A call has not succeeded in time."""


@define
class Progress:
    """What is known of the calls about one batch.

    Attributes:
        trouble: Why the last one failed, for people; None if it succeeded.
        next_try: When the next one is due, by the steady clock, if that is known.
    """

    trouble: str | None = None
    next_try: float | None = None


@define(eq=False, repr=False)
class BatchCalls:
    """Makes calls, each until it succeeds.

    Args:
        clock: The time.
        random: Numbers from 0 to 1, for the backoff's jitter.
        breaker: Knows whether the calls fail.
        is_paused: Whether asking is paused: then nothing is submitted.

    Attributes:
        running: Whether calls may begin.
    """

    _clock: IReactorTime
    _random: Random
    breaker: Breaker
    _is_paused: Callable[[], bool]
    running: bool = field(init=False, default=False)
    _pauses: set[Deferred[None]] = field(init=False, factory=set)

    def stop(self) -> None:
        """Begin no call any more, and end all waits."""
        self.running = False
        for pause in list(self._pauses):
            pause.cancel()

    async def sleep(self, seconds: float, about: Progress | None = None) -> None:
        """Wait for the next call about a batch.

        Raises:
            Stopped: At a stop, at once.
        """
        if about is not None:
            about.next_try = self._clock.seconds() + seconds
        if self.running:
            pause: Deferred[None] = deferLater(self._clock, seconds)
            self._pauses.add(pause)
            try:
                await pause
            except CancelledError:
                if self.running:
                    raise
            finally:
                self._pauses.discard(pause)
        if not self.running:
            raise Stopped

    async def make(
        self,
        call: Callable[..., Awaitable[Result]],
        *values: Any,
        until: float | None = None,
        about: Progress | None = None,
        submits: bool = False,
    ) -> Result:
        """Make a call until it succeeds, with a backoff.

        Args:
            call: The call.
            values: What it gets.
            until: When it is too late for it; None: never.
            about: What is known of the calls about the batch.
            submits: Whether it waits while asking is paused.

        Raises:
            TooLate: If it has not at `until`.
            Gone: If the provider does not have what it is about.
            PossiblyBilled: If it may have succeeded.
            Permanent: If the provider refuses it.
        """
        attempt = 0
        while True:
            now = self._clock.seconds()
            if until is not None and now >= until:
                raise TooLate
            if self.breaker.opens_at > now:
                if about is not None:
                    about.trouble = self.breaker.trouble or about.trouble
                    about.next_try = self.breaker.opens_at
                # An operator may open it before.
                await self._wait(min(self.breaker.opens_at - now, LOOK_EVERY), until, None)
                continue
            if submits and self._is_paused():
                if about is not None:
                    about.trouble = PAUSED
                await self._wait(LOOK_EVERY, until, about)
                continue
            attempt += 1
            try:
                return await self.once(call, *values, about=about)
            except CallError as error:
                if isinstance(error, Gone | PossiblyBilled | Permanent):
                    raise
                wait = error.retry_after or backoff(attempt, self._random)
            await self._wait(wait, until, about)

    async def _wait(self, seconds: float, until: float | None, about: Progress | None) -> None:
        left = inf if until is None else until - self._clock.seconds()
        await self.sleep(max(0.0, min(seconds, left)), about)

    async def once(
        self,
        call: Callable[..., Awaitable[Result]],
        *values: Any,
        about: Progress | None = None,
    ) -> Result:
        """Make a call, and note how it ended."""
        slot, about = self.breaker.start(self._clock.seconds()), about or Progress()
        about.next_try = None
        try:
            result = await foreseen(call(*values), Transient)
        except CallError as error:
            about.trouble = error.reason
            self._note(slot, error)
            raise
        else:
            about.trouble = None
            self.breaker.succeeded(slot, self._clock.seconds())
            return result
        finally:
            self.breaker.end(slot)

    def _note(self, slot: Call, error: CallError) -> None:
        now = self._clock.seconds()
        if isinstance(error, Gone | Permanent):
            self.breaker.succeeded(slot, now)
            return
        known = self.breaker.trouble
        self.breaker.failed(slot, error, now, shared=True)
        if known is None and not self.breaker.held:
            log.warn("a call about a batch failed: {why}", why=error.reason)
