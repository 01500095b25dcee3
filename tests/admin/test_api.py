"""The admin site's JSON."""

import os
import socket
from typing import Any
from zoneinfo import ZoneInfo

from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.errors import PeerFailure, Permanent, Transient
from chatgpt_source.pipeline import Pipeline
from chatgpt_source.pipeline.breaker import Breaker
from chatgpt_source.pipeline.route import Route, Stop
from chatgpt_source.prompt import State, Tier
from chatgpt_source.quota import clock_time
from tests.admin.common import AdminTestCase
from tests.journal.common import DAY, NOON
from tests.telemetry.test_observer import Recorder


class StatusTests(AdminTestCase):
    def status(self) -> Any:
        answer = self.get("/api/status")
        self.assertEqual(answer.status, 200)
        return answer.json

    def test_events_wait_for_a_target_that_is_gone(self) -> None:
        self.pipeline.missing["gone"] = "events wait for the target `gone`"
        (told,) = self.status()["troubles"]
        self.assertIn("Events wait for the target `gone`", told)

    def test_all_is_well(self) -> None:
        told = self.status()
        self.assertEqual(
            set(told),
            {
                "version",
                "now",
                "status",
                "checks",
                "health",
                "quota",
                "counted",
                "prompts",
                "backlog",
                "calls",
                "paused",
                "troubles",
                "tiers",
                "daemon",
            },
        )
        self.assertEqual((told["status"], told["troubles"]), ("ready", []))
        health = {"level": "unknown", "headline": "Nothing tried yet", "troubles": []}
        self.assertEqual(told["health"], health)
        self.assertEqual(told["now"], "2027-01-15T12:00:00Z")
        self.assertEqual(told["checks"], self.ready())
        well = {"under_way": 0, "limit": 2, "circuit": "closed", "trouble": None, "since": None}
        self.assertEqual(told["calls"], dict.fromkeys(("model", "target", "dead_letter"), well))

    def test_who_answers(self) -> None:
        daemon = {
            "name": socket.gethostname(),
            "pid": os.getpid(),
            "owner": self.journal.owner,
            "daemons": 1,
            "shared": False,
        }
        self.assertEqual(self.status()["daemon"], daemon)

    def ready(self) -> Any:
        self.site = self.door
        self.connect()
        return self.request("GET", "/readyz").json["checks"]

    def test_quota_and_backlog(self) -> None:
        self.ask()
        self.clock.advance(5)
        told = self.status()
        self.assertEqual(
            told["quota"],
            {
                "limit": 3,
                "used": 1,
                "left": 2,
                "resets": "2027-01-16T00:00:00Z",
                "seconds_left": 12 * 3600 - 5,
                "timezone": "UTC",
            },
        )
        self.assertEqual(told["backlog"], {"count": 1, "oldest_seconds": 5})
        self.assertEqual(
            told["prompts"],
            {state.value: int(state is State.ACCEPTED) for state in State},
        )
        self.assertEqual(told["calls"]["model"]["under_way"], 1)

    def test_since_when_though_nobody_has_looked(self) -> None:
        for _ in range(3):
            self.ask()
        self.pass_time(60)
        (trouble,) = self.status()["health"]["troubles"]
        self.assertEqual(trouble["what"], "All 3 prompts of the day are used up")
        self.assertLessEqual(trouble["since"], "2027-01-15T12:00:05Z")

    def test_all_of_a_trouble(self) -> None:
        self.ask()
        self.model.answer(PeerFailure("the model answered 401: check `token`", status=401))
        self.assertEqual(
            self.status()["health"],
            {
                "level": "red",
                "headline": "The model answered 401",
                "troubles": [
                    {
                        "check": "openai",
                        "level": "red",
                        "what": "The model answered 401",
                        "since": "2027-01-15T12:00:00Z",
                        "meaning": "1 prompt waits, and none fails meanwhile",
                        "next_try": "2027-01-15T12:00:30Z",
                        "advice": "Check `token`; then try it now",
                        "peer": "model",
                    }
                ],
            },
        )

    def test_failures(self) -> None:
        self.ask()
        self.model.answer()
        self.target.answer(Permanent("the target answered 400: it refuses this event", status=400))
        told = self.status()
        self.assertEqual(told["status"], "degraded")
        (trouble,) = told["troubles"]
        self.assertEqual(
            trouble,
            "The last prompt failed: the target answered 400 (since 12:00): see why, mend that,"
            " and redrive them. 1 failed prompt in the journal, until redriven or purged",
        )

    def test_a_peer_that_holds_us_up(self) -> None:
        self.ask()
        self.clock.advance(240)
        self.model.answer(PeerFailure("the model answered 401: check `token`", status=401))
        self.clock.advance(20)
        told = self.status()
        self.assertEqual(
            " ".join(told["troubles"]),
            "The model answered 401 (since 12:04): check `token`; then try it now."
            " 1 prompt waits, and none fails meanwhile. The next try is at 12:04",
        )
        model = told["calls"]["model"]
        self.assertEqual((model["circuit"], model["since"]), ("open", "2027-01-15T12:04:00Z"))
        self.assertEqual(model["trouble"], "the model answered 401: check `token`")
        self.clock.advance(10)  # its probe is under way
        self.assertIn("The next try is due", self.status()["troubles"][0])

    def test_a_fallback_in_its_place(self) -> None:
        first, second = self.pipeline.model, Breaker("the fallback", 1, lambda: 1.0)
        stops = Stop(None, self.model, first), Stop("second", self.model, second, "model.second")
        self.pipeline.route = Route(stops)
        now = self.clock.seconds()
        error = PeerFailure("the model answered 401: check `token`", status=401)
        first.failed(first.start(now), error, now, shared=True)
        told = self.status()
        (trouble,) = told["troubles"]
        self.assertIn("The model answered 401 (since 12:00): check `token`", trouble)
        self.assertIn("The fallback `second` is asked in its place", trouble)
        checks = told["checks"]
        self.assertEqual(checks["openai"][1:], trouble[1:])
        self.assertEqual(told["health"]["level"], "amber")
        self.assertEqual((told["status"], checks["openai.second"]), ("degraded", "unknown"))
        self.assertIn("model.second", told["calls"])
        second.failed(second.start(now), error, now, shared=True)
        first_told, second_told = self.status()["troubles"]
        self.assertNotIn("in its place", first_told)
        self.assertTrue(second_told.startswith("The fallback `second`: the model"), second_told)
        self.assertEqual(self.status()["health"]["level"], "red")

    def test_polls_that_fail(self) -> None:
        polls, now = self.pipeline.polls, self.clock.seconds()
        polls.failed(polls.start(now), Transient("no look: the model sleeps"), now, shared=False)
        (told,) = self.status()["troubles"]
        self.assertIn("No look: the model sleeps (since 12:00)", told)

    def test_a_peer_that_throttles(self) -> None:
        self.ask()
        self.model.answer(Transient("the model answered 429", status=429))
        told = self.status()
        self.assertEqual(told["calls"]["model"]["circuit"], "throttled")
        (trouble,) = told["troubles"]
        self.assertIn("The model answered 429 (since 12:00): ", trouble)
        self.assertEqual(told["health"]["level"], "amber")

    def test_all_that_is_not_well_has_its_sentence(self) -> None:
        for _ in range(3):
            self.ask()
        Deferred.fromCoroutine(self.pipeline.drain())
        told = self.status()
        first, second = told["troubles"]
        self.assertIn("All 3 prompts of the day are used up", first)
        self.assertIn("Stopping: nothing more is accepted", second)
        self.opened.connection.close()
        self.pass_time(7)
        self.ask()
        told = self.status()
        self.assertRegex(told["troubles"][0], "^The journal can't be read: ")
        self.assertIn("all 3 prompts", told["checks"]["quota"])
        self.assertEqual(told["checks"]["failures"], "unknown")
        self.assertEqual(
            (told["quota"]["used"], told["prompts"]["accepted"], told["backlog"]["count"]),
            (3, 3, 3),  # as last known
        )
        self.assertEqual(told["counted"], "2027-01-15T12:00:00Z")
        self.assertGreater(told["now"], "2027-01-15T12:00:06")
        self.assertEqual(told["quota"]["limit"], 3)


