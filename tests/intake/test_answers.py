"""The event of a prompt, for who asks for it."""

import attrs
from twisted.python.failure import Failure

from chatgpt_source.delivery.event import encode
from chatgpt_source.intake.accepting import NEEDED_LONGER
from chatgpt_source.prompt import Answer, State
from tests.contracts.driver import NOON
from tests.door import ParsedResponse
from tests.intake.memory_door import MemoryDoorTestCase

WAIT = "wait=10"


class EventTests(MemoryDoorTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.post()
        self.path = f"/prompts/{self.prompt_id}/event"

    def get(self, method: str = "GET", **headers: str) -> ParsedResponse:
        return self.request(method, self.path, **headers)

    def test_each_form(self) -> None:
        event = self.answered()
        for state in (State.ANSWERED, State.DELIVERED):
            self.journal.end(self.prompt_id, state, event)
            for accept, media_type, body in (
                ("*/*", "application/cloudevents+json", event),
                ("application/json", "application/json", b'{"content": "the answer"}'),
                ("text/plain", "text/plain; charset=utf-8", b"the answer"),
            ):
                answer = self.get(Accept=accept)
                self.assertEqual((answer.status, answer.body), (200, body))
                self.assertEqual(answer.headers["content-type"], media_type)
                self.assertEqual(answer.headers["cache-control"], "no-store")
                self.assertNotIn("preference-applied", answer.headers)
        self.assert_problem(self.get(Accept="image/png"), 406)

    def test_json_as_text(self) -> None:
        for answer, body in (
            (Answer({"a": "\u00e9"}), '{"a": "\u00e9"}'),
            (Answer(None, tool_calls=[{"id": "1"}]), '[{"id": "1"}]'),
        ):
            event = encode(self.journal.prompts[self.prompt_id], answer)
            self.journal.end(self.prompt_id, State.ANSWERED, event)
            told = self.get(Accept="text/plain")
            self.assertEqual((told.status, told.body), (200, body.encode()))

    def test_head(self) -> None:
        event = self.answered()
        answer = self.get("HEAD")
        self.assertEqual((answer.status, answer.body), (200, b""))
        self.assertEqual(answer.headers["content-length"], str(len(event)))

    def test_not_yet(self) -> None:
        answer = self.get()
        self.assertEqual((answer.status, answer.json["state"]), (202, "accepted"))
        self.assertEqual(answer.headers["retry-after"], "1")
        self.assertEqual(answer.headers["cache-control"], "no-store")
        self.assertEqual(answer.headers["content-type"], "application/json")

    def test_when_to_look_again(self) -> None:
        kept = self.successResultOf(self.journal.kept(self.prompt_id))
        assert kept is not None
        for due, wait in ((NOON - 5, "1"), (NOON + 4.5, "5"), (NOON + 3600, "60")):
            record = attrs.evolve(kept.record, next_attempt=due)
            self.journal.put(attrs.evolve(kept, record=record))
            self.assertEqual(self.get().headers["retry-after"], wait)

    def test_failed_or_cancelled(self) -> None:
        for state, event, told in (
            (State.FAILED, None, "the reason"),
            (State.FAILED, b"{}", "the reason"),
            (State.CANCELLED, None, "cancelled"),
        ):
            self.journal.end(self.prompt_id, state, event, "the reason")
            answer = self.get()
            self.assertIn(told, self.assert_problem(answer, 410))
            self.assertEqual(answer.headers["cache-control"], "no-store")

    def test_delivered_and_gone(self) -> None:
        self.journal.end(self.prompt_id, State.DELIVERED)
        for headers in ({}, {"Prefer": WAIT}):
            self.assertIn("keep_answers", self.assert_problem(self.get(**headers), 410))

    def test_unknown(self) -> None:
        for headers in ({}, {"Prefer": WAIT}):
            self.assert_problem(self.request("GET", "/prompts/p/event", **headers), 404)
        self.assertEqual((len(self.waiters), self.journal.unneeded_), (0, []))

    def test_waiting_for_it(self) -> None:
        self.begin("GET", self.path, b"", Prefer=WAIT)
        self.assertEqual(self.journal.needs, {self.prompt_id: NOON + 10 + NEEDED_LONGER})
        event = self.answered()
        answer = self.come()
        self.assertEqual((answer.status, answer.body), (200, event))
        self.assertEqual(answer.headers["preference-applied"], WAIT)
        self.assertEqual(self.journal.unneeded_, [self.prompt_id])
        self.assertEqual(self.get(Prefer=WAIT).body, event)

    def test_it_is_submitted_meanwhile(self) -> None:
        self.begin("GET", self.path, b"", Prefer=WAIT)
        self.end(self.prompt_id, State.SUBMITTED)
        self.assertEqual(self.come().status, 0)
        event = self.answered()
        self.assertEqual(self.come().body, event)

    def test_time_is_up(self) -> None:
        self.begin("GET", self.path, b"", Prefer=WAIT)
        self.clock.advance(10)
        self.assertEqual((self.come().status, self.journal.unneeded_), (202, [self.prompt_id]))

    def test_who_hangs_up(self) -> None:
        self.begin("GET", self.path, b"", Prefer=WAIT)
        self.channel.connectionLost(Failure(ConnectionResetError()))
        self.turn()
        self.assertEqual((len(self.waiters), self.journal.unneeded_), (0, [self.prompt_id]))
        self.connect()

    def test_failed_while_it_waits(self) -> None:
        for timed_out, status in ((False, 502), (True, 504)):
            self.journal.end(self.prompt_id, State.ACCEPTED)
            self.begin("GET", self.path, b"", Prefer=WAIT)
            self.end(self.prompt_id, State.FAILED, None, "the reason", timed_out=timed_out)
            self.assertIn("the reason", self.assert_problem(self.come(), status))

    def test_submitted(self) -> None:
        self.journal.end(self.prompt_id, State.SUBMITTED)
        answer = self.get()
        self.assertEqual((answer.status, answer.json["state"]), (202, "submitted"))

    def test_too_many_wait(self) -> None:
        self.waiters.at_most = 0
        self.assertEqual(self.get(Prefer=WAIT).status, 202)
