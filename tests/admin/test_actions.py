"""What operators do with prompts, one or many, and what the log says of it."""

from base64 import b64encode
from typing import Any, ClassVar, cast
from unittest.mock import Mock

import attrs
from twisted.internet.defer import Deferred, fail
from twisted.logger import LogLevel, capturedLogs, formatEvent

from chatgpt_source.admin import actions, search
from chatgpt_source.admin.actions import Actions, Busy
from chatgpt_source.config import Credentials
from chatgpt_source.config.secret import Secret
from chatgpt_source.errors import JournalUnavailable, PeerFailure, Permanent
from chatgpt_source.journal.failure_groups import FailureGroups
from chatgpt_source.prompt import State
from tests.admin.common import AdminTestCase
from tests.journal.common import prompt
from tests.telemetry.test_observer import Recorder

NO = Permanent("no", status=400)
WHO = "alice"


class ActionsTestCase(AdminTestCase):
    config = attrs.evolve(AdminTestCase.config, everyday_limit=20)

    def failed(self, *, answered: bool = False, why: str = "no") -> str:
        no = Permanent(why, status=400)
        prompt_id = str(self.ask().json["id"])
        self.model.answer(*[] if answered else [no])
        if answered:
            self.target.answer(no)
        return prompt_id

    def audited(self, *sending: Any, **headers: str) -> tuple[Any, list[str]]:
        """The answer to a request, and what the log says that operators did."""
        with capturedLogs() as logged:
            answer = self.send(*sending, **headers)
        lines = [formatEvent(each) for each in logged]
        told = [line for line in lines if line and line.startswith("operator ")]
        levels = {each["log_level"] for each in logged if formatEvent(each) in told}
        self.assertLessEqual(levels, {LogLevel.info})
        return answer, told


class RedriveAllTests(ActionsTestCase):
    config = attrs.evolve(AdminTestCase.config, everyday_limit=7)

    def states(self) -> list[State]:
        return [r.state for r in self.successResultOf(self.journal.latest(None, None, 99))]

    def test_all_of_them(self) -> None:
        self.patch(actions, "STEP", 2)
        for _ in range(3):
            self.failed()
        self.failed(answered=True)
        recorder = Recorder()
        self.observers.add(recorder)
        answer = self.send("/api/redrive")
        self.assertEqual(answer.status, 200)
        self.assertEqual(answer.json, {"redriven": 4, "refused": 0, "detail": "Taken up again: 4."})
        self.assertNotIn(State.FAILED, self.states())
        self.assertEqual(len(recorder.of("redriven")), 4)
        self.assertEqual(len(self.model.under_way), 2)  # as many as may be at once
        self.assertEqual(len(self.target.under_way), 1)

    def test_none(self) -> None:
        self.assertEqual(self.send("/api/redrive").json["redriven"], 0)

    def test_as_far_as_the_day_goes(self) -> None:
        self.failed(answered=True)
        for _ in range(3):
            self.failed()
        for _ in range(5):
            self.ask()
        told = self.send("/api/redrive").json
        self.assertEqual((told["redriven"], told["refused"]), (2, 2))
        self.assertIn("the day has none left: 2.", told["detail"])
        self.assertEqual(self.used(), 7)

    def test_not_twice_at_once(self) -> None:
        waiting: Deferred[Any] = Deferred()
        journal = cast(Any, self.journal)
        self.patch(journal, "latest", lambda *_: waiting)
        groups = FailureGroups(self.intake.clock, journal)
        many = Actions(self.intake, groups, self.observers)
        first = Deferred.fromCoroutine(many.redrive_all(None, WHO))
        for again in (many.redrive_all(None, WHO), many.purge_all(None, WHO)):
            self.failureResultOf(Deferred.fromCoroutine(again), Busy)
        waiting.callback([])
        self.assertEqual(self.successResultOf(first), (0, 0))
        self.assertEqual(self.successResultOf(Deferred.fromCoroutine(many.purge_all(None, WHO))), 0)

    def test_another_site_can_not(self) -> None:
        self.assert_problem(self.send("/api/redrive", X_Requested_With="x"), 403)
        self.assert_problem(self.get("/api/redrive"), 405)

    def test_a_journal_that_can_not_be_used(self) -> None:
        self.failed()
        self.opened.connection.close()
        self.assert_problem(self.send("/api/redrive"), 503)

    def test_what_was_done_is_told_though_the_journal_breaks_midway(self) -> None:
        self.patch(actions, "STEP", 2)
        failed = [self.failed() for _ in range(5)]
        journal = cast(Any, self.journal)
        for path, method, did in (
            ("/api/redrive", "redrive", "redrove 3 failed prompts"),
            ("/api/purge", "purge", "purged 1 failed prompt"),
        ):
            whole = getattr(journal, method)

            def broken(prompt_id: str, whole: Any = whole) -> Any:
                if prompt_id in failed[:2]:
                    return fail(JournalUnavailable("it is full", retry_after=5))
                return whole(prompt_id)

            self.patch(journal, method, broken)
            answer, told = self.audited(path)
            self.assert_problem(answer, 503)
            self.assertEqual(told, [f"operator without credentials {did}"])
            del failed[1]


