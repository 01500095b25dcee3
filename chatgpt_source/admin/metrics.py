"""The metrics for Prometheus: their names, labels, buckets and values.

They hold no id and no text. Each label has few values, and all of them are there from the start: an
alert can't use a series that appears only once something has happened.
"""

import platform
from collections.abc import Callable, Iterable, Iterator, Mapping

import prometheus_client
from attrs import frozen
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from twisted.copyright import version as twisted_version

from chatgpt_source import __version__
from chatgpt_source.journal.counts import Counted
from chatgpt_source.log.lines import dropped
from chatgpt_source.pipeline.breaker import Breaker
from chatgpt_source.prompt import State
from chatgpt_source.telemetry.observer import (
    AskEnded,
    AskOutcome,
    DeliveryEnded,
    DeliveryOutcome,
    Observer,
    RefusalReason,
)

PREFIX = "chatgpt_source"
OPENMETRICS = "application/openmetrics-text"

WAIT = (0.005, 0.025, 0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 21600, 86400)
ASK = (0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120, 300, 600)
DELIVERY = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
WHOLE_WAY = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900, 3600, 21600, 86400)
LAG = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)

_TOKENS = {"prompt_tokens": "prompt", "completion_tokens": "completion"}
"""The counts of a provider's `usage` that are neither sums nor parts of others."""
_MOST_TOKENS = 10**9
"""A larger number in one answer is not believed."""


@frozen
class Snapshot:
    """The state at the moment of a scrape.

    Attributes:
        breakers: The circuit breaker of each peer.
        now: When, by the steady clock.
        limit: The day's units.
        writable: Whether the journal can be written.
        counted: The journal's counts, or the last ones if it does not answer.
        oldest: How long the oldest waiting prompt has waited; 0 if none waits.
        failure_ratio: The share of failures among the prompts that ended lately.
    """

    breakers: Mapping[str, Breaker]
    now: float
    limit: int
    writable: bool
    counted: Counted
    oldest: float
    failure_ratio: float


