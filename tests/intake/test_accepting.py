"""What is accepted, in each form, and the callers who wait for its answer."""

import json
from gc import collect
from typing import Any
from unittest.mock import Mock
from weakref import ReferenceType, ref

import attrs
from twisted.internet.defer import Deferred, fail
from twisted.logger import capturedLogs, formatEvent
from twisted.python.failure import Failure

from chatgpt_source.errors import JournalUnavailable
from chatgpt_source.intake.accepting import NEEDED_LONGER
from chatgpt_source.journal import Admitted
from chatgpt_source.journal.group_commit import Withdrawable
from chatgpt_source.prompt import Arrival, Ask, Prompt, State
from chatgpt_source.telemetry.spans import RequestSpan
from tests.contracts.driver import NOON
from tests.door import CONFIG, ParsedResponse
from tests.intake.memory_door import JSON, MemoryDoorTestCase, event_headers

WAIT = "wait=10"


class AcceptedTests(MemoryDoorTestCase):
    config = attrs.evolve(CONFIG, keep_answers=60.0)

    def test_told_of_each(self) -> None:
        self.post(vanus_target="none")
        self.post_json()
        self.post_event()
        told = [(told["arrival"], told["target"]) for _, told in self.recorder.told]
        self.assertEqual(
            told,
            [(Arrival.TEXT, "none"), (Arrival.JSON, "target"), (Arrival.EVENT, "target")],
        )

    def test_json(self) -> None:
        answer = self.post_json()
        self.assertEqual(answer.status, 202)
        self.assertEqual(answer.json, {"id": self.prompt_id, "status": "accepted"})
        self.assertEqual(answer.headers["location"], f"/prompts/{self.prompt_id}")

    def assert_empty(self, answer: ParsedResponse) -> None:
        self.assertEqual((answer.status, answer.body), (202, b""))
        self.assertEqual(answer.headers["content-length"], "0")
        self.assertNotIn("content-type", answer.headers)
        self.assertIn("ratelimit-policy", answer.headers)

    def test_an_event(self) -> None:
        for _ in range(2):
            answer = self.post_event()
            self.assert_empty(answer)
            self.assertEqual(answer.headers["location"], f"/prompts/{self.prompt_id}")
            self.assertIn("r=2", answer.headers["ratelimit"])
        self.assertEqual([kind for kind, _ in self.recorder.told], ["accepted", "repeated"])

    def test_a_batch(self) -> None:
        self.post_event("e1")
        with capturedLogs() as logged:
            answer = self.post_batch("e1", "e2", "e3", Prefer=WAIT)
        self.assert_empty(answer)
        self.assertNotIn("location", answer.headers)
        self.assertIn("r=0", answer.headers["ratelimit"])
        kinds = [(kind, told.get("prompt_id")) for kind, told in self.recorder.told[1:]]
        _, second, third = self.journal.prompts
        self.assertEqual(kinds, [("repeated", None), ("accepted", second), ("accepted", third)])
        self.assertEqual(len(logged), 2)

    def test_a_repeat_after_its_deadline(self) -> None:
        deadline = "2030-01-01T00:00:00Z"
        body = f'{{"prompt": "x", "deadline": "{deadline}"}}'.encode()
        requests = (
            lambda: self.post(idempotency_key="a", vanus_deadline=deadline),
            lambda: self.request("POST", "/prompts", body, **JSON, idempotency_key="b"),
            lambda: self.post_event(vanus_deadline=deadline),
        )
        first = [each().headers["location"] for each in requests]
        self.clock.step(10 * 365 * 86400)
        for each, location in zip(requests, first, strict=True):
            answer = each()
            self.assertEqual(answer.status, 202, answer.body)
            self.assertEqual(answer.headers["location"], location)
        answer = self.post(vanus_deadline=deadline)
        self.assert_problem(answer, 400)
        self.assertIn("the deadline has passed", answer.json["detail"])
        self.assertEqual(len(self.journal.prompts), 3)

    def test_what_may_be_asked_at_once(self) -> None:
        self.patch(self.pipeline, "reserve", object)
        filled: list[Any] = []
        self.patch(self.pipeline, "accepted", lambda *told: filled.append(told))
        self.post()
        later = b'{"prompt": "x", "not_before": "2030-01-01T00:00:00Z"}'
        self.request("POST", "/prompts", later, **JSON)
        self.post_batch("e1")
        self.assertEqual(self.journal.claimed, [True, False, False])
        self.assertEqual([slot is not None for slot, _ in filled], [True, False, False])
        self.post_batch("e1")
        self.assertEqual(filled[-1], (None, None))  # all of it was repeated


