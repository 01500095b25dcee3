"""What the daemon makes of each answer of the model and of the target, seen from outside."""

from collections import deque
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime

from twisted.internet import reactor
from twisted.internet.task import deferLater

from tests.e2e.processes import DaemonCase, throughout, together, until
from tests.fakes.openai import answer_to, api_error, completion, prompt_of
from tests.fakes.server import Fault, Reply

NOW = 1795000000.0
FIRST_BACKOFF = 0.5 * 0.75


def in_seconds(seconds):
    return datetime.now(timezone.utc) + timedelta(seconds=seconds)


class CallCase(DaemonCase):
    def plan(self, server, key, plan):
        """Answer the calls about each thing by its own replies, then as a healthy server."""
        plan = {name: deque(replies) for name, replies in plan.items()}

        def script(request):
            replies = plan.get(key(request))
            return replies.popleft() if replies else server.default(request)

        server.script = script

    def asks_of(self, prompt):
        return [ask for ask in self.openai.asks if prompt_of(ask) == prompt]

    def gap(self, requests):
        first, second, *_ = requests
        return second.at - first.at


class ModelTests(CallCase):
    async def test_classes(self):
        again = {
            **{str(n): [api_error(n)] for n in (408, 409, 500, 502, 503, 504, 529)},
            "twice": [api_error(500), api_error(502)],
            "hang": [Reply(fault=Fault.HANG)],
            "endless": [completion("x", fault=Fault.ENDLESS)],
            "overrun": [completion("x", fault=Fault.OVERRUN)],
            "stall": [completion("x", fault=Fault.STALL)],
        }
        unreadable = {
            "cut JSON": Reply(200, b'{"choices": ['),
            "HTML": Reply(200, b"<html>busy</html>", {"Content-Type": "text/html"}),
            "not UTF-8": Reply(200, b'{"choices": [{"message": {"content": "\xff"}}]}'),
            "cut short": completion("x", fault=Fault.CUT),
            "no body": Reply(200),
            "no choices": Reply.of_json({"choices": []}),
            "no object": Reply.of_json([]),
            "no text": completion(["x"]),
        }
        unreadable = {name: [reply] * 4 for name, reply in unreadable.items()}
        rejected = {str(n): [api_error(n)] for n in (400, 406, 413, 415, 422)}
        rejected["400 about the prompt"] = [api_error(400, param="messages")]
        said_nothing = {
            "refusal": [completion(None, message={"refusal": "No."})],
            "empty": [completion("")],
            "none": [completion(None)],
            "blank": [completion(" \n")],
            "empty at length": [completion("", finish_reason="length")],
        }
        well = {"length": [completion("cut of", finish_reason="length")], "plain": []}
        plan = {**again, **unreadable, **rejected, **said_nothing, **well}
        self.plan(self.openai, prompt_of, plan)
        daemon = self.daemon(openai_timeout=4)
        await daemon.start()
        ids = {prompt: await daemon.accepted(prompt) for prompt in plan}

        async def ends(prompt):
            return await daemon.reaches(
                ids[prompt], lambda record: record["state"] in {"delivered", "failed"}
            )

        records = dict(zip(plan, await together(*(ends(prompt) for prompt in plan)), strict=True))
        for prompt, record in records.items():
            asks = self.asks_of(prompt)
            delivered = prompt in again or prompt in well
            self.assertEqual(record["state"], "delivered" if delivered else "failed", prompt)
            self.assertEqual(record["error"] is None, delivered, prompt)
            calls = 1
            if prompt in again:
                calls += len(again[prompt])
                self.assertGreaterEqual(self.gap(asks), FIRST_BACKOFF, prompt)
            elif prompt in unreadable:
                calls = 3
            self.assertEqual((record["asks"], len(asks)), (calls, calls), prompt)
            self.assertEqual(len({ask.body for ask in asks}), 1, prompt)
        # A failure is never dressed up as an answer.
        contents = {event["id"]: event["data"]["content"] for event in self.target.events}
        expected = {ids[prompt]: answer_to(prompt) for prompt in again} | {
            ids["length"]: "cut of",
            ids["plain"]: answer_to("plain"),
        }
        self.assertEqual(contents, expected)
        self.assertEqual(len(self.target.requests), len(expected))
        # Those that ended without a 200 gave their unit back.
        left = 100 - (len(plan) - len(rejected)) - 1
        self.assertIn(f"r={left};", (await daemon.post("plain")).header("ratelimit"))
        self.assert_fair()

    async def test_reset(self):
        """It may be billed, on a new connection: each further try has one of its own."""
        self.openai.lingers = 0
        self.plan(self.openai, prompt_of, {"text": [Reply(fault=Fault.RESET)] * 2})
        daemon = self.daemon()
        await daemon.start()
        record = await daemon.reaches(await daemon.accepted("text"), "delivered")
        asks = self.asks_of("text")
        self.assertEqual((record["asks"], len(asks)), (3, 3))
        self.assertGreaterEqual(self.gap(asks), FIRST_BACKOFF)
        self.assertEqual([ask.header("connection") for ask in asks], [None, "close", "close"])

    async def test_reset_on_a_kept_connection(self):
        """It is the connection's fault: it is asked again at once, on a new one."""
        self.plan(self.openai, prompt_of, {"second": [Reply(fault=Fault.RESET)]})
        daemon = self.daemon()
        await daemon.start()
        for text, calls in (("first", 1), ("second", 2)):
            record = await daemon.reaches(await daemon.accepted(text), "delivered")
            self.assertEqual((record["asks"], len(self.asks_of(text))), (1, calls))
        self.assertLess(self.gap(self.asks_of("second")), FIRST_BACKOFF)

    async def test_unreachable_is_tried_for_as_long_as_it_takes(self):
        clock = self.clock(NOW)
        daemon = self.daemon(clock=clock)
        await self.openai.stop()
        await daemon.start()
        prompt_id = await daemon.accepted("text")

        async def often():
            await daemon.live(2)
            return (await daemon.record(prompt_id))["asks"] >= 5

        await until(often, "five asks")
        status, word, checks = await daemon.checks()
        self.assertEqual((status, word), (200, "degraded"))
        self.assertIn("can't be reached", checks["openai"])
        self.openai.start()

        async def delivered():
            await daemon.live(2)
            return (await daemon.record(prompt_id))["state"] == "delivered"

        await until(delivered, "the delivery")
        self.assertEqual((await daemon.checks())[1], "ready")

    async def test_too_many_requests_hold_back_all(self):
        self.openai.queue(api_error(429, code="rate_limit_exceeded", headers={"Retry-After": "60"}))
        daemon = self.daemon(clock=self.clock(NOW))
        await daemon.start()
        first = await daemon.accepted("first")
        await daemon.reaches(first, lambda record: record["error"])
        self.assertEqual((await daemon.checks())[:2], (200, "degraded"))
        others = await together(*(daemon.accepted(f"other {n}") for n in range(5)))
        await daemon.live(40)
        await throughout(0.2, lambda: len(self.openai.asks) == 1, "it asked while it was held back")
        await daemon.live(21)
        for prompt_id in (first, *others):
            await daemon.reaches(prompt_id, "delivered")
        self.assertEqual(len(self.openai.asks), 7)
        self.assertEqual((await daemon.checks())[1], "ready")

    async def test_hold_and_probe(self):
        elsewhere = {"Location": f"{self.openai.origin}/elsewhere"}
        self.openai.queue(
            api_error(401, code="invalid_api_key"),
            Reply(307, headers=elsewhere),
            api_error(429, code="insufficient_quota", headers={"Retry-After": "1"}),
            api_error(400, param="model"),
        )
        clock = self.clock(NOW)
        daemon = self.daemon(clock=clock)
        await daemon.start()
        ids = [await daemon.accepted("prompt 0")]
        await daemon.reaches(ids[0], lambda record: record["error"])
        ids += [await daemon.accepted(f"prompt {n}") for n in range(1, 5)]
        await throughout(2, lambda: len(self.openai.asks) == 1, "it asked while it held")
        reasons = ["401"]
        for n, interval, told in ((1, 30, "307"), (2, 60, "insufficient_quota"), (3, 120, "model")):
            status, word, checks = await daemon.checks()
            self.assertEqual((status, word), (200, "degraded"))
            self.assertIn(reasons[-1], checks["openai"])
            await daemon.live(interval - 20)
            await throughout(0.2, lambda n=n: len(self.openai.asks) == n, "it probed too early")
            await daemon.live(21)
            # One probe, and each time with another prompt.
            await daemon.reaches(ids[n], lambda record: record["error"])
            self.assertEqual([prompt_of(ask) for ask in self.openai.asks][n:], [f"prompt {n}"])
            reasons.append(told)
        states = [(await daemon.record(prompt_id))["state"] for prompt_id in ids]
        self.assertEqual(states, ["accepted"] * 5)
        await daemon.live(241)
        for prompt_id in ids:
            await daemon.reaches(prompt_id, "delivered")
        self.assertEqual((await daemon.checks())[1], "ready")
        await until(lambda: "the model answers again" in daemon.text, "its line")
        for words in ("holding all calls to the model", "the model answers again"):
            self.assertEqual(daemon.text.count(words), 1, words)
        self.assertEqual(len(self.openai.asks), 9)
        paths = [request.path for request in self.openai.requests if request.method == "POST"]
        self.assertEqual(len(paths), 9)  # the redirect was not followed
        self.assert_fair()

    async def test_told_whether_to_retry(self):
        plan = {
            "500, no": [api_error(500, headers={"x-should-retry": "false"})] * 2,
            "429, no": [api_error(429, headers={"x-should-retry": "false"})] * 2,
            "400, yes": [api_error(400, headers={"x-should-retry": "true"})],
            "422, yes": [
                api_error(422, headers={"x-should-retry": "true", "retry-after-ms": "900"})
            ],
        }
        self.plan(self.openai, prompt_of, plan)
        daemon = self.daemon()
        await daemon.start()
        for prompt in plan:
            no = prompt.endswith("no")
            prompt_id = await daemon.accepted(prompt)
            record = await daemon.reaches(prompt_id, "failed" if no else "delivered")
            self.assertEqual(record["asks"], 1 if no else 2, prompt)
        self.assertGreaterEqual(self.gap(self.asks_of("422, yes")), 0.9)
        self.openai.script = lambda _: api_error(401, headers={"x-should-retry": "true"})
        prompt_id = await daemon.accepted("text")
        await daemon.reaches(prompt_id, lambda record: "401" in (record["error"] or ""))
        await throughout(1, lambda: len(self.asks_of("text")) == 1, "it asked while it held")

    async def test_waits_as_long_as_it_is_told(self):
        """`retry-after-ms`, and both forms of `Retry-After`."""
        told = {
            "ms": lambda: {"retry-after-ms": "1300", "Retry-After": "30"},
            "seconds": lambda: {"Retry-After": "2"},
            "date": lambda: {"Retry-After": format_datetime(in_seconds(3), usegmt=True)},
        }

        def script(request):
            prompt = prompt_of(request)
            if len(self.asks_of(prompt)) > 1:
                return self.openai.default(request)
            status, form = prompt.split()
            return api_error(int(status), headers=told[form]())

        self.openai.script = script
        # A 429 is every prompt's, so that the other status has a daemon of its own.
        ways = [(status, self.daemon()) for status in (429, 503)]
        await together(*(daemon.start() for _, daemon in ways))

        async def waits(status, daemon):
            for form, wait in (("ms", 1.3), ("seconds", 2), ("date", 1)):
                prompt = f"{status} {form}"
                await daemon.reaches(await daemon.accepted(prompt), "delivered")
                self.assertGreaterEqual(self.gap(self.asks_of(prompt)), wait, prompt)

        await together(*(waits(*way) for way in ways))

    async def test_resumes_gradually(self):
        async def slowly(request):
            await deferLater(reactor, 0.3)
            return self.openai.default(request)

        self.openai.script = slowly
        self.openai.queue(api_error(429, headers={"retry-after-ms": "500"}))
        daemon = self.daemon(concurrency=8)
        await daemon.start()
        first = await daemon.accepted("first")
        await daemon.reaches(first, lambda record: record["error"])
        ids = [first, *[await daemon.accepted(f"prompt {n}") for n in range(6)]]
        for prompt_id in ids:
            await daemon.reaches(prompt_id, "delivered")
        starts = [ask.at for ask in self.openai.asks[1:]]
        # One alone, then two at once, then as many as those made room for.
        self.assertGreaterEqual(starts[1] - starts[0], 0.3)
        self.assertGreaterEqual(starts[3] - starts[1], 0.3)

    async def test_a_restart_with_a_refused_key_does_not_probe_anew(self):
        self.openai.script = lambda _: api_error(401)
        daemon = self.daemon(token="revoked")
        await daemon.start()
        first = await daemon.accepted("first")
        await daemon.reaches(first, lambda record: record["error"])
        for number in range(10):
            await daemon.accepted(f"prompt {number}")
        await daemon.kill()
        before = len(self.openai.asks)
        await daemon.start()
        self.assertIn("401", (await daemon.checks())[2]["openai"])
        await throughout(1, lambda: len(self.openai.asks) == before, "it asked while held")
        await daemon.kill()
        self.openai.script = self.openai.default
        config = daemon.config_file.read_text()
        daemon.config_file.write_text(config.replace("revoked", "mended"))
        await daemon.start()
        await daemon.reaches(first, "delivered")

    async def test_not_found_while_others_are(self):
        self.plan(self.openai, prompt_of, {"odd": [api_error(404)] * 5})
        clock = self.clock(NOW)
        daemon = self.daemon(clock=clock)
        await daemon.start()
        odd = await daemon.accepted("odd")
        await daemon.reaches(odd, lambda record: record["error"])
        other = await daemon.accepted("other")
        await daemon.live(31)
        await daemon.reaches(other, "delivered")
        self.assertEqual((await daemon.reaches(odd, "failed"))["asks"], 2)
        await daemon.reaches(await daemon.accepted("another"), "delivered")

    async def test_gives_up(self):
        self.openai.script = lambda _: api_error(503)
        daemon = self.daemon(give_up_after=0, everyday_limit=1)
        await daemon.start()
        for _ in range(2):  # the unit is given back
            record = await daemon.reaches(await daemon.accepted("text"), "failed")
            self.assertEqual(record["asks"], 1)
            self.assertIn("503", record["error"])
        self.assertEqual(self.target.requests, [])

    async def test_what_is_sent(self):
        daemon = self.daemon(
            model="some-model",
            system_prompt="Be brief.",
            max_tokens=5,
            base_url=f"{self.openai.base_url}/",
        )
        await daemon.start()
        await daemon.reaches(await daemon.accepted("Grüße \U0001f600"), "delivered")
        (ask,) = self.openai.asks
        messages = [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Grüße \U0001f600"},
        ]
        self.assertEqual(
            ask.document, {"model": "some-model", "messages": messages, "max_completion_tokens": 5}
        )
        self.assertEqual(ask.header("content-type"), "application/json")
        self.assertRegex(ask.header("user-agent"), r"^chatgpt-source/\d")
        self.assert_fair()


