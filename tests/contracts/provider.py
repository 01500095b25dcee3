"""What `Provider` promises, as tests that every provider passes against a server on loopback."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import attrs
from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from chatgpt_source.config import Config
from chatgpt_source.config.secret import Secret
from chatgpt_source.errors import (
    Gone,
    Lost,
    NoRoom,
    PeerFailure,
    Permanent,
    PossiblyBilled,
    Transient,
)
from chatgpt_source.http.client import make_client
from chatgpt_source.prompt import Answer, Details, Prompt, Submitted
from chatgpt_source.providers import Provider, provider_of
from tests.fakes.openai import answer_to, api_error
from tests.fakes.responses import FakeResponses, Outcome, tool_call
from tests.fakes.server import Fault, Reply

KEY = "sk-test"
INVOICE = {
    "type": "json_schema",
    "json_schema": {
        "name": "invoice",
        "strict": True,
        "schema": {"type": "object", "properties": {"lines": {"items": {"type": "string"}}}},
    },
}
PROMPT = Prompt("b61ccd2c-0f60-4f9a-a20a-6b1a3c8f2c86", "what is vanus", "source", "type", 1.0)


class Contract(TestCase):
    """A provider, and the server that it asks.

    Attributes:
        settings: The settings that choose the provider.
    """

    settings: Mapping[str, Any] = MappingProxyType({})
    timeout = 60

    def setUp(self) -> None:
        self.fake = FakeResponses(reactor, KEY)
        self.fake.start()
        self.addCleanup(self.fake.stop)
        self.client, pool = make_client(reactor, 4)
        self.addCleanup(pool.close)
        self.provider = self.provider_with()

    def provider_with(self, **settings: Any) -> Provider:
        config = Config(
            target="http://target/",
            token=Secret(KEY),
            base_url=self.fake.base_url,
            openai_timeout=10.0,
            **self.settings,
        )
        return provider_of(attrs.evolve(config, **settings), self.client, reactor)

    async def answer(self, prompt: Prompt = PROMPT, *, flex: bool = False) -> Answer:
        """Ask, and look until the answer is there."""
        asked = await self.provider.ask(prompt, flex=flex)
        while isinstance(asked, Submitted):
            await deferLater(reactor, 0.005)
            asked = await self.provider.look_up(asked.id, prompt) or asked
        return asked

    async def fails(self, kind: type, call: Any) -> Any:
        """The error of a call, which is just of that class."""
        try:
            await call
        except kind as error:
            self.assertIs(type(error), kind)
            return error
        raise AssertionError("it did not fail")

    async def test_answered(self) -> None:
        answer = await self.answer()
        self.assertEqual(answer.content, answer_to(PROMPT.text))
        self.assertEqual(
            (answer.model, answer.finish_reason, answer.request_id),
            ("gpt-6-luna", "stop", "req_fake"),
        )
        self.assertEqual(answer.usage["total_tokens"], 7)
        self.assertEqual((self.fake.billed, self.fake.complaints), (1, []))

    async def test_a_conversation(self) -> None:
        messages = (
            '[{"role": "system", "content": "Rhyme."}, {"role": "user", "content": "Why?"},'
            ' {"role": "assistant", "content": "So."}, {"role": "user", "content": "And?"}]'
        )
        asked = attrs.evolve(PROMPT, text=messages, details=Details(conversation=True))
        self.assertEqual((await self.answer(asked)).content, answer_to("And?"))
        self.assertEqual(self.fake.complaints, [])

    async def test_what_settings_and_callers_set(self) -> None:
        self.provider = self.provider_with(
            system_prompt="Be brief.", max_tokens=3, temperature=0.5, top_p=0.5
        )
        call = {"model": "theirs", "max_completion_tokens": 7, "reasoning_effort": "low"}
        answer = await self.answer(attrs.evolve(PROMPT, details=Details(call=call)))
        self.assertEqual(answer.content, answer_to(PROMPT.text))
        (ask,) = self.fake.asks
        self.assertEqual(ask.document["model"], "theirs")
        self.assertEqual(self.fake.complaints, [])

    async def test_a_model_that_takes_no_system_prompt(self) -> None:
        of_theirs = '[{"role": "system", "content": "Rhyme."}, {"role": "user", "content": "Why?"}]'
        theirs = attrs.evolve(PROMPT, text=of_theirs, details=Details(conversation=True))
        also_theirs = attrs.evolve(PROMPT, details=Details(call={"system": "Rhyme."}))
        for param in ("messages[0].role", "messages[0]", "instructions"):
            for system_prompt, prompt, kind in (
                ("Be brief.", PROMPT, PeerFailure),
                ("Be brief.", theirs, Permanent),
                ("Be brief.", also_theirs, Permanent),
                (None, PROMPT, Permanent),
            ):
                self.provider = self.provider_with(system_prompt=system_prompt)
                self.fake.queue(api_error(400, param=param))
                error = await self.fails(kind, self.provider.ask(prompt))
                self.assertEqual("check `system_prompt`" in error.reason, kind is PeerFailure)

    async def test_the_tier_that_was_billed(self) -> None:
        self.assertEqual((await self.answer()).service_tier, "default")
        self.assertNotIn("service_tier", self.fake.asks[-1].document)
        for tier in ("flex", "default"):
            self.fake.flex_tier = tier
            answer = await self.answer(flex=True)
            self.assertEqual(answer.service_tier, tier)
        self.assertEqual(self.fake.asks[-1].document["service_tier"], "flex")
        self.assertEqual(self.fake.complaints, [])

    async def test_a_tier_that_is_no_plain_word(self) -> None:
        for tier in (7, "A b", "x" * 33, None, ["flex"]):
            self.fake.flex_tier = tier
            self.assertIsNone((await self.answer(flex=True)).service_tier)

    async def test_no_room_on_flex(self) -> None:
        self.fake.flex_full = True
        error = await self.fails(NoRoom, self.provider.ask(PROMPT, flex=True))
        self.assertTrue(error.throttled)
        self.fake.queue(api_error(498, code="capacity_exceeded"))
        await self.fails(NoRoom, self.provider.ask(PROMPT, flex=True))
        self.fake.queue(api_error(429, code="rate_limit_exceeded"))
        await self.fails(Transient, self.provider.ask(PROMPT, flex=True))

    async def test_a_server_without_flex(self) -> None:
        asked = attrs.evolve(PROMPT, details=Details(call={"temperature": 1}))
        for prompt in (PROMPT, asked):
            self.fake.queue(api_error(400, param="service_tier"))
            error = await self.fails(PeerFailure, self.provider.ask(prompt, flex=True))
            self.assertIn("check `flex_over`", error.reason)

    async def test_cut_by_length_is_an_answer(self) -> None:
        self.fake.outcomes.append(Outcome("Once", "incomplete", "max_output_tokens"))
        answer = await self.answer()
        self.assertEqual((answer.content, answer.finish_reason), ("Once", "length"))

    async def test_the_prompts_own_failures(self) -> None:
        for outcome in (
            Outcome(refusal="I can't."),
            Outcome("x", "incomplete", "content_filter"),
            Outcome(" "),
        ):
            self.fake.outcomes.append(outcome)
            error = await self.fails(Permanent, self.answer())
            self.assertEqual((error.status, error.request_id), (200, "req_fake"))
        self.fake.queue(api_error(400, code="context_length_exceeded"))
        await self.fails(Permanent, self.provider.ask(PROMPT))

    async def test_json_by_a_schema(self) -> None:
        self.provider = self.provider_with(response_format=INVOICE)
        self.fake.outcomes.append(Outcome('{"lines": ["a"]}'))
        answer = await self.answer()
        self.assertEqual((answer.content, answer.finish_reason), ({"lines": ["a"]}, "stop"))
        self.fake.outcomes.append(Outcome('{"lines": ["a", 7]}'))
        error = await self.fails(Permanent, self.answer())
        self.assertEqual((error.status, error.request_id), (200, "req_fake"))
        self.assertIn("schema at /properties/lines/items/type", error.reason)
        self.assertEqual((self.fake.billed, self.fake.complaints), (2, []))

    async def test_json_that_a_caller_asks_for(self) -> None:
        self.provider = self.provider_with(response_format=INVOICE)
        for form, said, content in (
            ({"type": "json_object"}, '{"a": 1}', {"a": 1}),
            ({"type": "text"}, '{"lines": 5}', '{"lines": 5}'),
        ):
            self.fake.outcomes.append(Outcome(said))
            details = Details(call={"response_format": form})
            answer = await self.answer(attrs.evolve(PROMPT, details=details))
            self.assertEqual(answer.content, content)
        self.assertEqual(self.fake.complaints, [])

    async def test_a_schema_that_is_none_costs_nothing(self) -> None:
        form = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "x"}}}
        details = Details(call={"response_format": form})
        error = await self.fails(Permanent, self.answer(attrs.evolve(PROMPT, details=details)))
        self.assertIn("its schema is not valid at /type", error.reason)
        self.assertIsNone(error.status)
        self.assertEqual(self.fake.asks, [])

    async def test_tool_calls(self) -> None:
        self.provider = self.provider_with(response_format=INVOICE)
        self.fake.outcomes.append(Outcome("", tool="look_up"))
        answer = await self.answer()
        self.assertEqual((answer.content, answer.tool_calls), (None, [tool_call("look_up")]))
        self.assertEqual(answer.finish_reason, "tool_calls")
        self.fake.outcomes.append(Outcome("{}", tool="look_up"))
        answer = await self.answer()
        self.assertEqual((answer.content, answer.tool_calls), ({}, [tool_call("look_up")]))

    async def test_wrong_settings(self) -> None:
        self.provider = self.provider_with(token=Secret("sk-other"))
        error = await self.fails(PeerFailure, self.provider.ask(PROMPT))
        self.assertEqual(error.status, 401)
        self.provider = self.provider_with(base_url=f"{self.fake.base_url}/v9")
        await self.fails(PeerFailure, self.provider.ask(PROMPT))
        self.assertEqual(self.fake.billed, 0)

    async def test_what_passes(self) -> None:
        for status in (409, 429, 500, 503):
            self.fake.queue(api_error(status, headers={"retry-after": "7"}))
            error = await self.fails(Transient, self.provider.ask(PROMPT))
            self.assertEqual((error.status, error.retry_after), (status, 7.0))

    async def test_what_may_have_been_billed(self) -> None:
        self.fake.losses = 1
        await self.fails(PossiblyBilled, self.provider.ask(PROMPT))
        self.assertEqual(self.fake.billed, 1)
        for reply in (Reply(200, b"<html>"), Reply(200, b"{", fault=Fault.CUT), Reply(204)):
            self.fake.queue(reply)
            await self.fails(PossiblyBilled, self.provider.ask(PROMPT))

    async def test_not_reached(self) -> None:
        await self.fake.stop()
        for call in (
            self.provider.ask(PROMPT),
            self.provider.look_up("resp_1", PROMPT),
            self.provider.cancel("resp_1"),
            self.provider.forget("resp_1"),
        ):
            await self.fails(Transient, call)
        self.assertIsNone(await self.provider.doubts())

    async def test_ids_that_it_does_not_have(self) -> None:
        for call in (
            self.provider.look_up("resp_9", PROMPT),
            self.provider.cancel("resp_9"),
            self.provider.forget("resp_9"),
        ):
            error = await self.fails(Gone, call)
            self.assertEqual(error.status, 404)

    async def test_failures_of_a_look_are_not_billed(self) -> None:
        for reply, kind in (
            (api_error(401), PeerFailure),
            (api_error(403), PeerFailure),
            (api_error(429), Transient),
            (api_error(500), Transient),
            (api_error(400), Transient),
            (api_error(422), Transient),
            (Reply(500, headers={"x-should-retry": "false"}), Transient),
            (Reply(200, b"<html>"), Transient),
            (Reply(200, b"{}"), Transient),
            (Reply(200, b"{", fault=Fault.CUT), Transient),
            (Reply(fault=Fault.RESET), Transient),
        ):
            # a lost GET is sent again, on a new connection
            self.fake.queue(*[reply] * (2 if reply.fault is Fault.RESET else 1))
            await self.fails(kind, self.provider.look_up("resp_1", PROMPT))

    async def test_doubts(self) -> None:
        self.assertIsNone(await self.provider.doubts())
        doubt = await self.provider_with(model="gone").doubts()
        self.assertIn("`model` gone is not among the models", str(doubt))


class KeepingContract(Contract):
    """What a provider promises that keeps its calls under ids."""

    async def submit(self, outcome: Outcome | None = None) -> str:
        self.fake.outcomes.append(outcome or Outcome(seconds=60))
        asked = await self.provider.ask(PROMPT)
        assert isinstance(asked, Submitted)
        return asked.id

    async def test_looked_up_once_it_is_there(self) -> None:
        submitted = await self.submit()
        self.assertIsNone(await self.provider.look_up(submitted, PROMPT))
        self.fake.end_all()
        for _ in range(2):
            answer = await self.provider.look_up(submitted, PROMPT)
            self.assertEqual(answer.content, answer_to(PROMPT.text))
        self.assertEqual(self.fake.billed, 1)

    async def test_looked_up_after_a_restart_of_all(self) -> None:
        submitted = await self.submit()
        await self.fake.stop()
        self.fake.start()
        self.fake.end_all()
        answer = await self.provider_with().look_up(submitted, PROMPT)
        self.assertEqual(answer.content, answer_to(PROMPT.text))
        self.assertEqual(self.fake.billed, 1)

    async def test_one_that_is_too_long(self) -> None:
        """It gets no shorter."""
        submitted = await self.submit()
        self.fake.queue(Reply(200, b" " * (2**21 + 1)))
        error = await self.fails(Permanent, self.provider.look_up(submitted, PROMPT))
        self.assertEqual(error.reason, "the model's answer is longer than 2 MiB")

    async def test_cancelled(self) -> None:
        submitted = await self.submit()
        for _ in range(2):
            await self.provider.cancel(submitted)
        await self.fails(Lost, self.provider.look_up(submitted, PROMPT))
        self.assertEqual(self.fake.billed, 0)

    async def test_forgotten(self) -> None:
        submitted = await self.submit()
        self.fake.end_all()
        await self.provider.forget(submitted)
        self.assertEqual(self.fake.kept, {})
        await self.fails(Gone, self.provider.look_up(submitted, PROMPT))

    async def test_failed(self) -> None:
        for code, kind, status in (
            ("server_error", Lost, 500),
            ("rate_limit_exceeded", Lost, 429),
            ("resource_unavailable", Lost, 429),
            ("insufficient_quota", Lost, 429),
            ("invalid_prompt", Permanent, 200),
        ):
            submitted = await self.submit(Outcome(status="failed", code=code, seconds=60))
            self.fake.end_all()
            error = await self.fails(kind, self.provider.look_up(submitted, PROMPT))
            self.assertEqual(error.status, status)
            self.assertIn(code, error.reason)

    async def test_one_that_has_ended_at_once_is_kept_too(self) -> None:
        submitted = await self.submit(Outcome(seconds=0))
        answer = await self.provider.look_up(submitted, PROMPT)
        self.assertEqual(answer.content, answer_to(PROMPT.text))
        submitted = await self.submit(Outcome(status="failed", code="server_error", seconds=0))
        await self.fails(Lost, self.provider.look_up(submitted, PROMPT))

    async def test_a_server_that_does_not_know_it_answers_at_once(self) -> None:
        whole = await self.submit(Outcome(seconds=0))
        known = self.fake.body_of(self.fake.kept[whole])
        for background in (False, None, "true"):
            self.fake.queue(Reply.of_json({**known, "background": background}))
            answer = await self.provider.ask(PROMPT)
            self.assertEqual(answer.content, answer_to(PROMPT.text))

    async def test_without_an_id(self) -> None:
        for id_ in (None, "", "a/b", "x" * 201, "resp_\n", 7, "caf\u00e9"):
            self.fake.queue(Reply.of_json({"id": id_, "status": "queued"}))
            await self.fails(PossiblyBilled, self.provider.ask(PROMPT))