class ClockTimeTests(SynchronousTestCase):
    def test_the_date_only_of_another_day(self) -> None:
        utc, auckland = ZoneInfo("UTC"), ZoneInfo("Pacific/Auckland")
        self.assertEqual(clock_time(NOON, NOON + 60, utc), "12:00")
        self.assertEqual(clock_time(NOON, NOON + 60, auckland), "01:00")
        self.assertEqual(clock_time(NOON, NOON + 86400, utc), "2027-01-15 12:00")


class HistoryTests(AdminTestCase):
    def test_what_happened(self) -> None:
        self.ask()
        self.model.answer()
        self.target.answer()
        self.send("/api/prompts", b"\xff")
        told = self.get("/api/history").json
        self.assertEqual((told["range"], told["timezone"], told["priced"]), ("1h", "UTC", False))
        *before, now = told["columns"]
        self.assertEqual((len(before), before[0]["accepted"]), (59, None))
        counts = (now["accepted"], now["delivered"], now["failed"], now["refused"])
        self.assertEqual(counts, (1, 1, 0, {"invalid": 1}))
        self.assertIsNotNone(now["latency"])
        for name, columns in (("24h", 96), ("7d", 84), ("30d", 120)):
            columns_ = self.get(f"/api/history?range={name}").json["columns"]
            self.assertEqual((len(columns_), columns_[-1]["accepted"]), (columns, 1))

    def test_no_such_range(self) -> None:
        told = self.assert_problem(self.get("/api/history?range=1y"), 400)
        self.assertEqual(told, "`range` must be one of 1h, 24h, 7d, 30d")

    def test_of_a_journal_that_can_not_be_read(self) -> None:
        self.ask()
        self.opened.connection.close()
        self.assertEqual(self.get("/api/history").json["columns"][-1]["accepted"], 1)


