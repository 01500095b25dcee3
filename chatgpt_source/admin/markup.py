"""Builds HTML and SVG elements, also with hyphens in attribute names. Pure."""

from twisted.web.template import Flattenable, Tag


def element(name: str, *children: Flattenable, **attributes: str) -> Tag:
    """An element; `class_` is its class, and `aria_label` its aria-label."""
    return Tag(name)(*children, **named(**attributes))


def named(**attributes: str) -> dict[str, str]:
    """Attributes by their names in HTML."""
    return {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()}
