"""Creates the daemon's parts, connects them, and starts and stops them in order."""

import os
from contextlib import suppress
from functools import partial
from threading import Thread
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred, succeed
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from chatgpt_source import __version__
from chatgpt_source.clock import wall
from chatgpt_source.config import Config
from chatgpt_source.delivery.target import targets_of
from chatgpt_source.errors import JournalUnavailable
from chatgpt_source.health.judge import Judge
from chatgpt_source.health.recent import MOST, Recent
from chatgpt_source.health.refusals import Refusals
from chatgpt_source.http.client import make_client
from chatgpt_source.http.server import BoundedSite, origin_of
from chatgpt_source.intake.api import Intake
from chatgpt_source.intake.health import Health
from chatgpt_source.intake.waiting import Elsewhere, Waiters
from chatgpt_source.journal import Recovered
from chatgpt_source.journal.audit import AuditWatch
from chatgpt_source.journal.engine import Opened
from chatgpt_source.log import get_logger, log_unexpected
from chatgpt_source.pipeline import Pipeline
from chatgpt_source.pipeline.peers import peers_of
from chatgpt_source.process.steps import take_all
from chatgpt_source.providers import Provider, provider_of
from chatgpt_source.providers.openai_batch import OpenAIBatch
from chatgpt_source.quota import Calendar, Midnight
from chatgpt_source.telemetry.observer import Observers
from chatgpt_source.telemetry.outcome_log import OutcomeLog
from chatgpt_source.telemetry.spans import NO_SPANS, Spans, are_wanted
from chatgpt_source.waiting import completes

log = get_logger(__name__)

SETTLED_AFTER = 600.0
"""Seconds from the start in which a machine's clock may still be set: until then all is kept."""
CLOSE_TIMEOUT = 1.5
"""Seconds that a stop may wait for each of the port, the journal and the connections to close."""


