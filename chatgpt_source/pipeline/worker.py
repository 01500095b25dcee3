"""A bounded worker: claims what is due in the journal as its breaker has room, and runs it.

What waits, waits in the journal. Each claim runs as a task, which keeps its slot to the end.
"""

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Generic

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from chatgpt_source.errors import JournalUnavailable
from chatgpt_source.journal import Claims, Journal, Work
from chatgpt_source.log import get_logger, log_unexpected
from chatgpt_source.pipeline.breaker import Breaker, Call

log = get_logger(__name__)

POLL_INTERVAL = 2.0
"""Seconds between two looks into the journal at the most; what else writes to it is seen then."""


class Worker(Generic[Work]):
    """Claims what is due as room arises, and runs it.

    Args:
        clock: The time.
        journal: Told to probe itself while it can't be written.
        breaker: How much may run now.
        claim: Claims up to so many; returns them, and when the next is due.
        run: Does the work of one claim, to the end; raises only what nobody foresaw.
    """

    def __init__(
        self,
        clock: IReactorTime,
        journal: Journal,
        breaker: Breaker,
        claim: Callable[[float, int], Awaitable[Claims[Work]]],
        run: Callable[[Work, Call], Coroutine[Deferred[Any], Any, None]],
    ) -> None:
        self._clock = clock
        self._journal = journal
        self._breaker = breaker
        self._claim: Callable[[float, int], Awaitable[Claims[Work]]] = claim
        self._run: Callable[[Work, Call], Coroutine[Deferred[Any], Any, None]] = run
        self._tasks: set[Deferred[None]] = set()
        self._claiming = 0
        self._running = False
        self._finishing = False
        self._woken = False
        self._pause: Deferred[None] | None = None
        self._idle: list[Deferred[None]] = []

    def start(self) -> None:
        """Begin to claim."""
        self._running = True
        self._spawn(self._forever())

    def stop(self) -> None:
        """Claim no more; what is claimed goes on."""
        self._running = False
        self.wake()

    def finish(self) -> None:
        """Stop once nothing more can be claimed now."""
        self._finishing = True
        self.wake()

    def wake(self) -> None:
        """Look into the journal now: there may be work, or room for it."""
        self._woken = True
        if self._pause is not None:
            pause, self._pause = self._pause, None
            pause.cancel()

    def cancel(self) -> None:
        """Abandon what is under way; its claims are taken up by the next start."""
        for task in list(self._tasks):
            task.cancel()

    async def idle(self) -> None:
        """Wait until nothing is under way. Only a stopped worker stays so."""
        while self._tasks:
            done: Deferred[None] = Deferred()
            self._idle.append(done)
            await done

    def reserve(self) -> Call | None:
        """Take a slot for work that need not be claimed; None if there is no room."""
        now = self._clock.seconds()
        return self._breaker.start(now) if self._breaker.room(now) > self._claiming else None

    def fill(self, slot: Call | None, work: Work | None) -> None:
        """Run work in a slot that `reserve` gave; where there is no slot, look for the work."""
        if slot is not None and work is not None:
            self._launch(work, slot)
            return
        if slot is not None:
            self._breaker.end(slot)
        self.wake()

    def _launch(self, work: Work, call: Call) -> None:
        self._spawn(self._task(work, call))

    def _spawn(self, work: Coroutine[Deferred[Any], Any, None]) -> None:
        task = Deferred.fromCoroutine(work)
        self._tasks.add(task)
        task.addBoth(self._finished, task)

    def _finished(self, result: object, task: Deferred[None]) -> None:
        self._tasks.discard(task)
        if isinstance(result, Failure) and not isinstance(result.value, CancelledError):
            log_unexpected(log, "the pipeline", result)
        if not self._tasks:
            idle, self._idle = self._idle, []
            for waiter in idle:
                waiter.callback(None)

    async def _task(self, work: Work, call: Call) -> None:
        try:
            await self._run(work, call)
        finally:
            self._breaker.end(call)
            self.wake()

    async def _forever(self) -> None:
        while self._running:
            self._woken = False
            try:
                delay = await self._round()
            except JournalUnavailable:
                delay = POLL_INTERVAL
            except CancelledError:
                raise
            except Exception:  # noqa: BLE001 - a worker that ends would leave its work lying
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
                raise  # the worker itself is cancelled; `wake` takes the pause away first

    def _is_full(self) -> bool:
        """Whether it is only for want of a free slot that nothing more can be claimed."""
        now = self._clock.seconds()
        return self._breaker.room(now) <= 0 and self._breaker.opens_at <= now

    async def _round(self) -> float:
        """Claim once and run what was claimed; returns how long there is nothing more to do."""
        if self._journal.fault is not None:
            await self._journal.probe()
        now = self._clock.seconds()
        room = self._breaker.room(now)
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
            self._launch(work, self._breaker.start(started))
        next_due = claims.next_due
        if next_due is not None and next_due > now:
            return next_due - now
        if claims.claimed and next_due is not None and self._breaker.room(started) > 0:
            return 0.0  # the journal gives long prompts a few at a time
        wait = self._breaker.opens_at - started
        return wait if wait > 0 else POLL_INTERVAL  # else a call that ends makes room, and wakes
