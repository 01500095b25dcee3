"""What the daemon sends to the model: the settings on the wire, held to OpenAI's own types."""

import json

from twisted.internet.defer import Deferred

from tests.e2e.processes import Daemon, DaemonCase, throughout, until
from tests.fakes.openai import MODEL, completion
from tests.fakes.server import Fault, Reply
from tests.providers.openai_types import check_completion, check_models, check_request


class SettingsTests(DaemonCase):
    async def test_everything_that_can_be_set(self):
        daemon = self.daemon(
            model="some-model",
            system_prompt="Be brief.",
            max_tokens=50,
            temperature=0.5,
            top_p=0.9,
            reasoning_effort="low",
            organization="org-1",
            project="proj_1",
            headers={"X-Title": "a title", "X-Key": {"env": "OTHER_KEY"}},
            body={"seed": 7, "stop": ["END"], "metadata": {"team": "a"}},
        )
        daemon.environ["OTHER_KEY"] = "k-1"
        await daemon.start()
        await daemon.reaches(await daemon.accepted("Grüße \U0001f600"), "delivered")
        (ask,) = self.openai.asks
        self.assertEqual(
            ask.document,
            {
                "model": "some-model",
                "messages": [
                    {"role": "system", "content": "Be brief."},
                    {"role": "user", "content": "Grüße \U0001f600"},
                ],
                "max_completion_tokens": 50,
                "temperature": 0.5,
                "top_p": 0.9,
                "reasoning_effort": "low",
                "seed": 7,
                "stop": ["END"],
                "metadata": {"team": "a"},
            },
        )
        check_request(ask.document)
        for name, value in (
            ("openai-organization", "org-1"),
            ("openai-project", "proj_1"),
            ("x-title", "a title"),
            ("x-key", "k-1"),
            ("authorization", "Bearer sk-test"),
        ):
            self.assertEqual(ask.header(name), value)

    async def test_nothing_set(self):
        daemon = self.daemon()
        await daemon.start()
        await daemon.reaches(await daemon.accepted("text"), "delivered")
        (ask,) = self.openai.asks
        self.assertEqual(set(ask.document), {"model", "messages"})
        check_request(ask.document)
        usual = "host authorization content-type content-length accept accept-encoding user-agent"
        sent = {name.decode().lower() for name, _ in ask.headers.getAllRawHeaders()}
        self.assertEqual(sent - {*usual.split(), "connection"}, set())

    async def test_the_fake_is_held_to_the_schema_as_well(self):
        check_completion(json.loads(completion("x").body))
        check_models(json.loads(self.openai.models.body))

    async def test_azure(self):
        self.openai.objection = lambda _: None
        daemon = self.daemon(
            base_url=f"{self.openai.origin}/openai/deployments/gpt", api_version="2024-10-21"
        )
        await daemon.start()
        await daemon.reaches(await daemon.accepted("text"), "delivered")
        (ask,) = [request for request in self.openai.requests if request.method == "POST"]
        path = "/openai/deployments/gpt/chat/completions?api-version=2024-10-21"
        self.assertEqual(ask.path, path)
        self.assertEqual((ask.header("api-key"), ask.header("authorization")), ("sk-test", None))

    async def test_a_key_in_a_file_is_rotated(self):
        key = self.file("sk-first\n")
        config = self.config(token_file=str(key))
        del config["token"]
        daemon = Daemon(self, config)
        await daemon.start()
        await daemon.reaches(await daemon.accepted("text"), "delivered")
        key.with_suffix(".new").write_text("sk-second\n")
        key.with_suffix(".new").replace(key)
        await daemon.reaches(await daemon.accepted("text"), "delivered")
        keys = [ask.header("authorization") for ask in self.openai.asks]
        self.assertEqual(keys, ["Bearer sk-first", "Bearer sk-second"])

    async def test_a_400_about_what_we_set_is_not_the_prompts_fault(self):
        error = {"error": {"message": "x", "code": None, "param": "stop[0]"}}
        self.openai.queue(Reply.of_json(error, 400))
        daemon = self.daemon(body={"stop": ["END"]})
        await daemon.start()
        prompt_id = await daemon.accepted("text")
        record = await daemon.reaches(prompt_id, lambda record: record["error"])
        self.assertEqual(record["state"], "accepted")
        self.assertIn("because of `stop`: check `body`", record["error"])


class IncludeTests(DaemonCase):
    async def test_everything(self):
        names = ["prompt", "usage", "model", "finish_reason", "request_id"]
        daemon = self.daemon(include=names)
        await daemon.start()
        await daemon.reaches(await daemon.accepted("what is vanus"), "delivered")
        (event,) = self.target.events
        self.assertEqual(
            event["data"],
            {
                "content": "You asked: what is vanus",
                "prompt": "what is vanus",
                "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7},
                "model": MODEL,
                "finish_reason": "stop",
                "request_id": "req_fake",
            },
        )


