"""Several daemons that share one journal in PostgreSQL, as real processes."""

from typing import Any

from tests.e2e.processes import Daemon, DaemonCase, together, until
from tests.journal.postgres_server import server

TAKEOVER = 25.0
"""Seconds after the end of a daemon in which another takes over: the lease of 20 s, and a look."""


class ReplicasCase(DaemonCase):
    timeout = 120

    def setUp(self) -> None:
        self.url = server().schema()
        super().setUp()

    def replica(self, **settings: Any) -> Daemon:
        """A daemon that shares this test's journal."""
        return self.daemon(journal=self.url, **settings)

    async def replicas(self, number: int, **settings: Any) -> list[Daemon]:
        """Some that run."""
        started = [self.replica(**settings) for _ in range(number)]
        await together(*(each.start() for each in started))
        await together(*(until(each.is_ready, "a replica") for each in started))
        return started


class SharedTests(ReplicasCase):
    async def test_two_share_the_limit_the_keys_and_the_records(self) -> None:
        first, second = await self.replicas(2, everyday_limit=3)
        key = {"Idempotency-Key": "k"}
        told = [await each.accepted("hello", key) for each in (first, second)]
        self.assertEqual(*told)
        await first.accepted("a")
        await second.accepted("b")
        refused = await together(first.post("c"), second.post("c"))
        self.assertEqual([answer.status for answer in refused], [429, 429])
        record = await second.reaches(told[0], "delivered")
        self.assertEqual(await first.record(told[0]), record)
        self.assert_fair()

    async def test_nothing_is_asked_twice(self) -> None:
        replicas = await self.replicas(2, everyday_limit=1000)
        posts = (replicas[n % 2].accepted(f"prompt {n}") for n in range(200))
        ids = await together(*posts)
        await until(lambda: len(self.target.events) >= 200, "all events")
        self.assertEqual(sorted(event["id"] for event in self.target.events), sorted(ids))
        asked = [each for each in self.openai.requests if each.method == "POST"]
        self.assertEqual(len(asked), 200)
        self.assert_fair()
