"""The values that travel."""

from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.errors import Permanent, PossiblyBilled, Transient
from chatgpt_source.prompt import Answer, Ask, Delivery, Prompt


class ReprTests(SynchronousTestCase):
    def test_values_hide_what_somebody_wrote(self) -> None:
        prompt = Prompt("id-1", "a secret", "s-secret", "t-secret", 12.0)
        ask, delivery = Ask(prompt, 1, 1, 0), Delivery("1", b"secret", 0, 1, 0)
        for value in (prompt, Answer("a secret", tool_calls=["secret"]), ask, delivery):
            self.assertNotIn("secret", repr(value))
        self.assertIn("id-1", repr(prompt))


class AnswerTests(SynchronousTestCase):
    def test_text(self) -> None:
        calls = [{"id": "1"}]
        for answer, text in (
            (Answer("a text"), "a text"),
            (Answer({"a": "\u00e9"}), '{"a": "\u00e9"}'),
            (Answer(None), "null"),
            (Answer(0), "0"),
            (Answer(None, tool_calls=calls), '[{"id": "1"}]'),
            (Answer("a text", tool_calls=calls), "a text"),
            (Answer({}, tool_calls=calls), "{}"),
        ):
            self.assertEqual(answer.text, text)


class CallErrorTests(SynchronousTestCase):
    def test_the_reason_is_the_text(self) -> None:
        self.assertEqual(str(Permanent("why", status=400)), "why")

    def test_throttled(self) -> None:
        self.assertTrue(Transient("why", status=429).throttled)
        self.assertFalse(Transient("why", status=503).throttled)

    def test_maybe_billed_is_tried_again(self) -> None:
        self.assertIsInstance(PossiblyBilled("why"), Transient)