class OfAReasonTests(ActionsTestCase):
    """Failures are told, redriven and purged by their reasons."""

    def setUp(self) -> None:
        super().setUp()
        self.refused = [self.failed(why=f"the model refused it: code_{n}") for n in range(3)]
        self.others = [self.failed(answered=True, why="the target answered 400")]

    def failures(self) -> dict[str, int]:
        groups = self.get("/api/failures").json["groups"]
        return {each["reason"]: each["count"] for each in groups}

    def test_how_many_and_since_when(self) -> None:
        self.clock.advance(5)
        self.failed(why="the model refused it")
        groups = self.get("/api/failures").json["groups"]
        first, last = "2027-01-15T12:00:00Z", "2027-01-15T12:00:05Z"
        self.assertEqual(
            groups,
            [
                {"reason": "the model refused it", "count": 4, "first": first, "last": last},
                {"reason": "the target answered 400", "count": 1, "first": first, "last": first},
            ],
        )

    def test_its_prompts(self) -> None:
        told = self.get("/api/prompts?reason=the%20model%20refused%20it&limit=2").json
        self.assertEqual([each["id"] for each in told["prompts"]], self.refused[:0:-1])
        more = f"/api/prompts?reason=the%20model%20refused%20it&before={told['next']}&state=failed"
        told = self.get(more).json
        self.assertEqual([each["id"] for each in told["prompts"]], self.refused[:1])
        self.assertIsNone(told["next"])
        self.assertEqual(self.get("/api/prompts?reason=the%20model").json["prompts"], [])
        detail = self.assert_problem(self.get("/api/prompts?reason=x&state=accepted"), 400)
        self.assertIn("only failed prompts have a `reason`", detail)

    def test_redriven(self) -> None:
        self.failures()
        answer, told = self.audited("/api/redrive?reason=the%20model%20refused%20it")
        self.assertEqual((answer.status, answer.json["redriven"]), (200, 3))
        self.assertEqual(
            told, ["operator without credentials redrove 3 failed prompts (the model refused it)"]
        )
        self.assertEqual(self.failures(), {"the target answered 400": 1})

    def test_purged(self) -> None:
        self.patch(actions, "STEP", 2)
        self.failures()
        recorder = Recorder()
        self.observers.add(recorder)
        answer, told = self.audited("/api/purge?reason=the%20model%20refused%20it")
        self.assertEqual(answer.json, {"purged": 3, "detail": "Purged: 3."})
        self.assertEqual(
            told, ["operator without credentials purged 3 failed prompts (the model refused it)"]
        )
        purged = [each["prompt_id"] for each in recorder.of("purged")]
        self.assertEqual(sorted(purged), sorted(self.refused))
        self.assertEqual(self.failures(), {"the target answered 400": 1})
        answer, told = self.audited("/api/purge")
        self.assertEqual(told, ["operator without credentials purged 1 failed prompt"])
        self.assertEqual((answer.json["purged"], self.failures()), (1, {}))

    def test_of_no_reason_that_there_is(self) -> None:
        for path in (
            "/api/redrive?reason=a%0Alie",
            "/api/purge?reason=a%0Alie",
            "/api/purge?reason=",
        ):
            answer, told = self.audited(path)
            self.assertEqual((answer.status, told), (200, []))
        self.assertEqual(sum(self.failures().values()), 4)

    def test_what_was_read_before_is_forgotten(self) -> None:
        groups = Mock()
        acting = Actions(self.intake, groups, self.observers)
        for number, act in enumerate(
            (
                acting.redrive(self.refused[0], WHO),
                acting.purge(self.refused[1], WHO),
                acting.redrive_all("the model refused it", WHO),
                acting.purge_all(None, WHO),
            ),
            1,
        ):
            self.successResultOf(Deferred.fromCoroutine(act))
            self.assertEqual(groups.forget.call_count, number)

    def test_its_details_are_in_no_log(self) -> None:
        _, told = self.audited("/api/redrive?reason=the%20model%20refused%20it")
        self.assertNotIn("code_", str(told))


