"""The log: what passes at which level, one line an event, and nothing of what a failure says."""

import sys
from collections.abc import Callable
from io import BytesIO, StringIO, TextIOWrapper
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import ILogObserver, Logger, LogLevel, capturedLogs
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from chatgpt_source.log import LEVELS, get_logger, log_unexpected, set_level, stdout

ORDER = (LogLevel.debug, LogLevel.info, LogLevel.warn, LogLevel.error, LogLevel.critical)


def marked_failure() -> Failure:
    def inner() -> None:
        raise ZeroDivisionError("MARKED")

    try:
        inner()
    except ZeroDivisionError:
        return Failure()


class LevelTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.addCleanup(set_level, "info")
        self.log = get_logger("chatgpt_source.somewhere")

    def passing(self, log: Logger) -> list[Any]:
        with capturedLogs() as logged:
            for level in ORDER:
                log.emit(level, "x")
        return [event["log_level"] for event in logged]

    def test_info_unless_set(self) -> None:
        self.assertEqual(self.passing(self.log), list(ORDER[1:]))

    def test_every_level(self) -> None:
        for name, level in LEVELS.items():
            set_level(name)
            self.assertEqual(self.passing(self.log), [other for other in ORDER if other >= level])

    def test_names_of_the_go_connector(self) -> None:
        names = ("trace", "debug", "info", "warn", "error", "fatal", "panic")
        self.assertEqual(set(names) | {"warning"}, set(LEVELS))

    def test_a_logger_made_before_follows(self) -> None:
        set_level("error")
        self.assertEqual(self.passing(self.log), [LogLevel.error, LogLevel.critical])
        set_level("debug")
        self.assertEqual(self.passing(self.log), list(ORDER))


class UnexpectedTests(SynchronousTestCase):
    def logged(self, failure: Failure) -> str:
        with capturedLogs() as logged:
            log_unexpected(get_logger("chatgpt_source.somewhere"), "asking", failure)
        (event,) = logged
        self.assertIs(event["log_level"], LogLevel.error)
        self.assertNotIn("log_failure", event)
        self.assertNotIn("MARKED", repr(event))
        return event["log_format"].format(**event)

    def test_kind_and_place_but_no_text(self) -> None:
        line = self.logged(marked_failure())
        self.assertTrue(line.startswith("asking: ZeroDivisionError (its text is withheld) at "))
        self.assertRegex(line, r"test_log\.py:\d+ < \S*test_log\.py:\d+$")

    def test_a_cause_with_a_text(self) -> None:
        try:
            try:
                int("MARKED")
            except ValueError as error:
                raise KeyError("MARKED") from error
        except KeyError:
            self.assertIn("KeyError", self.logged(Failure()))

    def test_without_a_traceback(self) -> None:
        self.assertIn("KeyError", self.logged(Failure(KeyError("MARKED"))))
        cleaned = marked_failure()
        cleaned.cleanFailure()
        self.assertIn("ZeroDivisionError", self.logged(cleaned))


class StdoutTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.out = StringIO()
        self.patch(sys, "stdout", self.out)
        self.observer = stdout()

    def line(self, log: Callable[[Logger], None], namespace: str = "chatgpt_source.x") -> str:
        log(Logger(namespace, observer=self.observer))
        text = self.out.getvalue()
        self.out.seek(0)
        self.out.truncate()
        self.assertEqual(len(text.splitlines()), 1, repr(text))
        self.assertTrue(text.endswith("\n"))
        return text[:-1]

    def test_is_an_observer(self) -> None:
        verifyObject(ILogObserver, self.observer)

    def test_format(self) -> None:
        self.observer(
            {
                "log_time": 1679994910.7049,
                "log_level": LogLevel.warn,
                "log_namespace": "chatgpt_source.x",
                "log_format": "{a} of {b}",
                "a": 1,
                "b": "{a}",
            }
        )
        self.assertEqual(self.out.getvalue(), "2023-03-28T09:15:10.704Z warn     1 of {a}\n")

    def test_each_line_is_flushed(self) -> None:
        raw = BytesIO()
        self.patch(sys, "stdout", TextIOWrapper(raw, encoding="utf-8"))
        Logger("chatgpt_source.x", observer=stdout()).info("here")
        self.assertIn(b"here\n", raw.getvalue())

    def test_a_field_starts_no_line(self) -> None:
        for separator in "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029":
            line = self.line(lambda log, text=f"a{separator}b": log.info("{text}", text=text))
            self.assertTrue(line.endswith("b"), repr(separator))
        self.line(lambda log: log.info("a\r\n2023-03-28T09:15:10.704Z error    forged"))

    def test_a_field_moves_no_cursor(self) -> None:
        for control in "\x00\x07\x08\x1b\x7f\x9b":
            line = self.line(lambda log, text=f"a{control}b": log.info("{text}", text=text))
            self.assertNotIn(control, line)

    @given(st.text())
    def test_any_text(self, text: str) -> None:
        self.line(lambda log: log.info("{text}", text=text))

    def test_what_no_stream_can_encode(self) -> None:
        raw = BytesIO()
        self.patch(sys, "stdout", TextIOWrapper(raw, encoding="utf-8"))
        Logger("chatgpt_source.x", observer=stdout()).info("{text}", text="a\ud800b")
        self.assertEqual(len(raw.getvalue().splitlines()), 1)

    def test_failure_is_shown_without_its_text(self) -> None:
        for namespace in ("chatgpt_source.x", "twisted.web"):
            line = self.line(
                lambda log: log.failure("while at it: {x}", marked_failure(), x="MARKED"), namespace
            )
            self.assertIn("ZeroDivisionError at ", line)
            self.assertIn("test_log.py:", line)
            self.assertNotIn("MARKED", line)

    def test_failure_without_a_traceback(self) -> None:
        line = self.line(lambda log: log.failure("x", Failure(KeyError("MARKED"))))
        self.assertIn("KeyError", line)
        self.assertNotIn("MARKED", line)

    def test_unformattable(self) -> None:
        class Sulky:
            def __repr__(self) -> str:
                raise ValueError("no")

        self.line(lambda log: log.info("{x}", x=Sulky()))
        self.line(lambda log: log.info("{missing}"))

    def test_twisted_is_heard_when_it_warns(self) -> None:
        log = Logger("twisted.internet.tcp", observer=self.observer)
        log.debug("x")
        log.info("x")
        self.assertEqual(self.out.getvalue(), "")
        for level in ORDER[2:]:
            line = self.line(lambda log, level=level: log.emit(level, "x"), "twisted.web")
            self.assertIn(f" {level.name:<8} x", line)

    def test_ours_is_heard_at_every_level(self) -> None:
        """What is below the configured level never comes this far."""
        for level in ORDER:
            self.line(lambda log, level=level: log.emit(level, "x"))
