"""The two loops, on a real journal, with a clock and peers that do as the test says."""

import gc
import json
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs, formatEvent

from chatgpt_source.config import Config
from chatgpt_source.config.secret import Secret
from chatgpt_source.errors import (
    CallError,
    JournalUnavailable,
    NotTried,
    PeerFailure,
    Permanent,
    PossiblyBilled,
    Transient,
)
from chatgpt_source.journal import Admitted, Recovered, outcomes
from chatgpt_source.pipeline import NOTHING_RECOVERED, Pipeline
from chatgpt_source.pipeline.breaker import STREAK
from chatgpt_source.pipeline.worker import POLL_INTERVAL
from chatgpt_source.prompt import Delivery, State
from chatgpt_source.telemetry.observer import NO_OBSERVER, Observer
from tests.journal.common import ANSWER, JournalTestCase, prompt

UNAUTHORIZED = PeerFailure("the model answered 401: check `token`", status=401)
CONFIG = Config(target="http://target", token=Secret("t"), concurrency=2)


class Peer:
    """The far end of one kind of call: the test answers each when it likes."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, Deferred[Any]]] = []
        self.cancelled = 0
        self.fresh: list[bool] = []
        self.flex: list[bool] = []

    async def call(self, work: Any, *, fresh: bool = False, flex: bool = False) -> Any:
        waiting: Deferred[Any] = Deferred(self._cancel)
        self.fresh.append(fresh)
        self.flex.append(flex)
        self.calls.append((work, waiting))
        return await waiting

    ask = call

    async def receive(self, work: Any) -> int:
        """A call to a receiver of events: its HTTP status."""
        await self.call(work)
        return 202

    def _cancel(self, _: Deferred[Any]) -> None:
        self.cancelled += 1

    @property
    def under_way(self) -> list[Any]:
        return [work for work, waiting in self.calls if not waiting.called]

    def answer(self, result: Any = ANSWER) -> None:
        """End the oldest call that is under way."""
        waiting = next(waiting for _, waiting in self.calls if not waiting.called)
        if isinstance(result, Exception):
            waiting.errback(result)
        else:
            waiting.callback(result)


class PipelineTestCase(JournalTestCase):
    config = CONFIG
    observer: Observer = NO_OBSERVER

    def setUp(self) -> None:
        super().setUp()
        self.model, self.target, self.dead_letters = Peer(), Peer(), Peer()
        self.peers = {
            "target": self.target,
            **{name: Peer() for name in self.config.targets},
            "dead_letter": self.dead_letters,
        }
        self.begin()

    def begin(self, recovered: Recovered = NOTHING_RECOVERED, **changes: Any) -> None:
        self.pipeline = Pipeline(
            self.clock,
            self.journal,
            attrs.evolve(self.config, **changes),
            self.model,
            {
                name: partial(self.deliver, peer)
                for name, peer in self.peers.items()
                if name != "dead_letter" or self.config.dead_letter
            },
            lambda: 1.0,
            self.observer,
        )
        self.pipeline.start(recovered)
        self.addCleanup(self.pipeline.end)

    @staticmethod
    async def deliver(peer: Peer, delivery: Delivery) -> int:
        return await peer.receive(delivery.event)

    def post(self, *names: str, **parts: Any) -> None:
        for name in names:
            slot = self.pipeline.reserve()
            each = attrs.evolve(prompt(name, accepted=self.clock.seconds()), **parts)
            admitted = self.successResultOf(self.admit(each, claim=slot is not None))
            self.pipeline.accepted(slot, admitted)

    def states(self, *names: str) -> list[str]:
        return [self.record(name).state.value for name in names]

    def pass_time(self, seconds: float) -> None:
        """Let time pass in small steps, as it does."""
        self.clock.pump([0.05] * round(seconds / 0.05))


class AcceptedTests(PipelineTestCase):
    """What is asked in the slot that was kept for it while it was written."""

    def test_its_call_starts_once_it_is_on_disk(self) -> None:
        slot = self.pipeline.reserve()
        self.clock.advance(3)
        admitted = self.successResultOf(self.admit(prompt(), claim=True))
        self.pipeline.accepted(slot, admitted)
        self.assertEqual([each.id for each in self.model.under_way], ["p1"])
        self.assertEqual(slot.started, self.clock.seconds())

    def test_one_that_is_refused_leaves_its_slot(self) -> None:
        self.begin(concurrency=1)
        self.pipeline.accepted(self.pipeline.reserve(), None)
        self.post("p1")
        self.assertEqual([each.id for each in self.model.under_way], ["p1"])

    def test_one_that_came_before_leaves_its_slot_and_wakes_nobody(self) -> None:
        claims: list[int] = []
        claim = self.journal.claim_asks

        def counted(now: float, most: int) -> Any:
            claims.append(most)
            return claim(now, most)

        self.patch(self.journal, "claim_asks", counted)
        self.begin(concurrency=1)
        slot = self.pipeline.reserve()
        self.assertIsNotNone(slot)
        claims.clear()
        self.pipeline.accepted(slot, Admitted("p1", 1, repeated=True))
        self.assertEqual(claims, [])
        self.assertIsNotNone(self.pipeline.reserve())

    def test_without_a_slot_it_waits_for_one(self) -> None:
        self.begin(concurrency=1)
        self.post("p1", "p2")
        self.assertEqual([each.id for each in self.model.under_way], ["p1"])
        self.model.answer()
        self.clock.advance(0)
        self.assertEqual([each.id for each in self.model.under_way], ["p2"])

    def test_a_stop_in_between_leaves_it_to_the_next_start(self) -> None:
        slot = self.pipeline.reserve()
        admitted = self.successResultOf(self.admit(prompt(), claim=True))
        self.pipeline.end()
        self.pipeline.accepted(slot, admitted)
        self.assertEqual(self.model.under_way, [])


class Body:
    """What a peer sent."""


class MemoryTests(PipelineTestCase):
    """What a failed call has read is freed at once, not when Python next looks for cycles."""

    def setUp(self) -> None:
        self.bodies: list[weakref.ref[Body]] = []
        super().setUp()
        gc.disable()
        self.addCleanup(gc.enable)

    async def call_in_vain(self, _: object, **__: object) -> Any:
        body = Body()
        self.bodies.append(weakref.ref(body))
        try:
            json.loads("nonsense")
        except ValueError:
            raise Transient("the model answered nonsense") from None

    def test_asking(self) -> None:
        self.patch(self.model, "ask", self.call_in_vain)
        self.begin()
        self.post("p1")
        self.assertEqual([body() for body in self.bodies], [None])

    def test_delivering(self) -> None:
        self.patch(self.target, "receive", self.call_in_vain)
        self.begin()
        self.post("p1")
        self.model.answer()
        self.assertEqual([body() for body in self.bodies], [None])


class ClockTests(PipelineTestCase):
    def test_give_up_after_is_not_shortened_by_a_clock_that_is_set(self) -> None:
        self.begin(give_up_after=100.0)
        self.post("p1")
        self.clock.step(86400)
        self.model.answer(Transient("the model answered 500"))
        self.assertEqual(self.states("p1"), ["accepted"])
        self.clock.step(-2 * 86400)
        self.clock.advance(100)
        self.model.answer(Transient("the model answered 500"))
        self.assertEqual(self.states("p1"), ["failed"])

    def test_a_drain_delivers_what_was_answered_though_the_clock_is_set_back(self) -> None:
        self.post("p1", "p2", "p3", "p4")
        draining = Deferred.fromCoroutine(self.pipeline.drain())
        self.clock.step(-3600)
        for _ in range(2):
            self.model.answer()
        for _ in range(2):
            self.target.answer()
        self.successResultOf(draining)
        self.assertEqual(self.states("p1", "p2"), ["delivered"] * 2)


class SharedTests(PipelineTestCase):
    def test_a_drain_leaves_the_events_of_all_to_those_who_go_on(self) -> None:
        for is_shared, delivered in ((False, 2), (True, 1)):
            with self.subTest(is_shared=is_shared):
                self.journal.is_shared = is_shared
                self.begin(concurrency=1)
                names = [f"{is_shared} {number}" for number in range(2)]
                self.post(names[0])
                self.model.answer()
                self.post(names[1])
                self.model.answer()  # its event finds no slot
                draining = Deferred.fromCoroutine(self.pipeline.drain())
                for _ in range(delivered):
                    self.target.answer()
                    self.clock.advance(0)
                self.successResultOf(draining)
                self.assertEqual(self.states(*names).count("delivered"), delivered)


class WayTests(PipelineTestCase):
    def test_from_accepted_to_delivered(self) -> None:
        self.post("p1")
        self.assertEqual([each.id for each in self.model.under_way], ["p1"])
        self.model.answer()
        self.assertEqual(self.states("p1"), ["answered"])
        self.assertEqual(len(self.target.under_way), 1)
        self.assertIn(b'"content": "the answer"', self.target.under_way[0])
        self.target.answer()
        record = self.record("p1")
        self.assertEqual((record.state, record.asks, record.deliveries), (State.DELIVERED, 1, 1))

    def test_an_event_waits_for_no_slot_whose_delivery_is_over(self) -> None:
        self.patch(outcomes, "MOST_DELAY", 0.02)
        self.begin(concurrency=1)
        for name in ("p1", "p2", "p3"):
            self.post(name)
            self.model.answer()
        for number in range(1, 4):
            self.assertEqual((len(self.target.calls), len(self.target.under_way)), (number, 1))
            self.target.answer()
            self.clock.advance(0)

    def test_answered_is_on_disk_before_its_delivery_starts(self) -> None:
        seen: list[str] = []

        async def deliver(_event: bytes) -> None:
            seen.extend(self.states("p1"))

        self.target.call = deliver  # type: ignore[method-assign]
        self.pipeline.end()
        self.begin()
        self.post("p1")
        self.model.answer()
        self.assertEqual(seen, ["answered"])

    def test_takes_up_what_it_finds(self) -> None:
        self.accept(prompt("p1"), prompt("p2"))
        self.asks(1)
        self.answer("p1")
        self.pass_time(POLL_INTERVAL + 0.1)
        self.assertEqual([each.id for each in self.model.under_way], ["p2"])
        self.assertEqual(self.target.under_way, [b"the event"])

    def test_looks_again_without_being_told(self) -> None:
        self.accept(prompt("p1"))
        self.assertEqual(self.model.under_way, [])
        self.pass_time(POLL_INTERVAL + 0.1)
        self.assertEqual(len(self.model.under_way), 1)

    def test_no_more_than_concurrency_at_once(self) -> None:
        self.post("p1", "p2", "p3", "p4")
        self.assertEqual([each.id for each in self.model.under_way], ["p1", "p2"])
        self.model.answer()
        self.assertEqual([each.id for each in self.model.under_way], ["p2", "p3"])

    def test_a_slow_target_delays_neither_asking_nor_others(self) -> None:
        self.post("p1", "p2", "p3", "p4")
        for _ in range(4):
            self.model.answer()
        self.assertEqual(self.states("p1", "p2", "p3", "p4"), ["answered"] * 4)
        self.assertEqual(len(self.target.under_way), 2)
        self.target.answer()
        self.target.answer()
        self.assertEqual(len(self.target.under_way), 2)
        self.assertEqual(self.states("p1", "p2"), ["delivered"] * 2)

    def test_what_waits_holds_no_memory(self) -> None:
        self.post(*(f"p{n}" for n in range(50)))
        self.assertEqual(len(self.model.calls), 2)
        self.assertLessEqual(len(self.pipeline._asks.worker._tasks), 3)


class NotAnsweredTests(PipelineTestCase):
    def asks_fail(self, *errors: CallError) -> None:
        for error in errors:
            self.model.answer(error)

    def test_again_after_a_backoff(self) -> None:
        self.post("p1")
        self.asks_fail(Transient("the model answered 500", status=500))
        self.assertEqual(self.record("p1").error, "the model answered 500")
        self.pass_time(0.4)
        self.assertEqual(self.model.under_way, [])
        self.pass_time(0.15)
        self.assertEqual(len(self.model.under_way), 1)
        self.asks_fail(Transient("the model answered 500", status=500))
        self.pass_time(0.9)
        self.assertEqual(self.model.under_way, [])
        self.pass_time(0.15)
        self.assertEqual(self.record("p1").asks, 3)

    def test_as_long_as_the_model_asks(self) -> None:
        self.post("p1")
        self.asks_fail(Transient("the model answered 503", status=503, retry_after=7))
        self.pass_time(6.9)
        self.assertEqual(self.model.under_way, [])
        self.pass_time(0.2)
        self.assertEqual(len(self.model.under_way), 1)

    def test_gives_up(self) -> None:
        self.post("p1")
        self.clock.advance(CONFIG.give_up_after)
        self.asks_fail(Transient("the model answered 500", status=500))
        self.assertEqual(self.states("p1"), ["failed"])
        self.assertIn("give_up_after", self.record("p1").error)
        self.assertEqual(self.used(), 0)

    def test_gets_an_attempt_however_old(self) -> None:
        self.clock.advance(10 * CONFIG.give_up_after)
        self.accept(prompt("p1"))
        self.pass_time(POLL_INTERVAL + 0.1)
        self.model.answer()
        self.assertEqual(self.states("p1"), ["answered"])

    def test_maybe_billed_is_asked_three_times_at_most(self) -> None:
        self.post("p1")
        for _ in range(2):
            self.asks_fail(PossiblyBilled("no answer in time"))
            self.assertEqual(self.states("p1"), ["accepted"])
            self.pass_time(2.1)
        self.asks_fail(PossiblyBilled("no answer in time"))
        self.assertEqual(self.states("p1"), ["failed"])
        self.assertEqual(self.used(), 1)

    def test_one_call_that_may_have_been_billed_keeps_the_unit(self) -> None:
        self.post("p1", "p2")
        self.asks_fail(
            PossiblyBilled("no answer in time"), Transient("the model answered 500", status=500)
        )
        self.pass_time(0.6)
        self.asks_fail(*[Permanent("the model answered 400", status=400)] * 2)
        self.assertEqual(self.states("p1", "p2"), ["failed"] * 2)
        self.assertEqual(self.used(), 1)  # the first one's

    def test_after_maybe_billed_it_has_a_connection_of_its_own(self) -> None:
        self.post("p1")
        for error in (
            Transient("busy", status=503),
            PossiblyBilled("reset"),
            Transient("busy", status=503),
        ):
            self.asks_fail(error)
            self.pass_time(4.1)
        self.assertEqual(self.model.fresh, [False, False, True, True])

    def test_a_200_keeps_its_unit(self) -> None:
        self.post("p1")
        for _ in range(3):
            self.asks_fail(PossiblyBilled("not JSON", status=200))
            self.pass_time(2.1)
        self.assertEqual((self.states("p1"), self.used()), (["failed"], 1))

    def test_rejected_is_set_aside(self) -> None:
        self.post("p1", "p2")
        self.asks_fail(Permanent("the model answered 400", status=400))
        self.asks_fail(Permanent("the model refused", status=200))
        self.assertEqual(self.states("p1", "p2"), ["failed"] * 2)
        self.assertEqual(self.used(), 1)
        self.assertEqual(self.target.calls, [])

    def test_a_429_holds_back_every_ask(self) -> None:
        self.post("p1", "p2", "p3")
        self.asks_fail(Transient("the model answered 429", status=429, retry_after=5))
        self.model.answer()
        self.assertEqual(self.model.under_way, [])
        self.pass_time(4.9)
        self.assertEqual(self.model.under_way, [])
        self.pass_time(0.2)
        self.assertEqual([each.id for each in self.model.under_way], ["p3"])

    def test_what_nobody_foresaw_is_asked_three_times_at_most(self) -> None:
        self.post("p1")
        for _ in range(3):
            self.model.answer(ZeroDivisionError("a secret"))
            self.pass_time(2.1)
        self.assertEqual(self.states("p1"), ["failed"])
        self.assertNotIn("secret", self.record("p1").error)


class HoldTests(PipelineTestCase):
    def test_holds_all_and_probes_with_another(self) -> None:
        self.post("p1")
        self.model.answer(PeerFailure("the model answered 401", status=401))
        self.post("p2", "p3")
        self.assertEqual(self.states("p1", "p2", "p3"), ["accepted"] * 3)
        self.pass_time(29)
        self.assertEqual(self.model.under_way, [])
        self.pass_time(1.1)
        self.assertEqual([each.id for each in self.model.under_way], ["p2"])
        self.model.answer(PeerFailure("the model answered 401", status=401))
        self.pass_time(59)
        self.assertEqual(self.model.under_way, [])
        self.pass_time(1.1)
        (probe,) = self.model.under_way
        self.assertNotEqual(probe.id, "p2")
        self.model.answer()
        self.pass_time(POLL_INTERVAL + 0.1)
        self.assertEqual(self.model.under_way[0].id != probe.id, True)
        self.assertEqual(len(self.model.under_way), 2)

    def test_is_never_given_up(self) -> None:
        self.post("p1")
        self.clock.advance(10 * CONFIG.give_up_after)
        self.model.answer(PeerFailure("the model answered 401", status=401))
        self.assertEqual(self.states("p1"), ["accepted"])

    def test_singled_out_while_others_succeed(self) -> None:
        self.post("p1", "p2")
        self.pass_time(1)
        self.model.answer(PeerFailure("the model answered 403", status=403))
        self.assertEqual(self.states("p1"), ["accepted"])
        self.pass_time(1)
        self.model.answer()  # p2: the circuit closes again
        self.post("p3")
        self.model.answer()  # asked after p1 was held, and well
        self.pass_time(31)
        self.assertEqual([each.id for each in self.model.under_way], ["p1"])
        self.model.answer(PeerFailure("the model answered 403", status=403))
        self.assertEqual(self.states("p1"), ["failed"])
        self.assertIsNone(self.pipeline.model.trouble)

    def test_one_that_names_a_setting_of_ours_is_its_own(self) -> None:
        too_long = PeerFailure("the model answered 400 because of `max_tokens`", status=400)
        self.post("p0")
        self.model.answer()
        self.post("bad", "p1", "p2", "p3")
        self.model.answer(too_long)
        self.assertEqual(self.states("bad"), ["failed"])
        self.assertIn("while others succeed", self.record("bad").error)
        self.assertEqual([each.id for each in self.model.under_way], ["p1", "p2"])  # no delay
        self.assertIsNone(self.pipeline.model.trouble)
        self.assertEqual(self.used(), 4)

    def test_a_403_after_others_that_were_asked_before_is_asked_once_more(self) -> None:
        forbidden = PeerFailure("the model answered 403", status=403)
        self.post("p0")
        self.model.answer()
        self.post("bad", "p1")
        self.model.answer(forbidden)
        self.assertEqual(self.states("bad"), ["accepted"])
        self.model.answer()
        self.pass_time(0.6)
        self.model.answer(forbidden)
        self.assertEqual(self.states("bad"), ["failed"])
        self.assertFalse(self.pipeline.model.held)

    def test_a_model_that_changed_its_mind_fails_few(self) -> None:
        """A key that may no longer be used, say, a moment after the last success."""
        forbidden = PeerFailure("the model answered 403", status=403)
        self.post("p0")
        self.model.answer()
        names = [f"p{n}" for n in range(1, 90)]
        for name in names:
            self.post(name)
            self.pass_time(0.3)
            while self.model.under_way:
                self.model.answer(forbidden)
        self.assertTrue(self.pipeline.model.held)
        states = self.states(*names)
        self.assertLessEqual(states.count("failed"), 6)
        self.assertEqual(set(states), {"failed", "accepted"})

    def test_the_first_of_all(self) -> None:
        """Nothing shows yet that the model works: all are held, until a probe shows it."""
        too_long = PeerFailure("the model answered 400 because of `max_tokens`", status=400)
        self.post("bad")
        self.model.answer(too_long)
        self.assertTrue(self.pipeline.model.held)
        self.post(*(f"p{n}" for n in range(5)))
        self.pass_time(30.1)
        self.assertEqual([each.id for each in self.model.under_way], ["p0"])
        self.model.answer()
        for _ in range(5):
            self.pass_time(0.6)
            for each in list(self.model.under_way):
                self.model.answer(too_long if each.id == "bad" else ANSWER)
        self.assertEqual(self.states("bad", "p4"), ["failed", "answered"])
        self.assertFalse(self.pipeline.model.held)
        self.assertEqual(len([None for ask, _ in self.model.calls if ask.id == "bad"]), 2)

    def test_one_that_is_held_ends_once_others_succeed(self) -> None:
        """Also by a status that is never taken for its own fault; and it holds the others once."""
        blocked = PeerFailure("the model answered 405: check `base_url`", status=405)
        self.pipeline.end()
        self.begin(give_up_after=1000)
        self.post("bad")
        self.model.answer(blocked)
        opened = 0
        for n in range(95):
            self.post(f"p{n}")
            for _ in range(3):
                self.pass_time(0.7)
                for each in list(self.model.under_way):
                    self.model.answer(blocked if each.id == "bad" else ANSWER)
            opened += self.pipeline.model.held
            self.clock.advance(18)
            if self.states("bad") == ["failed"]:
                break
        self.assertIn("after `give_up_after`", self.record("bad").error)
        self.assertGreater(n, 45)
        self.assertLess(opened, 5)

    def test_calls_from_before_a_change_prove_nothing(self) -> None:
        """A model that is shut down answers 404 at once, and old calls well for a while."""
        self.post("p1", "p2")
        self.pass_time(1)
        self.model.answer(PeerFailure("the model answered 404", status=404))
        self.pass_time(1)
        self.model.answer()  # p2 was asked before
        for _ in range(5):
            self.pass_time(70)
            while self.model.under_way:
                self.model.answer(PeerFailure("the model answered 404", status=404))
        self.assertEqual(self.states("p1"), ["accepted"])

    def test_a_probe_that_is_singled_out_is_followed_by_another_in_time(self) -> None:
        self.post("p1")
        self.model.answer(PeerFailure("the model answered 401", status=401))
        self.pass_time(30.1)
        self.model.answer(Permanent("the model answered 400", status=400))
        self.post("p2")
        self.pass_time(20)
        self.assertEqual(self.model.under_way, [])

    def test_a_refusal_shows_that_the_model_works(self) -> None:
        self.post("p1")
        self.model.answer(PeerFailure("the model answered 401", status=401))
        self.post("p2")
        self.pass_time(30.1)
        self.model.answer(Permanent("the model refused", status=200))
        self.assertIsNone(self.pipeline.model.trouble)
        self.assertEqual(len(self.model.under_way), 1)

    def test_a_401_is_never_the_prompts_fault(self) -> None:
        self.post("p1", "p2")
        self.pass_time(1)
        second = self.model.calls[1][1]
        second.callback(ANSWER)
        self.model.answer(PeerFailure("the model answered 401", status=401))
        self.assertEqual(self.states("p1"), ["accepted"])


class TryNowTests(PipelineTestCase):
    def try_now(self, label: str = "model") -> str | None:
        """Try a peer; why that is refused."""

        async def trying() -> str | None:
            try:
                await self.pipeline.try_now(label)
            except NotTried as refusal:
                return str(refusal)
            return None

        told: str | None = self.successResultOf(Deferred.fromCoroutine(trying()))
        return told

    def test_a_mended_key_lets_all_flow_at_once(self) -> None:
        self.post(*(f"p{n}" for n in range(5)))
        for _ in range(6):  # all have met the hold, and are due only later
            self.model.answer(UNAUTHORIZED)
            self.pass_time(0.1)
            if not self.model.under_way:
                self.clock.advance(self.pipeline.model.opens_at - self.clock.seconds())
                self.pass_time(0.1)
        self.model.answer(UNAUTHORIZED)
        self.assertGreater(self.pipeline.model.opens_at - self.clock.seconds(), 300)
        self.assertIsNone(self.try_now())
        self.assertEqual(len(self.model.under_way), 1)
        for _ in range(5):
            self.model.answer()
            self.pass_time(0.1)
            while self.target.under_way:
                self.target.answer()
        self.assertEqual(self.states(*(f"p{n}" for n in range(5))), ["delivered"] * 5)

    def test_a_key_that_is_still_refused(self) -> None:
        self.post("p1")
        self.model.answer(UNAUTHORIZED)
        self.assertIsNone(self.try_now())
        self.assertEqual(self.try_now(), "a try of the model is under way: wait for its end")
        self.model.answer(UNAUTHORIZED)
        self.assertEqual(self.states("p1"), ["accepted"])
        self.pass_time(29)
        self.assertEqual(self.model.under_way, [])

    def test_events(self) -> None:
        self.post("p1", "p2")
        for _ in range(2):
            self.model.answer()
        for _ in range(2):
            self.target.answer(PeerFailure("the target answered 403", status=403))
        self.assertEqual(self.target.under_way, [])
        self.assertIsNone(self.try_now("target"))
        self.assertEqual(len(self.target.under_way), 1)
        self.target.answer()
        self.pass_time(0.1)
        self.target.answer()
        self.assertEqual(self.states("p1", "p2"), ["delivered"] * 2)

    def test_one_that_throttles(self) -> None:
        self.post("p1")
        self.model.answer(Transient("the model answered 429", status=429, retry_after=3600))
        self.pass_time(5)
        self.assertEqual(self.model.under_way, [])
        self.assertIsNone(self.try_now())
        self.assertEqual(len(self.model.under_way), 1)

    def test_what_one_whose_calls_pass_has_put_off(self) -> None:
        self.post("p1", "p2")
        for _ in range(2):
            self.model.answer()
        for _ in range(2):
            error = Transient("the target answered 503", status=503, retry_after=3600)
            self.target.answer(error)
        self.pass_time(60)
        self.assertEqual(self.target.under_way, [])
        self.assertIsNone(self.try_now("target"))
        for _ in range(2):
            self.target.answer()
        self.assertEqual(self.states("p1", "p2"), ["delivered"] * 2)

    def test_one_whose_calls_pass(self) -> None:
        self.assertEqual(
            self.try_now(), "the model is not held: its calls are made as they are due"
        )

    def test_what_nothing_waits_for_is_tried_with_what_comes(self) -> None:
        self.post("p1")
        self.model.answer(UNAUTHORIZED)
        self.successResultOf(self.journal.cancel("p1"))
        self.assertEqual(self.try_now(), "nothing waits for the model: send a prompt to try it")
        self.post("p2")
        self.assertEqual([each.id for each in self.model.under_way], ["p2"])


class NotDeliveredTests(PipelineTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.post("p1")
        self.model.answer()

    def test_again_with_the_same_bytes(self) -> None:
        self.target.answer(Transient("the target answered 500", status=500))
        self.assertEqual(self.states("p1"), ["answered"])
        self.pass_time(0.6)
        first, second = (event for event, _ in self.target.calls)
        self.assertEqual(first, second)
        self.target.answer()
        record = self.record("p1")
        self.assertEqual((record.state, record.deliveries), (State.DELIVERED, 2))

    def test_a_dead_target_is_called_at_its_pace(self) -> None:
        """Slow failures leave room for the next call before any of them ends."""
        self.pipeline.end()
        self.begin(concurrency=20)
        again = Transient("the target answered 503", status=503)
        self.post(*(f"q{n}" for n in range(STREAK + 20)))
        while self.model.under_way:
            self.model.answer()
            while self.target.under_way:
                self.target.answer(again)
            self.pass_time(0.1)
        calls = len(self.target.calls)
        self.pass_time(0.9)
        self.assertGreaterEqual(len(self.target.calls) - calls, 10)

    def test_rejected_keeps_the_unit(self) -> None:
        self.target.answer(Permanent("the target answered 400", status=400))
        self.assertEqual((self.states("p1"), self.used()), (["failed"], 1))
        self.assertEqual(len(self.model.calls), 1)

    def test_gives_up_after_the_answer(self) -> None:
        self.clock.advance(CONFIG.give_up_after)
        self.target.answer(Transient("the target answered 500", status=500))
        self.assertEqual(self.states("p1"), ["failed"])

    def test_an_event_is_singled_out_while_others_are_taken(self) -> None:
        refused = PeerFailure("the target answered 403", status=403)
        self.target.answer()
        self.post("bad")
        self.model.answer()
        self.target.answer(refused)
        self.post("p2", "p3")
        for _ in range(2):
            self.model.answer()
        self.pass_time(30.1)
        self.target.answer()
        self.pass_time(2.1)
        for each in list(self.target.under_way):
            self.target.answer(refused if b'"bad"' in each else None)
        self.assertEqual(self.states("bad", "p2", "p3"), ["failed", "delivered", "delivered"])
        self.assertFalse(self.pipeline.receivers["target"].held)

    def test_hold_stops_deliveries_alone(self) -> None:
        self.target.answer(PeerFailure("the target answered 410", status=410))
        self.post("p2")
        self.model.answer()
        self.assertEqual((self.target.under_way, self.states("p2")), ([], ["answered"]))
        self.pass_time(30.1)
        self.assertEqual(len(self.target.under_way), 1)
        self.assertIn(b'"p2"', self.target.under_way[0])

    def test_a_429_holds_back_its_own_event_alone(self) -> None:
        self.target.answer(Transient("the target answered 429", status=429, retry_after=60))
        self.post("p2")
        self.model.answer()
        self.target.answer()
        self.assertEqual(self.states("p1", "p2"), ["answered", "delivered"])


class AttemptsTests(PipelineTestCase):
    config = attrs.evolve(CONFIG, send_event_attempts=2)

    def test_no_more_attempts_than_allowed(self) -> None:
        self.post("p1")
        self.model.answer()
        for _ in range(2):
            self.assertEqual(self.states("p1"), ["answered"])
            self.target.answer(Transient("the target answered 500", status=500))
            self.pass_time(1)
        self.assertEqual(self.states("p1"), ["failed"])


class DeadLetterTests(PipelineTestCase):
    config = attrs.evolve(CONFIG, dead_letter="http://dead-letter")

    def dead_letter(self) -> Any:
        (sent,) = self.dead_letters.under_way
        return json.loads(sent)

    def test_of_a_prompt_that_was_not_answered(self) -> None:
        self.post("p1")
        self.model.answer(Permanent("the model answered 400", status=400))
        dead_letter = self.dead_letter()
        self.assertEqual(dead_letter["type"], "a-type.failed")
        self.assertNotEqual(dead_letter["id"], "p1")
        expected = {"prompt": "p1", "reason": "the model answered 400", "status": 400}
        self.assertEqual(dead_letter["data"], {"error": expected})
        self.dead_letters.answer(None)
        self.pass_time(70)
        self.assertEqual((len(self.dead_letters.calls), self.states("p1")), (1, ["failed"]))

    def test_of_an_event_that_was_not_delivered(self) -> None:
        self.post("p1")
        self.model.answer()
        event = json.loads(self.target.under_way[0])
        self.target.answer(Permanent("the target answered 400", status=400))
        dead_letter = self.dead_letter()
        added = {
            name: dead_letter.pop(name) for name in list(dead_letter) if name.startswith("knative")
        }
        self.assertEqual(dead_letter, event)
        self.assertEqual(
            added,
            {
                "knativeerrordest": "http://target",
                "knativeerrorcode": 400,
                "knativeerrordata": "the target answered 400",
            },
        )

    def test_again_with_the_same_bytes(self) -> None:
        self.post("p1")
        self.model.answer(Permanent("the model answered 400", status=400))
        self.dead_letters.answer(Transient("the target answered 500", status=500))
        self.pass_time(0.6)
        first, second = (dead_letter for dead_letter, _ in self.dead_letters.calls)
        self.assertEqual(first, second)

    def test_gives_up(self) -> None:
        self.post("p1")
        self.model.answer(Permanent("the model answered 400", status=400))
        self.clock.advance(CONFIG.give_up_after)
        self.dead_letters.answer(Transient("the target answered 500", status=500))
        self.pass_time(70)
        self.assertEqual(len(self.dead_letters.calls), 1)

    def test_its_receiver_delays_nobody(self) -> None:
        self.post("p1", "p2", "p3")
        for _ in range(3):
            self.model.answer(Permanent("the model answered 400", status=400))
        self.assertEqual(len(self.dead_letters.under_way), 2)
        self.post("p4")
        self.model.answer()
        self.target.answer()
        self.assertEqual(self.states("p4"), ["delivered"])


class FaultTests(PipelineTestCase):
    """A journal that can't be written for a while."""

    def setUp(self) -> None:
        super().setUp()
        self.real = self.journal._write
        self.broken = False
        self.journal._write = self.write

    def write(self, run: Callable[[Any], Any], *patience: float, **delay: float) -> Deferred[Any]:
        if self.broken:
            self.journal._executor._fault = "disk full"
            failed: Deferred[Any] = Deferred()
            failed.errback(JournalUnavailable("disk full", retry_after=1))
            return failed
        return self.real(run, *patience, **delay)

    def test_an_answer_is_kept_in_its_slot_until_it_can_be_written(self) -> None:
        self.post("p1", "p2", "p3")
        self.broken = True
        self.model.answer()
        self.model.answer()
        self.pass_time(10)
        self.assertEqual(len(self.model.calls), 2)  # nothing new is asked
        self.assertEqual(self.target.calls, [])
        self.broken = False
        self.pass_time(3)
        self.assertEqual(self.states("p1", "p2"), ["answered"] * 2)
        self.assertEqual(len(self.target.under_way), 2)
        self.assertEqual(len(self.model.calls), 3)

    def test_a_delivered_event_is_not_sent_again_meanwhile(self) -> None:
        self.post("p1")
        self.model.answer()
        self.broken = True
        self.target.answer(None)
        self.pass_time(10)
        self.assertEqual(len(self.target.calls), 1)
        self.broken = False
        self.pass_time(3)
        self.assertEqual(self.states("p1"), ["delivered"])
        self.assertEqual(len(self.target.calls), 1)

    def test_work_goes_on_when_it_heals(self) -> None:
        self.accept(prompt("p1"))
        self.broken = True
        self.pass_time(10)
        self.assertEqual(self.model.calls, [])
        self.broken = False
        self.pass_time(3)
        self.assertEqual(len(self.model.calls), 1)


