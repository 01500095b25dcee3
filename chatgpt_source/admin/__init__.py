"""The admin site, apart from the prompt port: metrics, the daemon's state, what operators do.

| path | what |
| --- | --- |
| `GET /`, `/api/events` | the page, and the stream of what changes on it |
| `GET /metrics` | for Prometheus |
| `GET /healthz`, `/readyz` | for probes, as at the prompt port |
| `GET /api/history` | what happened by the minute or by the hour, as JSON |
| `GET /api/status`, `/api/prompts`, `/api/prompts/<id>` | the same as JSON |
| `GET /api/batches` | the batches, and what waits for each tier, as JSON |
| `POST /api/prompts` | try a prompt |
| `GET /api/search`, `/api/failures` | find prompts; the failed ones by reason |
| `POST /api/prompts/<id>/redrive`, `…/purge`, `…/cancel` | redrive, purge or cancel one |
| `POST /api/redrive`, `/api/purge` | redrive or purge the failed prompts of a reason, or all |
| `POST /api/pause/<what>`, `/api/resume/<what>` | pause and resume |
| `POST /api/peers/<label>/try` | call a peer that is held at once |
"""

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall

from chatgpt_source.admin.actions import Actions
from chatgpt_source.admin.api import Api
from chatgpt_source.admin.archive import Archive
from chatgpt_source.admin.costs import Costs
from chatgpt_source.admin.facts import Facts
from chatgpt_source.admin.guard import Admission
from chatgpt_source.admin.history import History
from chatgpt_source.admin.lag import LagMeter
from chatgpt_source.admin.live import Live
from chatgpt_source.admin.metrics import Metrics
from chatgpt_source.admin.search import Search
from chatgpt_source.admin.status import Status
from chatgpt_source.errors import JournalUnavailable
from chatgpt_source.http.server import BoundedRequest
from chatgpt_source.http.server.routes import READ, WRITE, Routes
from chatgpt_source.intake import health as intake_health
from chatgpt_source.intake.accepting import unavailable
from chatgpt_source.intake.api import Intake
from chatgpt_source.journal.failure_groups import FailureGroups
from chatgpt_source.log import get_logger, log_unexpected
from chatgpt_source.telemetry.observer import Observers

__all__ = ["PROBES", "Admin", "Admission"]

log = get_logger(__name__)

LOOK_EVERY = 5.0
"""Seconds between two judgements of its own, so that a trouble's date is not that of who looks."""
PROBES = ("/metrics", "/api/status", *intake_health.PROBES)
"""Paths that are answered even if all other connections are taken."""

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""Headers of every response; the page has further ones, and its own Content-Security-Policy."""


class Admin:
    """The admin site, with its observers.

    Args:
        intake: Takes the prompts to try; the site shows what becomes of its prompts.
        observers: The observers, to which the site adds its own.
    """

    def __init__(self, intake: Intake, observers: Observers) -> None:
        status = Status(intake.health)
        costs = Costs(intake.config)
        metrics = Metrics(status, costs)
        self._history = history = History(
            intake.clock, intake.journal, intake.health.judge.counts, costs
        )
        archive = Archive(
            intake.clock, intake.journal, history, intake.config.timezone, costs.are_known
        )
        self._lag = LagMeter(intake.clock, metrics.late)
        self._judge = intake.health.judge
        self._looks = LoopingCall(self._look)
        self._looks.clock = intake.clock
        groups = FailureGroups(intake.clock, intake.journal)
        search = Search(intake.journal, intake.config)
        facts = Facts(status, archive, groups, search, intake.clock.seconds())
        self._live = live = Live(intake.clock, intake.config, facts)
        for observer in (metrics, history, live):
            observers.add(observer)
        actions = Actions(intake, groups, observers)
        api = Api(intake, status, groups, actions, search, archive)
        self._routes = Routes(
            ("/", READ, live.page),
            ("/api/events", READ, live.events),
            ("/metrics", READ, metrics.scrape),
            ("/healthz", READ, intake.alive),
            ("/readyz", READ, intake.ready),
            ("/api/status", READ, api.status),
            ("/api/history", READ, api.history),
            ("/api/prompts", READ, api.prompts),
            ("/api/prompts", WRITE, api.accept),
            ("/api/prompts/[^/]+", READ, api.prompt),
            ("/api/prompts/[^/]+/redrive", WRITE, api.redrive),
            ("/api/prompts/[^/]+/purge", WRITE, api.purge),
            ("/api/prompts/[^/]+/cancel", WRITE, api.cancel),
            ("/api/search", READ, api.search),
            ("/api/failures", READ, api.failures),
            ("/api/redrive", WRITE, api.redrive_all),
            ("/api/peers/[^/]+/try", WRITE, api.try_now),
            ("/api/batches", READ, api.batches),
            ("/api/purge", WRITE, api.purge_all),
            ("/api/pause/[^/]+", WRITE, api.pause),
            ("/api/resume/[^/]+", WRITE, api.resume),
            unknown="the page is at /, the metrics are at /metrics, JSON is below /api/",
        )

    def start(self) -> None:
        """Start measuring how late the event loop is, keeping the history, and judging."""
        self._lag.start()
        self._history.start()
        self._looks.start(LOOK_EVERY, now=False)

    async def settle(self) -> None:
        """Write what the journal does not have yet of the history, before that is closed."""
        self._stop_looking()
        self._history.stop()
        await self._history.write()

    def stop(self) -> None:
        """Stop measuring, and end the streams."""
        self._lag.stop()
        self._stop_looking()
        self._history.stop()
        self._live.stop()

    def _look(self) -> Deferred[None]:
        async def look() -> None:
            await self._judge.judge()

        return Deferred.fromCoroutine(look()).addErrback(
            lambda failure: log_unexpected(log, "judging the health", failure)
        )

    def _stop_looking(self) -> None:
        if self._looks.running:
            self._looks.stop()

    async def answer(self, request: BoundedRequest) -> None:
        """Answer a request of any kind, once it has passed Admission.

        Raises:
            Problem: If it is refused.
        """
        for name, value in HEADERS.items():
            request.setHeader(name, value)
        try:
            await self._routes.handler(request)(request)
        except JournalUnavailable as refusal:
            raise unavailable(refusal) from None
        finally:
            if request.method == b"POST":
                self._live.touch()  # the page shows soon what an operator has done
