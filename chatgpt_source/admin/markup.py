"""Builds HTML and SVG elements, also with hyphens in attribute names. Pure."""

from twisted.web.template import Flattenable, Tag


def element(name: str, *children: Flattenable, **attributes: str) -> Tag:
    """An element; `class_` is its class, and `aria_label` its aria-label."""
    return Tag(name)(*children, **named(**attributes))


def live_link(id_: str, href: str, *children: Flattenable, **attributes: str) -> Tag:
    """A link that the script follows without loading the page anew."""
    return element("a", *children, href=href, **attributes, id=id_, data_live="")


def act(id_: str, *children: Flattenable, post: str, done: str, **attributes: str) -> Tag:
    """A button that sends a POST.

    Args:
        id_: Its id.
        children: What it says.
        post: The path.
        done: What the status line says after a success, unless the response has a `detail`.
        attributes: Others. Those of `sure` make it ask first; `data_next` is the id of what gets
            its focus when it is gone.
    """
    told = {"type": "button", "id": id_, "data_post": post, "data_done": done}
    return element("button", *children, **told, **attributes)


def sure(kind: str, title: str, yes: str, why: str = "") -> dict[str, str]:
    """Attributes of a button that asks before it acts.

    Args:
        kind: Which of the dialog's texts says what it costs.
        title: The question.
        yes: What the button says that acts.
        why: What it is about.
    """
    return {"data_sure": title, "data_kind": kind, "data_yes": yes, "data_why": why}


def named(**attributes: str) -> dict[str, str]:
    """Attributes by their names in HTML."""
    return {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()}
