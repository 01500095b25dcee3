"""The scrape: it parses, all is there from the start, and each number moves with its thing."""

from typing import Any, cast

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.admin.costs import Costs
from chatgpt_source.admin.lag import EVERY, LagMeter
from chatgpt_source.admin.metrics import Metrics
from chatgpt_source.config import Price, TargetSettings
from chatgpt_source.errors import Gone, Lost, PeerFailure, Permanent, PossiblyBilled, Transient
from chatgpt_source.prompt import Answer, Arrival, State
from chatgpt_source.telemetry.observer import (
    AskOutcome,
    DeliveryEnded,
    DeliveryOutcome,
    RefusalReason,
)
from tests.admin.common import OPENMETRICS, PREFIX, AdminTestCase
from tests.journal.common import ANSWER, PEERS
from tests.telemetry.outcomes import ended

HISTOGRAMS = (
    "wait_seconds",
    "ask_seconds",
    "delivery_seconds",
    "accepted_to_delivered_seconds",
    "reactor_lag_seconds",
)


class MetricsTestCase(AdminTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.before = self.scrape()

    def moved(self) -> dict[str, float]:
        """What has changed since the last look, and by how much; without buckets and sums."""
        now = self.scrape()
        changed = {
            name: value - self.before[name]
            for name, value in now.items()
            if value != self.before[name] and not name.startswith(("process_", "health"))
        }
        self.before = now
        endings = "_bucket", "_sum"
        return {
            name: by
            for name, by in changed.items()
            if not name.partition("{")[0].endswith(endings) and "lag" not in name
        }


class ScrapeTests(MetricsTestCase):
    def test_media_types(self) -> None:
        for accept, expected in (
            ("", "text/plain; version=0.0.4"),
            ("*/*", "text/plain; version=0.0.4"),
            (OPENMETRICS, "application/openmetrics-text; version=1.0.0"),
            ("application/openmetrics-text;version=banana\x7f,*/*", "application/openmetrics-text"),
        ):
            answer = self.get("/metrics", Accept=accept)
            self.assertEqual(answer.status, 200)
            self.assertTrue(answer.headers["content-type"].startswith(expected), accept)

    def test_everything_is_there_from_the_start(self) -> None:
        for name in (
            "prompts_accepted_total",
            "prompts_repeated_total",
            "prompts_failed_total",
            "prompts_cancelled_total",
            "backlog",
            "backlog_oldest_age_seconds",
            "quota_used",
            "reactor_lag_last_seconds",
            *(f'prompts_refused_total{{reason="{each.value}"}}' for each in RefusalReason),
            *(f'asks_total{{outcome="{each.value}"}}' for each in AskOutcome),
            *(f'deliveries_total{{outcome="{each.value}"}}' for each in DeliveryOutcome),
            *(f'dead_letters_total{{outcome="{each.value}"}}' for each in DeliveryOutcome),
            *(f'tokens_total{{direction="{each}"}}' for each in ("input", "output")),
            *(f"{name}_count" for name in HISTOGRAMS),
            *(
                f'{name}{{peer="{peer}"}}'
                for name in ("calls_under_way", "circuit_open", "throttled")
                for peer in ("model", "target", "dead_letter")
            ),
        ):
            self.assertEqual(self.before[name], 0, name)
        self.assertEqual((self.before["quota_limit"], self.before["journal_writable"]), (3, 1))
        (build,) = [name for name in self.before if name.startswith("build_info")]
        self.assertRegex(build, r'python="3\.\d+\.\d+.*",twisted="\d.*",version="\d.*"')
        self.assertGreater(self.before["process_cpu_seconds_total"], 0)

    def test_nothing_new_ever_appears(self) -> None:
        self.ask(vanus_type="a.type.of.mine")
        self.model.answer()
        self.target.answer(Permanent("the target answered 400", status=400))
        self.assertEqual(set(self.before), set(self.scrape()))
        text = self.get("/metrics").body
        for secret in (b"what is vanus", b"the answer", b"mine", b"req-1"):
            self.assertNotIn(secret, text)

    def test_all_ours_have_the_prefix(self) -> None:
        for line in self.get("/metrics").body.decode().splitlines():
            name = line.split()[2] if line.startswith("#") else line
            self.assertTrue(name.startswith((PREFIX, "process_")), line)

    def test_a_journal_that_can_not_be_read(self) -> None:
        self.ask()
        self.scrape()
        self.opened.connection.close()
        self.clock.advance(7)
        self.ask()
        now = self.scrape()
        self.assertEqual(set(now), set(self.before))
        self.assertEqual((now["backlog"], now["quota_used"]), (1, 1))  # as last known
        self.assertEqual(now["journal_counts_age_seconds"], 7)
        self.assertEqual(now["journal_writable"], 0)
        self.assertEqual(now["prompts_accepted_total"], 1)
        self.assertEqual(now['prompts_refused_total{reason="journal"}'], 1)


class CountTests(MetricsTestCase):
    def test_the_way_of_a_prompt(self) -> None:
        self.ask()
        self.assertEqual(
            self.moved(),
            {
                "prompts_accepted_total": 1,
                'prompts_arrived_total{arrival="text",target="target"}': 1,
                'prompts{state="accepted"}': 1,
                'tier_prompts{tier="standard"}': 1,
                "backlog": 1,
                "quota_used": 1,
                'calls_under_way{peer="model"}': 1,
            },
        )
        self.clock.advance(2)
        usage = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12, "x": {"y": 1}}
        self.model.answer(attrs.evolve(ANSWER, usage=usage, service_tier="flex"))
        self.assertEqual(
            self.moved(),
            {
                'asks_total{outcome="answered"}': 1,
                'peer_asks_total{outcome="answered",peer="model"}': 1,
                'answers_total{tier="flex"}': 1,
                "ask_seconds_count": 1,
                "wait_seconds_count": 1,
                'tokens_total{direction="input"}': 5,
                'tokens_total{direction="output"}': 7,
                'prompts{state="accepted"}': -1,
                'tier_prompts{tier="standard"}': -1,
                'prompts{state="answered"}': 1,
                'calls_under_way{peer="model"}': -1,
                'calls_under_way{peer="target"}': 1,
                "backlog_oldest_age_seconds": 2,
            },
        )
        self.clock.advance(3)
        self.target.answer()
        self.assertEqual(
            self.moved(),
            {
                'deliveries_total{outcome="delivered"}': 1,
                'target_deliveries_total{outcome="delivered",target="target"}': 1,
                "delivery_seconds_count": 1,
                "accepted_to_delivered_seconds_count": 1,
                'prompts{state="answered"}': -1,
                'prompts{state="delivered"}': 1,
                'calls_under_way{peer="target"}': -1,
                "backlog": -1,
                "backlog_oldest_age_seconds": -2,
            },
        )
        now = self.scrape()
        sums = [now[f"{name}_sum"] for name in HISTOGRAMS[:4]]
        self.assertEqual(sums, [0, 2, 3, 5])
        self.assertEqual(now['ask_seconds_bucket{le="1.0"}'], 0)
        self.assertEqual(now['ask_seconds_bucket{le="2.0"}'], 1)

    def test_refused_and_repeated(self) -> None:
        self.ask(Idempotency_Key="k")
        self.ask(Idempotency_Key="k")
        self.ask(b"x" * 2000)
        self.ask(b" ")
        moved = self.moved()
        self.assertEqual(moved["prompts_accepted_total"], 1)
        self.assertEqual(moved["prompts_repeated_total"], 1)
        self.assertEqual(moved['prompts_refused_total{reason="too_large"}'], 1)
        self.assertEqual(moved['prompts_refused_total{reason="invalid"}'], 1)

    def test_what_an_answer_cost(self) -> None:
        self.assertEqual(self.scrape()["cost_dollars_total"], 0)
        priced = attrs.evolve(self.config, prices={"gpt-6-luna": Price(1.0, 10.0)})
        metrics = Metrics(self.admin._live._facts._status, Costs(priced))
        usage = {"prompt_tokens": 1_000_000, "completion_tokens": 100_000}
        for model in ("gpt-6-luna-2026-03-01", "gpt-6-luna"):
            answer = Answer("x", model, usage=usage)
            metrics.asked(cast(Any, ended(State.ANSWERED, answer=answer)))
        self.assertEqual(metrics._dollars._value.get(), 4.0)

    def test_an_absurd_count_of_tokens_is_none(self) -> None:
        with capturedLogs() as events:
            for count in (-5, 10**400, 1.5, True, None, "7", 0):
                self.ask()
                self.clock.advance(86400)  # the quota
                self.model.answer(attrs.evolve(ANSWER, usage={"prompt_tokens": count}))
        self.assertEqual([event for event in events if "kind" in event], [])
        self.assertNotIn('tokens_total{direction="input"}', self.moved())

    def test_asks_that_fail(self) -> None:
        self.ask()
        for error in (Transient("x", status=500), PossiblyBilled("x"), Transient("x", status=429)):
            self.model.answer(error)
            self.pass_time(0.1)
            self.assertEqual(self.scrape()['throttled{peer="model"}'], error.status == 429)
            self.pass_time(4)
        self.model.answer(PeerFailure("the model answered 401", status=401))
        moved = self.moved()
        for outcome, count in (("again", 2), ("maybe_billed", 1), ("hold", 1)):
            self.assertEqual(moved[f'asks_total{{outcome="{outcome}"}}'], count)
        self.assertEqual(moved['circuit_open{peer="model"}'], 1)
        self.assertEqual((moved["ask_seconds_count"], moved["wait_seconds_count"]), (4, 1))
        self.pass_time(31)
        self.model.answer(Permanent("the model answered 400", status=400))
        moved = self.moved()
        self.assertEqual(moved['asks_total{outcome="failed"}'], 1)
        self.assertEqual(moved["prompts_failed_total"], 1)
        self.assertNotIn("quota_used", moved)  # one of them may have been billed

    def test_a_unit_that_comes_back(self) -> None:
        self.ask()
        self.moved()
        self.model.answer(Permanent("the model answered 400", status=400))
        moved = self.moved()
        self.assertEqual((moved["quota_used"], moved["recent_failure_ratio"]), (-1, 1))

    def test_deliveries_and_dead_letters_that_fail(self) -> None:
        self.ask()
        self.model.answer()
        self.target.answer(Transient("the target answered 500", status=500))
        self.pass_time(1)
        self.target.answer(Permanent("the target answered 400", status=400))
        self.letters.answer(PeerFailure("it answered 401", status=401))
        self.pass_time(31)
        self.letters.answer()
        moved = self.moved()
        self.assertEqual(moved['deliveries_total{outcome="again"}'], 1)
        self.assertEqual(moved['deliveries_total{outcome="failed"}'], 1)
        self.assertEqual(moved['dead_letters_total{outcome="hold"}'], 1)
        self.assertEqual(moved['dead_letters_total{outcome="delivered"}'], 1)
        self.assertEqual(moved["prompts_failed_total"], 1)
        self.assertNotIn("accepted_to_delivered_seconds_count", moved)

    def test_every_reason(self) -> None:
        for reason in RefusalReason:
            self.observers.refused(reason=reason)
            self.assertEqual(self.moved(), {f'prompts_refused_total{{reason="{reason.value}"}}': 1})

    def test_cancelled(self) -> None:
        self.observers.cancelled(prompt_id="p")
        self.assertEqual(self.moved(), {"prompts_cancelled_total": 1})

    def test_one_whose_time_was_up_was_not_called(self) -> None:
        call = ended(State.ACCEPTED, "its time is up: it expired", called=False)
        self.observers.asked(attrs.evolve(call, state=State.FAILED))
        moved = self.moved()
        self.assertEqual(moved, {"prompts_failed_total": 1})

    def test_submitted_and_polled(self) -> None:
        call = ended(State.SUBMITTED)
        self.observers.asked(call)
        moved = self.moved()
        self.assertEqual(moved['asks_total{outcome="submitted"}'], 1)
        self.assertEqual(moved["ask_seconds_count"], 1)
        poll = attrs.evolve(call, ask=attrs.evolve(call.ask, submitted="resp_1"), state=None)
        for outcome, told in (
            ("underway", {}),
            ("missing", {"error": Gone("x")}),
            ("lost", {"error": Lost("x"), "state": State.ACCEPTED}),
            ("again", {"error": Transient("x")}),
            ("hold", {"error": PeerFailure("x")}),
            ("answered", {"answer": Answer("x"), "state": State.ANSWERED}),
        ):
            self.observers.asked(attrs.evolve(poll, **told))
            billed = {'answers_total{tier="unknown"}': 1} if "answer" in told else {}
            self.assertEqual(self.moved(), {f'polls_total{{outcome="{outcome}"}}': 1, **billed})

    def test_by_whom_it_was_asked(self) -> None:
        call = ended(State.ANSWERED, answer=Answer("x"))
        self.observers.asked(attrs.evolve(call, provider="second", is_fallback=True))
        name = 'peer_asks_total{outcome="answered",peer="model.second"}'
        self.assertEqual(self.scrape()[name], 1)

    def test_any_tier(self) -> None:
        for word, tier in (("scale", "scale"), ("Scale", "other"), ("cheap", "other")):
            self.observers.asked(ended(State.ANSWERED, answer=Answer("x", service_tier=word)))
            self.assertEqual(self.moved()[f'answers_total{{tier="{tier}"}}'], 1)

    def test_the_tokens_of_an_answer_that_was_fetched(self) -> None:
        call = ended(State.ANSWERED, answer=Answer("x", usage={"prompt_tokens": 7}))
        self.observers.asked(attrs.evolve(call, ask=attrs.evolve(call.ask, submitted="resp_1")))
        self.assertEqual(self.moved()['tokens_total{direction="input"}'], 7)

    def test_while_draining(self) -> None:
        self.ask()
        Deferred.fromCoroutine(self.pipeline.drain())
        self.ask()
        self.assertEqual(self.moved()['prompts_refused_total{reason="draining"}'], 1)


