"""Half the price: batches, the flex tier and fallbacks, in time and paid once, through crashes."""

import json
import random
from collections import Counter
from datetime import datetime
from math import inf

from twisted.internet import reactor
from twisted.internet.task import deferLater

from tests.e2e.processes import DaemonCase, call, together, until
from tests.fakes.batches import DAY, FakeBatches
from tests.fakes.openai import answer_to, api_error
from tests.fakes.responses import FakeResponses
from tests.fakes.server import Fault, Reply

PROMPTS = 1000
"""Prompts of a large batch; ten times as many work too, but take a while to send."""
FEW = 40
MINUTE, HOUR = 60.0, 3600.0
WINDOW = 2 * MINUTE
AT_ONCE = 50
HANGS = Reply(fault=Fault.HANG)
"""A call without effect and without an answer."""


class TiersCase(DaemonCase):
    """A daemon and a provider with all tiers, who both go by a time that the test lets pass."""

    def setUp(self):
        super().setUp()
        self.time = self.clock(reactor.seconds())
        self.openai = FakeBatches(reactor)
        self.openai.time = self.time.now
        self.openai.validating, self.openai.running = MINUTE, 10 * MINUTE
        self.openai.finalizing, self.openai.cancelling = MINUTE, 9 * MINUTE
        self.openai.start()
        self.addCleanup(self.openai.stop)
        self.sent = {}

    async def started(self, **settings):
        settings = {"everyday_limit": 100_000, "batch_window": WINDOW, **settings}
        daemon = self.daemon(clock=self.time, **settings)
        await daemon.start()
        return daemon

    async def send(self, daemon, number, deadline="24h"):
        """Send so many prompts; returns their ids."""
        texts = [f"prompt {len(self.sent) + n}" for n in range(number)]
        headers = {} if deadline is None else {"vanus-deadline": deadline}
        ids = []
        for first in range(0, number, AT_ONCE):
            some = texts[first : first + AT_ONCE]
            ids += await together(*(daemon.accepted(text, headers) for text in some))
        self.sent.update(zip(ids, texts, strict=True))
        return ids

    async def pass_until(self, daemon, condition, what, step=MINUTE):
        """Let time pass until a condition holds."""
        for _ in range(200):
            if condition():
                return
            await daemon.live(step)
            await self.quiet(daemon)
        raise AssertionError(f"waited for {what}; it said: {daemon.text[-3000:]}")

    async def quiet(self, daemon):
        """Wait until the daemon has made the calls that are due, however slow it is."""
        seen = -1
        while seen != (seen := len(self.openai.requests) + len(self.target.requests)):
            for _ in range(2):
                await daemon.is_ready()
                await deferLater(reactor, 0.02)

    def delivered(self):
        return {event["id"]: event["data"].get("content") for event in self.target.events}

    def assert_delivered(self, but=(), repeats=0):
        """See that each prompt has its own answer, once; after a crash, some may be repeated."""
        answers = {id_: answer_to(text) for id_, text in self.sent.items() if id_ not in but}
        self.assertEqual(self.delivered(), answers)
        self.assertLessEqual(len(self.target.events), len(answers) + repeats)

    def has_all(self):
        return len(self.delivered()) >= len(self.sent)

    async def assert_in_time(self, daemon, ids, seconds):
        for id_ in ids:
            record = await daemon.reaches(id_, "delivered")
            accepted, answered = (
                datetime.fromisoformat(record[name].replace("Z", "+00:00"))
                for name in ("accepted", "answered")
            )
            self.assertLess((answered - accepted).total_seconds(), seconds, record)

    def assert_paid_once(self, money):
        self.assertEqual((self.openai.billed, self.openai.money), (len(self.sent), money))
        self.assert_fair()


