"""How strictly a response of the Responses API is read."""

from typing import Any
from uuid import UUID

from hypothesis import example, given, settings
from hypothesis import strategies as st

from chatgpt_source.errors import CallError, Lost, Permanent, PossiblyBilled
from chatgpt_source.prompt import Answer, Submitted
from chatgpt_source.providers.response import read_response
from tests.providers.common import OpenAICase, reply

OURS, OTHERS = str(UUID(int=1)), str(UUID(int=2))


def said(*parts: Any, **message: Any) -> dict[str, Any]:
    """A message of an output."""
    return {"type": "message", "role": "assistant", "content": list(parts), **message}


def text(content: Any) -> dict[str, Any]:
    return {"type": "output_text", "text": content, "annotations": []}


def response(**changes: Any) -> dict[str, Any]:
    """A whole response, with changes."""
    return {
        "id": "resp_1",
        "object": "response",
        "status": "completed",
        "model": "gpt-6-luna-2026-08-01",
        "error": None,
        "incomplete_details": None,
        "output": [{"type": "reasoning", "summary": []}, said(text("MODELMARK"))],
        "usage": {
            "input_tokens": 3,
            "output_tokens": 5,
            "output_tokens_details": {"reasoning_tokens": 2},
        },
        **changes,
    }


def incomplete(reason: Any, **changes: Any) -> dict[str, Any]:
    return response(status="incomplete", incomplete_details={"reason": reason}, **changes)


