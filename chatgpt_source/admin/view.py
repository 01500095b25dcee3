"""What the page shows, as values, and where its links lead. Pure."""

from collections.abc import Mapping, Sequence
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from attrs import evolve, frozen

from chatgpt_source.admin.history import Minute
from chatgpt_source.journal import Record
from chatgpt_source.prompt import State

PAGE = 25
"""Prompts that the list shows at once."""
NEARLY = 0.8
"""The share of the day's limit from which on little is left."""


@frozen
class Query:
    """What of all there is a viewer looks at.

    Attributes:
        state: The prompts in this state alone.
        before: Those accepted before this position; None: the latest.
        prompt: The id of the one whose way is shown.
    """

    state: State | None = None
    before: int | None = None
    prompt: str | None = None

    def link(self, **changes: State | int | str | None) -> str:
        """The page's address with some of it changed."""
        query = evolve(self, **changes)  # type: ignore[arg-type]
        parts = {
            "state": query.state.value if query.state else None,
            "before": query.before,
            "prompt": query.prompt,
        }
        return "?" + urlencode({name: value for name, value in parts.items() if value is not None})


def read_query(arguments: Mapping[bytes, Sequence[bytes]]) -> Query:
    """The query of a request; what can't be meant is left out."""

    def first(name: bytes) -> str:
        return (arguments.get(name) or [b""])[0].decode("utf-8", "replace")

    state, before = first(b"state"), first(b"before")
    return Query(
        State(state) if state in {each.value for each in State} else None,
        int(before) if before.isascii() and before.isdecimal() and len(before) < 19 else None,
        first(b"prompt")[:100] or None,
    )


@frozen
class Shown:
    """The facts of a moment that every viewer sees.

    Attributes:
        now: The moment.
        started: When the daemon was started.
        zone: Whose midnight ends the day; all times are told in it.
        model: Who is asked.
        base: Where, and `target` where events go; scheme and host alone.
        used: Units of the day that are spent, of `limit`.
        midnight: When the day ends.
        prompts: How many are in each state.
        oldest: When the oldest that is not finished was accepted.
        troubles: What is not well, in words, with the names of settings between backticks.
        untried: What was not tried yet, in words; None if all was.
        minutes: The last hour.
    """

    now: float
    started: float
    zone: ZoneInfo
    version: str
    model: str
    base: str
    target: str
    used: int
    limit: int
    midnight: float
    prompts: Mapping[State, int]
    oldest: float | None
    troubles: Sequence[str]
    minutes: Sequence[Minute]
    untried: str | None = None

    @property
    def left(self) -> int:
        """Units that the day has left."""
        return max(0, self.limit - self.used)

    @property
    def waiting(self) -> int:
        """Prompts that are neither delivered nor failed."""
        return self.prompts[State.ACCEPTED] + self.prompts[State.ANSWERED]


@frozen
class Picked:
    """What one viewer's query picks.

    Attributes:
        query: The query.
        records: The latest prompts, newest first.
        more: Whether there are older ones.
        prompt: The one whose way is shown; None if there is none with that id.
        readable: Whether the journal could be read.
    """

    query: Query
    records: Sequence[Record]
    more: bool
    prompt: Record | None = None
    readable: bool = True
