"""Deadlines and expiries: when asking ends, whatever the model does."""

import json
from typing import Any

import attrs
from twisted.internet.defer import Deferred, succeed

from chatgpt_source.errors import PeerFailure, Permanent, PossiblyBilled, Transient
from chatgpt_source.journal import LAST_POLL, TIME_IS_UP, Claims, Underway
from chatgpt_source.pipeline.recording import is_late, late
from chatgpt_source.pipeline.worker import POLL_INTERVAL
from chatgpt_source.prompt import State, Submitted
from chatgpt_source.telemetry.observer import AskEnded, Observer
from tests.journal.common import NOON, prompt
from tests.pipeline.test_pipeline import CONFIG, PipelineTestCase

AGAIN = Transient("the model answered 500", status=500, request_id="req-7")
HOLD = PeerFailure("the model answered 401: check `token`", status=401)
PASSED = f"{TIME_IS_UP}: its deadline passed before it was answered"
EXPIRED = f"{TIME_IS_UP}: it expired before it was answered"


class LateTests(PipelineTestCase):
    def test_when(self) -> None:
        self.assertFalse(is_late(prompt(), NOON + 1e9))
        for parts in ({"deadline": NOON}, {"expiry": NOON}, {"deadline": NOON, "expiry": 2 * NOON}):
            each = attrs.evolve(prompt(), **parts)
            self.assertEqual((is_late(each, NOON - 1), is_late(each, NOON)), (False, True))

    def test_why(self) -> None:
        self.assertEqual(late(attrs.evolve(prompt(), deadline=1.0, expiry=2.0)), PASSED)
        self.assertEqual(late(attrs.evolve(prompt(), deadline=2.0, expiry=1.0)), EXPIRED)
        self.assertEqual(late(attrs.evolve(prompt(), expiry=1.0)), EXPIRED)


class ExpiringTests(PipelineTestCase):
    config = attrs.evolve(CONFIG, concurrency=1, dead_letter="http://letters")

    def setUp(self) -> None:
        self.told: list[AskEnded] = []
        self.observer = Observer()
        self.observer.asked = self.told.append  # type: ignore[method-assign]
        super().setUp()

    def after(self, seconds: float) -> float:
        return float(self.clock.seconds() + seconds)

    def error(self, name: str = "p1") -> str:
        return str(self.record(name).error)

    def test_one_that_is_submitted_and_not_polled_in_time(self) -> None:
        self.post("p1", deadline=self.after(10))
        self.model.answer(Submitted("resp_1"))
        self.model.look_up = lambda *_: Deferred()  # type: ignore[attr-defined]
        ask = self.successResultOf(self.journal.claim_submitted(self.after(1), 1)).claimed[0]
        self.end(ask, Underway("resp_1", self.after(1000)))
        stopped: list[str] = []
        self.model.cancel = lambda id_: succeed(stopped.append(id_))  # type: ignore[attr-defined]
        self.pass_time(10 + LAST_POLL - 1)
        self.assertEqual((self.states("p1"), stopped), (["submitted"], []))
        self.pass_time(1 + POLL_INTERVAL)
        self.assertEqual((self.states("p1"), stopped), (["failed"], ["resp_1"]))

    def test_one_that_waits_fails_in_time_and_gives_its_unit_back(self) -> None:
        self.post("p1")
        self.post("p2", deadline=self.after(10))
        self.pass_time(9.9)
        self.assertEqual(self.states("p2"), ["accepted"])
        self.pass_time(POLL_INTERVAL)
        self.assertEqual(self.states("p1", "p2"), ["accepted", "failed"])
        self.assertEqual(self.error("p2"), PASSED)
        self.assertEqual(self.used(), 1)
        self.assertEqual(len(self.model.calls), 1)

    def test_its_outcome_is_told_and_is_no_call(self) -> None:
        self.post("p1")
        self.post("p2", expiry=self.after(1))
        self.pass_time(1 + POLL_INTERVAL)
        (told,) = self.told
        self.assertEqual((told.id, told.state, told.reason), ("p2", State.FAILED, EXPIRED))
        self.assertFalse(told.called)

    def test_its_dead_letter_is_sent(self) -> None:
        self.post("p1")
        self.post("p2", expiry=self.after(1))
        self.pass_time(1 + POLL_INTERVAL)
        letter = json.loads(self.dead_letters.under_way[0])
        self.assertEqual(letter["data"]["error"]["reason"], EXPIRED)

    def test_while_the_model_is_held(self) -> None:
        self.post("p1", deadline=self.after(10))
        self.model.answer(HOLD)
        self.assertTrue(self.pipeline.model.held)
        self.pass_time(10 + POLL_INTERVAL)
        self.assertEqual((self.states("p1"), self.error()), (["failed"], PASSED))
        self.assertEqual(len(self.model.calls), 1)

    def test_one_that_is_claimed_too_late_is_not_asked(self) -> None:
        self.pipeline.end()
        self.patch(self.journal, "claim_expired", lambda *_: succeed(Claims((), None)))
        self.accept(attrs.evolve(prompt("p1"), deadline=self.after(-1)))
        self.begin()
        self.assertEqual(self.model.calls, [])
        self.assertEqual((self.states("p1"), self.error()), (["failed"], PASSED))

    def test_many_are_claimed_at_once_though_few_calls_may_be_under_way(self) -> None:
        self.pipeline.end()
        claimed: list[int] = []
        claim = self.journal.claim_expired

        def noted(now: float, most: int) -> Any:
            return claim(now, most).addCallback(
                lambda claims: (claimed.append(len(claims.claimed)), claims)[1]
            )

        self.patch(self.journal, "claim_expired", noted)
        self.begin()
        self.post(*(f"p{n}" for n in range(9)), deadline=self.after(1))
        self.pass_time(1 + POLL_INTERVAL)
        self.assertEqual(max(claimed), 8)

    def test_a_stop_waits_for_it_and_claims_no_more(self) -> None:
        self.post("p1")
        drained = Deferred.fromCoroutine(self.pipeline.drain())
        self.post("p2", deadline=self.after(0.5))
        self.model.answer(Permanent("the model answered 400", status=400))
        self.pass_time(1)
        self.successResultOf(drained)
        self.pass_time(POLL_INTERVAL)
        self.assertEqual(self.states("p2"), ["accepted"])


