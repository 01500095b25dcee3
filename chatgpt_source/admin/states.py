"""Renders a prompt's state as an icon and a badge. Pure."""

from twisted.web.template import Tag, tags

from chatgpt_source.admin.markup import element
from chatgpt_source.prompt import State

_RING = "M8 2.2a5.8 5.8 0 1 0 0 11.6a5.8 5.8 0 1 0 0-11.6z"
_ICONS = {
    State.ACCEPTED: (_RING, ""),
    State.SUBMITTED: (_RING, "M8 5.6a2.4 2.4 0 1 0 0 4.8a2.4 2.4 0 1 0 0-4.8z"),
    State.ANSWERED: (_RING, "M8 2.2a5.8 5.8 0 0 1 0 11.6z"),
    State.DELIVERED: ("M3 8.5l3.3 3.3L13 4.6", ""),
    State.FAILED: ("M3.8 3.8l8.4 8.4M12.2 3.8l-8.4 8.4", ""),
    State.CANCELLED: ("M3.5 8h9", ""),
}
"""Lines and fills: a ring, a ring with a dot, a ring half full, a tick, a cross, a dash."""


def state_icon(state: State) -> Tag:
    """The icon of a state."""
    lines, filled = _ICONS[state]
    return element(
        "svg",
        element("path", d=lines),
        element("path", d=filled, class_="filled") if filled else "",
        class_=f"icon {state.value}",
        viewBox="0 0 16 16",
        aria_hidden="true",
    )


def badge(state: State) -> Tag:
    """A state with its icon."""
    return tags.span(state_icon(state), state.value, class_=f"badge {state.value}")
