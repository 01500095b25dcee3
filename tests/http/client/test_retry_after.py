"""What a peer may say about trying again."""

import os
import time
from datetime import datetime, timezone
from email.utils import format_datetime

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.http.client.retry_after import read_retry_after, read_should_retry

NOW = datetime(2026, 11, 20, 12, 0, 0, tzinfo=timezone.utc).timestamp()


def said(now: float = NOW, **headers: str) -> float | None:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return read_retry_after(named.get, now)


class RetryAfterTests(SynchronousTestCase):
    def test_seconds(self) -> None:
        for value, expected in {
            "1": 1.0,
            "120": 120.0,
            "0.5": 0.5,
            " 7 ": 7.0,
            "3600": 3600.0,
            "3601": 3600.0,
            "99999999999999999999": 3600.0,
        }.items():
            self.assertEqual(said(retry_after=value), expected, value)

    def test_nothing_said(self) -> None:
        self.assertIsNone(said())
        for junk in (
            "",
            " ",
            "0",
            "-1",
            "-inf",
            "inf",
            "nan",
            "1e999",
            "soon",
            "1 minute",
            "1,5",
            "12ms",
            "1m3s",
            "\x00",
            "Fri",
            "20 Nov",
            "9" * 5000 + "x",
            "Fri, 20 Nov 99999 12:00:00 GMT",
            "Fri, 32 Nov 2026 12:00:00 GMT",
            "Fri, 20 Nov 2026 25:00:00 GMT",
            "Fri, 20 Nov 2026 12:00:00 +9999999999",
            "Mon, 01 Jan 0001 00:00:00 GMT",
            "Mon, 01 Jan 0001 00:00:00",
        ):
            self.assertIsNone(said(retry_after=junk), junk)

    def test_milliseconds_go_first(self) -> None:
        self.assertEqual(said(retry_after_ms="250", retry_after="9"), 0.25)
        self.assertEqual(said(retry_after_ms="1500.5"), 1.5005)
        self.assertEqual(said(retry_after_ms="3600001"), 3600.0)

    def test_unreadable_milliseconds_leave_it_to_the_seconds(self) -> None:
        for junk in ("", "soon", "inf", "nan", "12ms"):
            self.assertEqual(said(retry_after_ms=junk, retry_after="9"), 9.0, junk)

    def test_date(self) -> None:
        """RFC 9110, section 5.6.7: three formats, all of them UTC."""
        for date in (
            "Fri, 20 Nov 2026 12:00:30 GMT",
            "Friday, 20-Nov-26 12:00:30 GMT",
            "Fri Nov 20 12:00:30 2026",
            "Fri, 20 Nov 2026 13:00:30 +0100",
        ):
            self.assertEqual(said(retry_after=date), 30.0, date)

    def test_date_wherever_we_are(self) -> None:
        before = os.environ.get("TZ")
        self.addCleanup(time.tzset)
        self.addCleanup(
            lambda: os.environ.pop("TZ", None) if before is None else os.environ.update(TZ=before)
        )
        os.environ["TZ"] = "America/New_York"
        time.tzset()
        self.test_date()
        self.assertEqual(said(retry_after="Fri, 20 Nov 2026 12:00:30 -0000"), 30.0)

    def test_past_date(self) -> None:
        for date in (
            "Fri, 20 Nov 2026 12:00:00 GMT",
            "Fri, 20 Nov 2026 11:59:59 GMT",
            "Thu, 01 Jan 1970 00:00:00 GMT",
        ):
            self.assertIsNone(said(retry_after=date), date)

    def test_far_date(self) -> None:
        self.assertEqual(said(retry_after="Sat, 21 Nov 2026 12:00:00 GMT"), 3600.0)
        self.assertEqual(said(retry_after="Fri, 31 Dec 9999 23:59:59 GMT"), 3600.0)

    @settings(deadline=None)
    @given(
        st.text()
        | st.from_regex(r"[A-Z][a-z]{2},? [0-9 ]{1,4}[A-Z][a-z]{2}[0-9 :+-]{1,20}[A-Z+-]*[0-9]*")
        | st.floats().map(repr)
        | st.integers().map(str)
        | st.datetimes().map(lambda date: format_datetime(date.replace(tzinfo=timezone.utc)))
    )
    @example("0 ")
    @example(", ")
    @example("1 Jan 1 ")
    def test_anything(self, value: str) -> None:
        for wait in (said(retry_after=value), said(retry_after_ms=value)):
            if wait is not None:
                self.assertGreater(wait, 0.0)
                self.assertLessEqual(wait, 3600.0)

    def test_should_retry(self) -> None:
        for value, told in (
            ("true", True),
            (" False ", False),
            ("", None),
            ("1", None),
            ("no", None),
            (None, None),
        ):
            self.assertIs(read_should_retry({"x-should-retry": value}.get), told)
