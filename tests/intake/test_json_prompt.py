"""Prompts in JSON: each member, and a line for each mistake."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from chatgpt_source.config import CALLERS_MEMBERS, TargetSettings
from chatgpt_source.http.server import Problem
from chatgpt_source.intake.json_prompt import read_members
from chatgpt_source.prompt import PLAIN, Details
from tests.intake.common import NOW, ReadingCase

MESSAGES = [{"role": "user", "content": "hi"}]
NO_SCHEMAS = [
    {"type": "json_schema", "json_schema": given}
    for given in (None, 5, {"name": "n"}, {"name": "n", "schema": True}, {"schema": {}})
]
CALL = {
    "model": "m",
    "max_tokens": 5,
    "temperature": 0.5,
    "reasoning_effort": "low",
    "response_format": {"type": "json_object"},
    "system": "be brief",
}


class MembersTests(ReadingCase):
    def test_a_prompt(self) -> None:
        prompt = self.prompt(self.json({"prompt": "grüße"}))
        self.assertEqual((prompt.text, prompt.details), ("grüße", PLAIN))
        self.assertEqual(
            (prompt.source, prompt.type), ("vanus-chatGPT-source", "vanus-chatGPT-type")
        )
        self.assertEqual(
            (prompt.target, prompt.not_before, prompt.deadline), ("target", None, None)
        )

    def test_a_repr_shows_nothing_that_was_written(self) -> None:
        members = {"prompt": "secret", "source": "/secret", "metadata": {"a": "secret"}}
        written = read_members(members, {}, self.config, self.clock)
        self.assertNotIn("secret", repr(written))

    def test_a_conversation(self) -> None:
        prompt = self.prompt(self.json({"messages": MESSAGES}))
        self.assertEqual(prompt.content, MESSAGES)
        self.assertEqual(prompt.details, Details(conversation=True))

    def test_all_members(self) -> None:
        self.configure(
            targets={"billing": TargetSettings("http://b")}, callers_may_set=CALLERS_MEMBERS
        )
        document = {
            "prompt": "x",
            "source": "/my/app",
            "type": "com.example",
            "subject": "s",
            "target": "billing",
            "metadata": {"order": [1, {"a": None}]},
            "not_before": "1m",
            "deadline": "2m",
            **CALL,
        }
        prompt = self.prompt(self.json(document))
        self.assertEqual((prompt.source, prompt.type), ("/my/app", "com.example"))
        self.assertEqual(prompt.target, "billing")
        self.assertEqual((prompt.not_before, prompt.deadline), (NOW + 60, NOW + 120))
        call = {**CALL, "max_completion_tokens": 5}
        del call["max_tokens"]
        self.assertEqual(
            prompt.details,
            Details(call=call, attributes={"subject": "s"}, metadata={"order": [1, {"a": None}]}),
        )
        self.assertEqual(Details.from_json(prompt.details.to_json()), prompt.details)

    def test_null_is_as_good_as_absent(self) -> None:
        document = dict.fromkeys(("messages", "source", "metadata", "model", "unknown"))
        self.assertEqual(self.prompt(self.json({"prompt": "x", **document})).details, PLAIN)

    def test_an_empty_object_is_metadata(self) -> None:
        self.assertEqual(
            self.prompt(self.json({"prompt": "x", "metadata": {}})).details.metadata, {}
        )

    def test_what_callers_may_set(self) -> None:
        self.configure(callers_may_set=("model",))
        self.assertEqual(
            self.prompt(self.json({"prompt": "x", "model": "m"})).details.call, {"model": "m"}
        )
        detail = self.refused(".", self.json, {"prompt": "x", **CALL})
        self.assertEqual(
            detail.splitlines(),
            [
                f"`{name}` must be left out: `callers_may_set` does not list it"
                for name in CALLERS_MEMBERS[1:]
            ],
        )
        system = [{"role": "system", "content": "x"}]
        self.refused("`messages` must be .*`callers_may_set`", self.json, {"messages": system})

    def test_each_mistake_has_its_line(self) -> None:
        self.configure(callers_may_set=CALLERS_MEMBERS)
        for name, expected, values in (
            ("prompt", "text that is not blank", ("", " ", 5, [], {})),
            ("messages", "a list of messages", ("x", [], {}, ["x"])),
            ("source", "a URI-reference", ("not a uri", "%zz")),
            ("source", "text", ("", 5, "x" * 2000)),
            ("type", "text", ("", 5, "a\x01", "\ud800")),
            ("subject", "text", ("", 5, "a\n", "\ud800", "x" * 2000)),
            ("target", "left out", ("billing", "none", "target")),
            ("metadata", "an object", ("x", [], 5, {"a": "\ud800"})),
            ("deadline", "a duration like", ("soon", "5")),
            ("deadline", "a time in the future", ("0s",)),
            ("deadline", "text: a duration like 90s", (5, 3600, 1.5, True, [])),
            ("not_before", "text: a duration like 90s", (60,)),
            ("not_before", "a duration like", ("soon",)),
            ("model", "text", ("", 5, "x" * 2000)),
            ("max_tokens", "a positive whole number", (0, -1, 1.5, "5", True, 10**10, 10**300)),
            ("temperature", "a number from 0 to 2", (-1, 2.1, "1", True)),
            ("reasoning_effort", "a word", ("", "a b", 5, "é", "x" * 201)),
            ("response_format", "an object", ("json", [], {}, {"type": "grammar"}, *NO_SCHEMAS)),
            ("system", "text that is not blank", ("", 5)),
        ):
            for value in values:
                document = {"prompt": "x", name: value}
                if name == "messages":
                    del document["prompt"]
                self.assertNotIn(
                    "\n", self.refused(f"^`{name}` must be {expected}", self.json, document)
                )

    def test_all_mistakes_at_once(self) -> None:
        document = {"messages": MESSAGES, "prompt": 5, "type": "", "secret\n": 1, "more": 2}
        detail = self.refused(".", self.json, document)
        lines = detail.splitlines()
        self.assertEqual(len(lines), 4)
        self.assertTrue(lines[0].startswith("`prompt` must be"))
        self.assertTrue(lines[1].startswith("`type` must be"))
        self.assertEqual(lines[2], "there must be `prompt` or `messages`, and not both")
        self.assertTrue(
            lines[3].startswith(r"unknown members (2): 'secret\n', 'more'; known: prompt")
        )

    def test_many_unknown_members_are_not_all_named(self) -> None:
        document = {"prompt": "x", **{f"{number}{'x' * 1000}": 1 for number in range(1000)}}
        detail = self.refused(r"unknown members \(1000\)", self.json, document)
        self.assertLess(len(detail), 2000)

    def test_no_prompt(self) -> None:
        for document in ({}, {"prompt": None}, {"type": "x"}):
            self.refused("there must be `prompt` or `messages`", self.json, document)
        for other in ([], "x", 5, None):
            self.refused("must be a JSON object", self.json, other if other is None else [other])

    def test_not_before_the_deadline(self) -> None:
        line = "`not_before` must be before the deadline"
        for document in (
            {"not_before": "2m", "deadline": "1m"},
            {"not_before": "1m", "deadline": "60s"},
        ):
            self.refused(line, self.json, {"prompt": "x", **document})
        lines = ("Content-Type: application/json", "vanus-deadline: 1m")
        self.refused(line, self.json, {"prompt": "x", "not_before": "2m"}, *lines)

    def test_not_before_a_time_that_has_passed(self) -> None:
        prompt = self.prompt(self.json({"prompt": "x", "not_before": "2020-01-01T00:00:00Z"}))
        self.assertLess(prompt.not_before or 0, NOW)

    def test_the_default_deadline(self) -> None:
        self.configure(deadline=60.0)
        self.assertEqual(self.prompt(self.json({"prompt": "x"})).deadline, NOW + 60)
        later = self.json({"prompt": "x", "not_before": "1h"})
        self.assertEqual(self.prompt(later).deadline, NOW + 3660)
        before = self.json({"prompt": "x", "not_before": "2020-01-01T00:00:00Z"})
        self.assertEqual(self.prompt(before).deadline, NOW + 60)
        self.assertEqual(
            self.prompt(self.json({"prompt": "x", "deadline": "7d"})).deadline, NOW + 604800
        )

    def test_a_member_wins_over_its_header(self) -> None:
        self.configure(targets={name: TargetSettings("http://t") for name in ("a", "b")})
        lines = (
            "Content-Type: application/json; charset=utf-8",
            "vanus-source: /header",
            "vanus-type: header",
            "vanus-target: a",
            "vanus-deadline: 1h",
        )
        prompt = self.prompt(self.json({"prompt": "x"}, *lines))
        self.assertEqual((prompt.source, prompt.type), ("/header", "header"))
        self.assertEqual((prompt.target, prompt.deadline), ("a", NOW + 3600))
        members = {"source": "/member", "type": "member", "target": "b", "deadline": "1m"}
        prompt = self.prompt(self.json({"prompt": "x", **members}, *lines))
        self.assertEqual((prompt.source, prompt.type), ("/member", "member"))
        self.assertEqual((prompt.target, prompt.deadline), ("b", NOW + 60))
        members = dict.fromkeys(members)
        self.assertEqual(self.prompt(self.json({"prompt": "x", **members}, *lines)).target, "a")

    @settings(deadline=None)
    @given(
        st.dictionaries(
            st.sampled_from(["prompt", "messages", "metadata", "subject", "deadline", *CALL]),
            st.recursive(
                st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
                lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
            ),
        )
    )
    def test_any_document(self, document: Any) -> None:
        self.configure(callers_may_set=CALLERS_MEMBERS)
        try:
            prompt = self.prompt(self.json(document))
        except Problem as problem:
            self.assertEqual(problem.status, 400)
        else:
            self.assertEqual(Details.from_json(prompt.details.to_json()), prompt.details)
