"""Calls an OpenAI-compatible server; what its APIs have in common."""

import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import Any, TypeVar

from hyperlink import EncodedURL
from twisted.internet.interfaces import IReactorTime
from twisted.web.http_headers import Headers

from chatgpt_source import limited_json
from chatgpt_source.clock import wall
from chatgpt_source.config import Config
from chatgpt_source.errors import CallError, Gone, PeerFailure, Permanent, PossiblyBilled, Transient
from chatgpt_source.http.client import Client, FixedURL, NoReply, NotSent, Reply
from chatgpt_source.http.client.retry_after import read_retry_after, read_should_retry
from chatgpt_source.prompt import Answer, Prompt, Submitted, Trace
from chatgpt_source.providers.failures import FIRST_MESSAGE, ErrorResponse, model_error
from chatgpt_source.providers.reading import request_id
from chatgpt_source.providers.response import read_response
from chatgpt_source.providers.structured import Checks

MOST_BYTES = 2 * 2**20
"""The most bytes of a response; the longest answers of today's models are far shorter."""
SHORT_TIMEOUT = 30.0
"""Seconds that a call may take for which no model works."""
MOST_TOKENS = "max_completion_tokens"
"""The chat API's name of `max_tokens`."""
ON_FLEX = {"service_tier": "flex"}
"""What a call on the flex tier has."""
_OF_FLEX = dict.fromkeys(ON_FLEX, "flex_over")
_OF_SYSTEM_PROMPT = dict.fromkeys((FIRST_MESSAGE, "instructions"), "system_prompt")
MOST_FLEX = 900.0
"""Seconds that a call on the flex tier may take at the most."""
_NO_LIST = {404, 405}
"""What a server answers that has no `GET /models`."""
_INSTRUCTING = {"system", "developer"}
"""Roles of messages that instruct the model."""

Result = TypeVar("Result", Answer, Answer | Submitted)


class Server:
    """An OpenAI-compatible server, and what all calls to it have in common.

    Args:
        client: Makes the calls.
        clock: The time, for `Retry-After` dates; the reactor, whose threads await checks.
        config: The address, the key, and the parameters of a call.
    """

    def __init__(self, client: Client, clock: IReactorTime, config: Config) -> None:
        self._client = client
        self._clock = clock
        self._config = config
        base = FixedURL.from_text(config.base_url)
        if config.api_version is not None:
            base = base.set("api-version", config.api_version)
        self._base = base
        self._checks = Checks(clock)

    def _get(self, url: EncodedURL, trace: Trace | None = None) -> Awaitable[Reply]:
        """GET for which no model works."""
        headers = request_headers(self._config, trace)
        return self._client.get(url, headers, timeout=SHORT_TIMEOUT, most=MOST_BYTES)

    def _post(self, url: EncodedURL, body: bytes = b"", *, fresh: bool = False) -> Awaitable[Reply]:
        """POST for which no model works before the reply, on a new connection if `fresh`."""
        headers = request_headers(self._config, None)
        return self._client.post(
            url, headers, body, timeout=SHORT_TIMEOUT, most=MOST_BYTES, fresh=fresh
        )

    def _delete(self, url: EncodedURL) -> Awaitable[Reply]:
        """DELETE for which no model works."""
        headers = request_headers(self._config, None)
        return self._client.delete(url, headers, timeout=SHORT_TIMEOUT, most=MOST_BYTES)

    @staticmethod
    async def _of_paid(calling: Awaitable[Reply]) -> Reply:
        """The reply to a call that lets a model work.

        Raises:
            Transient: If nothing was sent.
            PossiblyBilled: If there is no reply.
        """
        try:
            return await calling
        except NotSent as error:
            raise Transient(f"the model can't be reached: {error}") from None
        except NoReply as error:
            raise PossiblyBilled(f"the model did not answer: {error}") from None

    async def _of_kept(
        self, calling: Awaitable[Reply], what: str | None = "this response"
    ) -> Reply:
        """The reply to a call about what the provider keeps; no failure of it is billed.

        Args:
            calling: The call.
            what: What the call is about, for an error; None if it need not be there.

        Raises:
            Gone: If the provider does not have it.
            CallError: If the call failed.
        """
        try:
            reply = await calling
        except (NotSent, NoReply) as error:
            raise Transient(f"the model can't be reached: {error}") from None
        with with_request_id(reply):
            if what is not None and reply.status in {404, 410}:
                raise Gone(f"the model does not have {what}", status=reply.status)
            self._check(reply, {})
        return reply

    async def _of_look_up(
        self, calling: Awaitable[Reply], what: str | None = "this response"
    ) -> Reply:
        """The same, where a refusal says nothing about what is looked up, which goes on.

        Raises:
            Gone: If the provider does not have it.
            CallError: If the call failed.
        """
        try:
            return await self._of_kept(calling, what)
        except Permanent as error:
            raise Transient(
                f"the model answered {error.status} to a look-up",
                status=error.status,
                retry_after=error.retry_after,
                request_id=error.request_id,
            ) from None

    def _check(self, reply: Reply, ours: Mapping[str, str], *, callers: bool = False) -> None:
        if not 200 <= reply.status < 300:
            raise read_error(reply, wall(self._clock), ours, callers=callers)

    async def structured(self, answer: Answer, prompt: Prompt) -> Answer:
        """An answer in the form that its prompt asks for.

        Raises:
            Permanent: If it is not of that form.
        """
        form = prompt.details.call.get("response_format", self._config.response_format)
        return await self._checks.structured(answer, form)


