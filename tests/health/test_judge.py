"""What is judged of a daemon: its peers, what was not tried, and since when."""

from typing import Any

import attrs
from twisted.internet.defer import Deferred, succeed

from chatgpt_source.config import TargetSettings
from chatgpt_source.errors import JournalUnavailable, PeerFailure, PossiblyBilled, Transient
from chatgpt_source.health.trouble import Judgement, Level, Trouble
from chatgpt_source.journal import Waiting
from chatgpt_source.pipeline.breaker import Breaker
from chatgpt_source.pipeline.peers import peers_of
from chatgpt_source.pipeline.route import Route, Stop
from tests.admin.common import AdminTestCase
from tests.journal.common import NOON

UNAUTHORIZED = PeerFailure("the model answered 401: check `token`", status=401)
DOWN = Transient("it can't be reached: connection refused")


class JudgeTestCase(AdminTestCase):
    config = attrs.evolve(
        AdminTestCase.config,
        everyday_limit=100,
        flex_over=3600.0,
        targets={"billing": TargetSettings("http://billing")},
    )

    def recover(self, journal: Any, peers: Any = None) -> Any:
        return super().recover(journal, peers or peers_of(self.config))

    def judge(self) -> Judgement:
        judging = self.intake.health.judge.judge()
        return self.successResultOf(Deferred.fromCoroutine(judging))

    def one(self) -> Trouble:
        (trouble,) = self.judge().troubles
        return trouble

    def call_fails(self, breaker: Breaker, error: Any = UNAUTHORIZED) -> None:
        now = self.clock.seconds()
        call = breaker.start(now)
        breaker.failed(call, error, now, shared=True)
        breaker.end(call)


class LevelTests(JudgeTestCase):
    def test_what_was_not_tried(self) -> None:
        self.assertEqual(self.judge().headline, "Nothing tried yet")
        self.ask()
        self.model.answer()
        self.assertEqual(self.judge().headline, "The target was not tried yet")
        self.target.answer()
        self.assertEqual(self.judge().level, Level.GREEN)

    def test_a_date_for_what_has_none_is_when_it_was_first_seen(self) -> None:
        self.pipeline.missing["gone"] = "events wait for the target `gone`: put it back"
        self.assertEqual(self.one().since, NOON)
        self.clock.advance(60)
        self.assertEqual(self.one().since, NOON)
        del self.pipeline.missing["gone"]
        self.assertEqual([*self.judge().troubles], [])
        self.pipeline.missing["gone"] = "events wait for the target `gone`: put it back"
        self.assertEqual(self.one().since, NOON + 60)

    def test_a_pause_of_a_target_with_a_typo(self) -> None:
        pauses = self.pipeline.pauses
        for what, told in (("target.billing", "its events wait"), ("target.biling", "no target")):
            self.successResultOf(Deferred.fromCoroutine(pauses.pause(what, "me")))
            self.assertIn(told, self.one().meaning)
            self.successResultOf(Deferred.fromCoroutine(pauses.resume(what, "me")))

    def test_the_counts_by_which_it_was_judged(self) -> None:
        self.ask()
        self.judge()
        tally = self.intake.health.judge.counted.tally
        assert tally is not None
        self.assertEqual(tally.used, 1)


