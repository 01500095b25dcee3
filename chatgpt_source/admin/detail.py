"""Renders a prompt's own page: its state, its calls, and what can be done about it. Pure."""

from collections.abc import Iterator, Mapping
from urllib.parse import quote

from twisted.web.template import Flattenable, Tag, tags

from chatgpt_source.admin.markup import act, element, named, sure
from chatgpt_source.admin.prompts import UNKNOWN, redrive
from chatgpt_source.admin.states import badge
from chatgpt_source.admin.steps import steps, waits_for
from chatgpt_source.admin.view import Picked, Shown
from chatgpt_source.admin.words import (
    age,
    count,
    exactly,
    sentence,
    short_id,
    took,
    when,
    with_code,
)
from chatgpt_source.journal import DeadLetter, Detail, Record
from chatgpt_source.journal.attempts import Attempt, Kind
from chatgpt_source.prompt import TARGET, State, Tier

_WAITING = (State.ACCEPTED, State.SUBMITTED)
Fact = tuple[str, Flattenable]


def detail(shown: Shown, picked: Picked) -> Mapping[str, Tag]:
    """The fragments of a prompt's own page, by their ids."""
    found = picked.detail
    if found is None:
        told = UNKNOWN if picked.readable else "The journal can't be read now."
        gone = tags.div(
            tags.p(tags.code(picked.query.prompt or ""), class_="whole-id"),
            tags.p(told, class_="empty"),
            **_marks(picked),
        )
        empty = {name: tags.div(id=name) for name in ("steps", "facts", "attempts")}
        return {"prompt": gone, **empty}
    return {
        "prompt": _head(shown, picked, found.record),
        "steps": tags.div(steps(shown, found.record, _tier(found), why=False), id="steps"),
        "facts": tags.div(tags.dl(*_list(_facts(shown, found))), id="facts"),
        "attempts": _attempts(shown, found),
    }


def back(picked: Picked) -> Tag:
    """The link to the list that the viewer came from."""
    query, place = picked.query, f"#row-{picked.query.prompt}"
    name = "All prompts"
    if query.tried is not None and query.tried == query.prompt:
        place, name = "#try", "Try a prompt"
    elif query.find is not None:
        name = "The prompts found"
    elif query.state is not None:
        name = f"{sentence(query.state.value)} prompts"
    arrow = element("svg", element("path", d="M9.5 3.5L5 8l4.5 4.5"), viewBox="0 0 16 16")
    arrow(class_="icon", **named(aria_hidden="true"))
    return element("a", arrow, name, href=query.link(prompt=None) + place, id="back")


def title(picked: Picked) -> str:
    """What the tab's title begins with."""
    name = short_id(picked.query.prompt or "")
    state = picked.detail.record.state.value if picked.detail else "unknown"
    return f"{name} {state}"


def _marks(picked: Picked) -> dict[str, str]:
    state = picked.detail.record.state.value if picked.detail else "gone"
    return named(id="prompt", class_=state, data_title=title(picked))


def _head(shown: Shown, picked: Picked, record: Record) -> Tag:
    told: list[Flattenable] = [badge(record.state), " "]
    if record.state is State.SUBMITTED:
        told.append("accepted ")
    reached = record.ended or record.answered or record.accepted
    told.append(when(reached, shown.now, shown.zone))
    why: Tag | str = ""
    if record.error:
        failed = record.state is State.FAILED
        text = sentence(record.error) if failed else f"The last call failed: {record.error}"
        why = tags.p(*with_code(text), class_="why")
    whole = tags.p(tags.code(record.id, id="whole-id"), _copy("whole-id", "id"), class_="whole-id")
    return tags.div(
        whole,
        tags.p(*told, class_="state-line"),
        tags.p(f"It is {record.state.value}.", class_="hidden", role="status"),
        why,
        tags.p(*_actions(record), class_="actions scripted"),
        **_marks(picked),
    )


def _actions(record: Record) -> Iterator[Tag]:
    name = short_id(record.id)
    path = f"api/prompts/{quote(record.id, safe='')}"
    if record.state is State.FAILED:
        yield redrive(record, "this")(class_="primary")
        yield act(
            "purge-this",
            "Purge",
            post=f"{path}/purge",
            done=f"Prompt {name} is purged.",
            class_="quiet",
            **sure("purge", f"Purge prompt {name}?", "Purge"),
        )
    elif record.state in _WAITING:
        yield act(
            "cancel-this",
            "Cancel this prompt",
            post=f"{path}/cancel",
            done=f"Prompt {name} is cancelled.",
            class_="quiet",
            **sure("cancel", f"Cancel prompt {name}?", "Cancel the prompt"),
        )


def _copy(of: str, name: str) -> Tag:
    return element(
        "button",
        "Copy",
        tags.span(f" the {name}", class_="hidden"),
        type="button",
        id=f"copy-{of}",
        class_="small scripted",
        data_copy=of,
    )


