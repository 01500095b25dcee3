"""A broker's client that delivers events by Knative's rules.

The rules are those of Knative Eventing: what an answer means is in
`pkg/broker/filter/filter_handler.go`, what is delivered again in `pkg/kncloudevents/retries.go`.
"""

import json
from base64 import b64decode
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any
from urllib.parse import quote, unquote

import treq
from attrs import field, frozen
from twisted.internet.defer import (
    CancelledError,
    Deferred,
    DeferredSemaphore,
    TimeoutError,
    gatherResults,
)
from twisted.internet.error import ConnectError, ConnectionLost
from twisted.internet.task import deferLater
from twisted.web.client import (
    Agent,
    HTTPConnectionPool,
    RequestTransmissionFailed,
    ResponseFailed,
)

from tests.fakes.target import wrong_with_event

Event = Mapping[str, Any]
STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
_AGAIN = {404, 408, 409, 429}
_BROKEN = (
    CancelledError,
    ConnectError,
    ConnectionLost,
    RequestTransmissionFailed,
    ResponseFailed,
    TimeoutError,
)


class Verdict(Enum):
    """What an answer means to the broker."""

    DELIVERED = "delivered"
    REPLIED = "delivered, and the answer is a reply"
    AGAIN = "delivered again"
    DEAD = "sent to the dead letter sink"


@frozen
class Dead:
    """What went to the dead letter sink: an event, and the last status; None if none came."""

    event: Event
    status: int | None


@frozen
class Answered:
    """An answer, as a broker sees it.

    Attributes:
        headers: Names in lower case.
    """

    status: int
    headers: Mapping[str, str] = field(factory=dict)
    body: bytes = b""

    @property
    def event(self) -> dict[str, Any] | None:
        """The event that it holds; None if it claims to hold none.

        Raises:
            ValueError: If it claims to hold one, and does not.
        """
        media_type = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        if "ce-specversion" in self.headers:
            event = self._binary(media_type)
        elif media_type.startswith("application/cloudevents"):
            if media_type != STRUCTURED:
                raise ValueError(f"a reply is one event, not {media_type}")
            event = json.loads(self.body)
        else:
            return None
        wrong = wrong_with_event(event)
        if wrong:
            raise ValueError(wrong)
        return event

    def _binary(self, media_type: str) -> dict[str, Any]:
        event: dict[str, Any] = {
            name.removeprefix("ce-"): unquote(value, errors="strict")
            for name, value in self.headers.items()
            if name.startswith("ce-")
        }
        if media_type:
            event["datacontenttype"] = media_type
        if self.body:
            is_json = media_type == "application/json"
            event["data"] = json.loads(self.body) if is_json else self.body.decode()
        return event

    @property
    def verdict(self) -> Verdict:
        """What it means."""
        if self.status >= 500 or self.status in _AGAIN:
            return Verdict.AGAIN
        if not 200 <= self.status < 300:
            return Verdict.DEAD
        try:
            event = self.event
        except ValueError:
            return Verdict.AGAIN
        if event is not None:
            return Verdict.REPLIED
        return Verdict.AGAIN if self.body else Verdict.DELIVERED


def structured(event: Event) -> tuple[dict[str, str], bytes]:
    """The headers and the body of an event in structured mode."""
    return {"Content-Type": STRUCTURED}, json.dumps(event).encode()


def binary(event: Event) -> tuple[dict[str, str], bytes]:
    """The headers and the body of an event in binary mode."""
    headers = {
        f"ce-{name}": quote(_words(value), safe="!#$&'()*+,-./:;<=>?@[\\]^_`{|}~")
        for name, value in event.items()
        if name not in {"data", "data_base64", "datacontenttype"}
    }
    if "datacontenttype" in event:
        headers["Content-Type"] = event["datacontenttype"]
    if "data_base64" in event:
        return headers, b64decode(event["data_base64"])
    data = event.get("data", "")
    is_text = isinstance(data, str) and "json" not in event.get("datacontenttype", "")
    return headers, (data if is_text else json.dumps(data)).encode()


def _words(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def batch(*events: Event) -> tuple[dict[str, str], bytes]:
    """The headers and the body of a batch."""
    return {"Content-Type": BATCH}, json.dumps(events).encode()


MODES = {"structured": structured, "binary": binary, "batch": batch}


class FakeBroker:
    """Delivers events to one subscriber until it has them, or they are dead.

    Args:
        reactor: The real reactor.
        subscriber: The URL that gets the events.
        backoff: Seconds until the first repeat, doubled for each further one.
        retry: How many repeats there are.
        timeout: Seconds until an answer must be there; None: no limit.
        loses: Every so many a `202` is lost on its way back; 0: none is.

    Attributes:
        delivered: The events that the subscriber has, by the broker's rules.
        replies: The events that it answered with.
        dead: What went to the dead letter sink.
        attempts: How many requests were sent.
        lost: How many answers were lost.
    """

    def __init__(
        self,
        reactor: Any,
        subscriber: str,
        *,
        backoff: float = 0.05,
        retry: int = 10,
        timeout: float | None = None,
        loses: int = 0,
    ) -> None:
        self.delivered: list[Event] = []
        self.replies: list[dict[str, Any]] = []
        self.dead: list[Dead] = []
        self.attempts = 0
        self.lost = 0
        self._reactor = reactor
        self._subscriber = subscriber
        self._backoff = backoff
        self._retry = retry
        self._timeout = timeout
        self._loses = loses
        self._accepted = 0
        self._agent = Agent(reactor, pool=HTTPConnectionPool(reactor, persistent=False))

    async def deliver(self, *events: Event, mode: str = "binary") -> None:
        """Deliver one event, or a batch, until the subscriber has it, or it is dead."""
        answer = None
        for repeat in range(self._retry + 1):
            if repeat:
                await deferLater(self._reactor, self._backoff * 2 ** (repeat - 1))
            # An event that passes the broker's ingress again has another time of arrival.
            stamped = [{**event, "knativearrivaltime": f"{repeat}"} for event in events]
            answer = await self._attempt(*MODES[mode](*stamped))
            if answer is None or answer.verdict is Verdict.AGAIN:
                continue
            if answer.verdict is Verdict.DEAD:
                break
            self.delivered += events
            self.replies += [answer.event] if answer.event else []
            return
        self.dead += [Dead(event, answer and answer.status) for event in events]

    async def deliver_all(
        self, deliveries: Sequence[tuple[str, Sequence[Event]]], at_once: int = 10
    ) -> None:
        """Deliver events or batches, each in its mode, some at once."""
        slots = DeferredSemaphore(at_once)
        running = [
            slots.run(lambda m=mode, e=events: Deferred.fromCoroutine(self.deliver(*e, mode=m)))
            for mode, events in deliveries
        ]
        await gatherResults(running, consumeErrors=True)

    async def _attempt(self, headers: Mapping[str, str], body: bytes) -> Answered | None:
        """What the subscriber answers; None if no answer came back."""
        self.attempts += 1
        try:
            response = await treq.post(
                self._subscriber,
                data=body,
                headers={**headers, "Prefer": "reply", "Kn-Namespace": "default"},
                allow_redirects=False,
                agent=self._agent,
                timeout=self._timeout,
            )
            content = await response.content()
        except _BROKEN:
            return None
        if response.code == 202:
            self._accepted += 1
            if self._loses and self._accepted % self._loses == 0:
                self.lost += 1
                return None
        names = response.headers.getAllRawHeaders()
        found = {name.decode().lower(): values[0].decode("latin-1") for name, values in names}
        return Answered(response.code, found, content)
