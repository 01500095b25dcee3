"""Events in and answers out, as a broker and other callers see it."""

import json
import re
import shlex
import shutil
from base64 import b64encode
from collections import Counter
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import SkipTest

from tests.e2e.processes import (
    ROOT,
    Answer,
    Daemon,
    DaemonCase,
    call,
    throughout,
    together,
    until,
)
from tests.fakes import broker
from tests.fakes.broker import Answered, FakeBroker
from tests.fakes.openai import answer_to, api_error, prompt_of
from tests.fakes.server import Fault, Reply
from tests.fakes.target import FakeTarget

JS = ROOT / "tests" / "js"
CONCURRENCY = 4
"""Calls under way at once, and so the most that a crash can repeat."""


def event(name: str, data: Any, **attributes: Any) -> dict[str, Any]:
    """An event with a prompt, or what the data is."""
    return {
        "specversion": "1.0",
        "id": name,
        "source": "/tests",
        "type": "com.example.question",
        "datacontenttype": "text/plain" if isinstance(data, str) else "application/json",
        "data": data,
        **attributes,
    }


class BrokerCase(DaemonCase):
    def prompts(self) -> Counter[str]:
        """How often each prompt was asked."""
        return Counter(map(prompt_of, self.openai.asks))

    def broker(self, daemon: Daemon, **settings: Any) -> FakeBroker:
        """A broker whose subscriber is the daemon."""
        return FakeBroker(reactor, f"http://127.0.0.1:{daemon.port}/", **settings)

    async def answer(self, text: str, target: FakeTarget | None = None) -> dict[str, Any]:
        """The event that answers a prompt, once it is delivered."""
        where = target or self.target

        def found() -> list[dict[str, Any]]:
            return [e for e in where.events if e["data"]["content"] == answer_to(text)]

        return (await until(found, f"the answer to {text}"))[0]


