"""What suits a terminal, and what suits none."""

import os
from io import StringIO

from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.terminal import BOLD, RED, Look, look_of


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


class TerminalTests(SynchronousTestCase):
    def test_how_an_output_looks(self) -> None:
        self.patch(os, "environ", {**os.environ, "COLUMNS": "70"})
        for other in (StringIO(), None):
            self.assertEqual(look_of(other, {}), Look())
        self.assertEqual(look_of(Terminal(), {}), Look(70, colour=True))
        for plain in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
            self.assertEqual(look_of(Terminal(), plain), Look(70))

    def test_paint(self) -> None:
        self.assertEqual(Look(80, colour=True).paint("text", BOLD, RED), "\x1b[1;31mtext\x1b[0m")
        self.assertEqual(Look(80, colour=True).paint("", BOLD), "")
        self.assertEqual(Look(80).paint("text", BOLD), "text")

    def test_fold(self) -> None:
        text = f"  one two three four five six\n\nseven {'8' * 41}"
        folded = ["  one two three four", "    five six", "", "seven 888888888888888888"]
        folded += [f"    {'8' * 20}", "    888"]
        self.assertEqual(Look(24).fold(text, "    ").split("\n"), folded)
        self.assertEqual(Look().fold(text, "    "), text)
        self.assertEqual(Look(5).fold("a" * 30), "a" * 20 + "\n" + "a" * 10)
