"""A start while another daemon has the journal: it waits, says so, and gives up after a while."""

import os
import signal
import time

from twisted.internet import reactor

from tests.e2e.processes import (
    LOG_TO_STDOUT,
    DaemonCase,
    alive,
    call,
    free_port,
    kill,
    together,
    until,
)
from tests.fakes.openai import answer_to, completion, prompt_of

PATIENCE = 30
"""Seconds that a start waits."""
WAITING = "waiting for the daemon that uses journal"


class WaitingTests(DaemonCase):
    async def first(self):
        daemon = self.daemon()
        await daemon.start()
        return daemon, str(daemon.dir / "journal.sqlite")

    async def waiting(self, journal, **settings):
        daemon = self.daemon(journal=journal, **settings)
        process = daemon.launch("--nodaemon", "--pidfile=", f"--rundir={daemon.dir}", LOG_TO_STDOUT)
        await until(lambda: WAITING in process.text, f"a waiting start, not {process.text}")
        return daemon, process

    async def test_takes_over_from_one_that_drains(self):
        self.openai.script = lambda request: completion(answer_to(prompt_of(request)), delay=1.5)
        first, journal = await self.first()
        prompt_id = await first.accepted("text")
        await until(lambda: self.openai.asks, "an ask")
        second, process = await self.waiting(journal, admin="tcp:0:interface=127.0.0.1")
        self.assertIn("30 s at most", process.text)
        self.assertEqual((await second.get("/healthz")).status, 200)
        status, word, checks = await second.checks()
        self.assertEqual((status, word), (503, "not ready"))
        self.assertEqual(
            checks.pop("journal"), "starting: waiting for the daemon that uses the journal"
        )
        others = ("openai", "target", "quota", "backlog", "failures")
        self.assertEqual(checks, dict.fromkeys(others, "unknown"))
        answer = await second.post("text")
        self.assertIn("starting", self.assert_problem(answer, 503))
        self.assertGreater(int(answer.header("retry-after")), 0)
        self.assert_problem(await second.get(f"/prompts/{prompt_id}"), 503)
        await first.stop()
        await until(lambda: "the journal is" in process.text, "the second's start")
        self.assertEqual((await second.record(prompt_id))["state"], "delivered")
        await second.reaches(await second.accepted("another"), "delivered")
        self.assertEqual(len(self.openai.asks), 2)
        self.assertIn(await second.stop(), (0, -signal.SIGTERM))

    async def test_takes_over_in_the_background(self):
        first, journal = await self.first()
        second = self.daemon(journal=journal)
        parent = second.launch(f"--rundir={second.dir}", f"--pidfile={second.dir}/twistd.pid")
        log = second.dir / "twistd.log"
        await until(lambda: log.exists() and WAITING in log.read_text(), "a waiting start")
        self.assertIsNone(parent.status)
        await first.stop()
        self.assertEqual((await parent.end(), parent.text), (0, ""))
        pid = int((second.dir / "twistd.pid").read_text())
        self.addCleanup(kill, pid)
        await second.reaches(await second.accepted("text"), "delivered")

    async def test_gives_up(self):
        first, journal = await self.first()
        clock = self.clock(time.time())
        second, foreground = await self.waiting(journal, clock=clock)
        third = self.daemon(journal=journal, clock=clock)
        background = third.launch(f"--rundir={third.dir}", f"--pidfile={third.dir}/twistd.pid")
        log = third.dir / "twistd.log"
        await until(lambda: log.exists() and WAITING in log.read_text(), "a waiting start")
        began = clock.now()

        async def have_ended():
            clock.advance(0.25)
            await together(second.answers(), third.answers())  # which wakes them
            return None not in {foreground.status, background.status}

        await until(have_ended, "their ends", 60)
        self.assertGreater(clock.now() - began, PATIENCE - 5)
        self.assertEqual(foreground.status, 1, foreground.text)
        (line,) = [line for line in foreground.text.splitlines() if "in use by another" in line]
        self.assertIn(journal, line)
        self.assertEqual(background.status, 1, background.text)
        self.assertIn("An error has occurred", background.text)
        self.assertIn(f"{journal} is in use by another daemon", log.read_text())
        await until(lambda: not (third.dir / "twistd.pid").exists(), "the end of it")
        for text in (foreground.text, background.text, log.read_text()):
            self.assertNotIn("Traceback", text)
        await first.reaches(await first.accepted("text"), "delivered")

    async def test_is_stopped(self):
        first, journal = await self.first()
        second, process = await self.waiting(journal)
        began = reactor.seconds()
        self.assertIn(await second.stop(), (0, -signal.SIGTERM))
        self.assertLess(reactor.seconds() - began, 15)
        self.assertNotIn("Traceback", process.text)
        await first.reaches(await first.accepted("text"), "delivered")

    async def test_is_stopped_in_the_background(self):
        _, journal = await self.first()
        second = self.daemon(journal=journal)
        parent = second.launch(f"--rundir={second.dir}", f"--pidfile={second.dir}/twistd.pid")
        log, pidfile = second.dir / "twistd.log", second.dir / "twistd.pid"
        await until(lambda: log.exists() and WAITING in log.read_text(), "a waiting start")
        pid = int(pidfile.read_text())
        self.addCleanup(kill, pid)
        os.kill(pid, signal.SIGTERM)
        self.assertEqual(await parent.end(), 1)
        self.assertIn("stopped while it waited", parent.text)
        await until(lambda: not alive(pid), "its end")
        self.assertFalse(pidfile.exists())

    async def test_other_mistakes_are_told_at_once(self):
        _, journal = await self.first()
        taken = self.daemon()
        await taken.start()
        second = self.daemon(journal=journal, port=taken.port)
        for status, said in await second.fail_both_ways():
            self.assertEqual((status, len(said.splitlines())), (1, 1), said)
            self.assertIn(str(taken.port), said)

    async def test_operators_wait_too(self):
        _, journal = await self.first()
        port = free_port()
        _, process = await self.waiting(journal, admin=f"tcp:{port}:interface=127.0.0.1")
        for path in ("/", "/metrics", "/api/status"):
            answer = await call("GET", f"http://127.0.0.1:{port}{path}")
            self.assert_problem(answer, 503)
        self.assertNotIn("error", process.text)
