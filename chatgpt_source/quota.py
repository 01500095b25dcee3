"""Computes the local day, and runs the work of every minute and midnight."""

from collections.abc import Callable
from datetime import date, datetime, timezone
from itertools import count
from math import floor
from zoneinfo import ZoneInfo

from attrs import define, field, frozen
from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from chatgpt_source.clock import wall
from chatgpt_source.log import get_logger, log_unexpected

log = get_logger(__name__)

TICK = 60.0
"""Seconds between two ticks."""
STEP = 5.0
"""Seconds that the wall clock may gain or lose between two ticks without a warning."""


@frozen
class Day:
    """A period of one local date: `date` as YYYY-MM-DD, from `start` (inclusive) to `end`."""

    date: str
    start: float
    end: float


def day_at(instant: float, zone: ZoneInfo) -> Day:
    """The local day of `instant`; `start` is `instant` itself, `end` the next midnight.

    Midnight is the first instant after `instant` with another date, also when the clocks change: a
    night may have no midnight, have it twice, or skip a whole date.
    """

    def date_at(moment: int) -> date:
        return datetime.fromtimestamp(moment, zone).date()

    now = floor(instant)  # else it would round up, over midnight
    today = date_at(now)
    minutes = count(now - now % 60 + 60, 60)  # clocks change at whole minutes
    end = next(minute for minute in minutes if date_at(minute) != today)
    return Day(today.isoformat(), instant, float(end))


def clock_time(instant: float, now: float, zone: ZoneInfo, form: str = "%H:%M") -> str:
    """An instant in a zone as text: the time, with the date unless it is today."""
    local, today = (datetime.fromtimestamp(each, zone) for each in (instant, now))
    return local.strftime(form if local.date() == today.date() else f"%Y-%m-%d {form}")


@define(eq=False, repr=False)
class Calendar:
    """Gives the day of an instant, and computes it once a day."""

    zone: ZoneInfo
    _day: Day = field(init=False, default=Day("", 0.0, 0.0))

    def day(self, instant: float) -> Day:
        """The day of `instant`."""
        if not self._day.start <= instant < self._day.end:
            self._day = day_at(instant, self.zone)
        return self._day


@define(eq=False, repr=False)
class Midnight:
    """Logs each new day and each step of the wall clock, and does the work of every minute.

    It decides nothing: each admission looks up its own day, so a late tick does not matter.

    Args:
        reactor: The clocks.
        calendar: The days.
        keep_house: Called at each tick; its failure is logged and does not end the loop.
    """

    _reactor: IReactorTime
    _calendar: Calendar
    _keep_house: Callable[[], Deferred[None]]
    _date: str = field(init=False, default="")
    _ahead: float | None = field(init=False, default=None)
    _loop: LoopingCall = field(init=False)

    @_loop.default
    def _make_loop(self) -> LoopingCall:
        return LoopingCall(self._tick)

    def start(self) -> None:
        """Tick now, then every minute."""
        self._loop.clock = self._reactor
        self._loop.start(TICK)

    def stop(self) -> None:
        """Tick no more."""
        if self._loop.running:
            self._loop.stop()

    def _tick(self) -> Deferred[None]:
        try:
            self._notice_step()
            self._turn()
            done = self._keep_house()
        except Exception:  # noqa: BLE001 - a function that raises would end the loop for good
            done = fail()
        return done.addErrback(lambda failure: log_unexpected(log, "the minute's work", failure))

    def _notice_step(self) -> None:
        ahead = wall(self._reactor) - self._reactor.seconds()
        if self._ahead is not None and abs(ahead - self._ahead) > STEP:
            log.warn(
                "the clock was set {way} by {seconds:.0f} s: the day and all dates use it; waiting"
                " times are not affected",
                way="back" if ahead < self._ahead else "forward",
                seconds=abs(ahead - self._ahead),
            )
        self._ahead = ahead

    def _turn(self) -> None:
        day = self._calendar.day(wall(self._reactor))
        if day.date != self._date:
            if self._date:
                log.info(
                    "a new day: {date} in {zone}, until {end}",
                    date=day.date,
                    zone=self._calendar.zone.key,
                    end=datetime.fromtimestamp(day.end, timezone.utc).isoformat(),
                )
            self._date = day.date
