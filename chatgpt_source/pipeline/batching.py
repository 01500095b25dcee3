"""Batching: gather the prompts that have time, and send them together; move the others up."""

from collections.abc import Callable, Mapping
from functools import partial
from math import inf
from uuid import uuid4

import attrs
from attrs import define, field
from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from chatgpt_source.config import Config
from chatgpt_source.errors import JournalUnavailable
from chatgpt_source.journal import Batch, Batched, Journal
from chatgpt_source.log import get_logger, log_unexpected
from chatgpt_source.pipeline.batch import MOST_PROMPTS, Batches
from chatgpt_source.pipeline.batch_calls import BatchCalls, Progress, Stopped, Taken
from chatgpt_source.pipeline.batch_prompts import LOT, BatchPrompts, Rest, deadline_of
from chatgpt_source.pipeline.breaker import Breaker
from chatgpt_source.pipeline.calls import Random, recorded
from chatgpt_source.pipeline.lease import Lease
from chatgpt_source.pipeline.recording import Recording
from chatgpt_source.pipeline.tasks import Tasks, together
from chatgpt_source.prompt import Ask, Prompt, Tier
from chatgpt_source.providers.openai_batch import OpenAIBatch

log = get_logger(__name__)

NO_ROOM = "the model has no room for batches"
UNWRITABLE = "it can't be put into a batch; the log says why"
LOOK_EVERY = 2.0
"""Seconds between two looks for prompts that are to move up, or are to be sent."""
MOST_BYTES = 190 * 10**6
"""What a file may have: a little less than OpenAI takes."""


@define
class _Open:
    """A batch that is being gathered."""

    batch: Batch
    deadline: float = inf
    count: int = 0
    size: int = 0

    def add(self, prompt: Prompt, size: int) -> None:
        self.count += 1
        self.size += size
        self.deadline = min(self.deadline, deadline_of(prompt))


