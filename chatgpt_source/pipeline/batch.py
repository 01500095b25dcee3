"""A batch: upload its file, submit it, wait for its end, and record what became of each prompt.

Each step is on disk before the next one begins, so that after a crash it goes on where it was: its
file is looked for before it is uploaded again, and so is the batch before it is submitted again, by
a key of ours. A prompt is asked elsewhere only once its batch has ended.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from functools import partial
from math import inf, isinf

import attrs
from attrs import define, field
from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from chatgpt_source.config import Config
from chatgpt_source.errors import CallError, Gone, Permanent, PossiblyBilled, Transient
from chatgpt_source.journal import Batch, Journal
from chatgpt_source.log import get_logger, log_unexpected
from chatgpt_source.pipeline.backoff import (
    LONGEST_BATCH_POLL,
    LONGEST_POLL,
    batch_interval,
    limit_interval,
)
from chatgpt_source.pipeline.batch_calls import BatchCalls, Progress, Stopped, Taken, TooLate
from chatgpt_source.pipeline.batch_prompts import LOT, BatchPrompts, Rest
from chatgpt_source.pipeline.calls import foreseen, is_given_up, recorded
from chatgpt_source.pipeline.lease import Lease
from chatgpt_source.pipeline.tidying import GIVEN_UP_AFTER
from chatgpt_source.providers.batch_lines import Line
from chatgpt_source.providers.openai_batch import DAY, BatchStatus, OpenAIBatch

log = get_logger(__name__)

MOST_PROMPTS = 50_000
"""What a file may have by OpenAI's documentation."""
PATIENCE = 600.0
"""Seconds of tries after which it is seen whether there is a point in going on."""
SETTLED_AFTER = 10.0
"""Seconds after which a submission that got no reply is in the provider's list, if ever."""
TOKEN_LIMIT = "token_limit_exceeded"  # noqa: S105 - no secret
"""The code of a batch for which others have left no room."""


@define
class _Missing:
    """Counts the calls in a row that did not find an id at the provider."""

    calls: int = 0
    since: float = 0.0

    def is_given_up(self, now: float) -> bool:
        """Count another one; returns whether it is the last."""
        self.since = self.since if self.calls else now
        self.calls += 1
        return is_given_up(self.calls, self.since, now)


