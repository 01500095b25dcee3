"""Renders the page's list of prompts and the steps of one, without their texts. Pure."""

from collections.abc import Iterator

from twisted.web.template import Flattenable, Tag, tags

from chatgpt_source.admin.markup import element, named
from chatgpt_source.admin.view import Picked, Query, Shown
from chatgpt_source.admin.words import (
    age,
    ago,
    count,
    moment,
    sentence,
    took,
    with_code,
)
from chatgpt_source.journal import Record
from chatgpt_source.prompt import NOWHERE, TARGET, State
from chatgpt_source.quota import clock_time

SHORT = 8
"""Characters of an id that the page shows."""
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


def state_links(shown: Shown, query: Query) -> Tag:
    """The filter by state: links, so that it works without the script."""
    total = sum(shown.prompts.values())
    links = [_state_link(query, None, "all", total)]
    links += [_state_link(query, state, state.value, shown.prompts[state]) for state in State]
    return tags.ul(*(tags.li(link) for link in links), id="filter")


def _state_link(query: Query, state: State | None, name: str, number: int) -> Tag:
    href = query.link(state=state, before=None) + "#prompts"
    link = _link(f"filter-{name}", href, f"{sentence(name)} ", tags.span(count(number)))
    return link(**named(aria_current="true")) if query.state is state else link


def _link(id_: str, href: str, *children: str | Tag, **attributes: str) -> Tag:
    """A link that the script follows without loading the page anew."""
    return element("a", *children, href=href, **attributes, id=id_, data_live="")


def listing(shown: Shown, picked: Picked) -> Tag:
    """The prompts that a viewer's query picks, newest first."""
    if not picked.records:
        return tags.div(tags.p(_nothing(picked), class_="empty"), id="listing")
    heads = ["Prompt", "State", "Accepted", "Delivered", "Calls", "Error"]
    columns = [tags.th(head, scope="col") for head in heads]
    columns.append(tags.th(tags.span("Action", class_="hidden"), scope="col", class_="scripted"))
    return tags.div(
        tags.table(role="table")(
            tags.caption("Prompts, the latest first", class_="hidden"),
            tags.thead(tags.tr(*columns)),
            tags.tbody(role="rowgroup")(
                *(_row(shown, picked.query, record) for record in picked.records)
            ),
        ),
        id="listing",
        class_="cards",
    )


def _nothing(picked: Picked) -> str:
    query = picked.query
    if not picked.readable:
        return "The journal can't be read now."
    if query.before is not None:
        return "There are no older prompts."
    return f"No prompt is {query.state.value}." if query.state else "No prompt has come yet."


def _row(shown: Shown, query: Query, record: Record) -> Tag:
    href = query.link(prompt=record.id) + "#try"
    link = _link(f"show-{record.id}", href, tags.code(record.id[:SHORT]), title=record.id)
    state, end = record.state, record.delivered
    badge = tags.span(state_icon(state), state.value, class_=f"badge {state.value}")
    accepted = moment(record.accepted, shown.zone, ago(shown.now - record.accepted))
    cells: list[tuple[str, Flattenable]] = [
        ("Prompt", link),
        ("State", badge),
        ("Accepted", accepted),
        ("Delivered", f"in {took(end - record.accepted)}" if end is not None else ""),
        ("Calls", _calls(record)),
        ("Error", tags.span(*with_code(record.error)) if record.error else ""),
        ("", _redrive(record, "row") if state is State.FAILED else ""),
    ]
    # The roles are still right when a narrow window shows the rows as cards.
    tds = [element("td", value, role="cell", data_label=label) for label, value in cells]
    tds[-1](class_="scripted")
    chosen = "chosen" if query.prompt == record.id else ""
    return element("tr", *tds, id=f"row-{record.id}", class_=chosen, role="row")


def _calls(record: Record) -> str:
    return f"{count(record.asks, 'ask')}, {count(record.deliveries, 'delivery', 'deliveries')}"


