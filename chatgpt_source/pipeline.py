"""Two bounded loops: ask what is accepted, deliver what is answered; and how they drain.

What waits, waits in the journal. A loop claims as much as its gate has room for, runs each claim
as a task, and writes down what came of it. A task keeps its slot until that is written.
"""

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from random import random as system_random
from typing import Any, Generic, TypeVar

from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from chatgpt_source import event
from chatgpt_source.config import Config
from chatgpt_source.gate import Call, Gate
from chatgpt_source.journal import Ask, Delivery, Journal
from chatgpt_source.log import get_logger, log_unexpected
from chatgpt_source.prompt import (
    Again,
    Answer,
    CallError,
    Hold,
    JournalUnavailable,
    MaybeBilled,
    Prompt,
    Rejected,
)
from chatgpt_source.retry import MAYBE_BILLED_ATTEMPTS, backoff

log = get_logger(__name__)

LOOK = 2.0
"""Seconds between two looks into the journal at the most; what else writes to it is seen then."""

Work = TypeVar("Work")
Claimed = tuple[Sequence[Work], float | None]


class Loop(Generic[Work]):
    """Claims what is due as room arises, and runs it.

    Args:
        clock: The time.
        journal: Told to probe itself while it can't be written.
        gate: How much may run now.
        claim: Claims up to so many; returns them, and when the next is due.
        run: Does the work of one claim, to the end; raises only what nobody foresaw.
    """

    def __init__(
        self,
        clock: IReactorTime,
        journal: Journal,
        gate: Gate,
        claim: Callable[[float, int], Awaitable[Claimed[Work]]],
        run: Callable[[Work, Call], Coroutine[Deferred[Any], Any, None]],
    ) -> None:
        self._clock = clock
        self._journal = journal
        self._gate = gate
        self._claim = claim
        self._run = run
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
        """Wait until nothing is under way. Only a stopped loop stays so."""
        while self._tasks:
            done: Deferred[None] = Deferred()
            self._idle.append(done)
            await done

    def reserve(self) -> Call | None:
        """Take a slot for work that need not be claimed; None if there is no room."""
        now = self._clock.seconds()
        return self._gate.start(now) if self._gate.room(now) > self._claiming else None

    def launch(self, work: Work, call: Call) -> None:
        """Run work in a slot that `reserve` gave."""
        self._spawn(self._task(work, call))

    def abandon(self, call: Call) -> None:
        """Give a reserved slot back unused."""
        self._gate.end(call)
        self.wake()

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
            self._gate.end(call)
            self.wake()

    async def _forever(self) -> None:
        while self._running:
            self._woken = False
            try:
                delay = await self._round()
            except JournalUnavailable:
                delay = LOOK
            except CancelledError:
                raise
            except Exception:  # noqa: BLE001 - a loop that ends would leave its work lying
                log_unexpected(log, "claiming work", Failure())
                delay = LOOK
            if self._woken or not self._running:
                continue
            if self._finishing and not self._is_full():
                self._running = False
            else:
                await self._sleep(delay)

    async def _sleep(self, delay: float) -> None:
        self._pause = deferLater(self._clock, min(delay, LOOK))
        try:
            await self._pause
        except CancelledError:
            if self._pause is not None:
                raise  # the loop itself is cancelled; `wake` takes the pause away first

    def _is_full(self) -> bool:
        """Whether it is only for want of a free slot that nothing more can be claimed."""
        now = self._clock.seconds()
        return self._gate.room(now) <= 0 and self._gate.opens_at <= now

    async def _round(self) -> float:
        """Claim once and run what was claimed; returns how long there is nothing more to do."""
        if self._journal.fault is not None:
            await self._journal.probe()
        now = self._clock.seconds()
        room = self._gate.room(now)
        if room <= 0:
            wait = self._gate.opens_at - now
            return wait if wait > 0 else LOOK
        self._claiming = room
        try:
            claimed, next_due = await self._claim(now, room)
        finally:
            self._claiming = 0
        started = self._clock.seconds()
        for work in claimed:
            self.launch(work, self._gate.start(started))
        if next_due is None or next_due <= now:
            return LOOK  # what is due but was not claimed waits for room, which wakes
        return next_due - now