class PromptsTests(AdminTestCase):
    def ids(self, query: str = "") -> tuple[list[str], int | None]:
        answer = self.get(f"/api/prompts{query}")
        self.assertEqual(answer.status, 200, answer.body)
        return [each["id"] for each in answer.json["prompts"]], answer.json["next"]

    def asked(self) -> str:
        return str(self.ask().json["id"])

    def test_none(self) -> None:
        self.assertEqual(self.ids(), ([], None))

    def test_the_latest_first_in_pages(self) -> None:
        first, second, third = self.asked(), self.asked(), self.asked()
        self.assertEqual(self.ids(), ([third, second, first], None))
        page, more = self.ids("?limit=2")
        self.assertEqual(page, [third, second])
        self.assertEqual(self.ids(f"?limit=2&before={more}"), ([first], None))

    def test_by_state(self) -> None:
        first, second = self.asked(), self.asked()
        self.model.answer(Permanent("the model answered 400", status=400))
        self.model.answer()
        for state, expected in (
            ("failed", [first]),
            ("answered", [second]),
            ("accepted", []),
            ("delivered", []),
        ):
            self.assertEqual(self.ids(f"?state={state}"), (expected, None), state)

    def test_what_is_told(self) -> None:
        prompt_id = self.asked()
        (listed,) = self.get("/api/prompts").json["prompts"]
        told = self.get(f"/api/prompts/{prompt_id}").json
        self.assertEqual(listed, {name: told[name] for name in listed})
        self.site = self.door
        self.connect()
        self.assertEqual(listed, self.request("GET", f"/prompts/{prompt_id}").json)

    def test_what_happened_to_it(self) -> None:
        prompt_id = self.asked()
        self.clock.advance(1.5)
        self.model.answer(Transient("the model answered 500", status=500))
        self.clock.pump([0.1] * 40)
        self.model.answer()
        told = self.get(f"/api/prompts/{prompt_id}").json
        first, second = told["attempts"]
        expected = {
            "kind": "ask",
            "number": 1,
            "peer": "model",
            "started": "2027-01-15T12:00:00Z",
            "seconds": 1.5,
            "outcome": "again",
            "status": 500,
            "error": "the model answered 500",
            "request_id": None,
        }
        self.assertEqual(first, expected)
        self.assertEqual((second["outcome"], second["request_id"]), ("answered", "req-1"))
        self.assertEqual((told["answered_by"], told["tier"]), ("model", "standard"))
        self.assertEqual((told["source"], told["unlisted"]), ("vanus-chatGPT-source", 0))
        self.assertEqual((told["dead_letter"], told["sent_status"]), (None, None))

    def test_mistakes(self) -> None:
        for query in (
            "state=lost",
            "state=",
            "limit=0",
            "limit=501",
            "limit=x",
            "before=-1",
            "before=0",
            f"before={2**63}",
            "before=%C2%B2",
        ):
            detail = self.assert_problem(self.get(f"/api/prompts?{query}"), 400)
            self.assertIn(f"`{query.partition('=')[0]}` must be", detail)

    def test_unknown(self) -> None:
        self.assert_problem(self.get("/api/prompts/none"), 404)
        self.assert_problem(self.get("/api/prompts/none/more/of/it"), 404)
        self.assert_problem(self.get("/api/"), 404)
        self.assert_problem(self.get("/elsewhere"), 404)

    def test_other_methods(self) -> None:
        for path, allowed in (
            ("/api/status", "GET, HEAD"),
            ("/metrics", "GET, HEAD"),
        ):
            answer = self.send(path)
            self.assert_problem(answer, 405)
            self.assertEqual(answer.headers["allow"], allowed)
        answer = self.get("/api/prompts/x/redrive")
        self.assert_problem(answer, 405)
        self.assertEqual(answer.headers["allow"], "POST")

    def test_a_journal_that_can_not_be_read(self) -> None:
        self.opened.connection.close()
        for path in ("/api/prompts", "/api/prompts/x"):
            answer = self.get(path)
            self.assert_problem(answer, 503)
            self.assertIn("retry-after", answer.headers)


