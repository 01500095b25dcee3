"""The benchmarks run: what they measure is not a test's to judge."""

import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

FOLDER = Path(__file__).parent.parent / "benchmarks"


class BenchmarkTests(SynchronousTestCase):
    def run_one(self, name: str, *arguments: str) -> str:
        program = [sys.executable, str(FOLDER / name), *arguments]
        ran = subprocess.run(program, capture_output=True, text=True, timeout=100, check=False)
        self.assertEqual(ran.returncode, 0, ran.stderr)
        return ran.stdout

    def test_each_can_be_started(self) -> None:
        programs = {path.name for path in FOLDER.glob("*.py")} - {"daemon.py"}
        self.assertGreater(len(programs), 4)
        for name in sorted(programs):
            self.assertIn("usage:", self.run_one(name, "--help"))

    def test_accepting(self) -> None:
        table = self.run_one("accept.py", "--seconds", "0.1", "--rounds", "1")
        self.assertIn("202/s", table)
