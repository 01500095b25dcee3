"""Prompts as rows of a table."""

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.journal import Record
from chatgpt_source.journal.command.table import header, line, row, short_age
from chatgpt_source.prompt import State
from chatgpt_source.terminal import Look

ID = "0effe4cc-06c7-4fe9-9180-aa7c3b30777e"


def record(state: State = State.FAILED, **parts: Any) -> Record:
    values: dict[str, Any] = {"answered": None, "ended": 100.0, "error": "why"}
    return Record(ID, state, 40.0, asks=2, deliveries=3, **{**values, **parts})


class TableTests(SynchronousTestCase):
    def test_columns(self) -> None:
        look = Look(80)
        self.assertEqual(header(look), "ID        STATE        SINCE  ASKS  SENT  REASON")
        self.assertEqual(
            row(record(), 160.0, look), "0effe4cc  failed       1 min     2     3  why"
        )

    def test_since_when(self) -> None:
        waiting = record(State.ACCEPTED, ended=None, error=None)
        self.assertIn("  20 s  ", row(waiting, 60.0, Look(80)))
        answered = record(State.ANSWERED, ended=None, answered=55.0)
        self.assertIn("   5 s  ", row(answered, 60.0, Look(80)))

    def test_no_line_is_wider_than_the_terminal(self) -> None:
        for width in (10, 40, 80):
            for text in (
                header(Look(width)),
                row(record(error="x" * 200), 160.0, Look(width)),
            ):
                self.assertLessEqual(len(text), width)

    def test_colours(self) -> None:
        for state, code in (
            (State.FAILED, 31),
            (State.DELIVERED, 32),
            (State.CANCELLED, 2),
            (State.SUBMITTED, 33),
        ):
            text = row(record(state), 160.0, Look(80, colour=True))
            self.assertIn(f"\x1b[{code}m{state.value}\x1b[0m", text)

    def test_a_line_has_the_whole_id(self) -> None:
        expected = f"{ID}  failed     1970-01-01T00:00:40Z  asks=2 deliveries=3 failed="
        expected += "1970-01-01T00:01:40Z  why"
        self.assertEqual(line(record()), expected)

    def test_ages(self) -> None:
        told = [short_age(seconds) for seconds in (-5, 0.5, 59, 60, 3599, 3600, 86400, 1e7)]
        self.assertEqual(told, ["0 s", "0 s", "59 s", "1 min", "59 min", "1 h", "1 d", "115 d"])
