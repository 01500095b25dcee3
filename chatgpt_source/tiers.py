"""Which tier serves a prompt: by how far off its deadline is. Pure."""

from math import inf

from attrs import frozen

from chatgpt_source.prompt import Tier


@frozen
class Tiers:
    """The tiers that are on.

    Attributes:
        flex_over: Seconds to the deadline from which on `FLEX` serves; infinite: it is off.
        batch_over: The same for `BATCH`.
    """

    flex_over: float = inf
    batch_over: float = inf

    def of(self, seconds: float) -> Tier:
        """The tier for a prompt whose deadline is so many seconds off."""
        if seconds > self.batch_over:
            return Tier.BATCH
        return Tier.FLEX if seconds > self.flex_over else Tier.STANDARD

    def above(self, tier: Tier, seconds: float) -> Tier:
        """The next tier for a prompt that a tier did not serve."""
        if tier is Tier.BATCH and seconds > self.flex_over:
            return Tier.FLEX
        return Tier.STANDARD
