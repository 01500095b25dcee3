"""One journal has one daemon, by whatever name it is called, and whatever becomes of its file."""

import os
import signal

from twisted.internet import reactor

from tests.e2e.processes import LOG_TO_STDOUT, ROOT, TWISTD, DaemonCase, Running, until
from tests.e2e.test_waiting import WAITING


class OneDaemonTests(DaemonCase):
    async def running(self):
        daemon = self.daemon()
        await daemon.start()
        await daemon.reaches(await daemon.accepted("text"), "delivered")
        return daemon, daemon.dir / "journal.sqlite"

    async def waits(self, journal):
        daemon = self.daemon(journal=str(journal))
        process: Running = daemon.launch(
            "--nodaemon", "--pidfile=", f"--rundir={daemon.dir}", LOG_TO_STDOUT
        )
        await until(lambda: WAITING in process.text, f"a waiting start, not {process.text}")
        self.assertEqual((await daemon.post("text")).status, 503)
        await daemon.stop()

    async def unready(self, daemon, word):
        async def told():
            status, _, checks = await daemon.checks()
            return status == 503 and checks["journal"]

        self.assertIn(word, await until(told, "a journal that is not well"))
        self.assertIn(word, self.assert_problem(await daemon.post("text"), 503))
        await until(lambda: word in daemon.text, f"a log line about a {word}")

    async def test_by_a_hard_link(self):
        first, journal = await self.running()
        await first.stop()
        link = journal.with_name("link.sqlite")
        os.link(journal, link)
        for path in (link, journal):
            second = self.daemon(journal=str(path))
            check = second.launch(arguments=("chatgpt-source", "--check"))
            await check.end()
            ends = [(check.status, check.text), *await second.fail_both_ways()]
            for status, said in ends:
                self.assertEqual((status, len(said.splitlines())), (1, 1), said)
                self.assertIn("hard links", said)
        link.unlink()
        await first.start()

    async def test_while_one_runs_by_a_hard_link(self):
        first, journal = await self.running()
        link = journal.with_name("link.sqlite")
        os.link(journal, link)
        ((_, said), _) = await self.daemon(journal=str(link)).fail_both_ways()
        self.assertIn("hard links", said)
        await self.unready(first, "hard link")
        link.unlink()
        await until(lambda: self.accepts(first), "prompts accepted again")

    async def accepts(self, daemon):
        return (await daemon.post("text")).status == 202

    async def test_without_the_file_beside_it(self):
        first, journal = await self.running()
        journal.with_name("journal.sqlite.lock").unlink()
        await self.waits(journal)
        link = journal.with_name("symlink.sqlite")
        link.symlink_to(journal)
        await self.waits(link)
        await first.reaches(await first.accepted("another"), "delivered")
        self.assertEqual(len(self.openai.asks), 2)

    async def test_removed_and_put_back(self):
        first, journal = await self.running()
        away = journal.with_name("away")
        journal.rename(away)
        await self.unready(first, "removed")
        away.rename(journal)
        await until(lambda: self.accepts(first), "prompts accepted again")
        self.assertIn(await first.stop(), (0, -signal.SIGTERM))

    async def test_its_log_removed(self):
        first, journal = await self.running()
        kept = await first.accepted("kept")
        await first.reaches(kept, "delivered")
        journal.with_name("journal.sqlite-wal").unlink()
        await self.unready(first, "-wal")
        await first.kill()
        await first.start()
        self.assertEqual((await first.record(kept))["state"], "delivered")
        await first.reaches(await first.accepted("new"), "delivered")

    async def test_replaced_and_looked_at_and_put_back(self):
        first, journal = await self.running()
        away = journal.with_name("away")
        journal.rename(away)
        journal.write_bytes(away.read_bytes())
        for command in (["list", "--state", "all"], ["backup", "copy"]):
            status, said = await self.operate(first, *command)
            self.assertEqual((status, len(said.splitlines())), (1, 1), said)
            self.assertIn("replaced", said)
        await self.waits(journal)
        away.rename(journal)
        await until(lambda: self.accepts(first), "prompts accepted again")
        kept = await first.accepted("kept")
        await first.reaches(kept, "delivered")
        await first.kill()
        await first.start()
        self.assertEqual((await first.record(kept))["state"], "delivered")

    async def test_replaced(self):
        first, journal = await self.running()
        backup, old = journal.with_name("backup.sqlite"), journal.with_name("old.sqlite")
        status, _ = await self.operate(first, "backup", "backup.sqlite")
        self.assertEqual(status, 0)
        later = await first.accepted("later")
        await first.reaches(later, "delivered")
        journal.rename(old)
        backup.rename(journal)
        await self.unready(first, "replaced")
        self.assertEqual((await first.get("/healthz")).status, 200)
        # A restart goes on with what lies there, whole, and nothing is missing from the old one.
        self.assertIn(await first.stop(), (0, -signal.SIGTERM))
        await first.start()
        self.assertEqual((await first.get(f"/prompts/{later}")).status, 404)
        await first.reaches(await first.accepted("new"), "delivered")
        await first.stop()
        old.rename(journal)
        await first.start()
        self.assertEqual((await first.record(later))["state"], "delivered")

    async def operate(self, daemon, *arguments):
        process = Running(bytearray())
        environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
        command = [str(TWISTD.with_name("chatgpt-source-journal")), *arguments]
        reactor.spawnProcess(process, command[0], command, env=environ, path=str(daemon.dir))
        return await process.end(), process.text
