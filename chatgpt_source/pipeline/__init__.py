"""From accepted to delivered: ask what is accepted, deliver what is answered; and how that drains.

Two bounded loops, and a third for dead letters. What a call brings is written down before its slot
is free again, however long the journal takes.
"""

from collections.abc import Awaitable, Callable, Collection
from random import random as system_random
from typing import Any, TypeVar

import attrs
from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from chatgpt_source.clock import wall
from chatgpt_source.config import Config
from chatgpt_source.delivery import event
from chatgpt_source.errors import (
    CallError,
    JournalUnavailable,
    PeerFailure,
    PossiblyBilled,
    Transient,
)
from chatgpt_source.journal import Journal
from chatgpt_source.log import get_logger, log_unexpected
from chatgpt_source.pipeline.breaker import Breaker, Call
from chatgpt_source.pipeline.decide import (
    POSSIBLY_BILLED_ATTEMPTS,
    Decision,
    Fail,
    HoldAll,
    Retry,
    Tried,
    decide,
)
from chatgpt_source.pipeline.worker import POLL_INTERVAL, Claimed, Worker
from chatgpt_source.prompt import DEAD_LETTER, TARGET, Answer, Ask, Delivery, Prompt, State
from chatgpt_source.telemetry.observer import NO_OBSERVER, Observer, asked_outcome, sent_outcome
from chatgpt_source.telemetry.spans import NO_SPANS, Span, Spans

log = get_logger(__name__)

Traced = TypeVar("Traced", Prompt, Delivery)
UNKNOWN = "-"
"""What the log says for a request id that is not known."""


