"""Asks a model by OpenAI's chat API (`POST /chat/completions`)."""

import json

from twisted.internet.interfaces import IReactorTime

from chatgpt_source.config import Config
from chatgpt_source.http.client import Client
from chatgpt_source.prompt import Answer, Prompt
from chatgpt_source.providers.completion import read_answer
from chatgpt_source.providers.openai import MOST_TOKENS, ON_FLEX, OpenAI, instructions, parameters


class OpenAIChat(OpenAI):
    """Asks by the chat API, whose calls have no ids."""

    def __init__(self, client: Client, clock: IReactorTime, config: Config) -> None:
        super().__init__(client, clock, config)
        self._url = self._base.child("chat", "completions")
        self._settings_sent = settings_sent(config)

    async def ask(self, prompt: Prompt, *, fresh: bool = False, flex: bool = False) -> Answer:
        """Ask once, on a new connection if `fresh`, and on the flex tier if `flex`.

        Raises:
            CallError: Its subclass says what to do with the prompt.
        """
        body = request_body(prompt, self._config, flex=flex)
        return await self._ask(
            self._url, prompt, body, read_answer, self._settings_sent, fresh=fresh, flex=flex
        )


def request_body(prompt: Prompt, config: Config, *, flex: bool = False) -> bytes:
    """The JSON of a chat completion request; the caller's members replace those of the settings."""
    content, call = prompt.content, dict(prompt.details.call)
    messages = content if prompt.details.conversation else [{"role": "user", "content": content}]
    system = instructions(prompt, messages, config)
    call.pop("system", None)
    if system is not None:
        messages.insert(0, {"role": "system", "content": system})
    if "max_tokens" in config.body and MOST_TOKENS in call:  # the server knows the old name only
        call["max_tokens"] = call.pop(MOST_TOKENS)
    own = parameters(config)
    body = {"model": own.pop("model"), "messages": messages, **own, **config.body}
    if flex:
        body |= ON_FLEX
    # A caller's JSON may hold lone surrogates, which UTF-8 can't encode.
    return json.dumps({**body, **call}, ensure_ascii=bool(call)).encode("utf-8")


def settings_sent(config: Config) -> dict[str, str]:
    """The settings that set members of a request, by member; `error.param` may name one."""
    # Some servers use the old name of `max_completion_tokens` in errors.
    own = {MOST_TOKENS: "max_tokens", "max_tokens": "max_tokens"}
    return {
        **{name: own.get(name, name) for name in parameters(config)},
        **(own if config.max_tokens is not None else {}),
        **dict.fromkeys(config.body, "body"),
    }
