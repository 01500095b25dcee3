"""Renders what an operator can pause and resume. Pure."""

from urllib.parse import quote

from twisted.web.template import Tag, tags

from chatgpt_source.admin.markup import act, element, sure
from chatgpt_source.admin.view import Shown
from chatgpt_source.admin.words import sentence, when, with_code
from chatgpt_source.journal.pause import ASKING, INTAKE
from chatgpt_source.prompt import receiver_of

_NAMES = {INTAKE: "Intake", ASKING: "Asking"}
_STOPS = {
    INTAKE: "Callers get a 503 and are told to try again. What was accepted goes on.",
    ASKING: "Accepted prompts wait in the journal. What a provider already works on is still"
    " fetched, and answers are still delivered. None is given up because of that.",
}
_WAITS = "Its events wait in the journal. None is given up because of that."


def controls(shown: Shown) -> Tag:
    """Each thing that can be paused, whether it is, by whom and since when."""
    return tags.div(tags.ul(*(_row(shown, what) for what in shown.pausable)), id="controls")


def _row(shown: Shown, what: str) -> Tag:
    words, pause = name_of(what), shown.pauses.get(what)
    name = words.replace("`", "")
    if pause is None:
        told = tags.span("not paused", class_="note")
        button = act(
            f"pause-{what}",
            "Pause",
            tags.span(f" {name}", class_="hidden"),
            post=f"api/pause/{quote(what, safe='')}",
            done=f"{name}: paused.",
            class_="quiet",
            data_next=f"resume-{what}",
            **sure("pause", f"Pause: {name}?", "Pause", _STOPS.get(what, _WAITS)),
        )
    else:
        since = when(pause.since, shown.now, shown.zone)
        told = tags.span("Paused by ", tags.strong(pause.who), " since ", since, class_="paused")
        button = resume(what, f"resume-{what}")(class_="primary")
    return tags.li(
        tags.span(*with_code(words), class_="name"),
        told,
        element("span", button, class_="scripted actions"),
        id=f"control-{what}",
        class_="control",
    )


def resume(what: str, id_: str) -> Tag:
    """The button that ends a pause."""
    name = name_of(what).replace("`", "")
    return act(
        id_,
        "Resume",
        tags.span(f" {name}", class_="hidden"),
        post=f"api/resume/{quote(what, safe='')}",
        done=f"{name}: resumed.",
        data_next=f"pause-{what}",
    )


def name_of(what: str) -> str:
    """What can be paused, by the name that people use."""
    return _NAMES.get(what) or sentence(receiver_of(what).name.removeprefix("the "))
