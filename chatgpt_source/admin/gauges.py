"""The gauges: the daemon's state at the moment of a scrape."""

from collections.abc import Iterator, Mapping

from attrs import define, field
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from chatgpt_source.admin.status import Status
from chatgpt_source.admin.tiers import SeenTiers
from chatgpt_source.health.trouble import Level
from chatgpt_source.journal import Tally
from chatgpt_source.journal.counts import Counted
from chatgpt_source.log.lines import dropped
from chatgpt_source.prompt import State

PREFIX = "chatgpt_source"


@define(eq=False, repr=False)
class Gauges(Collector):
    """Collects the state; the journal's counts only once `counted` has them.

    Attributes:
        counted: The journal's last known counts.
        level: How well the daemon was when it was last judged.
        tiers: The batches, and what waits for each tier.
    """

    _status: Status
    counted: Counted = field(init=False, factory=Counted)
    level: Level = field(init=False, default=Level.UNKNOWN)
    tiers: SeenTiers = field(init=False, factory=SeenTiers)

    def collect(self) -> Iterator[Metric]:
        """The metrics."""
        yield CounterMetricFamily(
            f"{PREFIX}_log_lines_dropped",
            "Log lines that were dropped because stdout was not read.",
            dropped(),
        )
        yield from self._of_peers()
        yield from self._of_daemon()
        if self.counted.tally is not None and self.counted.at is not None:
            yield from self._of_journal(self.counted.tally, self.counted.at)
            yield from self._of_tiers()

    def _of_peers(self) -> Iterator[Metric]:
        breakers, now = self._status.breakers, self._status.judge.clock.seconds()
        under_way = {peer: breaker.under_way for peer, breaker in breakers.items()}
        yield _gauge(
            "calls_under_way", "Calls under way, at most `concurrency`.", under_way, "peer"
        )
        yield _gauge(
            "circuit_open",
            "1 while the circuit breaker holds all calls to the peer.",
            {peer: breaker.held for peer, breaker in breakers.items()},
            "peer",
        )
        yield _gauge(
            "throttled",
            "1 while calls are held back, because the peer answered 429 or failed before.",
            {peer: breaker.throttled(now) for peer, breaker in breakers.items()},
            "peer",
        )

    def _of_daemon(self) -> Iterator[Metric]:
        judge = self._status.judge
        pauses = judge.pipeline.pauses
        yield _gauge(
            "paused",
            "1 while an operator has paused it.",
            {what: pauses.is_paused(what) for what in pauses.what},
            "what",
        )
        yield _gauge(
            "recent_failure_ratio",
            "The share that failed, of the last 100 prompts that ended in the last 15 min.",
            judge.recent.ratio(),
        )
        writable = judge.journal.fault is None and self.counted.trouble is None
        yield _gauge(
            "journal_writable", "1 while the journal can be written, and answers.", writable
        )
        levels = {level.value: level is self.level for level in Level}
        yield _gauge("health", "1 for the level of the daemon's health.", levels, "level")
        limit = judge.config.everyday_limit
        yield _gauge("quota_limit", "Prompts that may be accepted a day.", limit)

    def _of_journal(self, tally: Tally, counted_at: float) -> Iterator[Metric]:
        """The journal's counts, as they were read last."""
        yield _gauge(
            "journal_counts_age_seconds",
            "The age of the counts of prompts and units; about 0 while the journal answers.",
            max(0, self._status.judge.clock.seconds() - counted_at),
        )
        yield _gauge("quota_used", "Units of today's quota that are spent.", tally.used)
        prompts = {state.value: tally.prompts[state] for state in State}
        yield _gauge("prompts", "Prompts in the journal, by state.", prompts, "state")
        yield _gauge(
            "backlog",
            "Prompts that are to be asked, are submitted, or are to be delivered.",
            tally.backlog,
        )
        yield _gauge(
            "backlog_oldest_age_seconds",
            "The time since the oldest prompt of the backlog was accepted; 0 if there is none.",
            self._status.oldest_age(tally),
        )
        yield _gauge(
            "leftovers",
            "Calls that cancel or delete at the provider what nobody needs; tried for a day.",
            tally.leftovers,
        )
        yield _gauge("daemons", "Daemons that use the journal; 1 for one in a file.", tally.daemons)

    def _of_tiers(self) -> Iterator[Metric]:
        if self.tiers.at is None:
            return
        phases = {phase.value: number for phase, number in self.tiers.phases.items()}
        yield _gauge("batches", "Batches in the journal, by state.", phases, "state")
        waiting = {tier.value: number for tier, number in self.tiers.waiting.items()}
        yield _gauge(
            "tier_prompts",
            "Accepted prompts that wait, by the tier that is to serve them.",
            waiting,
            "tier",
        )


def _gauge(name: str, told: str, value: float | Mapping[str, float], *label: str) -> Metric:
    family = GaugeMetricFamily(f"{PREFIX}_{name}", told, labels=label)
    if isinstance(value, Mapping):
        for key, each in value.items():
            family.add_metric([key], float(each))
    else:
        family.add_metric([], float(value))
    return family
