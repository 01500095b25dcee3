"""What the benchmarks of whole daemons share: simple peers, a load at a pace, and figures."""

import asyncio
import json
import statistics
import time
from collections.abc import Sequence
from typing import Any

ANSWER = json.dumps({"choices": [{"message": {"content": "an answer"}, "finish_reason": "stop"}]})


def serve(ports: Any) -> None:
    """A model and a target that answer at once, and a target that never does; one port each."""

    async def respond(reader: Any, writer: Any, body: bytes | None) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]
                await reader.readexactly(int(length or 0))
                if body is None:
                    await asyncio.Event().wait()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def run() -> None:
        servers = [
            await asyncio.start_server(
                lambda reader, writer, body=body: respond(reader, writer, body), "127.0.0.1", 0
            )
            for body in (ANSWER.encode(), b"", None)
        ]
        ports.put([server.sockets[0].getsockname()[1] for server in servers])
        await asyncio.Event().wait()

    asyncio.run(run())


async def load(port: int, pace: float, seconds: float) -> list[float]:
    """Send prompts at a pace, however long they take; the latency of each 202 in seconds."""
    latencies: list[float] = []
    idle: list[Any] = []

    async def send() -> None:
        reader, writer = idle.pop() if idle else await asyncio.open_connection("127.0.0.1", port)
        started = time.perf_counter()
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 13\r\n\r\nwhat is vanus")
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 202"), head
        await reader.readuntil(b"}")
        latencies.append(time.perf_counter() - started)
        idle.append((reader, writer))

    begun, tasks = time.perf_counter(), []
    for number in range(int(pace * seconds)):
        await asyncio.sleep(begun + number / pace - time.perf_counter())
        tasks.append(asyncio.create_task(send()))
    await asyncio.gather(*tasks)
    for _, writer in idle:
        writer.close()
    return latencies


def percentiles(latencies: list[float]) -> tuple[float, float]:
    """Median and 99th percentile in ms."""
    ordered = sorted(latencies)
    return ordered[len(ordered) // 2] * 1e3, ordered[len(ordered) * 99 // 100] * 1e3


def medians(rows: Sequence[Sequence[Sequence[float]]]) -> list[list[float]]:
    """Of rounds, each with a row of figures a side: the median of each figure, side by side."""
    return [
        [statistics.median(column) for column in zip(*side, strict=True)]
        for side in zip(*rows, strict=True)
    ]
