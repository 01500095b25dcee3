"""Which callers were turned away lately."""

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.health.refusals import CALLERS_OWN, Refusals
from chatgpt_source.telemetry.observer import RefusalReason
from tests.journal.common import NOON


class RefusalsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(NOON)
        self.refusals = Refusals(self.clock)

    def test_nobody(self) -> None:
        self.assertIsNone(self.refusals.turned_away())

    def test_by_reason_since_the_first(self) -> None:
        for seconds, reason in ((0, "quota"), (100, "backlog"), (100, "quota")):
            self.clock.advance(seconds)
            self.refusals.refused(reason=RefusalReason(reason))
        turned = self.refusals.turned_away()
        assert turned is not None
        self.assertEqual(turned.counts, {RefusalReason.QUOTA: 2, RefusalReason.BACKLOG: 1})
        self.assertEqual(turned.since, NOON)

    def test_what_only_the_caller_can_mend(self) -> None:
        for reason in CALLERS_OWN:
            self.refusals.refused(reason=reason)
        self.assertIsNone(self.refusals.turned_away())

    def test_after_a_while_it_is_over(self) -> None:
        self.refusals.refused(reason=RefusalReason.QUOTA)
        self.clock.advance(14 * 60)
        self.assertIsNotNone(self.refusals.turned_away())
        self.clock.advance(2 * 60)
        self.assertIsNone(self.refusals.turned_away())
        self.refusals.refused(reason=RefusalReason.QUOTA)
        turned = self.refusals.turned_away()
        assert turned is not None
        self.assertEqual(turned.since, NOON + 16 * 60)

    def test_no_more_than_the_last_minutes_are_kept(self) -> None:
        for _ in range(100):
            self.refusals.refused(reason=RefusalReason.BUSY)
            self.clock.advance(60)
        turned = self.refusals.turned_away()
        assert turned is not None
        self.assertEqual(turned.counts, {RefusalReason.BUSY: 15})
        self.assertLessEqual(len(self.refusals._minutes), 16)
