"""A batch: upload its file, submit it, wait for its end, and record what became of each prompt.

Each step is on disk before the next one begins, so that after a crash it goes on where it was: its
file is looked for before it is uploaded again, and so is the batch before it is submitted again, by
a key of ours. A prompt is asked elsewhere only once its batch has ended.
"""

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import suppress
from functools import partial
from math import inf, isinf

import attrs
from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from chatgpt_source.config import Config
from chatgpt_source.errors import CallError, Gone, Lost, Permanent, PossiblyBilled, Transient
from chatgpt_source.journal import Batch, Failed, Journal, Postponed
from chatgpt_source.log import get_logger, log_unexpected
from chatgpt_source.pipeline.backoff import (
    LONGEST_BATCH_POLL,
    batch_interval,
    limit_interval,
)
from chatgpt_source.pipeline.batch_calls import BatchCalls, Stopped, TooLate
from chatgpt_source.pipeline.breaker import Call
from chatgpt_source.pipeline.calls import foreseen, is_given_up, recorded
from chatgpt_source.pipeline.recording import Recording
from chatgpt_source.prompt import Ask, Prompt, Tier
from chatgpt_source.providers.batch_lines import Line
from chatgpt_source.providers.openai_batch import BatchStatus, OpenAIBatch

log = get_logger(__name__)

LOT = 100
"""Prompts that are read or written together."""
SETTLED_AFTER = 10.0
"""Seconds after which a submission that got no reply is in the provider's list, if ever."""
TOKEN_LIMIT = "token_limit_exceeded"  # noqa: S105 - no secret
"""The code of a batch for which others have left no room."""