def _redrive(record: Record, where: str) -> Tag:
    return element(
        "button",
        "Redrive",
        tags.span(f" {record.id[:SHORT]}", class_="hidden"),
        type="button",
        id=f"redrive-{where}-{record.id}",
        data_redrive=record.id,
    )


def page_links(picked: Picked) -> Tag:
    """Links to older prompts, and back to the latest."""
    query = picked.query
    links = []
    if query.before is not None:
        links.append(_link("latest", query.link(before=None) + "#prompts", "Latest"))
    if picked.more:
        older = query.link(before=picked.records[-1].position) + "#prompts"
        links.append(_link("older", older, "Older"))
    return tags.p(*links, id="pages")


def way(shown: Shown, picked: Picked) -> Tag:
    """The steps of one prompt so far."""
    record, wanted = picked.prompt, picked.query.prompt
    if wanted is None:
        text = (
            "The way of a prompt is shown here: of one that you send, or pick from the list below."
        )
        return tags.div(tags.p(text, class_="empty"), id="way")
    close = _link("close", picked.query.link(prompt=None) + "#try", "Close")
    if record is None:
        text = "No prompt has this id: it was never accepted, or its record has expired."
        text = text if picked.readable else "The journal can't be read now."
        return tags.div(tags.p(text, class_="empty"), tags.p(close), id="way")
    return tags.div(
        tags.h3("The way of ", tags.code(record.id)),
        tags.ol(*_steps(shown, record), class_="steps"),
        tags.p(_redrive(record, "way"), class_="scripted") if record.state is State.FAILED else "",
        tags.p(
            f"Prompt {record.id[:SHORT]} is {record.state.value}.", class_="hidden", role="status"
        ),
        tags.p(close),
        id="way",
    )


def _steps(shown: Shown, record: Record) -> Iterator[Tag]:
    end, to = "Delivered", "" if record.target == TARGET.destination else f" to {record.target}"
    if record.target == NOWHERE:
        end, to = "Finished", ""
    asks, deliveries = count(record.asks, "ask"), count(record.deliveries, "delivery", "deliveries")
    yield _step("done", "Accepted", _at(shown, record.accepted))
    if record.answered is not None:
        told = f"{_at(shown, record.answered)}, after {took(record.answered - record.accepted)}"
        yield _step("done", "Answered", f"{told} and {asks}")
        begun, calls, doing = record.answered, deliveries, f"Delivering the event{to}"
    else:
        begun, calls, doing = record.accepted, asks, "Asking the model"
        if record.state is State.SUBMITTED:
            doing = "The provider works on it"
    if record.delivered is not None:
        told = f"{_at(shown, record.delivered)}, after {took(record.delivered - record.accepted)}"
        kept = "; its answer is for its caller alone"
        yield _step("done", end, told + (kept if end == "Finished" else f" and {deliveries}{to}"))
    elif record.state is State.FAILED:
        yield _step("failed", "Failed", f"after {calls}", record.error)
    elif record.state is State.CANCELLED:
        yield _step("cancelled", "Cancelled", f"after {calls}")
    else:
        yield _step("now", doing, f"for {age(shown.now - begun)}; {calls} so far", record.error)
        yield _step("ahead", end, "not yet")


_PROGRESS = {
    "done": State.DELIVERED,
    "failed": State.FAILED,
    "cancelled": State.CANCELLED,
    "now": State.ANSWERED,
    "ahead": State.ACCEPTED,
}
"""The state whose icon and colour a step has."""


def _step(progress: str, name: str, told: str, error: str | None = None) -> Tag:
    item = tags.li(
        state_icon(_PROGRESS[progress]),
        tags.strong(name),
        " ",
        tags.span(told),
        class_=f"step {progress}",
    )
    if progress == "now":
        item(**named(aria_current="step"))
    return item(tags.p(*with_code(sentence(error)), class_="why")) if error else item


def _at(shown: Shown, instant: float) -> str:
    return f"at {clock_time(instant, shown.now, shown.zone, '%H:%M:%S')}"
