"""What keeps the history in memory, in the place of a journal, and counts what it holds."""

from collections.abc import Collection, Sequence

from twisted.internet.defer import Deferred, fail, succeed

from chatgpt_source.errors import JournalUnavailable
from chatgpt_source.journal import Tally
from chatgpt_source.journal.counts import Counted
from chatgpt_source.journal.period import Merging, Period
from chatgpt_source.prompt import State


class HistoryJournal:
    """Keeps periods as a journal does.

    Attributes:
        rows: The counts as JSON, by step, start and owner.
        fault: Whether it can be neither written nor read.
        hold: Answers reads that are to wait.
        reads: From when to when was read, for each read.
        writes: How many rows there were in each write.
    """

    def __init__(self) -> None:
        self.rows: dict[tuple[int, int, int], str] = {}
        self.fault = False
        self.hold: Deferred[None] | None = None
        self.reads: list[tuple[int, int]] = []
        self.writes: list[int] = []

    def keep_history(self, periods: Sequence[Period]) -> Deferred[None]:
        if self.fault:
            return fail(JournalUnavailable("the disk is full", retry_after=5))
        rows = [each.to_row() for each in periods]
        self.rows |= {row[:3]: row[3] for row in rows}
        self.writes.append(len(rows))
        return succeed(None)

    def history(
        self, step: int, since: int, until: int, besides: Collection[int] = ()
    ) -> Deferred[Sequence[Period]]:
        if self.fault:
            return fail(JournalUnavailable("the disk is full", retry_after=5))
        self.reads.append((since, until))
        merging = Merging(step)
        for (of, start, owner), counts in sorted(self.rows.items()):
            if of == step and since <= start < until and owner not in besides:
                merging.add(start, owner, counts)
        found: Deferred[Sequence[Period]] = succeed(list(merging.merged.values()))
        if self.hold is not None:
            hold, self.hold = self.hold, None
            return hold.addCallback(lambda _: found)
        return found

    def put(self, *periods: Period) -> None:
        """Write what another one counts."""
        self.rows |= {each.to_row()[:3]: each.to_json() for each in periods}


class Counting:
    """Says what a journal holds.

    Attributes:
        backlog: How many prompts wait.
        trouble: Why the journal can't be read, if so.
    """

    def __init__(self) -> None:
        self.backlog = 0
        self.trouble: str | None = None

    def read(self) -> Deferred[Counted]:
        prompts = {**dict.fromkeys(State, 0), State.ACCEPTED: self.backlog}
        return succeed(Counted(Tally(prompts, 7), 0.0, self.trouble))
