"""Which tier serves a prompt."""

from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.prompt import Tier
from chatgpt_source.tiers import Tiers


class TiersTests(SynchronousTestCase):
    def test_the_further_off_the_cheaper(self) -> None:
        tiers = Tiers(flex_over=10, batch_over=100)
        told = [(1, Tier.STANDARD), (10, Tier.STANDARD), (11, Tier.FLEX), (101, Tier.BATCH)]
        for seconds, tier in told:
            self.assertIs(tiers.of(seconds), tier)

    def test_unless_set_all_are_standard(self) -> None:
        self.assertIs(Tiers().of(1e9), Tier.STANDARD)

    def test_without_flex_the_next_above_a_batch_is_standard(self) -> None:
        self.assertIs(Tiers(batch_over=100).above(Tier.BATCH, 50), Tier.STANDARD)
        self.assertIs(Tiers(flex_over=10).above(Tier.BATCH, 50), Tier.FLEX)
        self.assertIs(Tiers(flex_over=10).above(Tier.FLEX, 50), Tier.STANDARD)
