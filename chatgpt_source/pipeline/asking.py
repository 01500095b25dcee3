"""Asking: claim an accepted prompt, call the model, decide what to do next, record it."""

from attrs import field, frozen
from twisted.internet.interfaces import IReactorTime

from chatgpt_source.errors import CallError, PossiblyBilled
from chatgpt_source.journal import Journal, Underway
from chatgpt_source.pipeline.backoff import poll_interval
from chatgpt_source.pipeline.breaker import Breaker, Call
from chatgpt_source.pipeline.calls import Random, foreseen, within
from chatgpt_source.pipeline.decide import Hold, decide
from chatgpt_source.pipeline.expiring import Expiring
from chatgpt_source.pipeline.recording import Recording, is_late
from chatgpt_source.pipeline.worker import Worker
from chatgpt_source.prompt import Answer, Ask, Submitted
from chatgpt_source.providers import Provider
from chatgpt_source.telemetry.spans import Spans


@frozen
class Asking:
    """Asks the model each accepted prompt, or fails it with a reason.

    Attributes:
        clock: The time.
        journal: Where the prompts are.
        random: Numbers from 0 to 1, for the backoff's jitter.
        spans: Traces the calls.
        provider: Makes the calls.
        breaker: The model's.
        recording: Records how they ended.
        expiring: Fails those whose time is up.
        polls: The worker that polls those that were submitted.
    """

    clock: IReactorTime
    journal: Journal
    random: Random
    spans: Spans
    provider: Provider
    breaker: Breaker
    recording: Recording
    expiring: Expiring
    polls: Worker[Ask]
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
                asking = self.provider.ask(within(span, ask.prompt), fresh=ask.possibly_billed > 0)
                answer = await foreseen(asking, PossiblyBilled)
                if isinstance(answer, Answer):
                    span.answered(answer)
        except CallError as error:
            await self._not_answered(ask, call, error)
            return
        if isinstance(answer, Submitted):
            await self._submitted(ask, call, answer)
        else:
            self.breaker.succeeded(call, self.clock.seconds())
            await self.recording.answered(ask, call, answer)

    async def _submitted(self, ask: Ask, call: Call, submitted: Submitted) -> None:
        now = self.clock.seconds()
        outcome = Underway(submitted.id, now + poll_interval(1))
        await self.recording.ended(ask, call, outcome, now)  # before anything else
        self.breaker.succeeded(call, now)
        self.polls.wake()

    async def _not_answered(self, ask: Ask, call: Call, error: CallError) -> None:
        now = self.clock.seconds()
        possibly_billed = isinstance(error, PossiblyBilled)
        tried = self.recording.tried(ask, call, now, possibly_billed=possibly_billed)
        decision = decide(error, tried, self.breaker.others, now, self.random)
        held = isinstance(decision, Hold)
        self.breaker.failed(call, error, now, shared=True, alone=not held)
        outcome = self.recording.outcome(
            ask,
            decision,
            error,
            now,
            opens_at=self.breaker.opens_at,
            possibly_billed=possibly_billed,
            give_back=not possibly_billed and error.status != 200,  # a 200 is billed
        )
        await self.recording.ended(ask, call, outcome, now, error=error, held=held)
        self.worker.wake()  # the next attempt may be due before anything else
