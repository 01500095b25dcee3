"""How the last prompts ended: when that is a trouble, and when no longer."""

from collections.abc import Sequence

import attrs
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.health.recent import MOST, WINDOW, Recent
from chatgpt_source.journal import End
from chatgpt_source.prompt import Delivery, State
from tests.journal.common import NOON
from tests.telemetry.outcomes import ended, tell

REFUSED = "the target answered 400: it refuses this event"
GAVE_UP = "the model answered 503: after `give_up_after`"


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

    def told(self) -> tuple[int, int, float, str] | None:
        """How many failed of how many, minutes since noon, why; None if they are not too many."""
        failures = self.recent.failures()
        return failures and (
            failures.failed,
            failures.ended,
            (failures.since - NOON) / 60,
            failures.why,
        )

    def test_nothing_has_ended(self) -> None:
        self.assertEqual((self.recent.tried, self.told()), (False, None))
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
            self.assertEqual(self.told() is not None, expected, (failed, delivered))
            self.assertAlmostEqual(self.recent.ratio(), failed / (failed + delivered))
            self.assertTrue(self.recent.tried)

    def test_the_most_frequent_reason_in_short(self) -> None:
        self.end(None, None)
        self.clock.advance(60)
        self.end(*[REFUSED] * 4, *[GAVE_UP] * 3)
        self.assertEqual(self.told(), (7, 9, 1, "the target answered 400"))
        self.end(*[GAVE_UP] * 2)
        self.assertEqual(self.told(), (9, 11, 1, "the model answered 503"))

    def test_whether_nothing_succeeds(self) -> None:
        for delivered, failed, expected in ((0, 2, False), (0, 3, True), (1, 9, False)):
            self.setUp()
            self.end(*[None] * delivered, *[REFUSED] * failed)
            failures = self.recent.failures()
            assert failures is not None
            self.assertEqual(failures.nothing_succeeds, expected, (delivered, failed))

    def test_since_it_began_however_long_that_is(self) -> None:
        for _ in range(100):
            self.end(REFUSED, REFUSED)
            self.clock.advance(60)
        self.assertEqual(self.told(), (30, 30, 0, "the target answered 400"))

    def test_is_over_when_enough_succeed(self) -> None:
        self.end(*[REFUSED] * 504)
        self.assertEqual(self.told(), (100, 100, 0, "the target answered 400"))
        self.end(*[None] * (MOST - 10))
        self.assertIsNone(self.told())

    def test_silence_mends_nothing(self) -> None:
        self.end(None, *[REFUSED] * 5)
        self.clock.advance(WINDOW)
        self.assertEqual(self.told(), (5, 6, 0, "the target answered 400"))
        self.clock.advance(86400)
        self.assertEqual(self.told(), (5, 5, 0, "the target answered 400"))
        self.assertEqual(self.recent.ratio(), 0.0)
        self.end(None)
        self.assertIsNone(self.told())
        self.assertEqual(self.recent.ratio(), 0.0)

    def test_a_success_before_the_silence_is_enough(self) -> None:
        self.end(*[REFUSED] * 5, None)
        self.assertIsNotNone(self.told())
        self.clock.advance(WINDOW + 1)
        self.assertIsNone(self.told())
        self.assertTrue(self.recent.tried)

    def test_what_is_taken_up_again_has_not_failed(self) -> None:
        self.end(*[REFUSED] * 3)
        for n in range(3):
            self.recent.redriven(prompt_id=f"p{n}", state=State.ANSWERED)
        self.assertIsNone(self.told())

    def test_what_is_no_more_is_forgotten(self) -> None:
        self.end(None, *[REFUSED] * 3)
        self.assertEqual([*self.recent.failed], ["p1", "p2", "p3"])
        self.recent.forget({"p1", "p3"})
        self.assertEqual(self.told(), (1, 2, 0, "the target answered 400"))

    def end_at(self, target: str, *errors: str | None) -> None:
        for error in errors:
            name = f"p{self.ended}"
            self.ended += 1
            state = State.FAILED if error else State.DELIVERED
            delivery = Delivery(name, b"{}", 0.0, 1, 0.0, destination=target)
            tell(self.recent, attrs.evolve(ended(state, error, name=name), delivery=delivery))

    def targets(self) -> tuple[int, int, Sequence[str]] | None:
        failures = self.recent.failures()
        return failures and (failures.failed, failures.ended, failures.targets)

    def test_one_target_of_two_with_a_small_share(self) -> None:
        for _ in range(5):
            self.end(*[None] * 40)
            self.end_at("audit", REFUSED)
        self.assertEqual(self.targets(), (5, 5, ["audit"]))
        failures = self.recent.failures()
        assert failures is not None
        self.assertTrue(failures.nothing_succeeds)
        self.clock.advance(WINDOW + 1)
        self.end(None)
        self.assertEqual(self.targets(), (5, 5, ["audit"]))  # silence mends nothing there
        self.recent.forget({"p40", "p81", "p122"})
        self.assertEqual(self.targets(), (2, 2, ["audit"]))
        self.end_at("audit", None)
        self.assertIsNone(self.targets())

    def test_what_is_dead_is_named_before_what_fails_at_times(self) -> None:
        self.end(None, None, REFUSED, REFUSED)
        self.end_at("audit", *[REFUSED] * 4)
        self.end_at("billing", *[REFUSED] * 3)
        self.assertEqual(self.targets(), (7, 7, ["audit", "billing"]))
        self.end_at("audit", None)
        self.end_at("billing", None)
        self.assertEqual(self.targets(), (9, 13, ()))

    def test_what_is_dead_for_all_is_not_named(self) -> None:
        self.end(*[REFUSED] * 3)
        self.end_at("audit", *[REFUSED] * 3)
        self.assertEqual(self.targets(), (6, 6, ()))

    def test_since_it_began_at_a_target(self) -> None:
        self.end(*[None] * 50)
        for _ in range(30):
            self.end_at("audit", REFUSED)
            self.clock.advance(1)
        self.assertEqual(self.told(), (20, 20, 0, "the target answered 400"))

    def test_learns_from_others(self) -> None:
        self.end(None, REFUSED)
        self.clock.advance(1)
        theirs = [End(f"their{n}", State.FAILED, NOON + 0.5, REFUSED, "audit") for n in range(3)]
        again = End("p1", State.DELIVERED, NOON + 0.7, None)
        for _ in range(3):
            self.recent.seed([again, *theirs], NOON + 1)
        self.assertEqual(self.targets(), (3, 3, ["audit"]))
        self.assertEqual([*self.recent.failed], ["their0", "their1", "their2"])

    def test_what_others_tell_is_as_old_by_another_clock(self) -> None:
        self.end(None)
        theirs = [End(f"{n}", State.FAILED, NOON - 7200 - n, REFUSED) for n in range(4)]
        self.recent.seed(theirs, NOON - 7200)
        self.assertEqual(self.told(), (4, 5, -3 / 60, "the target answered 400"))

    def test_goes_on_after_a_restart(self) -> None:
        self.end(None)
        ends = [End(f"old{n}", State.FAILED, NOON - n, REFUSED) for n in range(300)]
        self.recent.seed([End("p0", State.DELIVERED, NOON), *ends], NOON)
        self.assertEqual(self.told(), (99, 100, -98 / 60, "the target answered 400"))
        self.end(None)
        self.assertEqual((self.told() or ())[:2], (98, 100))

    def test_goes_on_after_a_restart_long_after(self) -> None:
        old = [End(f"old{n}", State.FAILED, NOON - 86400 - n, REFUSED) for n in range(3)]
        self.recent.seed([*old, End("good", State.DELIVERED, NOON - 99999)], NOON)
        failures = self.recent.failures()
        assert failures is not None
        self.assertTrue(failures.nothing_succeeds)
