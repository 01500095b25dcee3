"""Reads what the page shows: the current state, and the prompts that a query picks."""

from attrs import define

from chatgpt_source.admin.archive import Archive
from chatgpt_source.admin.daemon import this_daemon
from chatgpt_source.admin.ranges import LATEST, Past, Range
from chatgpt_source.admin.status import Status
from chatgpt_source.admin.view import PAGE, Picked, Query, Shown
from chatgpt_source.clock import date_of, wall
from chatgpt_source.errors import JournalUnavailable
from chatgpt_source.journal import Tally
from chatgpt_source.prompt import State

_NOTHING = Tally(dict.fromkeys(State, 0), 0)


@define
class Facts:
    """Reads the page's data.

    If the journal can't be read, the page shows the last known data, and says so.

    Args:
        status: What is well and what is not.
        archive: The history.
        started: When the daemon was started, by the steady clock.
    """

    _status: Status
    _archive: Archive
    _started: float

    async def shown(self) -> Shown:
        """The data that all viewers see."""
        status = self._status
        health = status.health
        clock, config = health.clock, health.config
        judgement = await status.judge()
        counted = health.judge.counted
        hour = await self.past(LATEST)
        now = wall(clock)
        tally = counted.tally or _NOTHING
        return Shown(
            now=now,
            started=date_of(self._started, clock),
            zone=config.timezone,
            used=tally.used,
            limit=config.everyday_limit,
            midnight=health.calendar.day(now).end,
            prompts=tally.prompts,
            oldest=tally.oldest,
            judgement=judgement,
            cheap=sum(each.period.cheap for each in hour.columns if each.period),
            tiers=await status.tiers.read(),
            daemon=this_daemon(health.journal, counted.tally),
            counted=None if counted.at is None else date_of(counted.at, clock),
        )

    async def past(self, wanted: Range) -> Past:
        """What happened in a range."""
        return await self._archive.past(wanted)

    async def picked(self, query: Query) -> Picked:
        """The prompts that a query picks; none if the journal can't be read."""
        journal = self._status.health.journal
        try:
            records = await journal.latest(query.state, query.before, PAGE + 1)
            prompt = await journal.record(query.prompt) if query.prompt else None
        except JournalUnavailable:
            return Picked(query, [], more=False, readable=False)
        return Picked(query, records[:PAGE], more=len(records) > PAGE, prompt=prompt)
