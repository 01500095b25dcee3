"""Renders the page's list of prompts, without their texts, and what picks them. Pure."""

from twisted.web.template import Flattenable, Tag, tags

from chatgpt_source.admin.markup import act, element, live_link, named
from chatgpt_source.admin.states import badge
from chatgpt_source.admin.steps import steps
from chatgpt_source.admin.view import LONGEST_KEY, Picked, Query, Shown
from chatgpt_source.admin.words import count, moment, sentence, short_id, took, when, with_code
from chatgpt_source.journal import Record
from chatgpt_source.prompt import State

_HERE = "#prompts"


def state_links(shown: Shown, query: Query) -> Tag:
    """The filter by state: links, so that it works without the script."""
    total = sum(shown.prompts.values())
    links = [_state_link(query, None, "all", total)]
    links += [_state_link(query, state, state.value, shown.prompts[state]) for state in State]
    return tags.ul(*(tags.li(link) for link in links), id="filter")


def _state_link(query: Query, state: State | None, name: str, number: int) -> Tag:
    href = query.link(state=state, reason=None, find=None, before=None) + _HERE
    link = live_link(f"filter-{name}", href, f"{sentence(name)} ", tags.span(count(number)))
    picked = query.state is state and query.find is None
    return link(**named(aria_current="true")) if picked else link


def search(query: Query) -> Tag:
    """The field for an id, the beginning of one, or an idempotency key."""
    return element(
        "input",
        type="search",
        id="q",
        name_="q",
        value=query.find or "",
        maxlength=str(LONGEST_KEY),
        placeholder="Id or idempotency key",
        autocomplete="off",
        spellcheck="false",
    )


def chips(query: Query) -> Tag:
    """What picks the prompts besides their state, each with a link that takes it away."""
    links = []
    if query.reason is not None:
        href = query.link(reason=None, before=None) + _HERE
        links.append(_chip("chip-reason", href, "Failed: ", *with_code(query.reason)))
    if query.find is not None:
        href = query.link(find=None, before=None) + _HERE
        links.append(_chip("chip-q", href, "Found by ", tags.code(query.find)))
    return tags.p(*links, id="chips")


def _chip(id_: str, href: str, *told: Flattenable) -> Tag:
    cross = element("svg", element("path", d="M4 4l8 8M12 4l-8 8"), viewBox="0 0 16 16")
    cross(class_="icon", **named(aria_hidden="true"))
    hidden = tags.span(": show all again", class_="hidden")
    return live_link(id_, href, tags.span(*told), hidden, cross, class_="chip")


def listing(shown: Shown, picked: Picked) -> Tag:
    """The prompts that a viewer's query picks, newest first."""
    if not picked.records:
        return tags.div(tags.p(_nothing(picked), class_="empty"), id="listing")
    heads = ["Prompt", "State", "Accepted", "Ended", "Calls", "Error"]
    columns = [tags.th(head, scope="col") for head in heads]
    columns.append(tags.th(tags.span("Action", class_="hidden"), scope="col", class_="scripted"))
    return tags.div(
        tags.table(role="table", class_="cards")(
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
    if query.find is not None:
        return (
            "No prompt has an id that begins so, or this idempotency key: it was never accepted,"
            " or it was purged, or its record has expired."
        )
    if query.before is not None:
        return "There are no older prompts."
    if query.reason is not None:
        return "No prompt is failed for this reason any more."
    return f"No prompt is {query.state.value}." if query.state else "No prompt has come yet."


def _row(shown: Shown, query: Query, record: Record) -> Tag:
    code = tags.code(short_id(record.id))
    link = element("a", code, id=f"show-{record.id}", href=query.link(prompt=record.id))
    cells: list[tuple[str, Flattenable]] = [
        ("Prompt", link(title=record.id)),
        ("State", badge(record.state)),
        ("Accepted", when(record.accepted, shown.now, shown.zone)),
        ("Ended", _ended(shown, record)),
        ("Calls", _calls(record)),
        ("Error", tags.span(*with_code(record.error)) if record.error else ""),
        ("", redrive(record, "row") if record.state is State.FAILED else ""),
    ]
    # The roles are still right when a narrow window shows the rows as cards.
    tds = [element("td", value, role="cell", data_label=label) for label, value in cells]
    tds[-1](class_="scripted")
    return element("tr", *tds, id=f"row-{record.id}", role="row")


def _ended(shown: Shown, record: Record) -> Flattenable:
    if record.ended is None:
        return ""
    if record.state is State.DELIVERED:
        text = f"in {took(record.ended - record.accepted)}"
        return moment(record.ended, shown.zone, text)
    return when(record.ended, shown.now, shown.zone)


def _calls(record: Record) -> str:
    return f"{count(record.asks, 'ask')}, {count(record.deliveries, 'delivery', 'deliveries')}"


def redrive(record: Record, where: str) -> Tag:
    """The button that redrives one prompt: that costs what the prompt itself did."""
    name = short_id(record.id)
    return act(
        f"redrive-{where}-{record.id}",
        "Redrive",
        tags.span(f" {name}", class_="hidden"),
        post=f"api/prompts/{record.id}/redrive",
        done=f"Prompt {name} is taken up again.",
        data_next=f"show-{record.id}",
    )


def page_links(picked: Picked) -> Tag:
    """Links to older prompts, and back to the latest."""
    query = picked.query
    links: list[Tag | str] = []
    if query.find is not None:
        told = "There are more: write more of the id." if picked.more else ""
        return tags.p(told, id="pages", class_="note")
    if query.before is not None:
        links.append(live_link("latest", query.link(before=None) + _HERE, "Latest"))
    if picked.more:
        older = query.link(before=picked.records[-1].position) + _HERE
        links.append(live_link("older", older, "Older"))
    return tags.p(*links, id="pages")


def way(shown: Shown, picked: Picked) -> Tag:
    """The steps so far of the prompt that was tried."""
    record, wanted = picked.tried, picked.query.tried
    if wanted is None:
        told = "What becomes of the prompt that you send is shown here."
        return tags.div(tags.p(told, class_="empty"), id="way")
    close = live_link("close", picked.query.link(tried=None) + "#try", "Close")
    if record is None:
        text = UNKNOWN if picked.readable else "The journal can't be read now."
        return tags.div(tags.p(text, class_="empty"), tags.p(close), id="way")
    whole = element("a", "All about it", id="way-whole", href=picked.query.link(prompt=record.id))
    state = f"Prompt {short_id(record.id)} is {record.state.value}."
    return tags.div(
        tags.h3("The way of ", tags.code(record.id)),
        steps(shown, record),
        tags.p(state, class_="hidden", role="status"),
        tags.p(whole, " ", close, class_="links"),
        id="way",
    )


UNKNOWN = (
    "No prompt has this id: it was never accepted, or it was purged, or its record has expired."
)