class OpenAI(Server):
    """An OpenAI-compatible server that answers prompts. Each API is a subclass that asks."""

    async def _ask(
        self,
        url: EncodedURL,
        prompt: Prompt,
        body: bytes,
        read: Callable[[Reply], Result],
        ours: Mapping[str, str],
        *,
        fresh: bool,
        flex: bool,
    ) -> Result:
        """Send a prompt, and read the response.

        Args:
            url: The address.
            prompt: The prompt.
            body: The request's body.
            read: Reads a 2xx; raises CallError.
            ours: The settings that set members of the body, by member.
            fresh: Whether to use a new connection.
            flex: Whether it is on the flex tier.

        Raises:
            CallError: Its subclass says what to do with the prompt.
        """
        await self._checks.check_schema(prompt.details.call.get("response_format"))
        reply = await self._of_paid(
            self._client.post(
                url,
                request_headers(self._config, prompt.trace),
                body,
                timeout=self._flex_timeout(prompt) if flex else self._config.openai_timeout,
                most=MOST_BYTES,
                fresh=fresh,
            )
        )
        with with_request_id(reply):
            ours = {**ours, **_OF_FLEX} if flex else ours
            if reply.status == 400 and self._instructs(prompt):
                ours = {**ours, **_OF_SYSTEM_PROMPT}
            self._check(reply, ours, callers=bool(prompt.details.call))
            answer = read(reply)
            if isinstance(answer, Answer):
                return await self.structured(answer, prompt)
            return answer

    def _instructs(self, prompt: Prompt) -> bool:
        """Whether the settings, not the caller, instruct the model."""
        messages = prompt.content if prompt.details.conversation else []
        return self._config.system_prompt is not None and not _is_instructed(prompt, messages)

    def _flex_timeout(self, prompt: Prompt) -> float:
        """Seconds for a call on the flex tier: there is time for another one after it."""
        least = self._config.openai_timeout
        left = MOST_FLEX
        if prompt.deadline is not None:
            left = prompt.deadline - self._clock.seconds() - least
        return max(least, min(MOST_FLEX, left))

    async def look_up(self, submitted: str, prompt: Prompt) -> Answer | None:
        """Look for the answer to a submitted prompt; None: there is none yet.

        Args:
            submitted: The provider's id.
            prompt: The prompt.

        Raises:
            Gone: If the provider has no such id.
            Lost: If it has given up the prompt.
            CallError: If the prompt can't succeed, or this call failed.
        """
        reply = await self._of_look_up(
            self._get(self._base.child("responses", submitted), prompt.trace)
        )
        with with_request_id(reply):
            if reply.is_too_long:
                why = f"the model's answer is longer than {MOST_BYTES // 2**20} MiB"
                raise Permanent(why, status=200)
            with unbilled():
                answer = read_response(reply, prompt.id)
            return None if isinstance(answer, Submitted) else await self.structured(answer, prompt)

    async def cancel(self, submitted: str) -> None:
        """Let the provider stop its work on a submitted prompt.

        Raises:
            CallError: If it does not say that it has.
        """
        await self._of_kept(self._post(self._base.child("responses", submitted, "cancel")))

    async def forget(self, submitted: str) -> None:
        """Let the provider delete what it keeps under an id.

        Raises:
            CallError: If it does not say that it has.
        """
        await self._of_kept(self._delete(self._base.child("responses", submitted)))

    async def try_key(self) -> str:
        """List the models, which costs nothing; what came of it, in words.

        Raises:
            CallError: If no prompt can be expected to be answered.
        """
        try:
            reply = await self._of_kept(self._get(self._base.child("models")), None)
        except PeerFailure as error:
            if error.status in _NO_LIST:
                return "answers, and does not list its models"
            raise
        return doubts(reply, self._config.model) or "takes the key, and has the model"

    async def doubts(self) -> str | None:
        """A warning about the configured model from `GET /models`; None if there is none.

        There is none if the server lacks that call or can't be reached.
        """
        try:
            reply = await self._get(self._base.child("models"))
        except (NotSent, NoReply):
            return None
        return doubts(reply, self._config.model)


@contextmanager
def with_request_id(reply: Reply) -> Iterator[None]:
    """Gives errors the id of the call."""
    try:
        yield
    except CallError as error:
        error.request_id = request_id(reply)
        raise


@contextmanager
def unbilled() -> Iterator[None]:
    """Gives errors of reading their class for a call that costs nothing, and may be repeated."""
    try:
        yield
    except PossiblyBilled as error:
        raise Transient(error.reason, status=error.status) from None


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


def instructions(
    prompt: Prompt, messages: Sequence[Mapping[str, Any]], config: Config
) -> str | None:
    """The system prompt: the caller's, or that of the settings unless the messages instruct."""
    if _is_instructed(prompt, messages):
        system: str | None = prompt.details.call.get("system")
        return system
    return config.system_prompt


def _is_instructed(prompt: Prompt, messages: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the caller instructs the model."""
    roles = (each.get("role") for each in messages)
    return "system" in prompt.details.call or any(role in _INSTRUCTING for role in roles)


def parameters(config: Config) -> dict[str, Any]:
    """The settings of a call, by the names of the chat API."""
    values = {
        "model": config.model,
        MOST_TOKENS: config.max_tokens,
        "temperature": config.temperature,
        "top_p": config.top_p,
        "reasoning_effort": config.reasoning_effort,
        "response_format": config.response_format,
    }
    return {name: value for name, value in values.items() if value is not None}


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
        code, param = error.get("code"), error.get("param")
        codes = [word for word in (code, error.get("type")) if isinstance(word, str)]
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        codes, code, param = [], None, None
    answered = ErrorResponse(
        reply.status,
        codes,
        code if isinstance(code, str) else None,
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
