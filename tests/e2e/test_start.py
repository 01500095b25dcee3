"""Both ways of starting, and what stops a start: one clear line, and never a hang."""

import os
import signal
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

from twisted.trial.unittest import SkipTest

from tests.e2e.processes import Daemon, DaemonCase, alive, until
from tests.fakes.server import Reply

OF_SOME = (
    "chatgpt_source.admin",
    "chatgpt_source.demo",
    "chatgpt_source.display",
    "chatgpt_source.journal.command",
    "chatgpt_source.journal.copying",
    "chatgpt_source.journal.postgres",
    "chatgpt_source.online",
    "chatgpt_source.telemetry.otel",
    "jsonschema_rs",
    "opentelemetry",
    "prometheus_client",
    "psycopg",
    "rfc3986_validator",
)
"""What only some settings, options, commands and prompts need."""
OF_NONE = ("importlib.metadata", "twisted.spread", "twisted.web.server", "xml")
"""What a library would load for a part that we do not use; together some 2 MiB."""


def limits(pid):
    return Path(f"/proc/{pid}/limits").read_text().splitlines()


class StartTests(DaemonCase):
    forked = False

    async def test_daemonised(self):
        daemon = self.daemon()
        pid = await daemon.start_daemonised()
        self.assertTrue(alive(pid))
        prompt_id = await daemon.accepted("text")
        await daemon.reaches(prompt_id, "delivered")
        self.assertEqual([event["id"] for event in self.target.events], [prompt_id])
        self.assertTrue((daemon.dir / "journal.sqlite").exists())
        log = daemon.dir / "twistd.log"
        await until(lambda: f"delivered: id={prompt_id}" in log.read_text(), "its line")
        self.assertIn(f"the journal is {daemon.dir}/journal.sqlite", log.read_text())
        os.kill(pid, signal.SIGTERM)
        await until(lambda: not alive(pid), "its end")
        self.assertFalse((daemon.dir / "twistd.pid").exists())
        self.assertNotIn("Traceback", log.read_text())

    async def test_daemonised_stop_and_start(self):
        self.target.script = lambda _: Reply(503)
        daemon = self.daemon()
        pid = await daemon.start_daemonised()
        prompt_id = await daemon.accepted("text")
        await daemon.reaches(prompt_id, lambda record: record["error"])
        os.kill(pid, signal.SIGKILL)
        await until(lambda: not alive(pid), "its end")
        (daemon.dir / "twistd.pid").unlink()
        self.target.script = self.target.default
        await daemon.start()
        await daemon.reaches(prompt_id, "delivered")
        self.assertEqual(len(self.openai.asks), 1)

    async def test_default_logger(self):
        daemon = self.daemon()
        process = await daemon.start("--no_save")
        prompt_id = await daemon.accepted("text")
        await daemon.reaches(prompt_id, "delivered")
        await until(lambda: f"delivered: id={prompt_id}" in process.text, "the log")
        self.assertEqual(await daemon.stop(), -signal.SIGTERM)

    async def test_interrupt(self):
        daemon = self.daemon()
        process = await daemon.start()
        await daemon.reaches(await daemon.accepted("text"), "delivered")
        self.assertIn(await daemon.stop(signal.SIGINT), (0, -signal.SIGINT))
        self.assertNotIn("Traceback", process.text)

    async def test_who_does_not_use_it_does_not_pay(self):
        daemon = self.daemon()
        daemon.environ["PYTHONPROFILEIMPORTTIME"] = "1"
        process = await daemon.start()
        await daemon.reaches(await daemon.accepted("text"), "delivered")
        lines = process.text.splitlines()
        loaded = {line.split()[-1] for line in lines if line.startswith("import time:")}
        self.assertIn("chatgpt_source.application", loaded)
        self.assertEqual(loaded.intersection(OF_SOME + OF_NONE), set())

    async def test_open_files(self):
        if not sys.platform.startswith("linux"):
            raise SkipTest("only Linux tells a process's limits")
        daemon = Daemon(self, self.config(), files=(256, 1234), forked=self.forked)
        process = await daemon.start()
        (line,) = [line for line in limits(process.transport.pid) if "Max open files" in line]
        self.assertEqual(line.split()[3:5], ["1234", "1234"])


class RefusalTests(DaemonCase):
    forked = False

    async def refuses(self, daemon, *words):
        for status, said in await daemon.fail_both_ways():
            self.assertEqual(status, 1, said)
            self.assertNotIn("Traceback", said)
            self.assertEqual(len(said.splitlines()), 1, said)
            for word in words:
                self.assertIn(word, said)

    async def test_second_daemon(self):
        first = self.daemon()
        await first.start()
        journal = str(first.dir / "journal.sqlite")
        await self.refuses(self.daemon(port=first.port), str(first.port), "another port", "in use")
        # Neither hurt the first, and once it has gone another can take its place.
        await first.reaches(await first.accepted("text"), "delivered")
        await first.stop()
        second = self.daemon(journal=journal)
        await second.start()
        self.assertEqual((await second.post("text")).status, 202)

    async def test_journal_that_cannot_be_written(self):
        file = self.daemon()
        for path in ("/nonexistent/journal.sqlite", f"{file.config_file}/journal.sqlite"):
            await self.refuses(self.daemon(journal=path), path, "`journal`")
        await self.refuses(self.daemon(journal=str(file.dir)), str(file.dir))

    async def test_journal_that_is_none(self):
        daemon = self.daemon()
        journal = daemon.dir / "journal.sqlite"
        journal.write_bytes(b"this is not a database\n" * 100)
        await self.refuses(daemon, str(journal), "not a database")
        self.assertEqual(journal.read_bytes(), b"this is not a database\n" * 100)

    async def test_journal_of_another_program(self):
        daemon = self.daemon()
        journal = daemon.dir / "journal.sqlite"
        database = sqlite3.connect(journal)
        database.execute("CREATE TABLE theirs (x)")
        database.close()
        await self.refuses(daemon, str(journal), "another program's", "`journal`")

    async def test_journal_that_lacks_a_table(self):
        daemon = self.daemon()
        await daemon.start()
        await daemon.stop()
        journal = daemon.dir / "journal.sqlite"
        with closing(sqlite3.connect(journal)) as database:
            database.execute("DROP TABLE probes")
        await self.refuses(daemon, str(journal), "no such table: probes", "restore it")

    async def test_journal_of_a_newer_version(self):
        daemon = self.daemon()
        await daemon.start()
        await daemon.stop()
        journal = daemon.dir / "journal.sqlite"
        database = sqlite3.connect(journal)
        database.execute("PRAGMA user_version = 999")
        database.close()
        await self.refuses(daemon, str(journal), "newer", "999")

    async def test_found_out_only_after_the_change_of_user(self):
        if os.getuid() != 0:
            raise SkipTest("only root can start as somebody else")
        daemon = self.daemon()  # whose folder is root's
        for status, said in await daemon.fail_both_ways("--uid=65534", "--gid=65534"):
            self.assertEqual(status, 1)
            self.assertNotIn("Traceback", said)
            self.assertIn("journal /", said)  # of what follows, twistd cuts off much
