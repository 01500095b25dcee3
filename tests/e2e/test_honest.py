"""Nothing is green while events fail: at one target of two, or at another daemon."""

import itertools
from typing import Any

from tests.e2e.processes import call, free_port, together, until
from tests.e2e.test_admin import AdminCase
from tests.e2e.test_replicas import ReplicasCase
from tests.fakes.server import Reply


async def judged(port: int) -> Any:
    """What the admin site at a port says of the health."""
    return (await call("GET", f"http://127.0.0.1:{port}/api/status")).json()["health"]


class OneTargetTests(AdminCase):
    async def test_a_dead_one_with_a_small_share(self) -> None:
        other = type(self.target)(self.target._reactor)
        other.start()
        self.addCleanup(other.stop)
        other.script = lambda _: Reply(400)
        daemon = self.daemon(targets={"audit": {"url": other.origin}}, everyday_limit=1000)
        await daemon.start()
        for n in range(60):
            is_audited = n % 15 == 1
            headers = {"vanus-target": "audit"} if is_audited else {}
            prompt = await daemon.accepted(f"{n}", headers)
            await daemon.reaches(prompt, "failed" if is_audited else "delivered")
        health = await judged(self.admin_port)
        self.assertEqual(health["level"], "red")
        self.assertIn("all of the last 4 prompts for the target `audit` failed", health["headline"])
        self.assertIn("the target `audit`", (await daemon.checks())[2]["failures"])


class UnsteadyTests(AdminCase):
    async def test_a_target_that_fails_each_other_call_is_not_green_in_between(self) -> None:
        calls = itertools.count()
        self.target.script = lambda _: Reply(503 if next(calls) % 2 else 200)
        daemon = self.daemon(concurrency=1)
        await daemon.start()
        for n in range(8):
            await daemon.reaches(await daemon.accepted(f"{n}"), "delivered")
        self.assertEqual(next(calls) % 2, 1)  # the last call has succeeded
        health = await judged(self.admin_port)
        self.assertEqual(health["level"], "amber")
        self.assertEqual(
            health["headline"], "Calls to the target fail now and then: the target answered 503"
        )
        self.target.script = self.target.default
        for n in range(20):
            await daemon.reaches(await daemon.accepted(f"{n} well"), "delivered")
        self.assertEqual((await judged(self.admin_port))["level"], "green")


class OtherReplicaTests(ReplicasCase):
    async def test_each_knows_of_the_others_failures(self) -> None:
        ports = [free_port(), free_port()]
        first, second = (self.replica(admin=f"tcp:{each}:interface=127.0.0.1") for each in ports)
        await together(first.start(), second.start())
        await together(*(until(each.is_ready, "a replica") for each in (first, second)))
        for n in range(3):
            for each in (first, second):
                await each.reaches(await each.accepted(f"{n}"), "delivered")
        self.target.script = lambda _: Reply(400)
        for n in range(6):  # whoever takes one asks and delivers it
            await first.reaches(await first.accepted(f"bad {n}"), "failed")

        async def knows(port: int) -> bool:
            return bool((await judged(port))["level"] == "amber")

        for port in ports:
            await until(lambda port=port: knows(port), "amber")
        self.target.script = self.target.default
        await first.operate("redrive", "--all", journal=self.url)
        for port in ports:

            async def is_green(port: int = port) -> bool:
                return bool((await judged(port))["level"] == "green")

            await until(is_green, "green")
