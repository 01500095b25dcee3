"""What operators have paused."""

from typing import Any

from attrs import frozen

from chatgpt_source.clock import rfc3339

INTAKE = "intake"
ASKING = "asking"


@frozen
class Pause:
    """What an operator has paused, or resumed again.

    Attributes:
        what: What it is: `intake`, `asking`, or a receiver's label.
        who: Who did that.
        since: Its date, by the same clock as `Journal.date`.
        resumed: Whether it goes on since then.
    """

    what: str
    who: str
    since: float
    resumed: bool = False

    def to_dict(self) -> dict[str, Any]:
        """What it is and who did it, for JSON; the time in RFC 3339, in UTC."""
        return {"what": self.what, "who": self.who, "since": rfc3339(self.since)}