class OneTests(ActionsTestCase):
    def test_purged(self) -> None:
        prompt_id = self.failed()
        answer, told = self.audited(f"/api/prompts/{prompt_id}/purge")
        self.assertEqual((answer.status, answer.json), (200, {"id": prompt_id, "purged": True}))
        self.assertEqual(told, [f"operator without credentials purged {prompt_id}"])
        self.assertIsNone(self.record(prompt_id))

    def test_only_a_failed_one_is_purged(self) -> None:
        prompt_id = self.ask().json["id"]
        answer, told = self.audited(f"/api/prompts/{prompt_id}/purge")
        detail = self.assert_problem(answer, 409)
        self.assertEqual((detail, told), ("only a failed prompt can be purged", []))
        self.assert_problem(self.send("/api/prompts/none/purge"), 404)

    def test_redriven(self) -> None:
        prompt_id = self.failed()
        _, told = self.audited(f"/api/prompts/{prompt_id}/redrive")
        self.assertEqual(
            told, [f"operator without credentials redrove {prompt_id}: it is accepted again"]
        )

    def test_cancelled(self) -> None:
        recorder = Recorder()
        self.observers.add(recorder)
        ids = [self.ask().json["id"] for _ in range(3)]
        answer, told = self.audited(f"/api/prompts/{ids[2]}/cancel")
        self.assertEqual(answer.json, {"id": ids[2], "state": "cancelled"})
        self.assertEqual(told, [f"operator without credentials cancelled {ids[2]}"])
        self.assertEqual(recorder.of("cancelled"), [{"prompt_id": ids[2]}])
        answer, told = self.audited(f"/api/prompts/{ids[2]}/cancel")
        self.assertEqual((answer.status, told), (200, []))
        answer, told = self.audited(f"/api/prompts/{ids[0]}/cancel")
        self.assertIn("being asked", self.assert_problem(answer, 409))
        self.assertEqual(told, [])
        self.assert_problem(self.send("/api/prompts/none/cancel"), 404)

    def test_tried(self) -> None:
        answer, told = self.audited("/api/prompts", b"a secret prompt")
        self.assertEqual(told, [f"operator without credentials tried {answer.json['id']}"])


class NamedTests(ActionsTestCase):
    config = attrs.evolve(
        ActionsTestCase.config,
        admin_auth=Credentials(bearer=(Secret("t0k3n"),), basic={"alice": Secret("pa55")}),
    )

    def test_by_the_name_of_the_credential(self) -> None:
        for shown, who in (
            (f"Basic {b64encode(b'alice:pa55').decode()}", "alice"),
            ("Bearer t0k3n", "with a bearer token"),
        ):
            prompt_id = self.failed()
            _, told = self.audited(f"/api/prompts/{prompt_id}/purge", Authorization=shown)
            self.assertEqual(told, [f"operator {who} purged {prompt_id}"])
            _, told = self.audited("/api/pause/asking", Authorization=shown)
            self.assertEqual(told, [f"operator {who} paused asking"])
            _, told = self.audited("/api/resume/asking", Authorization=shown)
            self.assertEqual(told, [f"operator {who} resumed asking"])