class DeliveryTests(BrokerCase):
    async def test_lost_answers_and_a_crash(self) -> None:
        daemon = self.daemon(
            everyday_limit=1000,
            concurrency=CONCURRENCY,
            copy_extensions={"arrival": "knativearrivaltime"},  # which each repeat has anew
        )
        await daemon.start()
        events = [
            event(f"e{n}", data, subject=f"s{n}", **({"correlationid": f"c{n}"} if n % 2 else {}))
            for n in range(500)
            for data in [[f"p{n}", {"prompt": f"p{n}"}, {"message": f"p{n}"}][n % 3]]
        ]
        deliveries = [
            *(("structured", [each]) for each in events[:175]),
            *(("batch", events[at : at + 10]) for at in range(175, 325, 10)),
            *(("binary", [each]) for each in events[325:]),
        ]
        sender = self.broker(daemon, loses=3)
        sending = Deferred.fromCoroutine(sender.deliver_all(deliveries))
        await until(lambda: len(self.target.events) > 120, "some answers")
        await daemon.kill()
        asked = set(self.prompts())
        await daemon.start()
        await sending
        self.assertEqual(sender.dead, [])
        self.assertEqual({each["id"] for each in sender.delivered}, {f"e{n}" for n in range(500)})
        self.assertGreater(sender.lost, 50)
        self.assertEqual(sender.replies, [])

        def answered() -> set[str]:
            return {each["causationid"] for each in self.target.events}

        await until(lambda: len(answered()) == 500, "all answers", timeout=60)
        prompts = self.prompts()
        self.assertEqual(set(prompts), {f"p{n}" for n in range(500)})
        again = {prompt: times for prompt, times in prompts.items() if times > 1}
        self.assertLessEqual(len(again), CONCURRENCY, again)  # what was under way at the crash
        self.assertLessEqual(set(again), asked)
        self.assertLessEqual(set(again.values()), {2})
        self.assertEqual(len({each["id"] for each in self.target.events}), 500)
        for each in self.target.events:
            n = int(each["causationid"][1:])
            self.assertEqual(each["data"]["content"], answer_to(f"p{n}"))
            self.assertEqual(each["subject"], f"s{n}")
            self.assertEqual(each["correlationid"], f"c{n}" if n % 2 else f"e{n}")
        self.assert_fair()

    async def test_what_the_broker_is_answered(self) -> None:
        daemon = self.daemon(everyday_limit=2)
        await daemon.start()
        sender = self.broker(daemon, retry=1)
        await sender.deliver(event("1", "one"))
        await sender.deliver(event("1", "one"))
        await sender.deliver(event("2", {}))  # no prompt: dead at once
        await sender.deliver(event("3", "three"))
        await sender.deliver(event("4", "four"))  # the day is used up: tried again
        self.assertEqual([each.status for each in sender.dead], [400, 429])
        self.assertEqual((len(sender.delivered), sender.attempts), (3, 6))
        self.assertEqual((await self.answer("one"))["causationid"], "1")
        self.assertEqual(self.prompts()["one"], 1)

    async def test_a_reply(self) -> None:
        daemon = self.daemon(reply=10, keep_answers=60)
        await daemon.start()
        sender = self.broker(daemon)
        await sender.deliver(event("1", "one", subject="s"))
        await sender.deliver(event("2", "two"), mode="structured")
        self.assertEqual(
            [each["data"]["content"] for each in sender.replies],
            [answer_to("one"), answer_to("two")],
        )
        first = sender.replies[0]
        self.assertEqual((first["causationid"], first["subject"]), ("1", "s"))
        self.assertNotEqual(first["type"], "com.example.question")
        await sender.deliver(event("1", "one"))
        self.assertEqual(sender.replies[2], first)
        self.assertEqual((len(self.openai.asks), self.target.requests), (2, []))

    async def test_no_reply_from_a_prompt_that_failed(self) -> None:
        self.openai.script = lambda _: api_error(400)
        daemon = self.daemon(reply=10, keep_answers=60)
        await daemon.start()
        sender = self.broker(daemon, retry=2)
        await sender.deliver(event("1", "one"))
        self.assertEqual([each.status for each in sender.dead], [502])
        self.assertEqual((self.prompts(), self.target.requests), ({"one": 1}, []))

    async def test_a_reply_that_takes_longer(self) -> None:
        self.openai.queue(Reply(503, delay=1.2))
        daemon = self.daemon(reply=1, keep_answers=60)
        await daemon.start()
        sender = self.broker(daemon, backoff=0.2)
        await sender.deliver(event("1", "one"))
        self.assertGreater(sender.attempts, 1)
        self.assertEqual([each["causationid"] for each in sender.replies], ["1"])
        self.assertEqual(self.prompts(), {"one": 2})  # of which one failed
        self.assertEqual(self.target.requests, [])

    async def test_a_crash_while_it_waits_for_the_reply(self) -> None:
        self.openai.queue(Reply(fault=Fault.HANG))
        daemon = self.daemon(reply=20, keep_answers=60)
        await daemon.start()
        sender = self.broker(daemon)
        sending = Deferred.fromCoroutine(sender.deliver(event("1", "one")))
        await until(lambda: self.openai.asks, "an ask")
        await daemon.kill()
        await daemon.start()
        await sending
        self.assertEqual([each["causationid"] for each in sender.replies], ["1"])
        self.assertEqual((self.prompts(), self.target.requests), ({"one": 2}, []))


class OtherSdkTests(BrokerCase):
    """The sender is CloudEvents' SDK for JavaScript."""

    async def send(self, daemon: Daemon, mode: str, sent: dict[str, Any], **headers: str) -> Any:
        node = shutil.which("node")
        if node is None or not (JS / "node_modules" / "cloudevents").is_dir():
            raise SkipTest("no node, or `npm install` in tests/js was not run (make test does)")
        url = f"http://127.0.0.1:{daemon.port}/"
        out, err, status = await getProcessOutputAndValue(
            node, ["sender.js", url, mode, json.dumps(sent), json.dumps(headers)], path=str(JS)
        )
        self.assertEqual((status, err), (0, b""))
        return json.loads(out)["event"]

    async def test_both_modes(self) -> None:
        daemon = self.daemon(reply=20, keep_answers=60)
        await daemon.start()
        for mode in ("STRUCTURED", "BINARY"):
            sent = event(mode, {"prompt": f"grüße {mode}"}, subject="s")
            answer = await self.send(daemon, mode, sent, Prefer="reply")
            self.assertEqual(answer["data"]["content"], answer_to(f"grüße {mode}"))
            self.assertEqual((answer["causationid"], answer["subject"]), (mode, "s"))
            sent = event(f"{mode} 2", f"grüße {mode} 2")
            self.assertIsNone(await self.send(daemon, mode, sent))
            await self.answer(f"grüße {mode} 2")


