"""The admin site, apart from the prompt port: metrics, the daemon's state, and redrive.

| path | what |
| --- | --- |
| `GET /`, `/api/events` | the page, and the stream of what changes on it |
| `GET /metrics` | for Prometheus |
| `GET /api/status`, `/api/prompts`, `/api/prompts/<id>` | the same as JSON |
| `POST /api/prompts` | try a prompt |
| `POST /api/prompts/<id>/redrive`, `/api/redrive` | redrive a failed prompt, or all |
"""

from attrs import define, field
from twisted.internet.interfaces import IReactorTime

from chatgpt_source.admin.api import Api
from chatgpt_source.admin.guard import Admission
from chatgpt_source.admin.history import History
from chatgpt_source.admin.lag import LagMeter
from chatgpt_source.admin.live import Live
from chatgpt_source.admin.metrics import Metrics, Snapshot
from chatgpt_source.admin.redrive import Redriver
from chatgpt_source.admin.status import Status
from chatgpt_source.clock import wall
from chatgpt_source.config import Config
from chatgpt_source.errors import JournalUnavailable
from chatgpt_source.http.server import BoundedRequest
from chatgpt_source.http.server.routes import READ, WRITE, Routes
from chatgpt_source.intake.api import Intake, unavailable
from chatgpt_source.intake.health import Health
from chatgpt_source.journal import Journal
from chatgpt_source.pipeline import Pipeline
from chatgpt_source.quota import Calendar
from chatgpt_source.telemetry.observer import Observers

__all__ = ["PROBES", "Admin", "Admission"]

PROBES = ("/metrics", "/api/status")
"""Paths that are answered even if all other connections are taken."""

_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""Headers of every response; the page has a Content-Security-Policy of its own."""


@define
class Admin:
    """The admin site, with its observers.

    Args:
        clock: The time.
        config: The settings.
        calendar: The day.
        journal: The journal.
        pipeline: The pipeline.
        intake: Takes the prompts to try.
        health: Says what is not well.
        observers: The observers, to which the site adds its own.
    """

    _clock: IReactorTime
    _config: Config
    _calendar: Calendar
    _journal: Journal
    _pipeline: Pipeline
    _intake: Intake
    _health: Health
    _observers: Observers
    _metrics: Metrics = field(init=False, factory=Metrics)
    _lag: LagMeter = field(init=False)
    _status: Status = field(init=False)
    _api: Api = field(init=False)
    _live: Live = field(init=False)
    _routes: Routes = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._observers.add(self._metrics)
        self._lag = LagMeter(self._clock, self._metrics.late)
        self._status = Status(
            self._clock, self._config, self._calendar, self._journal, self._pipeline, self._health
        )
        redriver = Redriver(self._clock, self._journal, self._pipeline, self._observers)
        self._api = api = Api(self._journal, self._intake, self._status, redriver)
        history = History(self._clock)
        self._live = live = Live(self._clock, self._status, history)
        for observer in (history, live):
            self._observers.add(observer)
        self._routes = Routes(
            ("/", READ, live.page),
            ("/api/events", READ, live.events),
            ("/metrics", READ, self._scrape),
            ("/api/status", READ, api.status),
            ("/api/prompts", READ, api.prompts),
            ("/api/prompts", WRITE, api.accept),
            ("/api/prompts/[^/]+", READ, api.prompt),
            ("/api/prompts/[^/]+/redrive", WRITE, api.redrive),
            ("/api/redrive", WRITE, api.redrive_all),
            unknown="the page is at /, the metrics are at /metrics, JSON is below /api/",
        )

    def start(self) -> None:
        """Start measuring how late the event loop is."""
        self._lag.start()

    def stop(self) -> None:
        """Stop measuring, and end the streams."""
        self._lag.stop()
        self._live.stop()

    async def answer(self, request: BoundedRequest) -> None:
        """Answer a request of any kind, once it has passed Admission.

        Raises:
            Problem: If it is refused.
        """
        for name, value in _HEADERS.items():
            request.setHeader(name, value)
        try:
            await self._routes.handler(request)(request)
        except JournalUnavailable as refusal:
            raise unavailable(refusal) from None

    async def _scrape(self, request: BoundedRequest) -> None:
        counted = await self._health.counts.read()
        oldest = counted.tally.oldest if counted.tally else None
        snapshot = Snapshot(
            self._status.breakers,
            self._clock.seconds(),
            self._config.everyday_limit,
            self._journal.fault is None and counted.trouble is None,
            counted,
            0 if oldest is None else max(0, wall(self._clock) - oldest),
            self._health.recent.ratio(),
        )
        accept = ",".join(request.requestHeaders.getRawHeaders("accept", []))
        body, media_type = self._metrics.text(snapshot, accept)
        request.answer(200, body, media_type=media_type)
