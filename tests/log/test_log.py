"""The log: what passes at which level, one line an event, and nothing of what a failure says."""

import json
import sys
import time
from collections.abc import Callable
from io import BytesIO, StringIO, TextIOWrapper
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.logger import ILogObserver, Logger, LogLevel, capturedLogs
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from chatgpt_source.log import (
    FORMATS,
    LEVELS,
    get_logger,
    is_stdout_the_log,
    log_unexpected,
    set_format,
    set_level,
    stdout,
)

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


class EventTests(SynchronousTestCase):
    def event(self, logger: Logger) -> dict[str, Any]:
        seen: list[dict[str, Any]] = []
        logger.observer = seen.append
        logger.warn("{a} of {b}", a=1, b="x")
        (event,) = seen
        self.assertIs(event.pop("log_logger"), logger)
        self.assertLess(abs(event.pop("log_time") - time.time()), 3600)
        return event

    def test_it_is_twisteds(self) -> None:
        name = "chatgpt_source.x"
        self.assertEqual(self.event(get_logger(name)), self.event(Logger(name)))

    def test_a_failures_is_twisteds(self) -> None:
        seen: list[dict[str, Any]] = []
        for logger in (get_logger("chatgpt_source.x"), Logger("chatgpt_source.x")):
            logger.observer = seen.append
            logger.failure("{a}", Failure(KeyError()), a=1)
        self.assertEqual(set(seen[0]), set(seen[1]))
        self.assertIs(seen[0]["log_level"], LogLevel.critical)


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


class StdoutCase(SynchronousTestCase):
    format = "auto"

    def setUp(self) -> None:
        self.addCleanup(set_format, "auto")
        set_format(self.format)
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


class TextTests(StdoutCase):
    format = "text"

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

    @settings(deadline=None)
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

    def test_no_stdout(self) -> None:
        self.patch(sys, "stdout", None)
        Logger("chatgpt_source.x", observer=stdout()).info("nowhere")

    def test_twisted_is_heard_when_it_warns(self) -> None:
        log = Logger("twisted.internet.tcp", observer=self.observer)
        log.debug("x")
        log.info("x")
        self.assertEqual(self.out.getvalue(), "")
        for level, name in zip(ORDER[2:], ("warn", "error", "fatal"), strict=True):
            line = self.line(lambda log, level=level: log.emit(level, "x"), "twisted.web")
            self.assertIn(f" {name:<8} x", line)

    def test_ours_is_heard_at_every_level(self) -> None:
        """What is below the configured level never comes this far."""
        for level in ORDER:
            self.line(lambda log, level=level: log.emit(level, "x"))