class Pipeline:
    """Takes prompts from accepted to delivered, or sets them aside with the reason.

    Args:
        clock: The time.
        journal: Where the prompts are.
        config: How long and how often to try.
        ask: Makes one call to the model, on a connection of its own if `fresh`; raises CallError.
        deliver: Makes one call to the target; raises CallError.
        deliver_letter: Makes one call to `dead_letter`; None if failures are not sent anywhere.
        random: Numbers from 0 to 1, for the backoff's jitter.
        observer: Is told how calls end, and which states prompts reach.
        spans: Traces the calls.
    """

    def __init__(
        self,
        clock: IReactorTime,
        journal: Journal,
        config: Config,
        ask: Callable[..., Awaitable[Answer]],
        deliver: Callable[[Delivery], Awaitable[None]],
        deliver_letter: Callable[[Delivery], Awaitable[None]] | None = None,
        random: Callable[[], float] = system_random,
        observer: Observer = NO_OBSERVER,
        spans: Spans = NO_SPANS,
    ) -> None:
        self._clock = clock
        self._journal = journal
        self._config = config
        self._call_model = ask
        self._call_target = deliver
        self._call_dead_letter = deliver_letter
        self._random = random
        self._observer = observer
        self._spans = spans
        self._draining_since: float | None = None
        self.model = Breaker("the model", config.concurrency, random)
        self.target = Breaker(TARGET.name, config.concurrency, random)
        self.dead_letter = Breaker(DEAD_LETTER.name, config.concurrency, random)
        self._asks = Worker(clock, journal, self.model, self._claim_asks, self._ask)
        self._deliveries = Worker(
            clock, journal, self.target, self._claim_deliveries, self._deliver
        )
        self._letters = Worker(
            clock, journal, self.dead_letter, self._claim_letters, self._deliver_letter
        )

    @property
    def draining(self) -> bool:
        """Whether a stop has begun."""
        return self._draining_since is not None

    def start(self, failing: Collection[State] = ()) -> None:
        """Take up what is due, and whatever comes.

        Args:
            failing: The states that prompts wait in whose last attempt failed: their peers may
                refuse us, or want fewer calls, which only an earlier process knew.
        """
        if State.ACCEPTED in failing:
            self.model.resume_gradually()
        if State.ANSWERED in failing:
            self.target.resume_gradually()
        self._asks.start()
        self._deliveries.start()
        if self._call_dead_letter is not None:
            self._letters.start()

    def accepted(self) -> None:
        """A prompt was accepted: ask it as soon as there is room."""
        self._asks.wake()

    def redriven(self) -> None:
        """A failed prompt was taken up again: ask it, or deliver it, as soon as there is room."""
        self._asks.wake()
        self._deliveries.wake()

    async def drain(self) -> None:
        """Finish what is under way, within `drain_timeout`; the rest stays in the journal.

        No prompt is claimed any more; each answer that still comes gets one delivery attempt.
        """
        self._draining_since = self._clock.seconds()
        self.target.paced = False
        self._asks.stop()
        self._letters.stop()
        done = Deferred.fromCoroutine(self._drained())
        try:
            await done.addTimeout(self._config.drain_timeout, self._clock)
        except TimeoutError:
            log.warn("stopping with calls under way: the next start takes them up")
        self._deliveries.stop()
        for worker in (self._asks, self._deliveries, self._letters):
            worker.cancel()

    async def _drained(self) -> None:
        await self._asks.idle()
        self._deliveries.finish()
        await self._deliveries.idle()
        await self._letters.idle()

    # Asking.

    async def _claim_asks(self, now: float, most: int) -> Claimed[Ask]:
        claims = await self._journal.claim_asks(now, most)
        return claims.claimed, claims.next_due

    async def _ask(self, ask: Ask, call: Call) -> None:
        started = self._clock.seconds()
        try:
            with self._spans.chat(ask) as span:
                prompt = _within(span, ask.prompt)
                asking = self._call_model(prompt, fresh=ask.maybe_billed > 0)
                answer = await _foreseen(asking, PossiblyBilled)
                span.answered(answer)
        except CallError as error:
            self._tell_asked(ask, started, None, error)
            await self._not_answered(ask, call, error)
        else:
            self._tell_asked(ask, started, answer, None)
            await self._answered(ask, call, answer)

    def _tell_asked(
        self, ask: Ask, started: float, answer: Answer | None, error: CallError | None
    ) -> None:
        self._observer.asked(
            prompt_id=ask.prompt.id,
            attempt=ask.total,
            outcome=asked_outcome(error),
            seconds=self._clock.seconds() - started,
            waited=started - ask.since if ask.total == 1 else None,
            answer=answer,
            error=error,
        )

    async def _answered(self, ask: Ask, call: Call, answer: Answer) -> None:
        prompt = ask.prompt
        now = self._clock.seconds()
        self.model.succeeded(call, now)
        encoded = event.encode(prompt, answer, self._config.include, self._config.extensions)
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
            asks=ask.total,
            request_id=answer.request_id or UNKNOWN,
        )
        self._tell_moved(prompt.id, State.ANSWERED, prompt.accepted)
        if slot is not None:
            self._deliveries.launch(
                Delivery(
                    prompt.id, encoded, now, 1, prompt.accepted, prompt.trace, answer.request_id
                ),
                slot,
            )
        else:
            self._deliveries.wake()

    async def _not_answered(self, ask: Ask, call: Call, error: CallError) -> None:
        now = self._clock.seconds()
        prompt = ask.prompt
        maybe_billed = isinstance(error, PossiblyBilled)
        tried = Tried(
            ask.attempt,
            call.started,
            gave_up=now - ask.since >= self._config.give_up_after,
            tried_out=maybe_billed and ask.maybe_billed + 1 >= POSSIBLY_BILLED_ATTEMPTS,
            held=ask.held,
            asked=True,
        )
        decision = self._decide(error, tried, self.model, call, now, shared=True)
        if isinstance(decision, Fail):
            await self._set_aside(
                prompt.id,
                prompt.accepted,
                now,
                error,
                decision.reason,
                lambda: event.encode_unanswered(
                    prompt, ask.total, error, wall(self._clock), self._config.extensions
                ),
                # A model that answered 200 has done its work.
                give_back=not maybe_billed and error.status != 200,
            )
            return
        until = _next_try(decision, self.model, now)
        await self._written(
            lambda: self._journal.postpone(
                prompt.id, until, error.reason, maybe_billed=maybe_billed, held=_held(error, now)
            )
        )
        self._log_postponed(prompt.id, error, decision, until - now)

    # Delivering.

    async def _claim_deliveries(self, now: float, most: int) -> Claimed[Delivery]:
        claims = await self._journal.claim_deliveries(now, most, untried_since=self._draining_since)
        return claims.claimed, None if self.draining else claims.next_due

    async def _deliver(self, delivery: Delivery, call: Call) -> None:
        try:
            await self._call_receiver(
                self._call_target, self._spans.deliver, delivery, self._observer.sent
            )
        except CallError as error:
            await self._not_delivered(delivery, call, error)
        else:
            self.target.succeeded(call, self._clock.seconds())
            await self._written(lambda: self._journal.delivered(delivery.id))
            log.info(
                "delivered: id={id} deliveries={deliveries} request_id={request_id}",
                id=delivery.id,
                deliveries=delivery.attempt,
                request_id=delivery.request_id or UNKNOWN,
            )
            self._tell_moved(delivery.id, State.DELIVERED, delivery.accepted)

    async def _not_delivered(self, delivery: Delivery, call: Call, error: CallError) -> None:
        now = self._clock.seconds()
        error.request_id = delivery.request_id
        tried = Tried(
            delivery.attempt,
            call.started,
            gave_up=now - delivery.since >= self._config.give_up_after,
            tried_out=0 < self._config.send_event_attempts <= delivery.attempt,
            held=delivery.held,
        )
        decision = self._decide(error, tried, self.target, call, now)
        if isinstance(decision, Fail):
            await self._set_aside(
                delivery.id,
                delivery.accepted,
                now,
                error,
                decision.reason,
                lambda: event.encode_undelivered(delivery.event, self._config.target, error),
                give_back=False,
            )
            return
        until = _next_try(decision, self.target, now)
        await self._written(
            lambda: self._journal.postpone(delivery.id, until, error.reason, held=_held(error, now))
        )
        self._log_postponed(delivery.id, error, decision, until - now)

    # Dead letters.

    async def _claim_letters(self, now: float, most: int) -> Claimed[Delivery]:
        claims = await self._journal.claim_letters(now, most)
        return claims.claimed, claims.next_due

    async def _deliver_letter(self, letter: Delivery, call: Call) -> None:
        assert self._call_dead_letter is not None  # noqa: S101 - else the loop is not started
        until = held = None
        try:
            await self._call_receiver(
                self._call_dead_letter,
                self._spans.deliver_letter,
                letter,
                self._observer.letter_sent,
            )
        except CallError as error:
            now = self._clock.seconds()
            tried = Tried(
                letter.attempt,
                call.started,
                gave_up=now - letter.since >= self._config.give_up_after,
                held=letter.held,
            )
            decision = self._decide(error, tried, self.dead_letter, call, now)
            if isinstance(decision, Fail):
                log.error(
                    "dead letter not delivered: id={id} {reason}",
                    id=letter.id,
                    reason=decision.reason,
                )
            else:
                until, held = _next_try(decision, self.dead_letter, now), _held(error, now)
        else:
            self.dead_letter.succeeded(call, self._clock.seconds())
            log.info("dead letter delivered: id={id}", id=letter.id)
        await self._written(
            lambda: self._journal.letter_ended(letter.id, letter.since, until, held=held)
        )

    # What they share.

    def _decide(
        self,
        error: CallError,
        tried: Tried,
        breaker: Breaker,
        call: Call,
        now: float,
        *,
        shared: bool = False,
    ) -> Decision:
        """What becomes of a prompt whose call failed; its peer's breaker takes note."""
        decision = decide(error, tried, breaker.others, now, self._random)
        breaker.failed(call, error, now, shared=shared, alone=not isinstance(decision, HoldAll))
        return decision

    async def _call_receiver(
        self,
        call: Callable[[Delivery], Awaitable[None]],
        begin: Callable[[Delivery], Span],
        delivery: Delivery,
        tell: Callable[..., None],
    ) -> None:
        """Make one call, and tell how it ended unless a stop abandons it."""
        started = self._clock.seconds()

        def ended(error: CallError | None) -> None:
            tell(
                prompt_id=delivery.id,
                attempt=delivery.attempt,
                outcome=sent_outcome(error),
                seconds=self._clock.seconds() - started,
                error=error,
            )

        try:
            with begin(delivery) as span:
                await _foreseen(call(_within(span, delivery)), Transient)
        except CallError as error:
            ended(error)
            raise
        ended(None)

    async def _set_aside(
        self,
        prompt_id: str,
        accepted: float,
        now: float,
        error: CallError,
        reason: str,
        encode_letter: Callable[[], bytes],
        *,
        give_back: bool,
    ) -> None:
        letter = encode_letter() if self._config.dead_letter is not None else None
        await self._written(
            lambda: self._journal.failed(prompt_id, now, reason, give_back=give_back, letter=letter)
        )
        log.error(
            "set aside: id={id} request_id={request_id} {reason}",
            id=prompt_id,
            request_id=error.request_id or UNKNOWN,
            reason=reason,
        )
        self._tell_moved(prompt_id, State.FAILED, accepted, reason)
        self._letters.wake()

    def _tell_moved(
        self, prompt_id: str, state: State, accepted: float, error: str | None = None
    ) -> None:
        now = max(accepted, wall(self._clock))  # however far back that was set meanwhile
        self._observer.moved(
            prompt_id=prompt_id, state=state, now=now, accepted=accepted, error=error
        )

    async def _written(self, write: Callable[[], Deferred[None]]) -> None:
        """Write what a call brought, as soon as the journal can be written."""
        while True:
            try:
                return await write()
            except JournalUnavailable:  # noqa: PERF203 - waiting is the point
                await deferLater(self._clock, POLL_INTERVAL)

    def _log_postponed(
        self, prompt_id: str, error: CallError, decision: Decision, wait: float
    ) -> None:
        level = log.debug if isinstance(decision, HoldAll) else log.warn
        level(
            "{reason}: id={id} request_id={request_id}, next attempt in {wait:.1f} s",
            reason=error.reason,
            id=prompt_id,
            request_id=error.request_id or UNKNOWN,
            wait=wait,
        )


def _within(span: Span, work: Traced) -> Traced:
    """Work that is part of a span."""
    return work if span.trace is work.trace else attrs.evolve(work, trace=span.trace)


async def _foreseen(call: Awaitable[Any], otherwise: type[Transient]) -> Any:
    """What a call brings; an exception nobody foresaw counts as the class `otherwise`."""
    try:
        return await call
    except (CallError, CancelledError):
        raise
    except Exception:  # noqa: BLE001 - a bug must not end a prompt's way without a reason
        log_unexpected(log, "a call", Failure())
        raise otherwise("something nobody foresaw went wrong; the log says where") from None


def _next_try(decision: Retry | HoldAll, breaker: Breaker, now: float) -> float:
    """When a prompt is tried again, not before its peer may be called."""
    # One that is held is due behind those that waited before it: each probe takes a different one.
    return max(decision.at if isinstance(decision, Retry) else now, breaker.opens_at)


def _held(error: CallError, now: float) -> float | None:
    return now if isinstance(error, PeerFailure) else None