def _facts(shown: Shown, found: Detail) -> Iterator[Fact]:
    """What is known, without what is not."""
    record = found.record

    def at(instant: float | None) -> Tag | None:
        return None if instant is None else when(instant, shown.now, shown.zone)

    facts: tuple[tuple[str, Flattenable | None], ...] = (
        ("Accepted", exactly(record.accepted, shown.now, shown.zone)),
        ("Next call", _next_call(shown, found)),
        ("Deadline", at(found.deadline)),
        ("Request id", _request_id(record)),
        ("Answered by", found.answered_by),
        ("Submitted as", _code(found.submitted)),
        ("The answer took", None if found.ask_seconds is None else took(found.ask_seconds)),
        ("Tokens", _tokens(found)),
        ("Target", _target(record)),
        ("The delivery took", _sent(found)),
        ("Event source", _code(found.source)),
        ("Event type", _code(found.type)),
        ("Tier", None if found.tier is None else found.tier.value),
        ("Batch", None if found.batch is None else str(found.batch)),
        ("Dead letter", _dead_letter(shown, found.dead_letter)),
        ("Answer kept until", at(found.kept_until)),
    )
    return ((name, value) for name, value in facts if value is not None)


def _tier(found: Detail) -> Tier:
    return found.tier or Tier.STANDARD


def _next_call(shown: Shown, found: Detail) -> Flattenable | None:
    record = found.record
    if record.next_attempt is None:
        return None
    waits = waits_for(shown, record, _tier(found))
    if waits is not None:
        return tags.span(*with_code(f"waits for {waits}"))
    ahead = record.next_attempt - shown.now
    if ahead < 1:
        return "due now"
    return tags.span(
        "in ", age(ahead), ", at ", exactly(record.next_attempt, shown.now, shown.zone)
    )


def _request_id(record: Record) -> Tag | None:
    if record.request_id is None:
        return None
    code = tags.code(record.request_id, id="request-id")
    return tags.span(code, " ", _copy("request-id", "request id"))


def _target(record: Record) -> Flattenable:
    return "the default one" if record.target == TARGET.destination else tags.code(record.target)


def _code(text: str | None) -> Tag | None:
    return None if text is None else tags.code(text)


def _tokens(found: Detail) -> str | None:
    counts = ((found.input_tokens, "in"), (found.output_tokens, "out"))
    return ", ".join(f"{count(n)} {way}" for n, way in counts if n is not None) or None


def _sent(found: Detail) -> str | None:
    if found.sent_seconds is None:
        return None
    status = "" if found.sent_status is None else f", HTTP status {found.sent_status}"
    return f"{took(found.sent_seconds)}{status}"


def _list(facts: Iterator[Fact]) -> Iterator[Tag]:
    for name, value in facts:
        yield tags.div(tags.dt(name), tags.dd(value))


def _dead_letter(shown: Shown, letter: DeadLetter | None) -> Tag | None:
    if letter is None:
        return None
    told: list[Flattenable] = [f"{letter.state}, {count(letter.attempts, 'call')}"]
    if letter.error is not None:
        told += [": ", *with_code(letter.error)]
    if letter.next_attempt is not None:
        told += ["; the next is due at ", exactly(letter.next_attempt, shown.now, shown.zone)]
    return tags.span(*told)


def _attempts(shown: Shown, found: Detail) -> Tag:
    calls = found.attempts[::-1]
    notes = ["A call is under way."] if found.is_under_way else []
    if found.unlisted:
        many = count(found.unlisted, "further call is", "further calls are")
        notes.append(f"{many} not listed.")
    if not calls and not notes:
        return tags.div(tags.p("There was no call for it yet.", class_="empty"), id="attempts")
    heads = ("Time", "Call", "To", "Outcome", "Status", "Took", "Error")
    return tags.div(
        tags.table(role="table", class_="cards")(
            tags.caption("The calls for this prompt, the latest first", class_="hidden"),
            tags.thead(tags.tr(*(tags.th(head, scope="col") for head in heads))),
            tags.tbody(role="rowgroup")(*(_call(shown, call) for call in calls)),
        )
        if calls
        else "",
        tags.p(" ".join(notes), class_="note") if notes else "",
        id="attempts",
    )


_KINDS = {
    Kind.ASK: "ask",
    Kind.POLL: "poll",
    Kind.DELIVERY: "delivery",
    Kind.DEAD_LETTER: "dead letter",
}
_OUTCOMES = {
    "again": "transient failure",
    "maybe_billed": "possibly billed",
    "hold": "held",
    "missing": "not found",
}
"""The observer's words that people may not know."""


def _call(shown: Shown, call: Attempt) -> Tag:
    error: list[Flattenable] = [*with_code(call.error or "")]
    if call.request_id:
        error += [" " if error else "", tags.code(call.request_id)]
    cells: list[tuple[str, Flattenable]] = [
        ("Time", exactly(call.started, shown.now, shown.zone)),
        ("Call", f"{_KINDS[call.kind]} {call.number}"),
        ("To", call.peer),
        ("Outcome", _OUTCOMES.get(call.outcome, call.outcome)),
        ("Status", "" if call.status is None else str(call.status)),
        ("Took", took(call.seconds)),
        ("Error", tags.span(*error) if error else ""),
    ]
    tds = [element("td", value, role="cell", data_label=label) for label, value in cells]
    return element("tr", *tds, id=f"call-{call.kind.value}-{call.number}", role="row")
