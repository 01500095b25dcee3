"""Requests as the OpenAPI document describes them, and others: each response is as it says."""

from typing import Any

import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.core import NOT_SET
from twisted.internet.threads import deferToThread

from chatgpt_source.config import CALLERS_MEMBERS
from tests.e2e.processes import Daemon, DaemonCase
from tests.fakes.openai import api_error
from tests.fakes.server import Fault, Reply

EXAMPLES = 60
"""Requests of each operation."""
EVENTS_OWN = ("ce-specversion", "ce-id", "ce-source", "ce-type", "ce-subject")
PREFERENCES = st.sampled_from(["wait=5", "reply", "wait=0", "wait=x"])
TEXT, JSON = "text/plain", "application/json"
CLOUDEVENTS = "application/cloudevents"
STRUCTURED = f"{CLOUDEVENTS}+json"
FORMS = (STRUCTURED, JSON, TEXT)
RECORD_OF, EVENT_OF = "/prompts/{id}", "/prompts/{id}/event"
KEY = {"Authorization": "Bearer key"}


def event(name: str) -> dict[str, str]:
    """An event that holds a prompt."""
    return {"specversion": "1.0", "id": name, "source": "/x", "type": "question", "data": "text"}


load_all_checks()
OF_THE_HEAD = [CHECKS.get_one(f"{of}_conformance") for of in ("status_code", "response_headers")]
OF_THE_BODY = [CHECKS.get_one(f"{of}_conformance") for of in ("content_type", "response_schema")]


def call(origin: str, case: Any, **headers: str) -> int:
    """Send a request, and check the response; returns its status."""
    response = case.call(base_url=origin, headers=headers)
    status = response.status_code
    to_event = case.operation.path == "/" and status == 202 and not response.content
    case.validate_response(response, checks=OF_THE_HEAD + ([] if to_event else OF_THE_BODY))
    return status


def exercise(operation: Any, origin: str, ids: list[str]) -> None:
    """Send valid and invalid requests of an operation, and check the responses."""

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def check(data: st.DataObject) -> None:
        mode = data.draw(st.sampled_from([GenerationMode.POSITIVE] * 2 + [GenerationMode.NEGATIVE]))
        case = data.draw(operation.as_strategy(generation_mode=mode))
        if "{id}" in operation.path:
            case.path_parameters["id"] = data.draw(st.sampled_from(ids))
        if data.draw(st.booleans()):  # else most texts would be half an event
            for name in EVENTS_OWN:
                case.headers.pop(name, None)
        if "Prefer" in case.headers:
            case.headers["Prefer"] = data.draw(PREFERENCES)
        call(origin, case, Accept=data.draw(st.sampled_from([*FORMS, "*/*", "image/png"])))

    check()


