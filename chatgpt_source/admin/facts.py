"""Reads what the page shows: the facts of this moment, and what a query picks."""

from collections.abc import Sequence
from typing import TypeVar

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from chatgpt_source import __version__
from chatgpt_source.admin.history import History
from chatgpt_source.admin.status import Status, untried
from chatgpt_source.admin.view import PAGE, Picked, Query, Shown
from chatgpt_source.clock import date_of, wall
from chatgpt_source.journal import Record, Tally
from chatgpt_source.prompt import JournalUnavailable, State
from chatgpt_source.web import origin_of

PATIENCE = 3.0
"""Seconds that the journal may take for an answer."""
_NOTHING = Tally(dict.fromkeys(State, 0), 0)

Result = TypeVar("Result")


@define
class Facts:
    """Where the page's facts come from.

    Where the journal can't be read, what was last known is shown, and that it can't be read.

    Args:
        status: What is well and what is not.
        history: The last hour.
        started: When the daemon was started, by the steady clock.
    """

    _status: Status
    _history: History
    _started: float
    _known: tuple[Tally, float | None] = field(init=False, default=(_NOTHING, None))

    async def shown(self) -> Shown:
        """The facts that all viewers see."""
        status = self._status
        clock, config = status.clock, status.config
        try:
            told, doubt = await within(Deferred.fromCoroutine(self._read()), PATIENCE, clock)
        except JournalUnavailable as error:
            told, doubt = [f"The journal can't be read: {error.reason}"], None
        now = wall(clock)
        tally, oldest = self._known
        return Shown(
            now=now,
            started=date_of(self._started, clock),
            zone=config.timezone,
            version=__version__,
            model=config.model,
            base=origin_of(config.base_url),
            target=origin_of(config.target),
            used=tally.used,
            limit=config.everyday_limit,
            midnight=status.calendar.day(now).end,
            prompts=tally.prompts,
            oldest=oldest,
            troubles=told,
            minutes=self._history.minutes(),
            untried=doubt,
        )

    async def _read(self) -> tuple[Sequence[str], str | None]:
        _, ready = await self._status.health.ready()
        tally, oldest = await self._status.counts()
        if tally is not None:
            self._known = tally, oldest
        checks = ready["checks"]
        return self._status.troubles(checks), untried(checks)

    async def picked(self, query: Query) -> Picked:
        """What a query picks; nothing if the journal can't be read."""
        try:
            reading = Deferred.fromCoroutine(self._pick(query))
            return await within(reading, PATIENCE, self._status.clock)
        except JournalUnavailable:
            return Picked(query, [], more=False, readable=False)

    async def _pick(self, query: Query) -> Picked:
        journal = self._status.journal
        records: Sequence[Record] = await journal.latest(query.state, query.before, PAGE + 1)
        prompt = await journal.record(query.prompt) if query.prompt else None
        return Picked(query, records[:PAGE], more=len(records) > PAGE, prompt=prompt)


def within(work: Deferred[Result], seconds: float, clock: IReactorTime) -> Deferred[Result]:
    """What the journal brings, if it does so in time; it is left to finish if it does not.

    Raises:
        JournalUnavailable: If it does not.
    """
    result: Deferred[Result] = Deferred()

    def give_up() -> None:
        result.errback(JournalUnavailable("it does not answer", retry_after=seconds))

    waiting = clock.callLater(seconds, give_up)

    def arrived(outcome: Result | Failure) -> None:
        if waiting.active():
            waiting.cancel()
            result.callback(outcome)

    work.addBoth(arrived)
    return result
