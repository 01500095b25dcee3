"""Serves the status page and its stream of events."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from math import inf

from attrs import frozen
from twisted.internet.defer import DeferredLock
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import deferLater
from twisted.web.template import Tag

from chatgpt_source.admin import fragments, past
from chatgpt_source.admin.facts import Facts
from chatgpt_source.admin.page import HEADERS, MEDIA_TYPE, document, render
from chatgpt_source.admin.ranges import Range
from chatgpt_source.admin.stream import Fragments, Streams
from chatgpt_source.admin.view import Query, read_query
from chatgpt_source.config import Config
from chatgpt_source.http.server import BoundedRequest, Problem
from chatgpt_source.telemetry.observer import Observer

TURN = 0.003
"""Seconds that a round renders at a stretch, by and large; others have their turn then."""
REDRAW = 2.0
"""The least number of seconds between two drawings of the same charts."""


@frozen
class Drawn:
    """The section of the history as it was drawn.

    Attributes:
        at: When.
        happened: How much had happened until then.
        html: Its parts.
    """

    at: float
    happened: int
    html: Fragments


class Live(Observer):
    """Serves the page; as an observer, it sends viewers what is new.

    Args:
        clock: The time.
        config: The settings.
        facts: Reads what the page shows.
    """

    def __init__(self, clock: IReactorTime, config: Config, facts: Facts) -> None:
        self._clock = clock
        self._config = config
        self._facts = facts
        self._drawn: dict[str, Drawn] = {}
        self._happened = 0
        self._redraw: IDelayedCall | None = None
        self._streams = Streams(clock, self._render)
        self._drawing, self._drawing_past = DeferredLock(), DeferredLock()

    async def page(self, request: BoundedRequest) -> None:
        """Answer `GET /`."""
        query = read_query(request.args)
        shown, picked = await self._facts.shown(), await self._facts.picked(query)
        drawn = {} if query.prompt is not None else await self._past(query.range)
        await self._drawing.acquire()
        try:
            page = await document(self._config, shown, picked, drawn)
        finally:  # each takes milliseconds: the next one has a turn of its own
            self._clock.callLater(0, self._drawing.release)
        unknown = query.prompt is not None and picked.readable and picked.detail is None
        request.answer(404 if unknown else 200, page, HEADERS, MEDIA_TYPE)

    async def events(self, request: BoundedRequest) -> None:
        """Answer `GET /api/events`: a stream that lasts.

        Raises:
            Problem: 503 if too many are open; 403 if another site's page asks for one.
        """
        if request.only_header("sec-fetch-site") not in {None, "same-origin"}:
            raise Problem(403, "another site's page must not open this")
        self._streams.open(request, read_query(request.args))

    def stop(self) -> None:
        """End all streams at once."""
        self._streams.close()
        if self._redraw is not None and self._redraw.active():
            self._redraw.cancel()

    async def _render(self, queries: AbstractSet[Query]) -> Mapping[Query, Fragments]:
        if not queries:
            return {}
        shown = await self._facts.shown()
        everywhere = await self._html(fragments.everywhere(shown))
        if any(query.prompt is None for query in queries):
            shared = await self._html(fragments.shared(shown))
        rendered = {}
        for query in queries:
            await deferLater(self._clock, 0)  # many take a while: let others run
            picked = await self._facts.picked(query)
            own = await self._html(fragments.own(shown, picked))
            if query.prompt is None:
                rendered[query] = {**shared, **own, **await self._past(query.range)}
            else:
                rendered[query] = {**everywhere, **own}
        return rendered

    async def _html(self, parts: Mapping[str, Tag]) -> Fragments:
        html, begun = {}, self._clock.seconds()
        for id_, tag in parts.items():
            html[id_] = await render(tag)
            if self._clock.seconds() - begun > TURN:
                await deferLater(self._clock, 0)
                begun = self._clock.seconds()
        return html

    async def _past(self, wanted: Range) -> Fragments:
        """The section of the history; it is drawn anew each `REDRAW` seconds at the most."""
        await self._drawing_past.acquire()  # who comes meanwhile gets what is drawn
        try:
            drawn = self._drawn.get(wanted.name)
            age = inf if drawn is None else self._clock.seconds() - drawn.at
            if drawn is None or age >= REDRAW:
                drawn = self._drawn[wanted.name] = await self._draw_past(wanted)
            elif drawn.happened != self._happened:
                self._redraw_in(REDRAW - age)
        finally:
            self._drawing_past.release()
        return drawn.html

    async def _draw_past(self, wanted: Range) -> Drawn:
        happened, html = self._happened, {}
        for id_, draw in past.section(await self._facts.past(wanted)).items():
            await deferLater(self._clock, 0)  # each takes a while: let others run
            html[id_] = await render(draw())
        return Drawn(self._clock.seconds(), happened, html)

    def _redraw_in(self, seconds: float) -> None:
        if self._redraw is None or not self._redraw.active():
            self._redraw = self._clock.callLater(seconds, self._streams.touch)

    def touch(self, *_: object, **__: object) -> None:
        """Something has changed: show it soon."""
        self._happened += 1
        self._streams.touch()

    # What happens: viewers see it soon.
    accepted = asked = sent = cancelled = redriven = purged = touch
