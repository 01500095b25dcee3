"""What commands do with an output that can't be written, as processes."""

import os
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.journal.sqlite import open_journal
from tests.e2e.processes import JOURNAL_COMMAND, ROOT, TWISTD

DAEMON = (str(TWISTD), "chatgpt-source")
JOURNAL = (sys.executable, "-c", JOURNAL_COMMAND)
SAYING = (
    (*DAEMON, "--check"),
    (*DAEMON, "--version"),
    (*DAEMON, "--help"),
    (*JOURNAL, "pause", "asking"),
    (*JOURNAL, "--version"),
)


class OutputTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.home = Path(self.mktemp())
        self.home.mkdir()
        (self.home / "grün.yml").write_text("target: http://localhost:9\ntoken: t\n")
        open_journal(self.home / "journal.sqlite").close()

    def run_it(self, *command: str, stdout: int | None = None, **environ: str) -> tuple[int, str]:
        """Run a command; its exit status, and what it said: both, or on stderr alone."""
        given = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **environ}
        ended = subprocess.run(
            command,
            cwd=self.home,
            env={**given, "CONNECTOR_CONFIG": "grün.yml"},
            stdout=subprocess.PIPE if stdout is None else stdout,
            stderr=subprocess.STDOUT if stdout is None else subprocess.PIPE,
            timeout=60,
            check=False,
        )
        said = ended.stdout if stdout is None else ended.stderr
        return ended.returncode, said.decode()

    def test_one_that_is_closed(self) -> None:
        told = "stdout is closed: lead it to a file, as by >/dev/null\n"
        for command in SAYING:
            ended = self.run_it("sh", "-c", '"$@" >&-', "sh", *command)
            self.assertEqual(ended, (1, told), command)

    def test_one_that_nobody_reads(self) -> None:
        for command in SAYING:
            ear, mouth = os.pipe()
            os.close(ear)
            self.assertEqual(self.run_it(*command, stdout=mouth), (1, ""), command)
            os.close(mouth)

    def test_one_without_room(self) -> None:
        told = "the output can't be written: No space left on device\n"
        for command in SAYING:
            with Path("/dev/full").open("w") as full:
                ended = self.run_it(*command, stdout=full.fileno())
            self.assertEqual(ended, (1, told), command)

    def test_characters_that_the_locale_lacks(self) -> None:
        status, said = self.run_it(*DAEMON, "--check", PYTHONIOENCODING="ascii")
        self.assertEqual(status, 0, said)
        self.assertIn("gr\\xfcn.yml\n", said)
