"""How the last prompts ended: when that is a trouble, in which words, and when no longer."""

from zoneinfo import ZoneInfo

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.intake.recent import MOST, WINDOW, Recent
from chatgpt_source.journal import End
from chatgpt_source.prompt import State
from tests.journal.common import NOON
from tests.telemetry.outcomes import ended, tell

REFUSED = "the target answered 400: it refuses this event"
GAVE_UP = "the model answered 503 (after `give_up_after`)"
UTC = ZoneInfo("UTC")


class RecentTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(NOON)
        self.recent = Recent(self.clock)
        self.ended = 0

    def end(self, *errors: str | None) -> None:
        for error in errors:
            state = State.FAILED if error else State.DELIVERED
            name = f"p{self.ended}"
            self.ended += 1
            tell(self.recent, ended(State.ANSWERED, name=name))
            tell(self.recent, ended(state, error, name=name))

    def trouble(self) -> str | None:
        return self.recent.trouble(UTC)

    def test_nothing_has_ended(self) -> None:
        self.assertEqual((self.recent.tried, self.trouble()), (False, None))
        self.assertEqual(self.recent.ratio(), 0.0)

    def test_how_many_are_too_many(self) -> None:
        for failed, delivered, expected in (
            (0, 1, False),
            (1, 0, True),  # nothing works, as far as anybody knows
            (1, 1, True),
            (1, 2, False),
            (2, 2, True),
            (2, 1, True),
            (2, 3, False),
            (3, 4, True),
            (3, 26, True),
            (3, 27, False),  # one in ten
            (10, 90, False),
            (11, 89, True),
        ):
            self.setUp()
            self.end(*[None] * delivered, *[REFUSED] * failed)
            self.assertEqual(self.trouble() is not None, expected, (failed, delivered))
            self.assertAlmostEqual(self.recent.ratio(), failed / (failed + delivered))
            self.assertTrue(self.recent.tried)

    def test_words(self) -> None:
        self.end(None, None)
        self.clock.advance(60)
        self.end(*[REFUSED] * 4, *[GAVE_UP] * 3)
        self.assertEqual(
            self.trouble(),
            "7 of the last 9 prompts failed since 12:01 (most often: the target answered 400):"
            " see `chatgpt-source-journal list`",
        )

    def test_words_of_one(self) -> None:
        self.end(GAVE_UP)
        self.assertEqual(
            self.trouble(),
            "the last prompt failed at 12:00 (the model answered 503):"
            " see `chatgpt-source-journal list`",
        )

    def test_since_it_began_however_long_that_is(self) -> None:
        for _ in range(100):
            self.end(REFUSED, REFUSED)
            self.clock.advance(60)
        self.assertIn("since 12:00", self.trouble() or "")

    def test_is_over_when_enough_succeed(self) -> None:
        self.end(*[REFUSED] * 504)
        self.assertIn("100 of the last 100", self.trouble() or "")
        self.end(*[None] * (MOST - 10))
        self.assertIsNone(self.trouble())

    def test_is_over_when_it_is_long_ago(self) -> None:
        self.end(*[REFUSED] * 5)
        self.clock.advance(WINDOW)
        self.assertIsNotNone(self.trouble())
        self.clock.advance(1)
        self.assertIsNone(self.trouble())
        self.assertEqual(self.recent.ratio(), 0.0)
        self.assertTrue(self.recent.tried)
        self.end(*[REFUSED] * 3)
        self.assertIn("since 12:15", self.trouble() or "")

    def test_what_is_taken_up_again_has_not_failed(self) -> None:
        self.end(*[REFUSED] * 3)
        for n in range(3):
            self.recent.redriven(prompt_id=f"p{n}", state=State.ANSWERED)
        self.assertIsNone(self.trouble())

    def test_goes_on_after_a_restart(self) -> None:
        self.end(None)
        ends = [End(f"old{n}", State.FAILED, NOON - n, REFUSED) for n in range(300)]
        self.recent.seed([End("p0", State.DELIVERED, NOON), *ends])
        self.assertIn("99 of the last 100 prompts failed since 11:58", self.trouble() or "")
        self.end(None)
        self.assertIn("98 of the last 100", self.trouble() or "")
