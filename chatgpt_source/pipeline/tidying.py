"""Tidying: stop and delete at the provider what nobody needs there any more.

What that is stands in the journal from the moment at which its prompt ends. A failure changes no
prompt, and is tried again for a day.
"""

from collections.abc import Awaitable

from attrs import evolve, field, frozen
from twisted.internet.interfaces import IReactorTime

from chatgpt_source.errors import CallError, Gone, PeerFailure, Permanent, Transient
from chatgpt_source.journal import Journal
from chatgpt_source.log import get_logger
from chatgpt_source.pipeline.backoff import backoff, probe_interval
from chatgpt_source.pipeline.breaker import Breaker, Call
from chatgpt_source.pipeline.calls import Random, foreseen, recorded
from chatgpt_source.pipeline.route import Providers
from chatgpt_source.pipeline.trouble import Trouble
from chatgpt_source.pipeline.worker import Worker
from chatgpt_source.prompt import Leftover
from chatgpt_source.providers import Provider

log = get_logger(__name__)

AT_ONCE = 4
"""Calls under way at the most."""
GIVEN_UP_AFTER = 86400.0
"""Seconds for which they are tried."""


@frozen(eq=False, repr=False)
class Tidying:
    """Makes the calls that tidy up, a few at once.

    Attributes:
        clock: The time.
        journal: Where it stands what there is to do.
        random: Numbers from 0 to 1, for the backoff's jitter.
        providers: Make the calls.
        forgets: Whether answers are deleted at the provider once they are delivered.
    """

    clock: IReactorTime
    journal: Journal
    random: Random
    providers: Providers
    forgets: bool
    worker: Worker[Leftover] = field(init=False)
    _trouble: Trouble = field(init=False)

    @worker.default
    def _make_worker(self) -> Worker[Leftover]:
        # It never opens: each leftover has its own backoff.
        free = Breaker("the model", AT_ONCE, self.random)
        return Worker(self.clock, self.journal, free, self.journal.claim_leftovers, self._tidy)

    @_trouble.default
    def _make_trouble(self) -> Trouble:
        fails = "the provider does not stop or delete what nobody needs; trying again"
        return Trouble(log, fails, "the provider stops and deletes what nobody needs again")

    def leftover(
        self, submitted: str | None, provider: str | None, *, stop: bool = False
    ) -> Leftover | None:
        """What a provider keeps once nobody needs it; None if there is nothing to do about it.

        Args:
            submitted: The provider's id; None: it keeps nothing.
            provider: The provider's name; None: the first.
            stop: Whether it may still work on it.
        """
        if submitted is None or not (stop or self.forgets):
            return None
        return Leftover(submitted, provider, stop=stop, forget=self.forgets)

    async def _tidy(self, leftover: Leftover, _: Call) -> None:
        provider = self.providers.get(leftover.provider)
        error: CallError | None
        if provider is None:
            error = PeerFailure(f"`fallbacks` does not have `{leftover.provider}` any more")
        else:
            leftover, error = await self._tidied(provider, leftover)
        now = self.clock.seconds()
        if error is None:
            self._trouble.succeeded()
        else:
            self._trouble.failed(error.reason, now)
        until = self._next_try(leftover, error, now)
        if error is not None and until is None:
            _warn("did not stop it" if leftover.stop else "did not delete it", leftover, error)
        await recorded(self.clock, lambda: self.journal.leftover_ended(leftover, until))
        self.worker.wake()  # the next try may be due before anything else

    async def _tidied(
        self, provider: Provider, leftover: Leftover
    ) -> tuple[Leftover, CallError | None]:
        """What is still to be done about a leftover, and why it is not done."""
        if leftover.stop:
            error = await _failed(provider.cancel(leftover.submitted))
            if isinstance(error, Permanent):  # it has ended before
                log.debug("{why}: submitted={id}", why=error.reason, id=leftover.submitted)
            elif error is not None:
                return leftover, error
            leftover = evolve(leftover, stop=False)
        if leftover.forget:
            return leftover, await _failed(provider.forget(leftover.submitted))
        return leftover, None

    def _next_try(self, leftover: Leftover, error: CallError | None, now: float) -> float | None:
        if error is None or isinstance(error, Permanent) or now >= leftover.since + GIVEN_UP_AFTER:
            return None
        if isinstance(error, PeerFailure):
            return now + probe_interval(leftover.tries + 1)
        return now + (error.retry_after or backoff(leftover.tries + 1, self.random))


async def _failed(call: Awaitable[None]) -> CallError | None:
    """Why a call failed; None if it did not, or the provider has no such id."""
    try:
        await foreseen(call, Transient)
    except Gone:
        return None
    except CallError as error:
        if isinstance(error, Permanent) and (error.status or 0) >= 500:  # whatever it says
            return Transient(error.reason, status=error.status, retry_after=error.retry_after)
        return error
    return None


def _warn(what: str, leftover: Leftover, error: CallError) -> None:
    log.warn(
        "the provider {what}: submitted={id} {why}",
        what=what,
        id=leftover.submitted,
        why=error.reason,
    )
