"""What operators do: redrive and purge failed prompts, cancel those that wait, pause and resume.

Each action is one line of the log, with who did it.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from attrs import define, field
from twisted.internet.defer import Deferred, DeferredList
from twisted.python.failure import Failure

from chatgpt_source.errors import NotRedriven, QuotaUsedUp
from chatgpt_source.intake.api import Intake
from chatgpt_source.journal import Cancelled, Pause
from chatgpt_source.journal.failure_groups import FailureGroups
from chatgpt_source.log import get_logger
from chatgpt_source.log.audit import audit
from chatgpt_source.prompt import State
from chatgpt_source.telemetry.observer import Observer
from chatgpt_source.words import count

log = get_logger(__name__)

STEP = 100
"""Failed prompts that share a commit."""


class Busy(Exception):
    """Many prompts are being redriven or purged already."""


class Unknown(Exception):
    """Nothing of this name can be paused or resumed; the text says what can."""


@define(eq=False, repr=False)
class Actions:
    """Does what operators ask for.

    A method raises JournalUnavailable if the journal can't be written.

    Args:
        intake: Cancels prompts; has the journal and the pipeline.
        groups: The failures by reason, which change.
        observer: Is told of each prompt that was redriven or purged.
    """

    _intake: Intake
    _groups: FailureGroups
    _observer: Observer
    _is_busy: bool = field(init=False, default=False)

    async def redrive(self, prompt_id: str, who: str) -> State:
        """Redrive one prompt; returns its new state.

        Raises:
            NotRedriven: If it is not a failed prompt.
            QuotaUsedUp: If it must be asked again and the day has no unit left.
        """
        state = await self._redrive(prompt_id)
        audit(who, f"redrove {prompt_id}: it is {state.value} again")
        self._groups.forget()
        return state

    async def redrive_all(self, reason: str | None, who: str) -> tuple[int, int]:
        """Redrive the prompts that have failed so far, of one group or all.

        Returns:
            How many were redriven, and how many not because the day has no unit left.

        Raises:
            Busy: If many are being redriven or purged already.
        """

        async def attempt(prompt_id: str) -> bool | None:
            try:
                state = await self._redrive(prompt_id)
            except QuotaUsedUp:
                return False
            except NotRedriven:  # it is not failed any more
                return None
            log.info("redriven: id={id}, it is {state} again", id=prompt_id, state=state.value)
            return True

        outcomes = await self._each_failed(reason, attempt, who, "redrove")
        return outcomes[True], outcomes[False]

    async def purge(self, prompt_id: str, who: str) -> bool:
        """Purge one prompt; returns whether it was a failed one."""
        gone = await self._purge(prompt_id)
        if gone:
            audit(who, f"purged {prompt_id}")
            self._groups.forget()
        return gone

    async def purge_all(self, reason: str | None, who: str) -> int:
        """Purge the prompts that have failed so far, of one group or all; returns how many.

        Raises:
            Busy: If many are being redriven or purged already.
        """
        return (await self._each_failed(reason, self._purge, who, "purged"))[True]

    async def cancel(self, prompt_id: str, who: str) -> Cancelled | None:
        """Cancel a prompt that waits; None if there is no such prompt.

        Raises:
            NotCancelled: If a call for it is under way, or it was answered or has failed.
        """
        cancelled = await self._intake.cancel_prompt(prompt_id)
        if cancelled is not None and not cancelled.repeated:
            audit(who, f"cancelled {prompt_id}")
        return cancelled

    async def pause(self, what: str, who: str) -> Pause:
        """Pause something; returns the pause, an earlier one if it was paused already.

        Raises:
            Unknown: If there is no such thing.
        """
        pauses = self._intake.pipeline.pauses
        if what not in pauses.what:
            raise Unknown(f"what may be paused is {', '.join(pauses.what)}")
        return await pauses.pause(what, who)

    async def resume(self, what: str, who: str) -> bool:
        """Resume something; returns whether it was paused.

        Raises:
            Unknown: If there is no such thing.
        """
        pauses = self._intake.pipeline.pauses
        if not await pauses.resume(what, who):
            if what not in pauses.what:
                raise Unknown(f"what may be resumed is {', '.join(pauses.what)}")
            return False
        return True

    async def _redrive(self, prompt_id: str) -> State:
        state = await self._intake.journal.redrive(prompt_id)
        self._observer.redriven(prompt_id=prompt_id, state=state)
        self._intake.pipeline.redriven()
        return state

    async def _purge(self, prompt_id: str) -> bool:
        gone = await self._intake.journal.purge(prompt_id)
        if gone:
            self._observer.purged(prompt_id=prompt_id)
        return gone

    async def _each_failed(
        self, reason: str | None, act: Callable[[str], Awaitable[bool | None]], who: str, did: str
    ) -> Counter[bool | None]:
        """Act on each failed prompt of a group, or on all; returns how often it was True, or False.

        The log says what was done, also if not all could be.

        Raises:
            Busy: If this is under way already.
        """
        outcomes: Counter[bool | None] = Counter()
        before = None
        with self._alone():
            try:
                while page := await self._intake.journal.latest(State.FAILED, before, STEP, reason):
                    before = page[-1].position
                    acts = [Deferred.fromCoroutine(_acted(act, record.id)) for record in page]
                    ended = await DeferredList(acts, consumeErrors=True)
                    told: list[bool | Failure | None] = [outcome for _, outcome in ended]
                    outcomes.update(each for each in told if not isinstance(each, Failure))
                    for each in told:
                        if isinstance(each, Failure):
                            each.raiseException()
            finally:
                if outcomes[True]:
                    audit(who, f"{did} {_told(outcomes[True], reason)}")
        return outcomes

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if self._is_busy:
            raise Busy("many failed prompts are being redriven or purged already")
        self._is_busy = True
        try:
            yield
        finally:
            self._is_busy = False
            self._groups.forget()


async def _acted(act: Callable[[str], Awaitable[bool | None]], prompt_id: str) -> bool | None:
    return await act(prompt_id)


def _told(done: int, reason: str | None) -> str:
    """How many prompts, and which; of a reason that some have failed for."""
    which = f" ({reason})" if reason else ""
    return f"{count(done, 'failed prompt')}{which}"