class DrainTests(PipelineTestCase):
    def test_with_nothing_to_do(self) -> None:
        self.successResultOf(Deferred.fromCoroutine(self.pipeline.drain()))
        self.assertTrue(self.pipeline.draining)
        self.successResultOf(self.journal.close())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_finishes_what_is_under_way_and_claims_nothing_more(self) -> None:
        self.post("p1", "p2", "p3")
        drained = Deferred.fromCoroutine(self.pipeline.drain())
        self.model.answer()
        self.assertNoResult(drained)
        self.model.answer()
        self.assertEqual(len(self.model.calls), 2)
        self.target.answer()
        self.assertNoResult(drained)
        self.target.answer()
        self.successResultOf(drained)
        self.assertEqual(self.states("p1", "p2", "p3"), ["delivered"] * 2 + ["accepted"])

    def test_says_at_once_and_later_what_it_waits_for(self) -> None:
        with capturedLogs() as logged:
            self.post("p1", "p2")
            drained = Deferred.fromCoroutine(self.pipeline.drain())
            self.pass_time(0.1)
            self.model.answer()
            self.pass_time(6)
            self.model.answer()
            self.target.answer()
            self.target.answer()
            self.successResultOf(drained)
            self.pass_time(20)
        said = [text for text in map(formatEvent, logged) if text.startswith("stopping")]
        self.assertEqual(
            said,
            [
                "stopping: 2 calls under way, at most 8 s",
                "stopping: 2 calls under way, at most 3 s",  # one of them a delivery
            ],
        )

    def test_says_at_once_that_it_waits_for_nothing(self) -> None:
        with capturedLogs() as logged:
            self.successResultOf(Deferred.fromCoroutine(self.pipeline.drain()))
        self.assertIn("stopping: no calls under way", list(map(formatEvent, logged)))

    def test_answers_without_a_slot_get_their_attempt_too(self) -> None:
        self.post("p1", "p2")
        self.model.answer()
        self.model.answer()
        self.post("p3", "p4")  # the target's slots are full
        drained = Deferred.fromCoroutine(self.pipeline.drain())
        self.model.answer()
        self.model.answer()
        for _ in range(4):
            self.assertNoResult(drained)
            self.target.answer()
        self.successResultOf(drained)
        self.assertEqual(self.states("p1", "p2", "p3", "p4"), ["delivered"] * 4)

    def test_one_attempt_each(self) -> None:
        self.post("p1")
        drained = Deferred.fromCoroutine(self.pipeline.drain())
        self.model.answer()
        self.target.answer(Transient("the target answered 500", status=500))
        self.pass_time(2)
        self.successResultOf(drained)
        self.assertEqual(len(self.target.calls), 1)
        self.assertEqual(self.states("p1"), ["answered"])

    def test_what_waits_for_its_delivery_is_left_alone(self) -> None:
        self.post("p1")
        self.model.answer()
        self.target.answer(Transient("the target answered 500", status=500, retry_after=1))
        drained = Deferred.fromCoroutine(self.pipeline.drain())
        self.pass_time(2)
        self.successResultOf(drained)
        self.assertEqual(len(self.target.calls), 1)

    def test_a_target_that_fails_all_the_time_does_not_cost_an_attempt(self) -> None:
        again = Transient("the target answered 503", status=503, retry_after=600)
        self.post(*(f"q{n}" for n in range(STREAK)))
        for _ in range(STREAK):
            self.model.answer()
            self.target.answer(again)
            self.pass_time(0.1)
        self.post("p1", "p2")
        drained = Deferred.fromCoroutine(self.pipeline.drain())
        self.model.answer()
        self.model.answer()
        self.assertEqual(len(self.target.under_way), 2)
        self.target.answer(again)
        self.target.answer(again)
        self.successResultOf(drained)

    def test_a_circuit_that_is_open_does_not_delay_it(self) -> None:
        self.post("p1")
        self.model.answer()
        self.target.answer(PeerFailure("the target answered 410", status=410))
        self.post("p2")
        drained = Deferred.fromCoroutine(self.pipeline.drain())
        self.model.answer()
        self.successResultOf(drained)
        self.assertEqual(self.states("p1", "p2"), ["answered"] * 2)

    def test_a_defect_does_not_leave_calls_under_way(self) -> None:
        async def broken() -> None:
            raise KeyError("MARKED")

        self.post("p1")
        self.patch(self.pipeline, "_drained", broken)
        self.failureResultOf(Deferred.fromCoroutine(self.pipeline.drain()), KeyError)
        self.assertEqual(self.model.cancelled, 1)
        self.successResultOf(self.journal.close())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_no_longer_than_drain_timeout(self) -> None:
        self.post("p1", "p2")
        self.model.answer()
        drained = Deferred.fromCoroutine(self.pipeline.drain())
        self.pass_time(CONFIG.drain_timeout - 0.1)
        self.assertNoResult(drained)
        self.pass_time(0.2)
        self.successResultOf(drained)
        self.assertEqual((self.model.cancelled, self.target.cancelled), (1, 1))
        self.assertEqual(self.states("p1", "p2"), ["answered", "accepted"])
        self.successResultOf(self.journal.close())
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.crash()
        self.assertEqual(self.asks().claimed[0].prompt.id, "p2")
        self.assertEqual(self.deliveries().claimed[0].id, "p1")
