"""Paid once: what the provider keeps under ids is fetched after a crash, not asked again."""

from twisted.internet import reactor
from twisted.internet.task import deferLater

from tests.e2e.processes import DaemonCase, call, together, until
from tests.fakes.openai import answer_to, api_error
from tests.fakes.responses import FakeResponses
from tests.fakes.server import Reply

CONCURRENCY = 64


class PaidOnceTests(DaemonCase):
    def setUp(self):
        super().setUp()
        self.openai = FakeResponses(reactor)
        self.openai.start()
        self.addCleanup(self.openai.stop)

    def background(self, **settings):
        return self.daemon(
            api="responses",
            background=True,
            concurrency=CONCURRENCY,
            everyday_limit=10_000,
            **settings,
        )

    async def test_six_kills(self):
        """400 answers: paid twice is at most the one whose id is on its way to the disk."""
        self.openai.seconds = 0.3
        daemon = self.background()
        await daemon.start()
        ids = []
        for number in range(6):
            ids += await together(*(daemon.accepted(f"{number}/{n}") for n in range(66)))
            most = len(ids) - 40
            await until(lambda most=most: len(self.openai.asks) >= most, "calls under way")
            await daemon.kill()
            await daemon.start()
        ids += await together(*(daemon.accepted(f"last/{n}") for n in range(4)))
        await until(
            lambda: {event["id"] for event in self.target.events} == set(ids), "every event", 60
        )
        for id_ in ids:
            await daemon.reaches(id_, "delivered")
        paid_twice = self.openai.billed - len(ids)
        self.assertLessEqual(paid_twice, 6, "more than what was on its way to the disk")

    async def test_a_lost_reply_is_the_one_window(self):
        self.openai.losses = 1
        daemon = self.background()
        await daemon.start()
        await daemon.reaches(await daemon.accepted("text"), "delivered")
        self.assertEqual(self.openai.billed, 2)

    async def test_submitted_survives_a_crash_and_a_dead_provider(self):
        self.openai.seconds = 3600
        daemon = self.background()
        await daemon.start()
        prompt_id = await daemon.accepted("text")
        record = await daemon.reaches(prompt_id, "submitted")
        self.assertEqual((record["asks"], record["answered"]), (1, None))
        await daemon.kill()
        await self.openai.stop()
        await daemon.start()
        await daemon.reaches(prompt_id, "submitted")
        self.openai.start()
        self.openai.end_all()
        await daemon.reaches(prompt_id, "delivered")
        self.assertEqual((self.openai.billed, len(self.openai.asks)), (1, 1))

    async def test_gone_is_asked_again(self):
        clock = self.clock(reactor.seconds())
        self.openai.seconds = 3600
        daemon = self.background(clock=clock)
        await daemon.start()
        prompt_id = await daemon.accepted("text")
        await daemon.reaches(prompt_id, "submitted")
        self.openai.kept.clear()
        self.openai.seconds = 0.0
        for _ in range(8):
            await daemon.live(11)
            await deferLater(reactor, 0.05)
        await daemon.reaches(prompt_id, "delivered")
        self.assertEqual(len(self.openai.asks), 2)

    async def test_a_cancelled_one_is_cancelled_there(self):
        self.openai.seconds = 3600
        daemon = self.background()
        await daemon.start()
        prompt_id = await daemon.accepted("text")
        await daemon.reaches(prompt_id, "submitted")
        (kept,) = self.openai.kept.values()

        async def cancelled():
            url = f"http://127.0.0.1:{daemon.port}/prompts/{prompt_id}"
            return (await call("DELETE", url)).status == 204

        await until(cancelled, "the prompt's end, between two polls")
        await until(lambda: kept.cancelled, "its end at the provider")
        await daemon.reaches(prompt_id, "cancelled")
        self.assertEqual(self.openai.billed, 0)

    async def test_forgotten_after_delivery(self):
        daemon = self.background(forget_responses=True)
        await daemon.start()
        await daemon.reaches(await daemon.accepted("text"), "delivered")
        await until(lambda: not self.openai.kept, "nothing left at the provider")

    def refuse(self, method):
        """Let the provider answer 500 to the calls of a method."""

        def script(request):
            return api_error(500) if request.method == method else self.openai.default(request)

        self.openai.script = script

    async def test_forgotten_through_a_dead_provider_a_crash_and_a_stop(self):
        self.refuse("DELETE")
        daemon = self.background(forget_responses=True)
        await daemon.start()
        ids = await together(*(daemon.accepted(f"text {n}") for n in range(50)))
        for id_ in ids:
            await daemon.reaches(id_, "delivered")
        await daemon.kill()
        await daemon.start()
        await daemon.stop()
        self.assertEqual(len(self.openai.kept), 50)
        self.openai.script = self.openai.default
        await daemon.start()
        await until(lambda: not self.openai.kept, "nothing left at the provider")

    async def test_forgotten_once_a_redriven_one_is_delivered(self):
        self.target.queue(Reply(400))
        daemon = self.background(forget_responses=True)
        await daemon.start()
        prompt_id = await daemon.accepted("text")
        await daemon.reaches(prompt_id, "failed")
        self.assertEqual(len(self.openai.kept), 1)
        await daemon.operate("redrive", prompt_id)
        await daemon.reaches(prompt_id, "delivered")
        await until(lambda: not self.openai.kept, "nothing left at the provider")

    async def test_a_cancel_survives_a_crash(self):
        self.openai.seconds = 3600
        daemon = self.background()
        await daemon.start()
        prompt_id = await daemon.accepted("text")
        await daemon.reaches(prompt_id, "submitted")
        (kept,) = self.openai.kept.values()
        self.refuse("POST")
        url = f"http://127.0.0.1:{daemon.port}/prompts/{prompt_id}"

        async def cancelled():
            return (await call("DELETE", url)).status == 204

        await until(cancelled, "the prompt's end, between two polls")
        await daemon.kill()
        self.openai.script = self.openai.default
        await daemon.start()
        await until(lambda: kept.cancelled, "its end at the provider")
        self.assertEqual(self.openai.billed, 0)

    async def test_a_deadline_ends_what_takes_too_long(self):
        self.openai.seconds = 3600
        daemon = self.background()
        await daemon.start()
        answer = await daemon.post("text", {"Prefer": "wait=20", "vanus-deadline": "1s"})
        self.assertEqual(answer.status, 504)
        (kept,) = self.openai.kept.values()
        await until(lambda: kept.cancelled, "its end at the provider")

    async def test_waits_get_their_answer(self):
        daemon = self.background()
        await daemon.start()
        answer = await daemon.post("text", {"Prefer": "wait=20", "Accept": "text/plain"})
        self.assertEqual(answer.status, 200)
        self.assertEqual(answer.body.decode(), answer_to("text"))
