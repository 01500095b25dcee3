"""Asks a model by OpenAI's Responses API (`POST /responses`)."""

import json
from collections.abc import Mapping
from typing import Any

from twisted.internet.interfaces import IReactorTime

from chatgpt_source.config import Config
from chatgpt_source.http.client import Client
from chatgpt_source.prompt import Answer, Prompt, Submitted
from chatgpt_source.providers.openai import MOST_TOKENS, ON_FLEX, OpenAI, instructions, parameters
from chatgpt_source.providers.response import read_kept, read_response

LEAST_TOKENS = 16
"""The least that `max_output_tokens` may be."""
_SETTINGS = {
    "max_output_tokens": "max_tokens",
    "reasoning": "reasoning_effort",
    "text": "response_format",
}
"""Members of a request that settings of other names set."""


class OpenAIResponses(OpenAI):
    """Asks by the Responses API; in the background, if the settings say so."""

    def __init__(self, client: Client, clock: IReactorTime, config: Config) -> None:
        super().__init__(client, clock, config)
        self._url = self._base.child("responses")
        self._settings_sent = settings_sent(config)

    async def ask(
        self, prompt: Prompt, *, fresh: bool = False, flex: bool = False
    ) -> Answer | Submitted:
        """Ask once, on a new connection if `fresh`, and on the flex tier if `flex`.

        Raises:
            CallError: Its subclass says what to do with the prompt.
        """
        body = request_body(prompt, self._config, flex=flex)
        read = read_kept if self._config.background else read_response
        return await self._ask(
            self._url, prompt, body, read, self._settings_sent, fresh=fresh, flex=flex
        )


def request_body(prompt: Prompt, config: Config, *, flex: bool = False) -> bytes:
    """The JSON of a request; the caller's members replace those of the settings."""
    content, call = prompt.content, prompt.details.call
    messages = content if prompt.details.conversation else []
    own = {
        "input": [_message(each) for each in messages] or content,
        "metadata": {"prompt": prompt.id},
    }
    system = instructions(prompt, messages, config)
    if system is not None:
        own["instructions"] = system
    if config.background:
        own |= {"background": True, "store": True}
    body = _merged(_members(parameters(config)), own, config.body, _members(call))
    if flex:
        body |= ON_FLEX
    # A caller's JSON may hold lone surrogates, which UTF-8 can't encode.
    return json.dumps(body, ensure_ascii=bool(call)).encode("utf-8")


def settings_sent(config: Config) -> dict[str, str]:
    """The settings that set members of a request, by member; `error.param` may name one."""
    sent = dict.fromkeys(("background", "store"), "background") if config.background else {}
    return {
        **{name: _SETTINGS.get(name, name) for name in _members(parameters(config))},
        **sent,
        **dict.fromkeys(config.body, "body"),
    }


def text_format(response_format: Mapping[str, Any]) -> dict[str, Any]:
    """A chat request's `response_format` as a `text.format`: the schema's members are its own."""
    own = dict(response_format)
    schema = own.pop("json_schema", None)
    return {**schema, **own} if isinstance(schema, dict) else own


def _members(chat: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a chat request as members of a request."""
    members = {name: chat[name] for name in ("model", "temperature", "top_p") if name in chat}
    if MOST_TOKENS in chat:
        members["max_output_tokens"] = max(LEAST_TOKENS, chat[MOST_TOKENS])
    if "reasoning_effort" in chat:
        members["reasoning"] = {"effort": chat["reasoning_effort"]}
    if "response_format" in chat:
        members["text"] = {"format": text_format(chat["response_format"])}
    return members


def _merged(*bodies: Mapping[str, Any]) -> dict[str, Any]:
    """The members of all; of two objects with the same name, the members of both."""
    merged: dict[str, Any] = {}
    for body in bodies:
        for name, value in body.items():
            had = merged.get(name)
            if isinstance(had, dict) and isinstance(value, dict):
                merged[name] = {**had, **value}
            else:
                merged[name] = value
    return merged


def _message(chat: Mapping[str, Any]) -> dict[str, Any]:
    """A message of a conversation; the types of its parts have other names than in the chat API."""
    content = chat["content"]
    if isinstance(content, list) and chat["role"] == "assistant":
        texts = [part.get("text") for part in content]
        content = "".join(text for text in texts if isinstance(text, str))
    elif isinstance(content, list):
        content = [_part(part) for part in content]
    # llama.cpp's server needs the type
    return {**chat, "type": "message", "content": content}


def _part(part: Mapping[str, Any]) -> Mapping[str, Any]:
    if part["type"] == "text":
        return {**part, "type": "input_text"}
    image = part.get("image_url")
    if part["type"] == "image_url" and isinstance(image, dict):
        detail = image.get("detail", "auto")
        return {"type": "input_image", "image_url": image.get("url"), "detail": detail}
    return part
