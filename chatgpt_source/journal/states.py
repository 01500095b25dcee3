"""The table of a prompt's states and of the events that change them.

    accepted -- answered --> answered -- delivered --> delivered
        |  |                     |
        |  +--- submitted --> submitted (polled, or in a batch; then as accepted;
        |  |                             or lost --> accepted)
        |  |                     |
        |  +--- failed -------+--+
        |                     v
        |                   failed -- asked again --> accepted
        |                          -- delivered again --> answered
        +------ finished --> delivered (its answer is kept, and goes to no target)
        +------ cancelled --> cancelled

A failed call that is repeated changes no state. An event without a row in its state is an error.
"""

from collections.abc import Mapping
from enum import Enum

from chatgpt_source.prompt import State


class Event(Enum):
    """An event that changes an accepted prompt's state."""

    SUBMITTED = "submitted"
    LOST = "lost"
    ANSWERED = "answered"
    DELIVERED = "delivered"
    FAILED = "failed"
    FINISHED = "finished"
    CANCELLED = "cancelled"
    ASKED_AGAIN = "asked again"
    DELIVERED_AGAIN = "delivered again"


TRANSITIONS: Mapping[State, Mapping[Event, State]] = {
    State.ACCEPTED: {
        Event.SUBMITTED: State.SUBMITTED,
        Event.ANSWERED: State.ANSWERED,
        Event.FAILED: State.FAILED,
        Event.FINISHED: State.DELIVERED,
        Event.CANCELLED: State.CANCELLED,
    },
    State.SUBMITTED: {
        Event.LOST: State.ACCEPTED,
        Event.ANSWERED: State.ANSWERED,
        Event.FAILED: State.FAILED,
        Event.FINISHED: State.DELIVERED,
        Event.CANCELLED: State.CANCELLED,
    },
    State.ANSWERED: {Event.DELIVERED: State.DELIVERED, Event.FAILED: State.FAILED},
    State.DELIVERED: {},
    State.CANCELLED: {},
    State.FAILED: {Event.ASKED_AGAIN: State.ACCEPTED, Event.DELIVERED_AGAIN: State.ANSWERED},
}
"""State, event, next state."""

ASKING = tuple(state for state, events in TRANSITIONS.items() if Event.ANSWERED in events)
"""The states in which an answer is still to come."""

WAITING = tuple(state for state, events in TRANSITIONS.items() if Event.FAILED in events)
"""The states of the backlog."""


def backlog_of(prompts: Mapping[State, int]) -> int:
    """How many of the prompts, counted by state, wait for a call."""
    return sum(prompts[state] for state in WAITING)


def after(state: State, event: Event) -> State:
    """The next state.

    Raises:
        KeyError: If the event has no row in that state.
    """
    return TRANSITIONS[state][event]
