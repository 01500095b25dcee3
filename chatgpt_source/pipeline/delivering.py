"""Delivering: claim an outbox row, call its destination, decide what to do next, record it."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from attrs import define, evolve, field
from twisted.internet.interfaces import IReactorTime

from chatgpt_source.clock import wall
from chatgpt_source.config import Config
from chatgpt_source.delivery import event
from chatgpt_source.errors import CallError, Transient
from chatgpt_source.journal import Claims, Delivered, Failed, Journal, Postponed
from chatgpt_source.pipeline import attempts
from chatgpt_source.pipeline.breaker import Breaker, Call
from chatgpt_source.pipeline.calls import Random, foreseen, postponed, recorded, report, within
from chatgpt_source.pipeline.decide import Fail, Hold, Tried, decide
from chatgpt_source.pipeline.lease import Lease
from chatgpt_source.pipeline.pauses import Pauses
from chatgpt_source.pipeline.tidying import Tidying
from chatgpt_source.pipeline.worker import Worker
from chatgpt_source.prompt import DEAD_LETTER, Delivery, Receiver, State
from chatgpt_source.telemetry.observer import DeliveryEnded, Observer
from chatgpt_source.telemetry.spans import Spans


@define(eq=False, repr=False)
class Delivering:
    """Delivers the events of one destination.

    Attributes:
        clock: The time.
        journal: Where the outbox is.
        config: How long and how often to try.
        random: Numbers from 0 to 1, for the backoff's jitter.
        observer: Receives the outcome of each call.
        spans: Traces the calls.
        tidying: Deletes answers at the provider once they are delivered.
        lease: The lease within which calls are made.
        receiver: The destination.
        call: Makes one call to it, and returns the HTTP status; raises CallError.
        breaker: The receiver's.
        pauses: Knows whether it is paused.
        dead_letters: The worker that delivers the dead letters, if there is one.
        untried_since: Deliver only events that are due since then at the earliest, and untried.
    """

    clock: IReactorTime
    journal: Journal
    config: Config
    random: Random
    observer: Observer
    spans: Spans
    tidying: Tidying
    lease: Lease
    receiver: Receiver
    call: Callable[[Delivery], Awaitable[int]]
    breaker: Breaker
    pauses: Pauses
    dead_letters: Worker[Delivery] | None
    untried_since: float | None = field(init=False, default=None)
    worker: Worker[Delivery] = field(init=False)

    @worker.default
    def _make_worker(self) -> Worker[Delivery]:
        is_paused = partial(self.pauses.is_paused, self.receiver.label)
        return Worker(self.clock, self.journal, self.breaker, self._claim, self._deliver, is_paused)

    async def _claim(self, now: float, most: int) -> Claims[Delivery]:
        since = self.untried_since
        if since is not None and self.journal.is_shared:
            return Claims((), None)  # what is not claimed is for the daemons that go on
        claims = await self.journal.claim_deliveries(
            self.receiver.destination, now, most, untried_since=since
        )
        return claims if since is None else Claims(claims.claimed, None)

    async def _deliver(self, delivery: Delivery, call: Call) -> None:
        try:
            with self.spans.deliver(delivery) as span:
                calling = self.call(within(span, delivery))
                status = await foreseen(self.lease.within(calling), Transient)
        except CallError as error:
            await self._not_delivered(delivery, call, error)
        else:
            now = self.clock.seconds()
            self.breaker.succeeded(call, now)
            own = attempts.of_delivery(
                *(delivery, self.receiver, call, now, wall(self.clock)), status=status
            )
            is_full = self.breaker.room(now) <= 0
            outcome = Delivered(self.config.keep_answers, (own,), is_last_slot=is_full)
            leftover = None
            if not self._is_of_dead_letters:
                leftover = self.tidying.leftover(delivery.submitted, delivery.provider)
            ended = await recorded(
                self.clock,
                lambda: self.journal.delivery_ended(delivery, outcome, now, leftover=leftover),
            )
            if ended.kept:
                self._tell(delivery, call, now, state=State.DELIVERED)
                if leftover is not None:
                    self.tidying.worker.wake()

    async def _not_delivered(self, delivery: Delivery, call: Call, error: CallError) -> None:
        now = self.clock.seconds()
        waited = self.pauses.waited(self.receiver.label, delivery.since, now)
        tried = Tried(
            delivery.attempt,
            call.started,
            gave_up=waited >= self.config.give_up_after,
            tried_out=self._is_last(delivery),
            held=delivery.held,
        )
        decision = decide(error, tried, self.breaker.others, now, self.random)
        held = isinstance(decision, Hold)
        self.breaker.failed(call, error, now, shared=False, alone=not held)
        outcome: Failed | Postponed
        if isinstance(decision, Fail):
            outcome = Failed(decision.reason, dead_letter=self._dead_letter(delivery, error))
        else:
            outcome = postponed(decision, error, self.breaker.opens_at, now)
        own = attempts.of_delivery(delivery, self.receiver, call, now, wall(self.clock), error)
        outcome = evolve(outcome, calls=(own,))
        ended = await recorded(
            self.clock, lambda: self.journal.delivery_ended(delivery, outcome, now)
        )
        self.worker.wake()  # the next attempt may be due before anything else
        if ended.kept:
            self._tell(delivery, call, now, error=error, **report(outcome, now, held=held))
            if isinstance(outcome, Failed) and self.dead_letters is not None:
                self.dead_letters.wake()

    def _is_last(self, delivery: Delivery) -> bool:
        """Whether `send_event_attempts` allows no further call; it does not limit dead letters."""
        allowed = 0 if self._is_of_dead_letters else self.config.send_event_attempts
        return 0 < allowed <= delivery.attempt

    @property
    def _is_of_dead_letters(self) -> bool:
        return self.receiver is DEAD_LETTER

    def _dead_letter(self, delivery: Delivery, error: CallError) -> bytes | None:
        if self._is_of_dead_letters or self.config.dead_letter is None:
            return None
        named = self.config.targets.get(self.receiver.destination)
        url = self.config.target if named is None else named.url
        return event.encode_undelivered(delivery.event, url, error)

    def _tell(self, delivery: Delivery, call: Call, now: float, **ended: Any) -> None:
        date = max(delivery.accepted, wall(self.clock))
        if self._is_of_dead_letters:  # a dead letter's outcome does not change the prompt
            ended["state"] = None
        self.observer.sent(
            DeliveryEnded(
                delivery=delivery,
                started=call.started,
                seconds=now - call.started,
                date=date,
                **ended,
            )
        )
