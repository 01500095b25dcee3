"""The chat call: what is sent, and how strictly an answer is read."""

import json
from pathlib import Path
from typing import Any

import attrs
from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from chatgpt_source.config.secret import Secret
from chatgpt_source.config.secrets import API_KEY
from chatgpt_source.errors import CallError, PeerFailure, Permanent, PossiblyBilled, Transient
from chatgpt_source.http.client import Client, NoReply, NotSent, Reply
from chatgpt_source.limited_json import MOST_MARKS
from chatgpt_source.prompt import Answer, Details, Prompt
from chatgpt_source.providers.completion import read_answer
from chatgpt_source.providers.openai import MOST_BYTES, read_error
from chatgpt_source.providers.openai_chat import OpenAIChat, request_body, settings_sent
from chatgpt_source.providers.reading import MOST_COUNTS, MOST_WORDS
from tests.providers.common import CONFIG, DAY, PROMPT, FakePeer, OpenAICase, reply


def completion(**changes: Any) -> dict[str, Any]:
    """A whole answer, with changes to its choice's message."""
    message = {"role": "assistant", "content": "MODELMARK", "refusal": None, **changes}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": "gpt-6-luna-2026-08-01",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8},
    }


def with_choice(**changes: Any) -> dict[str, Any]:
    whole = completion()
    whole["choices"][0].update(changes)
    return whole


class RequestTests(OpenAICase):
    def body(self, **settings_: Any) -> dict[str, Any]:
        body: dict[str, Any] = json.loads(request_body(PROMPT, attrs.evolve(CONFIG, **settings_)))
        return body

    def test_plain(self) -> None:
        self.assertEqual(
            self.body(),
            {"model": "gpt-6-luna", "messages": [{"role": "user", "content": PROMPT.text}]},
        )

    def test_system_prompt_goes_first(self) -> None:
        self.assertEqual(
            self.body(system_prompt="Be brief.")["messages"],
            [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": PROMPT.text},
            ],
        )

    def test_max_tokens(self) -> None:
        body = self.body(max_tokens=7)
        self.assertEqual(body["max_completion_tokens"], 7)
        self.assertNotIn("max_tokens", body)

    def test_model(self) -> None:
        self.assertEqual(self.body(model="llama")["model"], "llama")

    def test_parameters(self) -> None:
        sent = {"temperature": 0.0, "top_p": 0.5, "reasoning_effort": "low"}
        body = self.body(**sent, body={"max_tokens": 5, "logit_bias": {"1": 2}})
        self.assertLessEqual(
            {**sent, "max_tokens": 5, "logit_bias": {"1": 2}}.items(), body.items()
        )
        self.assertNotIn("max_completion_tokens", body)

    def of(self, details: Details, text: str = "Why?", **settings_: Any) -> dict[str, Any]:
        asked = Prompt("id", text, "source", "type", 1.0, details=details)
        body: dict[str, Any] = json.loads(request_body(asked, attrs.evolve(CONFIG, **settings_)))
        return body

    def test_a_conversation_is_sent_as_it_is(self) -> None:
        messages = [
            {"role": "user", "content": [{"type": "text", "text": "Why?"}]},
            {"role": "assistant", "content": "Because.", "name": "x"},
        ]
        for first in ({"role": "system", "content": "a"}, {"role": "developer", "content": "b"}):
            for own in ([*messages], [first, *messages]):
                body = self.of(
                    Details(conversation=True), json.dumps(own), system_prompt="Be brief."
                )
                ours = [] if first in own else [{"role": "system", "content": "Be brief."}]
                self.assertEqual(body["messages"], [*ours, *own])
        body = self.of(Details(conversation=True), json.dumps(messages))
        self.assertEqual(body["messages"], messages)

    def test_what_the_caller_set_wins(self) -> None:
        call = {
            "model": "theirs",
            "max_completion_tokens": 9,
            "temperature": 1.5,
            "reasoning_effort": "high",
            "response_format": {"type": "json_object"},
        }
        for settings_ in (
            {},
            {"max_tokens": 5, "temperature": 0.1, "reasoning_effort": "low"},
            {"body": {"response_format": None, "seed": 1}},
        ):
            body = self.of(Details(call=call), **settings_)
            self.assertLessEqual(call.items(), body.items())

    def test_max_tokens_goes_by_the_name_that_the_server_knows(self) -> None:
        body = self.of(Details(call={"max_completion_tokens": 9}), body={"max_tokens": 5})
        self.assertEqual(body["max_tokens"], 9)
        self.assertNotIn("max_completion_tokens", body)

    def test_the_caller_s_system_prompt_goes_first(self) -> None:
        body = self.of(Details(call={"system": "Rhyme."}), system_prompt="Be brief.")
        self.assertEqual(
            body["messages"],
            [{"role": "system", "content": "Rhyme."}, {"role": "user", "content": "Why?"}],
        )
        self.assertNotIn("system", body)

    def test_lone_surrogates_of_a_caller(self) -> None:
        format_ = {"type": "json_schema", "json_schema": {"name": "\ud800"}}
        body = self.of(Details(call={"response_format": format_}))
        self.assertEqual(body["response_format"], format_)

    def test_what_settings_set(self) -> None:
        self.assertEqual(settings_sent(CONFIG), {"model": "model"})
        config = attrs.evolve(CONFIG, max_tokens=5, temperature=0.0, body={"stop": ["x"]})
        self.assertEqual(
            settings_sent(config),
            {
                "model": "model",
                "max_completion_tokens": "max_tokens",
                "max_tokens": "max_tokens",
                "temperature": "temperature",
                "stop": "body",
            },
        )
        for param in ("stop", "stop[0]", "temperature", "max_tokens"):
            body = {"error": {"param": param, "message": "MODELMARK"}}
            self.assertIs(
                type(read_error(reply(body, 400), DAY, settings_sent(config))), PeerFailure
            )

    @settings(deadline=None)
    @given(st.text(min_size=1))
    def test_any_text(self, text: str) -> None:
        body = request_body(attrs.evolve(PROMPT, text=text), CONFIG)
        body.decode("utf-8")
        self.assertEqual(json.loads(body)["messages"][0]["content"], text)


