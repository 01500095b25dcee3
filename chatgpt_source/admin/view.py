"""The page's data as values, and its links. Pure."""

from collections.abc import Mapping, Sequence
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from attrs import evolve, field, frozen

from chatgpt_source.admin.daemon import Daemon
from chatgpt_source.admin.ranges import LATEST, RANGES, Range
from chatgpt_source.admin.tiers import SeenTiers
from chatgpt_source.health.trouble import Judgement
from chatgpt_source.journal import Detail, FailureGroup, Pause, Record
from chatgpt_source.journal.states import backlog_of
from chatgpt_source.prompt import State

PAGE = 25
"""Prompts on a page of the list."""
OLD = 5.0
"""Seconds after which counts are shown with their time."""
LONGEST_KEY = 255
"""Characters of what is searched for: an idempotency key has no more."""
LONGEST_REASON = 300
"""Characters of the reason in a query."""


@frozen
class Query:
    """What a viewer has chosen to see.

    Attributes:
        state: Only the prompts in this state.
        reason: Only those that failed for this reason.
        find: Only those whose id begins so, or that have this idempotency key.
        before: Only those accepted before this position; None: the latest.
        tried: The id of the prompt that was tried, whose steps are shown beside the form.
        prompt: The id of the prompt whose own page this is.
        range: Of which time the history is shown.
    """

    state: State | None = None
    reason: str | None = None
    find: str | None = None
    before: int | None = None
    tried: str | None = None
    prompt: str | None = None
    range: Range = LATEST

    def link(self, **changes: State | Range | int | str | None) -> str:
        """The page's address with some of the query changed."""
        query = evolve(self, **changes)  # type: ignore[arg-type]
        parts = {
            "state": query.state.value if query.state else None,
            "reason": query.reason,
            "q": query.find,
            "before": query.before,
            "tried": query.tried,
            "prompt": query.prompt,
            "range": None if query.range == LATEST else query.range.name,
        }
        return "?" + urlencode({name: value for name, value in parts.items() if value is not None})


FAILURES = Query(State.FAILED)


def read_query(arguments: Mapping[bytes, Sequence[bytes]]) -> Query:
    """The query of a request, without its invalid parts."""

    def first(name: bytes, longest: int = 100) -> str:
        text = (arguments.get(name) or [b""])[0].decode("utf-8", "replace")
        return text.strip()[:longest]

    state, before = first(b"state"), first(b"before")
    reason = first(b"reason", LONGEST_REASON) or None
    known = State(state) if state in {each.value for each in State} else None
    return Query(
        State.FAILED if reason else known,
        reason,
        first(b"q", LONGEST_KEY) or None,
        int(before) if before.isascii() and before.isdecimal() and len(before) < 19 else None,
        first(b"tried") or None,
        first(b"prompt") or None,
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
        groups: The failed prompts by reason, the largest group first; some, if there are many.
        pauses: What is paused, by its name.
        pausable: What can be paused.
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
    groups: Sequence[FailureGroup] = ()
    pauses: Mapping[str, Pause] = field(factory=dict)
    pausable: Sequence[str] = ("intake", "asking", "target")
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
        tried: The one that was tried; None if there is none with that id.
        detail: The one whose own page this is; None if there is none with that id.
        readable: Whether the journal could be read.
    """

    query: Query
    records: Sequence[Record] = ()
    more: bool = False
    tried: Record | None = None
    detail: Detail | None = None
    readable: bool = True