class Metrics(Observer):
    """An observer that counts outcomes, and renders them for Prometheus."""

    def __init__(self) -> None:
        # Each counter would add a second series with the time of its creation.
        prometheus_client.disable_created_metrics()
        self._registry = CollectorRegistry()
        self._snapshot: Snapshot | None = None
        self._lag = 0.0
        self._accepted = self._counter("prompts_accepted", "Prompts accepted, and on disk.")
        self._repeated = self._counter(
            "prompts_repeated", "Requests with an idempotency key that came before."
        )
        self._refused = self._counter(
            "prompts_refused", "Prompts refused.", "reason", [each.value for each in RefusalReason]
        )
        self._failed = self._counter("prompts_failed", "Prompts set aside as failed.")
        self._asks = self._counter(
            "asks",
            "Calls to the model, by outcome.",
            "outcome",
            [each.value for each in AskOutcome],
        )
        self._deliveries = self._counter(
            "deliveries",
            "Calls to the target, by outcome.",
            "outcome",
            [each.value for each in DeliveryOutcome],
        )
        self._letters = self._counter(
            "dead_letters",
            "Calls to the dead letters' receiver, by outcome.",
            "outcome",
            [each.value for each in DeliveryOutcome],
        )
        self._tokens = self._counter(
            "tokens", "Tokens of answers, as the provider counts them.", "kind", _TOKENS.values()
        )
        self._wait = self._histogram(
            "wait_seconds", "From a prompt's acceptance to the start of its first ask.", WAIT
        )
        self._ask = self._histogram("ask_seconds", "How long calls to the model took.", ASK)
        self._delivery = self._histogram(
            "delivery_seconds", "How long calls to the target took.", DELIVERY
        )
        self._whole_way = self._histogram(
            "accepted_to_delivered_seconds",
            "From a prompt's acceptance to its event's delivery.",
            WHOLE_WAY,
        )
        self._reactor_lag = self._histogram(
            "reactor_lag_seconds", "How late the event loop was, measured each second.", LAG
        )
        self._registry.register(_Gauges(self._gauges))
        ProcessCollector(registry=self._registry)

    # The observer's methods.

    def accepted(self, **_: object) -> None:
        self._accepted.inc()

    def repeated(self) -> None:
        self._repeated.inc()

    def refused(self, *, reason: RefusalReason) -> None:
        self._refused.labels(reason.value).inc()

    def asked(self, ended: AskEnded) -> None:
        self._asks.labels(ended.outcome.value).inc()
        self._ask.observe(ended.seconds)
        if ended.waited is not None:
            self._wait.observe(ended.waited)
        for name, count in ((ended.answer and ended.answer.usage) or {}).items():
            if name in _TOKENS and type(count) is int and 0 < count < _MOST_TOKENS:
                self._tokens.labels(_TOKENS[name]).inc(count)
        if ended.state is State.FAILED:
            self._failed.inc()

    def sent(self, ended: DeliveryEnded) -> None:
        if ended.is_dead_letter:
            self._letters.labels(ended.outcome.value).inc()
            return
        self._deliveries.labels(ended.outcome.value).inc()
        self._delivery.observe(ended.seconds)
        if ended.state is State.FAILED:
            self._failed.inc()
        if ended.state is State.DELIVERED:
            self._whole_way.observe(ended.date - ended.accepted)

    # The rest.

    def late(self, seconds: float) -> None:
        """Count how late the event loop was."""
        self._lag = seconds
        self._reactor_lag.observe(seconds)

    def text(self, snapshot: Snapshot, accept: str) -> tuple[bytes, str]:
        """All metrics, and their media type: OpenMetrics if it is accepted, else Prometheus's own.

        Args:
            snapshot: The current state.
            accept: The request's Accept header.
        """
        # Not the header itself: it may name a version that does not exist.
        encode, media_type = choose_encoder(OPENMETRICS if OPENMETRICS in accept.lower() else "")
        self._snapshot = snapshot
        return encode(self._registry), media_type

    def _gauges(self) -> Iterator[Metric]:
        yield _gauge("reactor_lag_last_seconds", "How late the event loop was last.", self._lag)
        yield CounterMetricFamily(
            f"{PREFIX}_log_lines_dropped",
            "Log lines that were dropped because stdout was not read.",
            dropped(),
        )
        yield _gauge(
            "build_info",
            "What runs.",
            {(__version__, platform.python_version(), twisted_version): 1},
            "version",
            "python",
            "twisted",
        )
        if self._snapshot is not None:
            yield from _of_snapshot(self._snapshot)

    def _counter(
        self, name: str, told: str, label: str | None = None, values: Iterable[str] = ()
    ) -> Counter:
        counter = Counter(
            name, told, [label] if label else [], namespace=PREFIX, registry=self._registry
        )
        for value in values:
            counter.labels(value)
        return counter

    def _histogram(self, name: str, told: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(name, told, namespace=PREFIX, registry=self._registry, buckets=buckets)


def _of_snapshot(snapshot: Snapshot) -> Iterator[Metric]:
    breakers = snapshot.breakers.items()
    yield _gauge(
        "calls_under_way",
        "Calls under way.",
        {(peer,): breaker.under_way for peer, breaker in breakers},
        "peer",
    )
    yield _gauge(
        "circuit_open",
        "1 while the circuit breaker holds all calls to the peer.",
        {(peer,): breaker.held for peer, breaker in breakers},
        "peer",
    )
    yield _gauge(
        "throttled",
        "1 while calls are throttled, because the peer answered 429.",
        {(peer,): breaker.throttled(snapshot.now) for peer, breaker in breakers},
        "peer",
    )
    yield _gauge(
        "recent_failure_ratio",
        "The share that failed, of the last 100 prompts that ended in the last 15 min.",
        snapshot.failure_ratio,
    )
    yield _gauge("journal_writable", "1 while the journal can be written.", snapshot.writable)
    yield _gauge("quota_limit", "Prompts that may be accepted a day.", snapshot.limit)
    tally, at = snapshot.counted.tally, snapshot.counted.at
    if tally is None or at is None:
        return
    yield _gauge(
        "journal_counts_age_seconds",
        "The age of the journal's counts that follow; about 0 while it answers.",
        max(0, snapshot.now - at),
    )
    yield _gauge("quota_used", "Units of today's quota that are spent.", tally.used)
    yield _gauge(
        "prompts",
        "Prompts in the journal, by state.",
        {(state.value,): tally.prompts[state] for state in State},
        "state",
    )
    yield _gauge("backlog", "Prompts that are neither delivered nor failed.", tally.backlog)
    yield _gauge(
        "backlog_oldest_age_seconds",
        "The time since the oldest prompt of the backlog was accepted; 0 if there is none.",
        snapshot.oldest,
    )


def _gauge(
    name: str, told: str, value: float | Mapping[tuple[str, ...], float], *labels: str
) -> Metric:
    family = GaugeMetricFamily(f"{PREFIX}_{name}", told, labels=labels)
    for key, each in value.items() if isinstance(value, Mapping) else [((), value)]:
        family.add_metric(key, float(each))
    return family


@frozen
class _Gauges(Collector):
    collect: Callable[[], Iterator[Metric]]