FORMAT = {
    "type": "json_schema",
    "json_schema": {
        "name": "invoice",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {"lines": {"type": "array", "items": {"type": "string"}}},
            "required": ["lines"],
            "additionalProperties": False,
        },
    },
}


class FormatTests(DaemonCase):
    async def test_answers_in_json_and_tool_calls(self):
        daemon = self.daemon(response_format=FORMAT, callers_may_set=["response_format"])
        process = await daemon.start()
        wait = {"Prefer": "wait=20", "Accept": "text/plain"}
        self.openai.queue(completion('{"lines": ["paper"]}'))
        answer = await daemon.post("text", wait)
        self.assertEqual((answer.status, answer.body), (200, b'{"lines": ["paper"]}'))
        await until(lambda: self.target.events, "the delivery")
        self.assertEqual(self.target.events[0]["data"], {"content": {"lines": ["paper"]}})
        (ask,) = self.openai.asks
        self.assertEqual(ask.document["response_format"], FORMAT)
        check_request(ask.document)

        self.openai.queue(completion('{"lines": ["MARKED", 7]}'))
        reason = "it does not fit its schema at /properties/lines/items/type"
        self.assertIn(reason, self.assert_problem(await daemon.post("text", wait), 502))

        calls = [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
        self.openai.queue(
            completion(None, message={"tool_calls": calls}, finish_reason="tool_calls")
        )
        headers = {**wait, "Accept": "application/json", "Content-Type": "application/json"}
        body = {"prompt": "text", "response_format": {"type": "text"}}
        called = await daemon.post(json.dumps(body), headers, "/prompts")
        self.assertEqual(called.json(), {"content": None, "tool_calls": calls})
        self.assertNotIn("MARKED", process.text)

    async def test_a_schema_that_makes_endless_work_delays_no_other_and_no_stop(self):
        daemon = self.daemon(callers_may_set=["response_format"])
        await daemon.start()
        names = [f"a{number}" for number in range(40)]
        schema = {
            "$ref": "#/$defs/a0",
            "$defs": {
                name: {"allOf": [{"$ref": f"#/$defs/{after}"}] * 2}
                for name, after in zip(names, [*names[1:], "end"], strict=True)
            }
            | {"end": {}},
        }
        form = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
        headers = {"Prefer": "wait=20", "Content-Type": "application/json"}
        body = json.dumps({"prompt": "text", "response_format": form})
        self.openai.queue(completion("1"))
        hostile = Deferred.fromCoroutine(daemon.post(body, headers, "/prompts"))
        await until(lambda: self.openai.asks, "the call")
        await daemon.reaches(await daemon.accepted("another"), "delivered")
        problem = self.assert_problem(await hostile, 502)
        self.assertIn("takes too much time or memory", problem)
        self.openai.queue(completion("1"))
        await daemon.post(body, {"Content-Type": "application/json"}, "/prompts")
        await until(lambda: len(self.openai.asks) == 3, "the call")
        await daemon.stop()


class ModelsTests(DaemonCase):
    async def said(self, models: Reply, model: str = MODEL, words: str = "") -> str:
        """What the log says of a list of models, with some words; a prompt is delivered, too."""
        self.openai.models = models
        before = self.lists()
        daemon = self.daemon(model=model)
        await daemon.start()
        await daemon.reaches(await daemon.accepted("text"), "delivered")
        await until(lambda: self.lists() > before, "the list")
        await until(lambda: words in daemon.text, words)
        await daemon.stop()
        return daemon.text

    def lists(self) -> int:
        """How many lists of models were answered."""
        return sum(r.path == "/v1/models" and r.reply is not None for r in self.openai.requests)

    def assert_no_warning(self, text: str) -> None:
        """But for the one about the port, which is open to all in these tests."""
        warnings = [line for line in text.splitlines() if " warn " in line]
        self.assertEqual([line for line in warnings if "set `auth`" not in line], [])

    def listed(self, **members: object) -> Reply:
        return Reply.of_json({"object": "list", "data": [{"id": MODEL, **members}]})

    async def test_warnings(self):
        self.assert_no_warning(await self.said(self.listed()))
        await self.said(self.listed(), "gpt-9", "`model` gpt-9 is not among")
        listed = self.listed(shutdown_date="2027-01-14")
        await self.said(listed, words="has a shutdown date (2027-01-14)")

    async def test_servers_that_have_no_such_call(self):
        for reply in (
            Reply(404),
            Reply(500),
            Reply(200, b"<html>"),
            Reply(fault=Fault.RESET),
            Reply(200, b"{", fault=Fault.CUT),
        ):
            self.assert_no_warning(await self.said(reply))

    async def test_a_start_does_not_wait_for_it(self):
        self.openai.models = Reply(fault=Fault.HANG)
        daemon = self.daemon()
        await daemon.start()
        await daemon.reaches(await daemon.accepted("text"), "delivered")
        await throughout(0.2, lambda: daemon.process.status is None, "it ended")
        await daemon.stop(timeout=5)
        self.assertIn("stopped", daemon.text)
