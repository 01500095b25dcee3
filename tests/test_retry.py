"""DESIGN's two tables row by row, how long is waited, and what a peer may say about that."""

import os
import time
from datetime import datetime, timezone
from email.utils import format_datetime
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.prompt import DEAD_LETTER, TARGET, Again, CallError, Hold, MaybeBilled, Rejected
from chatgpt_source.retry import (
    MAYBE_BILLED_ATTEMPTS,
    Answered,
    backoff,
    model_error,
    probe_interval,
    receiver_error,
    retry_after,
    should_retry,
)

NOW = datetime(2026, 11, 20, 12, 0, 0, tzinfo=timezone.utc).timestamp()

EMPTY_ACCOUNT = (
    "insufficient_quota",
    "credit_balance_exhausted",
    "organization_spend_limit_exceeded",
    "project_spend_limit_exceeded",
    "_spend_limit_exceeded",
    "organization_usage_limit_exceeded",
)
OTHER_CODES = (
    "rate_limit_exceeded",
    "tokens",
    "requests",
    "insufficient_quota_",
    "not_insufficient_quota",
    "insufficient_quota\n",
    "usage_limit_exceeded",
    "spend_limit_exceeded_x",
    "INSUFFICIENT_QUOTA",
    "",
)

MODEL_HOLD = {401, 402, 403, 404, 405}
MODEL_AGAIN = {408, 409, 429}
TARGET_HOLD = {401, 403, 410}
TARGET_AGAIN = {404, 408, 409, 429}


OURS = {"model": "model", "max_completion_tokens": "max_tokens", "max_tokens": "max_tokens"}


def error_of(status: int, *codes: str, **others: Any) -> CallError:
    return model_error(Answered(status, codes, **others), OURS)


class ModelErrorTests(SynchronousTestCase):
    def test_every_status(self) -> None:
        for status in range(300, 600):
            error = error_of(status)
            if status in MODEL_AGAIN or status >= 500:
                expected: type = Again
            elif status in MODEL_HOLD or status < 400:
                expected = Hold
            else:
                expected = Rejected
            self.assertIs(type(error), expected, status)
            self.assertEqual(error.status, status)
            self.assertIn(str(status), error.reason)
            self.assertEqual(str(error), error.reason)
            self.assertEqual(error.throttled, status == 429)

    def test_beyond_the_registered(self) -> None:
        for status in (600, 999):
            self.assertIs(type(error_of(status)), Again)

    def test_not_again_by_way_of_billing(self) -> None:
        self.assertNotIsInstance(error_of(500), MaybeBilled)
        self.assertEqual(MAYBE_BILLED_ATTEMPTS, 3)  # the first, and "twice at most"

    def test_wait_is_carried(self) -> None:
        for status in (408, 409, 429, 500, 503):
            self.assertEqual(error_of(status, wait=7.5).retry_after, 7.5)

    def test_empty_account(self) -> None:
        for code in EMPTY_ACCOUNT:
            for codes in ([code], [code, "tokens"], ["requests", code]):
                error = error_of(429, *codes, wait=5.0)
                self.assertIs(type(error), Hold, codes)
                self.assertIn("balance", error.reason)

    def test_other_codes_are_rate_limits(self) -> None:
        for code in OTHER_CODES:
            self.assertIs(type(error_of(429, code)), Again, code)

    def test_empty_account_is_a_429(self) -> None:
        self.assertIs(type(error_of(400, "insufficient_quota")), Rejected)
        self.assertIs(type(error_of(500, "insufficient_quota")), Again)

    def test_what_we_set(self) -> None:
        for param, advice in {
            "model": "`model`",
            "max_completion_tokens": "`max_tokens`",
            "max_tokens": "`max_tokens`",
            "model.name": "`model`",
            "model[0]": "`model`",
        }.items():
            error = error_of(400, param=param)
            self.assertIs(type(error), Hold, param)
            self.assertIn(f"check {advice}", error.reason)
            for status in (413, 422):
                self.assertIs(type(error_of(status, param=param)), Rejected)

    def test_only_what_we_set(self) -> None:
        param = "max_completion_tokens"
        self.assertIs(type(model_error(Answered(400, param=param))), Rejected)

    def test_told_whether_to_retry(self) -> None:
        for status in range(300, 600):
            plain, yes, no = (error_of(status, should_retry=told) for told in (None, True, False))
            held = isinstance(plain, Hold)  # nothing goes over a hold
            self.assertIs(type(yes), Hold if held else Again, status)
            self.assertIs(type(no), Hold if held else Rejected, status)
        for told in (True, False):
            self.assertIs(type(error_of(429, "insufficient_quota", should_retry=told)), Hold)
            self.assertIs(type(error_of(400, param="model", should_retry=told)), Hold)
        self.assertEqual(error_of(400, should_retry=True, wait=7.5).retry_after, 7.5)

    def test_should_retry(self) -> None:
        for value, told in (
            ("true", True),
            (" False ", False),
            ("", None),
            ("1", None),
            ("no", None),
            (None, None),
        ):
            self.assertIs(should_retry({"x-should-retry": value}.get), told)

    def test_what_the_prompt_set(self) -> None:
        for param in (None, "", "messages", "messages[0].content", "Model", "model "):
            error = error_of(400, param=param)
            self.assertIs(type(error), Rejected)
            if param and param.strip() and "odel" not in param:
                self.assertNotIn(param, error.reason)

    def test_operator_is_told_what_to_check(self) -> None:
        for status, word in {
            401: "`token`",
            402: "balance",
            403: "`token`",
            404: "`base_url` and `model`",
            405: "`base_url`",
            302: "`base_url`",
        }.items():
            self.assertIn(word, error_of(status).reason)

    def test_reason_is_short_whatever_the_code(self) -> None:
        code = "x" * 10**6 + "_spend_limit_exceeded"
        self.assertLess(len(error_of(429, code).reason), 300)


