"""Several providers in order, and the flex tier of the first, on a journal in a file."""

from collections.abc import Mapping
from typing import Any

import attrs
from twisted.internet.defer import Deferred

from chatgpt_source.config.fallbacks import Fallback
from chatgpt_source.config.secret import Secret
from chatgpt_source.errors import (
    NoRoom,
    PeerFailure,
    Permanent,
    PossiblyBilled,
    Transient,
)
from chatgpt_source.journal.pause import ASKING
from chatgpt_source.pipeline import NOTHING_RECOVERED, Pipeline
from chatgpt_source.prompt import Submitted, Tier
from chatgpt_source.telemetry.observer import AskEnded, Observer
from tests.contracts.driver import PEERS
from tests.pipeline.test_pipeline import CONFIG, Peer, PipelineTestCase

DOWN = Transient("down")
SLOW = PossiblyBilled("slow")
LIMIT = Transient("too many", status=429)
KEY = PeerFailure("wrong key", status=401)
REFUSED = Permanent("refused")


class Told(Observer):
    def __init__(self) -> None:
        self.ends: list[AskEnded] = []

    def asked(self, ended: AskEnded) -> None:
        self.ends.append(ended)


class RouteTestCase(PipelineTestCase):
    names = ("second",)

    def setUp(self) -> None:
        self.observer = self.told = Told()
        self.others: Mapping[str, Peer] = {name: Peer() for name in self.names}
        super().setUp()

    def recover(self, journal: Any, peers: Any = None) -> Any:
        ours = {f"model.{name}": "as before" for name in (*self.names, "flex")}
        return super().recover(journal, peers or {**PEERS, **ours})

    def begin(self, recovered: Any = NOTHING_RECOVERED, **changes: Any) -> None:
        settings = {"base_url": "http://other/v1", "token": Secret("t2")}
        fallbacks = tuple(Fallback(name, settings) for name in self.names)
        self.pipeline = Pipeline(
            self.clock,
            self.journal,
            attrs.evolve(self.config, **{"fallbacks": fallbacks, **changes}),
            self.model,
            {"target": lambda delivery: self.deliver(self.target, delivery)},
            lambda: 1.0,
            self.observer,
            fallbacks=self.others,
        )
        self.pipeline.start(recovered)
        self.addCleanup(self.pipeline.end)

    @property
    def second(self) -> Peer:
        return self.others["second"]

    def calls(self) -> list[int]:
        """How many calls each provider got so far."""
        return [len(peer.calls) for peer in (self.model, *self.others.values())]


