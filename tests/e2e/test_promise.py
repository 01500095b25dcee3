"""Repeats, second signals, dead letters, and an operator beside a running daemon."""

import json
import signal
import sqlite3
from typing import Any

from twisted.internet import reactor

from tests.e2e.processes import DaemonCase, together, until
from tests.fakes.server import Fault, Reply
from tests.fakes.target import FakeTarget

REFUSED = Reply.of_json({"error": {"message": "no"}}, 400)


class RepeatTests(DaemonCase):
    async def test_five_at_once_are_one_prompt(self):
        daemon = self.daemon()
        await daemon.start()
        key = {"Idempotency-Key": '"order-1"'}
        ids = await together(*(daemon.accepted("text", key) for _ in range(5)))
        self.assertEqual(len(set(ids)), 1)
        await daemon.reaches(ids[0], "delivered")
        self.assertEqual((len(self.openai.asks), len(self.target.events)), (1, 1))
        self.assertEqual((await daemon.post("text")).header("ratelimit")[:13], '"daily";r=98;')

    async def test_across_a_crash(self):
        self.openai.script = lambda _: Reply(fault=Fault.HANG)
        daemon = self.daemon(everyday_limit=1)
        await daemon.start()
        key = {"Idempotency-Key": "order-1"}
        prompt_id = await daemon.accepted("text", key)
        await daemon.kill()
        self.openai.script = self.openai.default
        await daemon.start()
        self.assertEqual(await daemon.accepted("text", key), prompt_id)
        await daemon.reaches(prompt_id, "delivered")
        self.assertEqual(await daemon.accepted("text", key), prompt_id)
        self.assert_problem(await daemon.post("other", key), 422)
        self.assertEqual(len(self.target.events), 1)


class ForeignLockTests(DaemonCase):
    async def test_does_not_keep_a_stop(self):
        daemon = self.daemon(drain_timeout=1)
        await daemon.start()
        prompt_id = await daemon.accepted("text")
        await daemon.reaches(prompt_id, "delivered")
        other = sqlite3.connect(daemon.dir / "journal.sqlite", isolation_level=None)
        self.addCleanup(other.close)
        other.execute("BEGIN IMMEDIATE")
        self.assert_problem(await daemon.post("late"), 503)
        self.assertIn(await daemon.stop(timeout=15), (0, -signal.SIGTERM))


class SecondSignalTests(DaemonCase):
    async def test_ends_at_once_and_loses_nothing(self):
        self.openai.script = lambda _: Reply(fault=Fault.HANG)
        daemon = self.daemon(drain_timeout=60)
        process = await daemon.start()
        prompt_id = await daemon.accepted("text")
        await until(lambda: self.openai.asks, "an ask")
        process.signal(signal.SIGTERM)
        await until(lambda: self.is_refused(daemon), "the drain")
        process.signal(signal.SIGTERM)
        self.assertEqual(await process.end(timeout=5), 128 + signal.SIGTERM)
        self.assertNotIn("nobody foresaw", daemon.text)
        self.openai.script = self.openai.default
        await daemon.start()
        await daemon.reaches(prompt_id, "delivered")

    async def is_refused(self, daemon: Any) -> bool:
        return not await daemon.answers()


class DeadLetterTests(DaemonCase):
    def setUp(self):
        super().setUp()
        self.letters = FakeTarget(reactor)
        self.letters.start()
        self.addCleanup(self.letters.stop)

    async def test_both_kinds(self):
        daemon = self.daemon(dead_letter=self.letters.origin)
        await daemon.start()
        self.openai.queue(REFUSED)
        unanswered = await daemon.accepted("text")
        await daemon.reaches(unanswered, "failed")
        self.target.queue(Reply(status=400))
        undelivered = await daemon.accepted("text")
        await daemon.reaches(undelivered, "failed")
        await until(lambda: len(self.letters.events) == 2, "two letters")
        first, second = self.letters.events
        self.assertEqual(first["type"], "vanus-chatGPT-type.failed")
        self.assertEqual(set(first["data"]), {"error"})
        self.assertEqual(first["data"]["error"]["prompt"], unanswered)
        self.assertEqual((second["id"], second["knativeerrorcode"]), (undelivered, 400))
        self.assertEqual(second["knativeerrordest"], self.target.origin)

    async def test_survives_a_crash(self):
        await self.letters.stop()
        daemon = self.daemon(dead_letter=self.letters.origin)
        await daemon.start()
        self.openai.queue(REFUSED)
        await daemon.reaches(await daemon.accepted("text"), "failed")
        await daemon.kill()
        self.letters.start()
        await daemon.start()
        await until(lambda: self.letters.events, "the letter")


class OperatorTests(DaemonCase):
    async def operate(self, daemon: Any, *argv: str) -> tuple[int, str]:
        return await daemon.operate(*argv)

    async def test_redrives_while_the_daemon_runs(self):
        daemon = self.daemon(everyday_limit=3)
        process = await daemon.start()
        self.openai.queue(REFUSED)
        unanswered = await daemon.accepted("one")
        await daemon.reaches(unanswered, "failed")
        self.target.queue(Reply(status=400))
        undelivered = await daemon.accepted("two")
        await daemon.reaches(undelivered, "failed")
        status, listed = await self.operate(daemon, "list")
        ids = [json.loads(line)["id"] for line in listed.splitlines()]
        self.assertEqual((status, ids), (0, [undelivered, unanswered]))
        asks = len(self.openai.asks)
        status, _ = await self.operate(daemon, "redrive", "--all")
        self.assertEqual(status, 0)
        await daemon.reaches(unanswered, "delivered")
        await daemon.reaches(undelivered, "delivered")
        self.assertEqual(len(self.openai.asks), asks + 1)
        first, second = self.target.bodies(undelivered)
        self.assertEqual(first, second)
        await daemon.accepted("three")
        self.assert_problem(
            await daemon.post("four"),
            429,
            "https://iana.org/assignments/http-problem-types#quota-exceeded",
        )
        self.assertIsNone(process.status)

    async def test_on_a_stopped_daemons_journal(self):
        daemon = self.daemon()
        await daemon.start()
        self.openai.queue(REFUSED)
        prompt_id = await daemon.accepted("one")
        await daemon.reaches(prompt_id, "failed")
        await daemon.stop()
        status, shown = await self.operate(daemon, "show", prompt_id)
        self.assertEqual((status, json.loads(shown)["state"]), (0, "failed"))
        status, _ = await self.operate(daemon, "redrive", prompt_id)
        self.assertEqual(status, 0)
        await daemon.start()
        await daemon.reaches(prompt_id, "delivered")
