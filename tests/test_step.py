"""The step that shows one line in the place of what a command prints."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

STEP = Path(__file__).parent.parent / "tools" / "step.py"
TEXT = "Installing things"


def module():
    spec = importlib.util.spec_from_file_location("step", STEP)
    step = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(step)
    return step


class StepTests(SynchronousTestCase):
    def run_step(self, code: str) -> tuple[int, str, str, str]:
        """Run Python code as a step; its status, what it prints, its errors, and the log."""
        log = Path(self.mktemp()) / "a folder" / "step.log"
        command = [sys.executable, STEP, log, TEXT, sys.executable, "-c", code]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        return done.returncode, done.stdout, done.stderr, log.read_text()

    def test_elsewhere_than_in_a_terminal(self) -> None:
        code = "import sys; print('out', flush=True); print('err', file=sys.stderr)"
        self.assertEqual(self.run_step(code), (0, f"{TEXT} ...\n", "", "out\nerr\n"))

    def test_failure(self) -> None:
        status, _, told, _ = self.run_step("print('ERROR: no luck.'); print('end'); exit(3)")
        self.assertEqual(status, 3)
        self.assertRegex(told, r"^This failed: ERROR: no luck\. \S.*step\.log has the details\.\n$")

    def test_reasons(self) -> None:
        step = module()
        for log, words in (
            ("WARNING: Retrying after connection broken by 'X'\nERROR: No matching", "network"),
            ("The virtual environment ... because ensurepip is not available", "python3-venv"),
            ("OSError: [Errno 28] No space left on device", "disk is full"),
            ("ERROR: No matching distribution found for x", "nothing that fits"),
            ("a\nerror: subprocess failed\nb", "error: subprocess failed"),
            ("a\nlast\n", "last"),
            ("", "printed nothing"),
        ):
            self.assertIn(words, step.reason_in(log))

    def test_downloaded(self) -> None:
        sizes = (0, 10, 30, 0, 5, 7)
        log = "".join(f"Progress {size} of 30\n" for size in sizes)
        self.assertEqual(module().downloaded(log), 37)
        self.assertEqual(module().downloaded("Collecting x"), 0)

    def test_old_python(self) -> None:
        step = module()
        self.patch(step, "PYTHON", (99, 0))
        error = self.assertRaises(SystemExit, step.main)
        self.assertTrue(re.search(r"needs Python 99\.0 or newer.*PYTHON=", str(error)))