class RedriveTests(AdminTestCase):
    def failed(self) -> str:
        prompt_id = str(self.ask().json["id"])
        self.model.answer(Permanent("the model answered 400", status=400))
        return prompt_id

    def redrive(self, prompt_id: str) -> Any:
        return self.send(f"/api/prompts/{prompt_id}/redrive")

    def test_asks_at_once(self) -> None:
        recorder = Recorder()
        self.observers.add(recorder)
        prompt_id = self.failed()
        self.assertEqual(self.model.under_way, [])
        answer = self.redrive(prompt_id)
        self.assertEqual(
            (answer.status, answer.json), (200, {"id": prompt_id, "state": "accepted"})
        )
        self.assertEqual([each.id for each in self.model.under_way], [prompt_id])
        self.assertEqual(recorder.of("redriven"), [{"prompt_id": prompt_id, "state": "accepted"}])

    def test_delivers_at_once(self) -> None:
        prompt_id = str(self.ask().json["id"])
        self.model.answer()
        self.target.answer(Permanent("the target answered 400", status=400))
        self.assertEqual(self.redrive(prompt_id).json["state"], "answered")
        self.assertEqual([each.id for each in self.target.under_way], [prompt_id])

    def test_of_what_has_not_failed(self) -> None:
        prompt_id = str(self.ask().json["id"])
        self.assert_problem(self.redrive(prompt_id), 409)
        self.assert_problem(self.redrive("none"), 404)

    def test_without_a_unit(self) -> None:
        prompt_id = self.failed()
        for _ in range(3):
            self.ask()
        answer = self.redrive(prompt_id)
        self.assertIn("midnight", self.assert_problem(answer, 429))
        self.assertEqual(answer.headers["retry-after"], str(12 * 3600))
        self.assertEqual(self.record(prompt_id).state, "failed")

    def test_a_journal_that_can_not_be_written(self) -> None:
        prompt_id = self.failed()
        self.opened.connection.close()
        self.assert_problem(self.redrive(prompt_id), 503)


