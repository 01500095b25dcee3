"""What the journal holds, counted."""

from collections.abc import Mapping

from attrs import frozen

from chatgpt_source.journal.states import backlog_of
from chatgpt_source.prompt import State


@frozen
class Tally:
    """What the journal holds at one moment.

    Attributes:
        prompts: How many prompts are in each state.
        used: How many units of a day are used.
        oldest: When the oldest prompt of the backlog was accepted, of those that may be asked
            already; None if there is none.
        leftovers: How many leftovers wait to be cancelled or deleted.
        daemons: How many daemons use it now.
        due: When the call was due that is due the longest, of those of the standard tier and of
            deliveries, by the steady clock; it may lie ahead. None if none waits.
    """

    prompts: Mapping[State, int]
    used: int
    oldest: float | None = None
    leftovers: int = 0
    daemons: int = 1
    due: float | None = None

    @property
    def backlog(self) -> int:
        """Prompts that wait for a call."""
        return backlog_of(self.prompts)
