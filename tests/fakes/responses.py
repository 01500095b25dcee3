"""An OpenAI-compatible server that also has the Responses API, keeps responses, and has a meter."""

from collections import deque
from typing import Any

from attrs import define, frozen

from tests.fakes.openai import FakeOpenAI, answer_to, api_error, completion, prompt_of
from tests.fakes.server import Fault, Received, Reply

PATH = "/v1/responses"
LEAST_TOKENS = 16
FLEX = "flex"
HALF = 0.5
USAGE = {
    "input_tokens": 3,
    "input_tokens_details": {"cache_write_tokens": 0, "cached_tokens": 0},
    "output_tokens": 4,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 7,
}
_MEMBERS = {
    "background",
    "input",
    "instructions",
    "max_output_tokens",
    "metadata",
    "model",
    "reasoning",
    "service_tier",
    "store",
    "temperature",
    "text",
    "top_p",
}
"""The members of a request that it knows."""
CALL_ID = "call_fake"


def tool_call(name: str) -> dict[str, Any]:
    """A call of a tool, as the chat API has it."""
    return {"id": CALL_ID, "type": "function", "function": {"name": name, "arguments": "{}"}}


@frozen
class Outcome:
    """How a call ends.

    Attributes:
        text: What the model says; None: the fake's usual answer.
        status: The status of a response that has ended.
        reason: Why it is incomplete.
        code: The code of its error, if it failed.
        refusal: What the model says instead, if it refuses.
        tool: The name of the tool that it calls, if it does.
        seconds: How long it takes, if it works in the background.
    """

    text: str | None = None
    status: str = "completed"
    reason: str | None = None
    code: str | None = None
    refusal: str | None = None
    tool: str | None = None
    seconds: float | None = None


@define(eq=False)
class Kept:
    """A response that the fake keeps.

    Attributes:
        ends: When it ends, by the fake's time.
        tier: The tier that serves it.
        cancelled: Whether it was cancelled before that.
    """

    id: str
    request: dict[str, Any]
    outcome: Outcome
    begins: float
    ends: float
    tier: str = "default"
    cancelled: bool = False

    def status(self, now: float) -> str:
        """Its status at a moment."""
        if self.cancelled:
            return "cancelled"
        if now >= self.ends:
            return self.outcome.status
        return "queued" if now < (self.begins + self.ends) / 2 else "in_progress"

    @property
    def costs(self) -> bool:
        """Whether it is billed: not if it was cancelled, or failed."""
        return not self.cancelled and self.outcome.status != "failed"


