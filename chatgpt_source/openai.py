"""The chat call: a prompt to the model, its answer back (OpenAI's `POST /chat/completions`)."""

import json
import re
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.web.http_headers import Headers

from chatgpt_source.client import Client, FixedURL, NoReply, NotSent, Reply
from chatgpt_source.config import Config
from chatgpt_source.prompt import Again, Answer, CallError, MaybeBilled, Prompt, Rejected
from chatgpt_source.retry import model_error, retry_after

MOST_BYTES = 2 * 2**20
"""An answer's size at the most; the longest a model writes today is a fraction of it."""


class Model:
    """Asks an OpenAI-compatible endpoint.

    Args:
        client: Makes the call.
        clock: Tells what a `Retry-After` date means.
        config: The endpoint, the key, and what is sent beside the prompt.
    """

    def __init__(self, client: Client, clock: IReactorTime, config: Config) -> None:
        self._client = client
        self._clock = clock
        self._config = config
        self._url = FixedURL.from_text(config.base_url).child("chat", "completions")
        self._headers = Headers(
            {
                b"Authorization": [b"Bearer " + config.token.read().encode("ascii")],
                b"Content-Type": [b"application/json"],
                b"Accept": [b"application/json"],
            }
        )

    async def ask(self, prompt: Prompt) -> Answer:
        """Ask once.

        Raises:
            CallError: Of the class that says what to do with the prompt.
        """
        try:
            reply = await self._client.post(
                self._url,
                self._headers,
                request_body(prompt, self._config),
                timeout=self._config.openai_timeout,
                most=MOST_BYTES,
            )
        except NotSent as error:
            raise Again(f"the model can't be reached: {error}") from None
        except NoReply as error:
            raise MaybeBilled(f"the model did not answer: {error}") from None
        if not 200 <= reply.status < 300:
            raise refusal(reply, self._clock.seconds())
        return read_answer(reply)


def request_body(prompt: Prompt, config: Config) -> bytes:
    """The JSON of a chat completion request."""
    messages = [{"role": "user", "content": prompt.text}]
    if config.system_prompt is not None:
        messages.insert(0, {"role": "system", "content": config.system_prompt})
    body: dict[str, Any] = {"model": config.model, "messages": messages}
    if config.max_tokens is not None:
        body["max_completion_tokens"] = config.max_tokens
    return json.dumps(body, ensure_ascii=False).encode("utf-8")


def refusal(reply: Reply, now: float) -> CallError:
    """What an answer other than 200 means, by its status and OpenAI's error object."""
    try:
        error = json.loads(reply.body)["error"]
        codes = [word for word in (error.get("code"), error.get("type")) if isinstance(word, str)]
        param = error.get("param")
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        codes, param = [], None
    return model_error(
        reply.status,
        codes,
        param if isinstance(param, str) else None,
        retry_after(reply.header, now),
    )


def read_answer(reply: Reply) -> Answer:
    """Read a success strictly; only a 200 can be one.

    Raises:
        MaybeBilled: If it is not a chat completion with a choice.
        Rejected: If the model refused, or said nothing.
    """
    completion = _completion(reply)
    try:
        choice = completion["choices"][0]
        message = choice["message"]
        content, refused = message.get("content"), message.get("refusal")
        finish_reason = choice.get("finish_reason")
    except (TypeError, LookupError, AttributeError):
        raise _unreadable("it has no choices") from None
    if content is not None and not isinstance(content, str):
        raise _unreadable("its content is not text")
    if refused:
        raise Rejected("the model refused this prompt", status=200)
    if finish_reason == "content_filter":
        raise Rejected("the answer was stopped by the provider's content filter", status=200)
    if not content or not content.strip():
        shown = finish_reason if finish_reason in ("stop", "length", "tool_calls") else "unknown"
        raise Rejected(f"the answer is empty (finish_reason: {shown})", status=200)
    return Answer(
        content=_without_lone_surrogates(content),
        model=_text_or_none(completion.get("model")),
        finish_reason=_text_or_none(finish_reason),
        request_id=request_id(reply),
        usage=_usage(completion.get("usage")),
    )


def request_id(reply: Reply) -> str | None:
    """The provider's name for the call, if it is one that can be shown."""
    value = reply.header("x-request-id")
    return value if value and re.fullmatch(r"[\w.:-]{1,100}", value, re.ASCII) else None


def _completion(reply: Reply) -> dict[str, Any]:
    if reply.status != 200:
        raise MaybeBilled(
            f"the model's answer can't be read: its status is {reply.status}", status=reply.status
        )
    if reply.flaw:
        raise _unreadable(f"it {reply.flaw}")
    try:
        completion = json.loads(reply.body.decode("utf-8"))
    except (ValueError, RecursionError):
        raise _unreadable("it is not JSON") from None
    if not isinstance(completion, dict):
        raise _unreadable("it is not a JSON object")
    return completion


def _unreadable(why: str) -> MaybeBilled:
    return MaybeBilled(f"the model's answer can't be read: {why}", status=200)


def _without_lone_surrogates(text: str) -> str:
    """JSON can escape half a character, which no UTF-8 can carry."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _text_or_none(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _usage(value: Any) -> dict[str, int] | None:
    if not isinstance(value, dict):
        return None
    return {key: count for key, count in value.items() if type(count) is int}
