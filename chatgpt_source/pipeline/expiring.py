"""Expiring: claim an accepted prompt whose time is up, and fail it without a call."""

from attrs import field, frozen
from twisted.internet.interfaces import IReactorTime

from chatgpt_source.clock import wall
from chatgpt_source.config import Config
from chatgpt_source.errors import Permanent
from chatgpt_source.journal import TIME_IS_UP, Failed, Journal
from chatgpt_source.pipeline.breaker import Breaker, Call
from chatgpt_source.pipeline.calls import Random, dead_letter_of, recorded
from chatgpt_source.pipeline.worker import Worker
from chatgpt_source.prompt import Ask, Delivery, Prompt, State
from chatgpt_source.telemetry.observer import AskEnded, Observer

AT_ONCE = 64
"""Prompts that are failed at once."""


def is_late(prompt: Prompt, now: float) -> bool:
    """Whether it is too late to ask a prompt."""
    return prompt.ends is not None and prompt.ends <= now


def late(prompt: Prompt) -> str:
    """Why a prompt fails for which it is too late."""
    if prompt.deadline is not None and prompt.deadline == prompt.ends:
        return f"{TIME_IS_UP}: its deadline passed before it was answered"
    return f"{TIME_IS_UP}: it expired before it was answered"


@frozen
class Expiring:
    """Fails each prompt whose time is up, also while the model's breaker is open.

    Attributes:
        clock: The time.
        journal: Where the prompts are.
        config: What an event has.
        random: Numbers from 0 to 1.
        observer: Receives each outcome.
        dead_letters: The worker that delivers the dead letters, if there is one.
    """

    clock: IReactorTime
    journal: Journal
    config: Config
    random: Random
    observer: Observer
    dead_letters: Worker[Delivery] | None
    worker: Worker[Ask] = field(init=False)

    @worker.default
    def _make_worker(self) -> Worker[Ask]:
        # It calls no peer, so this breaker never opens: it only says how many at once.
        free = Breaker("nobody", AT_ONCE, self.random)
        return Worker(self.clock, self.journal, free, self.journal.claim_expired, self.expire)

    async def expire(self, ask: Ask, call: Call) -> None:
        """Fail a claimed prompt."""
        now, date = self.clock.seconds(), max(ask.prompt.accepted, wall(self.clock))
        error = Permanent(late(ask.prompt))
        letter = dead_letter_of(ask, error, wall(self.clock), self.config)
        outcome = Failed(error.reason, give_back=True, dead_letter=letter)
        ended = await recorded(self.clock, lambda: self.journal.ask_ended(ask, outcome, now))
        if not ended.kept:
            return
        self.observer.asked(
            AskEnded(
                ask=ask,
                started=call.started,
                seconds=0.0,
                date=date,
                error=error,
                state=State.FAILED,
                reason=error.reason,
                called=False,
            )
        )
        if self.dead_letters is not None:
            self.dead_letters.wake()
