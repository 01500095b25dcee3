"""What happened to a prompt, call by call, as operators of a real daemon see it."""

import json

from tests.e2e.processes import until
from tests.e2e.test_admin import AdminCase
from tests.fakes.openai import api_error
from tests.fakes.server import Reply

CALLS = [
    ("ask", 1, "model", "again", 500),
    ("ask", 2, "model", "again", 429),
    ("ask", 3, "model", "answered", 200),
    ("delivery", 1, "target", "again", 503),
    ("delivery", 2, "target", "delivered", 202),
]


class AttemptsTests(AdminCase):
    async def told(self, prompt_id):
        return (await self.ask_admin(f"/api/prompts/{prompt_id}")).json()

    async def test_each_call_outlives_the_daemon(self):
        self.openai.queue(api_error(500), api_error(429))
        self.target.queue(Reply(503, delay=0.2), Reply(202))
        daemon = self.daemon()
        await daemon.start()
        prompt_id = await daemon.accepted("text", {"vanus-source": "/s"})
        await daemon.reaches(prompt_id, "delivered")
        told = await self.told(prompt_id)
        calls = told["attempts"]
        names = ("kind", "number", "peer", "outcome", "status")
        self.assertEqual([tuple(each[name] for name in names) for each in calls], CALLS)
        self.assertEqual(
            [each["started"] for each in calls], sorted(each["started"] for each in calls)
        )
        self.assertTrue(all(0 <= each["seconds"] < 30 for each in calls))
        self.assertGreaterEqual(calls[3]["seconds"], 0.2)
        self.assertIn("500", calls[0]["error"])
        self.assertEqual(
            [each["error"] is None for each in calls], [False, False, True, False, True]
        )
        self.assertEqual((told["input_tokens"], told["output_tokens"]), (3, 4))
        self.assertEqual((told["answered_by"], told["sent_status"]), ("model", 202))
        self.assertEqual((told["unlisted"], told["dead_letter"]), (0, None))
        self.assertLess(told["accepted"], calls[0]["started"])
        await daemon.kill()
        await daemon.start()
        self.assertEqual(await self.told(prompt_id), told)
        status, out = await daemon.operate("show", prompt_id[:8])
        self.assertEqual((status, json.loads(out)), (0, told))

    async def test_a_call_that_a_crash_cut_off_is_not_listed(self):
        self.openai.queue(Reply(200, delay=60))
        daemon = self.daemon()
        await daemon.start()
        prompt_id = await daemon.accepted("text")
        await until(lambda: self.openai.asks, "the call")
        self.assertEqual((await self.told(prompt_id))["unlisted"], 0)  # it is under way
        await daemon.kill()
        await daemon.start()
        await daemon.reaches(prompt_id, "delivered")
        told = await self.told(prompt_id)
        self.assertEqual((told["asks"], told["unlisted"]), (2, 1))
        self.assertEqual([each["number"] for each in told["attempts"]], [2, 1])

    async def test_a_dead_letter(self):
        self.openai.queue(api_error(400))
        self.target.queue(Reply(503), Reply(202))
        daemon = self.daemon(dead_letter=self.target.origin)
        await daemon.start()
        prompt_id = await daemon.accepted("text")
        await daemon.reaches(prompt_id, "failed")

        async def is_over():
            return (await self.told(prompt_id))["dead_letter"]["state"] == "delivered"

        await until(is_over, "the dead letter's delivery")
        told = await self.told(prompt_id)
        self.assertIsNotNone(told["failed"])
        kinds = [(each["kind"], each["status"]) for each in told["attempts"]]
        self.assertEqual(kinds, [("ask", 400), ("dead_letter", 503), ("dead_letter", 202)])
