"""The peers of a measured program: a model with a set latency, a sink that counts, and callers.

They share one asyncio loop, and read and write bare bytes: they take about a tenth of the CPU of
what they measure, which `compare.py` prints.
"""

import asyncio
import json
import re
import time
from collections.abc import Callable
from typing import Any

ANSWER = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "a-model",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Paris is the capital of France."},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 10, "completion_tokens": 8, "total_tokens": 18},
    }
).encode("ascii")
PROMPT = b"What is the capital of France, and of which river does it take its water?"

_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_ID = re.compile(rb'(?i)(?:"id": ?"|\r\nce-id: *)([0-9a-f-]{36})')


class _Messages(asyncio.Protocol):
    """Cuts what a kept connection receives into HTTP messages with a Content-Length."""

    transport: Any
    unread = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.unread += data
        while (end := self.unread.find(b"\r\n\r\n")) >= 0:
            length = _LENGTH.search(self.unread, 0, end)
            size = end + 4 + (int(length[1]) if length else 0)
            if len(self.unread) < size:
                return
            message, self.unread = self.unread[:size], self.unread[size:]
            self.message(message)

    def message(self, message: bytes) -> None:
        raise NotImplementedError


class _Model(_Messages):
    _RESPONSE = (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nx-request-id: req_1\r\n"
        b"Content-Length: %d\r\n\r\n%s" % (len(ANSWER), ANSWER)
    )

    def __init__(self, peers: "Peers") -> None:
        self.peers = peers

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.peers.connected += 1

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.peers.connected -= 1

    def message(self, message: bytes) -> None:
        del message
        if self.peers.hold:
            self.peers.keep(self)
        elif self.peers.latency:
            asyncio.get_running_loop().call_later(self.peers.latency, self.answer)
        else:
            self.answer()

    def answer(self) -> None:
        self.transport.write(self._RESPONSE)


class _Sink(_Messages):
    def __init__(self, peers: "Peers") -> None:
        self.peers = peers

    def message(self, message: bytes) -> None:
        self.transport.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")
        found = _ID.search(message)
        assert found, message
        self.peers.received(found[1])


class Peers:
    """The model and the sink, on loopback.

    Attributes:
        latency: Seconds that the model takes.
        model: Its port.
        sink: The sink's port.
        hold: Calls that the model keeps, and answers together; 0: none.
        on_hold: Called when it has so many, before it answers.
        connected: The connections to the model.
        events: The ids of the events that arrived.
        repeats: How often one arrived again.
    """

    def __init__(self, latency: float) -> None:
        self.latency = latency
        self.model = self.sink = self.hold = self.connected = self.repeats = 0
        self.on_hold: Callable[[], None] = lambda: None
        self._kept: list[_Model] = []
        self.events: set[bytes] = set()
        self.on_event: Callable[[], None] = lambda: None
        self._servers: list[asyncio.Server] = []

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        for kind in (_Model, _Sink):
            self._servers.append(
                await loop.create_server(lambda k=kind: k(self), "127.0.0.1", 0, backlog=8192)
            )
        self.model, self.sink = (each.sockets[0].getsockname()[1] for each in self._servers)

    @property
    def kept(self) -> int:
        """The calls that the model keeps."""
        return len(self._kept)

    def keep(self, call: "_Model") -> None:
        self._kept.append(call)
        if len(self._kept) == self.hold:
            self.on_hold()
            for each in self._kept:
                each.answer()
            self._kept.clear()
            self.hold = 0

    def received(self, event: bytes) -> None:
        if event in self.events:
            self.repeats += 1
        else:
            self.events.add(event)
            self.on_event()

    async def until(self, events: int) -> None:
        """Wait until so many events have arrived."""
        arrived = asyncio.get_running_loop().create_future()

        def look() -> None:
            if len(self.events) >= events and not arrived.done():
                arrived.set_result(None)

        self.on_event = look
        look()
        await arrived

    def stop(self) -> None:
        for server in self._servers:
            server.close()


class _Caller(_Messages):
    """A caller's connection: sends a prompt when it is told to."""

    def __init__(self, load: "_Load") -> None:
        self.load = load
        self.sent = 0.0

    def send(self) -> None:
        self.sent = time.perf_counter()
        self.transport.write(self.load.request)

    def message(self, message: bytes) -> None:
        assert message.startswith((b"HTTP/1.1 202", b"HTTP/1.0 202")), message
        self.load.latencies.append(time.perf_counter() - self.sent)
        self.load.idle.append(self)
        self.load.go_on()


class _Load:
    """Keeps a number of prompts under way, from the request to the event."""

    def __init__(self, peers: Peers, events: int, calls: int, request: bytes) -> None:
        self.peers, self.calls, self.request = peers, calls, request
        self.left = events
        self.until = len(peers.events) + events
        self.under_way = 0
        self.idle: list[_Caller] = []
        self.latencies: list[float] = []
        self.done = asyncio.get_running_loop().create_future()

    def go_on(self) -> None:
        while self.idle and self.left and self.under_way < self.calls:
            self.left -= 1
            self.under_way += 1
            self.idle.pop().send()

    def on_event(self) -> None:
        self.under_way -= 1
        if len(self.peers.events) >= self.until and not self.done.done():
            self.done.set_result(None)
        self.go_on()


async def load(
    peers: Peers, port: int, events: int, calls: int, *, connections: int = 64, headers: bytes = b""
) -> list[float]:
    """Send prompts, at most `calls` under way at once, until each one's event has arrived.

    Returns:
        The seconds from each request to its 202.

    Raises:
        TimeoutError: If no event arrives for 60 s: some are lost.
    """
    request = (
        b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: text/plain\r\n%s"
        b"Content-Length: %d\r\n\r\n%s" % (headers, len(PROMPT), PROMPT)
    )
    loop = asyncio.get_running_loop()
    going = _Load(peers, events, calls, request)
    peers.on_event = going.on_event
    for _ in range(min(connections, calls)):
        _, caller = await loop.create_connection(lambda: _Caller(going), "127.0.0.1", port)
        going.idle.append(caller)
    callers = list(going.idle)
    going.go_on()
    seen = -1
    while not going.done.done():
        await asyncio.wait([going.done], timeout=60)
        if len(peers.events) == seen:
            raise TimeoutError(f"{going.until - seen} events did not arrive")
        seen = len(peers.events)
    for caller in callers:
        caller.transport.close()
    return going.latencies
