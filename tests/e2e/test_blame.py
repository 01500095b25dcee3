"""Whose fault a failure is: the prompt's own, everybody's, or that of another receiver; and what it
costs.
"""

from typing import Any

from twisted.internet import reactor

from tests.e2e.processes import Daemon, DaemonCase, together, until
from tests.e2e.test_tracing import Collector
from tests.fakes.openai import answer_to, api_error, completion, prompt_of
from tests.fakes.server import Fault, Received, Reply
from tests.fakes.target import FakeTarget

TOO_LONG = "a prompt that is too long"
HUNG = Reply(fault=Fault.HANG)


class OneBadPromptTests(DaemonCase):
    """As vLLM answers a prompt that leaves no room for `max_tokens`."""

    def model(self, request: Received) -> Reply:
        if prompt_of(request) == TOO_LONG:
            return api_error(400, param="max_tokens")
        return completion(answer_to(prompt_of(request)), delay=0.05)

    async def test_delays_no_other(self):
        self.openai.script = self.model
        daemon = self.daemon(max_tokens=100, concurrency=8)
        await daemon.start()
        await daemon.reaches(await daemon.accepted("first"), "delivered")
        bad = await daemon.accepted(TOO_LONG)
        others = await together(*(daemon.accepted(f"other {n}") for n in range(60)))
        await until(lambda: len(self.target.requests) == 61, "the others", timeout=10)
        for prompt_id in others:
            await daemon.reaches(prompt_id, "delivered")
        record = await daemon.reaches(bad, "failed")
        self.assertEqual(record["asks"], 1)
        self.assertIn("`max_tokens`", record["error"])
        self.assertIn("while others succeed", record["error"])
        self.assertNotIn("holding all calls", daemon.text)
        last = await daemon.accepted(TOO_LONG)  # and no other after it
        await daemon.reaches(last, "failed")
        # Their units come back.
        self.assertIn("r=38;", (await daemon.post("last")).header("ratelimit"))


class UnitTests(DaemonCase):
    async def used(self, daemon: Daemon, limit: int) -> int:
        """Units spent after one more is taken."""
        header = (await daemon.post("one more")).header("ratelimit")
        return limit - int(header.split(";")[1].removeprefix("r="))

    async def spent(self, *, script: Any, **settings: Any) -> int:
        """Units that a prompt spent which failed."""
        self.openai.script = script
        daemon = self.daemon(everyday_limit=3, **settings)
        await daemon.start()
        await daemon.reaches(await daemon.accepted("text"), "failed")
        return await self.used(daemon, 3) - 1

    async def test_after_calls_without_an_answer(self):
        hung = await self.spent(script=lambda _: HUNG, openai_timeout=0.2)
        self.assertEqual(hung, 1)

    async def test_after_one_call_without_an_answer_and_a_refusal(self):
        replies = iter([HUNG, api_error(400)])
        self.assertEqual(await self.spent(script=lambda _: next(replies), openai_timeout=1), 1)

    async def test_after_a_refusal(self):
        self.assertEqual(await self.spent(script=lambda _: api_error(400)), 0)

    async def test_after_connections_that_were_refused(self):
        await self.openai.stop()
        self.assertEqual(await self.spent(script=None, give_up_after=1), 0)

    async def test_after_a_crash_during_a_call(self):
        replies = iter([HUNG, api_error(400), api_error(400)])
        self.openai.script = lambda _: next(replies)
        daemon = self.daemon(everyday_limit=3)
        await daemon.start()
        prompt_id = await daemon.accepted("text")
        await until(lambda: self.openai.asks, "the call")
        await daemon.kill()
        await daemon.start()
        await daemon.reaches(prompt_id, "failed")
        self.assertEqual(await self.used(daemon, 3), 2)

    async def test_after_a_stop_that_abandoned_a_call(self):
        replies = iter([HUNG, api_error(400), api_error(400)])
        self.openai.script = lambda _: next(replies)
        daemon = self.daemon(everyday_limit=3, drain_timeout=1)
        await daemon.start()
        prompt_id = await daemon.accepted("text")
        await until(lambda: self.openai.asks, "the call")
        await daemon.stop()
        await daemon.start()
        await daemon.reaches(prompt_id, "failed")
        self.assertEqual(await self.used(daemon, 3), 2)


class DeadLetterTests(DaemonCase):
    def setUp(self):
        super().setUp()
        self.letters, self.collector = FakeTarget(reactor), Collector(reactor)
        for each in (self.letters, self.collector):
            each.start()
            self.addCleanup(each.stop)

    async def test_its_failures_and_spans_are_its_own(self):
        self.letters.script = lambda _: Reply(410)
        self.openai.queue(api_error(400))
        endpoint = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.collector.origin,
            "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
        }
        daemon = Daemon(self, self.config(dead_letter=self.letters.origin), **endpoint)
        await daemon.start()
        await daemon.reaches(await daemon.accepted("text"), "failed")
        await until(lambda: "holding all calls" in daemon.text, "the hold")
        self.assertIn(
            "the dead letter's receiver answered 410: it asks us to stop: check `dead_letter`",
            daemon.text,
        )
        self.assertNotIn("the target", daemon.text)
        await daemon.stop()
        (span,) = [each for each in self.collector.spans() if "letter" in each.name]
        told = {each.key: each.value for each in span.attributes}
        port = int(self.letters.origin.rpartition(":")[2])
        self.assertEqual(told["server.port"].int_value, port)
        self.assertEqual(span.name, "deliver dead letter")

    async def test_one_that_is_down(self):
        await self.letters.stop()
        self.openai.queue(api_error(400))
        daemon = self.daemon(dead_letter=self.letters.origin, give_up_after=1)
        await daemon.start()
        await daemon.reaches(await daemon.accepted("text"), "failed")
        await until(lambda: "dead letter not delivered" in daemon.text, "the end of the letter")
        self.assertIn("the dead letter's receiver can't be reached", daemon.text)
        self.assertNotIn("the target", daemon.text)