class RecipesTests(BrokerCase):
    """The commands of docs/recipes.md that need nothing but the daemon."""

    async def test_curl(self) -> None:
        curl = shutil.which("curl")
        if curl is None:
            raise SkipTest("no curl")
        daemon = self.daemon(keep_answers=60)
        await daemon.start()
        recipes = (ROOT / "docs/recipes.md").read_text(encoding="utf-8")
        commands = re.findall(r"(?ms)^```shell\n(curl .*?)^```$", recipes)
        said = []
        for command in commands:
            local = command.replace("\\\n", "").replace(":8080", f":{daemon.port}")
            arguments = ["--silent", "--fail", *shlex.split(local)[1:]]
            out, err, status = await getProcessOutputAndValue(curl, arguments)
            self.assertEqual((status, err), (0, b""), command)
            said.append(out.decode())
        answer, event = said
        self.assertEqual(answer, answer_to("what is vanus"))
        self.assertEqual(json.loads(event)["data"]["content"], answer_to("what is vanus"))
        await until(lambda: self.target.events, "what goes to the target")
        self.assertEqual(len(self.target.events), 1)


Request = tuple[str, dict[str, str], bytes]
"""A path, headers, a body."""
CONTENT = {
    "structured": "application/cloudevents+json",
    "binary": "application/json",
    "text": "text/plain",
}
"""The forms of an answer, and the media types that ask for them."""


def of_text(text: str) -> Request:
    return "/", {"Content-Type": "text/plain"}, text.encode()


def of_structured(text: str) -> Request:
    return ("/", *broker.structured(event(text, {"prompt": text})))


def of_binary(text: str) -> Request:
    return ("/", *broker.binary(event(text, text)))


def of_batch(text: str) -> Request:
    return ("/", *broker.batch(event(text, {"message": text})))


def of_json(text: str) -> Request:
    return "/prompts", {"Content-Type": "application/json"}, json.dumps({"prompt": text}).encode()


ARRIVALS = {
    "text": of_text,
    "structured": of_structured,
    "binary": of_binary,
    "batch": of_batch,
    "json": of_json,
}
ALONE = {name: arrival for name, arrival in ARRIVALS.items() if name != "batch"}
"""Of these, a request brings one prompt, whose answer its caller may wait for."""