class ReadAnswerTests(OpenAICase):
    def rejected(self, body: Any, words: str) -> None:
        error = self.assertRaises(Permanent, read_answer, reply(body))
        self.assertIn(words, error.reason)
        self.assertEqual(error.status, 200)
        self.assert_discreet(error)

    def unreadable(self, body: Any, flaw: str | None = None) -> None:
        error = self.assertRaises(PossiblyBilled, read_answer, reply(body, flaw=flaw))
        self.assertIn("the model's answer can't be read", error.reason)
        self.assertEqual(error.status, 200)
        self.assert_discreet(error)

    def test_whole(self) -> None:
        self.assertEqual(
            read_answer(reply(completion(), x_request_id="req_1")),
            Answer(
                "MODELMARK",
                "gpt-6-luna-2026-08-01",
                "stop",
                "req_1",
                {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8},
            ),
        )

    def test_least(self) -> None:
        """What a frugal compatible server sends."""
        body = {"choices": [{"message": {"content": "yes"}}]}
        self.assertEqual(read_answer(reply(body)), Answer("yes"))

    def test_content_is_kept_as_it_is(self) -> None:
        for content in (" a\n", "\u00e9\U0001f600", "\x00", "\ufeffx", "0", "null", "a\u2028"):
            self.assertEqual(read_answer(reply(completion(content=content))).content, content)

    def test_cut_by_length_is_an_answer(self) -> None:
        answer = read_answer(reply(with_choice(finish_reason="length")))
        self.assertEqual((answer.content, answer.finish_reason), ("MODELMARK", "length"))

    def test_any_finish_reason_but_the_filter_is_an_answer(self) -> None:
        for finish_reason in ("stop", "tool_calls", "eos", "", None, 7, [], {}, ["x"]):
            answer = read_answer(reply(with_choice(finish_reason=finish_reason)))
            self.assertEqual(answer.content, "MODELMARK")

    def test_first_choice(self) -> None:
        body = completion()
        body["choices"].append({"message": {"content": "second"}})
        self.assertEqual(read_answer(reply(body)).content, "MODELMARK")

    def test_empty_content(self) -> None:
        for content in ("", " ", "\n\t", "\u2003", None):
            self.rejected(completion(content=content), "the answer is empty (finish_reason stop)")

    def test_no_content(self) -> None:
        body = completion()
        del body["choices"][0]["message"]["content"]
        self.rejected(body, "the answer is empty")

    def test_empty_whatever_the_finish_reason(self) -> None:
        for finish_reason, shown in (
            ("stop", "stop"),
            ("length", "length"),
            ("tool_calls", "tool_calls"),
            ("MODELMARK", "unknown"),
            ("", "unknown"),
            (None, "unknown"),
            (7, "unknown"),
            ([], "unknown"),
            ({}, "unknown"),
            (["stop"], "unknown"),
        ):
            body = with_choice(finish_reason=finish_reason, message={"content": ""})
            self.rejected(body, f"the answer is empty (finish_reason {shown})")

    def test_tool_calls(self) -> None:
        calls = [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
        for content, kept in ((None, None), ("", None), (" ", None), ("MODELMARK", "MODELMARK")):
            answer = read_answer(reply(completion(content=content, tool_calls=calls)))
            self.assertEqual((answer.content, answer.tool_calls), (kept, calls))
        self.rejected(completion(content=None, tool_calls=calls, refusal="x"), "refused")

    def test_odd_tool_calls(self) -> None:
        deep: Any = []
        for _ in range(200):
            deep = [deep]
        for odd in (None, [], {}, "x", 5, [5], [{}, "x"], [{"a": deep}], [{"a": "\ud800"}]):
            self.rejected(completion(content=None, tool_calls=odd), "the answer is empty")
            self.assertIsNone(read_answer(reply(completion(tool_calls=odd))).tool_calls)

    def test_refusal(self) -> None:
        for content in (None, "", "MODELMARK"):
            self.rejected(completion(content=content, refusal="MODELMARK"), "refused this prompt")

    def test_no_refusal(self) -> None:
        for empty in (None, ""):
            self.assertEqual(read_answer(reply(completion(refusal=empty))).content, "MODELMARK")

    def test_content_filter(self) -> None:
        for content in (None, "", "MODELMARK"):
            body = with_choice(finish_reason="content_filter", message={"content": content})
            self.rejected(body, "content filter")

    def test_not_json(self) -> None:
        whole = json.dumps(completion()).encode()
        for body in (
            b"",
            b" ",
            b"<html>MODELMARK</html>",
            b"MODELMARK",
            b"data: {}\n\n",
            whole[:-1],
            whole[: len(whole) // 2],
            whole + whole,
            whole.replace(b"MODELMARK", b"\xff\xfe"),
            whole.decode().encode("utf-16"),
            b'{"choices": [{"message": {"content": "MODEL\nMARK"}}]}',
            b"[" * 100_000,
            b'{"choices":' * 100_000,
            b'{"choices": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
            b'{"usage": ' + b"9" * 5000 + b', "choices": []}',
        ):
            self.unreadable(body)

    def test_each_is_named(self) -> None:
        whole = json.dumps(completion()).encode()
        for body, words in (
            (b" <!DOCTYPE html><html>MODELMARK", "HTML"),
            (b'<?xml version="1.0"?>', "HTML or XML"),
            (whole[:-1], "cut short"),
            (whole[:30] + b" \n", "cut short"),
            (whole.replace(b"MODELMARK", b"\xff"), "not UTF-8"),
            (b"", "not JSON"),
            (b"data: [DONE]", "not JSON"),
            (b"[]", "not a JSON object"),
            (b'{"choices": []}', "no choices"),
        ):
            error = self.assertRaises(PossiblyBilled, read_answer, reply(body))
            self.assertIn(words, error.reason)

    def test_not_a_completion(self) -> None:
        for body in (
            None,
            [],
            {},
            "MODELMARK",
            7,
            True,
            [completion()],
            {"error": {"message": "MODELMARK"}},
            {"choices": None},
            {"choices": []},
            {"choices": {}},
            {"choices": {"0": 1}},
            {"choices": "MODELMARK"},
            {"choices": 7},
            {"choices": [None]},
            {"choices": [[]]},
            {"choices": ["MODELMARK"]},
            {"choices": [{}]},
            {"choices": [{"message": None}]},
            {"choices": [{"message": []}]},
            {"choices": [{"message": "MODELMARK"}]},
            {"choices": [{"text": "MODELMARK"}]},
            {"choices": [{"delta": {"content": "MODELMARK"}}]},
        ):
            self.unreadable(body)

    def test_nan(self) -> None:
        for body in (b"NaN", b'{"choices": NaN}', b'{"choices": [{"message": Infinity}]}'):
            self.unreadable(body)
        odd = b'{"choices": [{"message": {"content": "x"}}], "usage": {"a": NaN, "b": 1}}'
        self.assertEqual(read_answer(reply(odd)).usage, {"b": 1})
        deep = (
            b'{"choices": [{"message": {"content": "x"}}], "usage": {"a": {"b": {"c": 1}, "d": 2}}}'
        )
        self.assertEqual(read_answer(reply(deep)).usage, {"a": {"d": 2}})

    def test_content_that_is_no_text(self) -> None:
        for content in (0, 7, False, True, [], ["MODELMARK"], {}, [{"text": "MODELMARK"}], 1.5):
            self.unreadable(completion(content=content))

    def test_flaw(self) -> None:
        self.unreadable(completion(), "was cut short (the connection was lost)")
        self.unreadable(b"", "did not end in time")
        error = self.assertRaises(
            PossiblyBilled, read_answer, reply(b"", flaw="did not end in time")
        )
        self.assertIn("it did not end in time", error.reason)

    def test_lone_surrogates(self) -> None:
        for content, expected in {
            "a\ud800b": "a\ufffdb",
            "a\udc00": "a\ufffd",
            "\ud83d\ude00": "\U0001f600",
            "\ud800\ud800\udc00": "\ufffd\U00010000",
            "\ufeff\ud800": "\ufeff\ufffd",
        }.items():
            body = json.dumps(completion(content="X")).replace(
                "X", "".join(f"\\u{ord(c):04x}" for c in content), 1
            )
            answer = read_answer(reply(body.encode()))
            self.assertEqual(answer.content, expected)
            answer.content.encode("utf-8")

    def test_what_the_provider_says_of_it(self) -> None:
        for value in (None, 7, [], {}, True):
            answer = read_answer(reply({**completion(), "model": value, "usage": value}))
            self.assertIsNone(answer.model)
            self.assertIn(answer.usage, (None, {}))
        usage = {"a": 1, "b": 1.5, "c": True, "d": None, "e": {"f": 1}, "g": "1", "h": 0}
        answer = read_answer(reply({**completion(), "usage": usage}))
        self.assertEqual(answer.usage, {"a": 1, "e": {"f": 1}, "h": 0})

    def test_names_and_reasons_are_short_and_plain(self) -> None:
        for good in ("", "gpt-6-luna", "accounts/x/models/a b (c)", "模型", "x" * MOST_WORDS):
            self.assertEqual(self.told(model=good).model, good)
            self.assertEqual(self.told(finish_reason=good).finish_reason, good)
        for bad in ("x" * (MOST_WORDS + 1), "MODELMARK" * 10**5, "a\nb", "a\x00", "\ud800"):
            self.assertIsNone(self.told(model=bad).model)
            self.assertIsNone(self.told(finish_reason=bad).finish_reason)

    def test_usage_holds_counts_by_plain_names(self) -> None:
        for usage, kept in (
            ({"a": 2**63 - 1, "b": -(2**63), "c": 2**63, "d": 10**30}, {"a", "b"}),
            ({"x" * 64: 1, "x" * 65: 1, "MODELMARK " * 9: 1, "": 1, "é": 1}, {"x" * 64}),
            ({"a b": {"c": 1}, "d": {"e f": 1}}, {"d"}),
        ):
            self.assertEqual(set(self.told(usage=usage).usage or {}), kept)
        self.assertEqual(
            self.told(usage={"a": {"b c": 1, "d": 1.5, "e": 2}}).usage, {"a": {"e": 2}}
        )

    def test_usage_has_few_members(self) -> None:
        for usage in (
            {f"a{n}": n for n in range(10**4)},
            {"a": {f"a{n}": n for n in range(10**4)}, "b": 1},
            {f"a{n}": {"b": 1} for n in range(10**4)},
            {f"a{n}": {} for n in range(10**4)},
        ):
            kept = self.told(usage=usage).usage or {}
            members = len(kept) + sum(len(v) for v in kept.values() if isinstance(v, dict))
            self.assertEqual(members, MOST_COUNTS)

    def told(self, *, finish_reason: Any = "stop", **others: Any) -> Answer:
        document = {**completion(), **others}
        document["choices"][0]["finish_reason"] = finish_reason
        return read_answer(reply(document))

    def test_too_many_members(self) -> None:
        body = b'{"choices": [], "x": [' + b"{}," * MOST_MARKS + b"{}]}"
        error = self.assertRaises(PossiblyBilled, read_answer, reply(body))
        self.assertIn("too many members", error.reason)

    def test_request_id(self) -> None:
        for good in ("req_0123abc", "a-b.c:d", "x" * 100):
            self.assertEqual(read_answer(reply(completion(), x_request_id=good)).request_id, good)
        for bad in ("", "x" * 101, "a b", "a/b", "<a>", "a,b", "a;b"):
            answer = read_answer(reply(completion(), x_request_id=bad))
            self.assertIsNone(answer.request_id, bad)

    def test_answer_is_not_in_its_repr(self) -> None:
        self.assertNotIn("MODELMARK", repr(read_answer(reply(completion()))))

    @settings(deadline=None, max_examples=300)
    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(
                        [
                            "choices",
                            "message",
                            "content",
                            "refusal",
                            "finish_reason",
                            "usage",
                            "model",
                        ]
                    ),
                    inner,
                    max_size=4,
                )
            ),
            max_leaves=12,
        )
    )
    @example({"choices": [{"message": {"content": ""}, "finish_reason": {}}]})
    def test_any_json(self, body: Any) -> None:
        for document in (body, {"choices": [body]}, {"choices": [{"message": body}]}):
            try:
                answer = read_answer(reply(document))
            except (PossiblyBilled, Permanent):
                continue
            self.assertTrue(answer.content.strip())

    @settings(deadline=None)
    @given(st.binary())
    def test_any_bytes(self, body: bytes) -> None:
        self.assertRaises(PossiblyBilled, read_answer, reply(body))