class SearchTests(ActionsTestCase):
    config = attrs.evolve(
        ActionsTestCase.config,
        auth=Credentials(bearer=(Secret("t0k3n"),), basic={"alice": Secret("pa55")}),
        admin_auth=Credentials(basic={"bob": Secret("t0p")}),
    )
    bob: ClassVar = {"Authorization": f"Basic {b64encode(b'bob:t0p').decode()}"}

    def found(self, word: str) -> list[str]:
        answer = self.get(f"/api/search?q={word}", **self.bob)
        self.assertEqual(answer.status, 200)
        return [each["id"] for each in answer.json["prompts"]]

    def test_by_an_id_its_beginning_or_a_key(self) -> None:
        alice = f"Basic {b64encode(b'alice:pa55').decode()}"
        one = self.ask(Authorization="Bearer t0k3n", Idempotency_Key='"a key"').json["id"]
        two = self.ask(Authorization=alice, Idempotency_Key="k2").json["id"]
        three = self.ask(Authorization=alice, Idempotency_Key=two[:6]).json["id"]
        for word, ids in (
            (one, [one]),
            (one[:13], [one]),
            (f"%20{one}%0A", [one]),
            ("a%20key", [one]),
            ("%22a%20key%22", [one]),
            ("%22a%20key", []),
            ("k2", [two]),
            ("k", []),
            (two[:6], [three, two]),
            ("none", []),
        ):
            self.assertEqual(self.found(word), ids, word)
        self.assertIn("more", self.get("/api/search?q=k2", **self.bob).json)

    def test_by_the_key_of_one_that_was_tried(self) -> None:
        one = self.send("/api/prompts", b"x", **self.bob, Idempotency_Key="k3").json["id"]
        answer = self.get("/api/search?q=k3", **self.bob)
        self.assertEqual([each["id"] for each in answer.json["prompts"]], [one])

    def test_no_more_than_a_page(self) -> None:
        self.patch(search, "MOST", 2)
        ids = [f"abc{n}" for n in range(3)]
        self.accept(*(prompt(each) for each in ids))
        told = self.get("/api/search?q=abc", **self.bob).json
        self.assertEqual(([each["id"] for each in told["prompts"]], told["more"]), (ids[:2], True))
        self.assertFalse(self.get("/api/search?q=abc0", **self.bob).json["more"])

    def test_the_journal_breaks_midway(self) -> None:
        self.accept(*(prompt(f"abc{n}") for n in range(3)))
        broken = JournalUnavailable("it is full", retry_after=5)
        self.patch(cast(Any, self.journal), "record", lambda _: fail(broken))
        self.assert_problem(self.get("/api/search?q=abc", **self.bob), 503)
        self.assertIn("can't be read", self.get("/?q=abc", **self.bob).body.decode())

    def test_what_can_not_be_searched_for(self) -> None:
        for word in ("", "%20", "x" * 256):
            detail = self.assert_problem(self.get(f"/api/search?q={word}", **self.bob), 400)
            self.assertIn("`q` must be an id", detail)
        self.assert_problem(self.get("/api/search", **self.bob), 400)