class MatrixTests(BrokerCase):
    """Each form of a prompt, times each way to get the answer."""

    async def send(self, daemon: Daemon, request: Request, **headers: str) -> Answer:
        path, own, body = request
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        return await daemon.post(body, {**own, **more}, path)

    def assert_accepted(self, name: str, answer: Answer) -> None:
        self.assertEqual(answer.status, 202, (name, answer.body))
        if name in {"text", "json"}:
            document = answer.json()
            self.assertEqual(document, {"id": document["id"], "status": "accepted"})
            self.assertEqual(answer.header("location"), f"/prompts/{document['id']}")
        else:
            self.assertEqual(answer.body, b"")
            self.assertEqual(answer.header("location") is None, name == "batch")

    async def test_the_default_target(self) -> None:
        daemon = self.daemon()
        await daemon.start()
        for name, arrival in ARRIVALS.items():
            self.assert_accepted(name, await self.send(daemon, arrival(name)))
            delivered = await self.answer(name)
            is_event = name not in {"text", "json"}
            self.assertEqual(delivered.get("causationid"), name if is_event else None)
            self.assertEqual(delivered.get("correlationid"), name if is_event else None)
        self.assertEqual(len(self.target.events), len(ARRIVALS))

    async def test_a_named_target(self) -> None:
        other = FakeTarget(reactor)
        other.start()
        self.addCleanup(other.stop)
        daemon = self.daemon(targets={"other": {"url": other.origin}})
        await daemon.start()
        for name, arrival in ARRIVALS.items():
            answer = await self.send(daemon, arrival(name), vanus_target="other")
            self.assert_accepted(name, answer)
            await self.answer(name, other)
        self.assertEqual(self.target.requests, [])
        for name, arrival in ARRIVALS.items():
            answer = await self.send(daemon, arrival(f"{name}2"), vanus_target="unknown")
            self.assertIn("other", self.assert_problem(answer, 400))
        self.assertEqual(len(self.openai.asks), len(ARRIVALS))

    async def test_waiting(self) -> None:
        daemon = self.daemon(max_wait=30)
        await daemon.start()
        for name, arrival in ALONE.items():
            for form, media_type in CONTENT.items():
                text = f"{name} {form}"
                answer = await self.send(daemon, arrival(text), Prefer="wait=20", Accept=media_type)
                self.assert_event(answer, form, text)
                self.assertEqual(answer.header("preference-applied"), "wait=20")
                await self.answer(text)
            answer = await self.send(daemon, arrival("x"), Prefer="wait=20", Accept="image/png")
            self.assert_problem(answer, 406)
        answer = await self.send(daemon, of_batch("batch"), Prefer="wait=20")
        self.assert_accepted("batch", answer)
        self.assertNotIn("x", self.prompts())

    async def test_the_event_of_a_prompt(self) -> None:
        daemon = self.daemon(keep_answers=60)
        await daemon.start()
        for name, arrival in ARRIVALS.items():
            await self.send(daemon, arrival(name))
            delivered = await self.answer(name)
            await daemon.reaches(delivered["id"], "delivered")
            for form, media_type in CONTENT.items():
                path = f"http://127.0.0.1:{daemon.port}/prompts/{delivered['id']}/event"
                answer = await call("GET", path, headers={"Accept": media_type})
                self.assert_event(answer, form, name)
                self.assertEqual(answer.header("cache-control"), "no-store")

    async def test_nowhere_but_here(self) -> None:
        daemon = self.daemon(keep_answers=60)
        await daemon.start()
        for name, arrival in ALONE.items():
            answer = await self.send(daemon, arrival(name), vanus_target="none")
            path = f"http://127.0.0.1:{daemon.port}{answer.header('location')}/event"
            answer = await call("GET", path, headers={"Prefer": "wait=20"})
            self.assert_event(answer, "structured", name)
        self.assertEqual(self.target.requests, [])

    async def test_a_reply(self) -> None:
        daemon = self.daemon(reply=20, keep_answers=60)
        await daemon.start()
        for name, arrival in ARRIVALS.items():
            answer = await self.send(daemon, arrival(name), Prefer="reply")
            if name in {"structured", "binary"}:
                self.assert_event(answer, "structured", name)
            else:
                self.assert_accepted(name, answer)
                await self.answer(name)
        self.assertEqual(len(self.target.events), 3)

    def assert_event(self, answer: Answer, form: str, text: str) -> None:
        self.assertEqual(answer.status, 200, (text, form, answer.body))
        self.assertEqual(answer.header("content-type").partition(";")[0], CONTENT[form])
        if form == "text":
            self.assertEqual(answer.body.decode(), answer_to(text))
            return
        headers = answer.headers.getAllRawHeaders()
        found = {name.decode().lower(): values[0].decode() for name, values in headers}
        read = Answered(answer.status, found, answer.body).event
        self.assertEqual(read["data"]["content"], answer_to(text))
        self.assertEqual((read["type"], "ce-id" in found), ("vanus-chatGPT-type", form == "binary"))