class PeersTests(JudgeTestCase):
    def test_each_has_its_check_and_its_words(self) -> None:
        breakers = self.pipeline.breakers
        for label, check, ails in (
            ("model", "openai", "the provider"),
            ("model.flex", "openai.flex", "the provider"),
            ("target", "target", "the target"),
            ("target.billing", "target.billing", "the target `billing`"),
            ("dead_letter", "dead_letter", "the dead letter's receiver"),
        ):
            self.call_fails(breakers[label], DOWN)
            trouble = self.one()
            self.assertEqual((trouble.check, trouble.level), (check, Level.AMBER))
            self.assertIn(f"see what ails {ails}", trouble.advice)
            breakers[label].forgive()

    def test_what_waits_for_all_is_read_at_once(self) -> None:
        peers = ["model", "target", "target.billing", "dead_letter"]
        for label in peers:
            self.call_fails(self.pipeline.breakers[label], DOWN)
        asked: list[Deferred[Waiting]] = []

        def waiting(*_: object) -> Deferred[Waiting]:
            asked.append(Deferred())
            return asked[-1]

        self.patch(self.journal, "waiting", waiting)
        judging = Deferred.fromCoroutine(self.intake.health.judge.judge())
        self.assertEqual(len(asked), len(peers))  # a slow journal delays /readyz by one turn
        asked[0].errback(JournalUnavailable("it is slow", retry_after=1))
        for each in asked[1:]:
            each.callback(Waiting(7))
        meanings = [each.meaning for each in self.successResultOf(judging).troubles]
        self.assertEqual(
            [each[:7] for each in meanings], ["the pro"] + ["7 event"] * 2 + ["7 dead "]
        )

    def test_what_waits(self) -> None:
        self.call_fails(self.pipeline.breakers["dead_letter"], DOWN)
        self.assertEqual(self.one().meaning, "no dead letter waits for it now")
        self.pipeline.breakers["dead_letter"].start(self.clock.seconds())
        self.assertEqual(self.one().meaning, "1 call is under way")

    def test_calls_that_have_failed_for_long(self) -> None:
        """An outage of some minutes passes; a long one needs an operator."""
        self.ask()
        levels = []
        for _ in range(17):
            self.model.answer(DOWN)
            levels.append(self.one().level)
            self.clock.advance(60)
        self.assertEqual(levels, [Level.AMBER] * 15 + [Level.RED] * 2)
        pauses = self.pipeline.pauses
        self.successResultOf(Deferred.fromCoroutine(pauses.pause("asking", "an operator")))
        self.assertEqual({each.level for each in self.judge().troubles}, {Level.AMBER})
        self.successResultOf(Deferred.fromCoroutine(pauses.resume("asking", "an operator")))
        self.assertEqual(self.one().level, Level.AMBER)  # it has not failed for long since then
        self.clock.advance(900)
        self.model.answer(DOWN)
        self.assertEqual(self.one().level, Level.RED)
        self.clock.advance(60)
        self.model.answer()
        self.assertEqual(self.judge().level, Level.UNKNOWN)

    def test_calls_that_are_paused(self) -> None:
        """They are tried neither by themselves nor now, and no time runs out meanwhile."""
        pauses = self.pipeline.pauses
        self.ask()
        self.model.answer(DOWN)
        self.call_fails(self.pipeline.breakers["target"])
        for what in ("asking", "target"):
            self.successResultOf(Deferred.fromCoroutine(pauses.pause(what, "me")))
        told = {each.check: each for each in self.judge().troubles if each.check != "paused"}
        self.assertEqual({each.next_try for each in told.values()}, {None})
        self.assertEqual({each.peer for each in told.values()}, {None})
        self.assertEqual(told["openai"].meaning, "1 prompt waits")
        self.assertEqual(
            told["openai"].advice,
            "it is tried again once `asking` is resumed; if it lasts, see what ails the provider,"
            " or the way to it, and whether its address is right",
        )
        self.assertEqual(told["target"].advice, "check `token`; then resume `target`")

    def test_a_failure_long_ago_says_nothing_of_a_call_now(self) -> None:
        self.call_fails(self.pipeline.model, DOWN)
        self.clock.advance(3600)
        self.ask()
        self.assertEqual(self.one().level, Level.AMBER)
        self.model.answer(DOWN)
        self.assertEqual(self.one().level, Level.RED)

    def test_one_that_forbids_calls_for_long(self) -> None:
        self.ask()
        self.model.answer(Transient("the model answered 429", status=429, retry_after=3600))
        self.clock.advance(899)
        self.assertEqual(self.one().level, Level.AMBER)
        self.clock.advance(1)
        self.assertEqual(self.one().level, Level.RED)

    def test_calls_that_may_have_been_billed_are_few(self) -> None:
        self.ask()
        for error, told in (
            (PossiblyBilled("the model did not answer: no answer in time"), "for 1 d or 3 times"),
            (DOWN, "for 1 d, the first"),
        ):
            self.model.answer(error)
            self.assertIn(told, self.one().meaning)
            self.clock.advance(5)

    def test_a_tier_that_is_held_while_the_model_works(self) -> None:
        self.call_fails(self.pipeline.breakers["model.flex"])
        trouble = self.one()
        self.assertEqual((trouble.level, trouble.check), (Level.AMBER, "openai.flex"))
        self.assertIsNone(trouble.peer)  # nothing waits that it could be tried with
        self.assertIn("move to the standard tier in time", trouble.meaning)
        pauses = self.pipeline.pauses
        self.successResultOf(Deferred.fromCoroutine(pauses.pause("asking", "me")))
        told = {each.check: each.meaning for each in self.judge().troubles}
        self.assertEqual(told["openai.flex"], "no prompt waits for it now")
        self.successResultOf(Deferred.fromCoroutine(pauses.resume("asking", "me")))
        self.call_fails(self.pipeline.model)
        levels = {each.check: each.level for each in self.judge().troubles}
        self.assertEqual(levels, {"openai": Level.RED, "openai.flex": Level.RED})

    def test_a_fallback_that_is_held(self) -> None:
        second = Breaker("the fallback `second`", 1, lambda: 1.0)
        stops = [Stop(None, self.model, self.pipeline.model)]
        self.pipeline.route = Route([*stops, Stop("second", self.model, second, "model.second")])
        self.pipeline._asks = attrs.evolve(self.pipeline._asks, route=self.pipeline.route)
        self.call_fails(second)
        trouble = self.one()
        self.assertEqual((trouble.level, trouble.check), (Level.AMBER, "openai.second"))
        self.assertTrue(trouble.what.startswith("the fallback `second`: the model answered 401"))
        self.assertEqual(trouble.meaning, "prompts go to the model")
        self.recover_gradually(self.pipeline.model)
        self.assertEqual(self.one().level, Level.AMBER)

    def test_both_lines_say_how_long_prompts_are_tried(self) -> None:
        own, second = self.pipeline.model, Breaker("the fallback `second`", 1, lambda: 1.0)
        stops = [Stop(None, self.model, own), Stop("second", self.model, second, "model.second")]
        self.pipeline.route = Route(stops)
        self.pipeline._asks = attrs.evolve(self.pipeline._asks, route=self.pipeline.route)
        self.patch(self.journal, "waiting", lambda *_: succeed(Waiting(1, self.clock.seconds())))
        billed = PossiblyBilled("no answer in time")
        for first, other, told in (
            (UNAUTHORIZED, DOWN, "1 prompt waits; each is tried for 1 d, the first until "),
            (DOWN, UNAUTHORIZED, "1 prompt waits; each is tried for 1 d, the first until "),
            (
                UNAUTHORIZED,
                billed,
                "1 prompt waits; each is tried for 1 d or 3 times, the first until ",
            ),
            (
                billed,
                UNAUTHORIZED,
                "1 prompt waits; each is tried for 1 d or 3 times, the first until ",
            ),
            (UNAUTHORIZED, UNAUTHORIZED, "1 prompt waits, and none fails meanwhile"),
        ):
            self.call_fails(own, first)
            self.call_fails(second, other)
            troubles = self.judge().troubles
            self.assertEqual({each.check for each in troubles}, {"openai", "openai.second"})
            for each in troubles:
                self.assertTrue(each.meaning.startswith(told), each)
                self.assertEqual(each.holds, first is other)  # else it is asked at the other
            for breaker in (own, second):
                breaker.succeeded(breaker.start(0.0), 0.0)

    def test_a_fallback_that_recovers_stands_in(self) -> None:
        second = Breaker("the fallback `second`", 4, lambda: 1.0)
        stops = [Stop(None, self.model, self.pipeline.model)]
        self.pipeline.route = Route([*stops, Stop("second", self.model, second, "model.second")])
        self.recover_gradually(second)
        self.call_fails(self.pipeline.model)
        trouble = self.judge().troubles[0]
        self.assertEqual(trouble.level, Level.AMBER)
        self.assertIn("`second` is asked in its place", trouble.meaning)

    def recover_gradually(self, breaker: Breaker) -> None:
        """It has throttled, and then answered a first call."""
        self.call_fails(breaker, Transient("429", status=429, retry_after=1.0))
        self.clock.advance(2)
        call = breaker.start(self.clock.seconds())
        breaker.succeeded(call, self.clock.seconds())
        breaker.end(call)
        breaker.limit += 2

    def test_look_ups_that_fail(self) -> None:
        self.call_fails(self.pipeline.polls, Transient("submitted prompts can't be looked up: no"))
        trouble = self.one()
        self.assertEqual((trouble.check, trouble.level), ("openai", Level.AMBER))
        self.assertEqual(trouble.meaning, "their answers wait at the provider")
