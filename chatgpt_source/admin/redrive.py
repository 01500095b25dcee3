"""Redrives failed prompts, one or all."""

from attrs import define, field
from twisted.internet.defer import Deferred, FirstError, gatherResults

from chatgpt_source.errors import NotRedriven, QuotaUsedUp
from chatgpt_source.journal import Journal
from chatgpt_source.log import get_logger
from chatgpt_source.pipeline import Pipeline
from chatgpt_source.prompt import State
from chatgpt_source.telemetry.observer import Observer

log = get_logger(__name__)

STEP = 100
"""Failed prompts that share a commit."""


@define
class Redriver:
    """Redrives failed prompts.

    Args:
        journal: Holds the prompts.
        pipeline: Is woken for redriven prompts.
        observer: Is told of each.
    """

    _journal: Journal
    _pipeline: Pipeline
    _observer: Observer
    _under_way: bool = field(init=False, default=False)

    async def one(self, prompt_id: str) -> State:
        """Redrive one prompt; returns its new state.

        Raises:
            NotRedriven: If it is not a failed prompt.
            QuotaUsedUp: If it must be asked again and the day has no unit left.
            JournalUnavailable: If the journal can't be written.
        """
        state = await self._journal.redrive(prompt_id)
        log.info("redriven: id={id}, it is {state} again", id=prompt_id, state=state.value)
        self._observer.redriven(prompt_id=prompt_id, state=state)
        self._pipeline.redriven()
        return state

    async def all(self) -> tuple[int, int]:
        """Redrive all prompts that have failed so far.

        Returns:
            How many were redriven, and how many not because the day has no unit left.

        Raises:
            NotRedriven: If this is under way already.
            JournalUnavailable: If the journal can't be written.
        """
        if self._under_way:
            raise NotRedriven("all failed prompts are being redriven already")
        self._under_way = True
        done = refused = 0
        before = None
        try:
            while page := await self._journal.latest(State.FAILED, before, STEP):
                before = page[-1].position
                tries = [Deferred.fromCoroutine(self._try(record.id)) for record in page]
                outcomes = await gatherResults(tries, consumeErrors=True)
                done += outcomes.count(True)
                refused += outcomes.count(False)
        except FirstError as error:
            error.subFailure.raiseException()
        finally:
            self._under_way = False
        return done, refused

    async def _try(self, prompt_id: str) -> bool | None:
        """Whether it was redriven; None if it is not failed any more."""
        try:
            await self.one(prompt_id)
        except QuotaUsedUp:
            return False
        except NotRedriven:
            return None
        return True