class HostileTests(BrokerCase):
    """One clear refusal each, and nothing asked."""

    async def test_refused(self) -> None:
        daemon = self.daemon(max_body_size=2**22)
        await daemon.start()
        good = event("1", "text")
        structured = {"Content-Type": broker.STRUCTURED}
        batch = {"Content-Type": broker.BATCH}
        half = {name: value for name, value in good.items() if name not in {"id", "type"}}
        a_type = "vanus-chatGPT-type"
        no_prompt = event("1", {"text": "x"})
        for status, headers, document, *words in (
            (400, structured, half, "id", "type"),
            (400, {"ce-id": "1", "ce-type": "t"}, "x", "specversion", "source"),
            (413, batch, [{**good, "id": str(n)} for n in range(101)], "100 events"),
            (413, batch, [{**good, "id": str(n)} for n in range(10_000)]),
            (400, batch, [], "empty"),
            (400, batch, [good, no_prompt], "index 1", "prompt"),
            (400, structured, {**good, "type": a_type}, "type", "vanus-type"),
            (400, {**structured, "vanus-type": "t"}, {**good, "type": "t"}, "vanus-type"),
            (400, structured, no_prompt, "prompt", "message", "messages"),
            (400, structured, event("1", " "), "prompt"),
            (400, structured, {**good, "data_base64": "eA=="}, "data_base64"),
            (400, {**structured, "ce-id": "1", "ce-type": "t"}, half, "id", "type"),
            (400, structured, {**good, "expirytime": "soon"}, "expirytime"),
            (400, {**structured, "Idempotency-Key": "k"}, good, "Idempotency-Key"),
            (415, {"Content-Type": "application/cloudevents+xml"}, "<event/>", "json"),
            (415, {**structured, "Content-Encoding": "gzip"}, good, "Content-Encoding"),
        ):
            body = document if isinstance(document, str) else json.dumps(document)
            with self.subTest(status=status, headers=headers, body=body[:200]):
                detail = self.assert_problem(await daemon.post(body, headers), status)
                self.assertEqual(len(detail.splitlines()), 1)
                for word in words:
                    self.assertIn(word, detail)
        self.assertEqual((self.openai.asks, self.target.requests), ([], []))
        budget = (await daemon.post("text")).header("ratelimit")
        self.assertIn("r=99", budget)

    async def test_read_as_they_are(self) -> None:
        daemon = self.daemon()
        await daemon.start()
        encoded = event("1", None, data_base64=b64encode("grüße".encode()).decode())
        del encoded["data"]
        encoded["datacontenttype"] = "text/plain"
        headers, body = broker.structured(encoded)
        headers |= {"ce-id": "2", "ce-specversion": "0.3", "ce-subject": "of a header"}
        self.assertEqual((await daemon.post(body, headers)).status, 202)
        answer = await self.answer("grüße")
        self.assertEqual((answer["causationid"], answer.get("subject")), ("1", None))

    async def test_pointer_and_copies(self) -> None:
        daemon = self.daemon(
            prompt_pointer="/issue/body", copy_extensions={"replyid": "correlationid"}
        )
        await daemon.start()
        sender = self.broker(daemon)
        await sender.deliver(event("1", {"issue": {"body": "help"}}, correlationid="r:1:2"))
        answer = await self.answer("help")
        self.assertEqual((answer["replyid"], answer["correlationid"]), ("r:1:2", "r:1:2"))