class Pipeline:
    """Takes prompts from accepted to delivered, or sets them aside with the reason.

    Args:
        clock: The time.
        journal: Where the prompts are.
        config: How long and how often to try.
        ask: Makes one call to the model; raises CallError.
        deliver: Makes one call to the target; raises CallError.
        random: Numbers from 0 to 1, for the backoff's jitter.
    """

    def __init__(
        self,
        clock: IReactorTime,
        journal: Journal,
        config: Config,
        ask: Callable[[Prompt], Awaitable[Answer]],
        deliver: Callable[[bytes], Awaitable[None]],
        random: Callable[[], float] = system_random,
    ) -> None:
        self._clock = clock
        self._journal = journal
        self._config = config
        self._call_model = ask
        self._call_target = deliver
        self._random = random
        self._draining_since: float | None = None
        self.model = Gate("the model", config.concurrency, random)
        self.target = Gate("the target", config.concurrency, random)
        self._asks = Loop(clock, journal, self.model, self._claim_asks, self._ask)
        self._deliveries = Loop(clock, journal, self.target, self._claim_deliveries, self._deliver)

    @property
    def draining(self) -> bool:
        """Whether a stop has begun."""
        return self._draining_since is not None

    def start(self) -> None:
        """Take up what is due, and whatever comes."""
        self._asks.start()
        self._deliveries.start()

    def accepted(self) -> None:
        """A prompt was accepted: ask it as soon as there is room."""
        self._asks.wake()

    async def drain(self) -> None:
        """Finish what is under way, within `drain_timeout`; the rest stays in the journal.

        No prompt is claimed any more; each answer that still comes gets one delivery attempt.
        """
        self._draining_since = self._clock.seconds()
        self._asks.stop()
        done = Deferred.fromCoroutine(self._drained())
        try:
            await done.addTimeout(self._config.drain_timeout, self._clock)
        except TimeoutError:
            log.warn("stopping with calls under way: the next start takes them up")
        self._deliveries.stop()
        self._asks.cancel()
        self._deliveries.cancel()

    async def _drained(self) -> None:
        await self._asks.idle()
        self._deliveries.finish()
        await self._deliveries.idle()

    # Asking.

    async def _claim_asks(self, now: float, most: int) -> Claimed[Ask]:
        claims = await self._journal.claim_asks(now, most)
        return claims.claimed, claims.next_due

    async def _ask(self, ask: Ask, call: Call) -> None:
        try:
            answer = await _foreseen(self._call_model(ask.prompt), MaybeBilled)
        except CallError as error:
            await self._not_answered(ask, call, error)
        else:
            await self._answered(ask, answer)

    async def _answered(self, ask: Ask, answer: Answer) -> None:
        prompt = ask.prompt
        now = self._clock.seconds()
        self.model.succeeded(now)
        encoded = event.encode(prompt, answer)
        slot = self._deliveries.reserve()
        try:
            await self._written(
                lambda: self._journal.answered(
                    prompt.id, answer, encoded, now, claim=slot is not None
                )
            )
        except BaseException:
            if slot is not None:
                self._deliveries.abandon(slot)
            raise
        log.info(
            "answered: id={id} asks={asks} request_id={request_id}",
            id=prompt.id,
            asks=ask.attempt,
            request_id=answer.request_id,
        )
        if slot is not None:
            self._deliveries.launch(Delivery(prompt.id, encoded, now, 1), slot)
        else:
            self._deliveries.wake()

    async def _not_answered(self, ask: Ask, call: Call, error: CallError) -> None:
        now = self._clock.seconds()
        id_ = ask.prompt.id
        last = _verdict(
            error,
            gave_up=now - ask.prompt.accepted >= self._config.give_up_after,
            tried_out=isinstance(error, MaybeBilled)
            and ask.maybe_billed + 1 >= MAYBE_BILLED_ATTEMPTS,
            singled_out=error.status in {403, 404}
            and self.model.last_success > (call.started if ask.held is None else ask.held),
        )
        if last is None or not isinstance(error, Hold):
            self.model.failed(call, error, now, shared=True)
        if last is not None:
            # The model answered 200 and may have billed: then the unit is spent.
            give_back = error.status != 200
            await self._written(lambda: self._journal.failed(id_, now, last, give_back=give_back))
            log.error("set aside: id={id} {reason}", id=id_, reason=last)
            return
        until = self._next_try(error, ask.attempt, self.model, now)
        await self._written(
            lambda: self._journal.postpone(
                id_,
                until,
                error.reason,
                maybe_billed=isinstance(error, MaybeBilled),
                held=now if isinstance(error, Hold) else None,
            )
        )
        self._log_postponed(id_, error, until - now)

    # Delivering.

    async def _claim_deliveries(self, now: float, most: int) -> Claimed[Delivery]:
        claims = await self._journal.claim_deliveries(now, most, untried_since=self._draining_since)
        return claims.claimed, None if self.draining else claims.next_due

    async def _deliver(self, delivery: Delivery, call: Call) -> None:
        try:
            await _foreseen(self._call_target(delivery.event), Again)
        except CallError as error:
            await self._not_delivered(delivery, call, error)
        else:
            now = self._clock.seconds()
            self.target.succeeded(now)
            await self._written(lambda: self._journal.delivered(delivery.id, now))
            log.info(
                "delivered: id={id} deliveries={deliveries}",
                id=delivery.id,
                deliveries=delivery.attempt,
            )

    async def _not_delivered(self, delivery: Delivery, call: Call, error: CallError) -> None:
        now = self._clock.seconds()
        self.target.failed(call, error, now, shared=False)
        last = _verdict(
            error,
            gave_up=now - delivery.answered >= self._config.give_up_after,
            tried_out=0 < self._config.send_event_attempts <= delivery.attempt,
        )
        if last is not None:
            await self._written(
                lambda: self._journal.failed(delivery.id, now, last, give_back=False)
            )
            log.error("set aside: id={id} {reason}", id=delivery.id, reason=last)
            return
        until = self._next_try(error, delivery.attempt, self.target, now)
        await self._written(lambda: self._journal.postpone(delivery.id, until, error.reason))
        self._log_postponed(delivery.id, error, until - now)

    # What both do.

    def _next_try(self, error: CallError, attempt: int, gate: Gate, now: float) -> float:
        if isinstance(error, Hold):
            # Behind those that waited before it, so that each probe takes a different one.
            return max(now, gate.opens_at)
        return max(now + (error.retry_after or backoff(attempt, self._random)), gate.opens_at)

    async def _written(self, write: Callable[[], Deferred[None]]) -> None:
        """Write what a call brought, as soon as the journal can be written."""
        while True:
            try:
                return await write()
            except JournalUnavailable:  # noqa: PERF203 - waiting is the point
                await deferLater(self._clock, LOOK)

    def _log_postponed(self, prompt_id: str, error: CallError, wait: float) -> None:
        level = log.debug if isinstance(error, Hold) else log.warn
        level(
            "{reason}: id={id}, next attempt in {wait:.1f} s",
            reason=error.reason,
            id=prompt_id,
            wait=wait,
        )


async def _foreseen(call: Awaitable[Any], otherwise: type[Again]) -> Any:
    """What a call brings; an exception nobody foresaw counts as the class `otherwise`."""
    try:
        return await call
    except (CallError, CancelledError):
        raise
    except Exception:  # noqa: BLE001 - a bug must not end a prompt's way without a reason
        log_unexpected(log, "a call", Failure())
        raise otherwise("something nobody foresaw went wrong; the log says where") from None


def _verdict(
    error: CallError, *, gave_up: bool, tried_out: bool, singled_out: bool = False
) -> str | None:
    """Why a prompt is to be set aside after this failure; None if it is to be tried again."""
    if isinstance(error, Hold):
        return f"{error.reason} (while others succeed)" if singled_out else None
    if isinstance(error, Rejected):
        return error.reason
    if tried_out:
        return f"{error.reason} (the last attempt of those allowed)"
    return f"{error.reason} (after `give_up_after`)" if gave_up else None
