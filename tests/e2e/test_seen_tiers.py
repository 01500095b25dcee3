"""Operators see batches: on the page, in `/api/batches`, in `/readyz` and in the metrics."""

from tests.e2e.browser import AXE, DESKTOP, PHONE
from tests.e2e.processes import call
from tests.e2e.test_page import BrowserCase
from tests.e2e.test_tiers import FEW, HOUR, TiersCase
from tests.fakes.openai import api_error


class SeenBatchesTests(BrowserCase, TiersCase):
    async def told(self, path):
        return (await call("GET", f"http://127.0.0.1:{self.admin}{path}")).json()

    async def test_a_batch_from_its_first_prompt_to_its_end(self):
        self.openai.running = 6 * HOUR
        daemon = await self.with_page(
            daemon_clock=self.time,
            everyday_limit=100_000,
            batch_window=120,
            batch_over=2 * HOUR,
            flex_over=HOUR,
        )
        await self.look()
        await self.live()
        await self.shows("batches", "Batches", "0 prompts to be put into a batch; 0 in 0 batches.")
        (first, *_) = await self.send(daemon, FEW)
        await self.shows("batches", f"{FEW} prompts to be put into a batch")
        await self.pass_until(daemon, lambda: self.openai.batches, "a batch")
        (sent,) = self.openai.batches
        await self.shows("batches", sent, "submitted (with the provider)", f"{FEW} in 1 batch.")
        await self.accessible()
        (batch,) = (await self.told("/api/batches"))["batches"]
        self.assertEqual(
            (batch["remote"], batch["state"], batch["prompts"]), (sent, "submitted", FEW)
        )
        record = await self.told(f"/api/prompts/{first}")
        self.assertEqual((record["tier"], record["batch"]), ("batch", batch["id"]))
        self.assertNotIn("batch", (await daemon.get(f"/prompts/{first}")).json())
        await self.refused(daemon)
        self.openai.running = 0
        await self.pass_until(daemon, self.has_all, "all answers", step=HOUR / 4)
        await self.shows("batches", "0 prompts to be put into a batch; 0 in 0 batches.")
        self.assert_delivered()
        self.assert_paid_once(FEW / 2)
        await self.assert_not_reloaded()

    async def refused(self, daemon):
        """See a hold of batches everywhere, and its end."""
        self.openai.troubles["look up"].extend([api_error(401)] * 2)
        await self.pass_until(daemon, lambda: len(self.openai.troubles["look up"]) < 2, "a hold")
        await self.shows("batches", "The model answered 401", "the next try is in")
        ready = (await daemon.get("/readyz")).json()
        self.assertEqual(ready["status"], "degraded")
        self.assertIn("the model answered 401", ready["checks"]["openai.batch"])
        (batch,) = (await self.told("/api/batches"))["batches"]
        self.assertIn("the model answered 401", batch["trouble"])
        await self.accessible()
        await self.pass_until(daemon, lambda: not self.openai.troubles["look up"], "a probe")
        await self.pass_until(daemon, self.looked_up, "a success")
        self.assertEqual((await daemon.get("/readyz")).json()["checks"]["openai.batch"], "ok")

    def looked_up(self):
        return self.openai.requests[-1].reply.status == 200

    async def accessible(self):
        if not AXE.exists():
            return
        for size in (DESKTOP, PHONE):
            await self.look(size=size)
            await self.live()
            for dark in (False, True):
                await self.do("theme", dark=dark)
                self.assertEqual(await self.do("violations"), [], (size, dark))

    async def test_no_section_without_batches(self):
        await self.with_page()
        await self.look()
        await self.live()
        self.assertFalse(await self.do("visible", "batches"))
        await self.shows("daemon", "answered by")
