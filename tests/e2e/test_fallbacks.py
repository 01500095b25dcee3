"""A first provider that fails in each way, and comes back; its fallback answers meanwhile."""

from collections import Counter

from twisted.internet import reactor

from tests.e2e.processes import DaemonCase, until
from tests.fakes.openai import api_error
from tests.fakes.responses import FakeResponses
from tests.fakes.server import Fault, Reply

TIMEOUT = 1.0
RETRY_AFTER = 600


class FallbacksTests(DaemonCase):
    def setUp(self):
        super().setUp()
        self.second = FakeResponses(reactor, "sk-second")
        self.second.start()
        self.addCleanup(self.second.stop)

    async def started(self, fallback=None, **settings):
        second = {"name": "second", "base_url": self.second.base_url, "token": "sk-second"}
        daemon = self.daemon(
            fallbacks=[{**second, **(fallback or {})}],
            openai_timeout=TIMEOUT,
            include=["provider", "service_tier"],
            **settings,
        )
        await daemon.start()
        return daemon

    async def answered(self, daemon, number=3):
        """Send prompts, and wait for their events; returns how many each provider answered."""
        ids = [await daemon.accepted(f"prompt {n}") for n in range(number)]
        for id_ in ids:
            await daemon.reaches(id_, "delivered")
        events = {event["id"]: event["data"] for event in self.target.events}
        return Counter(events[id_]["provider"] for id_ in ids)

    async def comes_back(self, daemon):
        async def served():
            return (await self.answered(daemon, 1))["second"] == 0

        await until(served, "the first provider's answer")
        status, word, checks = await daemon.checks()
        self.assertEqual((status, word, checks["openai"]), (200, "ready", "ok"))

    async def test_it_is_dead_and_comes_back(self):
        await self.openai.stop()
        daemon = await self.started()
        self.assertEqual(await self.answered(daemon), {"second": 3})
        status, word, checks = await daemon.checks()
        self.assertEqual((status, word, checks["openai.second"]), (200, "degraded", "ok"))
        self.assertIn(". The fallback `second` is asked in its place", checks["openai"])
        await until(lambda: " provider=second" in daemon.text, "a line that says who answered")
        self.openai.start()
        await self.comes_back(daemon)

    async def test_it_refuses_and_comes_back(self):
        for error in (api_error(500), api_error(503), api_error(429)):
            self.openai.script = lambda _, error=error: error
            daemon = await self.started()
            self.assertEqual(await self.answered(daemon), {"second": 3})
            self.openai.script = self.openai.default
            await self.comes_back(daemon)
            await daemon.stop()

    async def test_a_wrong_key(self):
        self.openai.script = lambda _: api_error(401)
        daemon = await self.started()
        self.assertEqual(await self.answered(daemon, 1), {"second": 1})
        self.assertEqual(await self.answered(daemon), {"second": 3})
        self.assertEqual(len(self.openai.asks), 1)
        _, word, checks = await daemon.checks()
        self.assertEqual(word, "degraded")
        self.assertIn("check `token`", checks["openai"])

    async def test_a_wrong_key_and_a_fallback_that_fails_too(self):
        held, again = api_error(401), api_error(503)
        for first, second in ((held, again), (again, held)):
            self.openai.script = lambda _, reply=first: reply
            self.second.script = lambda _, reply=second: reply
            daemon = await self.started(give_up_after=5)
            id_ = await daemon.accepted("why")
            record = await daemon.reaches(id_, lambda record: record["asks"] >= 3)
            self.assertEqual(record["state"], "accepted")
            _, _, checks = await daemon.checks()
            lines = checks["openai"], checks["openai.second"]
            (until_,) = {line.partition("each is tried for ")[2][:26] for line in lines}
            self.assertRegex(until_, "^5 s, the first until [0-9:]{5}$", lines)
            failed = await daemon.reaches(id_, "failed")
            self.assertIn("after `give_up_after`", failed["error"])
            await daemon.stop()

    async def test_as_late_as_it_says(self):
        self.openai.script = lambda _: api_error(429, headers={"retry-after": str(RETRY_AFTER)})
        daemon = await self.started(clock=self.clock(reactor.seconds()))
        self.assertEqual(await self.answered(daemon, 1), {"second": 1})
        self.openai.script = self.openai.default
        await daemon.live(RETRY_AFTER - 60)
        self.assertEqual(await self.answered(daemon), {"second": 3})
        self.assertEqual(len(self.openai.asks), 1)
        await daemon.live(60)
        await self.comes_back(daemon)

    async def test_it_hangs(self):
        self.openai.script = lambda _: Reply(fault=Fault.HANG)
        daemon = await self.started(fallback_after_timeout=True)
        self.assertEqual(await self.answered(daemon), {"second": 3})
        self.openai.script = self.openai.default
        await self.comes_back(daemon)

    async def test_what_a_fallback_works_on_is_found_after_a_crash(self):
        await self.openai.stop()
        self.second.seconds = 60.0
        daemon = await self.started({"api": "responses", "background": True})
        id_ = await daemon.accepted("why")
        await daemon.reaches(id_, "submitted")
        await daemon.kill()
        self.second.end_all()
        await daemon.start()
        await daemon.reaches(id_, "delivered")
        (event,) = self.target.events
        self.assertEqual(event["data"]["provider"], "second")
        self.assertEqual(self.second.billed, 1)
