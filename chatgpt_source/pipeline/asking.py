"""Asking: claim an accepted prompt, call the model, decide what to do next, record it."""

from collections.abc import Awaitable, Mapping
from typing import Any, Protocol

from attrs import field, frozen
from twisted.internet.interfaces import IReactorTime

from chatgpt_source.clock import wall
from chatgpt_source.config import Config
from chatgpt_source.delivery import event
from chatgpt_source.errors import CallError, PossiblyBilled
from chatgpt_source.journal import Answered, Failed, Journal, Postponed
from chatgpt_source.pipeline.breaker import Breaker, Call
from chatgpt_source.pipeline.calls import (
    Random,
    dead_letter_of,
    foreseen,
    miss,
    postponed,
    recorded,
    report,
    within,
)
from chatgpt_source.pipeline.decide import POSSIBLY_BILLED_ATTEMPTS, Fail, Hold, Tried, decide
from chatgpt_source.pipeline.expiring import Expiring, is_late, late
from chatgpt_source.pipeline.worker import Worker
from chatgpt_source.prompt import NOWHERE, Answer, Ask, Delivery, Prompt, State
from chatgpt_source.telemetry.observer import AskEnded, Observer
from chatgpt_source.telemetry.spans import Spans


class Model(Protocol):
    """Makes one call to the model; raises CallError."""

    def __call__(self, prompt: Prompt, *, fresh: bool) -> Awaitable[Answer]:
        """Ask, on a new connection if `fresh`."""


@frozen
class Asking:
    """Asks the model each accepted prompt, or fails it with a reason.

    Attributes:
        clock: The time.
        journal: Where the prompts are.
        config: How long to try, and what an event has.
        random: Numbers from 0 to 1, for the backoff's jitter.
        observer: Receives the outcome of each call.
        spans: Traces the calls.
        model: Makes the calls.
        breaker: The model's.
        deliveries: The workers that deliver the answers, by destination.
        dead_letters: The worker that delivers the dead letters, if there is one.
        expiring: Fails those whose time is up.
        missing: The targets for which events wait and that are not set, each with words.
    """

    clock: IReactorTime
    journal: Journal
    config: Config
    random: Random
    observer: Observer
    spans: Spans
    model: Model
    breaker: Breaker
    deliveries: Mapping[str, Worker[Delivery]]
    dead_letters: Worker[Delivery] | None
    expiring: Expiring
    missing: dict[str, str]
    worker: Worker[Ask] = field(init=False)

    @worker.default
    def _make_worker(self) -> Worker[Ask]:
        return Worker(self.clock, self.journal, self.breaker, self.journal.claim_asks, self._ask)

    async def _ask(self, ask: Ask, call: Call) -> None:
        if is_late(ask.prompt, self.clock.seconds()):
            await self.expiring.expire(ask, call)
            return
        try:
            with self.spans.chat(ask) as span:
                asking = self.model(within(span, ask.prompt), fresh=ask.possibly_billed > 0)
                answer = await foreseen(asking, PossiblyBilled)
                span.answered(answer)
        except CallError as error:
            await self._not_answered(ask, call, error)
        else:
            await self._answered(ask, call, answer)

    async def _answered(self, ask: Ask, call: Call, answer: Answer) -> None:
        now = self.clock.seconds()
        self.breaker.succeeded(call, now)
        encoded = event.encode(ask.prompt, answer, self.config.include, self.config.extensions)
        outcome = Answered(answer, encoded, self.config.keep_answers)
        target = ask.prompt.target
        state = State.DELIVERED if target == NOWHERE else State.ANSWERED
        deliveries = self.deliveries.get(target)
        slot = None if deliveries is None else deliveries.reserve()
        delivery = None
        try:
            ended = await recorded(
                self.clock,
                lambda: self.journal.ask_ended(ask, outcome, now, claim=slot is not None),
            )
            delivery = ended.delivery
            if ended.kept:
                self._tell(ask, call, now, answer=answer, state=state)
        finally:
            if deliveries is not None:
                deliveries.fill(slot, delivery)
            elif target != NOWHERE:
                miss(self.missing, target)

    async def _not_answered(self, ask: Ask, call: Call, error: CallError) -> None:
        now = self.clock.seconds()
        possibly_billed = isinstance(error, PossiblyBilled)
        prompt = ask.prompt
        has_waited = now - ask.since >= self.config.give_up_after
        tried = Tried(
            ask.attempt,
            call.started,
            gave_up=has_waited and prompt.deadline is None,
            tried_out=possibly_billed and ask.possibly_billed + 1 >= POSSIBLY_BILLED_ATTEMPTS,
            held=ask.held,
            asked=True,
        )
        decision = decide(error, tried, self.breaker.others, now, self.random)
        held = isinstance(decision, Hold)
        self.breaker.failed(call, error, now, shared=True, alone=not held)
        if is_late(prompt, now) and not isinstance(decision, Fail):
            decision = Fail(f"{late(prompt)} ({error.reason})")
        if isinstance(decision, Fail):
            outcome: Failed | Postponed = Failed(
                decision.reason,
                give_back=not possibly_billed and error.status != 200,  # a 200 is billed
                dead_letter=dead_letter_of(ask, error, wall(self.clock), self.config),
                request_id=error.request_id,
            )
        else:
            outcome = postponed(
                decision,
                error,
                self.breaker.opens_at,
                now,
                possibly_billed=possibly_billed,
                ends=prompt.ends,
            )
        ended = await recorded(self.clock, lambda: self.journal.ask_ended(ask, outcome, now))
        self.worker.wake()  # the next attempt may be due before anything else
        if ended.kept:
            self._tell(ask, call, now, error=error, **report(outcome, now, held=held))
            if isinstance(outcome, Failed) and self.dead_letters is not None:
                self.dead_letters.wake()

    def _tell(self, ask: Ask, call: Call, now: float, **ended: Any) -> None:
        date = max(ask.prompt.accepted, wall(self.clock))  # the wall clock may have been set back
        seconds = now - call.started
        self.observer.asked(
            AskEnded(ask=ask, started=call.started, seconds=seconds, date=date, **ended)
        )
