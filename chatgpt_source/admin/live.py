"""Serves the status page and its stream of events."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet

from twisted.internet.defer import DeferredLock
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.web.template import Tag

from chatgpt_source.admin import fragments
from chatgpt_source.admin.facts import Facts
from chatgpt_source.admin.history import History
from chatgpt_source.admin.page import HEADERS, MEDIA_TYPE, document, render
from chatgpt_source.admin.status import Status
from chatgpt_source.admin.stream import Fragments, Streams
from chatgpt_source.admin.view import Query, read_query
from chatgpt_source.http.server import BoundedRequest, Problem
from chatgpt_source.telemetry.observer import Observer


class Live(Observer):
    """Serves the page; as an observer, it sends viewers what is new.

    Args:
        clock: The time.
        status: What is well and what is not.
        history: The last hour.
    """

    def __init__(self, clock: IReactorTime, status: Status, history: History) -> None:
        self._clock = clock
        self._config = status.health.config
        self._facts = Facts(status, history, clock.seconds())
        self._streams = Streams(clock, self._render)
        self._drawing = DeferredLock()

    async def page(self, request: BoundedRequest) -> None:
        """Answer `GET /`."""
        query = read_query(request.args)
        shown, picked = await self._facts.shown(), await self._facts.picked(query)
        await self._drawing.acquire()
        try:
            page = await document(self._config, shown, picked)
        finally:  # each takes milliseconds: the next one has a turn of its own
            self._clock.callLater(0, self._drawing.release)
        request.answer(200, page, HEADERS, MEDIA_TYPE)

    async def events(self, request: BoundedRequest) -> None:
        """Answer `GET /api/events`: a stream that lasts.

        Raises:
            Problem: 503 if too many are open; 403 if another site's page asks for one.
        """
        if request.getHeader("sec-fetch-site") not in {None, "same-origin"}:
            raise Problem(403, "another site's page must not open this")
        self._streams.open(request, read_query(request.args))

    def stop(self) -> None:
        """End all streams at once."""
        self._streams.close()

    async def _render(self, queries: AbstractSet[Query]) -> Mapping[Query, Fragments]:
        if not queries:
            return {}
        shown = await self._facts.shown()
        shared = await _html(fragments.shared(shown))
        rendered = {}
        for query in queries:
            await deferLater(self._clock, 0)  # many take a while: let others run
            picked = await self._facts.picked(query)
            rendered[query] = {**shared, **await _html(fragments.own(shown, picked))}
        return rendered

    def _touch(self, *_: object, **__: object) -> None:
        self._streams.touch()

    # What happens: viewers see it soon.
    accepted = asked = sent = cancelled = redriven = purged = _touch


async def _html(parts: Mapping[str, Tag]) -> Fragments:
    return {id_: await render(tag) for id_, tag in parts.items()}
