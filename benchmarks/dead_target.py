"""What a dead target costs the events of another: the time from a prompt to its event.

Two daemons, alike but for the target `other`: in one it answers at once, in the other it takes each
event and never answers. Every second prompt goes to it. Measured are the prompts of the default
target, by turns, so that what the machine does besides meets both.

    python benchmarks/dead_target.py [--pace 100] [--seconds 5] [--rounds 3]
"""

import argparse
import asyncio
import json
import multiprocessing
import signal
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from daemon import medians, percentiles, serve
from programs import QUIET, Program, free_port

PATIENCE = 30.0
"""Seconds until the last event must have arrived."""


class Sink:
    """Notes when each event arrives, by its id."""

    def __init__(self) -> None:
        self.arrived: dict[str, float] = {}

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take the events of a connection."""
        ends = (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError)
        with suppress(*ends):
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]
                event = json.loads(await reader.readexactly(int(length)))
                self.arrived[event["id"]] = time.perf_counter()
                writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        writer.close()


async def send(port: int, headers: str) -> tuple[str, float]:
    """Send a prompt; returns its id, and when it was sent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    sent = time.perf_counter()
    writer.write(f"POST / HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: 4\r\n\r\ntext".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 202"), head
    answer = json.loads(await reader.readuntil(b"}"))
    writer.close()
    return answer["id"], sent


async def measure(sink_port: int, port: int, pace: float, seconds: float) -> list[float]:
    """Seconds from each prompt of the default target to its event."""
    sink = Sink()
    server = await asyncio.start_server(sink.take, "127.0.0.1", sink_port)
    begun, tasks = time.perf_counter(), []
    for number in range(int(pace * seconds)):
        await asyncio.sleep(begun + number / pace - time.perf_counter())
        other = "vanus-target: other\r\n" if number % 2 else ""
        tasks.append(asyncio.create_task(send(port, other)))
    sent = dict(await asyncio.gather(*tasks[::2]))
    await asyncio.gather(*tasks[1::2])
    deadline = time.perf_counter() + PATIENCE
    while not sent.keys() <= sink.arrived.keys():
        assert time.perf_counter() < deadline, "events are missing"
        await asyncio.sleep(0.01)
    server.close()
    return [sink.arrived[id_] - at for id_, at in sent.items()]


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--pace", type=float, default=100, help="prompts a second")
    options.add_argument("--seconds", type=float, default=5)
    options.add_argument("--rounds", type=int, default=3)
    given = options.parse_args()
    ports: Any = multiprocessing.Queue()
    multiprocessing.Process(target=serve, args=(ports,), daemon=True).start()
    model, well, stuck = ports.get(timeout=30)
    sinks = [free_port(), free_port()]
    with tempfile.TemporaryDirectory() as folder:
        daemons = [
            Program(
                "daemon",
                Path(folder) / name,
                model,
                sink,
                settings={**QUIET, "targets": {"other": {"url": f"http://127.0.0.1:{port}/"}}},
            )
            for sink, name, port in zip(sinks, ("well", "dead"), (well, stuck), strict=True)
        ]
        try:
            rows = [
                [
                    percentiles(asyncio.run(measure(sink, daemon.port, given.pace, given.seconds)))
                    for sink, daemon in zip(sinks, daemons, strict=True)
                ]
                for _ in range(given.rounds)
            ]
        finally:
            for daemon in daemons:
                daemon.stop(signal.SIGKILL)
    (well_50, well_99), (dead_50, dead_99) = medians(rows)
    print("          the other answers: p50 ms   p99 ms   it is dead: p50 ms   p99 ms   ratio")
    print(
        f"{given.pace:6.0f}/s {well_50:25.2f} {well_99:8.2f} {dead_50:20.2f} {dead_99:8.2f}"
        f" {dead_50 / well_50:7.2f}"
    )


if __name__ == "__main__":
    main()
