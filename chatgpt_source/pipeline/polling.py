"""Polling: claim a submitted prompt, look for its answer at the provider, record what it says."""

from contextlib import suppress
from typing import cast

from attrs import field, frozen
from twisted.internet.interfaces import IReactorTime

from chatgpt_source.config import Config
from chatgpt_source.errors import CallError, Gone, Lost, PeerFailure, Permanent, Transient
from chatgpt_source.journal import Claims, Journal, Underway
from chatgpt_source.log import get_logger
from chatgpt_source.pipeline.backoff import FIRST_PROBE, LONGEST_POLL, poll_interval
from chatgpt_source.pipeline.breaker import NEVER, Breaker, Call
from chatgpt_source.pipeline.calls import Random, foreseen, is_given_up
from chatgpt_source.pipeline.decide import Others, decide
from chatgpt_source.pipeline.recording import Recording, is_late, late
from chatgpt_source.pipeline.route import Providers
from chatgpt_source.pipeline.tidying import Tidying
from chatgpt_source.pipeline.trouble import Trouble
from chatgpt_source.pipeline.worker import Worker
from chatgpt_source.prompt import Answer, Ask, Tier
from chatgpt_source.providers import Provider

log = get_logger(__name__)

AT_ONCE = 16
"""Polls under way at the most."""
CANT = "submitted prompts can't be looked up"
_NO_OTHERS = Others(NEVER, NEVER)