class FallbackTests(RouteTestCase):
    def test_the_next_takes_over_at_once(self) -> None:
        for error in (DOWN, LIMIT, KEY):
            with self.subTest(error=error):
                self.begin()
                before = self.calls()
                self.post(f"p-{error}")
                self.model.answer(error)
                self.assertEqual(len(self.second.calls), before[1] + 1)
                self.second.answer()
                record = self.record(f"p-{error}")
                self.assertEqual((record.state.value, record.asks), ("answered", 2))
                self.pipeline.end()

    def test_each_call_is_told(self) -> None:
        self.post("p1")
        self.clock.advance(1)
        self.model.answer(DOWN)
        self.clock.advance(2)
        self.second.answer()
        told = [(end.provider, end.peer, end.ask.total, end.seconds) for end in self.told.ends]
        first, second = ("api.openai.com", "model", 1, 1.0), ("second", "model.second", 2, 2.0)
        self.assertEqual(told, [first, second])
        self.assertEqual(self.told.ends[0].wait, 0)

    def pause(self) -> None:
        self.successResultOf(Deferred.fromCoroutine(self.pipeline.pauses.pause(ASKING, "alice")))

    def test_none_while_asking_is_paused(self) -> None:
        self.begin(give_up_after=60.0)
        self.post("p1")
        self.clock.advance(61)
        self.pause()
        self.model.answer(DOWN)
        self.pass_time(5)
        self.assertEqual((self.calls(), self.states("p1")), ([1, 0], ["accepted"]))

    def test_what_goes_nowhere_else(self) -> None:
        self.post("p1", "p2")
        self.model.answer(REFUSED)
        self.model.answer(SLOW)
        self.assertEqual(self.calls(), [2, 0])
        self.assertEqual(self.states("p1", "p2"), ["failed", "accepted"])

    def test_after_a_timeout_if_the_settings_say_so(self) -> None:
        self.begin(fallback_after_timeout=True)
        self.post("p1")
        self.model.answer(SLOW)
        self.second.answer(REFUSED)
        self.assertEqual(self.states("p1"), ["failed"])
        self.assertEqual(self.used(), 1, "the first call may have been billed")

    def test_a_refusal_by_the_next_gives_the_unit_back(self) -> None:
        self.post("p1")
        self.model.answer(DOWN)
        self.second.answer(REFUSED)
        self.assertEqual((self.states("p1"), self.used()), (["failed"], 0))

    def test_one_that_failed_is_passed_over(self) -> None:
        self.post("p1")
        self.model.answer(DOWN)
        self.second.answer()
        self.post("p2", "p3")
        self.assertEqual(self.calls(), [1, 3])

    def test_one_that_failed_is_tried_again_and_goes_on(self) -> None:
        self.post("p1")
        self.model.answer(DOWN)
        self.second.answer()
        self.pass_time(1)
        self.post("p2", "p3")
        self.assertEqual(self.calls(), [2, 2])
        self.model.answer()
        self.second.answer()
        self.post("p4", "p5")
        self.assertEqual(self.calls(), [4, 2])

    def test_one_that_failed_is_not_tried_again_by_the_same_prompt(self) -> None:
        self.post("p1")
        self.model.answer(SLOW)
        self.pass_time(1.2)
        self.assertEqual(self.calls(), [1, 1])
        self.second.answer()
        self.post("p2")
        self.assertEqual(self.calls(), [2, 1])

    def test_one_that_failed_is_tried_again_by_the_same_prompt_if_no_other_is_well(self) -> None:
        self.post("p1", "p2")
        self.model.answer(SLOW)
        self.model.answer(DOWN)
        self.second.answer(DOWN)
        self.pass_time(1.2)
        self.assertEqual(self.calls(), [3, 2])

    def test_one_that_is_full_is_waited_for(self) -> None:
        self.post("p1", "p2", "p3")
        self.assertEqual(self.calls(), [2, 0])
        self.model.answer()
        self.assertEqual(self.calls(), [3, 0])

    def test_one_that_waited_for_long_is_asked_elsewhere_all_the_same(self) -> None:
        self.begin(give_up_after=10.0)
        self.post("p1")
        self.clock.advance(11)
        self.model.answer(DOWN)
        self.second.answer()
        self.assertEqual(self.states("p1"), ["answered"])

    def test_none_is_asked_after_its_deadline(self) -> None:
        self.post("p1", deadline=self.clock.seconds() + 10)
        self.clock.advance(11)
        self.model.answer(DOWN)
        self.assertEqual((self.calls(), self.states("p1")), ([1, 0], ["failed"]))
        self.assertIn("down", self.record("p1").error)

    def test_all_fail(self) -> None:
        self.post("p1")
        self.model.answer(DOWN)
        self.second.answer(DOWN)
        self.assertEqual(self.states("p1"), ["accepted"])
        self.assertEqual(self.record("p1").asks, 2)
        self.pass_time(1.2)
        self.assertEqual(self.calls(), [2, 1])

    def test_one_is_held_and_the_other_fails(self) -> None:
        self.post("p1")
        self.model.answer(DOWN)
        self.second.answer(KEY)
        self.assertFalse(self.told.ends[-1].held)
        self.pass_time(1.2)
        self.assertEqual(self.calls(), [2, 1])

    def test_all_are_held(self) -> None:
        self.post("p1")
        self.model.answer(KEY)
        self.second.answer(KEY)
        self.assertTrue(self.told.ends[-1].held)
        self.pass_time(20)
        self.assertEqual(self.calls(), [1, 1])
        self.pass_time(15)
        self.assertEqual(self.calls(), [2, 1])

    def test_who_stands_in(self) -> None:
        route = self.pipeline.route
        self.assertIsNone(route.stand_in(self.clock.seconds()))
        self.post("p1")
        self.model.answer(KEY)
        self.assertEqual(route.stand_in(self.clock.seconds()), "second")

    def test_a_submitted_one_is_polled_where_it_is(self) -> None:
        looked_up = Peer()
        self.second.look_up = lambda id_, _: looked_up.call(id_)  # type: ignore[attr-defined]
        self.post("p1")
        self.model.answer(DOWN)
        self.second.answer(Submitted("resp_1"))
        self.pass_time(1.2)
        self.assertEqual(looked_up.under_way, ["resp_1"])

    def test_a_submitted_one_whose_provider_was_removed_waits(self) -> None:
        self.post("p1")
        self.model.answer(DOWN)
        self.second.answer(Submitted("resp_1"))
        self.pipeline.end()
        self.begin(fallbacks=())
        self.pass_time(2)
        self.assertEqual(self.states("p1"), ["submitted"])
        self.assertIn("`second`", self.pipeline.missing_fallbacks["second"])
        self.assertIsNone(self.pipeline.polls.trouble)


