"""Answers in JSON: what becomes of each, and that no reason repeats one."""

import json
from typing import Any
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import SynchronousTestCase, TestCase

from chatgpt_source.errors import Permanent
from chatgpt_source.json_schema import TOO_MUCH, faults
from chatgpt_source.limited_json import MOST_DEPTH
from chatgpt_source.prompt import Answer
from chatgpt_source.providers import structured
from chatgpt_source.providers.structured import AT_ONCE, MOST_MARKS, Checks

OBJECT = {"type": "json_object"}
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


def by(schema: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}


def checked(content: str | None, form: Any, reason: str | None = None) -> Deferred[Answer]:
    answer = Answer(content, "m", reason, tool_calls=[{}])
    return Deferred.fromCoroutine(Checks(reactor).structured(answer, form))


class WithoutASchemaTests(SynchronousTestCase):
    def failed(self, words: str, content: str, reason: str | None = None) -> None:
        error = self.failureResultOf(checked(content, OBJECT, reason), Permanent).value
        self.assertIn(words, error.reason)
        self.assertNotIn("MARKED", str(error))
        self.assertIsNone(error.__cause__)
        self.assertEqual(error.status, 200)

    def test_text_stays_as_it_is(self) -> None:
        for content, form in (('{"a": 1}', None), ('{"a": 1}', {"type": "text"}), (None, OBJECT)):
            answer = self.successResultOf(checked(content, form))
            self.assertEqual(answer, Answer(content, "m", tool_calls=[{}]))

    def test_the_value(self) -> None:
        answer = self.successResultOf(checked(' {"a": [1, 2.5, null, "\u00e9"]}\n', OBJECT))
        self.assertEqual(answer, Answer({"a": [1, 2.5, None, "\u00e9"]}, "m", tool_calls=[{}]))

    def test_what_is_no_json(self) -> None:
        for content in ("MARKED", '{"MARKED": ', '```json\n{"a": 1}\n```', "{} {}"):
            self.failed("it is not JSON", content, "stop")

    def test_cut_off(self) -> None:
        self.failed("its JSON is cut off", '{"a": "MARKED', "length")

    def test_no_object(self) -> None:
        for content in ("[]", "5", '"MARKED"', "null"):
            self.failed("it is not a JSON object", content)

    def test_what_an_event_can_t_hold(self) -> None:
        for value in ("NaN", "1e999", "-Infinity", "9" * 400, '"\\ud800"'):
            self.failed("odd numbers or characters", f'{{"a": {value}}}')
        for depth in (MOST_DEPTH + 1, 10**4):
            self.failed("nested too deeply", '{"a":' * depth + "1" + "}" * depth)
        self.failed("too many members", f"[{'1,' * MOST_MARKS}1]")

    @settings(deadline=None)
    @given(st.text() | VALUES.map(json.dumps))
    def test_anything(self, content: str) -> None:
        done = checked(content, OBJECT)
        found: list[Any] = []
        done.addBoth(found.append)
        if isinstance(found[0], Answer):
            json.dumps(found[0].content, allow_nan=False, ensure_ascii=False).encode("utf-8")
        else:
            found[0].trap(Permanent)


class BySchemaTests(TestCase):
    timeout = 60

    async def test_what_fits(self) -> None:
        for content, schema in (("5", {"type": "integer"}), ("null", {}), ("{}", {"$ref": "#"})):
            answer = await checked(content, by(schema))
            self.assertEqual(answer.content, json.loads(content))

    async def test_what_does_not_fit(self) -> None:
        done = checked('{"MARKED": 1}', by({"additionalProperties": False}))
        error = await self.assertFailure(done, Permanent)
        self.assertEqual(
            error.reason,
            "the answer is not what `response_format` asks for: it does not fit its schema at"
            " /additionalProperties",
        )
        self.assertEqual(error.status, 200)

    async def test_a_schema_before_the_call(self) -> None:
        checks = Checks(reactor)
        for form in (None, OBJECT, {"type": "text"}, by({"type": "object"})):
            await checks.check_schema(form)
        done = Deferred.fromCoroutine(checks.check_schema(by({"type": "MARKED"})))
        error = await self.assertFailure(done, Permanent)
        self.assertIn("its schema is not valid at /type", error.reason)
        self.assertIsNone(error.status)

    async def test_those_that_wait_share_a_process(self) -> None:
        batches: list[int] = []

        def noted(questions: Any) -> list[str]:
            batches.append(len(questions))
            return faults(questions)

        self.patch(structured, "faults", noted)
        checks, form = Checks(reactor), by({"type": "integer"})
        asked = [Answer(str(number)) for number in range(AT_ONCE + 4)]
        done = await gatherResults(
            Deferred.fromCoroutine(checks.structured(each, form)) for each in asked
        )
        self.assertEqual([each.content for each in done], list(range(AT_ONCE + 4)))
        self.assertEqual(batches, [1, AT_ONCE, 3])

    async def test_one_that_takes_too_much_delays_the_others_only(self) -> None:
        checks = Checks(reactor)

        async def outcome(content: str) -> Any:
            try:
                return (await checks.structured(Answer(content), by({}))).content
            except Permanent as error:
                return error.reason

        def limited(questions: Any) -> list[str]:
            """As `faults`, where the check of the value 0 takes too much."""
            values = [value for _, value in questions]
            return [""] * values.index(0) + [TOO_MUCH] if 0 in values else [""] * len(values)

        with patch.object(structured, "faults", limited):
            done = await gatherResults(Deferred.fromCoroutine(outcome(each)) for each in "1023")
        self.assertEqual([done[0], *done[2:]], [1, 2, 3])
        self.assertIn(TOO_MUCH, done[1])

    async def test_who_gives_up_delays_nobody(self) -> None:
        checks = Checks(reactor)
        given_up = Deferred.fromCoroutine(checks.structured(Answer("1"), by({})))
        after = Deferred.fromCoroutine(checks.structured(Answer("2"), by({})))
        given_up.addErrback(lambda _: None)
        given_up.cancel()
        self.assertEqual((await after).content, 2)
