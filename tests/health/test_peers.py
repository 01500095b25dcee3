"""A peer that does not work: level, words, and whether it can be tried now."""

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.health.peers import Peer, of_peer
from chatgpt_source.health.trouble import Level, Trouble
from chatgpt_source.journal import MOST_COUNTED, Waiting
from tests.health.test_trouble import TIMES
from tests.journal.common import NOON

HELD = "the model answered 401 (invalid_api_key): check `token`"
AGAIN = "the target can't be reached: connection refused"


class PeerTests(SynchronousTestCase):
    def of(self, reason: str, **known: Any) -> Trouble:
        return of_peer(Peer("model", "openai", reason, **known), TIMES)

    def held(self, **known: Any) -> Trouble:
        return self.of(HELD, held=True, opens_at=NOON + 30, since=NOON - 60, **known)

    def test_level(self) -> None:
        for known, level in (
            ({}, Level.AMBER),
            ({"held": True}, Level.RED),
            ({"held": True, "stand_in": "another is asked"}, Level.AMBER),
        ):
            self.assertEqual(self.of(HELD, **known).level, level, known)

    def test_one_that_is_down_is_red_while_something_waits_for_it(self) -> None:
        for waiting, calls, stand_in, level in (
            (Waiting(1), 0, None, Level.RED),
            (None, 0, None, Level.RED),
            (Waiting(), 1, None, Level.RED),
            (Waiting(), 0, None, Level.AMBER),
            (Waiting(1), 0, "another is asked", Level.AMBER),
        ):
            known = {"waiting": waiting, "under_way": calls, "stand_in": stand_in}
            trouble = self.of("the model answered 503", is_down=True, **known)
            self.assertEqual(trouble.level, level, known)
        told = self.of("the model answered 503", is_down=True, waiting=Waiting(1)).advice
        self.assertEqual(told, "see what ails the provider; it is tried again by itself")

    def test_whether_calls_that_are_due_wait(self) -> None:
        for known, holds in (
            ({}, False),
            ({"held": True}, True),
            ({"held": True, "stand_in": "another is asked"}, False),
            ({"opens_at": NOON + 60}, True),
        ):
            self.assertEqual(self.of(HELD, **known).holds, holds, known)

    def test_nothing_is_tried_where_nothing_waits(self) -> None:
        trouble = self.held(waiting=Waiting())
        self.assertEqual((trouble.next_try, trouble.peer), (None, None))
        self.assertEqual(trouble.advice, "check `token`; the next prompt tries it")
        again = self.of(AGAIN, waiting=Waiting(), names="event", ails="`target`")
        self.assertTrue(again.advice.startswith("the next event tries it; if it lasts, see what"))
        probed = self.held(waiting=Waiting(), under_way=1)
        self.assertEqual((probed.next_try, probed.peer), (NOON + 30, "model"))

    def test_one_that_is_held(self) -> None:
        trouble = self.held(waiting=Waiting(12, NOON - 60))
        self.assertEqual(trouble.what, "the model answered 401 (invalid_api_key)")
        self.assertEqual(trouble.advice, "check `token`; then try it now")
        self.assertEqual((trouble.since, trouble.next_try), (NOON - 60, NOON + 30))
        self.assertEqual(trouble.meaning, "12 prompts wait, and none fails meanwhile")
        self.assertEqual((trouble.check, trouble.peer), ("openai", "model"))

    def test_one_that_is_called_on(self) -> None:
        waiting = Waiting(1, NOON - 60, due=NOON + 7)
        trouble = self.of(AGAIN, waiting=waiting, ails="`target`", names="event")
        self.assertEqual(trouble.what, AGAIN)
        told = "; if it lasts, see what ails `target`, or the way to it, and whether its address"
        self.assertIn(told, trouble.advice)
        answered = self.of("the model answered 503", waiting=waiting)
        self.assertTrue(answered.advice.endswith("see what ails the provider"), answered.advice)
        self.assertEqual((trouble.peer, trouble.next_try), ("model", NOON + 7))
        self.assertEqual(
            trouble.meaning,
            "1 event waits; each is tried for 1 d, the first until 2027-01-16 12:59",
        )

    def test_how_many_and_until_when(self) -> None:
        deadline = Waiting(2, None, NOON + 3600)
        for held, waiting, expected in (
            (True, None, "the prompts wait"),
            (True, Waiting(), "no prompt waits for it now"),
            (True, Waiting(1), "1 prompt waits, and none fails meanwhile"),
            (True, Waiting(MOST_COUNTED), "1,000 prompts or more wait, and none fails meanwhile"),
            (True, deadline, "2 prompts wait, and none fails before its deadline; the first"),
            (False, deadline, "2 prompts wait; the first deadline is at 14:00"),
            (False, Waiting(2, NOON, NOON + 60), "1 d, the first until 2027-01-16 13:00; the fi"),
        ):
            told = self.of(HELD, held=held, waiting=waiting).meaning
            self.assertIn(expected, told)

    def test_what_is_called_for_does_not_wait(self) -> None:
        for calls, expected in ((1, "1 call is under way"), (2, "2 calls are under way")):
            told = self.of(AGAIN, waiting=Waiting(), under_way=calls).meaning
            self.assertEqual(told, expected)

    def test_no_more_often_than_allowed(self) -> None:
        told = self.of(AGAIN, waiting=Waiting(1, NOON), attempts=5).meaning
        self.assertIn("each is tried for 1 d or 5 times", told)

    def test_one_that_throttles_for_long_can_be_tried(self) -> None:
        for seconds, peer in ((1, None), (3600, "model")):
            trouble = self.of("the model answered 429", opens_at=NOON + seconds)
            self.assertEqual(trouble.peer, peer)
            self.assertEqual(trouble.next_try, NOON + seconds if peer else None)

    def test_who_is_meant_and_who_stands_in(self) -> None:
        told = self.held(who="the fallback `b`: ", stand_in="prompts go to the model")
        self.assertTrue(told.what.startswith("the fallback `b`: the model answered 401"))
        self.assertEqual(told.meaning, "prompts go to the model")
