"""A start that changes the schema of the journal in a file: it says so, and can be stopped."""

import json
import os
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

from chatgpt_source.journal.sqlite.schema import VERSION
from tests.e2e.processes import LOG_TO_STDOUT, Daemon, DaemonCase, alive, kill, until

OLD = Path(__file__).parent.parent / "journal" / "version_2.sql"
CHANGING = f"changing the journal's schema from 2 to {VERSION}"


class UpgradeTests(DaemonCase):
    timeout = 120

    def old(self):
        """A daemon with a journal of 0.2.0, whose schema changes for as long as there is a file."""
        lasts = self.file("")
        daemon = Daemon(self, self.config(), slow_upgrade=lasts)
        with closing(sqlite3.connect(daemon.dir / "journal.sqlite")) as journal:
            journal.executescript(OLD.read_text())
        return daemon, lasts

    async def begun(self, daemon):
        """Start it in the foreground, and see it begin the change."""
        process = daemon.launch("--nodaemon", "--pidfile=", f"--rundir={daemon.dir}", LOG_TO_STDOUT)
        await until(lambda: CHANGING in process.text, f"the change, not {process.text}")
        await self.sees_it_copied(daemon)
        return process

    async def sees_it_copied(self, daemon):
        copy = daemon.dir / "journal.sqlite.schema-2.backup"
        await until(copy.exists, "a copy")

    def content(self, daemon):
        with closing(sqlite3.connect(daemon.dir / "journal.sqlite")) as journal:
            (version,) = journal.execute("PRAGMA user_version").fetchone()
            probed = 'INSERT INTO "probes"'  # which the check before a start does
            return version, [line for line in journal.iterdump() if not line.startswith(probed)]

    def messages(self, process):
        return [json.loads(line)["message"] for line in process.text.splitlines()]

    async def test_probes_are_answered_meanwhile(self):
        daemon, lasts = self.old()
        process = await self.begun(daemon)
        self.assertEqual((await daemon.get("/healthz")).status, 200)
        status, word, checks = await daemon.checks()
        self.assertEqual((status, word), (503, "not ready"))
        self.assertEqual(checks["journal"], f"starting: {CHANGING}")
        refusal = await daemon.post("text")
        self.assertIn(CHANGING, self.assert_problem(refusal, 503))
        self.assertGreater(int(refusal.header("retry-after")), 0)
        lasts.unlink()
        await until(daemon.is_ready, "the end of it")
        await daemon.reaches("accepted", "delivered")
        await daemon.reaches(await daemon.accepted("text"), "delivered")
        told = [each for each in self.messages(process) if not each.startswith("request: ")]
        begun, copied, ended, *_ = told
        self.assertEqual(begun, f"{CHANGING}: no prompts are accepted until that is done")
        self.assertIn("journal.sqlite.schema-2.backup is a copy of it", copied)
        self.assertRegex(ended, rf"^{CHANGING} took \d+\.\d s$")
        self.assertIn(await daemon.stop(), (0, -signal.SIGTERM))

    async def test_the_parent_waits_for_it(self):
        daemon, lasts = self.old()
        pidfile = daemon.dir / "twistd.pid"
        parent = daemon.launch(f"--rundir={daemon.dir}", f"--pidfile={pidfile}")
        await until(daemon.answers, "a start")
        self.addCleanup(kill, int(pidfile.read_text()))
        await self.sees_it_copied(daemon)
        self.assertIsNone(parent.status)
        lasts.unlink()
        self.assertEqual((await parent.end(), parent.text), (0, ""))
        await daemon.reaches("accepted", "delivered")

    async def test_it_is_stopped(self):
        daemon, lasts = self.old()
        before = self.content(daemon)
        process = await self.begun(daemon)
        self.assertIn(await daemon.stop(), (0, -signal.SIGTERM))
        self.assertEqual(self.messages(process)[1:], ["stopped"])
        self.assertEqual(self.content(daemon), before)
        self.assertEqual(list(daemon.dir.glob("*schema-2*")), [])
        self.assertEqual(list(daemon.dir.glob(".*")), [])
        lasts.unlink()
        await daemon.start()
        await daemon.reaches("accepted", "delivered")

    async def test_it_is_stopped_in_the_background(self):
        daemon, _ = self.old()
        before = self.content(daemon)
        pidfile = daemon.dir / "twistd.pid"
        parent = daemon.launch(f"--rundir={daemon.dir}", f"--pidfile={pidfile}")
        await until(daemon.answers, "a start")
        pid = int(pidfile.read_text())
        self.addCleanup(kill, pid)
        os.kill(pid, signal.SIGTERM)
        self.assertEqual(await parent.end(), 1)
        self.assertIn("stopped while it waited for the journal", parent.text)
        await until(lambda: not alive(pid), "its end")
        self.assertEqual(self.content(daemon), before)

    async def test_it_fails(self):
        daemon, lasts = self.old()
        lasts.unlink()
        with closing(sqlite3.connect(daemon.dir / "journal.sqlite")) as journal:
            journal.execute("CREATE TABLE prompts_4 (in_the_way)")
        before = self.content(daemon)
        (status, said), (status_behind, said_behind) = await daemon.fail_both_ways()
        self.assertEqual((status, status_behind), (1, 1), (said, said_behind))
        (line,) = [line for line in said.splitlines() if '"error"' in line]
        self.assertIn("is of schema 2, and can't be changed", line)
        self.assertIn("An error has occurred", said_behind)
        log = (daemon.dir / "twistd.log").read_text()
        self.assertEqual(log.count("is of schema 2, and can't be changed"), 1)
        for text in (said, said_behind, log):
            self.assertNotIn("Traceback", text)
        self.assertEqual(self.content(daemon), before)
        self.assertEqual(list(daemon.dir.glob("*schema-2*")), [])
