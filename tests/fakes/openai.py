"""An OpenAI-compatible server that says what it is told; test_fakes.py holds it to a real one."""

from typing import Any

from tests.fakes.server import Received, Reply, ScriptedServer

MODEL = "gpt-6-luna"
_ROLES = {"system", "developer", "user", "assistant", "tool", "function"}


def answer_to(prompt: str) -> str:
    """What the fake says to a prompt unless told otherwise."""
    return f"You asked: {prompt}"


def prompt_of(request: Received) -> str:
    """The text of the last user message."""
    texts = [m["content"] for m in request.document["messages"] if m["role"] == "user"]
    return texts[-1]


def completion(content: Any, *, message: Any = None, **others: Any) -> Reply:
    """A 200 with one choice.

    Args:
        content: What the assistant says.
        message: Further members of the message, like `refusal`.
        others: Reply's arguments; `finish_reason` is the choice's, `service_tier` the response's.
    """
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": content, "refusal": None, **(message or {})},
        "finish_reason": others.pop("finish_reason", "stop"),
    }
    return Reply.of_json(
        {
            "id": "chatcmpl-fake",
            "object": "chat.completion",
            "created": 1790000000,
            "model": MODEL,
            "choices": [choice],
            "service_tier": others.pop("service_tier", "default"),
            "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7},
        },
        headers={"x-request-id": "req_fake", **others.pop("headers", {})},
        **others,
    )


def api_error(
    status: int,
    message: str = "This is what went wrong.",
    *,
    code: str | None = None,
    param: str | None = None,
    **others: Any,
) -> Reply:
    """An error in OpenAI's form."""
    kind = "server_error" if status >= 500 else "invalid_request_error"
    error = {"message": message, "type": kind, "param": param, "code": code}
    return Reply.of_json({"error": error}, status, **others)


class FakeOpenAI(ScriptedServer):
    """`POST /v1/chat/completions` and `GET /v1/models`, and errors as OpenAI words them.

    Args:
        reactor: The real reactor.
        token: The only key it takes; None: any.

    Attributes:
        models: What `GET /v1/models` is answered.
    """

    def __init__(self, reactor: Any, token: str | None = None) -> None:
        super().__init__(reactor)
        self._token = token
        model = {"id": MODEL, "object": "model", "created": 1790000000, "owned_by": "fake"}
        self.models = Reply.of_json({"object": "list", "data": [model]})

    @property
    def base_url(self) -> str:
        """What a client is configured with."""
        return f"{self.origin}/v1"

    @property
    def asks(self) -> list[Received]:
        """The chat calls that came in."""
        return [r for r in self.requests if r.path == "/v1/chat/completions"]

    def aside(self, request: Received) -> Reply | None:
        return self.models if request.path == "/v1/models" else None

    def default(self, request: Received) -> Reply:
        return completion(answer_to(prompt_of(request)))

    def objection(self, request: Received) -> Reply | None:
        known = {"/v1/chat/completions": "POST", "/v1/models": "GET"}
        method = known.get(request.path)
        if method is None:
            return self._complain(404, f"Unknown request URL: {request.path}", "unknown_url")
        if request.method != method:
            return self._complain(405, f"Not allowed to {request.method} here", None)
        refused = self._objection_to_key(request)
        if refused is None and method == "POST":
            return self._objection_to_chat(request)
        return refused

    def _objection_to_key(self, request: Received) -> Reply | None:
        scheme, _, token = (request.header("authorization") or "").partition(" ")
        if scheme.lower() != "bearer" or not token or self._token not in {None, token}:
            return self._complain(401, "Incorrect API key provided.", "invalid_api_key")
        return None

    def _objection_to_chat(self, request: Received) -> Reply | None:
        if not isinstance(request.document, dict):
            return self._complain(400, "We could not parse the JSON body of your request.", None)
        if not isinstance(request.document.get("model"), str):
            return self._complain(400, "you must provide a model parameter", None)
        messages = request.document.get("messages")
        if not isinstance(messages, list) or not messages:
            return self._complain(400, "'messages' is missing or empty.", None, "messages")
        for number, message in enumerate(messages):
            if not isinstance(message, dict) or message.get("role") not in _ROLES:
                return self._complain(400, "Invalid role.", None, f"messages[{number}].role")
            if not isinstance(message.get("content"), str):
                return self._complain(400, "Invalid content.", None, f"messages[{number}].content")
        return None

    def _complain(
        self, status: int, message: str, code: str | None, param: str | None = None
    ) -> Reply:
        self.complaints.append(message)
        return api_error(status, message, code=code, param=param)
