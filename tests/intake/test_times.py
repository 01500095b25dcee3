"""The instants that callers name."""

from typing import Any, cast

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.cloudevent import read_time
from chatgpt_source.config.readers import Wrong
from chatgpt_source.intake.times import MOST_AHEAD, read_deadline, read_instant, steady_of
from tests.clocks import Clocks
from tests.intake.common import AHEAD, NOW


class TimesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock: Any = Clocks()
        self.clock.advance(NOW)
        self.clock.step(AHEAD)

    def test_durations(self) -> None:
        for text, seconds in (("0s", 0), ("90s", 90), ("15m", 900), ("24h", 86400), ("7d", 604800)):
            self.assertEqual(read_instant(text, self.clock), NOW + seconds)

    def test_dates_are_of_the_wall_clock(self) -> None:
        self.assertEqual(read_instant("2027-01-15T09:00:00Z", self.clock), NOW)
        self.assertEqual(read_instant("2027-01-15T10:01:00.5+01:00", self.clock), NOW + 60.5)
        self.assertEqual(steady_of(NOW + AHEAD, self.clock), NOW)

    def test_wrong(self) -> None:
        for text in ("", "90", "90 s", "1.5h", "-1s", "1w", "90S", "٩s", "2027-01-15", "now"):
            wrong = self.assertRaises(Wrong, read_instant, text, self.clock)
            self.assertIn("a duration like 90s", str(wrong))
        for text in ("9999999999d", "9999-12-31T23:59:59Z", f"{int(MOST_AHEAD) + 1}s"):
            wrong = self.assertRaises(Wrong, read_instant, text, self.clock)
            self.assertIn("at most 10 years ahead", str(wrong))

    def test_deadlines(self) -> None:
        self.assertEqual(read_deadline("1s", self.clock), NOW + 1)
        self.assertEqual(read_deadline("2027-01-15T08:59:59Z", self.clock), NOW - 1)
        for text in ("0s", "00d"):
            wrong = self.assertRaises(Wrong, read_deadline, text, self.clock)
            self.assertEqual(str(wrong), "a time in the future")

    def test_timestamps(self) -> None:
        for text, instant in (
            ("1970-01-01T00:00:00Z", 0),
            ("1970-01-01t01:00:00.123456789+01:00", 0.123456789),
            ("1969-12-31T23:59:60z", -1),
            ("1970-01-01T00:00:00-00:00", 0),
        ):
            self.assertEqual(read_time(text), instant)
        for text in ("1970-01-01T24:00:00Z", "1970-13-01T00:00:00Z", "1970-01-01T00:00:00+24:00"):
            self.assertIsNone(read_time(text))

    @settings(deadline=None)
    @given(st.text() | st.from_regex(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?[+-]\d\d:\d\d"))
    def test_any(self, text: str) -> None:
        clock = Clocks()
        try:
            instant = read_instant(text, cast(Any, clock))
        except Wrong:
            return
        self.assertLessEqual(instant, MOST_AHEAD)
