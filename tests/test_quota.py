"""The day and its end, in every zone and on every odd night, and the loop that turns it."""

from datetime import date, datetime, timedelta, timezone
from math import floor
from zoneinfo import ZoneInfo

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, succeed
from twisted.logger import LogLevel, capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.quota import TICK, Calendar, Day, Midnight, day_at
from tests.clocks import Clocks

HOUR = 3600.0

ZONES = (
    "UTC",
    "Africa/Cairo",
    "Africa/Casablanca",
    "Africa/El_Aaiun",
    "Africa/Monrovia",
    "America/Adak",
    "America/Asuncion",
    "America/Caracas",
    "America/Godthab",
    "America/Goose_Bay",
    "America/Havana",
    "America/Los_Angeles",
    "America/New_York",
    "America/Santiago",
    "America/Sao_Paulo",
    "America/St_Johns",
    "Antarctica/Casey",
    "Antarctica/Macquarie",
    "Antarctica/Troll",
    "Asia/Amman",
    "Asia/Anadyr",
    "Asia/Beirut",
    "Asia/Damascus",
    "Asia/Gaza",
    "Asia/Hebron",
    "Asia/Kathmandu",
    "Asia/Kolkata",
    "Asia/Pyongyang",
    "Asia/Tehran",
    "Asia/Tokyo",
    "Atlantic/Azores",
    "Australia/Eucla",
    "Australia/Lord_Howe",
    "Europe/Berlin",
    "Europe/Dublin",
    "Europe/Moscow",
    "Pacific/Apia",
    "Pacific/Auckland",
    "Pacific/Chatham",
    "Pacific/Fakaofo",
    "Pacific/Kiritimati",
    "Pacific/Kwajalein",
    "Pacific/Marquesas",
    "Pacific/Norfolk",
)

FIRST = datetime(1980, 1, 1, tzinfo=timezone.utc).timestamp()
LAST = datetime(2037, 12, 31, tzinfo=timezone.utc).timestamp()


def local_date(instant: float, zone: ZoneInfo) -> date:
    return datetime.fromtimestamp(floor(instant), zone).date()


def utc(*parts: int) -> float:
    return datetime(*parts, tzinfo=timezone.utc).timestamp()  # type: ignore[arg-type,misc]


class DayCase(SynchronousTestCase):
    def check_day(self, zone: str, instant: float, expected: str, until: float) -> None:
        self.assertEqual(day_at(instant, ZoneInfo(zone)), Day(expected, instant, until))


