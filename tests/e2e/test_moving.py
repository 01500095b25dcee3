"""A daemon's journal in a file is moved into PostgreSQL, for several daemons, as real processes."""

from collections import Counter
from typing import Any

from tests.e2e.processes import STARTED, DaemonCase, together, until
from tests.fakes.openai import answer_to, prompt_of
from tests.fakes.server import Fault, Reply
from tests.journal.postgres_server import server

DOWN = 12
"""Prompts whose events can't be delivered."""
WAITING = 5
"""Prompts that can't be asked."""


class MovingTests(DaemonCase):
    def setUp(self) -> None:
        self.url = server().schema()
        super().setUp()

    async def left_behind(self) -> tuple[Any, list[str]]:
        """A daemon that was killed with work left, and the ids of that."""
        self.target.script = lambda _: Reply(503)
        daemon = self.daemon(everyday_limit=20, concurrency=3)
        await daemon.start()
        ids = await together(
            *(daemon.accepted(f"down {n}", {"Idempotency-Key": f"{n}"}) for n in range(DOWN))
        )
        for each in ids:
            await daemon.reaches(each, "answered")
        self.openai.script = lambda _: Reply(fault=Fault.HANG)
        ids += [await daemon.accepted(f"waiting {n}") for n in range(WAITING)]
        await until(lambda: len(self.openai.asks) == DOWN + 3, "calls under way")
        await daemon.kill()
        return daemon, ids

    async def test_all_is_delivered_once_by_those_that_share_the_copy(self) -> None:
        daemon, ids = await self.left_behind()
        copy = ("copy", "--from", str(daemon.dir / "journal.sqlite"), "--to", self.url)
        status, told = await daemon.operate(*copy)
        self.assertEqual(status, 0, told)
        self.target.script, self.openai.script = self.target.default, self.openai.default
        replicas = [self.daemon(journal=self.url, everyday_limit=20) for _ in range(2)]
        await together(*(each.start() for each in replicas))
        await together(*(until(each.is_ready, "a replica") for each in replicas))
        told = await replicas[1].accepted("down 0", {"Idempotency-Key": "0"})
        self.assertEqual(told, ids[0])
        new = [await replicas[n % 2].accepted(f"new {n}") for n in range(20 - len(ids))]
        self.assertEqual((await replicas[0].post("one too many")).status, 429)
        await until(lambda: len(self.target.events) >= 20, "all events", 60)
        for n, each in enumerate([*ids, *new]):
            await replicas[n % 2].reaches(each, "delivered")
        self.assertEqual(
            Counter(event["id"] for event in self.target.events), Counter([*ids, *new])
        )
        contents = {event["id"]: event["data"]["content"] for event in self.target.events}
        self.assertEqual(contents[ids[0]], answer_to("down 0"))
        asked = Counter(prompt_of(each).split()[0] for each in self.openai.asks)
        self.assertEqual(asked, {"down": DOWN, "waiting": 3 + WAITING, "new": len(new)})
        for each in replicas:
            self.assertNotIn("Traceback", each.text)
        status, told = await daemon.operate(*copy, failing=True)
        self.assertEqual(status, 1)
        self.assertIn("a daemon has started on it since", told)

    async def test_no_daemon_starts_on_a_part(self) -> None:
        daemon, ids = await self.left_behind()
        replica = self.daemon(journal=self.url)
        await replica.start()
        await until(replica.is_ready, "a start that creates the tables", STARTED)
        await replica.stop()
        self.execute("INSERT INTO copy (id, source, began, ahead) VALUES (1, '', 0, 0)")
        for status, told in await replica.fail_both_ways():
            self.assertNotEqual(status, 0)
            self.assertIn("a copy to it has not ended", told)
            self.assertNotIn("Traceback", told)
        self.execute("DELETE FROM copy")
        copy = ("copy", "--from", str(daemon.dir / "journal.sqlite"), "--to", self.url)
        status, told = await daemon.operate(*copy)
        self.assertEqual(status, 0, told)
        self.openai.script = self.openai.default
        self.target.script = self.target.default
        await replica.start()
        await until(lambda: len(self.target.events) >= len(ids), "all events", 60)

    def execute(self, statement: str) -> None:
        import psycopg

        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(statement)
