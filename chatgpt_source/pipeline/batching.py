"""Batching: send prompts that have time together, and bring in what the provider makes of them.

Each step of a batch is on disk before the next one begins, so that after a crash it goes on where
it was: its file is looked for before it is uploaded again, and so is the batch before it is
submitted again, by a key of ours. A prompt is asked elsewhere only once its batch has ended.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from math import inf, isinf
from typing import Any, NoReturn, TypeVar
from uuid import uuid4

import attrs
from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from chatgpt_source.config import Config
from chatgpt_source.errors import (
    CallError,
    Gone,
    JournalUnavailable,
    Lost,
    Permanent,
    PossiblyBilled,
    Transient,
)
from chatgpt_source.journal import Batch, Batched, Failed, Journal, Postponed
from chatgpt_source.log import get_logger, log_unexpected
from chatgpt_source.pipeline.backoff import (
    LONGEST_BATCH_POLL,
    backoff,
    batch_interval,
    limit_interval,
)
from chatgpt_source.pipeline.breaker import Breaker, Call
from chatgpt_source.pipeline.calls import Random, foreseen, recorded
from chatgpt_source.pipeline.recording import Recording
from chatgpt_source.prompt import Ask, Prompt, Tier
from chatgpt_source.providers.batch_lines import Line
from chatgpt_source.providers.openai_batch import BatchStatus, OpenAIBatch

log = get_logger(__name__)

Result = TypeVar("Result")

LOOK_EVERY = 2.0
"""Seconds between two looks for prompts that are to move up, or are to be sent."""
MOST_PROMPTS = 50_000
MOST_BYTES = 190 * 10**6
"""What a file may have: a little less than OpenAI takes."""
LOT = 100
"""Prompts that are read or written together."""
SETTLED_AFTER = 10.0
"""Seconds after which a submission that got no reply is in the provider's list, if ever."""
MISSING_POLLS, MISSING_FOR = 3, 30.0
"""The polls in a row, and the seconds from the first to the last, after which a batch that the
provider does not have is given up."""
TOKEN_LIMIT = "token_limit_exceeded"  # noqa: S105 - no secret
"""The code of a batch for which others have left no room."""


class _Stopped(Exception):
    """The daemon stops; the next start goes on."""


class _TooLate(Exception):
    """A batch that was not submitted would not be answered in time."""


@define
class _Open:
    """A batch that is being gathered."""

    batch: Batch
    deadline: float
    count: int = 0
    size: int = 0

    def add(self, prompt: Prompt, size: int) -> None:
        self.count += 1
        self.size += size
        self.deadline = min(self.deadline, _deadline(prompt))