class TryNowTests(AdminTestCase):
    def test_one_that_is_held_is_called_at_once(self) -> None:
        self.ask()
        self.model.answer(PeerFailure("the model answered 401: check `token`", status=401))
        with capturedLogs() as logs:
            answer = self.send("/api/peers/model/try")
        told = {"peer": "model", "detail": "The model is called now."}
        self.assertEqual((answer.status, answer.json), (202, told))
        self.assertEqual(len(self.model.under_way), 1)
        lines = [formatEvent(each) for each in logs]
        self.assertIn("operator without credentials tries model now", lines)

    def test_one_that_is_not_held(self) -> None:
        told = self.assert_problem(self.send("/api/peers/target/try"), 409)
        self.assertEqual(told, "the target is not held: its calls are made as they are due")

    def test_a_fallback_that_is_named_by_its_host_and_port(self) -> None:
        async def try_now(_: Pipeline, label: str) -> str:
            return f"the fallback `{label.removeprefix('model.')}`"

        self.patch(Pipeline, "queues", {"model.host:8443": Tier.STANDARD})
        self.patch(Pipeline, "try_now", try_now)
        answer = self.send("/api/peers/model.host%3A8443/try")  # as the page's script sends it
        told = "The fallback `host:8443` is called now."
        self.assertEqual(answer.json, {"peer": "model.host:8443", "detail": told})

    def test_one_that_is_not_there(self) -> None:
        told = self.assert_problem(self.send("/api/peers/sink/try"), 404)
        self.assertIn("it must be one of model, target, dead_letter", told)

    def test_a_journal_that_can_not_be_written(self) -> None:
        self.ask()
        self.model.answer(PeerFailure("the model answered 401: check `token`", status=401))
        self.opened.connection.close()
        self.assert_problem(self.send("/api/peers/model/try"), 503)


class TryTests(AdminTestCase):
    def test_is_taken_as_the_door_takes_it(self) -> None:
        answer = self.send("/api/prompts", b"what is vanus", vanus_type="t")
        prompt_id = answer.json["id"]
        self.assertEqual((answer.status, answer.json["status"]), (202, "accepted"))
        self.assertEqual(answer.headers["location"], f"/api/prompts/{prompt_id}")
        self.assertEqual(answer.headers["ratelimit"], '"daily";r=2;t=43200')
        (asked,) = self.model.under_way
        self.assertEqual((asked.id, asked.text, asked.type), (prompt_id, "what is vanus", "t"))
        self.assertEqual(self.used(DAY.date), 1)

    def test_is_refused_as_the_door_refuses_it(self) -> None:
        recorder = Recorder()
        self.observers.add(recorder)
        self.assert_problem(self.send("/api/prompts", b" "), 400)
        self.assert_problem(self.send("/api/prompts", b"x" * 1001), 413)
        for _ in range(3):
            self.send("/api/prompts", b"x")
        self.assert_problem(self.send("/api/prompts", b"x"), 429)
        self.assertEqual(recorder.refusals(), ["invalid", "too_large", "quota"])

    def test_an_oversized_body_of_anything_else(self) -> None:
        answer = self.send("/api/prompts/x/redrive", b"x" * 1001)
        self.assert_problem(answer, 413)