class ModelTests(OpenAICase):
    def ask(self, outcome: Reply | BaseException, **settings_: Any) -> Deferred[Answer]:
        self.peer = FakePeer(outcome)
        clock = Clock()
        clock.advance(DAY)
        config = attrs.evolve(CONFIG, **settings_)
        self.assertEqual(
            sorted(name for name in vars(Client) if not name.startswith("_")),
            ["delete", "get", "options", "post", "receive", "send"],
        )
        model = OpenAIChat(self.peer, clock, config)  # type: ignore[arg-type]
        return Deferred.fromCoroutine(model.ask(PROMPT))

    def failure(self, outcome: Reply | BaseException) -> CallError:
        error = self.failureResultOf(self.ask(outcome), CallError).value
        self.assert_discreet(error)
        self.assertIsNone(error.__cause__)
        return error

    def test_answered(self) -> None:
        answer = self.successResultOf(self.ask(reply(completion())))
        self.assertEqual(answer.content, "MODELMARK")
        ((url, headers, body, timeout, most),) = self.peer.posted
        self.assertEqual(url, "https://api.openai.com/v1/chat/completions")
        self.assertEqual(
            dict(headers.getAllRawHeaders()),
            {
                b"Authorization": [b"Bearer sk-TOKENMARK"],
                b"Content-Type": [b"application/json"],
                b"Accept": [b"application/json"],
            },
        )
        self.assertEqual(body, request_body(PROMPT, CONFIG))
        self.assertEqual((timeout, most), (120.0, MOST_BYTES))

    def test_a_call_that_the_caller_changed_is_the_prompts_own_fault(self) -> None:
        for details, kind in (
            (Details(call={"model": "gone"}), Permanent),
            (Details(conversation=True), PeerFailure),
        ):
            peer = FakePeer(reply(b"", 404))
            model = OpenAIChat(peer, Clock(), CONFIG)  # type: ignore[arg-type]
            asked = Prompt("id", "[]", "source", "type", 1.0, details=details)
            self.failureResultOf(Deferred.fromCoroutine(model.ask(asked)), kind)

    def test_timeout_is_the_configured_one(self) -> None:
        self.ask(reply(completion()), openai_timeout=3.5)
        self.assertEqual(self.peer.posted[0][3], 3.5)

    def test_on_a_connection_of_its_own(self) -> None:
        peer = FakePeer(reply(completion()))
        model = OpenAIChat(peer, Clock(), CONFIG)  # type: ignore[arg-type]
        for fresh in (False, True):
            self.successResultOf(Deferred.fromCoroutine(model.ask(PROMPT, fresh=fresh)))
        self.assertEqual(peer.fresh, [False, True])

    def test_url(self) -> None:
        for base, url in {
            "http://h": "http://h/chat/completions",
            "http://h/": "http://h/chat/completions",
            "http://h:81/v1": "http://h:81/v1/chat/completions",
            "http://h/v1/": "http://h/v1/chat/completions",
            "http://h/a/b/c": "http://h/a/b/c/chat/completions",
            "http://h/a%2Fb": "http://h/a%2Fb/chat/completions",
            "http://h/v1?api-version=2": "http://h/v1/chat/completions?api-version=2",
            "http://h/v1/?api-version=2": "http://h/v1/chat/completions?api-version=2",
            "http://h/v1?next=/": "http://h/v1/chat/completions?next=/",
            "http://[::1]:8080/v1": "http://[::1]:8080/v1/chat/completions",
        }.items():
            self.ask(reply(completion()), base_url=base)
            self.assertEqual(self.peer.posted[0][0], url, base)

    def test_azure(self) -> None:
        """A deployment's URL, and the version that the query must name."""
        deployment = "https://r.example/openai/deployments/d"
        for base in (deployment, f"{deployment}/", f"{deployment}?api-version=1"):
            self.ask(reply(completion()), base_url=base, api_version="2024-10-21")
            url = self.peer.posted[0][0]
            self.assertEqual(url, f"{deployment}/chat/completions?api-version=2024-10-21")

    def test_a_rotated_key(self) -> None:
        file = Path(self.mktemp()).absolute()
        file.write_text("sk-first")
        token = Secret.of_file(file, API_KEY)
        self.ask(reply(completion()), token=token)
        file.write_text("sk-second-TOKENMARK")
        self.ask(reply(completion()), token=token)
        headers = self.peer.posted[0][1]
        self.assertEqual(headers.getRawHeaders("authorization"), ["Bearer sk-second-TOKENMARK"])

    def test_failures_carry_the_request_id(self) -> None:
        for outcome in (
            reply({}, 500, x_request_id="req_1"),
            reply({}, 401, x_request_id="req_1"),
            reply(b"", x_request_id="req_1"),
            reply(completion(content=""), x_request_id="req_1"),
        ):
            self.assertEqual(self.failure(outcome).request_id, "req_1")
        self.assertIsNone(self.failure(NoReply("x")).request_id)

    def test_not_sent(self) -> None:
        error = self.failure(NotSent("connection refused"))
        self.assertIs(type(error), Transient)
        self.assertEqual(error.reason, "the model can't be reached: connection refused")
        self.assertIsNone(error.status)

    def test_no_reply(self) -> None:
        error = self.failure(NoReply("no answer in time"))
        self.assertIs(type(error), PossiblyBilled)
        self.assertEqual(error.reason, "the model did not answer: no answer in time")
        self.assertIsNone(error.status)

    def test_refused(self) -> None:
        error = self.failure(reply({"error": {"code": "MODELMARK"}}, 401))
        self.assertIs(type(error), PeerFailure)

    def test_date_is_read_by_the_clock(self) -> None:
        error = self.failure(reply({}, 503, retry_after="Fri, 20 Nov 2026 12:00:09 GMT"))
        self.assertEqual(error.retry_after, 9.0)

    def test_unreadable(self) -> None:
        self.assertIs(type(self.failure(reply(b"MODELMARK"))), PossiblyBilled)

    def test_other_success_is_no_answer(self) -> None:
        """A 2xx that is not 200 may have been billed, and is not the prompt's fault."""
        for status in (201, 202, 204, 206):
            self.assertIs(type(self.failure(reply(b"", status))), PossiblyBilled, status)