@define(eq=False)
class Batching:
    """Gathers batches, and sees each through.

    Args:
        clock: The time.
        journal: Where the prompts and the batches are.
        config: When a batch is sent, and when it is too slow.
        random: Numbers from 0 to 1, for the backoff's jitter.
        provider: Makes the calls.
        recording: Records what becomes of each prompt.
        breaker: Knows whether the calls fail.
    """

    _clock: IReactorTime
    _journal: Journal
    _config: Config
    _random: Random
    _provider: OpenAIBatch
    _recording: Recording
    breaker: Breaker
    _running: bool = field(init=False, default=False)
    _tasks: set[Deferred[None]] = field(init=False, factory=set)
    _pauses: set[Deferred[None]] = field(init=False, factory=set)
    _idle: list[Deferred[None]] = field(init=False, factory=list)
    _open: dict[str, _Open] = field(init=False, factory=dict)
    """The batches that are being gathered, by the model that they ask."""
    _gather_at: float = field(init=False, default=-inf)
    _limited: int = field(init=False, default=0)
    """How many batches in a row found no room."""

    def start(self) -> None:
        """Go on with the batches of earlier processes, and gather new ones."""
        self._running = True
        self._spawn(self._forever())

    def stop(self) -> None:
        """Begin no call any more; the calls under way go on."""
        self._running = False
        for pause in list(self._pauses):
            pause.cancel()

    def cancel(self) -> None:
        """Cancel the calls under way; the next start goes on."""
        for task in list(self._tasks):
            task.cancel()

    async def idle(self) -> None:
        """Wait until nothing runs. Only what was stopped stays idle."""
        while self._tasks:
            done: Deferred[None] = Deferred()
            self._idle.append(done)
            await done

    def _spawn(self, work: Coroutine[Deferred[Any], Any, None]) -> None:
        task = Deferred.fromCoroutine(work)
        self._tasks.add(task)
        task.addBoth(self._finished, task)

    def _finished(self, result: object, task: Deferred[None]) -> None:
        self._tasks.discard(task)
        if isinstance(result, Failure) and not result.check(CancelledError, _Stopped):
            log_unexpected(log, "a batch", result)
        if not self._tasks:
            idle, self._idle = self._idle, []
            for waiter in idle:
                waiter.callback(None)

    async def _sleep(self, seconds: float) -> None:
        """Wait; ends at once, and raises `_Stopped`, at a stop."""
        if self._running:
            pause: Deferred[None] = deferLater(self._clock, seconds)
            self._pauses.add(pause)
            try:
                await pause
            except CancelledError:
                if self._running:
                    raise
            finally:
                self._pauses.discard(pause)
        if not self._running:
            raise _Stopped

    # Gathering.

    async def _forever(self) -> None:
        await self._take_up()
        while True:
            try:
                await self._look()
            except (CancelledError, _Stopped):
                raise
            except JournalUnavailable:
                log.debug("no batch can be gathered: the journal can't be used")
            except Exception:  # noqa: BLE001 - after a bug, the next look may do better
                log_unexpected(log, "gathering a batch", Failure())
            await self._sleep(LOOK_EVERY)

    async def _take_up(self) -> None:
        """Go on with the batches of earlier processes."""
        for batch in await recorded(self._clock, self._journal.batches):
            if batch.deadline is not None:
                self._spawn(self._see_to_the_end(batch, is_new=False))
                continue
            opened = _Open(batch, inf)
            model = None
            async for prompt in self._prompts(batch):
                model = self._model(prompt)
                opened.add(prompt, len(self._provider.line(prompt)))
            if model is None:
                await recorded(self._clock, lambda id_=batch.id: self._journal.drop_batch(id_))  # type: ignore[misc]
            else:
                self._open[model] = opened

    async def _look(self) -> None:
        now = self._clock.seconds()
        while await self._journal.move_up(now, self._config.tiers):
            pass
        if now < max(self._gather_at, self.breaker.opens_at):
            return
        window = now - self._config.batch_window
        if self._open or await self._journal.is_batch_due(now, window, MOST_PROMPTS):
            await self._gather(now)

    async def _gather(self, now: float) -> None:
        """Put all prompts that wait for a batch into batches, and send these."""
        while True:
            claims = await self._journal.claim_asks(now, LOT, Tier.BATCH)
            placed = [(ask, await self._place(ask.prompt)) for ask in claims.claimed]
            await gatherResults(
                [Deferred.fromCoroutine(self._put(ask, batch, now)) for ask, batch in placed]
            )
            if not self._running:
                raise _Stopped
            if not placed:
                break
        for model in list(self._open):
            await self._close(model)

    async def _place(self, prompt: Prompt) -> int:
        """Count a prompt into the batch of its model; returns its id."""
        model, size = self._model(prompt), len(self._provider.line(prompt))
        opened = self._open.get(model)
        if opened and (opened.count >= MOST_PROMPTS or opened.size + size > MOST_BYTES):
            await self._close(model)
            opened = None
        if opened is None:
            key = uuid4().hex
            batch = await recorded(self._clock, lambda: self._journal.open_batch(key))
            opened = self._open[model] = _Open(batch, inf)
        opened.add(prompt, size)
        return opened.batch.id

    async def _put(self, ask: Ask, batch: int, now: float) -> None:
        await recorded(self._clock, lambda: self._journal.ask_ended(ask, Batched(batch), now))

    async def _close(self, model: str) -> None:
        opened = self._open[model]
        batch = await self._stored(attrs.evolve(opened.batch, deadline=opened.deadline))
        del self._open[model]
        log.info("batch {key}: sending {count} prompts", key=batch.key, count=opened.count)
        self._spawn(self._see_to_the_end(batch, is_new=True))

    def _model(self, prompt: Prompt) -> str:
        return str(prompt.details.call.get("model", self._config.model))

    async def _prompts(self, batch: Batch) -> AsyncIterator[Prompt]:
        """The prompts of a batch, read a few at a time."""
        after = -1
        while True:
            page = await recorded(
                self._clock,
                lambda after=after: self._journal.batched(batch.id, after, LOT),  # type: ignore[misc]
            )
            if not page:
                return
            for _, prompt in page:
                yield prompt
            after = page[-1][0]

    async def _stored(self, batch: Batch) -> Batch:
        await recorded(self._clock, lambda: self._journal.store_batch(batch))
        return batch

    # One batch.

    async def _see_to_the_end(self, batch: Batch, *, is_new: bool) -> None:
        """See a batch through, also after a bug: then it goes on from what is on disk."""
        while True:
            try:
                await self._see_through(batch, is_new=is_new)
            except (CancelledError, _Stopped):
                raise
            except Exception:  # noqa: BLE001 - its prompts wait for nothing else
                log_unexpected(log, "a batch", Failure())
            else:
                return
            await self._sleep(LONGEST_BATCH_POLL)
            known = await recorded(self._clock, self._journal.batches)
            batch, is_new = next(each for each in known if each.id == batch.id), False

    async def _see_through(self, batch: Batch, *, is_new: bool) -> None:
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
        except _TooLate:
            pass
        except Permanent as error:
            why = error.reason
            log.error("batch {key} was refused: {why}", key=batch.key, why=why)
        await self._release(batch, why, tier)
        for file in filter(None, (batch.file, *(batch.results or ()))):
            await self._delete(file)
        await recorded(self._clock, lambda: self._journal.drop_batch(batch.id))

    async def _submitted(self, batch: Batch, *, is_new: bool) -> Batch:
        """Upload the file and submit the batch, unless the provider has them already.

        Raises:
            _TooLate: If it is certain that the provider has no such batch, and too late for one.
            Permanent: If the provider refuses it.
        """
        until = self._sent_until(batch)
        if batch.file is None:
            file = await self._uploaded(batch, until, is_new=is_new)
            batch = await self._stored(attrs.evolve(batch, file=file))
        is_sure = is_new
        while True:
            remote = None
            if not is_sure:
                await self._sleep(SETTLED_AFTER)
                remote = await self._call(self._provider.find, batch.key, batch.created)
            try:
                if remote is None:
                    remote = await self._call(
                        self._provider.submit, batch.key, batch.file, until=until
                    )
            except PossiblyBilled:
                is_sure = False
            else:
                return await self._stored(attrs.evolve(batch, remote=remote))

    async def _uploaded(self, batch: Batch, until: float, *, is_new: bool) -> str:
        """The id of a batch's file, which is looked for before it is uploaded again.

        Raises:
            _TooLate: If it has no prompts any more, or is too late.
        """
        is_sure = is_new

        async def upload() -> str:
            nonlocal is_sure
            found = None if is_sure else await self._provider.find_file(batch.key)
            is_sure = False
            return await self._upload(batch) if found is None else found

        try:
            return await self._call(upload, until=until)
        except Gone as error:
            raise _TooLate from error

    async def _upload(self, batch: Batch) -> str:
        size = 0
        async for prompt in self._prompts(batch):
            size += len(self._provider.line(prompt))

        async def lines() -> AsyncIterator[bytes]:
            async for prompt in self._prompts(batch):
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
            await self._sleep(batch_interval(polls))
            if not batch.cancelled and self._clock.seconds() >= self._too_late_at(batch):
                batch = await self._cancelled(batch)
            try:
                status = await self._call(self._provider.look_up, batch.remote)
            except Gone as error:
                now = self._clock.seconds()
                gone_since, gone = gone_since if gone else now, gone + 1
                if gone < MISSING_POLLS or now - gone_since < MISSING_FOR:
                    continue
                status = BatchStatus(error.reason, ended=True)
            else:
                gone = 0
            if status.ended:
                return await self._stored(attrs.evolve(batch, results=status.files)), status

    async def _cancelled(self, batch: Batch) -> Batch:
        log.warn("batch {key} is too slow for a deadline: cancelling it", key=batch.key)
        try:
            await self._once(self._provider.cancel, batch.remote)
        except (Gone, Permanent):
            pass  # it has ended
        except CallError:
            return batch  # it may have ended: it is polled before the next try
        return await self._stored(attrs.evolve(batch, cancelled=True))

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
        self._gather_at = self._clock.seconds() + wait
        log.warn("the model has no room for batches: the next follows in {wait:.0f} s", wait=wait)
        return Tier.BATCH, f"the model has no room for its batch{code}"

    async def _read(self, batch: Batch, file: str) -> None:
        """Record the results in a file; what was recorded before is left out."""

        async def take(lines: Sequence[Line]) -> None:
            await self._record(batch, {line.prompt: line for line in lines})

        try:
            await self._call(self._provider.results, file, take)
        except (Gone, Permanent) as error:
            log.error("results of batch {key} are lost: {why}", key=batch.key, why=error.reason)

    async def _record(self, batch: Batch, lines: dict[str, Line]) -> None:
        while lines:
            now = self._clock.seconds()
            claims = await recorded(
                self._clock,
                lambda now=now: self._journal.claim_batched(batch.id, now, LOT, [*lines]),  # type: ignore[misc]
            )
            if not claims.claimed:
                return
            await gatherResults(
                [
                    Deferred.fromCoroutine(self._end(ask, lines.pop(ask.prompt.id)))
                    for ask in claims.claimed
                ]
            )

    async def _end(self, ask: Ask, line: Line) -> None:
        """End a prompt's claim by its line."""
        call, result = Call(self._clock.seconds()), line.result
        try:
            if isinstance(result, CallError):
                _raise(result)
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
        while True:
            now = self._clock.seconds()
            claims = await recorded(
                self._clock,
                lambda now=now: self._journal.claim_batched(batch.id, now, LOT),  # type: ignore[misc]
            )
            if not claims.claimed:
                return
            await gatherResults(
                [
                    Deferred.fromCoroutine(
                        self._recording.ended(
                            ask, Call(now), self._moved(ask, why, now, tier), now, error=Lost(why)
                        )
                    )
                    for ask in claims.claimed
                ]
            )

    def _moved(self, ask: Ask, why: str, now: float, tier: Tier | None) -> Postponed:
        above = self._config.tiers.above(Tier.BATCH, _deadline(ask.prompt) - now)
        due = now if tier is None else min(now, ask.since)  # a batch again: its window is over
        return Postponed(due, why, tier=tier or above)

    async def _delete(self, file: str) -> None:
        with suppress(Gone, Permanent):
            await self._call(self._provider.delete, file)

    def _sent_until(self, batch: Batch) -> float:
        """When it is too late to send a batch: there must be time enough for the next tier."""
        tiers = self._config.tiers
        next_one = self._config.batch_margin if isinf(tiers.flex_over) else tiers.flex_over
        return (batch.deadline or 0.0) - (tiers.batch_over + next_one) / 2

    def _too_late_at(self, batch: Batch) -> float:
        return (batch.deadline or 0.0) - self._config.batch_margin

    async def _call(
        self, call: Callable[..., Awaitable[Result]], *values: Any, until: float | None = None
    ) -> Result:
        """Make a call until it succeeds, with a backoff.

        Raises:
            _TooLate: If it has not at `until`.
            Gone: If the provider does not have what it is about.
            PossiblyBilled: If it may have succeeded.
            Permanent: If the provider refuses it.
        """
        attempt = 0
        while True:
            now = self._clock.seconds()
            if until is not None and now >= until:
                raise _TooLate
            if self.breaker.opens_at > now:
                wait = self.breaker.opens_at - now
                await self._sleep(wait if until is None else min(wait, until - now))
                continue
            attempt += 1
            try:
                return await self._once(call, *values)
            except CallError as error:
                if isinstance(error, Gone | PossiblyBilled | Permanent):
                    raise
                wait = error.retry_after or backoff(attempt, self._random)
            await self._sleep(wait)

    async def _once(self, call: Callable[..., Awaitable[Result]], *values: Any) -> Result:
        """Make a call, and note how it ended."""
        slot = self.breaker.start(self._clock.seconds())
        try:
            result = await foreseen(call(*values), Transient)
        except CallError as error:
            self._note(slot, error)
            raise
        else:
            self.breaker.succeeded(slot, self._clock.seconds())
            return result
        finally:
            self.breaker.end(slot)

    def _note(self, slot: Call, error: CallError) -> None:
        now = self._clock.seconds()
        if isinstance(error, Gone | Permanent):
            self.breaker.succeeded(slot, now)
            return
        known = self.breaker.trouble
        self.breaker.failed(slot, error, now, shared=True)
        if known is None and not self.breaker.held:
            log.warn("a call about a batch failed: {why}", why=error.reason)


def _raise(error: CallError) -> NoReturn:
    raise error


def _deadline(prompt: Prompt) -> float:
    """Its deadline, which each prompt of this tier has."""
    return inf if prompt.deadline is None else prompt.deadline