class ConformanceTests(DaemonCase):
    async def begin(self, **settings: Any) -> Daemon:
        """Start a daemon that lets callers do what its document says."""
        daemon = self.daemon(
            callers_may_set=list(CALLERS_MEMBERS),
            keep_answers=60,
            webhook_origins=["*"],
            **{"reply": 20, **settings},
        )
        daemon.headers = KEY
        await daemon.start()
        self.origin = f"http://127.0.0.1:{daemon.port}"
        self.document = schemathesis.openapi.from_dict((await daemon.get("/openapi.json")).json())
        return daemon

    async def later(self, daemon: Daemon) -> str:
        """The id of a prompt that is not asked yet."""
        body = '{"prompt": "text", "not_before": "1h"}'
        return (await daemon.post(body, {"Content-Type": JSON}, "/prompts")).json()["id"]

    async def told(
        self,
        status: int,
        method: str,
        path: str,
        body: Any = NOT_SET,
        media_type: str | None = None,
        prompt_id: str = "nobody",
        **headers: str,
    ) -> None:
        """Send a request, and check the status and all else of its response."""
        case = self.document[path][method].Case(
            path_parameters={"id": prompt_id}, body=body, media_type=media_type
        )
        self.assertEqual(await deferToThread(call, self.origin, case, **headers), status)

    async def test_anything(self):
        daemon = await self.begin(everyday_limit=10**6, max_wait=1, reply=1)
        delivered = await daemon.accepted("text")
        await daemon.reaches(delivered, "delivered")
        for operation in self.document.get_all_operations():
            ids = ["nobody", delivered, await self.later(daemon)]
            await deferToThread(exercise, operation.ok(), self.origin, ids)

    async def test_prompts(self):
        await self.begin()
        key = {"Idempotency-Key": "key"}
        await self.told(202, "POST", "/", "text", TEXT, **key)
        await self.told(422, "POST", "/", "another", TEXT, **key)
        await self.told(202, "POST", "/prompts", {"prompt": "text"}, JSON)
        await self.told(202, "POST", "/", event("1"), STRUCTURED)
        await self.told(202, "POST", "/", [event("2"), event("3")], f"{CLOUDEVENTS}-batch+json")
        binary = {f"ce-{name}": value for name, value in event("4").items() if name != "data"}
        await self.told(202, "POST", "/", "text", TEXT, **binary)
        await self.told(200, "POST", "/", event("5"), STRUCTURED, Prefer="reply")
        for form in FORMS:
            await self.told(200, "POST", "/", "text", TEXT, Prefer="wait=5", Accept=form)
        await self.told(200, "OPTIONS", "/", **{"WebHook-Request-Origin": "x.example"})

    async def test_records(self):
        daemon = await self.begin()
        delivered, later = await daemon.accepted("text"), await self.later(daemon)
        await daemon.reaches(delivered, "delivered")
        for form in FORMS:
            await self.told(200, "GET", EVENT_OF, prompt_id=delivered, Accept=form)
        await self.told(406, "GET", EVENT_OF, prompt_id=delivered, Accept="image/png")
        await self.told(409, "DELETE", RECORD_OF, prompt_id=delivered)
        await self.told(200, "GET", RECORD_OF, prompt_id=later)
        await self.told(202, "GET", EVENT_OF, prompt_id=later)
        await self.told(204, "DELETE", RECORD_OF, prompt_id=later)
        await self.told(410, "GET", EVENT_OF, prompt_id=later)
        for method, path in (("GET", RECORD_OF), ("DELETE", RECORD_OF), ("GET", EVENT_OF)):
            await self.told(404, method, path)
        for path in ("/healthz", "/readyz", "/openapi.json"):
            await self.told(200, "GET", path)

    async def test_refusals(self):
        await self.begin(everyday_limit=1, max_body_size=1000, auth={"bearer": ["key"]}, reply=1)
        await self.told(401, "POST", "/", "text", TEXT)
        await self.told(403, "POST", "/", "text", TEXT, Origin="http://elsewhere.example")
        await self.told(405, "OPTIONS", "/", **KEY)
        await self.told(413, "POST", "/", "x" * 1001, TEXT, **KEY)
        charset = {"Content-Type": "text/plain; charset=utf-16"}
        await self.told(415, "POST", "/", "text", TEXT, **charset, **KEY)
        await self.told(415, "POST", "/prompts", "text", TEXT, **KEY)
        await self.told(406, "POST", "/", "text", TEXT, Accept="image/png", Prefer="wait=1", **KEY)
        self.openai.queue(api_error(400))
        await self.told(502, "POST", "/", "text", TEXT, Prefer="wait=5", **KEY)
        self.openai.queue(*[api_error(500)] * 2)
        late = {"prompt": "text", "deadline": "1s"}
        await self.told(504, "POST", "/prompts", late, JSON, Prefer="wait=5", **KEY)
        self.openai.queue(Reply(fault=Fault.HANG))
        await self.told(503, "POST", "/", event("1"), STRUCTURED, Prefer="reply", **KEY)
        await self.told(429, "POST", "/", "text", TEXT, **KEY)