class WaitTests(MemoryDoorTestCase):
    def wait(self, **headers: str) -> None:
        self.begin(**{"Prefer": WAIT, **headers})

    def test_the_answer(self) -> None:
        self.wait()
        until = NOON + 10 + NEEDED_LONGER
        self.assertEqual(self.journal.needs, {self.prompt_id: until})
        event = self.answered()
        answer = self.come()
        self.assertEqual((answer.status, answer.body), (200, event))
        self.assertEqual(answer.headers["content-type"], "application/cloudevents+json")
        self.assertEqual(answer.headers["preference-applied"], WAIT)
        self.assertEqual(answer.headers["cache-control"], "no-store")
        self.assertEqual(answer.headers["location"], f"/prompts/{self.prompt_id}")
        self.assertIn("ratelimit", answer.headers)
        self.assertEqual(self.journal.unneeded_, [self.prompt_id])
        self.assertEqual((len(self.waiters), self.clock.getDelayedCalls()[1:]), (0, []))

    def test_each_form(self) -> None:
        for accept, media_type, body in (
            ("application/json", "application/json", b'{"content": "the answer"}'),
            ("text/plain", "text/plain; charset=utf-8", b"the answer"),
        ):
            self.wait(Accept=accept)
            self.answered()
            answer = self.come()
            self.assertEqual((answer.status, answer.body), (200, body))
            self.assertEqual(answer.headers["content-type"], media_type)
            is_binary = answer.headers.get("ce-id") == self.prompt_id
            self.assertEqual(is_binary, accept == "application/json")

    def test_no_form(self) -> None:
        self.assert_problem(self.post(Prefer=WAIT, Accept="image/png"), 406)
        self.assertEqual((self.journal.prompts, len(self.waiters)), ({}, 0))
        self.assertEqual(self.post(Accept="image/png").status, 202)

    def test_json_and_events(self) -> None:
        self.begin("POST", "/prompts", b'{"prompt": "x"}', Prefer=WAIT, **JSON)
        self.answered()
        self.assertEqual(self.come().status, 200)
        self.wait(**event_headers("e1"))
        self.answered()
        self.assertEqual(self.come().status, 200)

    def test_time_is_up(self) -> None:
        self.wait()
        self.clock.advance(10)
        answer = self.come()
        self.assertEqual((answer.status, answer.json["status"]), (202, "accepted"))
        self.assertNotIn("preference-applied", answer.headers)
        self.assertEqual(self.journal.unneeded_, [self.prompt_id])
        self.answered()
        self.assertEqual(len(self.waiters), 0)

    def test_bounded_by_max_wait(self) -> None:
        self.begin(Prefer="wait=3600")
        self.assertEqual(self.journal.needs, {self.prompt_id: NOON + 60 + NEEDED_LONGER})
        self.answered()
        self.assertEqual(self.come().headers["preference-applied"], "wait=60")

    def test_failed(self) -> None:
        for timed_out, status in ((False, 502), (True, 504)):
            self.wait()
            self.end(self.prompt_id, State.FAILED, None, "the reason", timed_out=timed_out)
            answer = self.come()
            self.assertIn("the reason", self.assert_problem(answer, status))
            self.assertEqual(answer.headers["location"], f"/prompts/{self.prompt_id}")
            self.assertEqual(answer.headers["cache-control"], "no-store")
        self.assertEqual(len(self.recorder.told), 2)

    def test_answered_but_not_delivered(self) -> None:
        self.wait()
        self.answered(state=State.FAILED)
        self.assertEqual(self.come().status, 200)

    def test_cancelled(self) -> None:
        self.wait()
        waiting = self.transport
        self.connect()
        self.assertEqual(self.request("DELETE", f"/prompts/{self.prompt_id}").status, 204)
        self.assertIn("cancelled", self.assert_problem(ParsedResponse(waiting.value()), 410))

    def test_a_repeated_prompt(self) -> None:
        first = self.post(Idempotency_Key="k").json["id"]
        self.wait(Idempotency_Key="k")
        self.assertEqual(self.journal.needs, {first: NOON + 10 + NEEDED_LONGER})
        event = self.answered()
        self.assertEqual(self.come().body, event)
        self.assertEqual(self.journal.unneeded_, [first])
        self.assertEqual(self.post(Idempotency_Key="k", Prefer=WAIT).body, event)
        self.journal.end(first, State.DELIVERED)
        answer = self.post(Idempotency_Key="k", Prefer=WAIT)
        self.assertIn("keep_answers", self.assert_problem(answer, 410))

    def test_two_who_wait_for_one(self) -> None:
        self.wait(Idempotency_Key="k")
        first = self.transport
        self.clock.advance(5)
        self.connect()
        self.wait(Idempotency_Key="k")
        self.clock.advance(5)
        self.turn()
        self.assertEqual(ParsedResponse(first.value()).status, 202)
        self.assertEqual(self.journal.unneeded_, [])
        self.answered()
        self.assertEqual(self.come().status, 200)
        self.assertEqual(self.journal.unneeded_, [self.prompt_id])

    def test_a_refused_one_waits_for_nothing(self) -> None:
        Deferred.fromCoroutine(self.pipeline.drain())
        self.assert_problem(self.post(Prefer=WAIT), 503)
        self.assertEqual((len(self.waiters), self.journal.unneeded_), (0, []))

    def test_at_another_daemon_somebody_may_wait_too(self) -> None:
        self.journal.is_shared = True
        self.wait()
        self.answered()
        self.assertEqual(self.come().status, 200)
        self.assertEqual(self.journal.unneeded_, [])

    def test_who_hangs_up(self) -> None:
        self.wait()
        with capturedLogs() as logged:
            self.channel.connectionLost(Failure(ConnectionResetError()))
            self.turn()
        (line,) = map(formatEvent, logged)
        self.assertTrue(line.endswith(f"id={self.prompt_id} why=hung_up"), line)
        self.assertEqual(self.journal.unneeded_, [self.prompt_id])
        self.assertEqual(list(self.journal.prompts), [self.prompt_id])
        self.assertEqual(len(self.waiters), 0)
        self.connect()

    def test_who_hangs_up_while_it_is_written(self) -> None:
        written: Deferred[list[Admitted]] = Withdrawable(lambda _: None)  # it has begun
        self.patch(self.journal, "accept", lambda *_, **__: written)
        self.wait()
        self.channel.connectionLost(Failure(ConnectionResetError()))
        written.callback([Admitted("p1", 1)])
        self.turn()
        self.assertEqual(len(self.waiters), 0)
        self.assertEqual(len(self.journal.unneeded_), 1)
        self.connect()

    def test_too_many_wait(self) -> None:
        self.intake.bound_waiters(3)
        self.wait()
        self.connect()
        self.assertEqual(self.post(Prefer=WAIT).status, 202)
        self.assertEqual(len(self.journal.needs), 1)

    def test_a_stop(self) -> None:
        self.wait(Idempotency_Key="k")
        self.intake.stop_waiting()
        self.assertEqual(self.come().status, 202)
        self.assertEqual(self.journal.unneeded_, [self.prompt_id])
        Deferred.fromCoroutine(self.pipeline.drain())
        self.assertEqual(self.post(Prefer=WAIT, Idempotency_Key="k").status, 202)

    def test_the_journal_can_not_be_read(self) -> None:
        self.wait()
        broken = fail(JournalUnavailable("disk full", retry_after=1))
        self.patch(self.journal, "kept", lambda *_: broken)
        self.patch(self.journal, "unneeded", lambda *_: fail(JournalUnavailable("", retry_after=1)))
        self.answered()
        self.assertEqual(self.come().status, 202)  # it is accepted all the same

    def test_no_body_is_held_meanwhile(self) -> None:
        self.site.__init__(self.clock, self.intake.answer, 10**4)  # type: ignore[misc]
        self.connect()
        self.begin(body=b"x" * 9000, Prefer=WAIT)
        self.assertEqual(self.site.held, 0)

    def test_no_text_is_held_meanwhile(self) -> None:
        held: list[ReferenceType[Prompt]] = []

        def accept(submissions: Any, *_: object, **__: object) -> Deferred[list[Admitted]]:
            prompt = submissions[0].prompt
            held.append(ref(prompt))
            written: Deferred[list[Admitted]] = Withdrawable(lambda _: prompt)
            written.callback([Admitted("p1", 1, ask=Ask(prompt, 1, 1, NOON))])
            return written

        self.patch(self.journal, "accept", accept)
        self.wait()
        collect()
        self.assertEqual([each() for each in held], [None])

    def test_the_lines_in_the_log(self) -> None:
        self.wait()
        self.clock.advance(2)
        with capturedLogs() as logged:
            self.answered()
            self.turn()
        _, line = map(formatEvent, logged)
        self.assertIn("status=200 seconds=2.000", str(line))


