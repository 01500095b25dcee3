"""The prompt in an event, and what its answer takes from the event."""

import base64
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from chatgpt_source.http.server import Problem
from chatgpt_source.intake.event_prompt import _at
from chatgpt_source.journal import Key
from chatgpt_source.prompt import Trace
from tests.intake.common import AHEAD, NOW, ReadingCase

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
MESSAGES = [{"role": "user", "content": "hi"}]


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


class DataTests(ReadingCase):
    def text(self, **members: Any) -> str:
        return self.prompt(self.event(**members)).text

    def test_text(self) -> None:
        for content_type in (..., "text/plain", "application/json", "application/xml"):
            self.assertEqual(self.text(datacontenttype=content_type), "what is vanus")

    def test_members(self) -> None:
        for data in (
            {"prompt": "a"},
            {"message": "a", "more": [1]},
            {"prompt": None, "message": "a"},
            {"prompt": "a", "message": 5, "messages": []},
        ):
            self.assertEqual(self.text(data=data), "a")

    def test_a_conversation(self) -> None:
        for data in ({"messages": MESSAGES}, {"prompt": MESSAGES}):
            prompt = self.prompt(self.event(data=data))
            self.assertEqual((prompt.details.conversation, prompt.content), (True, MESSAGES))
        system = [{"role": "system", "content": "x"}]
        self.refused("`callers_may_set`", self.event, data={"messages": system})
        self.configure(callers_may_set=("system",))
        self.assertEqual(self.prompt(self.event(data={"messages": system})).content, system)

    def test_a_pointer(self) -> None:
        self.configure(prompt_pointer="/issue/titles/1")
        data = {"issue": {"titles": ["a", "b"]}, "prompt": "c"}
        self.assertEqual(self.text(data=data), "b")
        self.assertEqual(self.text(data={"prompt": "c"}), "c")
        self.assertEqual(self.text(data="d"), "d")
        detail = self.refused("or at `prompt_pointer`", self.event, data={"x": 1})
        self.assertIn("the event has no prompt", detail)
        data = {"issue": {"titles": ["a", 5]}}
        self.refused(r"\(what `prompt_pointer` points at\) must be text", self.event, data=data)
        self.configure(prompt_pointer="/0/messages")
        self.assertEqual(self.prompt(self.event(data=[{"messages": MESSAGES}])).content, MESSAGES)

    def test_pointers(self) -> None:
        document = {"a/b": [1, {"": 2, "~1": 3}], "0": 4, "l": [5]}
        for pointer, expected in (
            ("/a~1b/0", 1),
            ("/a~1b/1/", 2),
            ("/a~1b/1/~01", 3),
            ("/0", 4),
            ("/l/0", 5),
            ("/l/00", None),
            ("/l/1", None),
            ("/l/-", None),
            ("/l/-1", None),
            ("/l/٠", None),
            ("/l/" + "9" * 5000, None),
            ("/l/0/x", None),
            ("/x/y", None),
        ):
            self.assertEqual(_at(pointer, document), expected, pointer)

    def test_base64(self) -> None:
        for data, content_type, text in (
            (b'{"prompt": "a"}', "application/json", "a"),
            (b'"a"', "application/vnd.x+json", "a"),
            ("grüße".encode(), "text/plain", "grüße"),
            ("grüße".encode("latin-1"), "text/plain; charset=ISO-8859-1", "grüße"),
            ("grüße".encode(), "application/octet-stream", "grüße"),
            (b'{"prompt": "a"}', ..., "a"),
            (b"what is vanus", ..., "what is vanus"),
        ):
            event = {"data": ..., "data_base64": encoded(data), "datacontenttype": content_type}
            self.assertEqual(self.text(**event), text)

    def test_base64_of_no_text(self) -> None:
        for data, content_type, says in (
            (b"\x89PNG", "image/png", "must be JSON, or text"),
            (b"\xff", ..., "must be JSON, or text"),
            (b"{", "application/json", "datacontenttype says JSON, but"),
            (b"", "application/json", "datacontenttype says JSON, but"),
            (b"", "text/plain", "not blank"),
        ):
            event = {"data": ..., "data_base64": encoded(data), "datacontenttype": content_type}
            self.refused(says, self.event, **event)
        intricate = encoded(b"[" + b"0," * 40_000 + b"0]")
        self.refused("commas", self.event, data=..., data_base64=intricate, status=413)

    def test_another_charset(self) -> None:
        text, says = "grüße".encode("utf-16"), "the charset must be UTF-8"
        plain = "text/plain; charset=utf-16"
        event = {"data": ..., "data_base64": encoded(text), "datacontenttype": plain}
        self.refused(says, self.event, **event, status=415)
        binary = (f"ce-{name}: x" for name in ("id", "source", "type"))
        lines = ("ce-specversion: 1.0", *binary, f"Content-Type: {plain}")
        self.refused(says, self.root, text, *lines, status=415)

    def test_no_prompt(self) -> None:
        for data in (..., None, 5, True, 1.5, {}, [], [MESSAGES], {"text": "x"}, {"prompt": None}):
            self.refused("the event has no prompt: its data must be text", self.event, data=data)

    def test_a_prompt_that_is_none(self) -> None:
        for data, where in (
            (" ", "its data"),
            ("\ud800", "its data"),
            ({"prompt": ""}, "its data's `prompt`"),
            ({"prompt": 5}, "its data's `prompt`"),
            ({"message": {"role": "user", "content": "x"}}, "its data's `message`"),
            ({"messages": []}, "its data's `messages`"),
            ({"messages": ["x"]}, "its data's `messages`"),
        ):
            pattern = rf"^the event's prompt \({where}\) must be "
            self.refused(pattern, self.event, data=data)

    @settings(deadline=None)
    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text() | st.just(MESSAGES),
            lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.just("prompt"), inner),
        )
    )
    def test_any_data(self, data: Any) -> None:
        self.configure(prompt_pointer="/0")
        try:
            prompt = self.prompt(self.event(data=data))
        except Problem as problem:
            self.assertEqual(problem.status, 400)
        else:
            self.assertTrue(prompt.content)


