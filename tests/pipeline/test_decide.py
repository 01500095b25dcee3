"""What becomes of a prompt after a failure, row by row."""

from typing import Any

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.errors import CallError, PeerFailure, Permanent, PossiblyBilled, Transient
from chatgpt_source.pipeline.decide import (
    FEW,
    MOST_IN_A_ROW,
    RECENT,
    Fail,
    Hold,
    Others,
    Retry,
    Tried,
    decide,
)

NOW = 1000.0
NEVER = float("-inf")
FIRST = Tried(attempt=1, started=NOW - 1, asked=True)
NOBODY = Others(NEVER, NEVER)
BEFORE = Others(started=NOW - 30, succeeded=NOW - 5)
"""Others succeeded a moment ago, by calls that were started before this one."""
SINCE = Others(started=NOW - 0.5, succeeded=NOW)
"""Others succeeded by calls that were started after this one."""


def after(error: CallError, others: Others = NOBODY, **tried: Any) -> Any:
    return decide(error, evolve(FIRST, **tried), others, NOW, lambda: 1.0)


def held(status: int) -> PeerFailure:
    return PeerFailure(f"the model answered {status}", status=status)


class AgainTests(SynchronousTestCase):
    def test_table(self) -> None:
        down, lost = Transient("down"), PossiblyBilled("no answer in time")
        for error, tried, expected in (
            (down, {}, Retry(NOW + 0.5)),
            (down, {"attempt": 3}, Retry(NOW + 2.0)),
            (Transient("busy", retry_after=7.0), {"attempt": 3}, Retry(NOW + 7.0)),
            (down, {"gave_up": True}, Fail("down: after `give_up_after`")),
            (lost, {}, Retry(NOW + 0.5)),
            (lost, {"tried_out": True}, Fail(f"{lost}: the last attempt of those allowed")),
            (lost, {"gave_up": True}, Fail(f"{lost}: after `give_up_after`")),
            (Permanent("refused"), {}, Fail("refused")),
        ):
            for others in (NOBODY, BEFORE, SINCE):
                self.assertEqual(after(error, others, **tried), expected)


class HoldTests(SynchronousTestCase):
    def test_table(self) -> None:
        changed, ours = (403, 404), (302, 401, 402, 405, 410, 429)
        own = (400, *changed)
        soon, later = Retry(NOW + 0.5), Retry(NOW + 30.0)
        before, old, event = {"held": NOW - 0.7}, {"gave_up": True}, {"asked": False}
        many, too_many = evolve(BEFORE, refusals=FEW), evolve(BEFORE, refusals=MOST_IN_A_ROW)
        for statuses, others, tried, expected in (
            # Nothing shows that the peer works.
            (own + ours, NOBODY, {}, Hold),
            (own + ours, NOBODY, before, Hold),
            (own + ours, NOBODY, old, Hold),
            (own + ours, evolve(SINCE, succeeded=NOW - RECENT - 1), before, Hold),
            # It worked a moment ago, but that may be over.
            ((400,), BEFORE, {}, Fail),
            (changed, BEFORE, {}, soon),
            (changed, BEFORE, old, soon),
            (changed, BEFORE, before, Fail),
            (changed, many, before, soon),
            ((400,), many, {}, Fail),
            (own, too_many, {}, Hold),
            (own, too_many, before, Hold),
            (own, evolve(BEFORE, held=True), {}, Hold),
            (ours, BEFORE, {}, Hold),
            (ours, BEFORE, before, Hold),
            (own + ours, BEFORE, event, Hold),
            (own + ours, BEFORE, {**event, **before}, Hold),
            # It works: it is this prompt.
            (own, SINCE, {}, Fail),
            (own, SINCE, event, Fail),
            (own, SINCE, before, Fail),
            (own, evolve(SINCE, refusals=MOST_IN_A_ROW), before, Fail),
            (ours, SINCE, {}, Hold),
            (ours, SINCE, before, later),
            (own + ours, SINCE, old, Fail),
        ):
            for status in statuses:
                decision = after(held(status), others, **tried)
                row = (status, others, tried)
                if isinstance(expected, type):
                    self.assertIsInstance(decision, expected, row)
                else:
                    self.assertEqual(decision, expected, row)

    def test_words(self) -> None:
        self.assertEqual(
            after(held(404), SINCE).reason, "the model answered 404: while others succeed"
        )
        self.assertEqual(
            after(held(401), SINCE, gave_up=True).reason,
            "the model answered 401: after `give_up_after`, while others succeed",
        )
