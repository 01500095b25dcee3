"""Accepted means delivered: crashes, stops, and what they leave on the disk."""

import contextlib
import signal
import stat
from collections import Counter

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.error import ConnectError

from tests.e2e.processes import DaemonCase, Wire, together, until
from tests.fakes.openai import answer_to, completion, prompt_of
from tests.fakes.server import Fault, Reply

ENDED_WELL = (0, -signal.SIGTERM)


class CrashTests(DaemonCase):
    async def test_while_asking(self):
        self.openai.script = lambda _: Reply(fault=Fault.HANG)
        daemon = self.daemon()
        await daemon.start()
        prompt_id = await daemon.accepted("text", {"vanus-source": "/s", "vanus-type": "t"})
        accepted = (await daemon.record(prompt_id))["accepted"]
        await until(lambda: self.openai.asks, "an ask")
        await daemon.kill()
        self.openai.script = self.openai.default
        await daemon.start()
        record = await daemon.reaches(prompt_id, "delivered")
        self.assertEqual((record["asks"], record["deliveries"]), (2, 1))
        self.assertEqual(record["accepted"], accepted)
        (event,) = self.target.events
        self.assertEqual(event["data"], {"content": answer_to("text")})
        self.assertEqual((event["id"], event["source"], event["type"]), (prompt_id, "/s", "t"))
        self.assert_fair()

    async def test_while_delivering(self):
        self.target.script = lambda _: Reply(fault=Fault.HANG)
        daemon = self.daemon()
        await daemon.start()
        prompt_id = await daemon.accepted("text")
        await until(lambda: self.target.requests, "a delivery")
        self.assertEqual((await daemon.record(prompt_id))["state"], "answered")
        await daemon.kill()
        self.target.script = self.target.default
        await daemon.start()
        await daemon.reaches(prompt_id, "delivered")
        first, second = self.target.bodies(prompt_id)
        self.assertEqual(first, second)
        self.assertEqual(len(self.openai.asks), 1)

    async def test_while_the_target_is_down(self):
        daemon = self.daemon()
        await self.target.stop()
        await daemon.start()
        prompt_id = await daemon.accepted("text")
        await daemon.reaches(prompt_id, lambda record: record["deliveries"])
        await daemon.kill()
        self.target.start()
        await daemon.start()
        await daemon.reaches(prompt_id, "delivered")
        self.assertEqual(len(self.target.requests), 1)
        self.assertEqual(len(self.openai.asks), 1)

    async def test_under_load(self):
        self.openai.script = lambda request: completion(
            f"{prompt_of(request)}, ask {len(self.openai.asks)}", delay=0.02
        )
        daemon = self.daemon(everyday_limit=10000)
        await daemon.start()
        accepted = set()

        async def caller(name):
            with contextlib.suppress(Exception):  # it is killed meanwhile
                for n in range(25):
                    accepted.add(await daemon.accepted(f"{name}.{n}"))

        callers = gatherResults([Deferred.fromCoroutine(caller(name)) for name in range(10)])
        await until(lambda: len(self.target.events) >= 60, "60 events")
        await daemon.kill()
        await callers
        self.assertGreaterEqual(len(accepted), 60)
        await daemon.start()
        await until(lambda: accepted <= {e["id"] for e in self.target.events}, "every event")
        contents, prompts = {}, Counter()
        for event in self.target.events:
            content = event["data"]["content"]
            self.assertEqual(contents.setdefault(event["id"], content), content)
            prompts[content.partition(",")[0]] += 1
        for prompt_id in contents:
            self.assertEqual(len(set(self.target.bodies(prompt_id))), 1)
        # What was delivered and known to be is not delivered again.
        self.assertLessEqual(sum(prompts.values()) - len(contents), 64)
        for prompt_id in accepted:
            await daemon.reaches(prompt_id, "delivered")
        self.assert_fair()


