"""The providers of language models: one module for each API."""

from typing import Protocol

from twisted.internet.interfaces import IReactorTime

from chatgpt_source.config import Config
from chatgpt_source.http.client import Client
from chatgpt_source.prompt import Answer, Prompt, Submitted
from chatgpt_source.providers.openai_chat import OpenAIChat
from chatgpt_source.providers.openai_responses import OpenAIResponses


class Provider(Protocol):
    """Makes calls to a language model. Each method makes one, and raises CallError."""

    async def ask(
        self, prompt: Prompt, *, fresh: bool = False, flex: bool = False
    ) -> Answer | Submitted:
        """Ask, on a new connection if `fresh`, and on the flex tier if `flex`."""

    async def look_up(self, submitted: str, prompt: Prompt) -> Answer | None:
        """Look for the answer to a submitted prompt; None: there is none yet.

        Raises:
            Gone: If the provider has no such id.
            Lost: If it has given up the prompt.
            CallError: If the prompt can't succeed, or this call failed.
        """

    async def cancel(self, submitted: str) -> None:
        """Let the provider stop its work on a submitted prompt."""

    async def forget(self, submitted: str) -> None:
        """Let the provider delete what it keeps under an id."""

    async def try_key(self) -> str:
        """See that the provider takes the key, without a prompt; what came of it, in words."""

    async def doubts(self) -> str | None:
        """A warning about the settings from the provider; None if there is none."""


def provider_of(config: Config, client: Client, clock: IReactorTime) -> Provider:
    """The provider that the settings choose."""
    api = OpenAIResponses if config.api == "responses" else OpenAIChat
    return api(client, clock, config)