class TimeTests(BrokerCase):
    """DELETE, deadlines, not before."""

    async def test_cancelled(self) -> None:
        daemon = self.daemon()
        await daemon.start()
        body = json.dumps({"prompt": "later", "not_before": "1h"})
        answer = await daemon.post(body, {"Content-Type": "application/json"}, "/prompts")
        path = answer.header("location")
        for _ in range(2):
            self.assertEqual((await daemon.get(path, "DELETE")).status, 204)
        self.assertEqual((await daemon.get(path)).json()["state"], "cancelled")
        self.assert_problem(await daemon.get(f"{path}/event"), 410)
        prompt_id = await daemon.accepted("now")
        await daemon.reaches(prompt_id, "delivered")
        self.assert_problem(await daemon.get(f"/prompts/{prompt_id}", "DELETE"), 409)
        self.assert_problem(await daemon.get("/prompts/unknown", "DELETE"), 404)
        self.assertEqual(self.prompts(), {"now": 1})

    async def test_not_cancelled_while_it_is_asked(self) -> None:
        self.openai.queue(Reply(fault=Fault.HANG))
        daemon = self.daemon()
        await daemon.start()
        prompt_id = await daemon.accepted("text")
        await until(lambda: self.openai.asks, "an ask")
        self.assert_problem(await daemon.get(f"/prompts/{prompt_id}", "DELETE"), 409)

    async def test_a_deadline_while_the_model_hangs(self) -> None:
        self.openai.script = lambda _: Reply(fault=Fault.HANG)
        await self.misses_its_deadline(self.daemon(openai_timeout=2))

    async def test_a_deadline_while_the_model_is_held(self) -> None:
        self.openai.script = lambda _: Reply(401)
        await self.misses_its_deadline(self.daemon())

    async def misses_its_deadline(self, daemon: Daemon) -> None:
        await daemon.start()
        answer, failed = await together(
            daemon.post("text", {"vanus-deadline": "1s", "Prefer": "wait=20"}),
            daemon.accepted("text", {"vanus-deadline": "1s"}),
        )
        detail = self.assert_problem(answer, 504)
        self.assertIn("deadline", detail)
        record = await daemon.reaches(failed, "failed")
        self.assertIn("deadline", record["error"])
        self.assertEqual(self.target.requests, [])

    async def test_an_event_that_has_expired(self) -> None:
        daemon = self.daemon()
        await daemon.start()
        old = event("1", "text", expirytime="2026-01-01T00:00:00Z")
        answer = await daemon.post(*reversed(broker.structured(old)))
        self.assertEqual(answer.status, 202)
        record = await daemon.reaches(answer.header("location").rpartition("/")[2], "failed")
        self.assertIn("expired", record["error"])
        self.assertEqual(self.openai.asks, [])

    async def test_not_before(self) -> None:
        daemon = self.daemon(clock=self.clock(reactor.seconds()))
        await daemon.start()
        body = json.dumps({"prompt": "later", "not_before": "1h"})
        answer = await daemon.post(body, {"Content-Type": "application/json"}, "/prompts")
        self.assertEqual(answer.status, 202)
        await daemon.reaches(await daemon.accepted("now"), "delivered")
        await daemon.live(3000)
        await throughout(0.5, lambda: "later" not in self.prompts(), "it was asked too early")
        self.assertIsNotNone((await daemon.record(answer.json()["id"]))["next_attempt"])
        await daemon.live(600)
        await self.answer("later")


class TargetsTests(BrokerCase):
    async def test_a_dead_target_delays_no_other(self) -> None:
        dead = FakeTarget(reactor)
        dead.start()
        self.addCleanup(dead.stop)
        dead.script = lambda _: Reply(fault=Fault.HANG)
        daemon = self.daemon(
            targets={"dead": {"url": dead.origin}}, concurrency=CONCURRENCY, everyday_limit=1000
        )
        await daemon.start()
        for n in range(3 * CONCURRENCY):
            await daemon.accepted(f"dead {n}", {"vanus-target": "dead"})
        await until(lambda: len(dead.requests) == CONCURRENCY, "its slots in use")
        for n in range(20):
            await daemon.accepted(f"alive {n}")
        for n in range(20):
            await self.answer(f"alive {n}")
        self.assertEqual(len(dead.requests), CONCURRENCY, "its slots are in use no longer")
        self.assertEqual(dead.events, [])
        dead.script = dead.default
        await daemon.kill()
        await daemon.start()
        for n in range(3 * CONCURRENCY):
            await self.answer(f"dead {n}", dead)
        self.assertEqual(len(self.openai.asks), 20 + 3 * CONCURRENCY)
