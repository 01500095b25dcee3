"""What operators have paused."""

from attrs import frozen


@frozen
class Pause:
    """What an operator has paused, or resumed again.

    Attributes:
        what: What it is: `intake`, `asking`, or a receiver's label.
        who: Who did that.
        since: Its date.
        resumed: Whether it goes on since then.
    """

    what: str
    who: str
    since: float
    resumed: bool = False
