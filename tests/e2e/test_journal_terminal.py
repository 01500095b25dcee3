"""`chatgpt-source-journal` as an operator sees it, in a terminal of 80 columns."""

import sys

from tests.e2e.processes import JOURNAL_COMMAND, ROOT, DaemonCase
from tests.e2e.terminal import Terminal
from tests.fakes.openai import api_error

RED, GREEN = "\x1b[31m", "\x1b[32m"


class JournalTests(DaemonCase):
    def in_terminal(self, daemon, *argv, status=0, **environ):
        """Run it to its end; returns the terminal, and its lines."""
        command = [sys.executable, "-c", JOURNAL_COMMAND, *argv]
        terminal = Terminal(self, command, daemon.dir, {"PYTHONPATH": str(ROOT), **environ})
        *lines, end = terminal.wait_for_end().splitlines()
        self.assertEqual(end, f"it ended with {status}", lines)
        self.assertEqual(terminal.wide(), [])
        return terminal, [line.rstrip() for line in lines]

    async def test_an_empty_one(self):
        daemon = self.daemon()
        await daemon.start()
        self.assertEqual(self.in_terminal(daemon, "list")[1], ["no failed prompts"])
        self.assertEqual(self.in_terminal(daemon, "list", "--state=all")[1], ["no prompts"])

    async def test_prompts(self):
        daemon = self.daemon()
        await daemon.start()
        delivered = await daemon.accepted("text")
        await daemon.reaches(delivered, "delivered")
        self.openai.queue(api_error(400, code="context_length_exceeded"))
        failed = await daemon.accepted("text")
        await daemon.reaches(failed, "failed")

        terminal, (header, row) = self.in_terminal(daemon, "list")
        self.assertEqual(header.split(), ["ID", "STATE", "SINCE", "ASKS", "SENT", "REASON"])
        self.assertEqual(row.split()[:2], [failed[:8], "failed"])
        self.assertIn("the model", row)
        self.assertIn(RED, terminal.colours)

        terminal, (_, first, second) = self.in_terminal(daemon, "list", "--state", "all")
        self.assertEqual(first.split()[0], failed[:8])
        self.assertEqual(second.split()[:2], [delivered[:8], "delivered"])
        self.assertLessEqual({RED, GREEN}, terminal.colours)

        terminal, plain = self.in_terminal(daemon, "list", NO_COLOR="1")
        self.assertEqual([line.split()[:2] for line in plain], [["ID", "STATE"], row.split()[:2]])
        self.assertEqual(terminal.colours, set())

        _, lines = self.in_terminal(daemon, "show", failed[:8])
        shown = "\n".join(lines)
        self.assertRegex(shown, rf"(?m)^id: +{failed}$")
        self.assertIn("the model answered 400", shown)
        _, lines = self.in_terminal(daemon, "show", "nobody", status=1)
        self.assertEqual(lines, ["nobody  not in this journal"])

    async def test_lines_that_are_long_are_folded(self):
        daemon = self.daemon()
        await daemon.start()
        delivered = await daemon.accepted("text")
        await daemon.reaches(delivered, "delivered")
        _, lines = self.in_terminal(daemon, "redrive", delivered[:8], status=1)
        self.assertEqual(len(lines), 2)
        self.assertIn(
            "not redriven: it is not a failed prompt of this journal",
            " ".join(" ".join(lines).split()),
        )
        self.in_terminal(daemon, "pause", "target.with-a-rather-long-name")
        for mistake in (("list", "--since", "ever"), ("list", "--state", "x"), ("pause", "x")):
            self.in_terminal(daemon, *mistake, status=2)
        _, lines = self.in_terminal(daemon, "list", "--limit=-1", status=2)
        self.assertIn("'-1' is no number of prompts", " ".join(" ".join(lines).split()))

    async def test_help(self):
        daemon = self.daemon()
        for command in ((), ("list",), ("show",), ("redrive",), ("backup",), ("copy",)):
            _, lines = self.in_terminal(daemon, *command, "--help")
            self.assertTrue(lines[0].startswith("usage: "), lines)
