"""A prompt's states, and what may happen in each, as a table.

    accepted -- answered --> answered -- delivered --> delivered
        |                        |
        +------ failed ------+---+
                             v
                           failed -- asked again --> accepted
                                  -- delivered again --> answered

A call that is to be repeated changes no state. An event that a state has no row for can't happen.
"""

from collections.abc import Mapping
from enum import Enum

from chatgpt_source.prompt import State


class Event(Enum):
    """What may happen to a prompt once it is accepted."""

    ANSWERED = "answered"
    DELIVERED = "delivered"
    FAILED = "failed"
    ASKED_AGAIN = "asked again"
    DELIVERED_AGAIN = "delivered again"


TRANSITIONS: Mapping[State, Mapping[Event, State]] = {
    State.ACCEPTED: {Event.ANSWERED: State.ANSWERED, Event.FAILED: State.FAILED},
    State.ANSWERED: {Event.DELIVERED: State.DELIVERED, Event.FAILED: State.FAILED},
    State.DELIVERED: {},
    State.FAILED: {Event.ASKED_AGAIN: State.ACCEPTED, Event.DELIVERED_AGAIN: State.ANSWERED},
}
"""State, event, and the state after it."""

WAITING = tuple(state for state, events in TRANSITIONS.items() if Event.FAILED in events)
"""The states in which a prompt waits for a call: the backlog."""


def after(state: State, event: Event) -> State:
    """The state that an event leads to.

    Raises:
        KeyError: If it can't happen in that state.
    """
    return TRANSITIONS[state][event]
