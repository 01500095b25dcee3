"""Targets by name: each has a worker and a breaker of its own."""

import json
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs

from chatgpt_source.config import TargetSettings
from chatgpt_source.errors import PeerFailure, Permanent, Transient
from chatgpt_source.journal import PeerState, Recovered
from chatgpt_source.prompt import NOWHERE, State
from chatgpt_source.telemetry.observer import AskEnded, Observer
from tests.journal.common import PEERS
from tests.pipeline.test_pipeline import CONFIG, Peer, PipelineTestCase

GONE = PeerFailure("the target `billing` answered 410", status=410)


class TargetsTestCase(PipelineTestCase):
    config = attrs.evolve(
        CONFIG,
        targets={
            "billing": TargetSettings("http://billing/?key=secret"),
            "mail": TargetSettings("http://mail/"),
        },
        dead_letter="http://letters",
    )

    def recover(self, journal: Any, peers: Any = None) -> Any:
        named = {name: each.url for name, each in self.config.targets.items()}
        return super().recover(journal, peers or {**PEERS, **named})

    @property
    def billing(self) -> Peer:
        return self.peers["billing"]

    @property
    def mail(self) -> Peer:
        return self.peers["mail"]

    def answer(self, *targets: str) -> None:  # type: ignore[override]
        for number, target in enumerate(targets):
            name = f"{target}-{number}-{len(self.model.calls)}"
            self.post(name, target=target)
            self.model.answer()


class WayTests(TargetsTestCase):
    def test_each_event_goes_to_its_target(self) -> None:
        self.post("p1", target="billing")
        self.post("p2")
        self.model.answer()
        self.model.answer()
        self.assertEqual(len(self.billing.under_way), 1)
        self.assertEqual(json.loads(self.billing.under_way[0])["id"], "p1")
        self.assertEqual(json.loads(self.target.under_way[0])["id"], "p2")
        self.billing.answer()
        self.target.answer()
        self.assertEqual(self.states("p1", "p2"), ["delivered"] * 2)
        self.assertEqual(self.mail.calls, [])

    def test_a_dead_one_delays_no_other(self) -> None:
        self.answer("billing")
        self.billing.answer(GONE)
        self.assertTrue(self.pipeline.receivers["billing"].held)
        self.answer(*["billing"] * 20, *["mail"] * 5, *["target"] * 5)
        self.assertEqual(len(self.billing.calls), 1)
        for peer in (self.mail, self.target):
            for _ in range(5):
                peer.answer()
        self.assertEqual((len(self.mail.calls), len(self.target.calls)), (5, 5))

    def test_a_slow_one_takes_nobody_else_s_slots(self) -> None:
        self.answer(*["billing"] * 5, *["mail"] * 2, *["target"] * 2)
        counts = [len(each.under_way) for each in (self.billing, self.mail, self.target)]
        self.assertEqual(counts, [2, 2, 2])  # `concurrency`, each

    def test_a_probe_finds_that_it_is_back(self) -> None:
        self.answer("billing", "billing")
        self.billing.answer(GONE)
        self.billing.answer()
        self.assertFalse(self.pipeline.receivers["billing"].held)

    def test_its_dead_letter_names_it(self) -> None:
        self.post("p1", target="billing")
        self.model.answer()
        self.billing.answer(Permanent("the target `billing` answered 400", status=400))
        letter = json.loads(self.dead_letters.under_way[0])
        self.assertEqual(letter["knativeerrordest"], "http://billing/")
        self.assertEqual(self.states("p1"), ["failed"])

    def test_a_drain_makes_an_attempt_at_each(self) -> None:
        self.post("p1", target="billing")
        self.post("p2", target="mail")
        drained = Deferred.fromCoroutine(self.pipeline.drain())
        self.model.answer()
        self.model.answer()
        self.billing.answer(Transient("the target `billing` answered 500", status=500))
        self.assertNoResult(drained)
        self.mail.answer()
        self.successResultOf(drained)
        self.assertEqual(self.states("p1", "p2"), ["answered", "delivered"])

    def test_a_redriven_one_is_delivered_at_once(self) -> None:
        self.post("p1", target="billing")
        self.model.answer()
        self.billing.answer(Permanent("the target `billing` answered 400", status=400))
        self.successResultOf(self.journal.redrive("p1"))
        self.pipeline.redriven()
        self.assertEqual(len(self.billing.under_way), 1)


class StartTests(TargetsTestCase):
    def start(self, recovered: Recovered) -> Any:
        with capturedLogs() as logged:
            self.pipeline.end()
            self.begin(recovered)
        return [each["log_format"].format(**each) for each in logged]

    def test_each_gets_its_state_back(self) -> None:
        held = PeerState(held="the target `mail` answered 410", misses=1, probe_at=2e9)
        self.start(Recovered({"mail": held}, ["billing"]))
        receivers = self.pipeline.receivers
        self.assertTrue(receivers["mail"].held)
        self.assertFalse(receivers["billing"].held or receivers["target"].held)
        now = self.clock.seconds()
        self.assertEqual([receivers[name].room(now) for name in ("billing", "target")], [1, 2])

    def test_events_for_a_target_that_is_gone_are_told(self) -> None:
        lines = self.start(Recovered({}, (), ("billing", "gone", "target", "dead_letter")))
        (line,) = lines
        self.assertIn("`gone`", line)
        self.assertIn("`targets`", line)
        self.assertEqual(self.pipeline.missing, {"gone": line})

    def test_an_answer_for_a_target_that_is_gone_waits(self) -> None:
        with capturedLogs() as logged:
            self.post("p1", target="gone")
            self.model.answer()
        self.assertEqual(self.states("p1"), ["answered"])
        (line,) = [each["log_format"].format(**each) for each in logged]
        self.assertIn("`gone`", line)
        self.assertEqual(self.pipeline.missing, {"gone": line})

    def test_labels(self) -> None:
        self.assertEqual(
            list(self.pipeline.breakers),
            ["model", "target", "target.billing", "target.mail", "dead_letter"],
        )


class KeptTests(PipelineTestCase):
    config = attrs.evolve(CONFIG, keep_answers=100.0)

    def kept(self, name: str = "p1") -> Any:
        return self.successResultOf(self.journal.kept(name)).event

    def setUp(self) -> None:
        self.told: list[AskEnded] = []
        self.observer = Observer()
        self.observer.asked = self.told.append  # type: ignore[method-assign]
        super().setUp()

    def test_one_without_a_target_is_finished_by_its_answer(self) -> None:
        self.post("p1", target=NOWHERE)
        self.model.answer()
        self.assertEqual(self.states("p1"), ["delivered"])
        self.assertEqual(self.target.calls, [])
        self.assertIn(b"the answer", self.kept())
        self.assertEqual([each.state for each in self.told], [State.DELIVERED])

    def test_one_that_was_delivered_keeps_its_event(self) -> None:
        self.post("p1")
        self.model.answer()
        self.target.answer()
        self.assertEqual(self.states("p1"), ["delivered"])
        self.assertIn(b"the answer", self.kept())
