"""What the journal is told of each call, on a journal in a file."""

from typing import Any

import attrs

from chatgpt_source.errors import Gone, Lost, PeerFailure, Permanent, PossiblyBilled, Transient
from chatgpt_source.journal.attempts import Attempt, Kind
from chatgpt_source.prompt import Submitted, Tier
from tests.contracts.driver import ANSWER, NOON
from tests.pipeline.test_batching import DAY, MINUTE, BatchingTestCase
from tests.pipeline.test_pipeline import CONFIG, Peer, PipelineTestCase
from tests.pipeline.test_route import RouteTestCase

DOWN = Transient("the model answered 500", status=500, request_id="req-0")
LIMIT = Transient("too many", status=429)
SLOW = PossiblyBilled("the model did not answer")
KEY = PeerFailure("wrong key", status=401)
REFUSED = Permanent("refused", status=400)
UNREACHED = Transient("the target can't be reached")


def calls_for(case: Any, name: str = "p1") -> list[Attempt]:
    return list(case.successResultOf(case.journal.detail(name)).attempts)


def short(calls: list[Attempt]) -> list[tuple[str, int, str, str, int | None]]:
    return [(each.kind.value, each.number, each.peer, each.outcome, each.status) for each in calls]


class Model(Peer):
    """The model, which also looks up what was submitted."""

    async def look_up(self, submitted: str, _: Any) -> Any:
        return await self.call(submitted)


class CallTests(PipelineTestCase):
    config = attrs.evolve(CONFIG, dead_letter="http://letters", keep_answers=60.0)

    def setUp(self) -> None:
        super().setUp()
        self.pipeline.end()
        self.model = Model()
        self.begin()

    def calls(self) -> Any:
        return short(calls_for(self))

    def test_an_answer_and_its_delivery(self) -> None:
        self.post("p1")
        self.clock.advance(2)
        self.model.answer(attrs.evolve(ANSWER, usage={"prompt_tokens": 3}))
        self.clock.advance(0.5)
        self.target.answer()
        asked, sent = calls_for(self)
        expected = Attempt(Kind.ASK, 1, "model", NOON, 2.0, "answered", 200, None, "req-1")
        self.assertEqual(asked, expected)
        expected = Attempt(Kind.DELIVERY, 1, "target", NOON + 2, 0.5, "delivered", 202)
        self.assertEqual(sent, expected)
        self.assertEqual(self.successResultOf(self.journal.detail("p1")).input_tokens, 3)

    def test_what_is_tried_again(self) -> None:
        self.post("p1")
        self.clock.advance(1)
        self.model.answer(DOWN)
        self.pass_time(2)
        self.model.answer(LIMIT)
        self.pass_time(3)
        self.model.answer(SLOW)
        self.pass_time(5)
        self.model.answer()
        expected = [
            ("ask", 1, "model", "again", 500),
            ("ask", 2, "model", "again", 429),
            ("ask", 3, "model", "maybe_billed", None),
            ("ask", 4, "model", "answered", 200),
        ]
        self.assertEqual(self.calls(), expected)
        first = calls_for(self)[0]
        self.assertEqual((first.started, first.seconds), (NOON, 1.0))
        self.assertEqual((first.error, first.request_id), ("the model answered 500", "req-0"))

    def test_a_hold(self) -> None:
        self.post("p1")
        self.model.answer(KEY)
        self.assertEqual(self.calls(), [("ask", 1, "model", "hold", 401)])

    def test_a_prompt_that_can_t_succeed_and_its_dead_letter(self) -> None:
        self.post("p1")
        self.model.answer(REFUSED)
        self.clock.advance(1)
        self.dead_letters.answer(UNREACHED)
        self.pass_time(2)
        self.dead_letters.answer()
        expected = [
            ("ask", 1, "model", "failed", 400),
            ("dead_letter", 1, "dead_letter", "again", None),
            ("dead_letter", 2, "dead_letter", "delivered", 202),
        ]
        self.assertEqual(self.calls(), expected)
        letter = self.successResultOf(self.journal.detail("p1")).dead_letter
        self.assertEqual((letter.state, letter.attempts), ("delivered", 2))

    def test_deliveries_that_fail(self) -> None:
        self.post("p1")
        self.model.answer()
        self.target.answer(Transient("busy", status=503))
        self.pass_time(2)
        self.target.answer(REFUSED)
        expected = [
            ("ask", 1, "model", "answered", 200),
            ("delivery", 1, "target", "again", 503),
            ("delivery", 2, "target", "failed", 400),
        ]
        self.assertCountEqual(self.calls(), expected)

    def test_what_was_never_called_has_no_call(self) -> None:
        self.post("p1", deadline=self.clock.seconds() + 100, not_before=self.clock.seconds() + 101)
        self.clock.pump([1.0] * 110)
        self.assertEqual(self.states("p1"), ["failed"])
        self.assertEqual(self.calls(), [])

    def test_polls(self) -> None:
        self.post("p1")
        self.clock.advance(3)
        self.model.answer(Submitted("resp_1"))
        for result in (None, DOWN, Gone("gone", status=404), Lost("expired"), Submitted("resp_2")):
            self.wait_for_a_call()
            self.model.answer(result)
        for result in (Transient("slow"), ANSWER):
            self.wait_for_a_call()
            self.model.answer(result)
        expected = [
            ("ask", 1, "model", "submitted", None),
            ("poll", 2, "model", "again", 500),
            ("poll", 3, "model", "missing", 404),
            ("poll", 4, "model", "lost", None),
            ("ask", 2, "model", "submitted", None),
            ("poll", 5, "model", "again", None),
            ("poll", 6, "model", "answered", 200),
        ]
        self.assertEqual(self.calls(), expected)

    def wait_for_a_call(self) -> None:
        for _ in range(1000):
            if self.model.under_way:
                self.clock.advance(0.25)
                return
            self.clock.advance(0.25)
        self.fail("no call came")


