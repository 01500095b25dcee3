"""Renders the failed prompts by reason, each group with what can be done about it. Pure."""

from collections.abc import Iterator
from urllib.parse import quote

from twisted.web.template import Flattenable, Tag, tags

from chatgpt_source.admin.markup import act, element, live_link, sure
from chatgpt_source.admin.view import FAILURES, Shown
from chatgpt_source.admin.words import count, sentence, when, with_code
from chatgpt_source.journal import FailureGroup
from chatgpt_source.prompt import State

MOST = 10
"""Groups that the page shows."""
_QUIET = {"class_": "quiet"}


def failures(shown: Shown) -> Tag:
    """The groups, the largest first; hidden while no prompt is failed."""
    failed = shown.prompts[State.FAILED]
    if not failed:
        return element("div", tags.p("No prompt is failed.", class_="empty"), **_hidden())
    groups = shown.groups[:MOST]
    rest = failed - sum(group.count for group in groups)
    heads = ("Prompts", "Reason", "First failed", "Last failed")
    columns = [tags.th(head, scope="col") for head in heads]
    columns.append(tags.th(tags.span("Action", class_="hidden"), scope="col", class_="scripted"))
    return tags.div(
        tags.table(role="table", class_="cards")(
            tags.caption("Failed prompts by reason, the most first", class_="hidden"),
            tags.thead(tags.tr(*columns)),
            tags.tbody(role="rowgroup")(*(_row(shown, group) for group in groups)),
        )
        if groups
        else "",
        tags.p(f"and {count(rest, 'other')}", class_="note")
        if groups and rest > 0 and len(shown.groups) >= MOST
        else "",
        id="failures",
    )


def all_failures(shown: Shown) -> Tag:
    """What can be done about all failed prompts."""
    failed = shown.prompts[State.FAILED]
    buttons = _redrive_and_purge("all", "failed prompt", failed, " all") if failed else ()
    return tags.span(*buttons, id="all-failures", class_="scripted actions")


def _redrive_and_purge(
    name: str, noun: str, number: int, *told: Flattenable, query: str = "", about: str = ""
) -> Iterator[Tag]:
    """Buttons that redrive and purge some prompts, once they have said what that costs.

    Args:
        name: A part of their ids.
        noun: What the prompts are called.
        number: How many there are.
        told: What the buttons say besides what they do.
        query: Which prompts they are.
        about: The same, in words.
    """
    for kind, done, look in (("redrive", "Redriven.", {}), ("purge", "Purged.", _QUIET)):
        verb = sentence(kind)
        asked = sure(kind, f"{verb} {count(number, noun)}?", f"{verb} {count(number)}", about)
        post = f"api/{kind}{query}"
        yield act(f"{kind}-{name}", verb, *told, post=post, done=done, **look, **asked)


def redrive_cost(shown: Shown) -> Tag:
    """What a redrive costs."""
    left = shown.left
    told = f"{count(left)} of them {'is' if left == 1 else 'are'} left" if left else "none is left"
    return tags.p(
        "What was answered is delivered again, which costs nothing. What was not is asked again,"
        f" and each ask takes one of today’s {count(shown.limit)} prompts; {told}."
        " A prompt for which none is left stays failed.",
        id="redrive-cost",
    )


def _hidden() -> dict[str, str]:
    return {"id": "failures", "hidden": "hidden"}


def _row(shown: Shown, group: FailureGroup) -> Tag:
    reason, many = group.reason, count(group.count, "prompt")
    name, plain = _name(reason), reason.replace("`", "")
    about = f"Reason: {sentence(plain)}."
    query = f"?reason={quote(reason, safe='')}"
    href = FAILURES.link(reason=reason) + "#prompts"
    told = tags.span(f" {many}: {plain}", class_="hidden")
    actions = tags.span(
        *_redrive_and_purge(name, "prompt", group.count, told, query=query, about=about),
        class_="actions",
    )
    cells: list[tuple[str, Flattenable]] = [
        ("Prompts", tags.strong(count(group.count))),
        ("Reason", live_link(f"group-{name}", href, *with_code(sentence(reason)))),
        ("First failed", when(group.first, shown.now, shown.zone)),
        ("Last failed", tags.strong(when(group.last, shown.now, shown.zone))),
        ("", actions),
    ]
    tds = [element("td", value, role="cell", data_label=label) for label, value in cells]
    tds[-1](class_="scripted")
    return element("tr", *tds, id=f"group-row-{name}", role="row")


def _name(reason: str) -> str:
    """A part of an id that is the reason's alone."""
    return quote(reason, safe="").replace("%", "_")