class TargetErrorTests(SynchronousTestCase):
    def test_every_status(self) -> None:
        for status in range(300, 600):
            error = receiver_error(TARGET, status)
            if status in TARGET_AGAIN or status >= 500:
                expected: type = Again
            elif status in TARGET_HOLD:
                expected = Hold
            else:
                expected = Rejected
            self.assertIs(type(error), expected, status)
            self.assertEqual(error.status, status)
            self.assertIn(f"the target answered {status}", error.reason)

    def test_wait_is_carried(self) -> None:
        for status in (404, 408, 429, 503):
            self.assertEqual(receiver_error(TARGET, status, 7.5).retry_after, 7.5)

    def test_gone_asks_us_to_stop(self) -> None:
        self.assertIn("asks us to stop", receiver_error(TARGET, 410).reason)

    def test_another_receiver_is_blamed_by_its_own_name(self) -> None:
        for status in (302, 401, 403, 404, 410, 422, 503):
            reason = receiver_error(DEAD_LETTER, status).reason
            self.assertIn(f"the dead letter's receiver answered {status}", reason)
            self.assertNotIn("target", reason)
        self.assertIn("check `dead_letter`", receiver_error(DEAD_LETTER, 410).reason)

    def test_redirect_says_so(self) -> None:
        self.assertIn("redirect", receiver_error(TARGET, 307).reason)


class BackoffTests(SynchronousTestCase):
    def test_doubles_up_to_a_minute(self) -> None:
        full = [backoff(attempt, lambda: 1.0) for attempt in range(1, 11)]
        self.assertEqual(full, [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0])

    def test_jitter(self) -> None:
        self.assertEqual(backoff(1, lambda: 0.0), 0.375)
        self.assertEqual(backoff(100, lambda: 0.0), 45.0)

    @given(st.integers(1, 10**9), st.floats(0, 1))
    def test_bounds(self, attempt: int, random: float) -> None:
        wait = backoff(attempt, lambda: random)
        self.assertGreaterEqual(wait, 0.375)
        self.assertLessEqual(wait, 60.0)

    def test_probes(self) -> None:
        self.assertEqual(
            [probe_interval(misses) for misses in (1, 2, 3, 4, 5, 6, 7, 10**9)],
            [30.0, 60.0, 120.0, 240.0, 480.0, 600.0, 600.0, 600.0],
        )


def said(now: float = NOW, **headers: str) -> float | None:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return retry_after(named.get, now)


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
