"""Renders the parts of the page that change, each an element with an id. Pure.

The page has all of them when it is loaded; the stream of events sends those that changed.
"""

from collections.abc import Mapping

from twisted.web.template import Tag, tags

from chatgpt_source import __version__
from chatgpt_source.admin import batches, charts, daemon, past
from chatgpt_source.admin.controls import controls
from chatgpt_source.admin.detail import detail
from chatgpt_source.admin.failures import all_failures, failures, redrive_cost
from chatgpt_source.admin.health import health
from chatgpt_source.admin.markup import element, live_link
from chatgpt_source.admin.prompts import chips, listing, page_links, state_links, way
from chatgpt_source.admin.states import state_icon
from chatgpt_source.admin.view import Picked, Query, Shown
from chatgpt_source.admin.words import (
    age,
    ago,
    count,
    local_time,
    moment,
    sentence,
)
from chatgpt_source.health.checks import NEARLY
from chatgpt_source.prompt import State
from chatgpt_source.quota import clock_time

_MEANINGS = {
    State.ACCEPTED: "to be asked",
    State.SUBMITTED: "with the provider",
    State.ANSWERED: "to be delivered",
    State.DELIVERED: "done",
    State.FAILED: "set aside",
    State.CANCELLED: "by their callers",
}


def shared(shown: Shown) -> Mapping[str, Tag]:
    """The fragments of the page of all prompts that are the same for all viewers, by their ids."""
    return {
        **everywhere(shown),
        "all-failures": all_failures(shown),
        "failures": failures(shown),
        "quota": quota(shown),
        "states": states(shown),
        "cost": cost(shown),
        "controls": controls(shown),
        "batches": batches.section(shown.tiers, shown.now, shown.zone),
    }


def everywhere(shown: Shown) -> Mapping[str, Tag]:
    """The fragments that all pages have, by their ids."""
    return {
        "health": health(shown),
        "redrive-cost": redrive_cost(shown),
        "about": about(shown),
        "daemon": daemon.fragment(shown.daemon),
    }


def own(shown: Shown, picked: Picked) -> Mapping[str, Tag]:
    """The fragments that depend on a viewer's query, by their ids."""
    if picked.query.prompt is not None:
        return detail(shown, picked)
    return {
        "way": way(shown, picked),
        "ranges": past.ranges(picked.query),
        "filter": state_links(shown, picked.query),
        "chips": chips(picked.query),
        "listing": listing(shown, picked),
        "pages": page_links(picked),
    }


def quota(shown: Shown) -> Tag:
    """The day's quota: a gauge, and the time to midnight."""
    share = shown.used / shown.limit
    kind = "full" if not shown.left else "high" if share >= NEARLY else "fine"
    words = {"full": "Used up", "high": "Nearly used up", "fine": ""}[kind]
    told = f"{count(shown.used)} of {count(shown.limit)} prompts used today"
    left = count(shown.left)
    midnight = moment(shown.midnight, shown.zone, "midnight")
    return tags.div(
        tags.div(
            charts.gauge(share, kind, told),
            tags.p(
                tags.strong(left, class_="long" if len(left) > 6 else ""),
                tags.span("left"),
                class_="dial",
            ),
            class_="gauge-box",
        ),
        tags.p(told, *_as_of(shown, ", as of "), class_="lead"),
        tags.p(words, class_=f"word {kind}") if words else "",
        tags.p("A new day begins in ", age(shown.midnight - shown.now), ", at ", midnight, "."),
        id="quota",
    )


def states(shown: Shown) -> Tag:
    """The number of prompts in each state, and how long the oldest has waited."""
    tiles = [
        tags.li(
            live_link(
                f"tile-{state.value}",
                Query(state).link() + "#prompts",
                tags.span(state_icon(state), sentence(state.value), class_="name"),
                " ",
                tags.strong(count(shown.prompts[state])),
                " ",
                tags.span(_MEANINGS[state], class_="meaning"),
                class_=f"tile {state.value}{'' if shown.prompts[state] else ' none'}",
            )
        )
        for state in State
    ]
    if shown.cheap:
        tiles.append(
            tags.li(
                tags.span("Half price", class_="name"),
                " ",
                tags.strong(count(shown.cheap)),
                " ",
                tags.span("answers in the last hour", class_="meaning"),
                class_="tile cheap",
            )
        )
    waiting: list[str | Tag] = ["Nothing waits."]
    if shown.waiting:
        waiting = [tags.strong(count(shown.waiting, "prompt")), " not finished"]
        if shown.oldest is not None:
            accepted = moment(shown.oldest, shown.zone, ago(shown.now - shown.oldest))
            waiting += ["; the oldest was accepted ", accepted]
        waiting.append(".")
    waiting += _as_of(shown, " As of ", ".")
    return tags.div(tags.ul(*tiles, class_="tiles"), tags.p(*waiting, class_="lead"), id="states")


def _as_of(shown: Shown, before: str, after: str = "") -> list[str | Tag]:
    """When the counts were read, if that is a while ago."""
    if shown.as_of is None:
        return []
    time = clock_time(shown.as_of, shown.now, shown.zone)
    return [before, moment(shown.as_of, shown.zone, time), after]


def cost(shown: Shown) -> Tag:
    """What a prompt to try costs."""
    left = f"{count(shown.left)} {'is' if shown.left == 1 else 'are'}" if shown.left else "none is"
    return tags.p(
        "It is asked and delivered like any other, and takes one of today’s ",
        f"{count(shown.limit)} prompts; {left} left.",
        id="cost",
        class_="note",
    )


def about(shown: Shown) -> Tag:
    """The version that runs, since when, and the daemon's time, by which the script goes."""
    started = moment(shown.started, shown.zone, clock_time(shown.started, shown.now, shown.zone))
    return element(
        "p",
        tags.span(f"ChatGPT Source {__version__}"),
        tags.span("up ", age(shown.now - shown.started), ", since ", started),
        id="about",
        data_now=local_time(shown.now, shown.zone),
    )