class Application:
    """The connected parts of a started daemon.

    Args:
        reactor: The reactor.
        config: The settings.
        opened: The journal, open.
        threads: The journal's thread, running; stopped by `stop`.
    """

    def __init__(self, reactor: Any, config: Config, opened: Opened, threads: ThreadPool) -> None:
        self._reactor = reactor
        self._started = reactor.seconds()
        self._config = config
        self._threads = threads
        self._journal = opened(reactor, partial(deferToThreadPool, reactor, threads))
        self._completes = partial(completes, seconds=CLOSE_TIMEOUT, clock=reactor)
        self._client, self._pool = make_client(
            reactor,
            config.concurrency,
            proxies=config.proxies,
            authorities=config.ca_file + config.authorities,
        )
        self._provider = provider_of(config, self._client, reactor)
        self._fallbacks = {
            name: provider_of(each, self._client, reactor)
            for name, each in config.of_fallbacks.items()
        }
        self._recent, refusals = Recent(reactor), Refusals(reactor)
        waiters = Waiters(reactor)
        self._elsewhere = Elsewhere(reactor, self._journal, waiters)
        self._audit = AuditWatch(reactor, self._journal)
        observers = Observers(OutcomeLog(), self._recent, refusals, waiters)
        self._spans = _open_spans(config)
        self._pipeline = Pipeline(
            reactor,
            self._journal,
            config,
            self._provider,
            {
                receiver.destination: target.deliver
                for receiver, target in targets_of(config, self._client, reactor)
            },
            observer=observers,
            spans=self._spans,
            batches=OpenAIBatch(self._client, reactor, config),
            fallbacks=self._fallbacks,
        )
        self._doubts: Deferred[None] = succeed(None)
        self._nobody_waits: Deferred[None] = succeed(None)
        calendar = Calendar(config.timezone)
        self._midnight = Midnight(reactor, calendar, lambda: Deferred.fromCoroutine(self._prune()))
        watched = self._journal, self._pipeline, self._recent, refusals
        health = Health(Judge(reactor, config, calendar, *watched))
        self._intake = Intake(
            reactor,
            config,
            calendar,
            self._journal,
            self._pipeline,
            health,
            waiters,
            observers,
            self._spans,
        )
        self._admin = None
        if config.admin is not None:
            from chatgpt_source.admin import Admin  # noqa: PLC0415 - only its users pay for it

            self._admin = Admin(self._intake, observers)

    async def recover(self) -> Recovered:
        """Take up what the journal has of earlier processes; called before `start`.

        Raises:
            JournalError: If the journal can't be used.
        """
        config = self._config
        return await self._journal.recover(
            config.everyday_limit, config.timezone.key, peers_of(config), config.keep_answers
        )

    def start(self, recovered: Recovered) -> None:
        """Start the parts with what was recovered; log the main settings."""
        config = self._config
        for warning in config.warnings:
            log.warn("{warning}", warning=warning)
        log.info(
            "chatgpt-source {version}: prompts at {where}, at most {limit} a day ({zone});"
            " {model} at {base}; events to {target}; settings from {origin}",
            version=__version__,
            where=config.listen or f"port {config.port}",
            limit=config.everyday_limit,
            zone=config.timezone.key,
            model=config.model,
            base=origin_of(config.base_url),
            target=origin_of(config.target),
            origin=config.origin,
        )
        log.info("the journal is {path}", path=self._journal.location)
        if self._admin is not None:
            log.info("the admin site is at {endpoint}", endpoint=config.admin)
            self._admin.start()
        Deferred.fromCoroutine(self._seed_recent())
        self._pipeline.start(recovered)
        self._elsewhere.start()
        self._audit.start()
        self._midnight.start()
        self._doubts = Deferred.fromCoroutine(self._tell_doubts())
        self._doubts.addErrback(Failure.trap, CancelledError)

    def serve(self, site: BoundedSite, admin_site: BoundedSite | None) -> None:
        """Answer the requests to the prompt port's site, and to the admin site."""
        self._intake.bound_waiters(site.connections.at_most)
        site.handler, site.refused = self._intake.answer, self._intake.refused
        if self._admin is not None and admin_site is not None:
            admin_site.handler, admin_site.refused = self._admin.answer, self._intake.refused

    async def _seed_recent(self) -> None:
        """Load the last failures of earlier processes, so that a restart does not hide them."""
        with suppress(JournalUnavailable):
            self._recent.seed(await self._journal.ends(0.0, MOST), self._journal.date)

    async def _tell_doubts(self) -> None:
        await self._tell_doubts_of(self._provider)
        for name, fallback in self._fallbacks.items():
            await self._tell_doubts_of(fallback, f"the fallback `{name}`: ")

    async def _tell_doubts_of(self, provider: Provider, where: str = "") -> None:
        try:
            doubt = await provider.doubts()
        except CancelledError:
            raise
        except Exception:  # noqa: BLE001 - whatever it was, prompts are asked all the same
            log_unexpected(log, "asking which models there are", Failure())
        else:
            if doubt is not None:
                log.warn("{where}{doubt}", where=where, doubt=doubt)

    async def stop(self) -> None:
        """Drain, close the journal, then the connections: each, whatever became of the others."""
        await take_all(
            log,
            ("ending the minute's work", self._midnight.stop),
            ("asking no more which models there are", self._doubts.cancel),
            ("looking no more for answers to prompts", self._elsewhere.stop),
            ("looking no more for what operators have done", self._audit.stop),
            ("ending the waits", self._end_waits),
            ("draining", self._pipeline.drain),
            ("answering those who waited", lambda: self._completes(self._nobody_waits)),
            ("keeping the history", self._settle_admin),
            ("closing the journal", self._close_journal),
            ("closing the connections", lambda: self._completes(self._pool.close())),
            ("exporting spans", self._export_spans),
            ("ending the admin site", self._stop_admin),
        )

    def _end_waits(self) -> None:
        self._nobody_waits = self._intake.stop_waiting()

    async def _settle_admin(self) -> None:
        if self._admin is not None:
            await self._completes(maybeDeferred(self._admin.settle))

    async def _close_journal(self) -> None:
        """Close it and end its thread, unless that hangs: whoever joins it then would hang too."""
        try:
            closed = await self._completes(self._journal.close())
        except Exception:  # noqa: BLE001 - whatever it was, the thread is to end
            log_unexpected(log, "closing the journal", Failure())
            idle = deferToThreadPool(self._reactor, self._threads, lambda: None)
            closed = await self._completes(idle)
        if closed:
            self._threads.stop()
        else:
            log.warn("the journal does not close in time: stopping without it")

    async def _export_spans(self) -> None:
        if self._spans is NO_SPANS:
            return
        exporting = thread("spans")
        exporting.start()
        done = deferToThreadPool(self._reactor, exporting, self._spans.close)
        if await self._completes(done):
            exporting.stop()

    def _stop_admin(self) -> None:
        if self._admin is not None:
            self._admin.stop()

    async def _prune(self) -> None:
        # The earlier of the two, so that a clock that is ahead for a while deletes nothing.
        now = min(wall(self._reactor), self._reactor.seconds())
        is_settled = self._reactor.seconds() - self._started >= SETTLED_AFTER
        with suppress(JournalUnavailable):
            await self._journal.prune(now - self._config.keep if is_settled else 0.0)
            await self._journal.prune_history(now if is_settled else 0.0)


def thread(name: str) -> ThreadPool:
    """A pool of one daemon thread: if it hangs, the process can end all the same."""
    pool = ThreadPool(1, 1, name)
    pool.threadFactory = partial(Thread, daemon=True)  # type: ignore[assignment] # as callable
    return pool


def _open_spans(config: Config) -> Spans:
    """Spans, if the environment asks for them and the extra `otel` is installed."""
    if not are_wanted(os.environ):
        return NO_SPANS
    try:
        from chatgpt_source.telemetry.otel import open_spans  # noqa: PLC0415 - only its users pay for it
    except ImportError:
        log.warn("OTEL_... asks for spans, but the extra `otel` is not installed: tracing is off")
        return NO_SPANS
    try:
        return open_spans(config, os.environ)
    except Exception as error:  # noqa: BLE001 - whatever it was, prompts are served all the same
        log.warn(
            "OTEL_... asks for spans, but one of {names} can't be used ({kind}): tracing is off",
            names=", ".join(sorted(name for name in os.environ if name.startswith("OTEL_"))),
            kind=type(error).__name__,
        )
        return NO_SPANS
