"""/healthz and /readyz, through the door."""

from typing import Any

import attrs
from twisted.internet.defer import Deferred

from chatgpt_source.errors import PeerFailure, Transient
from chatgpt_source.pipeline.breaker import Breaker
from chatgpt_source.prompt import State
from tests.door import CONFIG, DoorTestCase
from tests.journal.common import NOON
from tests.telemetry.outcomes import ended, tell


class HealthTests(DoorTestCase):
    OK = dict.fromkeys(("journal", "quota", "backlog"), "ok")
    UNTRIED = dict.fromkeys(("openai", "target", "failures"), "unknown")

    def ready(self, status: int) -> Any:
        answer = self.request("GET", "/readyz")
        self.assertEqual(
            (answer.status, answer.headers["content-type"]), (status, "application/json")
        )
        return answer.json

    def test_alive(self) -> None:
        self.assertEqual(self.request("GET", "/healthz").status, 200)

    def test_ready(self) -> None:
        checks = {**self.OK, **self.UNTRIED}
        self.assertEqual(self.ready(200), {"status": "ready", "checks": checks})

    def test_named_targets(self) -> None:
        for name in ("target", "billing", "dead_letter"):
            self.pipeline.receivers[name] = Breaker(name, 1, lambda: 1.0)  # type: ignore[index]
        billing = self.pipeline.receivers["billing"]
        again = Transient("the target `billing` answered 500", status=500)
        billing.failed(billing.start(NOON), again, NOON, shared=False)
        body = self.ready(200)
        self.assertEqual(body["status"], "degraded")
        self.assertEqual(body["checks"]["target"], "unknown")
        self.assertEqual(body["checks"]["target.billing"], "the target `billing` answered 500")
        self.assertNotIn("dead_letter", body["checks"])

    def test_degraded_by_events_for_a_target_that_is_gone(self) -> None:
        self.pipeline.missing["gone"] = "events wait for the target `gone`"
        body = self.ready(200)
        self.assertEqual(body["status"], "degraded")
        self.assertEqual(body["checks"]["target.gone"], "events wait for the target `gone`")

    def test_degraded_by_prompts_of_a_fallback_that_is_gone(self) -> None:
        self.pipeline.missing_fallbacks["gone"] = "the fallback `gone` has prompts"
        body = self.ready(200)
        self.assertEqual(body["status"], "degraded")
        self.assertEqual(body["checks"]["openai.gone"], "the fallback `gone` has prompts")

    def test_what_was_tried(self) -> None:
        for name, breaker in (
            ("openai", self.pipeline.model),
            ("target", self.pipeline.receivers["target"]),
        ):
            breaker.succeeded(breaker.start(NOON), NOON)
            self.assertEqual(self.ready(200)["checks"][name], "ok")
        self.end(State.DELIVERED)
        self.assertEqual(set(self.ready(200)["checks"].values()), {"ok"})

    def test_degraded_by_polls(self) -> None:
        polls = self.pipeline.polls
        polls.failed(polls.start(NOON), Transient("not looked up"), NOON, shared=False)
        self.assertEqual(self.ready(200)["checks"]["openai"], "not looked up")

    def end(self, state: State, error: str | None = None) -> None:
        tell(self.intake.health.recent, ended(state, error))

    def test_degraded_by_failures(self) -> None:
        for _ in range(3):
            self.end(State.FAILED, "the target answered 400: it refuses this event")
        body = self.ready(200)
        self.assertEqual(body["status"], "degraded")
        self.assertEqual(
            body["checks"]["failures"],
            "3 of the last 3 prompts failed since 12:00 (most often: the target answered 400):"
            " see `chatgpt-source-journal list`",
        )

    def test_degraded_by_the_quota(self) -> None:
        for _ in range(3):
            self.post()
        body = self.ready(200)
        self.assertEqual(body["status"], "degraded")
        self.assertIn("3 prompts", body["checks"]["quota"])

    def test_degraded_by_a_peer(self) -> None:
        model, target = self.pipeline.model, self.pipeline.receivers["target"]
        hold = PeerFailure("the model answered 401: check `token`", status=401)
        call = model.start(NOON)
        model.failed(call, hold, NOON, shared=True)
        again = Transient("the target answered 500", status=500)
        target.failed(target.start(NOON), again, NOON, shared=False)
        body = self.ready(200)
        self.assertEqual(body["status"], "degraded")
        self.assertIn("check `token`", body["checks"]["openai"])
        self.assertIn("500", body["checks"]["target"])
        model.succeeded(call, NOON)
        target.succeeded(call, NOON)
        self.assertEqual(self.ready(200)["status"], "ready")

    def test_not_ready_while_the_journal_can_not_be_written(self) -> None:
        self.journal._fault = "disk full"
        body = self.ready(503)
        self.assertEqual(body["status"], "not ready")
        self.assertIn("disk full", body["checks"]["journal"])
        self.assertEqual(self.request("GET", "/healthz").status, 200)

    def test_not_ready_while_draining(self) -> None:
        Deferred.fromCoroutine(self.pipeline.drain())
        self.assertEqual(self.ready(503)["status"], "not ready")


class FullBacklogHealthTests(DoorTestCase):
    config = attrs.evolve(CONFIG, max_backlog=1)

    def test_degraded_by_the_backlog(self) -> None:
        self.post()
        answer = self.request("GET", "/readyz")
        self.assertEqual((answer.status, answer.json["status"]), (200, "degraded"))
        self.assertIn("max_backlog", answer.json["checks"]["backlog"])
