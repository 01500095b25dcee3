"""What is known of a peer, and what waits for it."""

from attrs import frozen

from chatgpt_source.prompt import Tier

MOST_COUNTED = 1000
"""How many prompts or events that wait are counted at the most."""

Queue = Tier | str
"""Where work waits for a peer: the prompts to ask on a tier, or the events for a destination."""


@frozen
class PeerState:
    """A breaker's state, stored for the next start.

    Attributes:
        held: Why the circuit is open, for people; None while it is closed.
        since: When it opened.
        misses: How many calls in a row met a hold.
        probe_at: When the next probe is due.
        throttled_until: When calls may begin after a 429.
        failing: Whether the last call failed.
    """

    held: str | None = None
    since: float | None = None
    misses: int = 0
    probe_at: float | None = None
    throttled_until: float | None = None
    failing: bool = False


@frozen
class Waiting:
    """What waits for a peer.

    Attributes:
        count: How many prompts or events; no more than `MOST_COUNTED` are counted.
        since: The first start of the time that they may take, of those without a deadline.
        ends: The first of their own deadlines and expiries.
        due: When the first of their next calls is due, in the past if it only waits for room.
    """

    count: int = 0
    since: float | None = None
    ends: float | None = None
    due: float | None = None
