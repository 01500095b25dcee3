"""Recording: commit how a prompt's call ended, tell it, and start what follows.

Asking, polling and expiring share it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import evolve, frozen
from twisted.internet.interfaces import IReactorTime

from chatgpt_source.clock import wall
from chatgpt_source.config import Config
from chatgpt_source.delivery import event
from chatgpt_source.errors import CallError, PeerFailure
from chatgpt_source.journal import TIME_IS_UP, Answered, Failed, Journal, Postponed, Underway
from chatgpt_source.journal.attempts import Attempt
from chatgpt_source.journal.pause import ASKING
from chatgpt_source.pipeline import attempts
from chatgpt_source.pipeline.breaker import NEVER, Call
from chatgpt_source.pipeline.calls import miss, postponed, recorded, report
from chatgpt_source.pipeline.decide import (
    POSSIBLY_BILLED_ATTEMPTS,
    Decision,
    Fail,
    Retry,
    Tried,
)
from chatgpt_source.pipeline.pauses import Pauses
from chatgpt_source.pipeline.tidying import Tidying
from chatgpt_source.pipeline.worker import Worker
from chatgpt_source.prompt import NOWHERE, Answer, Ask, Delivery, Leftover, Prompt, State, Tier
from chatgpt_source.telemetry.observer import AskEnded, Observer


def is_late(prompt: Prompt, now: float) -> bool:
    """Whether it is too late to ask a prompt."""
    return prompt.ends is not None and prompt.ends <= now


def late(prompt: Prompt) -> str:
    """Why a prompt fails for which it is too late."""
    if prompt.deadline is not None and prompt.deadline == prompt.ends:
        return f"{TIME_IS_UP}: its deadline passed before it was answered"
    return f"{TIME_IS_UP}: it expired before it was answered"


@frozen(eq=False, repr=False)
class Recording:
    """Records the ends of the claims of prompts.

    Attributes:
        clock: The time.
        journal: Where the prompts are.
        config: How long to try, and what an event has.
        observer: Receives the outcome of each call.
        deliveries: The workers that deliver the answers, by destination.
        dead_letters: The worker that delivers the dead letters, if there is one.
        tidying: Deletes at the provider what is not needed there any more.
        missing: The targets for which events wait and that are not set, each with words.
        pauses: Knows how long asking was not paused.
    """

    clock: IReactorTime
    journal: Journal
    config: Config
    observer: Observer
    deliveries: Mapping[str, Worker[Delivery]]
    dead_letters: Worker[Delivery] | None
    tidying: Tidying
    missing: dict[str, str]
    pauses: Pauses

    async def answered(
        self,
        ask: Ask,
        call: Call,
        answer: Answer,
        provider: str | None = None,
        earlier: Sequence[Attempt] = (),
    ) -> None:
        """Record an answer of a provider; its delivery starts at once if there is room.

        Args:
            ask: The claim.
            call: The call.
            answer: The answer.
            provider: The name of the provider that was called; None: the first.
            earlier: The calls of this claim that failed before.
        """
        now = self.clock.seconds()
        if "provider" in self.config.include:
            answer = evolve(answer, provider=provider or self.config.provider)
        encoded = event.encode(ask.prompt, answer, self.config.include, self.config.extensions)
        own = attempts.of_ask(
            *(ask, call, now, wall(self.clock), provider, None),
            answered=True,
            request_id=answer.request_id,
        )
        outcome = Answered(answer, encoded, self.config.keep_answers, (*earlier, own))
        target = ask.prompt.target
        state = State.DELIVERED if target == NOWHERE else State.ANSWERED
        deliveries = self.deliveries.get(target)
        slot = None if deliveries is None else deliveries.reserve()
        delivery = leftover = None
        if target == NOWHERE:
            leftover = self.tidying.leftover(ask.submitted, ask.provider)
        try:
            ended = await recorded(
                self.clock,
                lambda: self.journal.ask_ended(
                    ask, outcome, now, claim=slot is not None, leftover=leftover
                ),
            )
            delivery = ended.delivery
            if ended.kept:
                self.observer.asked(
                    AskEnded(**self._common(ask, call, now, provider), answer=answer, state=state)
                )
                if leftover is not None:
                    self.tidying.worker.wake()
        finally:
            if deliveries is not None:
                deliveries.fill(slot, delivery)
            elif target != NOWHERE:
                miss(self.missing, target)

    def tried(
        self, ask: Ask, call: Call, now: float, *, possibly_billed: bool, is_last: bool = True
    ) -> Tried:
        """The calls for a prompt of which the last one failed, at the last provider or before."""
        has_waited = self.pauses.waited(ASKING, ask.since, now) >= self.config.give_up_after
        return Tried(
            ask.attempt,
            call.started,
            gave_up=is_last and has_waited and ask.prompt.deadline is None,
            tried_out=possibly_billed and ask.possibly_billed + 1 >= POSSIBLY_BILLED_ATTEMPTS,
            held=ask.held,
            asked=True,
        )

    def outcome(
        self,
        ask: Ask,
        decision: Decision,
        error: CallError,
        now: float,
        *,
        opens_at: float = NEVER,
        possibly_billed: bool = False,
        give_back: bool = False,
    ) -> Failed | Postponed:
        """What a decision means for a prompt; one for which it is too late fails.

        Args:
            ask: Its claim.
            decision: The decision.
            error: How its call failed.
            now: The time.
            opens_at: When the breaker of its tier opens.
            possibly_billed: Whether the call may have been billed.
            give_back: Whether a prompt that fails gives its unit back.
        """
        prompt = ask.prompt
        if isinstance(decision, Fail):
            return self.failed(ask, decision.reason, error, give_back=give_back)
        if is_late(prompt, now):
            reason = f"{late(prompt)} ({error.reason})"
            return self.failed(ask, reason, error, give_back=give_back)
        tier = self._other_tier(prompt, decision, error, now, possibly_billed=possibly_billed)
        delayed = postponed(
            decision,
            error,
            NEVER if tier else opens_at,
            now,
            possibly_billed=possibly_billed,
            ends=prompt.ends,
        )
        return evolve(delayed, tier=tier) if tier else delayed

    def _other_tier(
        self,
        prompt: Prompt,
        decision: Decision,
        error: CallError,
        now: float,
        *,
        possibly_billed: bool,
    ) -> Tier | None:
        """The standard tier for a prompt that flex should not serve any more; else None."""
        if prompt.tier is not Tier.FLEX:
            return None
        refused = isinstance(error, PeerFailure) and isinstance(decision, Retry)
        over = possibly_billed or refused or self.is_near(prompt, now)
        return Tier.STANDARD if over else None

    def is_near(self, prompt: Prompt, now: float) -> bool:
        """Whether a prompt's deadline has come within `flex_over`."""
        over = self.config.tiers.flex_over
        return prompt.deadline is not None and prompt.deadline - now <= over

    def failed(self, ask: Ask, reason: str, error: CallError, *, give_back: bool = False) -> Failed:
        """The end of a prompt that is not asked any more, with its dead letter."""
        letter = None
        if self.config.dead_letter is not None:
            date, extensions = wall(self.clock), self.config.extensions
            letter = event.encode_unanswered(ask.prompt, ask.total, error, date, extensions)
        return Failed(reason, give_back, letter, error.request_id)

    async def ended(
        self,
        ask: Ask,
        call: Call,
        outcome: Underway | Postponed | Failed,
        now: float,
        *,
        error: CallError | None = None,
        held: bool = False,
        called: bool = True,
        provider: str | None = None,
        leftover: Leftover | None = None,
        earlier: Sequence[Attempt] = (),
    ) -> bool:
        """Record a call that brought no answer; returns whether the claim was still its own.

        Args:
            ask: The claim.
            call: The call.
            outcome: What becomes of the prompt.
            now: When the call ended.
            error: How it failed, if it did.
            held: Whether all calls to the model are held.
            called: Whether there was a call.
            provider: The name of the provider that was called; None: the first.
            leftover: What the provider keeps, and nobody needs any more.
            earlier: The calls of this claim that failed before.
        """
        if called:
            own = attempts.of_ask(ask, call, now, wall(self.clock), provider, error)
            outcome = evolve(outcome, calls=(*earlier, own))
        ended = await recorded(
            self.clock, lambda: self.journal.ask_ended(ask, outcome, now, leftover=leftover)
        )
        if not ended.kept:
            return False
        if leftover is not None:
            self.tidying.worker.wake()
        told = self._common(ask, call, now, provider) | report(outcome, now, held=held)
        if isinstance(outcome, Underway):
            told["submitted"] = outcome.submitted
            told["state"] = State.SUBMITTED if ask.submitted is None else None
        elif isinstance(outcome, Postponed) and ask.is_submitted:
            told["state"] = State.ACCEPTED
        self.observer.asked(AskEnded(**told, error=error, called=called))
        if isinstance(outcome, Failed) and self.dead_letters is not None:
            self.dead_letters.wake()
        return True

    def moved_on(
        self,
        ask: Ask,
        call: Call,
        error: CallError,
        now: float,
        provider: str | None,
        *,
        held: bool,
    ) -> Attempt:
        """Tell of a call that failed, after which the same claim goes on at another provider.

        The end of the claim is to be recorded with what this returns.
        """
        common = self._common(ask, call, now, provider)
        self.observer.asked(AskEnded(**common, error=error, wait=0.0, held=held))
        return attempts.of_ask(ask, call, now, wall(self.clock), provider, error)

    def _common(self, ask: Ask, call: Call, now: float, provider: str | None) -> dict[str, Any]:
        """What the observer is told of each end."""
        return {
            "ask": ask,
            "is_fallback": provider is not None,
            "provider": provider or (self.config.provider if self.config.fallbacks else None),
            "started": call.started,
            "seconds": now - call.started,
            # The wall clock may have been set back.
            "date": max(ask.prompt.accepted, wall(self.clock)),
        }