class AttributesTests(ReadingCase):
    def attributes(self, **members: Any) -> dict[str, Any]:
        return dict(self.prompt(self.event(**members)).details.attributes)

    def test_cause_and_correlation(self) -> None:
        self.assertEqual(self.attributes(), {"causationid": "1", "correlationid": "1"})
        for correlation in ("", "c", 0):
            attributes = self.attributes(correlationid=correlation)
            self.assertEqual(attributes, {"causationid": "1", "correlationid": correlation})
        self.assertEqual(self.attributes(subject="s", more=True)["subject"], "s")
        self.assertNotIn("more", self.attributes(more=True))
        self.assertEqual(self.attributes(subject=None, correlationid=None)["correlationid"], "1")

    def test_copies(self) -> None:
        copies = {"replyid": "correlationid", "cause": "type", "flag": "flag", "correlationid": "x"}
        self.configure(copy_extensions=copies)
        self.assertEqual(
            self.attributes(correlationid="c", flag=False, x="mine"),
            {
                "causationid": "1",
                "correlationid": "mine",
                "replyid": "c",
                "cause": "t",
                "flag": False,
            },
        )
        self.assertEqual(
            self.attributes(), {"causationid": "1", "correlationid": "1", "cause": "t"}
        )
        self.assertEqual(self.attributes(correlationid="c")["correlationid"], "c")

    def test_its_key(self) -> None:
        submission = self.one(self.event())
        self.assertEqual(submission.key, Key(("event", "/tests", "1"), any_content=True))

    def test_its_type_is_never_the_answers(self) -> None:
        for kind in ("vanus-chatGPT-type", "x"):
            lines = ("vanus-type: x",) if kind == "x" else ()
            self.refused("broker would send the answer here again", self.event, *lines, type=kind)
        self.assertEqual(self.prompt(self.event("vanus-type: x")).type, "x")
        self.assertEqual(
            self.prompt(self.event("vanus-type: x", type="vanus-chatGPT-type")).type, "x"
        )

    def test_expiry(self) -> None:
        def expiry(time: Any) -> float | None:
            return self.prompt(self.event(expirytime=time)).expiry

        self.assertIsNone(expiry(None))
        self.assertEqual(expiry("2027-01-15T09:01:00Z"), NOW + 60)
        self.assertEqual(expiry("2027-01-15T08:00:00Z"), NOW - AHEAD)
        self.assertGreater(expiry("9999-12-31T23:59:59Z") or 0, NOW)
        for wrong in ("", "soon", 5, True):
            self.refused("'expirytime' must be an RFC 3339 time", self.event, expirytime=wrong)

    def test_trace(self) -> None:
        def trace(**members: Any) -> Trace | None:
            return self.prompt(self.event(**members)).trace

        self.assertIsNone(trace())
        self.assertEqual(trace(traceparent=PARENT), Trace(PARENT))
        self.assertEqual(trace(traceparent=PARENT, tracestate="a=1"), Trace(PARENT, "a=1"))
        for wrong in ("x", 5, "é"):
            self.assertIsNone(trace(traceparent=wrong, tracestate=5))
        self.trace = Trace(PARENT.replace("4bf", "5bf"))
        self.assertEqual(trace(traceparent=PARENT), self.trace)

    def test_the_event_is_not_shown(self) -> None:
        submission = self.one(self.event(subject="secret", data={"prompt": "secret"}))
        self.assertNotIn("secret", repr(submission))
        for members in (
            {"source": "secret secret"},
            {"time": "secret"},
            {"data": {"secret": 1}},
            {"data_base64": "secret!"},
        ):
            problem = self.assertRaises(Problem, self.event, **members)
            self.assertNotIn("secret", problem.detail)
