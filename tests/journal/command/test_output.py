"""What the program does with an output that is not as it should be, as a process."""

import os
import subprocess
import sys

from tests.e2e.processes import JOURNAL_COMMAND, ROOT
from tests.journal.common import JournalTestCase, prompt


class OutputTests(JournalTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.accept(prompt())
        self.fail_it("p1", "gr\u00fcn")

    def run_it(self, shell: str, *argv: str, **environ: str) -> "subprocess.CompletedProcess[str]":
        """Run it by a line of a shell, where `"$@"` is the command."""
        command = [sys.executable, "-c", JOURNAL_COMMAND, "--journal", str(self.path), *argv]
        given = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **environ}
        return subprocess.run(
            ["sh", "-c", shell, "sh", *command],
            env=given,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def test_characters_that_the_locale_lacks(self) -> None:
        ended = self.run_it('"$@"', "list", PYTHONIOENCODING="ascii")
        self.assertEqual((ended.returncode, ended.stderr), (0, ""))
        self.assertIn("  gr\\xfcn\n", ended.stdout)

    def test_one_that_is_closed(self) -> None:
        for shell, told in (('"$@" >&-', "stdout is closed"), ('"$@" 2>&-', "")):
            ended = self.run_it(shell, "purge", "--all")
            self.assertEqual((ended.returncode, ended.stdout), (1, ""))
            self.assertTrue(ended.stderr.startswith(told))
            self.assertEqual(ended.stderr.count("\n"), len(told) and 1)
        record = self.record("p1")
        self.assertEqual(record and record.id, "p1")