class DayTests(DayCase):
    def test_utc(self) -> None:
        midnight = utc(2026, 11, 21)
        for before in (86400.0, 43200.0, 1.0, 0.001):
            self.check_day("UTC", midnight - before, "2026-11-20", midnight)
        self.check_day("UTC", midnight, "2026-11-21", midnight + 86400)

    def test_epoch_and_before(self) -> None:
        self.check_day("UTC", 0.0, "1970-01-01", 86400.0)
        self.check_day("UTC", -1.0, "1969-12-31", 0.0)

    def test_year_and_leap_day(self) -> None:
        self.check_day("UTC", utc(2026, 12, 31, 23), "2026-12-31", utc(2027, 1, 1))
        self.check_day("UTC", utc(2028, 2, 28, 23), "2028-02-28", utc(2028, 2, 29))
        self.check_day("UTC", utc(2028, 2, 29, 23), "2028-02-29", utc(2028, 3, 1))

    def test_zones_apart(self) -> None:
        instant = utc(2026, 6, 1, 10, 30)
        self.check_day("Pacific/Kiritimati", instant, "2026-06-02", utc(2026, 6, 2, 10))
        self.check_day("Pacific/Pago_Pago", instant, "2026-05-31", utc(2026, 6, 1, 11))
        self.check_day("Asia/Kathmandu", instant, "2026-06-01", utc(2026, 6, 1, 18, 15))

    def check_nights(self, zone: str, nights: list[tuple[str, float]], end: float) -> None:
        """Consecutive days: each with its date and start."""
        stops = [start for _, start in nights[1:]] + [end]
        for (name, start), stop in zip(nights, stops, strict=True):
            for instant in (start, start + 1, (start + stop) / 2, stop - 1, stop - 0.001):
                self.check_day(zone, instant, name, stop)

    def test_new_york_spring(self) -> None:
        self.check_nights(
            "America/New_York",
            [
                ("2026-03-07", utc(2026, 3, 7, 5)),
                ("2026-03-08", utc(2026, 3, 8, 5)),  # 23 hours
                ("2026-03-09", utc(2026, 3, 9, 4)),
            ],
            utc(2026, 3, 10, 4),
        )

    def test_new_york_autumn(self) -> None:
        self.check_nights(
            "America/New_York",
            [
                ("2026-10-31", utc(2026, 10, 31, 4)),
                ("2026-11-01", utc(2026, 11, 1, 4)),  # 25 hours
                ("2026-11-02", utc(2026, 11, 2, 5)),
            ],
            utc(2026, 11, 3, 5),
        )

    def test_half_an_hour(self) -> None:
        self.check_nights(
            "Australia/Lord_Howe",
            [
                ("2026-04-04", utc(2026, 4, 3, 13)),
                ("2026-04-05", utc(2026, 4, 4, 13)),  # 24.5 hours
                ("2026-04-06", utc(2026, 4, 5, 13, 30)),
            ],
            utc(2026, 4, 6, 13, 30),
        )

    def test_two_hours(self) -> None:
        self.check_nights(
            "Antarctica/Troll",
            [
                ("2026-03-28", utc(2026, 3, 28)),
                ("2026-03-29", utc(2026, 3, 29)),  # 22 hours
                ("2026-03-30", utc(2026, 3, 29, 22)),
            ],
            utc(2026, 3, 30, 22),
        )

    def test_no_midnight(self) -> None:
        """The clocks go from 24:00 to 01:00."""
        for zone, name, midnight in (
            ("America/Havana", "2026-03-07", utc(2026, 3, 8, 5)),
            ("Asia/Beirut", "2026-03-28", utc(2026, 3, 28, 22)),
            ("Africa/Cairo", "2026-04-23", utc(2026, 4, 23, 22)),
        ):
            tomorrow = (date.fromisoformat(name) + timedelta(days=1)).isoformat()
            nights = [(name, midnight - 86400), (tomorrow, midnight)]
            self.check_nights(zone, nights, midnight + 82800)

    def test_midnight_twice_and_the_first_counts(self) -> None:
        """At 01:00 it is 00:00 of the same date again."""
        first = utc(2026, 11, 1, 4)
        nights = [("2026-10-31", first - 86400), ("2026-11-01", first)]
        self.check_nights("America/Havana", nights, first + 25 * HOUR)

    def test_midnight_is_never_reached_at_first(self) -> None:
        """At 24:00 it is 23:00 of the same date again."""
        start = utc(2026, 10, 28, 21)
        second = utc(2026, 10, 29, 22)  # 25 hours later, in Cairo
        nights = [("2026-10-29", start), ("2026-10-30", second)]
        self.assertEqual(day_at(start, ZoneInfo("Africa/Cairo")).date, "2026-10-29")
        self.check_nights("Africa/Cairo", nights[:1], second)

    def test_date_is_left_and_entered_again(self) -> None:
        """At 00:01 it was 23:01 of the evening before, until 2011."""
        zone = "America/St_Johns"
        first, back, again = (
            utc(2010, 11, 7, 2, 30),
            utc(2010, 11, 7, 2, 31),
            utc(2010, 11, 7, 3, 30),
        )
        self.check_nights(
            zone,
            [
                ("2010-11-06", first - 86400),
                ("2010-11-07", first),
                ("2010-11-06", back),
                ("2010-11-07", again),
            ],
            again + 86400,
        )

    def test_one_minute_past_midnight_is_skipped(self) -> None:
        start = utc(2010, 3, 13, 3, 30)
        self.check_nights(
            "America/St_Johns",
            [("2010-03-13", start), ("2010-03-14", start + 86400)],
            start + 86400 + 23 * HOUR,
        )

    def test_date_that_never_was(self) -> None:
        """Samoa had no 30 December 2011."""
        change = utc(2011, 12, 30, 10)
        self.check_nights(
            "Pacific/Apia",
            [("2011-12-29", change - 86400), ("2011-12-31", change)],
            change + 86400,
        )

    def test_jump_to_midnight(self) -> None:
        """On 4 May 2018 at 23:30 it was midnight in Pyongyang."""
        change = utc(2018, 5, 4, 15)
        self.check_nights(
            "Asia/Pyongyang",
            [("2018-05-04", change - 23.5 * HOUR), ("2018-05-05", change)],
            change + 24 * HOUR,
        )

    def test_jump_over_midnight(self) -> None:
        """Islands that crossed the date line, with and without a midnight at the crossing."""
        for zone in ("Pacific/Kiritimati", "Pacific/Fakaofo", "Pacific/Kwajalein"):
            place = ZoneInfo(zone)
            for year in (1993, 1994, 2011):
                instant = utc(year, 1, 1)
                while instant < utc(year + 1, 1, 2):
                    day = day_at(instant, place)
                    self.assertNotEqual(local_date(day.end, place).isoformat(), day.date)
                    self.assertEqual(local_date(day.end - 1, place).isoformat(), day.date)
                    instant = day.end