class StopTests(DaemonCase):
    async def test_finishes_what_is_under_way(self):
        self.openai.script = lambda request: completion(answer_to(prompt_of(request)), delay=0.5)
        daemon = self.daemon()
        process = await daemon.start()
        ids = await together(*(daemon.accepted(f"prompt {n}") for n in range(20)))
        await until(lambda: len(self.openai.asks) == 20, "20 asks")
        self.assertIn(await daemon.stop(), ENDED_WELL)
        self.assertEqual({event["id"] for event in self.target.events}, set(ids))
        self.assertEqual(len(self.target.requests), 20)
        self.assertNotIn("Traceback", process.text)

    async def test_refuses_while_it_drains(self):
        breaker = Deferred()

        async def wait(request):
            waiter = Deferred()
            breaker.addCallback(lambda _: waiter.callback(None))
            await waiter
            return completion(answer_to(prompt_of(request)))

        self.openai.script = wait
        daemon = self.daemon()
        process = await daemon.start()
        prompt_id = await daemon.accepted("text")
        waiting = await daemon.accepted("text")
        await until(lambda: len(self.openai.asks) == 2, "two asks")
        wire = await Wire.connect(daemon.port)
        self.addCleanup(wire.close)
        wire.send(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
        self.assertEqual((await wire.answer()).status, 200)
        process.signal(signal.SIGTERM)

        async def refused():
            try:
                (await Wire.connect(daemon.port)).close()
            except ConnectError:  # refused, or reset as the port closes
                return True

        await until(refused, "no new callers")
        wire.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nlate")
        answer = await wire.answer()
        self.assert_problem(answer, 503)
        self.assertGreater(int(answer.header("retry-after")), 0)
        wire.send(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = await wire.answer()
        self.assertEqual((answer.status, answer.json()["status"]), (503, "not ready"))
        wire.send(b"GET /prompts/%s HTTP/1.1\r\nHost: x\r\n\r\n" % prompt_id.encode())
        self.assertEqual((await wire.answer()).json()["state"], "accepted")
        wire.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        self.assertEqual((await wire.answer()).status, 200)
        breaker.callback(None)
        self.assertIn(await process.end(), ENDED_WELL)
        self.assertEqual({event["id"] for event in self.target.events}, {prompt_id, waiting})
        self.assertEqual(len(self.openai.asks), 2)

    async def test_is_bounded(self):
        self.openai.script = lambda _: Reply(fault=Fault.HANG)
        daemon = self.daemon(drain_timeout=0.3)
        await daemon.start()
        prompt_id = await daemon.accepted("text")
        await until(lambda: self.openai.asks, "an ask")
        before = reactor.seconds()
        self.assertIn(await daemon.stop(), ENDED_WELL)
        self.assertLess(reactor.seconds() - before, 15)
        self.openai.script = self.openai.default
        await daemon.start()
        await daemon.reaches(prompt_id, "delivered")

    async def test_waiting_prompts_wait_for_the_next_start(self):
        replies = [Deferred(), Deferred()]
        held = iter(replies)
        self.openai.script = lambda _: next(held)
        daemon = self.daemon(concurrency=2)
        process = await daemon.start()
        ids = [await daemon.accepted(f"prompt {n}") for n in range(6)]
        await until(lambda: len(self.openai.asks) == 2, "two asks")
        process.signal(signal.SIGTERM)
        await until(lambda: "stopping: 2 calls under way" in process.text, "the stop")
        self.openai.script = self.openai.default
        for reply in replies:
            reply.callback(completion("an answer"))
        self.assertIn(await process.end(), ENDED_WELL)
        self.assertEqual(sorted(event["id"] for event in self.target.events), sorted(ids[:2]))
        self.assertEqual(len(self.openai.asks), 2)
        await daemon.start()
        for prompt_id in ids:
            self.assertEqual((await daemon.reaches(prompt_id, "delivered"))["asks"], 1)
        self.assertEqual(len(self.target.requests), 6)

    async def test_what_a_stop_abandons_has_not_failed(self):
        # Else a few restarts during slow calls would set a prompt aside.
        self.openai.script = lambda _: Reply(fault=Fault.HANG)
        daemon = self.daemon(drain_timeout=0.1)
        await daemon.start()
        prompt_id = await daemon.accepted("text")
        for n in range(1, 5):
            await until(lambda n=n: len(self.openai.asks) == n, "an ask")
            await daemon.stop()
            await daemon.start()
            self.assertEqual((await daemon.record(prompt_id))["state"], "accepted")
        self.openai.script = self.openai.default
        await daemon.stop()
        await daemon.start()
        await daemon.reaches(prompt_id, "delivered")

    async def test_a_delivery_that_a_stop_abandons_has_not_failed(self):
        self.target.script = lambda _: Reply(fault=Fault.HANG)
        daemon = self.daemon(drain_timeout=0.1, send_event_attempts=1)
        await daemon.start()
        prompt_id = await daemon.accepted("text")
        await until(lambda: self.target.requests, "a delivery")
        await daemon.stop()
        self.target.script = self.target.default
        await daemon.start()
        await daemon.reaches(prompt_id, "delivered")
        self.assertEqual(len(set(self.target.bodies(prompt_id))), 1)


class DiskTests(DaemonCase):
    PROMPT, ANSWER = "MARKED-PROMPT-4711", "MARKED-ANSWER-0815"

    def on_disk(self, daemon, marker):
        return [name for name, content in daemon.files().items() if marker.encode() in content]

    async def test_texts_are_gone_and_files_are_private(self):
        self.openai.script = lambda _: completion(self.ANSWER)
        self.target.queue(Reply(503, headers={"Retry-After": "1"}))
        daemon = self.daemon()
        await daemon.start()
        first = await daemon.accepted(self.PROMPT, {"vanus-source": "/MARKED-SOURCE"})
        await daemon.reaches(first, lambda record: record["error"])
        for marker in (self.PROMPT, self.ANSWER, "MARKED-SOURCE"):
            self.assertTrue(self.on_disk(daemon, marker), "what waits must be on the disk")
        journal = [path for path in daemon.dir.iterdir() if path.name.startswith("journal.sqlite")]
        self.assertGreaterEqual(len(journal), 3)
        for path in journal:
            self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600, path.name)
        await daemon.reaches(first, "delivered")
        others = await together(*(daemon.accepted(f"{self.PROMPT} {n}") for n in range(30)))
        for prompt_id in others:
            await daemon.reaches(prompt_id, "delivered")
        await daemon.stop()
        for marker in (self.PROMPT, self.ANSWER, "MARKED-SOURCE"):
            self.assertEqual(self.on_disk(daemon, marker), [])
        await daemon.start()
        self.assertEqual((await daemon.record(first))["state"], "delivered")

    async def test_texts_are_gone_within_a_minute(self):
        clock = self.clock(reactor.seconds())
        daemon = self.daemon(clock=clock)
        await daemon.start()
        await daemon.reaches(await daemon.accepted(self.PROMPT), "delivered")
        await daemon.live(60)
        await until(lambda: not self.on_disk(daemon, self.PROMPT), "the text's end")
        self.assertEqual(self.on_disk(daemon, answer_to(self.PROMPT)), [])

    async def test_a_prompt_set_aside_keeps_its_text(self):
        self.target.script = lambda _: Reply(400)
        daemon = self.daemon()
        await daemon.start()
        await daemon.reaches(await daemon.accepted(self.PROMPT), "failed")
        await daemon.stop()
        self.assertTrue(self.on_disk(daemon, self.PROMPT))
        self.assertTrue(self.on_disk(daemon, answer_to(self.PROMPT)))