class NamedTargetsTests(MetricsTestCase):
    config = attrs.evolve(
        MetricsTestCase.config,
        targets={"billing": TargetSettings("http://billing")},
        keep_answers=10.0,
    )

    def recover(self, journal: Any, peers: Any = None) -> Any:
        return super().recover(journal, peers or {**PEERS, "billing": "its address"})

    def test_everything_is_there_from_the_start(self) -> None:
        for name in (
            *(
                f'prompts_arrived_total{{arrival="{each.value}",target="{target}"}}'
                for each in Arrival
                for target in ("target", "billing", "none")
            ),
            *(
                f'target_deliveries_total{{outcome="{each.value}",target="{target}"}}'
                for each in DeliveryOutcome
                for target in ("target", "billing")
            ),
            'circuit_open{peer="target.billing"}',
        ):
            self.assertEqual(self.before[name], 0, name)

    def test_by_arrival_and_target(self) -> None:
        self.observers.accepted(
            prompt_id="p", size=1, seconds=0.0, arrival=Arrival.JSON, target="none"
        )
        moved = self.moved()
        self.assertEqual(moved['prompts_arrived_total{arrival="json",target="none"}'], 1)
        self.assertEqual(moved["prompts_accepted_total"], 1)

    def test_by_target(self) -> None:
        call = ended(State.DELIVERED)
        assert isinstance(call, DeliveryEnded)
        delivery = attrs.evolve(call.delivery, destination="billing")
        self.observers.sent(attrs.evolve(call, delivery=delivery))
        moved = self.moved()
        name = 'target_deliveries_total{outcome="delivered",target="billing"}'
        self.assertEqual((moved[name], moved['deliveries_total{outcome="delivered"}']), (1, 1))

    def test_one_that_is_held(self) -> None:
        billing = self.pipeline.receivers["billing"]
        now = self.clock.seconds()
        error = PeerFailure("the target `billing` answered 410: it asks us to stop", status=410)
        billing.failed(billing.start(now), error, now, shared=False)
        self.assertEqual(self.moved()['circuit_open{peer="target.billing"}'], 1)
        told = self.get("/api/status").json
        self.assertEqual(told["calls"]["target.billing"]["circuit"], "open")
        self.assertIn("410", told["checks"]["target.billing"])
        (trouble,) = told["troubles"]
        self.assertIn("The target `billing` answered 410", trouble)
        self.assertIn("1 call is under way", trouble)