class FallbackTests(RouteTestCase):
    def test_what_moved_on_is_kept_with_the_end_of_its_claim(self) -> None:
        self.post("p1")
        self.clock.advance(1)
        self.model.answer(DOWN)
        self.assertEqual(calls_for(self), [])  # the claim goes on
        self.clock.advance(2)
        self.second.answer()
        first, second = calls_for(self)
        self.assertEqual((first.peer, first.seconds, first.status), ("model", 1.0, 500))
        self.assertEqual((second.peer, second.seconds), ("model.second", 2.0))
        self.assertEqual((second.number, second.outcome), (2, "answered"))

    def test_both_that_failed(self) -> None:
        self.post("p1")
        self.model.answer(KEY)
        self.second.answer(REFUSED)
        expected = [
            ("ask", 1, "model", "hold", 401),
            ("ask", 2, "model.second", "failed", 400),
        ]
        self.assertEqual(short(calls_for(self)), expected)

    def test_one_that_submitted_it(self) -> None:
        self.post("p1")
        self.model.answer(LIMIT)
        self.second.answer(Submitted("resp_1"))
        expected = [
            ("ask", 1, "model", "again", 429),
            ("ask", 2, "model.second", "submitted", None),
        ]
        self.assertEqual(short(calls_for(self)), expected)


class FlexTests(RouteTestCase):
    config = attrs.evolve(CONFIG, flex_over=100.0)

    def test_the_tier_that_was_asked(self) -> None:
        self.begin(fallbacks=())
        self.post("p1", deadline=self.clock.seconds() + 1000, tier=Tier.FLEX)
        self.pass_time(3)
        self.model.answer(DOWN)
        self.assertEqual(short(calls_for(self)), [("ask", 1, "model.flex", "again", 500)])


class BatchTests(BatchingTestCase):
    def test_a_line_is_a_call_as_long_as_its_batch(self) -> None:
        self.send("good", "bad", "lost")
        opened = self.clock.seconds()
        self.live(20 * MINUTE)
        self.end_with(("good", ANSWER), ("bad", REFUSED), ("lost", Lost("expired")))
        told = [short(calls_for(self, name)) for name in ("good", "bad", "lost")]
        self.assertEqual(told[0], [("ask", 1, "model.batch", "answered", 200)])
        self.assertEqual(told[1], [("ask", 1, "model.batch", "failed", 400)])
        self.assertEqual(told[2], [("ask", 1, "model.batch", "lost", None)])
        for name in ("good", "bad", "lost"):
            (call,) = calls_for(self, name)
            self.assertLess(abs(call.started - opened), 10)
            self.assertGreater(call.seconds, 19 * MINUTE)

    def test_the_rest_of_a_batch(self) -> None:
        self.send("p1", seconds=DAY)
        self.end_with()
        self.assertEqual(short(calls_for(self)), [("ask", 1, "model.batch", "lost", None)])

    def test_one_that_can_t_be_written_was_not_called(self) -> None:
        self.batches.unwritable = "p1"
        self.send("p1")
        self.assertEqual(calls_for(self), [])
