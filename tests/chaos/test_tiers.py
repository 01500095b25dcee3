"""All tiers mixed, through a hundred kills: paid once but for the stated window, and in time."""

import random

from tests.chaos.test_chaos import MINUTES, SEED
from tests.chaos.world import say
from tests.e2e import test_tiers


class ManyKillsTests(test_tiers.MixedTests):
    timeout = 600
    KILLS = 100
    if not MINUTES:
        skip = "it takes minutes: `make chaos` runs it"

    def setUp(self):
        super().setUp()
        self.SEED = int(SEED) if SEED else random.SystemRandom().randrange(10**9)
        say(f"\nchaos of tiers: {self.KILLS} kills, seed {self.SEED}")
