"""Texts, conversations and objects for the model."""

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.config.readers import Wrong
from chatgpt_source.intake.conversation import MOST_DEPTH, read_messages, read_object, read_text

USER = {"role": "user", "content": "hi"}


def nested(depth: int) -> Any:
    return json.loads('{"a":' * depth + "1" + "}" * depth)


class ConversationTests(SynchronousTestCase):
    def wrong(self, pattern: str, read: Any, *args: Any, **more: Any) -> None:
        self.assertRegex(str(self.assertRaises(Wrong, read, *args, **more)), pattern)

    def test_text(self) -> None:
        self.assertEqual(read_text(" grüße\0 "), " grüße\0 ")
        for value in ("", " \n\u2003", 5, None, ["a"], {}):
            self.wrong("not blank", read_text, value)
        self.wrong("lone surrogates", read_text, "a\ud800")

    def test_objects(self) -> None:
        for value in ({}, {"a": [1, None, {"b": 1.5}]}, nested(MOST_DEPTH)):
            self.assertEqual(read_object(value), value)
        for value in ([], "x", 1):
            self.wrong("^an object$", read_object, value)
        for value in (nested(MOST_DEPTH + 1), {"a": json.loads("[" * 900 + "]" * 900)}):
            self.wrong("at most 50 deep", read_object, value)
        for value in ({"a": "\ud800"}, {"\ud800": 1}):
            self.wrong("lone surrogates", read_object, value)

    def test_messages_are_passed_on_as_they_are(self) -> None:
        parts = [{"type": "text", "text": ""}, {"type": "image_url", "image_url": {"url": "x"}}]
        messages = [
            {"role": "system", "content": "be brief"},
            {"role": "developer", "content": "be kind"},
            USER,
            {"role": "assistant", "content": "grüße"},
            {"role": "user", "content": parts},
        ]
        text = read_messages(messages, system=True)
        self.assertEqual(json.loads(text), messages)
        self.assertIn("grüße", text)

    def test_wrong_messages(self) -> None:
        for value in ("x", {}, [], 5):
            self.wrong("^a list of messages, each with", read_messages, value, system=True)
        for message, says in (
            ("x", "have `role` and `content`, and"),
            ({"role": "user"}, "have `role` and `content`, and"),
            ({**USER, "name": "x"}, "nothing else"),
            ({**USER, "role": "tool"}, "one of the roles"),
            ({**USER, "role": ["user"]}, "one of the roles"),
            ({**USER, "role": {}}, "one of the roles"),
            ({**USER, "content": " "}, "not blank"),
            ({**USER, "content": None}, "content that is text, or"),
            ({**USER, "content": []}, "content that is text, or"),
            ({**USER, "content": ["x"]}, "content that is text, or"),
            ({**USER, "content": [{"type": 1}]}, "content that is text, or"),
        ):
            self.wrong(f"message no. 2 must .*{says}", read_messages, [USER, message], system=True)
        deep = {"role": "user", "content": [{"type": "x", "x": nested(MOST_DEPTH)}]}
        self.wrong("at most 50 deep", read_messages, [deep], system=True)
        lone = {"role": "user", "content": "\ud800"}
        self.wrong("lone surrogates", read_messages, [lone], system=True)

    def test_instructions_only_where_callers_may_give_them(self) -> None:
        for role in ("system", "developer"):
            message = {"role": role, "content": "x"}
            self.wrong("`callers_may_set`", read_messages, [message, USER], system=False)
        self.assertTrue(read_messages([USER], system=False))
