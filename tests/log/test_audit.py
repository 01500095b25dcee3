"""The lines about what operators do."""

from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.log.audit import A_BEARER, ANYBODY, audit


class AuditTests(SynchronousTestCase):
    def test_one_line_with_who_and_what(self) -> None:
        with capturedLogs() as logged:
            audit("{alice}", "paused {x}")
        (event,) = logged
        self.assertEqual(formatEvent(event), "operator {alice} paused {x}")
        self.assertEqual(event["log_level"], LogLevel.info)

    def test_an_operator_without_a_name(self) -> None:
        for who, told in (
            (ANYBODY, "without credentials"),
            (A_BEARER, "with a bearer token"),
        ):
            with capturedLogs() as logged:
                audit(who, "paused asking")
            lines = [formatEvent(event) for event in logged]
            self.assertEqual(lines, [f"operator {told} paused asking"])
