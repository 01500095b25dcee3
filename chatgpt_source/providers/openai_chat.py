"""Asks a model by OpenAI's chat API (`POST /chat/completions`)."""

import json
import re
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.web.http_headers import Headers

from chatgpt_source import limited_json
from chatgpt_source.clock import wall
from chatgpt_source.config import Config
from chatgpt_source.errors import CallError, PossiblyBilled, Transient
from chatgpt_source.http.client import Client, FixedURL, NoReply, NotSent, Reply
from chatgpt_source.http.client.retry_after import read_retry_after, read_should_retry
from chatgpt_source.prompt import Answer, Prompt, Trace
from chatgpt_source.providers.completion import read_answer, request_id
from chatgpt_source.providers.failures import ErrorResponse, model_error

MOST_BYTES = 2 * 2**20
"""The most bytes of a response; the longest answers of today's models are far shorter."""
_INSTRUCTING = {"system", "developer"}
"""Roles of messages that instruct the model."""
_MOST_TOKENS = "max_completion_tokens"
MODELS_TIMEOUT = 30.0
"""Seconds that listing the models may take."""


class Model:
    """Asks an OpenAI-compatible endpoint.

    Args:
        client: Makes the call.
        clock: The time, for `Retry-After` dates.
        config: The endpoint, the key, and the parameters of a call.
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
            prompt: The prompt.
            fresh: Whether to use a new connection.

        Raises:
            CallError: Its subclass says what to do with the prompt.
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
                callers = bool(prompt.details.call)
                raise read_error(reply, wall(self._clock), self._settings_sent, callers=callers)
            return read_answer(reply)
        except CallError as error:
            error.request_id = request_id(reply)
            raise

    async def doubts(self) -> str | None:
        """A warning about the configured model from `GET /models`; None if there is none.

        There is none if the server lacks that call or can't be reached.
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
    """The headers of a call; those of the settings override ours."""
    token = config.token.read().encode("ascii")
    headers = Headers({"Content-Type": ["application/json"], "Accept": ["application/json"]})
    if config.api_version is None:
        headers.setRawHeaders(b"Authorization", [b"Bearer " + token])
    else:  # as Azure OpenAI requires
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
    """The JSON of a chat completion request; the caller's members replace those of the settings."""
    content, call = prompt.content, dict(prompt.details.call)
    messages = content if prompt.details.conversation else [{"role": "user", "content": content}]
    system = call.pop("system", None)
    if system is None and not any(each.get("role") in _INSTRUCTING for each in messages):
        system = config.system_prompt
    if system is not None:
        messages.insert(0, {"role": "system", "content": system})
    if "max_tokens" in config.body and _MOST_TOKENS in call:  # the server knows the old name only
        call["max_tokens"] = call.pop(_MOST_TOKENS)
    body = {"model": config.model, "messages": messages, **_parameters(config), **config.body}
    # A caller's JSON may hold lone surrogates, which UTF-8 can't encode.
    return json.dumps({**body, **call}, ensure_ascii=bool(call)).encode("utf-8")


def _parameters(config: Config) -> dict[str, Any]:
    parameters = {
        _MOST_TOKENS: config.max_tokens,
        "temperature": config.temperature,
        "top_p": config.top_p,
        "reasoning_effort": config.reasoning_effort,
    }
    return {name: value for name, value in parameters.items() if value is not None}


def settings_sent(config: Config) -> dict[str, str]:
    """The settings that set members of a request, by member; `error.param` may name one."""
    # Some servers use the old name of `max_completion_tokens` in errors.
    own = {"max_completion_tokens": "max_tokens", "max_tokens": "max_tokens"}
    return {
        "model": "model",
        **{name: own.get(name, name) for name in _parameters(config)},
        **(own if config.max_tokens is not None else {}),
        **dict.fromkeys(config.body, "body"),
    }


def read_error(
    reply: Reply, now: float, ours: Mapping[str, str], *, callers: bool = False
) -> CallError:
    """Classify a response that is not a 200, by its status and OpenAI's error object.

    Args:
        reply: The response.
        now: When it came.
        ours: The result of `settings_sent`.
        callers: Whether the prompt's caller set members of the request.
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
    return model_error(answered, ours, callers=callers)


def doubts(reply: Reply, model: str) -> str | None:
    """A warning about a model from a response to `GET /models`; None if there is none."""
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
    """Other names under which Ollama and Gemini list a model."""
    return f"{model}:latest", f"models/{model}"


def _shown(date: Any) -> str:
    """A date in words, from an ISO date or from seconds since the epoch."""
    if type(date) is int and 0 < date < 2**37:  # the year 6325
        date = datetime.fromtimestamp(date, timezone.utc).date().isoformat()
    known = isinstance(date, str) and re.fullmatch(r"(\d{4}-\d\d-\d\d)(T.*)?", date)
    return f" ({known[1]})" if known else ""


def _json(body: bytes) -> Any:
    return limited_json.read(body.decode("utf-8-sig"))
