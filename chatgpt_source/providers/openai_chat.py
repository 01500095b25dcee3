"""The chat call: a prompt to the model, its answer back (OpenAI's `POST /chat/completions`)."""

import json
import re
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.web.http_headers import Headers

from chatgpt_source.clock import wall
from chatgpt_source.config import Config
from chatgpt_source.errors import CallError, PossiblyBilled, Transient
from chatgpt_source.http.client import Client, FixedURL, NoReply, NotSent, Reply, limited_json
from chatgpt_source.http.client.retry_after import read_retry_after, read_should_retry
from chatgpt_source.prompt import Answer, Prompt, Trace
from chatgpt_source.providers.completion import read_answer, request_id
from chatgpt_source.providers.failures import ErrorResponse, model_error

MOST_BYTES = 2 * 2**20
"""An answer's size at the most; the longest a model writes today is a fraction of it."""
MODELS_TIMEOUT = 30.0
"""Seconds that listing the models may take."""


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
        base = FixedURL.from_text(config.base_url)
        if config.api_version is not None:
            base = base.set("api-version", config.api_version)
        self._url = base.child("chat", "completions")
        self._models_url = base.child("models")
        self._settings_sent = settings_sent(config)

    async def ask(self, prompt: Prompt, *, fresh: bool = False) -> Answer:
        """Ask once.

        Args:
            prompt: What to ask.
            fresh: Whether to do so on a connection of its own, not a kept one.

        Raises:
            CallError: Of the class that says what to do with the prompt.
        """
        try:
            reply = await self._client.post(
                self._url,
                request_headers(self._config, prompt.trace),
                request_body(prompt, self._config),
                timeout=self._config.openai_timeout,
                most=MOST_BYTES,
                fresh=fresh,
            )
        except NotSent as error:
            raise Transient(f"the model can't be reached: {error}") from None
        except NoReply as error:
            raise PossiblyBilled(f"the model did not answer: {error}") from None
        try:
            if not 200 <= reply.status < 300:
                raise read_error(reply, wall(self._clock), self._settings_sent)
            return read_answer(reply)
        except CallError as error:
            error.request_id = request_id(reply)
            raise

    async def doubts(self) -> str | None:
        """What `GET /models` says against the configured model, in words; None if nothing.

        A server without that call, or out of reach, says nothing.
        """
        try:
            reply = await self._client.get(
                self._models_url,
                request_headers(self._config, None),
                timeout=MODELS_TIMEOUT,
                most=MOST_BYTES,
            )
        except (NotSent, NoReply):
            return None
        return doubts(reply, self._config.model)


def request_headers(config: Config, trace: Trace | None) -> Headers:
    """The headers of a call; those of the settings go before ours."""
    token = config.token.read().encode("ascii")
    headers = Headers({"Content-Type": ["application/json"], "Accept": ["application/json"]})
    if config.api_version is None:
        headers.setRawHeaders(b"Authorization", [b"Bearer " + token])
    else:  # Azure OpenAI's way
        headers.setRawHeaders(b"api-key", [token])
    if config.organization is not None:
        headers.setRawHeaders("OpenAI-Organization", [config.organization])
    if config.project is not None:
        headers.setRawHeaders("OpenAI-Project", [config.project])
    if trace is not None:
        for name, value in trace.members().items():
            headers.setRawHeaders(name, [value])
    for name, secret in config.headers.items():
        headers.setRawHeaders(name, [secret.read()])
    return headers


def request_body(prompt: Prompt, config: Config) -> bytes:
    """The JSON of a chat completion request."""
    messages = [{"role": "user", "content": prompt.text}]
    if config.system_prompt is not None:
        messages.insert(0, {"role": "system", "content": config.system_prompt})
    body = {"model": config.model, "messages": messages, **_parameters(config), **config.body}
    return json.dumps(body, ensure_ascii=False).encode("utf-8")


def _parameters(config: Config) -> dict[str, Any]:
    parameters = {
        "max_completion_tokens": config.max_tokens,
        "temperature": config.temperature,
        "top_p": config.top_p,
        "reasoning_effort": config.reasoning_effort,
    }
    return {name: value for name, value in parameters.items() if value is not None}


def settings_sent(config: Config) -> dict[str, str]:
    """The members of a request that settings set, and which: `error.param` may name one."""
    # Some servers know `max_completion_tokens` by its old name, and say so.
    own = {"max_completion_tokens": "max_tokens", "max_tokens": "max_tokens"}
    return {
        "model": "model",
        **{name: own.get(name, name) for name in _parameters(config)},
        **(own if config.max_tokens is not None else {}),
        **dict.fromkeys(config.body, "body"),
    }


def read_error(reply: Reply, now: float, ours: Mapping[str, str]) -> CallError:
    """What an answer other than 200 means, by its status and OpenAI's error object.

    Args:
        reply: The answer.
        now: When it came.
        ours: What `settings_sent` says.
    """
    try:
        error = _json(reply.body)["error"]
        codes = [word for word in (error.get("code"), error.get("type")) if isinstance(word, str)]
        param = error.get("param")
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        codes, param = [], None
    answered = ErrorResponse(
        reply.status,
        codes,
        param if isinstance(param, str) else None,
        read_retry_after(reply.header, now),
        read_should_retry(reply.header),
    )
    return model_error(answered, ours)


def doubts(reply: Reply, model: str) -> str | None:
    """What an answer to `GET /models` says against a model; None if nothing, or if it is none."""
    try:
        models = {each["id"]: each for each in _json(reply.body)["data"]}
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return None
    if reply.status != 200 or reply.flaw or not models:
        return None
    listed = next((models[name] for name in (model, *_other_names(model)) if name in models), None)
    if listed is None:
        return f"`model` {model} is not among the models that the server lists: check `model`"
    date = listed.get("shutdown_date")
    if not date:
        return None
    return f"`model` {model} has a shutdown date{_shown(date)}: choose its successor in time"


def _other_names(model: str) -> tuple[str, str]:
    """The names under which Ollama and Gemini list a model that can be asked by this one."""
    return f"{model}:latest", f"models/{model}"


def _shown(date: Any) -> str:
    """A date in words: OpenAI's are ISO dates; its other instants are seconds since the epoch."""
    if type(date) is int and 0 < date < 2**37:  # the year 6325
        date = datetime.fromtimestamp(date, timezone.utc).date().isoformat()
    known = isinstance(date, str) and re.fullmatch(r"(\d{4}-\d\d-\d\d)(T.*)?", date)
    return f" ({known[1]})" if known else ""


def _json(body: bytes) -> Any:
    return limited_json.read(body.decode("utf-8-sig"))