@define(eq=False, repr=False)
class Batching:
    """Gathers batches, and has each seen through.

    Args:
        clock: The time.
        journal: Where the prompts and the batches are.
        config: When a batch is sent, and when it is too slow.
        random: Numbers from 0 to 1, for the backoff's jitter.
        provider: Makes the calls.
        recording: Records what becomes of each prompt.
        breaker: Knows whether the calls fail.
        lease: The lease within which a batch is submitted.
        is_paused: Whether asking is paused: then nothing is gathered and submitted.
    """

    _clock: IReactorTime
    _journal: Journal
    _config: Config
    _random: Random
    _provider: OpenAIBatch
    _recording: Recording
    breaker: Breaker
    _lease: Lease
    _is_paused: Callable[[], bool]
    _tasks: Tasks = field(init=False, factory=lambda: Tasks(log, "a batch", (Stopped, Taken)))
    _calls: BatchCalls = field(init=False)
    _prompts: BatchPrompts = field(init=False)
    _batches: Batches = field(init=False)
    _open: dict[str, _Open] = field(init=False, factory=dict)
    """The batches that are being gathered, by the model that they ask."""
    _full: list[_Open] = field(init=False, factory=list)
    """Those that take no more prompts, and are to be sent."""

    @_calls.default
    def _make_calls(self) -> BatchCalls:
        return BatchCalls(self._clock, self._random, self.breaker, self._is_paused)

    @_prompts.default
    def _make_prompts(self) -> BatchPrompts:
        return BatchPrompts(
            self._clock, self._journal, self._config, self._provider, self._recording
        )

    @_batches.default
    def _make_batches(self) -> Batches:
        return Batches(
            self._clock,
            self._journal,
            self._config,
            self._provider,
            self._prompts,
            self._calls,
            self._lease,
        )

    @property
    def progress(self) -> Mapping[int, Progress]:
        """What is known of the calls about the batches under way here, by their ids."""
        return self._batches.progress

    @property
    def opens_at(self) -> float:
        """When the next batch may be sent, as far as that depends on time; in the past: now."""
        return max(self.breaker.opens_at, self._batches.opens_at)

    @property
    def trouble(self) -> str | None:
        """Why batches are held or fail, for people; None if they do not."""
        if self.breaker.trouble is None and self._batches.opens_at > self._clock.seconds():
            return NO_ROOM
        return self.breaker.trouble

    def start(self) -> None:
        """Go on with the batches of earlier processes, and gather new ones."""
        self._calls.running = True
        self._tasks.spawn(self._forever())

    def restart(self) -> None:
        """Let all batches go, which another daemon may have, and begin anew."""
        self._tasks.cancel()
        self._open.clear()
        self._full.clear()
        self._batches.forget()
        if self._calls.running:
            self._tasks.spawn(self._forever())

    def stop(self) -> None:
        """Begin no call any more; the calls under way go on."""
        self._calls.stop()

    def cancel(self) -> None:
        """Cancel the calls under way; the next start goes on."""
        self._tasks.cancel()

    async def idle(self) -> None:
        """Wait until nothing runs. Only what was stopped stays idle."""
        await self._tasks.idle()

    async def _forever(self) -> None:
        has_taken_up = False
        while True:
            try:
                if self._journal.is_shared or not has_taken_up:
                    await self._take_up()
                    has_taken_up = True
                await self._look()
            except (CancelledError, Stopped):
                raise
            except JournalUnavailable:
                log.debug("no batch can be gathered: the journal can't be used")
            except Exception:  # noqa: BLE001 - after a bug, the next look may do better
                log_unexpected(log, "gathering a batch", Failure())
            await self._calls.sleep(LOOK_EVERY)

    async def _take_up(self) -> None:
        """Go on with the batches of earlier processes, and of others that have ended."""
        for batch in await recorded(self._clock, self._journal.claim_batches):
            if batch.deadline is not None:
                self._tasks.spawn(self._batches.see_through(batch, is_new=False))
                continue
            try:
                await self._reopen(batch)
            except (CancelledError, Stopped):
                raise
            except Exception:  # noqa: BLE001 - its prompts wait for nothing else
                log_unexpected(log, "gathering a batch", Failure())
                self._tasks.spawn(self._batches.give_up(batch, UNWRITABLE))

    async def _reopen(self, batch: Batch) -> None:
        """Go on with a batch that an earlier process was gathering."""
        opened, model = _Open(batch), None
        async for prompt in self._prompts.of(batch):
            model = self._model(prompt)
            opened.add(prompt, len(self._provider.line(prompt)))
        if model is None:
            await recorded(self._clock, partial(self._journal.drop_batch, batch.id))
        elif model in self._open:  # the settings have another model now
            self._full.append(opened)
        else:
            self._open[model] = opened

    async def _look(self) -> None:
        now = self._clock.seconds()
        while await self._journal.move_up(now, self._config.tiers):
            pass
        if now < self.breaker.opens_at or self._is_paused():
            await self._send_all()  # what is in a batch already is given up in time only then
            return
        if now < self._batches.opens_at or not self._batches.has_room:
            return
        window = now - self._config.batch_window
        if self._open or self._full or await self._journal.is_batch_due(now, window, MOST_PROMPTS):
            await self._gather(now)

    async def _gather(self, now: float) -> None:
        """Put all prompts that wait for a batch into batches, and send these."""
        most = min(MOST_PROMPTS, self._batches.most)
        while True:
            claims = await self._journal.claim_asks(now, LOT, Tier.BATCH)
            placed = [(ask, await self._placed(ask.prompt, most)) for ask in claims.claimed]
            await together(self._put(ask, outcome, now) for ask, outcome in placed)
            if not self._calls.running:
                raise Stopped
            if await self._send_full() and most < MOST_PROMPTS:
                return  # there may be no room for more
            if not placed:
                break
        await self._send_all()

    async def _placed(self, prompt: Prompt, most: int) -> Batched | None:
        """Count a prompt into the batch of its model; None if it can't be written."""
        try:
            model, size = self._model(prompt), len(self._provider.line(prompt))
        except Exception:  # noqa: BLE001 - one prompt must not stop the others
            log_unexpected(log, "gathering a batch", Failure())
            return None
        opened = self._open.get(model)
        if opened and (opened.count >= most or opened.size + size > MOST_BYTES):
            self._full.append(self._open.pop(model))
            opened = None
        if opened is None:
            batch = await recorded(self._clock, partial(self._journal.open_batch, uuid4().hex))
            opened = self._open[model] = _Open(batch)
        opened.add(prompt, size)
        return Batched(opened.batch.id)

    async def _put(self, ask: Ask, outcome: Batched | None, now: float) -> None:
        if outcome is None:
            await self._prompts.release_one(ask, Rest(UNWRITABLE))
        else:
            await recorded(self._clock, partial(self._journal.ask_ended, ask, outcome, now))

    async def _send_all(self) -> None:
        """Send all batches that are being gathered."""
        self._full += self._open.values()
        self._open.clear()
        await self._send_full()

    async def _send_full(self) -> bool:
        """Send the batches that take no more prompts; returns whether there were any."""
        were_any = bool(self._full)
        while self._full:
            full = self._full[0]
            try:
                batch = await self._batches.stored(attrs.evolve(full.batch, deadline=full.deadline))
            except Taken:
                del self._full[0]
                continue
            del self._full[0]
            log.info("batch {key}: sending {count} prompts", key=batch.key, count=full.count)
            self._tasks.spawn(self._batches.see_through(batch, is_new=True))
        return were_any

    def _model(self, prompt: Prompt) -> str:
        return str(prompt.details.call.get("model", self._config.model))