class JsonTests(StdoutCase):
    format = "json"

    def told(self, log: Callable[[Logger], None], namespace: str = "chatgpt_source.x") -> Any:
        line = self.line(log, namespace)
        self.assertTrue(line.isascii())
        return json.loads(line, parse_constant=self.fail)

    def test_members(self) -> None:
        self.observer(
            {
                "log_time": 1679994910.7049,
                "log_level": LogLevel.warn,
                "log_namespace": "chatgpt_source.x",
                "log_format": "{reason}: id={id}, next attempt in {wait:.1f} s",
                "reason": "größer",
                "id": "p1",
                "wait": 1.25,
                "other": "unseen",
            }
        )
        self.assertEqual(
            json.loads(self.out.getvalue()),
            {
                "time": "2023-03-28T09:15:10.704Z",
                "level": "warn",
                "logger": "chatgpt_source.x",
                "message": "größer: id=p1, next attempt in 1.2 s",
                "reason": "größer",
                "id": "p1",
                "wait": 1.25,
            },
        )

    def test_levels_are_the_go_connectors(self) -> None:
        for level, name in zip(ORDER, ("debug", "info", "warn", "error", "fatal"), strict=True):
            told = self.told(lambda log, level=level: log.emit(level, "x"))
            self.assertEqual(told["level"], name)
            self.assertIn(name, LEVELS)

    def test_plain_values_alone(self) -> None:
        for value, expected in (
            ("a", "a"),
            (True, True),
            (7, 7),
            (float("nan"), None),
            (float("-inf"), None),
            (None, None),
            ({"MARKED": 1}, None),
            (["MARKED"], None),
            (b"MARKED", None),
            (marked_failure(), None),
        ):
            told = self.told(lambda log, value=value: log.info("{x!s:.0}", x=value))
            self.assertEqual(told["x"], expected)
            self.assertNotIn("MARKED", str(told))

    def test_no_field_takes_the_place_of_a_member(self) -> None:
        told = self.told(lambda log: log.info("{time} {message}", time="a", message="b"))
        self.assertNotEqual(told["time"], "a")
        self.assertEqual(told["message"], "a b")

    def test_nothing_of_an_objects_own(self) -> None:
        told = self.told(lambda log: log.info("{x.name} {y[0]} {f()}", x=LogLevel.info, y=[1], f=1))
        self.assertEqual(set(told), {"time", "level", "logger", "message"})

    def test_what_is_no_format_string(self) -> None:
        for text in ("{", "}", "{x", "{}", "{0}"):
            told = self.told(lambda log, text=text: log.info(text, x="MARKED"))
            self.assertEqual(set(told), {"time", "level", "logger", "message"})

    def test_of_twisted_the_message_alone(self) -> None:
        told = self.told(lambda log: log.warn("{x}", x="seen"), "twisted.web")
        self.assertEqual((told["message"], told["logger"]), ("seen", "twisted.web"))
        self.assertNotIn("x", told)

    def test_failure_is_shown_without_its_text(self) -> None:
        for namespace in ("chatgpt_source.x", "twisted.web"):
            told = self.told(
                lambda log: log.failure("while at it: {x}", marked_failure(), x="MARKED"), namespace
            )
            self.assertIn("ZeroDivisionError at ", told["message"])
            self.assertEqual(told["level"], "fatal")
            self.assertNotIn("MARKED", str(told))

    @settings(deadline=None)
    @given(st.text())
    def test_any_text(self, text: str) -> None:
        told = self.told(lambda log: log.info("{text}", text=text))
        self.assertEqual(told["message"], told["text"])

    @settings(deadline=None)
    @given(
        st.one_of(st.text(), st.integers(), st.booleans(), st.floats(allow_nan=False), st.none())
    )
    def test_it_is_written_as_the_standard_library_does(self, value: object) -> None:
        line = self.line(lambda log: log.info("{x} {y} {x}", x=value, y=value))
        self.assertEqual(line, json.dumps(json.loads(line)))
        self.assertEqual(list(json.loads(line)), ["time", "level", "logger", "message", "x", "y"])

    def test_controls_and_what_no_stream_can_encode(self) -> None:
        told = self.told(lambda log: log.info("{text}", text="a\x1b\u2028\ud800b"))
        self.assertEqual(told["text"], "a  ?b")

    def test_unformattable(self) -> None:
        class Sulky:
            def __repr__(self) -> str:
                raise ValueError("no")

        self.told(lambda log: log.info("{x}", x=Sulky()))
        self.assertIsNone(self.told(lambda log: log.info("{missing}"))["missing"])


class FormatTests(SynchronousTestCase):
    def written(self, *, terminal: bool, name: str) -> str:
        self.addCleanup(set_format, "auto")
        out = StringIO()
        out.isatty = lambda: terminal  # type: ignore[method-assign]
        self.patch(sys, "stdout", out)
        observer = stdout()
        set_format(name)  # after twistd has made the observer, or before: it follows
        Logger("chatgpt_source.x", observer=observer).info("x")
        return "json" if out.getvalue().startswith("{") else "text"

    def test_auto_asks_the_stream(self) -> None:
        self.assertEqual(self.written(terminal=True, name="auto"), "text")
        self.assertEqual(self.written(terminal=False, name="auto"), "json")

    def test_what_is_set_is_written(self) -> None:
        for name in FORMATS[1:]:
            for terminal in (True, False):
                self.assertEqual(self.written(terminal=terminal, name=name), name)

    def test_where_twistd_logs(self) -> None:
        for twistd in ({}, {"logfile": None}, {"logfile": "-"}, {"logfile": ""}):
            self.assertTrue(is_stdout_the_log({"nodaemon": True, **twistd}))
        for twistd in ({"logfile": "x.log"}, {"syslog": True}, {"nodaemon": False}):
            self.assertFalse(is_stdout_the_log({"nodaemon": True, **twistd}))