class ReplyTests(MemoryDoorTestCase):
    config = attrs.evolve(CONFIG, reply=20.0, keep_answers=60.0)

    def ask(self, name: str = "e1") -> None:
        self.begin(Prefer="reply", **event_headers(name))

    def test_the_event_is_the_response(self) -> None:
        self.ask()
        self.assertEqual(self.journal.prompts[self.prompt_id].target, "none")
        self.assertEqual(self.recorder.told[0][1]["target"], "none")
        event = self.answered(state=State.DELIVERED)
        answer = self.come()
        self.assertEqual((answer.status, answer.body), (200, event))
        self.assertEqual(json.loads(answer.body)["id"], self.prompt_id)
        self.assertEqual(answer.headers["preference-applied"], "reply")

    def test_time_is_up_and_the_repeat_joins(self) -> None:
        self.ask()
        self.clock.advance(20)
        answer = self.come()
        self.assert_problem(answer, 503)
        self.assertIn("retry-after", answer.headers)
        self.ask()
        event = self.answered(state=State.DELIVERED)
        self.assertEqual(self.come().body, event)
        self.assertEqual(len(self.journal.prompts), 1)
        self.assertEqual(self.post_event(Prefer="reply").body, event)

    def test_too_many_wait(self) -> None:
        self.waiters.at_most = 0
        answer = self.post_event(Prefer="reply")
        self.assert_problem(answer, 503)
        self.assertIn("retry-after", answer.headers)
        self.assertEqual(self.journal.prompts, {})

    def test_what_is_no_event(self) -> None:
        for answer in (
            self.post(Prefer="reply"),
            self.post_json(Prefer="reply"),
            self.post_batch("e1", Prefer="reply"),
        ):
            self.assertEqual(answer.status, 202)

    def test_where_it_is_not_set(self) -> None:
        self.site.handler = attrs.evolve(self.intake, config=CONFIG).answer
        self.assertEqual(self.post_event(Prefer="reply").status, 202)
        self.assertEqual(self.journal.prompts[self.prompt_id].target, "target")


