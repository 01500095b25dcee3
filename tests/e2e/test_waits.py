"""Callers who wait for the answer, over real connections: answered, stopped, hung up, many."""

import json
import signal

from tests.e2e.processes import DaemonCase, Wire, call, together, until
from tests.fakes.openai import answer_to, completion

WAIT = {"Prefer": "wait=20"}
MANY = 300


class WaitTests(DaemonCase):
    async def test_each_form_of_the_answer(self):
        daemon = self.daemon()
        await daemon.start()
        for accept in ("application/cloudevents+json", "application/json", "text/plain"):
            answer = await daemon.post("text", {**WAIT, "Accept": accept})
            self.assertEqual(answer.status, 200)
            self.assertEqual(answer.header("preference-applied"), "wait=20")
            self.assertIn(accept, answer.header("content-type"))
            self.assertIn(answer_to("text"), answer.body.decode())
        await until(lambda: len(self.target.events) == 3, "the deliveries, all the same")

    async def test_the_event_while_it_is_kept(self):
        daemon = self.daemon(keep_answers=60)
        await daemon.start()
        prompt_id = await daemon.accepted("text")
        await daemon.reaches(prompt_id, "delivered")
        answer = await daemon.get(f"/prompts/{prompt_id}/event")
        self.assertEqual((answer.status, answer.json()["id"]), (200, prompt_id))
        self.assertEqual(answer.json(), json.loads(self.target.requests[0].body))

    async def test_it_is_gone_once_nobody_waits(self):
        daemon = self.daemon()
        await daemon.start()
        answer = await daemon.post("text", WAIT)
        prompt_id = answer.json()["id"]
        await daemon.reaches(prompt_id, "delivered")

        async def gone() -> bool:
            return (await daemon.get(f"/prompts/{prompt_id}/event")).status == 410

        await until(gone, "the end of the text")

    async def test_a_deadline(self):
        daemon = self.daemon(concurrency=1)
        await daemon.start()
        self.openai.queue(completion("late", delay=60))
        await daemon.accepted("first")
        body = {"prompt": "second", "deadline": "1s"}
        headers = {**WAIT, "Content-Type": "application/json"}
        answer = await daemon.post(json.dumps(body), headers, "/prompts")
        self.assert_problem(answer, 504)

    async def test_a_reply(self):
        daemon = self.daemon(reply=20, keep_answers=60)
        await daemon.start()
        event = {"ce-specversion": "1.0", "ce-id": "e", "ce-source": "/s", "ce-type": "t"}
        headers = {**event, "Content-Type": "text/plain", "Prefer": "reply"}
        self.openai.queue(completion("the answer", delay=0.5))
        first, repeat = await together(*(daemon.post("text", headers) for _ in range(2)))
        self.assertEqual((first.status, first.body), (200, repeat.body))
        self.assertEqual(first.json()["data"]["content"], "the answer")
        record = await daemon.record(first.json()["id"])
        self.assertEqual((record["state"], record["target"]), ("delivered", "none"))
        self.assertEqual((len(self.openai.asks), self.target.events), (1, []))

    async def test_a_stop_answers_them(self):
        daemon = self.daemon(drain_timeout=0)
        await daemon.start()
        self.openai.queue(completion("late", delay=60))
        waiting = daemon.post("text", WAIT)
        answer, _ = await together(waiting, self.stopped(daemon))
        self.assertEqual((answer.status, answer.json()["status"]), (202, "accepted"))

    async def stopped(self, daemon) -> None:
        await until(lambda: self.openai.asks, "a call")
        await daemon.stop(signal.SIGTERM)

    async def test_a_cancelled_prompt(self):
        daemon = self.daemon(concurrency=1)
        await daemon.start()
        self.openai.queue(completion("late", delay=60))
        await daemon.accepted("first")
        waiting = daemon.post("second", {**WAIT, "Idempotency-Key": "k"})
        answer, cancelled = await together(waiting, self.cancelled(daemon))
        self.assertEqual(cancelled.status, 204)
        self.assertIn("cancelled", self.assert_problem(answer, 410))

    async def cancelled(self, daemon):
        async def found() -> str:
            _, told = await daemon.operate("list", "--state", "accepted")
            ids = [json.loads(line)["id"] for line in told.splitlines()]
            return ids[0] if len(ids) == 2 else ""

        prompt_id = await until(found, "the second prompt")
        return await call("DELETE", f"http://127.0.0.1:{daemon.port}/prompts/{prompt_id}")

    async def test_who_hangs_up_changes_nothing(self):
        daemon = self.daemon()
        await daemon.start()
        self.openai.queue(completion("the answer", delay=1))
        wire = await Wire.connect(daemon.port)
        wire.send(b"POST / HTTP/1.1\r\nHost: x\r\nPrefer: wait=20\r\nContent-Length: 4\r\n\r\ntext")
        await until(lambda: self.openai.asks, "a call")
        wire.close()
        await until(lambda: self.target.events, "the delivery")
        await until(lambda: "why=hung_up" in daemon.text, "its line in the log")

    async def test_many(self):
        daemon = self.daemon(concurrency=MANY, everyday_limit=MANY)
        await daemon.start()
        answers = await together(*(daemon.post(f"{n}", WAIT) for n in range(MANY)))
        for number, answer in enumerate(answers):
            self.assertEqual(answer.json()["data"]["content"], answer_to(f"{number}"))
