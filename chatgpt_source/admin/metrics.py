"""The metrics for Prometheus: their names, labels, buckets and values; see also `gauges`.

They hold no id and no text. Each label has few values, and all of them are there from the start: an
alert can't use a series that appears only once something has happened.
"""

import platform
from collections.abc import Iterable
from enum import Enum
from functools import partial
from itertools import product

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import choose_encoder
from twisted.copyright import version as twisted_version

from chatgpt_source import __version__
from chatgpt_source.admin.costs import Costs, Tokens
from chatgpt_source.admin.gauges import PREFIX, Gauges
from chatgpt_source.admin.status import Status
from chatgpt_source.http.server import BoundedRequest
from chatgpt_source.prompt import NOWHERE, TARGET, Answer, Arrival, State, is_asked
from chatgpt_source.telemetry.observer import (
    AskEnded,
    AskOutcome,
    DeliveryEnded,
    DeliveryOutcome,
    Observer,
    PollOutcome,
    RefusalReason,
)

OPENMETRICS = "application/openmetrics-text"

WAIT = (0.005, 0.025, 0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 21600, 86400)
ASK = (0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120, 300, 600)
DELIVERY = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
WHOLE_WAY = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900, 3600, 21600, 86400)
LAG = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)


class Direction(str, Enum):
    """Which way tokens go: to the model, or from it."""

    INPUT = "input"
    OUTPUT = "output"


class BilledTier(str, Enum):
    """A provider's word for the tier that was billed; `OTHER` is any other, `UNKNOWN` none."""

    DEFAULT = "default"
    FLEX = "flex"
    PRIORITY = "priority"
    BATCH = "batch"
    SCALE = "scale"
    OTHER = "other"
    UNKNOWN = "unknown"

    @classmethod
    def of(cls, word: str | None) -> "BilledTier":
        """The tier of a provider's word."""
        if word is None:
            return cls.UNKNOWN
        return cls(word) if word in _BILLED else cls.OTHER


_BILLED = {each.value for each in BilledTier}


