"""Reads what the page shows: the current state, and the prompts that a query picks."""

from collections.abc import Sequence

from attrs import define

from chatgpt_source.admin.archive import Archive
from chatgpt_source.admin.daemon import this_daemon
from chatgpt_source.admin.ranges import LATEST, Past, Range
from chatgpt_source.admin.search import Search
from chatgpt_source.admin.status import Status
from chatgpt_source.admin.view import PAGE, Picked, Query, Shown
from chatgpt_source.clock import date_of, wall
from chatgpt_source.errors import JournalUnavailable
from chatgpt_source.journal import FailureGroup, Tally
from chatgpt_source.journal.failure_groups import FailureGroups
from chatgpt_source.prompt import State

_NOTHING = Tally(dict.fromkeys(State, 0), 0)


@define(eq=False, repr=False)
class Facts:
    """Reads the page's data.

    If the journal can't be read, the page shows the last known data, and says so.

    Args:
        status: What is well and what is not.
        archive: The history.
        groups: The failed prompts by reason.
        search: Finds prompts.
        started: When the daemon was started, by the steady clock.
    """

    _status: Status
    _archive: Archive
    _groups: FailureGroups
    _search: Search
    _started: float

    async def shown(self) -> Shown:
        """The data that all viewers see."""
        status = self._status
        judge = status.judge
        clock, config = judge.clock, judge.config
        judgement = await judge.judge()
        counted = judge.counted
        hour = await self._archive.counted(LATEST)
        now = wall(clock)
        tally = counted.tally or _NOTHING
        pauses = judge.pipeline.pauses
        return Shown(
            now=now,
            started=date_of(self._started, clock),
            zone=config.timezone,
            used=tally.used,
            limit=config.everyday_limit,
            midnight=judge.calendar.day(now).end,
            prompts=tally.prompts,
            oldest=tally.oldest,
            judgement=judgement,
            cheap=sum(each.period.cheap for each in hour.columns if each.period),
            tiers=await status.tiers.read(),
            daemon=this_daemon(judge.journal, counted.tally),
            counted=None if counted.at is None else date_of(counted.at, clock),
            groups=await self._read_groups(tally),
            pauses={pause.what: pause for pause in pauses.current},
            pausable=pauses.what,
        )

    async def past(self, wanted: Range) -> Past:
        """What happened in a range."""
        return await self._archive.past(wanted)

    async def _read_groups(self, tally: Tally) -> Sequence[FailureGroup]:
        if not tally.prompts[State.FAILED]:
            return ()
        try:
            return await self._groups.read()
        except JournalUnavailable:
            return ()

    async def picked(self, query: Query) -> Picked:
        """The prompts that a query picks; none if the journal can't be read."""
        journal = self._status.judge.journal
        try:
            if query.prompt is not None:
                return Picked(query, detail=await journal.detail(query.prompt))
            if query.find is not None:
                found = await self._search.find(query.find)
                records, more = found.records, found.more
            else:
                records = await journal.latest(query.state, query.before, PAGE + 1, query.reason)
                records, more = records[:PAGE], len(records) > PAGE
            tried = await journal.record(query.tried) if query.tried else None
        except JournalUnavailable:
            return Picked(query, readable=False)
        return Picked(query, records, more=more, tried=tried)