class PauseTests(ActionsTestCase):
    def paused(self) -> list[Any]:
        return list(self.get("/api/status").json["paused"])

    def test_paused_and_resumed(self) -> None:
        answer, told = self.audited("/api/pause/asking")
        at = "2027-01-15T12:00:00Z"
        pause = {"what": "asking", "who": "an operator without credentials", "since": at}
        self.assertEqual((answer.status, answer.json), (200, {**pause, "paused": True}))
        self.assertEqual(told, ["operator without credentials paused asking"])
        self.assertEqual(self.paused(), [pause])
        self.ask()
        self.assertEqual(self.model.under_way, [])
        self.clock.advance(5)
        answer, told = self.audited("/api/pause/asking")
        self.assertEqual((answer.json["since"], told), (at, []))
        answer, told = self.audited("/api/resume/asking")
        self.assertEqual(answer.json, {"what": "asking", "paused": False, "was_paused": True})
        self.assertEqual(told, ["operator without credentials resumed asking"])
        self.assertEqual((len(self.model.under_way), self.paused()), (1, []))
        answer, told = self.audited("/api/resume/asking")
        self.assertEqual((answer.json["was_paused"], told), (False, []))

    def test_only_what_there_is(self) -> None:
        for what in ("model", "target.other", "Asking", "asking%20", ""):
            for act in ("pause", "resume"):
                self.assert_problem(self.send(f"/api/{act}/{what}"), 404)
        detail = self.send("/api/pause/model").json["detail"]
        self.assertEqual(detail, "what may be paused is intake, asking, target, dead_letter")

    def test_a_target_that_is_no_more_can_be_resumed(self) -> None:
        self.successResultOf(self.journal.pause("target.gone", "bob"))
        self.clock.advance(1)
        self.assertEqual([each["what"] for each in self.paused()], ["target.gone"])
        self.assertEqual(self.send("/api/resume/target.gone").json["was_paused"], True)
        self.assertEqual(self.paused(), [])

    def test_a_journal_that_can_not_be_written(self) -> None:
        self.opened.connection.close()
        for act in ("pause", "resume"):
            self.assert_problem(self.send(f"/api/{act}/asking"), 503)
        self.assertFalse(self.pipeline.pauses.is_paused("asking"))

    def test_where_it_is_told(self) -> None:
        self.send("/api/pause/asking")
        self.send("/api/pause/target")
        told = self.get("/api/status").json
        asking, target = (
            f"{what} is paused by an operator without credentials (since 12:00): resume `{name}`"
            f" once the reason for the pause is gone. {meaning}"
            for what, name, meaning in (
                ("Asking", "asking", "Prompts are accepted, and wait"),
                ("Delivery to the target", "target", "Its events wait"),
            )
        )
        self.assertEqual(told["troubles"], [asking, target])
        self.site = self.door
        self.connect()
        answer = self.request("GET", "/readyz")
        self.assertEqual((answer.status, answer.json["status"]), (200, "degraded"))
        self.assertIn(
            "delivery to the target is paused (since 12:00)", answer.json["checks"]["paused"]
        )
        self.assertNotIn("an operator without credentials", answer.json["checks"]["paused"])
        scraped = self.scrape()
        told = {what: scraped[f'paused{{what="{what}"}}'] for what in self.pipeline.pauses.what}
        self.assertEqual(told, {"intake": 0, "asking": 1, "target": 1, "dead_letter": 0})

    def test_a_peer_is_not_tried_while_it_is_paused(self) -> None:
        self.ask()
        self.model.answer(PeerFailure("the model answered 401", status=401))
        self.send("/api/pause/asking")
        detail = self.assert_problem(self.send("/api/peers/model/try"), 409)
        self.assertEqual(detail, "asking is paused: resume it first")
        self.send("/api/resume/asking")
        answer, told = self.audited("/api/peers/model/try")
        self.assertEqual(
            (answer.status, told), (202, ["operator without credentials tries model now"])
        )

    def test_no_backlog_ages_because_of_it(self) -> None:
        self.send("/api/pause/asking")
        self.ask()
        self.clock.advance(3600)
        troubles = self.get("/api/status").json["health"]["troubles"]
        self.assertEqual([each["check"] for each in troubles], ["paused"])
        self.send("/api/resume/asking")

    def test_another_site_can_not(self) -> None:
        self.assert_problem(self.send("/api/pause/asking", X_Requested_With="x"), 403)
        self.assert_problem(self.get("/api/pause/asking"), 405)

    def test_the_intake(self) -> None:
        recorder = Recorder()
        self.observers.add(recorder)
        first = self.ask(Idempotency_Key="k")
        self.send("/api/pause/intake")
        answer = self.ask()
        detail = self.assert_problem(answer, 503)
        self.assertEqual(detail, "an operator has paused the intake: send it again later")
        self.assertEqual(answer.headers["retry-after"], "60")
        self.assertEqual(self.ask(Idempotency_Key="k").json, first.json)
        self.assertEqual(self.ask(Idempotency_Key="k2", Prefer="wait=5").status, 503)
        self.assert_problem(self.send("/api/prompts", b"to try"), 503)
        self.assertEqual(recorder.refusals(), ["paused"] * 3)
        self.assertEqual((self.used(), len(self.model.under_way)), (1, 1))
        self.site = self.door
        self.connect()
        for path in (f"/prompts/{first.json['id']}", "/readyz"):
            self.assertEqual(self.request("GET", path).status, 200)
        self.send("/api/resume/intake")
        self.assertEqual(self.ask().status, 202)
