"""Asking: claim an accepted prompt, call the model, decide what to do next, record it."""

from collections.abc import Sequence
from functools import partial

from attrs import evolve, field, frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from chatgpt_source.config import Config
from chatgpt_source.errors import CallError, NoRoom, PeerFailure, PossiblyBilled
from chatgpt_source.journal import Claims, Journal, Underway
from chatgpt_source.journal.attempts import Attempt
from chatgpt_source.journal.pause import ASKING
from chatgpt_source.pipeline.backoff import poll_interval
from chatgpt_source.pipeline.breaker import Breaker, Call
from chatgpt_source.pipeline.calls import Random, foreseen, within
from chatgpt_source.pipeline.decide import Decision, Fail, Hold, Retry, decide
from chatgpt_source.pipeline.expiring import Expiring
from chatgpt_source.pipeline.lease import Lease
from chatgpt_source.pipeline.pauses import Pauses
from chatgpt_source.pipeline.recording import Recording, is_late
from chatgpt_source.pipeline.route import Route
from chatgpt_source.pipeline.worker import Worker
from chatgpt_source.prompt import Answer, Ask, Submitted, Tier
from chatgpt_source.telemetry.spans import Spans


@frozen
class _Failure:
    """How a call failed, and what is to be done."""

    error: CallError
    decision: Decision


@frozen(eq=False, repr=False)
class Asking:
    """Asks the model each accepted prompt of a tier, or fails it with a reason.

    If a provider fails, the same claim goes on at the next one.

    Attributes:
        clock: The time.
        journal: Where the prompts are.
        config: When to go on at the next provider.
        random: Numbers from 0 to 1, for the backoff's jitter.
        spans: Traces the calls.
        route: The providers that may be asked.
        recording: Records how the calls ended.
        expiring: Fails those whose time is up.
        polls: The worker that polls those that were submitted.
        lease: The lease within which calls are made.
        pauses: Knows whether asking is paused.
        standard: The breaker of the standard tier, if this is another one at the same provider.
    """

    clock: IReactorTime
    journal: Journal
    config: Config
    random: Random
    spans: Spans
    route: Route
    recording: Recording
    expiring: Expiring
    polls: Worker[Ask]
    lease: Lease
    pauses: Pauses
    standard: Breaker | None = None
    worker: Worker[Ask] = field(init=False)

    @worker.default
    def _make_worker(self) -> Worker[Ask]:
        is_paused = partial(self.pauses.is_paused, ASKING)
        return Worker(self.clock, self.journal, self.route, self._claim, self._ask, is_paused)

    @property
    def _is_flex(self) -> bool:
        return self.standard is not None

    def _claim(self, now: float, most: int) -> Deferred[Claims[Ask]]:
        if self._is_flex:
            return self.journal.claim_asks(now, most, Tier.FLEX)
        return self.journal.claim_asks(now, most)

    async def _ask(self, ask: Ask, call: Call) -> None:
        if is_late(ask.prompt, self.clock.seconds()):
            await self.expiring.expire(ask, call)
            return
        if ask.attempt > 1:  # it waited for one already: others try it again
            self.route.spare(call, self.clock.seconds())
        earlier: _Failure | None = None
        billed = False
        calls: list[Attempt] = []
        while True:
            stop = self.route.at(call)
            try:
                with self.spans.chat(ask, stop.name) as span:
                    asking = stop.provider.ask(
                        within(span, ask.prompt),
                        fresh=ask.possibly_billed > 0,
                        flex=self._is_flex,
                    )
                    answer = await foreseen(self.lease.within(asking), PossiblyBilled)
                    if isinstance(answer, Answer):
                        span.answered(answer)
            except CallError as error:
                now = self.clock.seconds()
                billed |= isinstance(error, PossiblyBilled)
                place = self._next_place(ask, call, error, now)
                failure = self._failed(ask, call, error, now, is_last=place is None)
                if place is None or isinstance(failure.decision, Fail):
                    await self._not_answered(
                        ask, call, failure, earlier, now, billed=billed, calls=calls
                    )
                    return
                held = isinstance(failure.decision, Hold)
                calls.append(self.recording.moved_on(ask, call, error, now, stop.name, held=held))
                if not held:
                    earlier = failure
                ask = evolve(
                    ask,
                    attempt=ask.attempt + 1,
                    total=ask.total + 1,
                    possibly_billed=ask.possibly_billed + isinstance(error, PossiblyBilled),
                )
                self.route.move(call, place, now)
                continue
            break
        if isinstance(answer, Submitted):
            await self._submitted(ask, call, answer, calls)
        else:
            stop.breaker.succeeded(call, self.clock.seconds())
            await self.recording.answered(ask, call, answer, stop.name, calls)

    async def _submitted(
        self, ask: Ask, call: Call, submitted: Submitted, calls: Sequence[Attempt]
    ) -> None:
        now, stop = self.clock.seconds(), self.route.at(call)
        outcome = Underway(submitted.id, now + poll_interval(1), provider=stop.name)
        await self.recording.ended(  # before anything else
            ask, call, outcome, now, provider=stop.name, earlier=calls
        )
        stop.breaker.succeeded(call, now)
        self.polls.wake()

    def _next_place(self, ask: Ask, call: Call, error: CallError, now: float) -> int | None:
        """Where the prompt is asked next in this claim; None: nowhere."""
        if is_late(ask.prompt, now) or self.pauses.is_paused(ASKING):
            return None
        if isinstance(error, PossiblyBilled) and not self.config.fallback_after_timeout:
            return None
        return self.route.after(call, now)

    def _failed(
        self, ask: Ask, call: Call, error: CallError, now: float, *, is_last: bool
    ) -> _Failure:
        """Decide what to do, and tell the breakers."""
        breaker = self.route.at(call).breaker
        possibly_billed = isinstance(error, PossiblyBilled)
        tried = self.recording.tried(
            ask, call, now, possibly_billed=possibly_billed, is_last=is_last
        )
        decision = decide(error, tried, breaker.others, now, self.random)
        breaker.failed(call, error, now, shared=True, alone=not isinstance(decision, Hold))
        if self.standard is not None:
            if error.throttled and not isinstance(error, NoRoom | PeerFailure):
                self.standard.throttle(call, error, now)
            if isinstance(error, PeerFailure) and isinstance(decision, Fail):
                decision = Retry(now)  # on the standard tier
        return _Failure(error.bare(), decision)

    async def _not_answered(
        self,
        ask: Ask,
        call: Call,
        failure: _Failure,
        earlier: _Failure | None,
        now: float,
        *,
        billed: bool,
        calls: Sequence[Attempt],
    ) -> None:
        error, decision = failure.error, failure.decision
        if earlier is not None and isinstance(decision, Hold):  # not all are held
            decision = earlier.decision
        held = isinstance(decision, Hold)
        outcome = self.recording.outcome(
            ask,
            decision,
            error,
            now,
            opens_at=self.route.opens_at,
            possibly_billed=isinstance(error, PossiblyBilled),
            give_back=not billed and error.status != 200,  # a 200 is billed
        )
        await self.recording.ended(
            *(ask, call, outcome, now),
            error=error,
            held=held,
            provider=self.route.at(call).name,
            earlier=calls,
        )
        self.worker.wake()  # the next attempt may be due before anything else
