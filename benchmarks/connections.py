"""What 10,000 idle and slow connections cost honest callers: the latency of their 202s.

Two daemons, alike, are sent prompts at the same steady pace, by turns. Another process keeps
connections to one of them: half say nothing, half send a byte of a head now and then; each that is
closed on them is made again. The last column is the ratio of the two.

    python benchmarks/connections.py [--connections 10000] [--pace 100] [--seconds 5] [--rounds 3]
"""

import argparse
import asyncio
import multiprocessing
import resource
import signal
import tempfile
from pathlib import Path
from typing import Any

from daemon import load, medians, percentiles, serve
from programs import QUIET, Program

SLOWLY = 5.0
"""Seconds between two bytes of a slow sender."""
ENOUGH = 0.95
"""Of the connections, as some are just being made again."""
PER_ADDRESS = 5000
"""Connections from one of 127.0.0.0/8: each has its own ports."""


async def keep(port: int, number: int, count: set[int]) -> None:
    """Keep one connection, silent or slow by its number, until it is closed on us."""
    source = (f"127.0.0.{2 + number // PER_ADDRESS}", 0)
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=source)
    count.add(number)
    try:
        for byte in (b"POST / HTTP/1.1\r\nX: " + b"x" * 1000) * (number % 2):
            writer.write(bytes([byte]))
            await asyncio.sleep(SLOWLY)
            if reader.at_eof():
                break
        await reader.read()
    finally:
        count.discard(number)
        writer.close()


def hold(port: int, connections: int, seconds: float, held: Any) -> None:
    """Keep connections to a port; tells once all are there, and every second how many are."""

    count: set[int] = set()

    async def one(number: int) -> None:
        while True:
            try:
                await keep(port, number, count)
            except OSError:  # noqa: PERF203 - it is to be made again
                await asyncio.sleep(1)

    async def run() -> None:
        tasks = []
        for number in range(connections):
            tasks.append(asyncio.create_task(one(number)))
            if number % 100 == 0:
                await asyncio.sleep(0.05)
        for _ in range(int(seconds)):
            held.value = len(count)
            await asyncio.sleep(1)
        for task in tasks:
            task.cancel()

    asyncio.run(run())


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--connections", type=int, default=10000)
    options.add_argument("--pace", type=float, default=100, help="prompts a second")
    options.add_argument("--seconds", type=float, default=5)
    options.add_argument("--rounds", type=int, default=3)
    given = options.parse_args()
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if files < given.connections + 1000:
        raise SystemExit(f"{files} files may be open, too few for {given.connections} connections")
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    ports: Any = multiprocessing.Queue()
    multiprocessing.Process(target=serve, args=(ports,), daemon=True).start()
    model, well, _ = ports.get(timeout=30)
    held = multiprocessing.Value("i", 0)
    least = given.connections
    with tempfile.TemporaryDirectory() as folder:
        daemons = [
            Program("daemon", Path(folder) / name, model, well, settings=QUIET)
            for name in ("free", "held")
        ]
        lasts = 60 + 4 * given.rounds * given.seconds
        holder = multiprocessing.Process(
            target=hold, args=(daemons[1].port, given.connections, lasts, held), daemon=True
        )
        holder.start()
        try:
            while held.value < given.connections * ENOUGH:
                if not holder.is_alive():
                    raise SystemExit(f"only {held.value} connections were held")
                asyncio.run(asyncio.sleep(1))
            rows = []
            for _ in range(given.rounds):
                rows.append(
                    [
                        percentiles(asyncio.run(load(daemon.port, given.pace, given.seconds)))
                        for daemon in daemons
                    ]
                )
                least = min(least, held.value)
        finally:
            holder.kill()
            for daemon in daemons:
                daemon.stop(signal.SIGKILL)
    (free_50, free_99), (held_50, held_99) = medians(rows)
    print(f"at least {least} of {given.connections} connections were held at each look")
    print("         no others: p50 ms   p99 ms   with them: p50 ms   p99 ms   ratio of p99")
    print(
        f"{given.pace:6.0f}/s {free_50:18.2f} {free_99:8.2f} {held_50:19.2f} {held_99:8.2f}"
        f" {held_99 / free_99:14.2f}"
    )


if __name__ == "__main__":
    main()
