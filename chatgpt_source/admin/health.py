"""Renders the page's headline: how well the daemon is, and what to do about each trouble. Pure."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from urllib.parse import urlencode

from twisted.web.template import Flattenable, Tag, tags

from chatgpt_source.admin.controls import resume
from chatgpt_source.admin.markup import element, live_link
from chatgpt_source.admin.view import FAILURES, Shown
from chatgpt_source.admin.words import age, count, local_time, moment, sentence, with_code
from chatgpt_source.health.trouble import Level, Trouble
from chatgpt_source.prompt import State
from chatgpt_source.quota import clock_time

NAME = "ChatGPT Source"
_SIGNS = {Level.RED: "●", Level.AMBER: "◐", Level.GREEN: "✓", Level.UNKNOWN: "○"}
"""What the tab's title begins with."""
_MARKS = {
    Level.RED: "M5.5 5.5l9 9M14.5 5.5l-9 9",
    Level.AMBER: "M10 4v7.5M10 15v.5",
    Level.GREEN: "M4.5 10.5l3.5 3.5 7.5-8",
    Level.UNKNOWN: "M5 10h10",
}
"""A cross, an exclamation mark, a tick, a dash."""
_LASTS = re.compile(r" for \d+ (?:s|min|h|d)(?: \d+ (?:min|h))?\b")
"""How long something lasts by now."""
_WORDS = {Level.RED: "Red: ", Level.AMBER: "Amber: "}


def health(shown: Shown) -> Tag:
    """The headline."""
    judgement = shown.judgement
    level = judgement.level
    named = zip(judgement.troubles, _names(judgement.troubles), strict=True)
    troubles = [_trouble(shown, each, name) for each, name in named]
    inner = tags.ul(*troubles) if troubles else tags.div(*_calm(shown))
    told = count(len(troubles), "trouble") if troubles else judgement.headline
    said = " ".join(f"{_WORDS[each.level]}{sentence(each.told)}." for each in judgement.troubles)
    return element(
        "div",
        inner,
        # What changes each second is not in it, so that it is read out only when there is news.
        tags.p(
            _LASTS.sub("", said).replace("`", "") or f"{judgement.headline}.",
            id="health-said",
            class_="hidden",
            role="status",
        ),
        id="health",
        class_=f"health {level.value}",
        data_title=f"{_SIGNS[level]} {told} – {NAME}",
    )


def _calm(shown: Shown) -> Iterator[Tag]:
    """That there is no trouble, and what there is to do all the same."""
    level, failed = shown.judgement.level, shown.prompts[State.FAILED]
    yield _line(level, f"{shown.judgement.headline}.")
    if failed:
        wait = (
            f"that failed earlier {'waits' if failed == 1 else 'wait'} to be redriven or purged. "
        )
        link = live_link("of-earlier", f"{FAILURES.link()}#prompts", "Show these prompts")
        yield tags.p(f"{count(failed, 'prompt')} {wait}", link, class_="advice")
    if level is Level.UNKNOWN:
        yield tags.p("The next prompt shows whether all works.", class_="advice")


def _line(level: Level, *told: Flattenable) -> Tag:
    return tags.p(_mark(level), tags.strong(*told))


def _mark(level: Level) -> Tag:
    mark = element("path", d=_MARKS[level])
    kind = f"mark {level.value}"
    return element("svg", mark, class_=kind, viewBox="0 0 20 20", aria_hidden="true")


def _trouble(shown: Shown, trouble: Trouble, name: str) -> Tag:
    """One trouble: what, since when, what it means, when the next try is, what to do."""
    word = tags.span(_WORDS[trouble.level], class_="hidden")
    what = [word, *with_code(f"{sentence(trouble.told)}.")]
    facts = [*_since(shown, trouble), *_phrase(trouble.meaning), *_next_try(shown, trouble)]
    return tags.li(
        _line(trouble.level, *what),
        tags.p(*facts, class_="facts") if facts else "",
        tags.p(*_phrase(trouble.advice), class_="advice") if trouble.advice else "",
        tags.p(*_acts(trouble, name), class_="acts"),
        class_=f"trouble {trouble.level.value}",
        id=f"trouble-{name}",
    )


def _names(troubles: Iterable[Trouble]) -> Iterator[str]:
    """For each trouble a part of ids that no other one has: of two with one id, one is lost."""
    seen: Counter[str] = Counter()
    for each in troubles:
        name = each.peer or (f"paused-{each.paused}" if each.paused else each.check)
        seen[name] += 1
        yield name if seen[name] == 1 else f"{name}-{seen[name]}"


def _phrase(text: str) -> Iterator[str | Tag]:
    if text:
        yield from with_code(f"{sentence(text)}. ")


def _since(shown: Shown, trouble: Trouble) -> Iterator[str | Tag]:
    if trouble.since is not None:
        text = clock_time(trouble.since, shown.now, shown.zone)
        yield "Since "
        yield moment(trouble.since, shown.zone, text)
        lasts = shown.now - trouble.since
        yield f", for {age(lasts)}. " if lasts >= 1 else ". "


def _next_try(shown: Shown, trouble: Trouble) -> Iterator[str | Tag]:
    if trouble.next_try is None:
        return
    left = trouble.next_try - shown.now
    if left <= 0:
        yield "The next try is due."
        return
    text = clock_time(trouble.next_try, shown.now, shown.zone, "%H:%M:%S")
    yield "The next try is at "
    yield moment(trouble.next_try, shown.zone, text)
    yield ", "
    yield element("span", f"in {age(left)}", data_at=local_time(trouble.next_try, shown.zone))
    yield "."


def _acts(trouble: Trouble, name: str) -> Iterator[Tag]:
    if trouble.prompts:
        query = f"?{urlencode(trouble.prompts)}#prompts"
        text = "Show these prompts"
        yield element("a", text, href=query, id=f"of-{name}", data_live="")
    if trouble.paused is not None:
        yield resume(trouble.paused, f"end-{name}")
    if trouble.peer is not None:
        yield element(
            "button",
            "Try now",
            tags.span(f": {trouble.peer}", class_="hidden"),
            type="button",
            id=f"try-{trouble.peer}",
            class_="scripted",
            data_try=trouble.peer,
        )