class HealthTests(MetricsTestCase):
    def levels(self) -> list[str]:
        told = self.scrape()
        names = ("red", "amber", "green", "unknown")
        return [name for name in names if told[f'health{{level="{name}"}}']]

    def test_the_level_and_no_other(self) -> None:
        self.assertEqual(self.levels(), ["unknown"])
        self.ask()
        self.model.answer()
        self.target.answer()
        self.assertEqual(self.levels(), ["green"])
        self.ask()
        self.model.answer(PeerFailure("the model answered 401: check `token`", status=401))
        self.assertEqual(self.levels(), ["red"])


class LagTests(MetricsTestCase):
    def test_shown(self) -> None:
        self.clock.advance(EVERY)
        self.clock.advance(EVERY + 0.3)
        now = self.scrape()
        self.assertEqual(now["reactor_lag_seconds_count"], 2)
        self.assertAlmostEqual(now["reactor_lag_last_seconds"], 0.3)

    def test_a_stopped_one_looks_no_more(self) -> None:
        self.shut_down()
        self.clock.advance(5 * EVERY)
        self.assertEqual(self.scrape()["reactor_lag_seconds_count"], 0)


class LagMeterTests(SynchronousTestCase):
    def test_how_late(self) -> None:
        clock: Any = Clock()
        late: list[float] = []
        meter = LagMeter(clock, late.append)
        meter.stop()  # before the start: nothing to stop
        meter.start()
        clock.pump([EVERY, EVERY + 0.25, EVERY])
        self.assertEqual(late, [0.0, 0.25, 0.0])
        meter.stop()
        self.assertEqual(clock.getDelayedCalls(), [])
