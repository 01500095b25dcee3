"""The lines of `--logfile`, compared with twistd's own."""

from twisted.logger import LogEvent, Logger, LogLevel, formatEventAsClassicLogText
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.log.file import line_of


class LineTests(SynchronousTestCase):
    def event(self, namespace: str, text: str, **fields: object) -> LogEvent:
        seen: list[LogEvent] = []
        Logger(namespace, observer=seen.append).info(text, **fields)
        return seen[0]

    def assert_twistds(self, event: LogEvent) -> None:
        self.assertEqual(line_of(event), formatEventAsClassicLogText(event))

    def test_our_own(self) -> None:
        ours = "chatgpt_source.telemetry.outcome_log"
        self.assert_twistds(self.event(ours, "accepted: id={id} in {s:.3f} s", id="x", s=0.0123))
        self.assert_twistds(self.event(ours, "{{}} {kind}", kind=LogLevel.info))

    def test_at_any_instant(self) -> None:
        for instant in (0.0, 1.9, 1e9 + 0.999, 1720000000.5, 1735689599.9):
            for namespace in ("chatgpt_source.x", "twisted.x"):
                event = self.event(namespace, "text")
                self.assert_twistds({**event, "log_time": instant})

    def test_others(self) -> None:
        self.assert_twistds(self.event("twisted.web", "Starting {factory!r}", factory=self))
        self.assert_twistds(self.event("twisted.web", "two\nlines"))
        self.assert_twistds({"log_format": "bare"})
        self.assertIsNone(line_of({}))

    def test_the_text_of_an_exception_is_withheld(self) -> None:
        failure = Failure(ZeroDivisionError("MARKED"))
        for namespace in ("twisted.x", "chatgpt_source.x", ""):
            event = {**self.event(namespace, "Unhandled error"), "log_failure": failure}
            line = line_of(event) or ""
            self.assertIn("unexpected error: ZeroDivisionError at ", line)
            self.assertNotIn("MARKED", line)
            self.assertEqual(line.count("\n"), 1)
            self.assertIs(event["log_failure"], failure)  # others are told, too

    def test_our_own_has_one_line(self) -> None:
        line = line_of(self.event("chatgpt_source.x", "a\nb {c}", c="d\r\x1b[2J"))
        self.assertEqual((line or "").count("\n"), 1)
        self.assertTrue((line or "").endswith("] a b d  [2J\n"))