class BatchTests(TiersCase):
    async def started(self, **settings):
        return await super().started(**{"batch_over": 2 * HOUR, "flex_over": HOUR, **settings})

    def troubles_left(self):
        return sum(map(len, self.openai.troubles.values()))

    async def crash_at_each_trouble(self, daemon):
        """Kill the daemon during each of the calls that get no answer, and start it again."""
        left = self.troubles_left()
        while left:
            await self.pass_until(
                daemon, lambda left=left: self.troubles_left() < left, f"{self.openai.troubles}"
            )
            if self.openai.requests[-1].reply.fault is Fault.STALL:
                await until(self.delivered, "what half of the results say")
            await daemon.kill()
            left = self.troubles_left()
            await daemon.start()
            await self.quiet(daemon)

    async def test_killed_at_every_step(self):
        """Half the money, and nothing is submitted or paid twice."""
        self.openai.listed_after = 5.0
        for step, troubles in {
            "upload": [HANGS, Fault.HANG],
            "submit": [HANGS, Fault.HANG],
            "look up": [HANGS],
            "read": [HANGS, Fault.STALL],
            "delete": [HANGS, Fault.HANG],
        }.items():
            self.openai.troubles[step].extend(troubles)
        daemon = await self.started()
        await self.send(daemon, PROMPTS // 2)
        await daemon.kill()
        await daemon.start()
        await self.send(daemon, PROMPTS - PROMPTS // 2)
        await self.crash_at_each_trouble(daemon)
        await self.pass_until(daemon, self.has_all, "all answers")
        await self.pass_until(daemon, lambda: not self.openai.files, "no file left behind")
        self.assert_delivered(repeats=2 * 64)  # what was on its way at the crashes
        self.assertLessEqual(len(self.openai.batches), 3)
        self.assertEqual(set(self.openai.paid.values()), {1})
        self.assert_paid_once(PROMPTS / 2)

    async def test_lost_replies_and_refusals_at_every_step(self):
        daemon = await self.started()
        for kind, troubles in self.openai.troubles.items():
            troubles.extend(
                [api_error(500), Fault.RESET, api_error(429), Fault.RESET, api_error(401)]
            )
            if kind not in {"upload", "submit", "delete"}:  # there, it ends what is tried
                troubles.extend([api_error(400), Reply(500, headers={"x-should-retry": "false"})])
        await self.send(daemon, FEW)
        await self.pass_until(daemon, self.has_all, "all answers")
        await self.pass_until(daemon, lambda: not self.openai.files, "no file left behind")
        self.assert_delivered()
        self.assertEqual(len(self.openai.batches), 1)
        self.assert_paid_once(FEW / 2)

    async def test_lines_that_fail_and_lines_without_a_result(self):
        daemon = await self.started()
        self.openai.line_faults.extend([400, 400, 429, 500, 0])
        ids = await self.send(daemon, FEW)
        await self.pass_until(daemon, lambda: len(self.delivered()) == FEW - 2, "the answers")
        failed = set(ids) - set(self.delivered())
        for id_ in failed:
            await daemon.reaches(id_, "failed")
            del self.sent[id_]
        self.assert_delivered()
        self.assertLessEqual(len(self.openai.batches), 3)
        self.assert_paid_once((FEW - 2) / 2)

    async def test_no_room_for_its_tokens(self):
        """That a batch fails is no failure of a prompt."""
        self.openai.failures.extend(["token_limit_exceeded"] * 3)
        daemon = await self.started()
        await self.send(daemon, FEW)
        await self.pass_until(daemon, self.has_all, "all answers")
        self.assert_delivered()
        self.assert_paid_once(FEW / 2)

    async def test_expired(self):
        """What it finished is not asked again, and the rest comes in time."""
        daemon = await self.started()
        ids = await self.send(daemon, FEW)
        await self.pass_until(daemon, lambda: self.openai.paid.total() > FEW / 4, "some results")
        self.openai.expire_batches()
        await self.pass_until(daemon, self.has_all, "all answers")
        self.assert_delivered()
        await self.assert_in_time(daemon, ids, DAY)
        self.assert_paid_once(FEW / 2)

    async def test_too_slow_for_a_deadline(self):
        """It is cancelled in time, and only what it has not run is asked, once it has ended."""
        self.openai.running = 2 * DAY
        daemon = await self.started(batch_over=6 * HOUR)
        ids = await self.send(daemon, FEW)
        await self.pass_until(daemon, lambda: self.openai.batches, "a batch")
        (batch,) = self.openai.batches.values()
        await daemon.live(DAY - 45 * MINUTE)
        self.assertEqual((self.openai.asks, batch.cancelling), ([], None))
        await self.pass_until(daemon, lambda: batch.cancelling, "its end")
        await daemon.live(5 * MINUTE)
        self.assertEqual(self.openai.asks, [])
        await self.pass_until(daemon, self.has_all, "all answers")
        self.assert_delivered()
        await self.assert_in_time(daemon, ids, DAY)
        ran = self.openai.paid.total()
        self.assertTrue(0 < ran < FEW, ran)
        self.assert_paid_once(ran / 2 + (FEW - ran))

    async def test_cancelled_through_a_crash(self):
        self.openai.running = 2 * DAY
        daemon = await self.started(batch_over=6 * HOUR)
        await self.send(daemon, FEW)
        await self.pass_until(daemon, lambda: self.openai.batches, "a batch")
        await daemon.live(DAY - 45 * MINUTE)
        self.openai.troubles["cancel"].extend([HANGS, Fault.HANG])
        await self.crash_at_each_trouble(daemon)
        await self.pass_until(daemon, self.has_all, "all answers")
        self.assert_delivered()
        ran = self.openai.paid.total()
        self.assert_paid_once(ran / 2 + (FEW - ran))

    async def test_one_near_deadline_among_far_ones(self):
        """It ends the batch, and what has time goes into another one, through crashes."""
        self.openai.running = 2 * DAY
        daemon = await self.started(batch_over=6 * HOUR)
        near = await self.send(daemon, 2, "8h")
        far = await self.send(daemon, FEW - 2)
        await self.pass_until(daemon, lambda: self.openai.batches, "a batch")
        await daemon.live(7 * HOUR)
        self.openai.running = 10 * MINUTE
        self.openai.troubles["cancel"].extend([HANGS, Fault.HANG])
        self.openai.troubles["upload"].extend([HANGS, Fault.HANG])
        self.openai.troubles["submit"].extend([HANGS, Fault.HANG])
        await self.crash_at_each_trouble(daemon)
        await self.pass_until(daemon, self.has_all, "all answers")
        self.assert_delivered()
        await self.assert_in_time(daemon, near, 8 * HOUR)
        await self.assert_in_time(daemon, far, DAY)
        self.assertEqual(len(self.openai.batches), 2)
        self.assertEqual(set(self.openai.paid.values()), {1})
        urgent = len(self.sent) - self.openai.paid.total()
        self.assertTrue(0 < urgent <= 2, urgent)
        self.assert_paid_once(self.openai.paid.total() / 2 + urgent)

    async def test_one_of_which_no_prompt_is_left(self):
        self.openai.running = 2 * DAY
        daemon = await self.started()
        ids = await self.send(daemon, 5)
        await self.pass_until(daemon, lambda: self.openai.batches, "a batch")
        for id_ in ids:
            await self.end(daemon, id_)
        (batch,) = self.openai.batches.values()
        await self.pass_until(daemon, lambda: batch.cancelling, "its end")
        await self.pass_until(daemon, lambda: not self.openai.files, "no file left behind")
        self.assertEqual((self.target.events, self.openai.asks), ([], []))

    async def test_too_large_for_the_account(self):
        """It is formed again half as large, until there is room."""
        self.openai.failures.extend(["token_limit_exceeded"] * 2)
        daemon = await self.started()
        await self.send(daemon, 300)
        await self.pass_until(daemon, self.has_all, "all answers")
        self.assert_delivered()
        sizes = [len(batch.lines) for batch in self.openai.batches.values()]
        self.assertEqual(sizes[:3], [300, 150, 100])
        self.assert_paid_once(150)

    async def test_a_server_without_batches(self):
        """What can't go into a batch moves up in time."""
        daemon = await self.started()
        for troubles in self.openai.troubles.values():
            troubles.extend([api_error(404)] * 10_000)
        ids = await self.send(daemon, FEW)
        await daemon.live(HOUR)
        self.assertEqual(self.openai.billed, 0)
        await self.pass_until(daemon, self.has_all, "all answers", step=HOUR / 4)
        self.assert_delivered()
        await self.assert_in_time(daemon, ids, DAY)
        self.assert_paid_once(FEW / 2)

    async def test_never_room_for_its_tokens(self):
        """Deadlines hold all the same."""
        self.openai.failures.extend(["token_limit_exceeded"] * 1000)
        daemon = await self.started(deadline=4 * HOUR)
        ids = await self.send(daemon, FEW, None)
        await self.pass_until(daemon, self.has_all, "all answers")
        self.assert_delivered()
        await self.assert_in_time(daemon, ids, 4 * HOUR)
        self.assert_paid_once(FEW / 2)

    async def test_refused(self):
        """What a batch can't have, another tier can."""
        self.openai.failures.append("billing_hard_limit_reached")
        daemon = await self.started()
        await self.send(daemon, FEW)
        await self.pass_until(daemon, self.has_all, "all answers")
        self.assert_delivered()
        self.assertEqual(len(self.openai.batches), 1)
        self.assert_paid_once(FEW / 2)

    async def test_gone(self):
        daemon = await self.started()
        await self.send(daemon, FEW)
        await self.pass_until(daemon, lambda: self.openai.batches, "a batch")
        self.openai.batches.clear()
        await self.pass_until(daemon, self.has_all, "all answers")
        self.assert_delivered()
        self.assert_paid_once(FEW / 2)

    async def test_two_models_by_the_responses_api(self):
        daemon = await self.started(
            api="responses", background=True, callers_may_set=["model"], deadline=DAY
        )
        for number in range(FEW):
            body = {"prompt": f"prompt {number}", "model": f"model-{number % 2}"}
            answer = await daemon.post(
                json.dumps(body), {"Content-Type": "application/json"}, "/prompts"
            )
            self.sent[answer.json()["id"]] = body["prompt"]
        await self.pass_until(daemon, self.has_all, "all answers")
        self.assert_delivered()
        self.assertEqual(len(self.openai.batches), 2)
        self.assert_paid_once(FEW / 2)

    async def test_cancelled_prompts(self):
        """One in a batch ends at once, and its answer is dropped."""
        daemon = await self.started()
        before, within, *_ = await self.send(daemon, FEW)
        await self.end(daemon, before)
        await self.pass_until(daemon, lambda: self.openai.batches, "a batch")
        await self.end(daemon, within)
        await self.pass_until(daemon, self.has_all, "all other answers")
        await self.pass_until(daemon, lambda: not self.openai.files, "no file left behind")
        self.assert_delivered()
        self.assertEqual((self.openai.billed, self.openai.asks), (FEW - 1, []))
        self.assert_fair()

    async def end(self, daemon, id_):
        answer = await call("DELETE", f"http://127.0.0.1:{daemon.port}/prompts/{id_}")
        self.assertEqual(answer.status, 204)
        del self.sent[id_]

    async def test_stopped_meanwhile(self):
        """A stop waits for no batch, and the next start goes on with it."""
        self.openai.troubles["upload"].append(HANGS)
        self.openai.troubles["look up"].append(HANGS)
        daemon = await self.started(drain_timeout=1.0)
        await self.send(daemon, FEW)
        left = self.troubles_left()
        while left:
            await self.pass_until(daemon, lambda left=left: self.troubles_left() < left, "a call")
            await daemon.stop(timeout=10)
            left = self.troubles_left()
            await daemon.start()
        await self.pass_until(daemon, self.has_all, "all answers")
        self.assert_delivered()
        self.assertEqual(len(self.openai.batches), 1)
        self.assert_paid_once(FEW / 2)

    async def test_near_deadlines_wait_for_no_batch(self):
        daemon = await self.started()
        far = await self.send(daemon, FEW)
        near = await self.send(daemon, FEW, "50m")
        for id_ in near:
            await daemon.reaches(id_, "delivered")
        self.assertEqual(set(self.delivered()), set(near))
        await self.pass_until(daemon, self.has_all, "all answers")
        self.assertEqual(set(self.openai.paid), set(far))
        self.assert_delivered()
        self.assert_paid_once(FEW * 1.5)


class FlexTests(TiersCase):
    async def started(self, **settings):
        return await super().started(**{"flex_over": HOUR, **settings})

    async def test_half_the_price(self):
        for more in ({"api": "chat"}, {"api": "responses", "background": True}):
            daemon = await self.started(**more)
            ids = await self.send(daemon, FEW, "3h")
            for id_ in ids:
                await daemon.reaches(id_, "delivered")
            await daemon.stop()
        self.assert_delivered()
        self.assert_paid_once(len(self.sent) / 2)

    async def test_refused_for_ten_minutes(self):
        """It waits for room, and what is urgent does not."""
        self.openai.flex_full = True
        daemon = await self.started()
        ids = await self.send(daemon, FEW, "3h")
        await until(lambda: self.openai.asks, "a refusal")
        for _ in range(10):
            await daemon.live(MINUTE)
        self.assertEqual(self.openai.billed, 0)
        self.assertLess(len(self.openai.asks), 3 * FEW, "it asks too often where there is no room")
        (urgent,) = await self.send(daemon, 1, None)
        await daemon.reaches(urgent, "delivered")
        self.assertEqual(self.openai.money, 1.0)
        self.openai.flex_full = False
        await self.pass_until(daemon, self.has_all, "all answers")
        self.assert_delivered()
        await self.assert_in_time(daemon, ids, HOUR)
        self.assert_paid_once(1.0 + FEW / 2)

    async def test_refused_for_ever(self):
        """Deadlines hold: it moves to the standard tier in time."""
        self.openai.flex_full = True
        daemon = await self.started()
        ids = await self.send(daemon, FEW, "3h")
        await daemon.live(1.9 * HOUR)
        self.assertEqual(self.openai.billed, 0)
        await self.pass_until(daemon, self.has_all, "all answers")
        self.assert_delivered()
        await self.assert_in_time(daemon, ids, 3 * HOUR)
        self.assert_paid_once(FEW)

    async def test_submitted_and_too_slow(self):
        """It is cancelled there before it is asked on the standard tier."""
        self.openai.seconds = DAY
        daemon = await self.started(api="responses", background=True)
        ids = await self.send(daemon, FEW, "3h")
        for id_ in ids:
            await daemon.reaches(id_, "submitted")
        self.openai.seconds = 0.0
        await daemon.live(1.9 * HOUR)
        self.assertEqual(len(self.openai.asks), FEW)
        await self.pass_until(daemon, self.has_all, "all answers")
        self.assert_delivered()
        await self.assert_in_time(daemon, ids, 3 * HOUR)
        self.assertEqual(sum(kept.cancelled for kept in self.openai.kept.values()), FEW)
        self.assert_paid_once(FEW)


class FallbackTests(TiersCase):
    ATTEMPT = 4.0

    def setUp(self):
        super().setUp()
        self.second = FakeResponses(reactor, "sk-second")
        self.second.start()
        self.addCleanup(self.second.stop)

    async def started(self, **settings):
        second = {
            "name": "second",
            "base_url": self.second.base_url,
            "token": "sk-second",
            "concurrency": 2 * FEW,  # one that is full is waited for
        }
        return await super().started(
            fallbacks=[second],
            include=["provider"],
            openai_timeout=self.ATTEMPT,
            concurrency=8,
            **settings,
        )

    def providers(self):
        return Counter(event["data"]["provider"] for event in self.target.events)

    async def answers(self, daemon, number):
        ids = await self.send(daemon, number, None)
        await self.assert_in_time(daemon, ids, 2 * self.ATTEMPT)
        await until(self.has_all, "all events")

    async def goes_back(self, daemon):
        """See that new prompts go to the first provider again, which is well."""
        before = self.openai.billed

        async def served():
            await daemon.live(MINUTE)
            await self.answers(daemon, 3)
            return self.openai.billed >= before + 3

        await until(served, "the first provider's answers")
        self.assert_delivered()
        self.assertEqual(self.openai.complaints + self.second.complaints, [])

    async def test_refused_connections(self):
        await self.openai.stop()
        daemon = await self.started()
        await self.answers(daemon, FEW)
        self.assertEqual(self.providers(), {"second": FEW})
        self.assertEqual((self.openai.billed, self.second.billed), (0, FEW))
        self.openai.start()
        await self.goes_back(daemon)
        self.assertEqual(self.openai.billed + self.second.billed, len(self.sent))
        self.assertEqual(self.providers()["second"], self.second.billed)

    async def test_errors(self):
        for error in (api_error(503), api_error(429), api_error(401)):
            self.openai.script = lambda _, error=error: error
            daemon = await self.started()
            await self.answers(daemon, FEW)
            self.assertEqual(self.openai.billed, 0)
            await daemon.stop()
        self.assertEqual(self.providers(), {"second": len(self.sent)})
        self.assert_delivered()

    async def test_what_can_wait(self):
        """It moves up in time, and then goes to the second provider."""
        await self.openai.stop()
        daemon = await self.started(batch_over=2 * HOUR, flex_over=HOUR)
        ids = await self.send(daemon, FEW, "4h")
        await daemon.live(HOUR)
        self.assertEqual(self.second.billed, 0)
        await self.pass_until(daemon, self.has_all, "all answers", step=HOUR / 12)
        await self.assert_in_time(daemon, ids, 4 * HOUR)
        self.assertEqual(self.providers(), {"second": FEW})
        self.assert_delivered()

    async def test_no_answer(self):
        """Only where the settings say so, for it may be paid twice."""
        self.openai.script = lambda _: HANGS
        daemon = await self.started(fallback_after_timeout=True)
        await self.answers(daemon, FEW)
        self.assertEqual(self.providers(), {"second": FEW})
        self.openai.script = self.openai.default
        await self.goes_back(daemon)

    async def test_a_prompts_own_failure_goes_nowhere_else(self):
        self.openai.queue(api_error(400, code="context_length_exceeded"))
        daemon = await self.started()
        (id_,) = await self.send(daemon, 1, None)
        record = await daemon.reaches(id_, "failed")
        self.assertIn("it refuses this prompt", record["error"])
        self.assertEqual(self.second.asks, [])


class MixedTests(TiersCase):
    KILLS = 10
    SEED = 13

    async def test_all_tiers_through_kills(self):
        """Paid twice is at most what was on its way to the disk, in each of two tiers.

        Each deadline holds.
        """
        self.openai.seconds = 2 * MINUTE
        chance = random.Random(self.SEED)
        far = []
        daemon = await self.started(
            api="responses", background=True, batch_over=4 * HOUR, flex_over=HOUR
        )
        for _ in range(self.KILLS):
            for deadline, seconds in ((None, inf), ("3h", 3 * HOUR), ("24h", DAY)):
                ids = await self.send(daemon, 20, deadline)
                far += [(id_, seconds) for id_ in ids if seconds < inf]
            for _ in range(chance.randrange(3)):
                await daemon.live(chance.uniform(1, 5 * MINUTE))
            await deferLater(reactor, chance.uniform(0, 0.1))
            await daemon.kill()
            await daemon.start()
        await self.pass_until(daemon, self.has_all, "all answers")
        self.assert_delivered(repeats=self.KILLS * 64)
        paid_twice = self.openai.billed - len(self.sent)
        self.assertTrue(0 <= paid_twice <= 2 * self.KILLS, paid_twice)
        self.assertEqual(set(self.openai.paid.values()), {1})
        self.assertEqual(self.openai.paid.total(), 20 * self.KILLS)
        for id_, seconds in far:
            await self.assert_in_time(daemon, [id_], seconds)
        self.assert_fair()
