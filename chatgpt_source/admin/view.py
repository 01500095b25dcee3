"""The page's data as values, and its links. Pure."""

from collections.abc import Mapping, Sequence
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from attrs import evolve, frozen

from chatgpt_source.admin.daemon import Daemon
from chatgpt_source.admin.ranges import LATEST, RANGES, Range
from chatgpt_source.admin.tiers import SeenTiers
from chatgpt_source.health.trouble import Judgement
from chatgpt_source.journal import Record
from chatgpt_source.journal.states import backlog_of
from chatgpt_source.prompt import State

PAGE = 25
"""Prompts on a page of the list."""
OLD = 5.0
"""Seconds after which counts are shown with their time."""


@frozen
class Query:
    """What a viewer has chosen to see.

    Attributes:
        state: Only the prompts in this state.
        before: Only those accepted before this position; None: the latest.
        prompt: The id of the prompt whose steps are shown.
        range: Of which time the history is shown.
    """

    state: State | None = None
    before: int | None = None
    prompt: str | None = None
    range: Range = LATEST

    def link(self, **changes: State | Range | int | str | None) -> str:
        """The page's address with some of the query changed."""
        query = evolve(self, **changes)  # type: ignore[arg-type]
        parts = {
            "state": query.state.value if query.state else None,
            "before": query.before,
            "prompt": query.prompt,
            "range": None if query.range == LATEST else query.range.name,
        }
        return "?" + urlencode({name: value for name, value in parts.items() if value is not None})


def read_query(arguments: Mapping[bytes, Sequence[bytes]]) -> Query:
    """The query of a request, without its invalid parts."""

    def first(name: bytes) -> str:
        return (arguments.get(name) or [b""])[0].decode("utf-8", "replace")

    state, before = first(b"state"), first(b"before")
    return Query(
        State(state) if state in {each.value for each in State} else None,
        int(before) if before.isascii() and before.isdecimal() and len(before) < 19 else None,
        first(b"prompt")[:100] or None,
        RANGES.get(first(b"range"), LATEST),
    )


@frozen
class Shown:
    """The data of one moment that every viewer sees.

    Attributes:
        now: The moment.
        started: When the daemon was started.
        zone: Whose midnight ends the day; all times are shown in it.
        used: The spent units of the day, of `limit`.
        midnight: When the day ends.
        prompts: How many are in each state.
        oldest: When the oldest unfinished prompt was accepted.
        judgement: How well the daemon is.
        cheap: How many answers were billed at half the price in the last hour.
        tiers: The batches, and what waits for each tier.
        daemon: Who answers, as in the status.
        counted: When the counts of prompts and units were read; None if they never were.
    """

    now: float
    started: float
    zone: ZoneInfo
    used: int
    limit: int
    midnight: float
    prompts: Mapping[State, int]
    oldest: float | None
    judgement: Judgement
    cheap: int = 0
    tiers: SeenTiers = SeenTiers()  # noqa: RUF009 - attrs, not dataclasses
    daemon: Daemon = Daemon()  # noqa: RUF009 - attrs, not dataclasses
    counted: float | None = None

    @property
    def as_of(self) -> float | None:
        """When the counts were read, if that is a while ago."""
        is_old = self.counted is not None and self.now - self.counted >= OLD
        return self.counted if is_old else None

    @property
    def left(self) -> int:
        """The units that are left today."""
        return max(0, self.limit - self.used)

    @property
    def waiting(self) -> int:
        """Prompts that are to be asked or delivered."""
        return backlog_of(self.prompts)


@frozen
class Picked:
    """The prompts that one viewer's query picks.

    Attributes:
        query: The query.
        records: The latest prompts, newest first.
        more: Whether there are older ones.
        prompt: The one whose steps are shown; None if there is none with that id.
        readable: Whether the journal could be read.
    """

    query: Query
    records: Sequence[Record]
    more: bool
    prompt: Record | None = None
    readable: bool = True
