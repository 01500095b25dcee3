"""The prompts of a batch: read them, record their results, and let the rest be asked otherwise."""

from collections.abc import AsyncIterator, Collection, Sequence
from functools import partial
from math import inf

import attrs
from attrs import define, frozen
from twisted.internet.interfaces import IReactorTime

from chatgpt_source.clock import wall
from chatgpt_source.config import Config
from chatgpt_source.errors import CallError, Lost, Permanent, PossiblyBilled
from chatgpt_source.journal import Batch, Failed, Journal, Postponed
from chatgpt_source.pipeline.breaker import Call
from chatgpt_source.pipeline.calls import foreseen, recorded
from chatgpt_source.pipeline.recording import Recording
from chatgpt_source.pipeline.tasks import together
from chatgpt_source.prompt import Ask, Prompt, Tier
from chatgpt_source.providers.batch_lines import Line
from chatgpt_source.providers.openai_batch import OpenAIBatch

LOT = 100
"""Prompts that are read or written together."""


@frozen
class Rest:
    """What becomes of the prompts that got no result.

    Attributes:
        why: Why they got none.
        again: Whether they may go into a batch again.
    """

    why: str
    again: bool = False


@define(eq=False, repr=False)
class BatchPrompts:
    """Reads and ends the prompts of batches.

    Args:
        clock: The time.
        journal: Where the prompts are.
        config: Which tier is next.
        provider: Checks answers.
        recording: Records what becomes of each prompt.
    """

    _clock: IReactorTime
    _journal: Journal
    _config: Config
    _provider: OpenAIBatch
    _recording: Recording

    async def of(self, batch: Batch) -> AsyncIterator[Prompt]:
        """The prompts of a batch, read a few at a time."""
        after = -1
        while True:
            page = await recorded(self._clock, partial(self._journal.batched, batch.id, after, LOT))
            if not page:
                return
            for _, prompt in page:
                yield prompt
            after = page[-1][0]

    async def wait_for(self, batch: Batch) -> bool:
        """Whether a prompt still waits for a batch."""
        page = await recorded(self._clock, partial(self._journal.batched, batch.id, -1, 1))
        return bool(page)

    async def record(self, batch: Batch, lines: dict[str, Line]) -> None:
        """End the prompts of some lines; what was ended before is left out."""
        while lines:
            asks = await self._claimed(batch, [*lines])
            if not asks:
                return
            await together(self._end(batch, ask, lines.pop(ask.prompt.id)) for ask in asks)

    async def _claimed(self, batch: Batch, ids: Collection[str] | None = None) -> Sequence[Ask]:
        """Some prompts of a batch, of some ids or of all, claimed to end them."""
        claim = self._journal.claim_batched
        now = self._clock.seconds()
        claims = await recorded(self._clock, partial(claim, batch.id, now, LOT, ids))
        return claims.claimed

    async def _end(self, batch: Batch, ask: Ask, line: Line) -> None:
        """End a prompt's claim by its line."""
        call, result = self._call(batch), line.result
        if isinstance(result, CallError):
            await self._not_answered(batch, ask, call, result)
            return
        try:
            answer = await foreseen(self._provider.structured(result, ask.prompt), PossiblyBilled)
        except CallError as error:
            await self._not_answered(batch, ask, call, error)
        else:
            billed = attrs.evolve(answer, service_tier=Tier.BATCH.value)
            await self._recording.answered(ask, call, billed)

    def _call(self, batch: Batch) -> Call:
        """What stands for a prompt's call: its batch, from when that was opened."""
        now = self._clock.seconds()
        return Call(now - max(0.0, wall(self._clock) - batch.created))

    async def _not_answered(self, batch: Batch, ask: Ask, call: Call, error: CallError) -> None:
        now = self._clock.seconds()
        outcome: Failed | Postponed
        if isinstance(error, Permanent):
            outcome = self._recording.failed(ask, error.reason, error)
        else:
            outcome = self._moved(ask, Rest(error.reason, again=batch.cancelled), now)
            outcome = attrs.evolve(outcome, possibly_billed=isinstance(error, PossiblyBilled))
        await self._recording.ended(ask, call, outcome, now, error=error)

    async def release(self, batch: Batch, rest: Rest) -> bool:
        """Let some prompts be asked otherwise; returns whether there were any."""
        asks = await self._claimed(batch)
        await together(self.release_one(ask, rest, batch) for ask in asks)
        return bool(asks)

    async def release_one(self, ask: Ask, rest: Rest, batch: Batch | None = None) -> None:
        """Let a claimed prompt be asked otherwise.

        Args:
            ask: Its claim.
            rest: Why, and whether it may go into a batch again.
            batch: The batch that it was in, which was sent, or was to be; None: it was in none.
        """
        now = self._clock.seconds()
        call = Call(now) if batch is None else self._call(batch)
        outcome, error = self._moved(ask, rest, now), Lost(rest.why)
        called = batch is not None
        await self._recording.ended(ask, call, outcome, now, error=error, called=called)

    def _moved(self, ask: Ask, rest: Rest, now: float) -> Postponed:
        tiers, left = self._config.tiers, deadline_of(ask.prompt) - now
        tier = tiers.of(left) if rest.again else tiers.above(Tier.BATCH, left)
        due = min(now, ask.since) if tier is Tier.BATCH else now  # the window of a batch is over
        return Postponed(due, rest.why, tier=tier)


def deadline_of(prompt: Prompt) -> float:
    """Its deadline, which each prompt of this tier has."""
    return inf if prompt.deadline is None else prompt.deadline