@define(eq=False, repr=False)
class Batches:
    """Sees batches through.

    Args:
        clock: The time.
        journal: Where the prompts and the batches are.
        config: When a batch is too slow.
        provider: Makes a call.
        prompts: Their prompts.
        calls: Makes each call until it succeeds.
        lease: The lease within which a batch is submitted.

    Attributes:
        opens_at: When the next batch may find room at the provider.
        most: How many prompts the next batch may have.
        progress: What is known of the calls about the batches under way, by their ids.
    """

    _clock: IReactorTime
    _journal: Journal
    _config: Config
    _provider: OpenAIBatch
    _prompts: BatchPrompts
    _calls: BatchCalls
    _lease: Lease
    opens_at: float = field(init=False, default=-inf)
    most: int = field(init=False, default=MOST_PROMPTS)
    progress: dict[int, Progress] = field(init=False, factory=dict)
    _limited: int = field(init=False, default=0)
    """How many batches in a row found no room."""
    _under_way: set[int] = field(init=False, factory=set)
    """The batches that are sent, or have been."""
    _unsure: set[int] = field(init=False, factory=set)
    """The batches of which the provider may have a file that is not known here."""
    _sent: dict[int, int] = field(init=False, factory=dict)
    """How many prompts the batches have that this process has uploaded."""

    async def see_through(self, batch: Batch, *, is_new: bool) -> None:
        """See a batch through, also after a bug: then it goes on from what is on disk."""
        while True:
            self._under_way.add(batch.id)
            self.progress[batch.id] = Progress()
            try:
                await self._go_through(batch, is_new=is_new)
            except (CancelledError, Stopped, Taken):
                raise
            except Exception:  # noqa: BLE001 - its prompts wait for nothing else
                log_unexpected(log, "a batch", Failure())
            else:
                return
            finally:
                self._under_way.discard(batch.id)
                self._unsure.discard(batch.id)
                self._sent.pop(batch.id, None)
                self.progress.pop(batch.id, None)
            await self._calls.sleep(LONGEST_BATCH_POLL)
            known = await recorded(self._clock, self._journal.batches)
            found = next((each for each in known if each.id == batch.id), None)
            if found is None:
                raise Taken
            batch, is_new = found, False

    def forget(self) -> None:
        """Forget the batches under way."""
        self._under_way.clear()

    @property
    def has_room(self) -> bool:
        """Whether another batch may be sent: one at a time, after one that was too large."""
        return self.most == MOST_PROMPTS or not self._under_way

    async def give_up(self, batch: Batch, why: str) -> None:
        """Let all prompts of a batch that was not submitted be asked otherwise."""
        await self._close(batch, Rest(why))

    async def _go_through(self, batch: Batch, *, is_new: bool) -> None:
        """Take a batch from where it is to its end."""
        try:
            if batch.remote is None:
                batch = await self._with_file(batch, is_new=is_new)
                batch = await self._submitted(batch, is_new=is_new)
        except TooLate:
            await self.give_up(batch, "its batch was not sent in time")
            return
        except Permanent as error:
            log.error("batch {key} was refused: {why}", key=batch.key, why=error.reason)
            await self.give_up(batch, error.reason)
            return
        rest = Rest("its batch ended without an answer", again=batch.cancelled)
        if batch.results is None:
            batch, status = await self._ended(batch)
            rest = self._told(batch, status)
            self._note_room(batch, is_limited=status.code == TOKEN_LIMIT)
        for file in batch.results or ():
            await self._read(batch, file)
        await self._close(batch, rest)

    async def _submitted(self, batch: Batch, *, is_new: bool) -> Batch:
        """Submit the batch, unless the provider has it already.

        Raises:
            TooLate: If it is certain that the provider has no such batch, and too late for one; or
                if nobody can say whether it has.
            Permanent: If the provider refuses it.
        """
        until = self._sent_until(batch)

        async def submit() -> str:
            submitting = self._provider.submit(batch.key, batch.file or "")
            return await foreseen(self._lease.within(submitting), PossiblyBilled)

        is_sure = is_new
        while True:
            remote = None
            if not is_sure:
                await self._calls.sleep(SETTLED_AFTER, self._about(batch))
                remote = await self._found(batch)
            try:
                if remote is None:
                    remote = await self._calls.make(
                        submit, until=until, about=self._about(batch), submits=True
                    )
            except PossiblyBilled:
                is_sure = False
            else:
                log.info("batch {key} is {remote} there", key=batch.key, remote=remote)
                return await self.stored(attrs.evolve(batch, remote=remote))

    async def _found(self, batch: Batch) -> str | None:
        """The provider's id of a batch that it may have; None if it has not.

        Raises:
            TooLate: If nobody can say that in time.
        """
        find = partial(self._provider.find, batch.key, batch.created)
        while True:
            with suppress(TooLate):
                return await self._calls.make(find, until=self._soon(), about=self._about(batch))
            if self._is_over(batch):
                raise TooLate

    async def _with_file(self, batch: Batch, *, is_new: bool) -> Batch:
        """Upload the file, unless the provider has it already.

        Raises:
            TooLate: If the batch has no prompts any more, or is too late.
            Permanent: If the provider refuses it.
        """
        if batch.file is not None:
            return batch
        file = None
        if not is_new:  # also if it is too late for it: it must not stay there
            file = await self._found_file(batch)
        if file is None:
            file = await self._uploaded(batch, self._sent_until(batch))
        return await self.stored(attrs.evolve(batch, file=file))

    async def _found_file(self, batch: Batch) -> str | None:
        """The file that the provider may have; None if it has none, or does not say so soon."""
        find = partial(self._provider.find_file, batch.key)
        self._unsure.add(batch.id)
        with suppress(TooLate):
            found = await self._calls.make(find, until=self._soon(), about=self._about(batch))
            self._unsure.discard(batch.id)
            return found
        return None

    async def _uploaded(self, batch: Batch, until: float) -> str:
        is_sure = True

        async def upload() -> str:
            nonlocal is_sure
            found = None if is_sure else await self._provider.find_file(batch.key)
            is_sure = False
            if found is not None:
                return found
            try:
                return await self._upload(batch)
            except CallError as error:
                if error.status is None or error.status >= 500:
                    self._unsure.add(batch.id)
                raise

        try:
            return await self._calls.make(
                upload, until=until, about=self._about(batch), submits=True
            )
        except Gone as error:
            raise TooLate from error

    async def _upload(self, batch: Batch) -> str:
        size = count = 0
        async for prompt in self._prompts.of(batch):
            size += len(self._provider.line(prompt))
            count += 1

        async def lines() -> AsyncIterator[bytes]:
            async for prompt in self._prompts.of(batch):
                yield self._provider.line(prompt)

        self._sent[batch.id] = count
        if not count:
            raise Gone("all prompts of the batch were cancelled, or have expired")
        try:
            return await self._provider.upload(batch.key, size, lines())
        except ValueError:
            raise Transient("prompts of the batch ended while it was sent") from None

    async def _ended(self, batch: Batch) -> tuple[Batch, BatchStatus]:
        """Wait until the provider has ended a batch; cancel it if it is of no use any more."""
        polls, missing = 0, _Missing()
        while True:
            polls += 1
            await self._calls.sleep(batch_interval(polls), self._about(batch))
            was_cancelled = batch.cancelled
            batch, until = await self._cancelled_if_useless(batch)
            polls = polls if batch.cancelled is was_cancelled else 0
            look_up = partial(self._provider.look_up, batch.remote or "")
            try:
                status = await self._calls.make(look_up, until=until, about=self._about(batch))
            except TooLate:
                if not self._is_over(batch):
                    continue
                status = BatchStatus("unknown", ended=True)
            except Gone as error:
                if not missing.is_given_up(self._clock.seconds()):
                    continue
                status = BatchStatus(error.reason, ended=True)
            missing = _Missing()
            if status.status == "cancelled":
                batch = attrs.evolve(batch, cancelled=True)
            if status.files and status.ended:
                batch = await self.stored(attrs.evolve(batch, results=status.files))
            if status.ended:
                return batch, status

    async def _cancelled_if_useless(self, batch: Batch) -> tuple[Batch, float]:
        """Cancel a batch that is too slow, or for which nobody waits; and when to look again."""
        left = (batch.deadline or 0.0) - self._config.batch_margin - self._clock.seconds()
        if batch.cancelled:
            return batch, self._soon()
        if left <= 0:
            why = "it is too slow for a deadline"
        elif not await self._prompts.wait_for(batch):
            why = "no prompt waits for it any more"
        else:
            return batch, min(self._soon(), self._clock.seconds() + left)
        log.info("batch {key}: cancelling it, since {why}", key=batch.key, why=why)
        try:
            await self._calls.once(self._provider.cancel, batch.remote, about=self._about(batch))
        except CallError:  # it may have ended: it is looked at before the next try
            return batch, self._soon()
        return await self.stored(attrs.evolve(batch, cancelled=True)), self._soon()

    def _told(self, batch: Batch, status: BatchStatus) -> Rest:
        """Log how a batch has ended; what becomes of its rest."""
        code = "" if status.code is None else f", {status.code}"
        tell = log.info if status.status == "completed" or batch.cancelled else log.warn
        tell(
            "batch {key} has ended ({status}{code})", key=batch.key, status=status.status, code=code
        )
        if status.code == TOKEN_LIMIT:
            return Rest(f"the model has no room for its batch{code}", again=True)
        why = f"its batch ended without an answer ({status.status}{code})"
        return Rest(why, again=batch.cancelled)

    def _note_room(self, batch: Batch, *, is_limited: bool) -> None:
        """Note whether the provider had room for a batch; one that was alone was too large."""
        if not is_limited:
            self._limited, self.most = 0, min(MOST_PROMPTS, self.most * 2)
            return
        self._limited += 1
        wait = limit_interval(self._limited)
        self.opens_at = self._clock.seconds() + wait
        if self._under_way <= {batch.id}:
            self.most = max(LOT, min(self.most, self._sent.get(batch.id, self.most)) // 2)
        log.warn(
            "the model has no room for batches: the next follows in {wait:.0f} s,"
            " with {most} prompts at the most",
            wait=wait,
            most=self.most,
        )

    async def _read(self, batch: Batch, file: str) -> None:
        """Record the results in a file; what was recorded before is left out."""

        async def take(lines: Sequence[Line]) -> None:
            await self._prompts.record(batch, {line.prompt: line for line in lines})

        missing = _Missing()
        while await self._prompts.wait_for(batch):
            try:
                read = partial(self._provider.results, file, take)
                await self._calls.make(read, until=self._soon(), about=self._about(batch))
            except TooLate:
                continue
            except Gone as error:
                if not missing.is_given_up(self._clock.seconds()):
                    await self._calls.sleep(LONGEST_POLL, self._about(batch))
                    continue
                log.error("results of batch {key} are lost: {why}", key=batch.key, why=error.reason)
            return

    async def _close(self, batch: Batch, rest: Rest) -> None:
        """Let the prompts that got no result be asked otherwise; delete the files and the batch."""
        while await self._prompts.release(batch, rest):
            if not self._calls.running:
                raise Stopped
        await self.stored(batch)  # else another daemon needs the files
        self._under_way.discard(batch.id)
        uploaded = batch.file
        if uploaded is None and batch.id in self._unsure:
            uploaded = await self._found_file(batch)
        for file in filter(None, (uploaded, *(batch.results or ()))):
            await self._delete(file)
        await recorded(self._clock, partial(self._journal.drop_batch, batch.id))

    async def _delete(self, file: str) -> None:
        try:
            until = self._clock.seconds() + GIVEN_UP_AFTER
            await self._calls.make(self._provider.delete, file, until=until)
        except Gone:
            pass
        except (Permanent, TooLate):
            log.warn("the provider did not delete the file {file} of a batch", file=file)

    def _about(self, batch: Batch) -> Progress | None:
        return self.progress.get(batch.id)

    def _is_over(self, batch: Batch) -> bool:
        """Whether nobody waits for a batch any more, and whatever it costs is spent."""
        return self._clock.seconds() >= (batch.deadline or 0.0) + DAY

    def _soon(self) -> float:
        return self._clock.seconds() + PATIENCE

    def _sent_until(self, batch: Batch) -> float:
        """When it is too late to send a batch: there must be time enough for the next tier."""
        tiers = self._config.tiers
        next_one = self._config.batch_margin if isinf(tiers.flex_over) else tiers.flex_over
        return (batch.deadline or 0.0) - (tiers.batch_over + next_one) / 2

    async def stored(self, batch: Batch) -> Batch:
        """Store a batch.

        Raises:
            Taken: If it is another daemon's now.
        """
        if not await recorded(self._clock, partial(self._journal.store_batch, batch)):
            log.warn("batch {key}: another daemon has taken it over", key=batch.key)
            raise Taken
        return batch