class Metrics(Observer):
    """An observer that counts outcomes, and renders them for Prometheus.

    Args:
        status: The state of which there are gauges.
        costs: The prices.
    """

    def __init__(self, status: Status, costs: Costs) -> None:
        # Each counter would add a second series with the time of its creation.
        prometheus_client.disable_created_metrics()
        self._judge, self._tiers, self._costs = status.judge, status.tiers, costs
        self._gauges = Gauges(status)
        self._registry = registry = CollectorRegistry()
        targets = [TARGET.destination, *status.judge.config.targets]
        nowhere = [NOWHERE] if status.judge.config.keep_answers else []
        counter = self._counter
        self._accepted = counter("prompts_accepted", "Prompts accepted, and on disk.")
        self._arrived = counter(
            "prompts_arrived",
            "Prompts accepted, by the form in which they arrived and by their target.",
            arrival=Arrival,
            target=[*targets, *nowhere],
        )
        self._repeated = counter(
            "prompts_repeated", "Requests with an idempotency key that came before."
        )
        self._refused = counter("prompts_refused", "Prompts refused.", reason=RefusalReason)
        self._failed = counter("prompts_failed", "Prompts set aside as failed.")
        self._cancelled = counter("prompts_cancelled", "Prompts cancelled by their callers.")
        self._asks = counter("asks", "Calls to the model, by outcome.", outcome=AskOutcome)
        self._asks_of = counter(
            "peer_asks",
            "Calls to the model, by whom they asked and by outcome; none for a batch's prompts.",
            peer=[each for each in status.breakers if is_asked(each)],
            outcome=AskOutcome,
        )
        self._billed = counter(
            "answers", "Answers, by the tier that the provider has billed.", tier=BilledTier
        )
        self._polls = counter(
            "polls", "Polls of submitted prompts, by outcome.", outcome=PollOutcome
        )
        self._deliveries = counter(
            "deliveries", "Calls to the targets, by outcome.", outcome=DeliveryOutcome
        )
        self._delivered_to = counter(
            "target_deliveries",
            "Calls to each target, by outcome.",
            target=targets,
            outcome=DeliveryOutcome,
        )
        self._letters = counter(
            "dead_letters",
            "Calls to the dead letters' receiver, by outcome.",
            outcome=DeliveryOutcome,
        )
        self._tokens = counter(
            "tokens", "Tokens, as the provider counts them.", direction=Direction
        )
        self._dollars = counter(
            "cost_dollars", "What answers cost in US dollars; 0 without the setting `prices`."
        )
        histogram = partial(Histogram, namespace=PREFIX, registry=registry)
        self._wait = histogram(
            "wait_seconds",
            "From a prompt's acceptance to the start of its first ask.",
            buckets=WAIT,
        )
        self._ask = histogram("ask_seconds", "How long calls to the model took.", buckets=ASK)
        self._delivery = histogram(
            "delivery_seconds", "How long calls to the targets took.", buckets=DELIVERY
        )
        self._whole_way = histogram(
            "accepted_to_delivered_seconds",
            "From a prompt's acceptance to its event's delivery.",
            buckets=WHOLE_WAY,
        )
        self._lag = histogram(
            "reactor_lag_seconds", "How late the event loop was, measured each second.", buckets=LAG
        )
        gauge = partial(Gauge, namespace=PREFIX, registry=registry)
        self._last_lag = gauge("reactor_lag_last_seconds", "How late the event loop was last.")
        build = gauge("build_info", "What runs.", ["version", "python", "twisted"])
        build.labels(__version__, platform.python_version(), twisted_version).set(1)
        registry.register(self._gauges)
        ProcessCollector(registry=registry)

    def _counter(self, name: str, told: str, **labels: Iterable[Enum | str]) -> Counter:
        """A counter with a series for each combination of the labels' values."""
        counter = Counter(name, told, [*labels], namespace=PREFIX, registry=self._registry)
        for values in product(*labels.values()) if labels else ():
            counter.labels(*(each.value if isinstance(each, Enum) else each for each in values))
        return counter

    # The observer's methods.

    def accepted(
        self,
        *,
        arrival: Arrival = Arrival.TEXT,
        target: str = TARGET.destination,
        **_: object,
    ) -> None:
        self._accepted.inc()
        self._arrived.labels(arrival.value, target).inc()

    def repeated(self) -> None:
        self._repeated.inc()

    def refused(self, *, reason: RefusalReason) -> None:
        self._refused.labels(reason.value).inc()

    def asked(self, ended: AskEnded) -> None:
        if ended.called:
            self._called(ended)
        if ended.state is State.FAILED:
            self._failed.inc()

    def _called(self, ended: AskEnded) -> None:
        if ended.poll is not None:
            self._polls.labels(ended.poll.value).inc()
        else:
            self._asks.labels(ended.outcome.value).inc()
            self._asks_of.labels(ended.peer, ended.outcome.value).inc()
            self._ask.observe(ended.seconds)
            if ended.waited is not None:
                self._wait.observe(ended.waited)
        if ended.answer is not None:
            self._answered(ended, ended.answer)

    def _answered(self, ended: AskEnded, answer: Answer) -> None:
        self._billed.labels(BilledTier.of(answer.service_tier).value).inc()
        tokens = Tokens.of(answer)
        self._tokens.labels(Direction.INPUT.value).inc(tokens.input)
        self._tokens.labels(Direction.OUTPUT.value).inc(tokens.output)
        if self._costs.are_known:
            self._dollars.inc(self._costs.cost(ended, answer, tokens) or 0.0)

    def sent(self, ended: DeliveryEnded) -> None:
        if ended.is_dead_letter:
            self._letters.labels(ended.outcome.value).inc()
            return
        self._deliveries.labels(ended.outcome.value).inc()
        self._delivered_to.labels(ended.delivery.destination, ended.outcome.value).inc()
        self._delivery.observe(ended.seconds)
        if ended.state is State.FAILED:
            self._failed.inc()
        if ended.state is State.DELIVERED:
            self._whole_way.observe(ended.date - ended.accepted)

    def cancelled(self, **_: object) -> None:
        self._cancelled.inc()

    # The rest.

    def late(self, seconds: float) -> None:
        """Count how late the event loop was."""
        self._last_lag.set(seconds)
        self._lag.observe(seconds)

    async def scrape(self, request: BoundedRequest) -> None:
        """Answer `GET /metrics`: in OpenMetrics if it accepts that, else in Prometheus's format."""
        self._gauges.level = (await self._judge.judge()).level
        self._gauges.counted = self._judge.counted
        self._gauges.tiers = await self._tiers.read()
        accept = b",".join(request.requestHeaders.getRawHeaders(b"accept", [])).lower()
        # Not the header itself: it may name a version that does not exist.
        wanted = OPENMETRICS if OPENMETRICS.encode("ascii") in accept else ""
        encode, media_type = choose_encoder(wanted)
        request.answer(200, encode(self._registry), media_type=media_type)
