"""Delivering: claim an outbox row, call its destination, decide what becomes of it, record that."""

from collections.abc import Awaitable, Callable
from random import random as system_random
from typing import Any

from attrs import define, field
from twisted.internet.interfaces import IReactorTime

from chatgpt_source.clock import wall
from chatgpt_source.config import Config
from chatgpt_source.delivery import event
from chatgpt_source.errors import CallError, PeerFailure, Transient
from chatgpt_source.journal import Claims, Delivered, Failed, Journal, Postponed
from chatgpt_source.pipeline.breaker import Breaker, Call
from chatgpt_source.pipeline.calls import Random, foreseen, recorded, within
from chatgpt_source.pipeline.decide import Fail, Hold, Tried, decide, next_try
from chatgpt_source.pipeline.worker import Worker
from chatgpt_source.prompt import Delivery, Receiver, State
from chatgpt_source.telemetry.observer import NO_OBSERVER, DeliveryEnded, Observer
from chatgpt_source.telemetry.spans import NO_SPANS, Spans


@define
class Delivering:
    """Delivers what the outbox holds for one receiver.

    Attributes:
        clock: The time.
        journal: Where the outbox is.
        config: How long and how often to try.
        receiver: Whose events they are.
        call: Makes one call to it; raises CallError.
        breaker: What is known of it.
        dead_letters: Delivers what tells of an event that was set aside; None if nothing does, as
            of a dead letter.
        random: Numbers from 0 to 1, for the backoff's jitter.
        observer: Is told how calls end.
        spans: Traces the calls.
        untried_since: Deliver only what has been due since then, and was never tried.
    """

    clock: IReactorTime
    journal: Journal
    config: Config
    receiver: Receiver
    call: Callable[[Delivery], Awaitable[None]]
    breaker: Breaker
    dead_letters: "Worker[Delivery] | None" = None
    random: Random = system_random
    observer: Observer = NO_OBSERVER
    spans: Spans = NO_SPANS
    untried_since: float | None = field(init=False, default=None)
    worker: Worker[Delivery] = field(init=False)

    @worker.default
    def _make_worker(self) -> Worker[Delivery]:
        return Worker(self.clock, self.journal, self.breaker, self._claim, self._deliver)

    async def _claim(self, now: float, most: int) -> Claims[Delivery]:
        since = self.untried_since
        claims = await self.journal.claim_deliveries(
            self.receiver.setting, now, most, untried_since=since
        )
        return claims if since is None else Claims(claims.claimed, None)

    async def _deliver(self, delivery: Delivery, call: Call) -> None:
        started = self.clock.seconds()  # its slot may have been taken before it was on disk
        try:
            with self.spans.deliver(delivery) as span:
                await foreseen(self.call(within(span, delivery)), Transient)
        except CallError as error:
            await self._not_delivered(delivery, call, started, error)
        else:
            now = self.clock.seconds()
            self.breaker.succeeded(call, now)
            ended = await recorded(
                self.clock, lambda: self.journal.delivery_ended(delivery, Delivered(), now)
            )
            if ended.kept:
                self._tell(delivery, started, now, state=State.DELIVERED)

    async def _not_delivered(
        self, delivery: Delivery, call: Call, started: float, error: CallError
    ) -> None:
        now = self.clock.seconds()
        tried = Tried(
            delivery.attempt,
            call.started,
            gave_up=now - delivery.since >= self.config.give_up_after,
            tried_out=self._is_last(delivery),
            held=delivery.held,
        )
        decision = decide(error, tried, self.breaker.others, now, self.random)
        held = isinstance(decision, Hold)
        self.breaker.failed(call, error, now, shared=False, alone=not held)
        if isinstance(decision, Fail):
            outcome: Failed | Postponed = Failed(
                decision.reason, dead_letter=self._dead_letter(delivery, error)
            )
        else:
            until = next_try(decision, self.breaker.opens_at, now)
            met = now if isinstance(error, PeerFailure) else None
            outcome = Postponed(until, error.reason, held=met)
        ended = await recorded(
            self.clock, lambda: self.journal.delivery_ended(delivery, outcome, now)
        )
        if not ended.kept:
            return
        if isinstance(outcome, Failed):
            reason = outcome.error
            self._tell(delivery, started, now, error=error, state=State.FAILED, reason=reason)
            if self.dead_letters is not None:
                self.dead_letters.wake()
        else:
            self._tell(delivery, started, now, error=error, wait=outcome.until - now, held=held)

    def _is_last(self, delivery: Delivery) -> bool:
        """Whether a call was the last that `send_event_attempts` allows: of an event, that is."""
        allowed = self.config.send_event_attempts if self.dead_letters is not None else 0
        return 0 < allowed <= delivery.attempt

    def _dead_letter(self, delivery: Delivery, error: CallError) -> bytes | None:
        if self.dead_letters is None or self.config.dead_letter is None:
            return None
        return event.encode_undelivered(delivery.event, self.config.target, error)

    def _tell(self, delivery: Delivery, started: float, now: float, **ended: Any) -> None:
        date = max(delivery.accepted, wall(self.clock))
        if self.dead_letters is None:  # what becomes of a dead letter changes nothing of its prompt
            ended["state"] = None
        self.observer.sent(
            DeliveryEnded(
                delivery=delivery, started=started, seconds=now - started, date=date, **ended
            )
        )
