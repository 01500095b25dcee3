"""How long a commit may wait for others."""

from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.journal import Answered, Delivered
from chatgpt_source.journal.attempts import Attempt, Kind
from chatgpt_source.prompt import Answer


def answered(*seconds: float) -> Answered:
    calls = [Attempt(Kind.ASK, 1, "model", 0.0, each, "answered") for each in seconds]
    return Answered(Answer("an answer"), b"", calls=calls)


class CommitDelayTests(SynchronousTestCase):
    def test_an_answer_is_late_by_a_small_part_of_its_call(self) -> None:
        self.assertAlmostEqual(answered(0.25).commit_delay, 0.01)
        self.assertAlmostEqual(answered(60.0, 0.05).commit_delay, 0.002)

    def test_it_has_its_bound(self) -> None:
        self.assertEqual(answered(60.0).commit_delay, 0.02)

    def test_one_that_no_call_brought_is_not_late(self) -> None:
        self.assertEqual(answered().commit_delay, 0.0)

    def test_a_delay_that_no_timer_can_keep_is_none(self) -> None:
        self.assertEqual(answered(0.02).commit_delay, 0.0)
        self.assertGreaterEqual(answered(0.026).commit_delay, 0.001)

    def test_the_record_of_a_delivery_is_late_unless_its_slot_is_needed(self) -> None:
        self.assertEqual(Delivered().commit_delay, 0.02)
        self.assertEqual(Delivered(is_last_slot=True).commit_delay, 0.0)
