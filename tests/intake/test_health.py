"""/healthz and /readyz, through the door."""

from typing import Any

import attrs
from twisted.internet.defer import Deferred

from chatgpt_source.errors import PeerFailure, Transient
from chatgpt_source.journal import Failed
from chatgpt_source.pipeline.breaker import Breaker
from chatgpt_source.prompt import State
from chatgpt_source.telemetry.observer import RefusalReason
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
        expected = {"status": "ready", "health": "unknown", "checks": checks}
        self.assertEqual(self.ready(200), expected)

    def test_what_nobody_can_count(self) -> None:
        self.opened.connection.close()
        checks = self.ready(503)["checks"]
        self.assertIn("the journal can't be read", checks["journal"])
        self.assertEqual((checks["quota"], checks["backlog"]), ("unknown", "unknown"))

    def test_what_was_counted_before(self) -> None:
        self.ready(200)
        self.test_what_nobody_can_count()

    def test_named_targets(self) -> None:
        for name in ("target", "billing", "dead_letter"):
            self.pipeline.receivers[name] = Breaker(name, 1, lambda: 1.0)  # type: ignore[index]
        billing = self.pipeline.receivers["billing"]
        again = Transient("the target `billing` answered 500", status=500)
        billing.failed(billing.start(NOON), again, NOON, shared=False)
        body = self.ready(200)
        self.assertEqual(body["status"], "degraded")
        self.assertEqual(body["checks"]["target"], "unknown")
        told = body["checks"]["target.billing"]
        self.assertIn("the target `billing` answered 500 (since 12:00): ", told)
        self.assertNotIn("dead_letter", body["checks"])

    def test_degraded_by_events_for_a_target_that_is_gone(self) -> None:
        self.pipeline.missing["gone"] = "events wait for the target `gone`"
        body = self.ready(200)
        self.assertEqual(body["status"], "degraded")
        self.assertEqual(body["health"], "red")
        self.assertIn("events wait for the target `gone`", body["checks"]["target.gone"])

    def test_degraded_by_prompts_of_a_fallback_that_is_gone(self) -> None:
        self.pipeline.missing_fallbacks["gone"] = "the fallback `gone` has prompts"
        body = self.ready(200)
        self.assertEqual(body["status"], "degraded")
        self.assertIn("the fallback `gone` has prompts", body["checks"]["openai.gone"])

    def test_what_was_tried(self) -> None:
        for name, breaker in (
            ("openai", self.pipeline.model),
            ("target", self.pipeline.receivers["target"]),
        ):
            breaker.succeeded(breaker.start(NOON), NOON)
            self.assertEqual(self.ready(200)["checks"][name], "ok")
        self.end(State.DELIVERED)
        body = self.ready(200)
        self.assertEqual((set(body["checks"].values()), body["health"]), ({"ok"}, "green"))

    def test_degraded_by_polls(self) -> None:
        polls = self.pipeline.polls
        polls.failed(polls.start(NOON), Transient("not looked up"), NOON, shared=False)
        body = self.ready(200)
        self.assertIn("not looked up", body["checks"]["openai"])
        self.assertEqual(body["health"], "amber")

    def failed(self) -> None:
        """A prompt that has failed; the journal has it too."""
        prompt_id = self.post().json["id"]
        (ask,) = self.successResultOf(self.journal.claim_asks(NOON, 1)).claimed
        reason = "the model answered 400: it refuses this prompt"
        self.successResultOf(self.journal.ask_ended(ask, Failed(reason), NOON))
        self.end(State.FAILED, reason, prompt_id)

    def end(self, state: State, error: str | None = None, name: str = "p") -> None:
        tell(self.intake.health.judge.recent, ended(state, error, name=name))

    def test_red_by_failures_alone(self) -> None:
        for _ in range(3):
            self.failed()
        body = self.ready(200)
        self.assertEqual((body["status"], body["health"]), ("degraded", "red"))
        self.assertEqual(
            body["checks"]["failures"],
            "nothing succeeds: all of the last 3 prompts failed, most often: the model answered 400"
            " (since 12:00): see why, mend that, and redrive them."
            " 3 failed prompts in the journal, until redriven or purged",
        )

    def test_failures_that_are_purged_elsewhere_are_forgotten(self) -> None:
        for _ in range(3):
            self.failed()
        self.assertEqual(self.ready(200)["health"], "red")
        for record in self.successResultOf(self.journal.latest(State.FAILED, None, 2)):
            self.successResultOf(self.journal.purge(record.id))
        self.assertIn("the last prompt failed", self.ready(200)["checks"]["failures"])

    def test_degraded_by_the_quota(self) -> None:
        for _ in range(3):
            self.post()
        body = self.ready(200)
        self.assertEqual(body["status"], "degraded")
        self.assertIn("3 prompts", body["checks"]["quota"])
        self.assertEqual(body["health"], "amber")

    def test_a_warning_degrades_nothing(self) -> None:
        self.observers.refused(reason=RefusalReason.BACKLOG)
        body = self.ready(200)
        self.assertEqual((body["status"], body["health"]), ("ready", "amber"))
        self.assertEqual(body["checks"], {**self.OK, **self.UNTRIED})

    def test_degraded_by_a_peer(self) -> None:
        model, target = self.pipeline.model, self.pipeline.receivers["target"]
        hold = PeerFailure("the model answered 401: check `token`", status=401)
        call = model.start(NOON)
        model.failed(call, hold, NOON, shared=True)
        again = Transient("the target answered 500", status=500)
        target.failed(target.start(NOON), again, NOON, shared=False)
        body = self.ready(200)
        self.assertEqual((body["status"], body["health"]), ("degraded", "red"))
        self.assertIn("check `token`", body["checks"]["openai"])
        self.assertIn("500", body["checks"]["target"])
        model.succeeded(call, NOON)
        target.succeeded(call, NOON)
        self.assertEqual(self.ready(200)["status"], "ready")

    def test_not_ready_while_the_journal_can_not_be_written(self) -> None:
        self.journal._executor._fault = "disk full"
        body = self.ready(503)
        self.assertEqual((body["status"], body["health"]), ("not ready", "red"))
        self.assertIn("disk full", body["checks"]["journal"])
        self.assertEqual(self.request("GET", "/healthz").status, 200)

    def test_not_ready_while_draining(self) -> None:
        Deferred.fromCoroutine(self.pipeline.drain())
        body = self.ready(503)
        self.assertEqual((body["status"], body["health"]), ("not ready", "amber"))


class AgingTests(DoorTestCase):
    config = attrs.evolve(CONFIG, everyday_limit=100)

    def test_a_backlog_that_ages(self) -> None:
        self.post()
        self.clock.advance(299)
        self.connect()
        self.assertEqual(self.request("GET", "/readyz").json["health"], "unknown")
        self.clock.advance(1)
        body = self.request("GET", "/readyz").json
        self.assertEqual((body["status"], body["health"]), ("ready", "amber"))


class FullBacklogHealthTests(DoorTestCase):
    config = attrs.evolve(CONFIG, max_backlog=1)

    def test_degraded_by_the_backlog(self) -> None:
        self.post()
        answer = self.request("GET", "/readyz")
        self.assertEqual((answer.status, answer.json["status"]), (200, "degraded"))
        self.assertIn("max_backlog", answer.json["checks"]["backlog"])