class ReadResponseTests(OpenAICase):
    def failure(self, kind: type[CallError], body: Any, words: str = "", status: int = 200) -> None:
        error = self.assertRaises(CallError, read_response, reply(body))
        self.assertIs(type(error), kind, body)
        self.assertIn(words, error.reason)
        self.assertEqual(error.status, status)
        self.assert_discreet(error)

    def unreadable(self, body: Any, words: str = "") -> None:
        self.failure(PossiblyBilled, body, f"the model's answer can't be read: {words}")

    def test_of_another_prompt(self) -> None:
        """A proxy may mix them up; `body` may set the metadata."""
        for metadata in (None, {}, {"prompt": OURS}, {"prompt": "v2"}, {"prompt": 7}):
            read = read_response(reply(response(metadata=metadata)), OURS)
            self.assertIsInstance(read, Answer)
        with self.assertRaisesRegex(PossiblyBilled, "it is of another prompt"):
            read_response(reply(response(metadata={"prompt": OTHERS})), OURS)

    def test_whole(self) -> None:
        self.assertEqual(
            read_response(reply(response(), x_request_id="req_1")),
            Answer(
                "MODELMARK",
                "gpt-6-luna-2026-08-01",
                "stop",
                "req_1",
                {
                    "input_tokens": 3,
                    "output_tokens": 5,
                    "output_tokens_details": {"reasoning_tokens": 2},
                },
            ),
        )

    def test_least(self) -> None:
        """What a frugal compatible server sends."""
        part = {"type": "output_text", "text": "yes"}
        body = {"status": "completed", "output": [{"type": "message", "content": [part]}]}
        self.assertEqual(read_response(reply(body)), Answer("yes", finish_reason="stop"))

    def test_all_parts_of_all_messages(self) -> None:
        other = {"type": "function_call", "name": "MODELMARK"}
        output = [said(text("a"), text("")), other, said(), said(text(" b\n"), phase=None)]
        answer = read_response(reply(response(output=output)))
        assert isinstance(answer, Answer)
        self.assertEqual(answer.content, "a b\n")

    def test_tool_calls(self) -> None:
        call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
        expected = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
        for output, content in (([call], None), ([said(text(" ")), call], None)):
            answer = read_response(reply(response(output=output)))
            assert isinstance(answer, Answer)
            self.assertEqual((answer.content, answer.tool_calls), (content, [expected]))
            self.assertEqual(answer.finish_reason, "tool_calls")
        answer = read_response(reply(incomplete("max_output_tokens", output=[call])))
        assert isinstance(answer, Answer)
        self.assertEqual(answer.finish_reason, "length")
        self.unreadable(response(output=[{**call, "name": "\ud800"}]), "its content is not text")

    def test_what_it_says_on_the_way_is_no_answer(self) -> None:
        way = said(text("Let me see."), phase="commentary")
        end = said(text("Yes."), phase="final_answer")
        answer = read_response(reply(response(output=[way, end])))
        assert isinstance(answer, Answer)
        self.assertEqual(answer.content, "Yes.")

    def test_lone_surrogates(self) -> None:
        answer = read_response(reply(response(output=[said(text("a\ud800"))])))
        assert isinstance(answer, Answer)
        self.assertEqual(answer.content, "a\ufffd")

    def test_under_way(self) -> None:
        for status in ("queued", "in_progress"):
            body = response(status=status, output=[], usage=None)
            self.assertEqual(read_response(reply(body)), Submitted("resp_1"))

    def test_ids(self) -> None:
        for good in ("resp_68a", "a-B_9", "x" * 200):
            found = read_response(reply(response(status="queued", id=good)))
            self.assertEqual(found, Submitted(good))
        for bad in ("", "x" * 201, "a/b", "a b", "..", "a\n", "\u00e9", None, 7, [], {}):
            self.unreadable(response(status="queued", id=bad), "it has no id")

    def test_statuses_that_there_are_not(self) -> None:
        for status in (None, "", "COMPLETED", "MODELMARK", 7, [], {}, ["queued"]):
            self.unreadable(response(status=status), "it has no status")
        self.unreadable({"choices": []}, "it has no status")

    def test_cut_by_length_is_an_answer(self) -> None:
        answer = read_response(reply(incomplete("max_output_tokens")))
        assert isinstance(answer, Answer)
        self.assertEqual((answer.content, answer.finish_reason), ("MODELMARK", "length"))

    def test_cut_before_it_says_anything(self) -> None:
        for output in ([], [{"type": "reasoning"}], [said()], [said(text(" "))]):
            words = "the answer is empty (finish_reason length)"
            self.failure(Permanent, incomplete("max_output_tokens", output=output), words)

    def test_cut_for_another_reason(self) -> None:
        for reason, told in (("steered", "steered"), (None, None), ([], None), ("x" * 201, None)):
            answer = read_response(reply(incomplete(reason)))
            assert isinstance(answer, Answer)
            self.assertEqual(answer.finish_reason, told)
        for details in (None, [], "MODELMARK"):
            read_response(reply(response(status="incomplete", incomplete_details=details)))
        self.failure(Permanent, incomplete("MODELMARK", output=[]), "(finish_reason unknown)")

    def test_content_filter(self) -> None:
        self.failure(Permanent, incomplete("content_filter"), "content filter")

    def test_refused(self) -> None:
        refusal = {"type": "refusal", "refusal": "MODELMARK"}
        for parts in ([refusal], [text("MODELMARK"), refusal]):
            self.failure(Permanent, response(output=[said(*parts)]), "the model refused")

    def test_empty(self) -> None:
        for output in ([], [said()], [said(text(""))], [{"type": "function_call"}]):
            self.failure(Permanent, response(output=output), "(finish_reason stop)")

    def test_given_up(self) -> None:
        self.failure(Lost, response(status="cancelled"), "cancelled")
        for code, status in (
            ("server_error", 500),
            ("rate_limit_exceeded", 429),
            ("insufficient_quota", 429),
        ):
            for error in ({"code": code}, {"code": None, "type": code}, {"code": code, "type": 7}):
                body = response(status="failed", error={"message": "MODELMARK", **error})
                self.failure(Lost, body, f"the model failed ({code})", status)
        account = response(status="failed", error={"code": "insufficient_quota"})
        self.failure(Lost, account, "check the account's balance", 429)

    def test_the_prompts_own_failure(self) -> None:
        body = response(status="failed", error={"code": "invalid_prompt", "message": "MODELMARK"})
        self.failure(Permanent, body, "the model failed (invalid_prompt)")
        for error in (
            None,
            [],
            "MODELMARK",
            {},
            {"code": "MODELMARK"},
            {"code": 7},
            {"code": "a b"},
        ):
            body = response(status="failed", error=error)
            self.failure(Permanent, body, "the model failed (no code)")

    def test_outputs_that_there_are_not(self) -> None:
        for output in (
            None,
            7,
            "MODELMARK",
            {"a": 1},
            [7],
            [{}],
            [said(7)],
            [said({})],
            [said({"type": "output_text"})],
            [{"type": "message"}],
            [{"type": "message", "content": None}],
            [said(text(None))],
            [said(text(7))],
            [said(text(["MODELMARK"]))],
        ):
            self.unreadable(response(output=output))
        body = response()
        del body["output"]
        self.unreadable(body)

    def test_no_object(self) -> None:
        for body in (b"", b"[]", b"null", b"<html>MODELMARK", b'{"status": "completed"', b"\xff"):
            self.unreadable(body)

    @settings(deadline=None, max_examples=300)
    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=3),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(["type", "content", "text", "code", "reason", "phase"]),
                    inner | st.sampled_from(["message", "output_text", "refusal"]),
                    max_size=4,
                )
            ),
            max_leaves=12,
        ),
        st.sampled_from(["queued", "completed", "incomplete", "failed", "cancelled", ""]),
    )
    @example([{"type": "message", "content": {"type": 1}}], "completed")
    def test_any_json(self, value: Any, status: str) -> None:
        for name in ("id", "output", "error", "incomplete_details", "usage", "model"):
            try:
                found = read_response(reply(response(status=status, **{name: value})))
            except (Lost, PossiblyBilled, Permanent):
                continue
            self.assertTrue(isinstance(found, Submitted) or found.content.strip())

    @settings(deadline=None)
    @given(st.binary())
    def test_any_bytes(self, body: bytes) -> None:
        self.assertRaises(PossiblyBilled, read_response, reply(body))