@define(eq=False)
class Batches:
    """Sees batches through.

    Args:
        clock: The time.
        journal: Where the prompts and the batches are.
        config: When a batch is too slow.
        provider: Makes a call.
        recording: Records what becomes of each prompt.
        calls: Makes each call until it succeeds.

    Attributes:
        opens_at: When the next batch may find room at the provider.
    """

    _clock: IReactorTime
    _journal: Journal
    _config: Config
    _provider: OpenAIBatch
    _recording: Recording
    _calls: BatchCalls
    opens_at: float = field(init=False, default=-inf)
    _limited: int = field(init=False, default=0)
    """How many batches in a row found no room."""

    async def see_through(self, batch: Batch, *, is_new: bool) -> None:
        """See a batch through, also after a bug: then it goes on from what is on disk."""
        while True:
            try:
                await self._go_through(batch, is_new=is_new)
            except (CancelledError, Stopped):
                raise
            except Exception:  # noqa: BLE001 - its prompts wait for nothing else
                log_unexpected(log, "a batch", Failure())
            else:
                return
            await self._calls.sleep(LONGEST_BATCH_POLL)
            known = await recorded(self._clock, self._journal.batches)
            batch, is_new = next(each for each in known if each.id == batch.id), False

    async def _go_through(self, batch: Batch, *, is_new: bool) -> None:
        """Take a batch from where it is to its end."""
        tier: Tier | None = None
        why = "it was not sent in time"
        try:
            if batch.results is None:
                if batch.remote is None:
                    batch = await self._submitted(batch, is_new=is_new)
                batch, status = await self._ended(batch)
                tier, why = self._told(batch, status)
            for file in batch.results or ():
                await self._read(batch, file)
        except TooLate:
            pass
        except Permanent as error:
            why = error.reason
            log.error("batch {key} was refused: {why}", key=batch.key, why=why)
        await self._release(batch, why, tier)
        for file in filter(None, (batch.file, *(batch.results or ()))):
            await self._delete(file)
        await recorded(self._clock, partial(self._journal.drop_batch, batch.id))

    async def _submitted(self, batch: Batch, *, is_new: bool) -> Batch:
        """Upload the file and submit the batch, unless the provider has them already.

        Raises:
            TooLate: If it is certain that the provider has no such batch, and too late for one.
            Permanent: If the provider refuses it.
        """
        until = self._sent_until(batch)
        if batch.file is None:
            file = await self._uploaded(batch, until, is_new=is_new)
            batch = await self.stored(attrs.evolve(batch, file=file))
        is_sure = is_new
        while True:
            remote = None
            if not is_sure:
                await self._calls.sleep(SETTLED_AFTER)
                remote = await self._calls.make(self._provider.find, batch.key, batch.created)
            try:
                if remote is None:
                    remote = await self._calls.make(
                        self._provider.submit, batch.key, batch.file, until=until
                    )
            except PossiblyBilled:
                is_sure = False
            else:
                return await self.stored(attrs.evolve(batch, remote=remote))

    async def _uploaded(self, batch: Batch, until: float, *, is_new: bool) -> str:
        """The id of a batch's file, which is looked for before it is uploaded again.

        Raises:
            TooLate: If it has no prompts any more, or is too late.
        """
        is_sure = is_new

        async def upload() -> str:
            nonlocal is_sure
            found = None if is_sure else await self._provider.find_file(batch.key)
            is_sure = False
            return await self._upload(batch) if found is None else found

        try:
            return await self._calls.make(upload, until=until)
        except Gone as error:
            raise TooLate from error

    async def _upload(self, batch: Batch) -> str:
        size = 0
        async for prompt in self.prompts(batch):
            size += len(self._provider.line(prompt))

        async def lines() -> AsyncIterator[bytes]:
            async for prompt in self.prompts(batch):
                yield self._provider.line(prompt)

        if not size:
            raise Gone("all prompts of the batch were cancelled, or have expired")
        try:
            return await self._provider.upload(batch.key, size, lines())
        except ValueError:
            raise Transient("prompts of the batch ended while it was sent") from None

    async def _ended(self, batch: Batch) -> tuple[Batch, BatchStatus]:
        """Wait until the provider has ended a batch; cancel it if it is too slow."""
        polls = 0
        gone_since, gone = 0.0, 0
        while True:
            polls += 1
            await self._calls.sleep(batch_interval(polls))
            if not batch.cancelled and self._clock.seconds() >= self._too_late_at(batch):
                batch = await self._cancelled(batch)
            try:
                status = await self._calls.make(self._provider.look_up, batch.remote)
            except Gone as error:
                now = self._clock.seconds()
                gone_since, gone = gone_since if gone else now, gone + 1
                if not is_given_up(gone, gone_since, now):
                    continue
                status = BatchStatus(error.reason, ended=True)
            else:
                gone = 0
            if status.ended:
                return await self.stored(attrs.evolve(batch, results=status.files)), status

    async def _cancelled(self, batch: Batch) -> Batch:
        log.warn("batch {key} is too slow for a deadline: cancelling it", key=batch.key)
        try:
            await self._calls.once(self._provider.cancel, batch.remote)
        except (Gone, Permanent):
            pass  # it has ended
        except CallError:
            return batch  # it may have ended: it is polled before the next try
        return await self.stored(attrs.evolve(batch, cancelled=True))

    def _told(self, batch: Batch, status: BatchStatus) -> tuple[Tier | None, str]:
        """Log how a batch has ended; the tier for its rest, if that is not the next, and why."""
        code = "" if status.code is None else f", {status.code}"
        log.info(
            "batch {key} has ended ({status}{code})", key=batch.key, status=status.status, code=code
        )
        if status.code != TOKEN_LIMIT:
            self._limited = 0
            return None, f"its batch ended without an answer ({status.status}{code})"
        self._limited += 1
        wait = limit_interval(self._limited)
        self.opens_at = self._clock.seconds() + wait
        log.warn("the model has no room for batches: the next follows in {wait:.0f} s", wait=wait)
        return Tier.BATCH, f"the model has no room for its batch{code}"

    async def _read(self, batch: Batch, file: str) -> None:
        """Record the results in a file; what was recorded before is left out."""

        async def take(lines: Sequence[Line]) -> None:
            await self._record(batch, {line.prompt: line for line in lines})

        try:
            await self._calls.make(self._provider.results, file, take)
        except (Gone, Permanent) as error:
            log.error("results of batch {key} are lost: {why}", key=batch.key, why=error.reason)

    async def _record(self, batch: Batch, lines: dict[str, Line]) -> None:
        while lines:
            asks = await self._claimed(batch, [*lines])
            if not asks:
                return
            ends = [self._end(ask, lines.pop(ask.prompt.id)) for ask in asks]
            await gatherResults(map(Deferred.fromCoroutine, ends))

    async def _claimed(self, batch: Batch, ids: Collection[str] | None = None) -> Sequence[Ask]:
        """Some prompts of a batch, of some ids or of all, claimed to end them."""
        claim = self._journal.claim_batched
        now = self._clock.seconds()
        claims = await recorded(self._clock, partial(claim, batch.id, now, LOT, ids))
        return claims.claimed

    async def _end(self, ask: Ask, line: Line) -> None:
        """End a prompt's claim by its line."""
        call, result = Call(self._clock.seconds()), line.result
        if isinstance(result, CallError):
            await self._not_answered(ask, call, result)
            return
        try:
            answer = await foreseen(self._provider.structured(result, ask.prompt), PossiblyBilled)
        except CallError as error:
            await self._not_answered(ask, call, error)
        else:
            billed = attrs.evolve(answer, service_tier=Tier.BATCH.value)
            await self._recording.answered(ask, call, billed)

    async def _not_answered(self, ask: Ask, call: Call, error: CallError) -> None:
        now = self._clock.seconds()
        outcome: Failed | Postponed
        if isinstance(error, Permanent):
            outcome = self._recording.failed(ask, error.reason, error)
        else:
            outcome = self._moved(ask, error.reason, now, None)
            outcome = attrs.evolve(outcome, possibly_billed=isinstance(error, PossiblyBilled))
        await self._recording.ended(ask, call, outcome, now, error=error)

    async def _release(self, batch: Batch, why: str, tier: Tier | None) -> None:
        """Let the prompts that got no result be asked otherwise."""
        while asks := await self._claimed(batch):
            now = self._clock.seconds()
            ends = [
                self._recording.ended(
                    ask, Call(now), self._moved(ask, why, now, tier), now, error=Lost(why)
                )
                for ask in asks
            ]
            await gatherResults(map(Deferred.fromCoroutine, ends))

    def _moved(self, ask: Ask, why: str, now: float, tier: Tier | None) -> Postponed:
        above = self._config.tiers.above(Tier.BATCH, deadline_of(ask.prompt) - now)
        due = now if tier is None else min(now, ask.since)  # a batch again: its window is over
        return Postponed(due, why, tier=tier or above)

    async def _delete(self, file: str) -> None:
        with suppress(Gone, Permanent):
            await self._calls.make(self._provider.delete, file)

    def _sent_until(self, batch: Batch) -> float:
        """When it is too late to send a batch: there must be time enough for the next tier."""
        tiers = self._config.tiers
        next_one = self._config.batch_margin if isinf(tiers.flex_over) else tiers.flex_over
        return (batch.deadline or 0.0) - (tiers.batch_over + next_one) / 2

    def _too_late_at(self, batch: Batch) -> float:
        return (batch.deadline or 0.0) - self._config.batch_margin

    async def prompts(self, batch: Batch) -> AsyncIterator[Prompt]:
        """The prompts of a batch, read a few at a time."""
        after = -1
        while True:
            page = await recorded(self._clock, partial(self._journal.batched, batch.id, after, LOT))
            if not page:
                return
            for _, prompt in page:
                yield prompt
            after = page[-1][0]

    async def stored(self, batch: Batch) -> Batch:
        """Store a batch."""
        await recorded(self._clock, partial(self._journal.store_batch, batch))
        return batch


def deadline_of(prompt: Prompt) -> float:
    """Its deadline, which each prompt of this tier has."""
    return inf if prompt.deadline is None else prompt.deadline