class ThreeTests(RouteTestCase):
    names = ("second", "third")

    def test_in_order(self) -> None:
        self.post("p1")
        self.model.answer(DOWN)
        self.second.answer(KEY)
        self.others["third"].answer()
        self.assertEqual((self.states("p1"), self.record("p1").asks), (["answered"], 3))

    def test_the_second_is_waited_for_if_it_is_full(self) -> None:
        self.post("p1", "p2")
        self.model.answer(DOWN)
        self.model.answer(DOWN)
        self.post("p3")
        self.assertEqual(self.calls(), [2, 2, 0])
        self.pass_time(2.1)
        self.model.answer(DOWN)
        self.assertEqual(self.calls(), [3, 2, 0])


class FlexTests(RouteTestCase):
    names = ()
    config = attrs.evolve(CONFIG, flex_over=100.0, concurrency=2)

    def post_flex(self, name: str, seconds: float = 1000.0) -> None:
        self.post(name, tier=Tier.FLEX, deadline=self.clock.seconds() + seconds)

    def test_on_flex(self) -> None:
        self.post_flex("p1")
        self.post("p2")
        self.assertEqual(self.model.flex, [True, False])

    def test_no_room_throttles_flex_alone(self) -> None:
        self.post_flex("p1")
        self.model.answer(NoRoom("no room", status=429))
        self.post_flex("p2")
        self.assertEqual(self.model.flex, [True])
        self.post("p3", "p4")
        self.assertEqual(self.model.flex, [True, False, False])

    def test_a_rate_limit_throttles_both(self) -> None:
        self.post_flex("p1")
        self.model.answer(LIMIT)
        self.post("p2")
        self.assertEqual(self.model.flex, [True])

    def test_possibly_billed_goes_to_standard(self) -> None:
        self.post_flex("p1")
        self.model.answer(SLOW)
        self.pass_time(3)
        self.assertEqual(self.model.flex, [True, False])

    def test_near_its_deadline_goes_to_standard(self) -> None:
        self.post_flex("p1")
        self.clock.advance(950)
        self.model.answer(DOWN)
        self.pass_time(3)
        self.assertEqual(self.model.flex, [True, False])

    def test_a_tier_that_the_server_lacks_is_held_alone(self) -> None:
        self.post_flex("p1")
        self.model.answer(PeerFailure("`service_tier`: check `flex_over`", status=400))
        self.assertTrue(self.pipeline.breakers["model.flex"].held)
        self.assertFalse(self.pipeline.model.held)
        self.post_flex("p2")
        self.post("p3")
        self.assertEqual(self.model.flex, [True, False])

    def test_a_tier_that_others_have_fails_no_prompt(self) -> None:
        self.post_flex("p1")
        self.model.answer()
        self.post_flex("p2")
        self.model.answer(PeerFailure("`service_tier`: check `flex_over`", status=400))
        self.pass_time(3)
        self.assertEqual(self.states("p2"), ["accepted"])
        self.assertEqual(self.model.flex, [True, True, False])
