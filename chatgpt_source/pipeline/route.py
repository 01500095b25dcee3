"""A route: the providers that may be asked, in order, each with its breaker.

A prompt goes to the first that takes it. One that is full but well is waited for; one that is held,
throttled or recovering is passed over, but for the calls that try it again.
"""

from collections.abc import Mapping, Sequence

from attrs import frozen

from chatgpt_source.pipeline.breaker import Breaker, Call
from chatgpt_source.prompt import MODEL
from chatgpt_source.providers import Provider

Providers = Mapping[str | None, Provider]
"""The providers by their names; None is the first."""


@frozen
class Stop:
    """A provider on a route.

    Attributes:
        name: Its name, where there are others; None: the first.
        provider: Makes the calls.
        breaker: Its breaker.
        peer: Its name among the peers.
    """

    name: str | None
    provider: Provider
    breaker: Breaker
    peer: str = MODEL


@frozen
class Route:
    """The providers that may be asked, and how many calls may start.

    Attributes:
        stops: The providers, in order.
    """

    stops: Sequence[Stop]

    def at(self, call: Call) -> Stop:
        """The provider that a call asks."""
        return self.stops[call.place]

    @property
    def opens_at(self) -> float:
        """When a call may pass, as far as that depends on time; in the past if it may now."""
        return min(stop.breaker.opens_at for stop in self.stops)

    def room(self, now: float) -> int:
        """How many calls may start now."""
        room = 0
        for stop in self.stops:
            room += stop.breaker.room(now)
            if stop.breaker.is_well(now):
                break
        return room

    def start(self, now: float) -> Call:
        """Count a call that starts. The caller must call `end` for it."""
        place = self._next(0, now)
        if place is None:  # there was room when the work was claimed
            well = (n for n, stop in enumerate(self.stops) if stop.breaker.is_well(now))
            place = next(well, 0)
        call = self.stops[place].breaker.start(now)
        call.place = place
        return call

    def end(self, call: Call) -> None:
        """Count a call that has ended."""
        self.at(call).breaker.end(call)

    def after(self, call: Call, now: float) -> int | None:
        """The place of the next provider that takes the prompt of a call; None if there is none."""
        return self._next(call.place + 1, now)

    def spare(self, call: Call, now: float) -> None:
        """Let a call that would try a provider again go to the next that works and has room."""
        if self.at(call).breaker.is_well(now):
            return
        for place in range(call.place + 1, len(self.stops)):
            breaker = self.stops[place].breaker
            if breaker.trouble is None and breaker.is_well(now) and breaker.room(now) > 0:
                self.move(call, place, now)
                return

    def move(self, call: Call, place: int, now: float) -> None:
        """End a call that failed, and count it as a new one at another place."""
        self.end(call)
        call.place, call.started = place, now
        self.stops[place].breaker.start(now, call)

    def stand_in(self, now: float) -> str | None:
        """The fallback that takes the prompts while the first provider does not; None: none."""
        if self.stops[0].breaker.works(now):
            return None
        names = (stop.name for stop in self.stops[1:] if stop.breaker.works(now))
        return next(names, None)

    def _next(self, place: int, now: float) -> int | None:
        """The first place from one on where a call may start; None if there is none now."""
        for number in range(place, len(self.stops)):
            breaker = self.stops[number].breaker
            if breaker.room(now) > 0:
                return number
            if breaker.is_well(now):
                return None
        return None