class TargetTests(CallCase):
    async def test_reset(self):
        self.target.lingers = 0
        self.target.queue(*[Reply(fault=Fault.RESET)] * 2)
        daemon = self.daemon()
        await daemon.start()
        record = await daemon.reaches(await daemon.accepted("text"), "delivered")
        self.assertEqual((record["deliveries"], len(self.target.requests)), (3, 3))
        self.assertGreaterEqual(self.gap(self.target.requests), FIRST_BACKOFF)

    async def test_reset_on_a_kept_connection(self):
        daemon = self.daemon()
        await daemon.start()
        await daemon.reaches(await daemon.accepted("first"), "delivered")
        self.target.queue(Reply(fault=Fault.RESET))
        record = await daemon.reaches(await daemon.accepted("second"), "delivered")
        self.assertEqual((record["deliveries"], len(self.target.requests)), (1, 3))

    async def test_classes(self):
        elsewhere = {"Location": f"{self.target.origin}/elsewhere"}
        again = {str(n): [Reply(n)] for n in (404, 408, 409, 429, 500, 502, 503)}
        again["twice"] = [Reply(500), Reply(503)]
        again["told when"] = [Reply(503, headers={"Retry-After": "1"})]
        failed = {str(n): [Reply(n, headers=elsewhere)] for n in (301, 302, 303, 307, 308)}
        failed |= {str(n): [Reply(n)] for n in (304, 400, 402, 405, 413, 415, 422)}
        well = {str(n): [Reply(n)] for n in (200, 201, 202, 204)}
        cut = {"200, and a broken body": [Reply(200, b"thanks", fault=Fault.CUT)]}
        plan = {**again, **failed, **well, **cut}
        self.plan(self.target, lambda request: request.document["type"], plan)
        daemon = self.daemon()
        await daemon.start()
        ids = {type_: await daemon.accepted("text", {"vanus-type": type_}) for type_ in plan}

        async def ends(type_):
            return await daemon.reaches(
                ids[type_], lambda record: record["state"] in {"delivered", "failed"}
            )

        records = dict(zip(plan, await together(*(ends(type_) for type_ in plan)), strict=True))
        for type_, record in records.items():
            bodies = self.target.bodies(ids[type_])
            self.assertEqual(record["state"], "failed" if type_ in failed else "delivered", type_)
            self.assertEqual(record["error"] is not None, type_ in failed)
            calls = 1 + len(again.get(type_, []))
            self.assertEqual((record["deliveries"], len(bodies)), (calls, calls), type_)
            self.assertEqual(len(set(bodies)), 1, type_)
            self.assertEqual(record["asks"], 1)
            requests = [r for r in self.target.requests if r.document["type"] == type_]
            if type_ in again:
                wait = 1 if type_ == "told when" else FIRST_BACKOFF
                self.assertGreaterEqual(self.gap(requests), wait, type_)
        self.assertEqual({request.path for request in self.target.requests}, {"/"})
        self.assertEqual(len(self.openai.asks), len(plan))
        self.assert_fair()

    async def test_hold_and_probe(self):
        self.target.queue(Reply(410), Reply(401), Reply(403))
        clock = self.clock(NOW)
        daemon = self.daemon(clock=clock)
        await daemon.start()
        ids = [await daemon.accepted("prompt")]
        await daemon.reaches(ids[0], lambda record: record["error"])
        # Asking goes on meanwhile.
        ids += [await daemon.accepted("prompt") for _ in range(3)]
        for prompt_id in ids:
            await daemon.reaches(prompt_id, "answered")
        for n, interval, told in ((1, 30, "410"), (2, 60, "401"), (3, 120, "403")):
            status, word, checks = await daemon.checks()
            self.assertEqual((status, word, checks["openai"]), (200, "degraded", "ok"))
            self.assertIn(told, checks["target"])
            await daemon.live(interval - 20)
            await throughout(0.2, lambda n=n: len(self.target.requests) == n, "too early")
            await daemon.live(21)
            await until(lambda n=n: len(self.target.requests) > n, "a probe")
            if n < 3:
                await daemon.reaches(ids[n], lambda record: record["error"])
        for prompt_id in ids:
            await daemon.reaches(prompt_id, "delivered")
        self.assertEqual(len(self.openai.asks), 4)
        self.assertEqual((await daemon.checks())[1], "ready")

    async def test_attempts_are_bounded(self):
        daemon = self.daemon(send_event_attempts=2)
        await self.target.stop()
        await daemon.start()
        record = await daemon.reaches(await daemon.accepted("text"), "failed")
        self.assertEqual((record["asks"], record["deliveries"]), (1, 2))
        self.assertIn("can't be reached", record["error"])
        self.assertIsNone(record["delivered"])
        status, word, checks = await daemon.checks()
        self.assertEqual((status, word), (200, "degraded"))
        self.assertIn("can't be reached", checks["target"])

    async def test_gives_up(self):
        self.target.script = lambda _: Reply(500)
        daemon = self.daemon(give_up_after=0)
        await daemon.start()
        record = await daemon.reaches(await daemon.accepted("text"), "failed")
        self.assertEqual((record["asks"], record["deliveries"]), (1, 1))

    async def test_a_hanging_target_delays_nothing_else(self):
        self.target.script = lambda _: Reply(fault=Fault.HANG)
        daemon = self.daemon(concurrency=1)
        await daemon.start()
        for _ in range(3):
            await daemon.reaches(await daemon.accepted("text"), "answered")
        self.assertEqual((len(self.openai.asks), len(self.target.requests)), (3, 1))

    async def test_a_hanging_model_delays_no_delivery(self):
        self.target.queue(Reply(503))
        self.openai.queue(completion("an answer"), Reply(fault=Fault.HANG))
        daemon = self.daemon(concurrency=1)
        await daemon.start()
        first = await daemon.accepted("first")
        second = await daemon.accepted("second")
        await until(lambda: len(self.openai.asks) == 2, "the second ask")
        await daemon.reaches(first, "delivered")
        self.assertEqual((await daemon.record(second))["state"], "accepted")
