"""The benchmarks run: what they measure is not a test's to judge."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.journal.postgres_server import server

FOLDER = Path(__file__).parent.parent / "benchmarks"
MODULES = {"daemon.py", "peers.py", "programs.py", "report.py", "scenarios.py"}


class BenchmarkTests(SynchronousTestCase):
    def run_one(self, name: str, *arguments: str) -> str:
        program = [sys.executable, str(FOLDER / name), *arguments]
        ran = subprocess.run(program, capture_output=True, text=True, timeout=300, check=False)
        self.assertEqual(ran.returncode, 0, ran.stderr)
        return ran.stdout

    def test_each_can_be_started(self) -> None:
        programs = {path.name for path in FOLDER.glob("*.py")} - MODULES
        self.assertGreater(len(programs), 7)
        for name in sorted(programs):
            self.assertIn("usage:", self.run_one(name, "--help"))

    def test_accepting(self) -> None:
        table = self.run_one("accept.py", "--seconds", "0.1", "--rounds", "1")
        self.assertIn("202/s", table)

    def test_comparing(self) -> None:
        few = ("--calls", "4", "--latency", "0.01", "--events", "40", "--rounds", "1")
        table = self.run_one("compare.py", *few, "relay")
        self.assertIn("round 1, daemon:", table)
        self.assertRegex(table, r"the daemon's to relay's: \d+\.\d\d \(")

    def test_sharing(self) -> None:
        few = ("--calls", "4", "--latency", "0.01", "--events", "40", "--rounds", "1")
        table = self.run_one("sharing.py", "--files", "2", *few)
        self.assertRegex(table, r"2 with a journal each, to one .* \d+\.\d\d \(")

    def test_replicas(self) -> None:
        server()
        few = ("--calls", "4", "--latency", "0.01", "--events", "40", "--rounds", "1")
        table = self.run_one("sharing.py", "--replicas", "2", *few)
        self.assertRegex(table, r"2 with one journal in PostgreSQL, to one .* \d+\.\d\d \(")


class FigureTests(SynchronousTestCase):
    """What is made of the figures."""

    def setUp(self) -> None:
        self.patch(sys, "path", [str(FOLDER), *sys.path])

    def test_the_ratio_is_of_each_rounds_pair(self) -> None:
        compare = import_module("compare")
        daemon, rival = (
            [compare.Figures(cpu, 1, 1, 1, 1, 0.1) for cpu in row]
            for row in ([1.0, 3.0, 2.0], [2.0, 2.0, 2.0])
        )
        self.assertEqual(str(compare.ratio(daemon, rival)), "1.00 (0.50 to 1.50)")
        self.assertEqual(compare.median(daemon).cpu_ms, 2.0)

    def test_the_guard(self) -> None:
        guard = import_module("guard")
        for measured, fine in ((0.8, True), (1.149, True), (1.151, False)):
            self.assertEqual(guard.verdict(measured, 1.0)[0], fine)
        self.assertIn("1.20; kept: 1.00, at most 1.15", guard.verdict(1.2, 1.0)[1])
