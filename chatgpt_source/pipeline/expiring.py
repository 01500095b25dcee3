"""Expiring: claim an accepted prompt whose time is up, and fail it without a call."""

from attrs import field, frozen
from twisted.internet.interfaces import IReactorTime

from chatgpt_source.errors import Permanent
from chatgpt_source.journal import Journal
from chatgpt_source.pipeline.breaker import Breaker, Call
from chatgpt_source.pipeline.calls import Random
from chatgpt_source.pipeline.recording import Recording, late
from chatgpt_source.pipeline.worker import Worker
from chatgpt_source.prompt import Ask

AT_ONCE = 64
"""Prompts that are failed at once."""


@frozen(eq=False, repr=False)
class Expiring:
    """Fails each prompt whose time is up, also while the model's breaker is open.

    Attributes:
        clock: The time.
        journal: Where the prompts are.
        random: Numbers from 0 to 1.
        recording: Records what becomes of a prompt.
    """

    clock: IReactorTime
    journal: Journal
    random: Random
    recording: Recording
    worker: Worker[Ask] = field(init=False)

    @worker.default
    def _make_worker(self) -> Worker[Ask]:
        # It calls no peer, so this breaker never opens: it only says how many at once.
        free = Breaker("nobody", AT_ONCE, self.random)
        return Worker(self.clock, self.journal, free, self.journal.claim_expired, self.expire)

    async def expire(self, ask: Ask, call: Call) -> None:
        """Fail a claimed prompt."""
        error = Permanent(late(ask.prompt))
        outcome = self.recording.failed(ask, error.reason, error, give_back=True)
        now = self.clock.seconds()
        leftover = self.recording.tidying.leftover(ask.submitted, ask.provider, stop=True)
        await self.recording.ended(
            *(ask, call, outcome, now),
            error=error,
            called=False,
            provider=ask.provider,
            leftover=leftover,
        )
