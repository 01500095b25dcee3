"""How long the prompts of a replica that dies wait for another one.

Two replicas share a journal in a PostgreSQL server that is started here. One of them has prompts
under way when it is killed (`kill -9`), or stopped (SIGTERM, with calls that do not end in time);
the other delivers their events after the lease, or at once. The goal is the lease of 20 s and 2 s.

    python benchmarks/failover.py [--rounds 3] [--prompts 16]
"""

import argparse
import asyncio
import signal
import statistics
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from unittest import SkipTest

from peers import PROMPT, Peers
from programs import QUIET, ROOT, Program

SERVER = "fsync=off max_connections=50"
DRAIN = 1.0
"""The replicas' `drain_timeout`."""
PATIENCE = 60.0
MANY = 10**9


def is_ready(port: int) -> bool:
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1).close()
    except OSError:
        return False
    return True


def post(port: int) -> None:
    answer = urllib.request.urlopen(f"http://127.0.0.1:{port}/", PROMPT, timeout=10)
    assert answer.status == 202, answer.status
    answer.close()


async def until(condition, what: str) -> None:
    deadline = time.perf_counter() + PATIENCE
    while not await asyncio.to_thread(condition):
        if time.perf_counter() > deadline:
            raise TimeoutError(what)
        await asyncio.sleep(0.01)


async def measure(url: str, prompts: int, end: signal.Signals) -> tuple[float, float]:
    """The seconds from the end of one replica to the first event, and to the last."""
    peers = Peers(0.0)
    await peers.start()
    peers.hold = MANY  # so that none is answered
    settings = {**QUIET, "journal": url, "drain_timeout": DRAIN}
    with tempfile.TemporaryDirectory() as folder:
        replicas = [
            await asyncio.to_thread(
                Program, "daemon", Path(folder) / name, peers.model, peers.sink, 64, settings
            )
            for name in ("first", "second")
        ]
        first, _ = replicas
        try:
            for each in replicas:
                await until(lambda each=each: is_ready(each.port), "a replica")
            before = peers.kept
            for _ in range(prompts):
                await asyncio.to_thread(post, first.port)
            await until(lambda: peers.kept >= before + prompts, "calls under way")
            peers.hold = 0
            began = time.perf_counter()
            await asyncio.to_thread(first.stop, end)
            ended = time.perf_counter() if end == signal.SIGTERM else began
            async with asyncio.timeout(PATIENCE):
                await peers.until(1)
                first_event = time.perf_counter()
                await peers.until(prompts)
            return first_event - ended, time.perf_counter() - ended
        finally:
            for each in replicas:
                await asyncio.to_thread(each.stop, signal.SIGKILL)
            peers.stop()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--prompts", type=int, default=16, help="under way at the end")
    given = options.parse_args()
    sys.path.insert(0, str(ROOT))
    from tests.journal.postgres_server import begin  # noqa: PLC0415 - from the root

    try:
        server = begin(SERVER)
    except SkipTest as error:
        sys.exit(str(error))
    try:
        for name, end in (("kill -9", signal.SIGKILL), ("SIGTERM", signal.SIGTERM)):
            told = [
                asyncio.run(measure(server.schema(), given.prompts, end))
                for _ in range(given.rounds)
            ]
            firsts, lasts = zip(*told, strict=True)
            print(
                f"{name:>8} to the first of {given.prompts} events:"
                f" {statistics.median(firsts):.1f} s ({min(firsts):.1f} to {max(firsts):.1f}),"
                f" to the last: {statistics.median(lasts):.1f} s",
                flush=True,
            )
    finally:
        server.end()


if __name__ == "__main__":
    main()