class FakeResponses(FakeOpenAI):
    """`/v1/responses` beside what `FakeOpenAI` has; what it keeps outlives its stops.

    Args:
        reactor: The real reactor.
        token: The only key it takes; None: any.

    Attributes:
        seconds: How long a response takes in the background.
        outcomes: How the next calls end, of both APIs.
        losses: How many of the next prompts are taken, and their replies lost.
        flex_full: Whether it has no room for prompts of the flex tier.
        flex_tier: The tier that serves such prompts, which may be another than was asked for.
        kept: The responses that it keeps, by id.
        billed: How many calls ran, of both APIs.
        money: What they cost: 1 each, and half of that on the flex tier.
    """

    def __init__(self, reactor: Any, token: str | None = None) -> None:
        super().__init__(reactor, token)
        self.seconds = 0.02
        self.outcomes: deque[Outcome] = deque()
        self.losses = 0
        self.flex_full = False
        self.flex_tier = FLEX
        self.kept: dict[str, Kept] = {}
        self._taken: list[Kept] = []
        self._chats: list[str] = []

    @property
    def billed(self) -> int:
        return len(self._tiers())

    @property
    def money(self) -> float:
        return sum(HALF if tier == FLEX else 1.0 for tier in self._tiers())

    @property
    def asks(self) -> list[Received]:
        """The prompts that came in, by either API."""
        responses = [r for r in self.requests if (r.method, r.path) == ("POST", PATH)]
        return super().asks + responses

    def now(self) -> float:
        """The fake's time."""
        return self._reactor.seconds()

    def end_all(self) -> None:
        """Let all responses that are under way end now."""
        now = self.now()
        for each in self.kept.values():
            each.ends = min(each.ends, now)

    def objection(self, request: Received) -> Reply | None:
        if not request.path.startswith(PATH):
            return super().objection(request)
        action = self._action(request)
        if action is None:
            return self._complain(405, f"Not allowed to {request.method} here", None)
        refused = self._objection_to_key(request)
        if refused is None and action == "ask":
            return self._objection_to_prompt(request.document)
        return refused

    def default(self, request: Received) -> Reply:
        action = self._action(request) if request.path.startswith(PATH) else "chat"
        if action in {"chat", "ask"}:
            if self.flex_full and request.document.get("service_tier") == FLEX:
                return api_error(429, "Resource unavailable.", code="resource_unavailable")
            return self._taken_or_lost({"chat": self._chat, "ask": self._ask}[action](request))
        kept = self.kept.get(self._id_in(request))
        if kept is None:
            return api_error(404, "Response not found.")
        if action == "cancel":
            if not kept.request.get("background"):
                return api_error(400, "Cannot cancel a synchronous response.")
            kept.cancelled = kept.cancelled or self.now() < kept.ends
        if action == "delete":
            del self.kept[kept.id]
            return self._reply({"id": kept.id, "object": "response", "deleted": True})
        return self._reply(self.body_of(kept))

    def body_of(self, kept: Kept) -> dict[str, Any]:
        """A response as the API shows it now."""
        status = kept.status(self.now())
        outcome, request = kept.outcome, kept.request
        done = status in {"completed", "incomplete"}
        content = {"type": "output_text", "text": outcome.text, "annotations": []}
        if outcome.text is None:
            content["text"] = answer_to(_text_of(request["input"]))
        if outcome.refusal is not None:
            content = {"type": "refusal", "refusal": outcome.refusal}
        message = {
            "type": "message",
            "id": "msg_fake",
            "role": "assistant",
            "status": status,
            "content": [content],
        }
        error = {"code": outcome.code, "message": "This is what went wrong."}
        call = {
            "type": "function_call",
            "id": "fc_fake",
            "call_id": CALL_ID,
            "name": outcome.tool,
            "arguments": "{}",
            "status": status,
        }
        said = [message] if outcome.tool is None else [message, call]
        reasoning = {"type": "reasoning", "id": "rs_fake", "summary": []}
        return {
            "id": kept.id,
            "object": "response",
            "created_at": 1790000000,
            "completed_at": 1790000001 if status == "completed" else None,
            "status": status,
            "background": bool(request.get("background")),
            "error": error if status == "failed" else None,
            "incomplete_details": {"reason": outcome.reason} if status == "incomplete" else None,
            "instructions": request.get("instructions"),
            "max_output_tokens": request.get("max_output_tokens"),
            "metadata": request.get("metadata", {}),
            "model": request["model"],
            "output": [reasoning, *said] if done else [],
            "parallel_tool_calls": True,
            "service_tier": kept.tier,
            "store": request.get("store", True),
            "temperature": request.get("temperature", 1.0),
            "text": request.get("text", {"format": {"type": "text"}}),
            "tool_choice": "auto",
            "tools": [],
            "top_p": request.get("top_p", 1.0),
            "usage": USAGE if done else None,
        }

    def _ask(self, request: Received) -> Reply:
        outcome = self._outcome()
        now = self.now()
        seconds = self.seconds if outcome.seconds is None else outcome.seconds
        if not request.document.get("background"):
            seconds = 0.0
        id_, tier = f"resp_{len(self._taken)}", self._tier(request.document)
        kept = Kept(id_, request.document, outcome, now, now + seconds, tier)
        self._taken.append(kept)
        if request.document.get("store", True):
            self.kept[kept.id] = kept
        return self._reply(self.body_of(kept))

    def _chat(self, request: Received) -> Reply:
        tier = self._tier(request.document)
        self._chats.append(tier)
        return self._completion(request, self._outcome(), tier)

    def _completion(self, request: Received, outcome: Outcome, tier: str) -> Reply:
        said = answer_to(prompt_of(request)) if outcome.text is None else outcome.text
        reason = {None: "stop", "max_output_tokens": "length"}.get(outcome.reason, outcome.reason)
        message: dict[str, Any] = {"refusal": outcome.refusal}
        if outcome.tool is not None:
            message["tool_calls"], reason = [tool_call(outcome.tool)], "tool_calls"
        return completion(said, message=message, finish_reason=reason, service_tier=tier)

    def _tier(self, document: dict[str, Any]) -> str:
        return self.flex_tier if document.get("service_tier") == FLEX else "default"

    def _tiers(self) -> list[str]:
        """The tiers of the calls that are billed."""
        return self._chats + [each.tier for each in self._taken if each.costs]

    def _outcome(self) -> Outcome:
        return self.outcomes.popleft() if self.outcomes else Outcome()

    def _taken_or_lost(self, reply: Reply) -> Reply:
        if not self.losses:
            return reply
        self.losses -= 1
        return Reply(fault=Fault.RESET)

    def _reply(self, document: dict[str, Any]) -> Reply:
        return Reply.of_json(document, headers={"x-request-id": "req_fake"})

    def _id_in(self, request: Received) -> str:
        return request.path.removeprefix(f"{PATH}/").partition("/")[0]

    def _action(self, request: Received) -> str | None:
        """What a request is about; None if there is no such call."""
        method, rest = request.method, request.path.removeprefix(PATH).split("/")[1:]
        if method == "POST" and rest[1:] == ["cancel"]:
            return "cancel"
        return {("POST", 0): "ask", ("GET", 1): "look up", ("DELETE", 1): "delete"}.get(
            (method, len(rest))
        )

    def _objection_to_prompt(self, document: Any) -> Reply | None:
        if not isinstance(document, dict):
            return self._complain(400, "We could not parse the JSON body of your request.", None)
        said = document.get("input")
        wrong = {name: "Unknown parameter." for name in document if name not in _MEMBERS}
        if not isinstance(document.get("model"), str):
            wrong["model"] = "you must provide a model parameter"
        if not said or not isinstance(said, str | list):
            wrong["input"] = "Missing required parameter."
        if document.get("max_output_tokens", LEAST_TOKENS) < LEAST_TOKENS:
            wrong["max_output_tokens"] = "Below the minimum."
        if document.get("background") and not document.get("store", True):
            wrong["store"] = "Background mode requires store."
        for param, message in wrong.items():
            return self._complain(400, message, "invalid_value", param)
        return None


def _text_of(said: Any) -> str:
    """The text of the last user message of an input."""
    return (
        said if isinstance(said, str) else [m for m in said if m["role"] == "user"][-1]["content"]
    )