@frozen(eq=False, repr=False)
class Polling:
    """Brings in the answers to the prompts that the provider keeps under ids.

    Attributes:
        clock: The time.
        journal: Where the prompts are.
        config: How many polls at once, and how long to wait for an answer.
        random: Numbers from 0 to 1, for the backoff's jitter.
        providers: Make the calls.
        recording: Records how they ended.
        tidying: Stops the provider's work on prompts whose time is up.
        missing: The providers that have prompts and are not set, each with words for people.
        breaker: Knows whether polls fail. It never opens: each prompt has its own backoff.
    """

    clock: IReactorTime
    journal: Journal
    config: Config
    random: Random
    providers: Providers
    recording: Recording
    tidying: Tidying
    missing: dict[str, str] = field(init=False, factory=dict)
    breaker: Breaker = field(init=False)
    worker: Worker[Ask] = field(init=False)
    _trouble: Trouble = field(init=False)

    @breaker.default
    def _make_breaker(self) -> Breaker:
        return Breaker("the model", min(AT_ONCE, self.config.concurrency), self.random)

    @_trouble.default
    def _make_trouble(self) -> Trouble:
        return Trouble(log, CANT, "submitted prompts can be looked up again")

    @worker.default
    def _make_worker(self) -> Worker[Ask]:
        return Worker(self.clock, self.journal, self.breaker, self._claim, self._poll)

    async def _claim(self, now: float, most: int) -> Claims[Ask]:
        claims = await self.journal.claim_submitted(now, most)
        if not claims.claimed and claims.next_due is None and self.breaker.under_way == 0:
            self.breaker.forgive()  # nothing is submitted, so nothing fails
        return claims

    async def _poll(self, ask: Ask, call: Call) -> None:
        submitted, provider = cast(str, ask.submitted), self.providers.get(ask.provider)
        if provider is None:
            await self._poll_again(ask, call, FIRST_PROBE, PeerFailure(self._missed(ask)))
            return
        try:
            answer = await self._looked_up(provider, submitted, ask)
        except CallError as error:
            self._note(call, error)
            await self._not_answered(ask, call, error)
            return
        self._note(call, None)
        if answer is None:
            await self._poll_again(ask, call, poll_interval(ask.polls + 2))
        else:
            await self.recording.answered(ask, call, answer, ask.provider)

    async def _looked_up(self, provider: Provider, submitted: str, ask: Ask) -> Answer | None:
        """The answer, if there is one; a prompt that flex is too slow for is cancelled there.

        It is asked elsewhere only once the provider says that it does not work on it any more.
        """
        answer = await foreseen(provider.look_up(submitted, ask.prompt), Transient)
        if (
            answer is None
            and ask.prompt.tier is Tier.FLEX
            and self.recording.is_near(ask.prompt, self.clock.seconds())
        ):
            with suppress(Permanent):  # it has ended meanwhile: the next poll tells
                await foreseen(provider.cancel(submitted), Transient)
        return answer

    def _missed(self, ask: Ask) -> str:
        """Note, with words for people, that prompts wait for a provider that is not set."""
        name = ask.provider or ""
        told = (
            f"the fallback `{name}` has prompts, and `fallbacks` does not have that any more: put"
            " it back there"
        )
        if name not in self.missing:
            self.missing[name] = told
            log.warn("{told}", told=told)
        return told

    def _note(self, call: Call, error: CallError | None) -> None:
        """Note whether polls fail; the first failure and the next success are logged."""
        now = self.clock.seconds()
        if error is None or isinstance(error, Gone | Lost | Permanent):  # the provider answered
            self.breaker.succeeded(call, now)
            self._trouble.succeeded()
        else:
            self.breaker.failed(call, Transient(f"{CANT}: {error.reason}"), now, shared=False)
            self._trouble.failed(error.reason, now)

    async def _not_answered(self, ask: Ask, call: Call, error: CallError) -> None:
        now = self.clock.seconds()
        gone = isinstance(error, Gone)
        since = now if ask.missing_since is None else ask.missing_since
        if gone and not is_given_up(ask.missing + 1, since, now):
            await self._poll_again(ask, call, LONGEST_POLL, error, missing=True)
        elif gone or isinstance(error, Lost | Permanent):
            tried = self.recording.tried(ask, call, now, possibly_billed=gone)
            decision = decide(error, tried, _NO_OTHERS, now, self.random)
            outcome = self.recording.outcome(ask, decision, error, now, possibly_billed=gone)
            leftover = None if gone else self.tidying.leftover(ask.submitted, ask.provider)
            await self.recording.ended(
                *(ask, call, outcome, now), error=error, provider=ask.provider, leftover=leftover
            )
        elif isinstance(error, PeerFailure):
            await self._poll_again(ask, call, FIRST_PROBE, error)
        else:
            wait = error.retry_after or poll_interval(ask.polls + 2)
            await self._poll_again(ask, call, wait, error)

    async def _poll_again(
        self,
        ask: Ask,
        call: Call,
        wait: float,
        error: CallError | None = None,
        *,
        missing: bool = False,
    ) -> None:
        """Record that another poll follows; if it is too late for that, fail the prompt."""
        now, submitted, ends = self.clock.seconds(), cast(str, ask.submitted), ask.prompt.ends
        over = self._over(ask, error, now)
        if over is not None:
            reason = over + (f" ({error.reason})" if error else "")
            failed = self.recording.failed(ask, reason, error or Permanent(reason))
            leftover = self.tidying.leftover(submitted, ask.provider, stop=True)
            await self.recording.ended(
                *(ask, call, failed, now), error=error, provider=ask.provider, leftover=leftover
            )
            return
        until = now + wait if ends is None else min(now + wait, ends)
        outcome = Underway(submitted, until, missing, error=error.reason if error else None)
        await self.recording.ended(ask, call, outcome, now, error=error, provider=ask.provider)

    def _over(self, ask: Ask, error: CallError | None, now: float) -> str | None:
        """Why no other poll follows; None if one does. A hold is nobody's fault but ours."""
        if is_late(ask.prompt, now):
            return late(ask.prompt)
        has_waited = now - ask.since >= self.config.give_up_after
        if has_waited and ask.prompt.deadline is None and not isinstance(error, PeerFailure):
            return "the provider has no answer to it after `give_up_after`"
        return None
