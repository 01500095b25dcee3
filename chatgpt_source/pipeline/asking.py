"""Asking: claim an accepted prompt, call the model, decide what to do next, record it."""

from collections.abc import Awaitable
from typing import Any, Protocol

from attrs import field, frozen
from twisted.internet.interfaces import IReactorTime

from chatgpt_source.clock import wall
from chatgpt_source.config import Config
from chatgpt_source.delivery import event
from chatgpt_source.errors import CallError, PossiblyBilled
from chatgpt_source.journal import Answered, Failed, Journal, Postponed
from chatgpt_source.pipeline.breaker import Breaker, Call
from chatgpt_source.pipeline.calls import Random, foreseen, postponed, recorded, report, within
from chatgpt_source.pipeline.decide import POSSIBLY_BILLED_ATTEMPTS, Fail, Hold, Tried, decide
from chatgpt_source.pipeline.worker import Worker
from chatgpt_source.prompt import Answer, Ask, Delivery, Prompt, State
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
        deliveries: The worker that delivers the answers.
        dead_letters: The worker that delivers the dead letters.
    """

    clock: IReactorTime
    journal: Journal
    config: Config
    random: Random
    observer: Observer
    spans: Spans
    model: Model
    breaker: Breaker
    deliveries: Worker[Delivery]
    dead_letters: Worker[Delivery]
    worker: Worker[Ask] = field(init=False)

    @worker.default
    def _make_worker(self) -> Worker[Ask]:
        return Worker(self.clock, self.journal, self.breaker, self.journal.claim_asks, self._ask)

    async def _ask(self, ask: Ask, call: Call) -> None:
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
        outcome = Answered(answer, encoded)
        slot = self.deliveries.reserve()
        delivery = None
        try:
            ended = await recorded(
                self.clock,
                lambda: self.journal.ask_ended(ask, outcome, now, claim=slot is not None),
            )
            delivery = ended.delivery
            if ended.kept:
                self._tell(ask, call, now, answer=answer, state=State.ANSWERED)
        finally:
            self.deliveries.fill(slot, delivery)

    async def _not_answered(self, ask: Ask, call: Call, error: CallError) -> None:
        now = self.clock.seconds()
        possibly_billed = isinstance(error, PossiblyBilled)
        tried = Tried(
            ask.attempt,
            call.started,
            gave_up=now - ask.since >= self.config.give_up_after,
            tried_out=possibly_billed and ask.possibly_billed + 1 >= POSSIBLY_BILLED_ATTEMPTS,
            held=ask.held,
            asked=True,
        )
        decision = decide(error, tried, self.breaker.others, now, self.random)
        held = isinstance(decision, Hold)
        self.breaker.failed(call, error, now, shared=True, alone=not held)
        if isinstance(decision, Fail):
            outcome: Failed | Postponed = Failed(
                decision.reason,
                give_back=not possibly_billed and error.status != 200,  # a 200 is billed
                dead_letter=self._dead_letter(ask, error),
            )
        else:
            opens_at = self.breaker.opens_at
            outcome = postponed(decision, error, opens_at, now, possibly_billed=possibly_billed)
        ended = await recorded(self.clock, lambda: self.journal.ask_ended(ask, outcome, now))
        self.worker.wake()  # the next attempt may be due before anything else
        if ended.kept:
            self._tell(ask, call, now, error=error, **report(outcome, now, held=held))
            if isinstance(outcome, Failed):
                self.dead_letters.wake()

    def _dead_letter(self, ask: Ask, error: CallError) -> bytes | None:
        if self.config.dead_letter is None:
            return None
        return event.encode_unanswered(
            ask.prompt, ask.total, error, wall(self.clock), self.config.extensions
        )

    def _tell(self, ask: Ask, call: Call, now: float, **ended: Any) -> None:
        date = max(ask.prompt.accepted, wall(self.clock))  # the wall clock may have been set back
        seconds = now - call.started
        self.observer.asked(
            AskEnded(ask=ask, started=call.started, seconds=seconds, date=date, **ended)
        )
