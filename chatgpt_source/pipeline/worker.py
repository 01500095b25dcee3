"""A bounded worker: claims work that is due, as far as the breaker has room, and runs it.

It has no queue: work waits in the journal. Each claim runs as a task, which keeps its slot until it
ends.
"""

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Generic

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from chatgpt_source.errors import JournalUnavailable
from chatgpt_source.journal import Claims, Journal, Work
from chatgpt_source.log import get_logger, log_unexpected
from chatgpt_source.pipeline.breaker import Breaker, Call
from chatgpt_source.pipeline.route import Route
from chatgpt_source.pipeline.tasks import Tasks

log = get_logger(__name__)

POLL_INTERVAL = 2.0
"""Seconds between two claims at the most, to find what another process has written."""


@define(eq=False, repr=False)
class Worker(Generic[Work]):
    """Claims work and runs it.

    Args:
        clock: The time.
        journal: Probed while it can't be written.
        breaker: How many tasks may run now.
        claim: Claims up to a number at a time.
        run: Does the work of one claim; raises nothing that is expected.
        is_paused: Whether an operator has paused it: then it claims nothing.
    """

    _clock: IReactorTime
    _journal: Journal
    _breaker: Breaker | Route
    _claim: Callable[[float, int], Awaitable[Claims[Work]]]
    _run: Callable[[Work, Call], Coroutine[Deferred[Any], Any, None]]
    _is_paused: Callable[[], bool] = field(default=lambda: False)
    _tasks: Tasks = field(init=False, factory=lambda: Tasks(log, "the pipeline"))
    _claiming: int = field(init=False, default=0)
    _running: bool = field(init=False, default=False)
    _finishing: bool = field(init=False, default=False)
    _woken: bool = field(init=False, default=False)
    _more: bool = field(init=False, default=True)
    """Whether work may be due that only waits for a free slot."""
    _pause: Deferred[None] | None = field(init=False, default=None)

    def start(self) -> None:
        """Begin to claim."""
        self._running = True
        self._tasks.spawn(self._forever())

    def stop(self) -> None:
        """Claim no more; the tasks go on."""
        self._running = False
        self.wake()

    def finish(self) -> None:
        """Stop once nothing is due that can be claimed."""
        self._finishing = True
        self.wake()

    def wake(self) -> None:
        """Try to claim now: there may be work, or room for it."""
        self._woken = True
        if self._pause is not None:
            pause, self._pause = self._pause, None
            pause.cancel()

    def cancel(self) -> None:
        """Cancel the tasks; the next start takes over their claims."""
        self._tasks.cancel()

    async def idle(self) -> None:
        """Wait until no task runs. Only a stopped worker stays idle."""
        await self._tasks.idle()

    def reserve(self) -> Call | None:
        """Take a slot for work that will be claimed elsewhere; None if there is no room."""
        now = self._clock.seconds()
        if not self._running or self._is_paused() or self._breaker.room(now) <= self._claiming:
            return None
        return self._breaker.start(now)

    def fill(self, slot: Call | None, work: Work | None) -> None:
        """Run work in a slot of `reserve`; without a slot or work, try to claim now.

        If this worker was stopped meanwhile, the next start takes over the claim.
        """
        if slot is not None and work is not None and self._running:
            slot.started = self._clock.seconds()
            self._tasks.spawn(self._task(work, slot))
            return
        if slot is not None:
            self._breaker.end(slot)
        self.wake()

    def release(self, slot: Call) -> None:
        """Give back a slot; if work waits for it, try to claim now."""
        self._breaker.end(slot)
        if self._more or self._finishing:
            self.wake()

    async def _task(self, work: Work, call: Call) -> None:
        try:
            await self._run(work, call)
        finally:
            self.release(call)

    async def _forever(self) -> None:
        while self._running:
            self._woken = False
            try:
                delay = await self._round()
            except JournalUnavailable:
                delay = POLL_INTERVAL
            except CancelledError:
                raise
            except Exception:  # noqa: BLE001 - after a bug, the worker must go on
                log_unexpected(log, "claiming work", Failure())
                delay = POLL_INTERVAL
            if self._woken or not self._running:
                continue
            if self._finishing and not self._is_full():
                self._running = False
            else:
                await self._sleep(delay)

    async def _sleep(self, delay: float) -> None:
        self._pause = deferLater(self._clock, min(delay, POLL_INTERVAL))
        try:
            await self._pause
        except CancelledError:
            if self._pause is not None:
                raise  # by `cancel`, not `wake`, which sets `_pause` to None first

    def _is_full(self) -> bool:
        """Whether nothing can be claimed for lack of a free slot alone."""
        now = self._clock.seconds()
        return self._breaker.room(now) <= 0 and self._breaker.opens_at <= now

    async def _round(self) -> float:
        """Claim once and run what was claimed; returns the seconds until the next claim."""
        if self._journal.fault is not None:
            await self._journal.probe()
        if self._is_paused():
            return POLL_INTERVAL
        now = self._clock.seconds()
        room = self._breaker.room(now)
        self._more = True
        if room <= 0:
            wait = self._breaker.opens_at - now
            return wait if wait > 0 else POLL_INTERVAL
        self._claiming = room
        try:
            claims = await self._claim(now, room)
        finally:
            self._claiming = 0
        started = self._clock.seconds()
        for work in claims.claimed:
            self._tasks.spawn(self._task(work, self._breaker.start(started)))
        next_due = claims.next_due
        self._more = next_due is not None and next_due <= now
        if next_due is not None and next_due > now:
            return next_due - now
        if claims.claimed and next_due is not None and self._breaker.room(started) > 0:
            return 0.0  # long prompts are claimed a few at a time
        wait = self._breaker.opens_at - started
        return wait if wait > 0 else POLL_INTERVAL  # a call that ends wakes it earlier
