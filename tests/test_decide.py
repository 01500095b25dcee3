"""What becomes of a prompt after a failure, row by row."""

from typing import Any

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.decide import (
    MOST_IN_A_ROW,
    RECENT,
    Fail,
    HoldAll,
    Others,
    Retry,
    Tried,
    decide,
)
from chatgpt_source.prompt import Again, CallError, Hold, MaybeBilled, Rejected

NOW = 1000.0
NEVER = float("-inf")
FIRST = Tried(attempt=1, started=NOW - 1)
NOBODY = Others(NEVER, NEVER)
BEFORE = Others(started=NOW - 30, succeeded=NOW - 5)
"""Others succeeded a moment ago, by calls that were started before this one."""
SINCE = Others(started=NOW - 0.5, succeeded=NOW)
"""Others succeeded by calls that were started after this one."""


def after(error: CallError, others: Others = NOBODY, **tried: Any) -> Any:
    return decide(error, evolve(FIRST, **tried), others, NOW, lambda: 1.0)


def held(status: int) -> Hold:
    return Hold(f"the model answered {status}", status=status)


class AgainTests(SynchronousTestCase):
    def test_table(self) -> None:
        down, lost = Again("down"), MaybeBilled("no answer in time")
        for error, tried, expected in (
            (down, {}, Retry(NOW + 0.5)),
            (down, {"attempt": 3}, Retry(NOW + 2.0)),
            (Again("busy", retry_after=7.0), {"attempt": 3}, Retry(NOW + 7.0)),
            (down, {"gave_up": True}, Fail("down (after `give_up_after`)")),
            (lost, {}, Retry(NOW + 0.5)),
            (lost, {"tried_out": True}, Fail(f"{lost} (the last attempt of those allowed)")),
            (lost, {"gave_up": True}, Fail(f"{lost} (after `give_up_after`)")),
            (Rejected("refused"), {}, Fail("refused")),
        ):
            for others in (NOBODY, BEFORE, SINCE):
                self.assertEqual(after(error, others, **tried), expected)


class HoldTests(SynchronousTestCase):
    def test_table(self) -> None:
        own, ours = (400, 403, 404), (302, 401, 402, 405, 410, 429)
        soon, later = Retry(NOW + 0.5), Retry(NOW + 30.0)
        since = {"held": NOW - 0.7}
        old = {"gave_up": True}
        for statuses, others, tried, expected in (
            # Nothing shows that the peer works.
            (own + ours, NOBODY, {}, HoldAll),
            (own + ours, NOBODY, since, HoldAll),
            (own + ours, NOBODY, old, HoldAll),
            (own + ours, evolve(SINCE, succeeded=NOW - RECENT - 1), since, HoldAll),
            # It worked a moment ago, but that may be over.
            (own, BEFORE, {}, soon),
            (own, BEFORE, since, soon),
            (own, BEFORE, old, soon),
            (ours, BEFORE, {}, HoldAll),
            (own, evolve(BEFORE, held=True), {}, HoldAll),
            (own, evolve(BEFORE, refusals=MOST_IN_A_ROW), {}, HoldAll),
            # It works: it is this prompt.
            (own, SINCE, {}, Fail),
            (own, SINCE, since, Fail),
            (own, evolve(SINCE, refusals=MOST_IN_A_ROW), since, Fail),
            (ours, SINCE, {}, HoldAll),
            (ours, SINCE, since, later),
            (own + ours, SINCE, old, Fail),
        ):
            for status in statuses:
                decision = after(held(status), others, **tried)
                if isinstance(expected, type):
                    self.assertIsInstance(decision, expected, (status, others, tried))
                else:
                    self.assertEqual(decision, expected, (status, others, tried))

    def test_words(self) -> None:
        self.assertEqual(
            after(held(404), SINCE).reason, "the model answered 404 (while others succeed)"
        )
        self.assertEqual(
            after(held(401), SINCE, gave_up=True).reason,
            "the model answered 401 (after `give_up_after`, while others succeed)",
        )
