"""A test's two clocks."""

from twisted.internet.task import Clock


class Clocks(Clock):
    """A clock that is steady, and beside it the wall clock, which can be set."""

    def __init__(self) -> None:
        super().__init__()
        self._ahead = 0.0

    def wall(self) -> float:
        """The wall clock's time: that of `seconds` until it is set."""
        return float(self.seconds()) + self._ahead

    def step(self, seconds: float) -> None:
        """Set the wall clock forward, or back."""
        self._ahead += seconds
