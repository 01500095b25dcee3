"""What is sent to the Responses API."""

import json
from typing import Any

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st

from chatgpt_source.prompt import Details
from chatgpt_source.providers.openai_responses import request_body, settings_sent, text_format
from tests.providers.common import CONFIG, PROMPT, OpenAICase
from tests.providers.openai_types import check_response_request

SCHEMA = {"name": "city", "schema": {"type": "object"}, "strict": True}


class RequestTests(OpenAICase):
    def of(self, details: Details, text: str = "Why?", **settings_: Any) -> dict[str, Any]:
        asked = attrs.evolve(PROMPT, text=text, details=details)
        body: dict[str, Any] = json.loads(request_body(asked, attrs.evolve(CONFIG, **settings_)))
        check_response_request(body)
        return body

    def body(self, **settings_: Any) -> dict[str, Any]:
        return self.of(Details(), PROMPT.text, **settings_)

    def test_plain(self) -> None:
        self.assertEqual(
            self.body(),
            {"model": "gpt-6-luna", "input": PROMPT.text, "metadata": {"prompt": "id"}},
        )

    def test_in_the_background(self) -> None:
        body = self.body(background=True)
        self.assertEqual((body["background"], body["store"]), (True, True))

    def test_parameters(self) -> None:
        body = self.body(
            system_prompt="Be brief.",
            max_tokens=700,
            temperature=0.0,
            top_p=0.5,
            reasoning_effort="low",
        )
        self.assertEqual(
            body,
            {
                "model": "gpt-6-luna",
                "input": PROMPT.text,
                "instructions": "Be brief.",
                "max_output_tokens": 700,
                "temperature": 0.0,
                "top_p": 0.5,
                "reasoning": {"effort": "low"},
                "metadata": {"prompt": "id"},
            },
        )

    def test_the_least_tokens(self) -> None:
        self.assertEqual(self.body(max_tokens=3)["max_output_tokens"], 16)
        call = {"max_completion_tokens": 1}
        self.assertEqual(self.of(Details(call=call))["max_output_tokens"], 16)

    def test_further_members(self) -> None:
        body = self.body(
            reasoning_effort="low",
            temperature=0.5,
            body={
                "temperature": 1.0,
                "service_tier": "flex",
                "reasoning": {"summary": "auto"},
                "metadata": {"team": "a"},
            },
        )
        self.assertEqual((body["temperature"], body["service_tier"]), (1.0, "flex"))
        self.assertEqual(body["reasoning"], {"effort": "low", "summary": "auto"})
        self.assertEqual(body["metadata"], {"prompt": "id", "team": "a"})

    def test_what_the_caller_set_wins(self) -> None:
        call = {
            "model": "theirs",
            "max_completion_tokens": 90,
            "temperature": 1.5,
            "reasoning_effort": "high",
            "response_format": {"type": "json_schema", "json_schema": SCHEMA},
            "system": "Rhyme.",
        }
        body = self.of(
            Details(call=call),
            system_prompt="Be brief.",
            max_tokens=5,
            temperature=0.1,
            reasoning_effort="low",
            body={"text": {"verbosity": "low"}, "reasoning": {"effort": "medium"}},
        )
        self.assertEqual(
            body,
            {
                "model": "theirs",
                "input": "Why?",
                "instructions": "Rhyme.",
                "max_output_tokens": 90,
                "temperature": 1.5,
                "reasoning": {"effort": "high"},
                "text": {"verbosity": "low", "format": {"type": "json_schema", **SCHEMA}},
                "metadata": {"prompt": "id"},
            },
        )

    def test_other_formats(self) -> None:
        for format_ in ({"type": "text"}, {"type": "json_object"}, {}, {"json_schema": {"a": 1}}):
            self.assertEqual(text_format(format_), format_.get("json_schema", format_))

    def test_a_conversation(self) -> None:
        image = {"type": "image_url", "image_url": {"url": "https://h/i.png", "detail": "low"}}
        parts = [{"type": "text", "text": "Why?"}, image]
        said = [
            {"type": "text", "text": "So,"},
            {"type": "x"},
            {"type": "text", "text": " because."},
        ]
        messages = [
            {"role": "user", "content": parts},
            {"role": "assistant", "content": said},
            {"role": "user", "content": "And?"},
        ]
        body = self.of(Details(conversation=True), json.dumps(messages), system_prompt="Be brief.")
        self.assertEqual(body["instructions"], "Be brief.")
        self.assertEqual(
            body["input"],
            [
                {
                    "type": "message",
                    "role": "user",
                    "content": [
                        {"type": "input_text", "text": "Why?"},
                        {"type": "input_image", "image_url": "https://h/i.png", "detail": "low"},
                    ],
                },
                {"type": "message", "role": "assistant", "content": "So, because."},
                {"type": "message", "role": "user", "content": "And?"},
            ],
        )

    def test_parts_that_are_sent_as_they_are(self) -> None:
        for part in (
            {"type": "input_text", "text": "x"},
            {"type": "image_url", "image_url": "https://h/i.png"},
            {"type": "file", "file": {}},
        ):
            messages = json.dumps([{"role": "user", "content": [part]}])
            asked = attrs.evolve(PROMPT, text=messages, details=Details(conversation=True))
            body = json.loads(request_body(asked, CONFIG))
            self.assertEqual(body["input"][0]["content"], [part])

    def test_a_conversation_that_instructs(self) -> None:
        for role in ("system", "developer"):
            messages = [{"role": role, "content": "a"}, {"role": "user", "content": "b"}]
            body = self.of(
                Details(conversation=True), json.dumps(messages), system_prompt="Be brief."
            )
            self.assertNotIn("instructions", body)

    def test_lone_surrogates_of_a_caller(self) -> None:
        format_ = {"type": "json_schema", "json_schema": {"name": "\ud800"}}
        asked = attrs.evolve(PROMPT, details=Details(call={"response_format": format_}))
        body = json.loads(request_body(asked, CONFIG))
        self.assertEqual(body["text"]["format"], {"type": "json_schema", "name": "\ud800"})

    def test_what_settings_set(self) -> None:
        self.assertEqual(settings_sent(CONFIG), {"model": "model"})
        config = attrs.evolve(
            CONFIG,
            max_tokens=5,
            temperature=0.0,
            reasoning_effort="low",
            response_format={"type": "json_object"},
            background=True,
            body={"service_tier": "flex"},
        )
        self.assertEqual(
            settings_sent(config),
            {
                "model": "model",
                "max_output_tokens": "max_tokens",
                "temperature": "temperature",
                "reasoning": "reasoning_effort",
                "text": "response_format",
                "background": "background",
                "store": "background",
                "service_tier": "body",
            },
        )

    @settings(deadline=None)
    @given(st.text(min_size=1))
    def test_any_text(self, text: str) -> None:
        body = request_body(attrs.evolve(PROMPT, text=text), CONFIG)
        self.assertEqual(json.loads(body)["input"], text)