class PropertyTests(DayCase):
    @settings(deadline=None, max_examples=500)
    @given(
        st.floats(FIRST, LAST),
        st.sampled_from(ZONES),
        st.lists(st.floats(0, 1), min_size=3, max_size=3),
    )
    @example(utc(2010, 11, 7, 2, 30) + 30, "America/St_Johns", [0.01, 0.02, 0.04])
    @example(utc(2010, 11, 7, 2, 30) - 30, "America/Goose_Bay", [0.01, 0.02, 0.04])
    @example(utc(2011, 12, 30, 9), "Pacific/Apia", [0.0, 0.5, 1.0])
    @example(utc(1987, 1, 1) - 1e-7, "UTC", [0.0, 0.5, 1.0])
    def test_a_day_is_one_stretch_of_one_date(
        self, instant: float, name: str, shares: list[float]
    ) -> None:
        zone = ZoneInfo(name)
        day = day_at(instant, zone)
        today = local_date(instant, zone)
        self.assertEqual(day.date, today.isoformat())
        self.assertTrue(day.start <= instant < day.end)
        self.assertLessEqual(day.end - day.start, 49 * HOUR)
        self.assertNotEqual(local_date(day.end, zone), today)
        inside = [day.start + share * (day.end - 1 - day.start) for share in shares]
        for moment in (*inside, day.end - 1):
            if moment >= instant:
                self.assertEqual(local_date(moment, zone), today, moment - instant)

    @settings(deadline=None, max_examples=100)
    @given(st.sampled_from(ZONES), st.integers(1980, 2036), st.floats(0, 1))
    def test_walk_through_half_a_year(self, name: str, year: int, share: float) -> None:
        """Day after day, no instant is left out and none counted twice."""
        zone = ZoneInfo(name)
        calendar = Calendar(zone)
        instant = utc(year, 1, 1) + share * 180 * 86400
        last = instant + 180 * 86400
        while instant < last:
            day = calendar.day(instant)
            self.assertEqual(day.start, instant)
            for hours in range(1, 24):
                probe = instant + hours * HOUR
                if probe < day.end:
                    self.assertEqual(local_date(probe, zone).isoformat(), day.date)
            self.assertGreater(day.end, instant)
            instant = day.end


class CalendarTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.calendar = Calendar(ZoneInfo("UTC"))

    def test_works_it_out_once(self) -> None:
        morning = utc(2026, 11, 20, 6)
        first = self.calendar.day(morning)
        for instant in (morning, morning + 1, utc(2026, 11, 21) - 0.001):
            self.assertIs(self.calendar.day(instant), first)

    def test_turns_at_midnight(self) -> None:
        self.calendar.day(utc(2026, 11, 20, 6))
        self.assertEqual(self.calendar.day(utc(2026, 11, 21)).date, "2026-11-21")

    def test_clock_set_back(self) -> None:
        self.calendar.day(utc(2026, 11, 21, 1))
        earlier = self.calendar.day(utc(2026, 11, 20, 23))
        self.assertEqual(earlier.date, "2026-11-20")
        self.assertEqual(earlier.end, utc(2026, 11, 21))
        self.assertEqual(self.calendar.day(utc(2026, 11, 21, 1)).date, "2026-11-21")

    def test_clock_set_back_within_the_day(self) -> None:
        self.calendar.day(utc(2026, 11, 20, 12))
        self.assertEqual(self.calendar.day(utc(2026, 11, 20, 11)).end, utc(2026, 11, 21))

    def test_stalled_for_days(self) -> None:
        self.calendar.day(utc(2026, 11, 20, 12))
        self.assertEqual(self.calendar.day(utc(2026, 12, 24, 12)).date, "2026-12-24")

    def test_epoch(self) -> None:
        self.assertEqual(self.calendar.day(0.0).date, "1970-01-01")

    @settings(deadline=None)
    @given(
        st.sampled_from(ZONES),
        st.floats(FIRST, LAST),
        st.lists(st.floats(-3 * 86400, 3 * 86400), max_size=20),
    )
    @example("America/St_Johns", utc(2010, 11, 7, 2, 30) + 30, [1800.0])
    def test_any_order(self, name: str, around: float, offsets: list[float]) -> None:
        zone = ZoneInfo(name)
        calendar = Calendar(zone)
        calendar.day(around)
        for offset in offsets:
            day = calendar.day(around + offset)
            self.assertEqual(day.date, local_date(around + offset, zone).isoformat())
            self.assertTrue(day.start <= around + offset < day.end)


class MidnightTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clocks()
        self.clock.advance(utc(2026, 11, 20, 23, 58, 30))
        self.result: Deferred[None] | BaseException | None = None
        self.runs: list[float] = []
        self.midnight = Midnight(self.clock, Calendar(ZoneInfo("Europe/London")), self.keep_house)

    def keep_house(self) -> Deferred[None]:
        self.runs.append(self.clock.seconds())
        if isinstance(self.result, Deferred):
            return self.result
        if self.result is not None:
            raise self.result
        return succeed(None)

    def advance(self, seconds: float, step: float = 1.0) -> list[str]:
        """What is logged in that time."""
        with capturedLogs() as logged:
            for _ in range(int(seconds / step)):
                self.clock.advance(step)
        return [
            event["log_format"].format(**event)
            for event in logged
            if event["log_namespace"] == "chatgpt_source.quota"
        ]

    def test_ticks_at_once_and_every_minute(self) -> None:
        start = self.clock.seconds()
        self.midnight.start()
        self.advance(181)
        self.assertEqual(self.runs, [start, start + 60, start + 120, start + 180])
        self.assertEqual(TICK, 60.0)

    def test_says_when_the_day_turns_and_only_then(self) -> None:
        with capturedLogs() as logged:
            self.midnight.start()
        self.assertEqual(logged, [])
        self.assertEqual(self.advance(85), [])
        self.assertEqual(
            self.advance(60),
            ["a new day: 2026-11-21 in Europe/London, until 2026-11-22T00:00:00+00:00"],
        )
        self.assertEqual(self.advance(7200, 10), [])

    def test_goes_by_the_wall_clock_and_says_when_that_is_set(self) -> None:
        self.midnight.start()
        self.assertEqual(self.advance(60), [])
        self.clock.step(4.5)  # no more than a clock that is corrected
        self.assertEqual(
            self.advance(60),
            ["a new day: 2026-11-21 in Europe/London, until 2026-11-22T00:00:00+00:00"],
        )
        self.clock.step(-HOUR)
        told, turned = self.advance(60)
        self.assertTrue(told.startswith("the clock was set back by 3600 s"), told)
        self.assertIn("a new day: 2026-11-20", turned)
        self.clock.step(HOUR + 7)
        told, _ = self.advance(60)
        self.assertTrue(told.startswith("the clock was set forward by 3607 s"), told)
        self.assertEqual(self.advance(120), [])

    def test_late_tick(self) -> None:
        self.midnight.start()
        (line,) = self.advance(5 * HOUR, 5 * HOUR)
        self.assertIn("2026-11-21", line)
        self.assertEqual(len(self.runs), 2)
        self.advance(60)
        self.assertEqual(len(self.runs), 3)

    def test_stalled_over_days(self) -> None:
        self.midnight.start()
        (line,) = self.advance(72 * HOUR, 72 * HOUR)
        self.assertIn("2026-11-23", line)

    def test_survives_an_exception(self) -> None:
        self.result = ZeroDivisionError("MARKED")
        self.midnight.start()
        lines = self.advance(61)
        self.assertEqual(len(self.runs), 2)
        self.assertEqual(len(lines), 1)
        self.assertIn("the minute's work: ZeroDivisionError (its text is withheld)", lines[0])
        self.assertNotIn("MARKED", lines[0])
        self.result = None
        self.assertEqual(len(self.advance(60)), 1)  # the turn of the day
        self.assertEqual(len(self.runs), 3)

    def test_survives_a_failure(self) -> None:
        self.result = Deferred()
        self.midnight.start()
        for _ in range(2):
            result, self.result = self.result, Deferred()
            with capturedLogs() as logged:
                result.errback(ZeroDivisionError("MARKED"))
            self.assertEqual([event["kind"] for event in logged], ["ZeroDivisionError"])
            self.assertNotIn("MARKED", str(logged))
            self.advance(60)
        self.assertEqual(len(self.runs), 3)

    def test_survives_a_calendar_that_fails(self) -> None:
        class Broken(Calendar):
            def day(self, instant: float) -> Day:
                raise LookupError(instant)

        midnight = Midnight(self.clock, Broken(ZoneInfo("UTC")), self.keep_house)
        with capturedLogs() as logged:
            midnight.start()
            self.clock.advance(60)
        kinds = [event["kind"] for event in logged if event["log_level"] is LogLevel.error]
        self.assertEqual(kinds, ["LookupError", "LookupError"])

    def test_one_at_a_time(self) -> None:
        self.result = slow = Deferred()
        self.midnight.start()
        self.advance(600)
        self.assertEqual(len(self.runs), 1)
        self.result = None
        slow.callback(None)
        self.advance(60)
        self.assertEqual(len(self.runs), 2)

    def test_stop(self) -> None:
        self.midnight.start()
        self.midnight.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.advance(180)
        self.assertEqual(len(self.runs), 1)
        self.midnight.stop()

    def test_stop_before_start(self) -> None:
        self.midnight.stop()

    def test_stop_while_keeping_house(self) -> None:
        self.result = slow = Deferred()
        self.midnight.start()
        self.midnight.stop()
        slow.callback(None)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stop_while_keeping_house_that_fails(self) -> None:
        self.result = slow = Deferred()
        self.midnight.start()
        self.midnight.stop()
        with capturedLogs() as logged:
            slow.errback(ZeroDivisionError("MARKED"))
        self.assertEqual(len(logged), 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])