class StatusSpan(RequestSpan):
    """A span that keeps the statuses with which it was ended."""

    def __init__(self, ends: list[int | None]) -> None:
        super().__init__(None)
        self.ends = ends

    def answered(self, status: int | None) -> None:
        self.ends.append(status)


class SpanTests(MemoryDoorTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.ends: list[int | None] = []
        spans: Any = Mock(request=lambda *_: StatusSpan(self.ends))
        self.site.handler = attrs.evolve(self.intake, spans=spans).answer

    def wait(self) -> None:
        self.begin(Prefer=WAIT)
        self.assertEqual(self.ends, [])

    def assert_ended(self, status: int) -> None:
        self.assertEqual(self.come().status, status)
        self.assertEqual(self.ends, [status])
        self.ends.clear()

    def test_who_does_not_wait(self) -> None:
        self.post()
        self.assert_ended(202)
        self.post(b"")
        self.assert_ended(400)
        self.pipeline.draining = True
        self.post()
        self.assert_ended(503)

    def test_who_waits(self) -> None:
        self.wait()
        self.answered()
        self.assert_ended(200)
        self.wait()
        self.clock.advance(10)
        self.assert_ended(202)

    def test_who_waits_for_a_failure(self) -> None:
        for timed_out, status in ((False, 502), (True, 504)):
            self.wait()
            self.end(self.prompt_id, State.FAILED, None, "the reason", timed_out=timed_out)
            self.assert_ended(status)

    def test_who_has_hung_up(self) -> None:
        self.wait()
        self.channel.connectionLost(Failure(ConnectionResetError()))
        self.turn()
        self.assertEqual(self.ends, [None])
        self.connect()

    def test_a_defect(self) -> None:
        self.patch(self.journal, "accept", Mock(side_effect=KeyError("MARKED")))
        self.post()
        self.assert_ended(500)
