"""A copy of the journal, taken while a daemon works on it, is a journal a daemon can start from."""

import os
import re
import shlex
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from tests.e2e.processes import ROOT, DaemonCase, Running, until
from tests.fakes.server import Reply

COMMAND = Path(sys.executable).with_name("chatgpt-source-journal")
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()


def told(purpose):
    """A command of the docs, by the comment above it."""
    return re.search(rf"^# {re.escape(purpose)}\n(.+)$", OPERATIONS, re.MULTILINE)[1]


class BackupTests(DaemonCase):
    async def busy(self, daemon, sent):
        """Prompts without end, until `sent.stop` is there; some of them can't be delivered yet."""
        while "stop" not in sent:
            sent.append(await daemon.accepted(f"prompt {len(sent)}"))

    async def copy_under_load(self, copy):
        self.target.script = lambda _: Reply(503) if len(self.target.events) > 20 else Reply(204)
        daemon = self.daemon(concurrency=8, everyday_limit=100_000)
        await daemon.start()
        sent = []
        sending = Deferred.fromCoroutine(self.busy(daemon, sent))
        await until(lambda: len(sent) > 30, "some load")
        before = list(sent)
        await deferToThread(copy, daemon.dir)
        after = len(sent)
        await until(lambda: len(sent) > after, "more load")
        sent.append("stop")
        await sending
        await daemon.kill()
        return before, [prompt_id for prompt_id in sent if prompt_id != "stop"]

    async def restored(self, backup, before):
        self.assertEqual(backup.stat().st_mode & 0o077, 0)
        self.target.script = self.target.default
        second = self.daemon()
        backup.rename(second.dir / "backup.sqlite")
        self.run_told("the copy in the journal's place, while no daemon runs", second.dir)
        process = second.launch(f"--rundir={second.dir}", arguments=("chatgpt-source", "--check"))
        self.assertEqual(await process.end(), 0, process.text)
        await second.start()
        for prompt_id in before:
            await second.reaches(prompt_id, "delivered")
        events = [event["id"] for event in self.target.events]
        self.assertLessEqual(set(before), set(events))
        return second

    def run_told(self, purpose, folder):
        command = told(purpose).replace("/var/lib/chatgpt-source", str(folder))
        command = re.sub(r"^chatgpt-source-journal\b", shlex.quote(str(COMMAND)), command)
        # As by `kubectl exec`, which knows nothing of the caller's umask.
        subprocess.run(["sh", "-c", f"umask 0; {command}"], check=True, timeout=30, cwd=folder)

    async def test_as_the_docs_say(self):
        place = {}

        def copy(folder):
            self.run_told("a copy of the journal, while the daemon runs", folder)
            place["backup"] = folder / "backup.sqlite"

        before, sent = await self.copy_under_load(copy)
        second = await self.restored(place["backup"], before)
        # What came after the copy is not in it: its prompts are not known any more.
        answer = await second.get(f"/prompts/{sent[-1]}")
        self.assertEqual(answer.status, 404)

    async def test_sqlites_own_backup(self):
        place = {}

        def copy(folder):
            place["backup"] = Path(folder) / "backup.sqlite"
            place["backup"].touch(0o600)
            with (
                closing(sqlite3.connect(folder / "journal.sqlite")) as source,
                closing(sqlite3.connect(place["backup"])) as backup,
            ):
                source.backup(backup)

        before, _ = await self.copy_under_load(copy)
        await self.restored(place["backup"], before)

    async def backup(self, folder, *arguments):
        process = Running(bytearray())
        environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
        command = [str(COMMAND), "backup", *arguments]
        reactor.spawnProcess(process, command[0], command, env=environ, path=str(folder))
        return await process.end(), process.text

    async def test_refused(self):
        daemon = self.daemon()
        await daemon.start()
        kept = daemon.dir / "kept"
        kept.write_text("somebody's")
        (daemon.dir / "nowhere-link").symlink_to("nowhere")
        before = sorted(daemon.files())
        for path, word in (
            ("kept", "exists already"),
            ("journal.sqlite", "exists already"),
            ("nowhere-link", "exists already"),
            (".", "exists already"),
            ("-", "is a file"),
            ("nowhere/backup", "No such file"),
            ("/dev/full/backup", "Not a directory"),
        ):
            status, said = await self.backup(daemon.dir, path)
            self.assertEqual((status, len(said.splitlines())), (1, 1), said)
            self.assertIn(word, said)
        self.assertEqual(sorted(daemon.files()), before)
        self.assertEqual(kept.read_text(), "somebody's")

    async def test_without_a_daemon(self):
        daemon = self.daemon()
        await daemon.start()
        prompt_id = await daemon.accepted("text")
        await daemon.reaches(prompt_id, "delivered")
        await daemon.kill()
        status, said = await self.backup(daemon.dir, "backup.sqlite")
        self.assertEqual(status, 0, said)
        self.assertIn("backup.sqlite  ", said)
        self.assertEqual((daemon.dir / "backup.sqlite").stat().st_mode & 0o777, 0o600)
        self.assertEqual([name for name in daemon.files() if "partial" in name], [])

    async def test_an_event_delivered_again_is_the_same(self):
        self.target.queue(Reply(503))
        daemon = self.daemon()
        await daemon.start()
        prompt_id = await daemon.accepted("text")
        await daemon.reaches(prompt_id, lambda record: record["state"] == "answered")
        self.run_told("a copy of the journal, while the daemon runs", daemon.dir)
        await daemon.reaches(prompt_id, "delivered")
        await daemon.kill()
        backup = daemon.dir / "backup.sqlite"
        await self.restored(backup, [prompt_id])
        bodies = {request.body for request in self.target.requests}
        self.assertEqual(len(bodies), 1)
        self.assertEqual(len(self.openai.asks), 1)
