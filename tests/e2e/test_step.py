"""A step of the Makefile in a terminal."""

import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.e2e.terminal import Terminal

STEP = Path(__file__).parent.parent.parent / "tools" / "step.py"
TEXT = "Installing things"


class StepTests(SynchronousTestCase):
    def in_terminal(self, code: str, **environ: str) -> Terminal:
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        command = [sys.executable, str(STEP), "step.log", TEXT, sys.executable, "-c", code]
        return Terminal(self, command, folder, environ)

    def test_one_line_until_it_ends(self) -> None:
        code = "import os, time\nwhile not os.path.exists('go'): time.sleep(0.05)"
        code = f"print('Progress 2000000 of 9', flush=True)\n{code}"
        terminal = self.in_terminal(code)
        terminal.wait_for_match(f"{TEXT}  2 MB, [1-9]")
        self.assertEqual(len(terminal.screen.splitlines()), 1)
        (terminal.folder / "go").touch()
        line, end = terminal.wait_for_end().splitlines()
        self.assertRegex(line, rf"^✓ {TEXT}  2 MB, \d+ s *$")
        self.assertEqual(end, "it ended with 0")
        self.assertTrue(terminal.colours)

    def test_failure(self) -> None:
        words = "word " * 30
        terminal = self.in_terminal(f"print('ERROR: {words}'); exit(1)", NO_COLOR="1")
        lines = terminal.wait_for_end().splitlines()
        self.assertRegex(lines[0], rf"^✗ {TEXT}  \d+ s *$")
        self.assertIn("step.log has the details.", lines[-2] + lines[-3])
        self.assertEqual(lines[-1], "it ended with 1")
        self.assertEqual((terminal.wide(), terminal.colours), ([], set()))

    def test_interrupted(self) -> None:
        terminal = self.in_terminal("import time; time.sleep(60)")
        terminal.wait_for_match(rf"{TEXT}  \d+ s")
        terminal.press("C-c")
        lines = terminal.wait_for_end().splitlines()
        self.assertIn(f"✗ {TEXT}  stopped", lines[0])
        self.assertEqual(lines[-1], "it ended with 130")
