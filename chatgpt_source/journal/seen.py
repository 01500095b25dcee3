"""What `--check` finds in a journal."""

from collections.abc import Mapping

from attrs import frozen

from chatgpt_source.prompt import State


@frozen
class Seen:
    """The contents of a journal.

    Attributes:
        location: Its place, for people.
        users: How many daemons use it.
        shared: Whether several may.
        schema: The version of its tables; None if there are none yet.
        current: The version that this program writes.
        prompts: How many are in each state.
        to_ask: Prompts that a daemon would ask at its start.
        to_deliver: Events that a daemon would deliver at its start.
        used: Units used of the day.
    """

    location: str
    users: int = 0
    shared: bool = False
    schema: int | None = None
    current: int | None = None
    prompts: Mapping[State, int] = dict.fromkeys(State, 0)
    to_ask: int = 0
    to_deliver: int = 0
    used: int = 0
