"""The door on a journal in memory, whose prompts end when a test says so."""

import json
from typing import Any, cast

import attrs

from chatgpt_source.delivery.event import encode
from chatgpt_source.prompt import State
from chatgpt_source.telemetry.observer import Observer
from tests.clocks import Clocks
from tests.contracts.driver import ANSWER, NOON
from tests.door import CONFIG, DoorDriver, ParsedResponse
from tests.fakes.journal import MemoryJournal
from tests.telemetry.outcomes import ended

EVENT = {"specversion": "1.0", "source": "/source", "type": "question"}
JSON = {"Content_Type": "application/json"}


def event_headers(name: str) -> dict[str, str]:
    """The headers of an event in binary mode."""
    attributes = {f"ce-{key}": value for key, value in EVENT.items()}
    return {**attributes, "ce-id": name, "Content_Type": "text/plain"}


class Recorder(Observer):
    """Records what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, dict[str, Any]]] = []

    def accepted(self, **told: Any) -> None:
        self.told.append(("accepted", told))

    def repeated(self) -> None:
        self.told.append(("repeated", {}))

    def cancelled(self, **told: Any) -> None:
        self.told.append(("cancelled", told))


class MemoryDoorTestCase(DoorDriver):
    config = CONFIG

    def setUp(self) -> None:
        self.clock = Clocks()
        self.clock.advance(NOON)
        self.journal = MemoryJournal(self.clock.wall)
        super().setUp()
        self.recorder = Recorder()
        self.observers.add(self.recorder)

    def post_json(self, **more: str) -> ParsedResponse:
        return self.request("POST", "/prompts", b'{"prompt": "x"}', **JSON, **more)

    def post_event(self, name: str = "e1", **more: str) -> ParsedResponse:
        return self.post(b"text", **event_headers(name), **more)

    def post_batch(self, *names: str, **more: str) -> ParsedResponse:
        batch = [{**EVENT, "id": name, "data": "text"} for name in names]
        media_type = "application/cloudevents-batch+json"
        return self.post(json.dumps(batch).encode(), Content_Type=media_type, **more)

    def begin(
        self, method: str = "POST", path: str = "/", body: bytes = b"what is vanus", **headers: str
    ) -> None:
        """Send a request that is not answered yet."""
        answer = self.request(method, path, body, **headers)
        self.assertEqual(answer.status, 0, answer.body)

    def come(self) -> ParsedResponse:
        """The response that has come; its status is 0 if none has."""
        self.turn()
        return ParsedResponse(self.transport.value() or b"HTTP/1.1 0\r\n\r\n")

    def turn(self) -> None:
        self.clock.advance(0)

    @property
    def prompt_id(self) -> str:
        """The last prompt's id."""
        return list(self.journal.prompts)[-1]

    def answered(self, prompt_id: str = "", state: State = State.ANSWERED) -> bytes:
        """Answer a prompt; returns its event."""
        prompt_id = prompt_id or self.prompt_id
        event = encode(self.journal.prompts[prompt_id], ANSWER)
        self.end(prompt_id, state, event)
        return event

    def end(self, prompt_id: str, state: State, *what: Any, **more: Any) -> None:
        self.journal.end(prompt_id, state, *what, **more)
        call = ended(State.ANSWERED, name=prompt_id)
        self.observers.asked(attrs.evolve(cast(Any, call), state=state))
