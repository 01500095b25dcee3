"""Elements whose attributes have hyphens in their names, and those of SVG. Pure."""

from twisted.web.template import Flattenable, Tag


def element(name: str, *children: Flattenable, **attributes: str) -> Tag:
    """An element; `class_` is its class, and `aria_label` its aria-label."""
    return Tag(name)(*children, **named(**attributes))


def named(**attributes: str) -> dict[str, str]:
    """Attributes by the names they have in HTML."""
    return {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()}
