"""The times that the judgement's texts have: the daemon's, in its own zone."""

from zoneinfo import ZoneInfo

from attrs import frozen
from twisted.internet.interfaces import IReactorTime

from chatgpt_source.clock import date_of, wall
from chatgpt_source.quota import clock_time


@frozen
class Times:
    """The moment of a judgement.

    Attributes:
        now: Its date.
        ahead: What makes a date of an instant of the steady clock.
        zone: The zone of the texts.
    """

    now: float
    ahead: float
    zone: ZoneInfo

    @classmethod
    def of(cls, clock: IReactorTime, zone: ZoneInfo) -> "Times":
        """This moment."""
        steady = clock.seconds()
        return cls(wall(clock), date_of(steady, clock) - steady, zone)

    def date(self, instant: float | None) -> float | None:
        """The date of an instant of the steady clock."""
        return None if instant is None else instant + self.ahead

    def text(self, date: float) -> str:
        """A date as text: the time, with the day unless it is today."""
        return clock_time(date, self.now, self.zone)