class GivingUpTests(PipelineTestCase):
    config = attrs.evolve(CONFIG, give_up_after=100.0)

    def after(self, seconds: float) -> float:
        return float(self.clock.seconds() + seconds)

    def fail_after(self, seconds: float, error: Any = AGAIN) -> None:
        self.clock.advance(seconds)
        self.model.answer(error)

    def test_a_deadline_replaces_give_up_after(self) -> None:
        self.post("p1", deadline=self.after(300))
        self.post("p2", expiry=self.after(300))
        self.clock.advance(150)
        self.model.answer(AGAIN)
        self.model.answer(AGAIN)
        self.assertEqual(self.states("p1", "p2"), ["accepted", "failed"])
        self.assertIn("give_up_after", self.record("p2").error)

    def test_a_call_that_fails_after_it(self) -> None:
        self.post("p1", deadline=self.after(50))
        self.post("p2", expiry=self.after(50), deadline=self.after(1000))
        self.clock.advance(60)
        self.model.answer(AGAIN)
        self.model.answer(HOLD)
        self.assertEqual(self.record("p1").error, f"{PASSED} ({AGAIN.reason})")
        self.assertEqual(self.record("p2").error, f"{EXPIRED} ({HOLD.reason})")
        self.assertTrue(self.pipeline.model.held)  # whatever the prompt's time
        self.assertEqual(self.used(), 0)

    def test_an_answer_after_it_counts(self) -> None:
        self.post("p1", deadline=self.after(50))
        self.clock.advance(60)
        self.model.answer()
        self.assertEqual(self.states("p1"), ["answered"])

    def test_the_next_attempt_is_not_due_after_it(self) -> None:
        self.post("p1", deadline=self.after(50))
        self.model.answer(Transient("the model answered 503", status=503, retry_after=3600))
        self.assertEqual(self.record("p1").next_attempt, self.clock.seconds() + 50)
        self.pass_time(50 + POLL_INTERVAL)
        self.assertEqual(self.states("p1"), ["failed"])
        self.assertEqual(len(self.model.calls), 1)

    def test_a_unit_that_may_be_billed_stays(self) -> None:
        self.post("p1", deadline=self.after(50))
        self.fail_after(60, PossiblyBilled("the model did not answer"))
        self.assertEqual((self.states("p1"), self.used()), (["failed"], 1))


class RequestIdTests(PipelineTestCase):
    def test_of_the_last_call(self) -> None:
        self.post("p1")
        self.model.answer(AGAIN)
        self.assertEqual(self.record("p1").request_id, "req-7")
        self.pass_time(1)
        self.model.answer(Permanent("the model answered 400", status=400, request_id="req-8"))
        self.assertEqual(self.record("p1").request_id, "req-8")
