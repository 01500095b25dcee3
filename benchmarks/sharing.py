"""Daemons that share a port: events a second of several processes, compared with one.

    python benchmarks/sharing.py [--processes 2] [--calls 256] [--events 6000] [--rounds 5]

Each daemon has a journal of its own, on one disk. The callers, the model and the target are a
further process: with N daemons and their load generator on fewer than N + 1 free cores, the ratio
is that of the machine. The figures to trust are the medians of the ratios of each round.
"""

import argparse
import asyncio
import os
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from attrs import Factory, define
from compare import MOST_SLICES, Ratio, allow_many_files
from daemon import percentiles
from peers import Peers, load
from programs import Program, cpu_of, free_port


@define
class Group:
    """Daemons at one port, with their peers, and what they have taken so far."""

    programs: Sequence[Program]
    peers: Peers
    cpu: float = 0.0
    seconds: float = 0.0
    busy: float = 0.0
    latencies: list[float] = Factory(list)

    async def take(self, events: int, calls: int) -> None:
        """Send prompts, and wait for their events."""
        daemons, ours, began = self._cpu(), cpu_of(os.getpid()), time.perf_counter()
        self.latencies += await load(self.peers, self.programs[0].port, events, calls)
        self.seconds += time.perf_counter() - began
        self.busy += cpu_of(os.getpid()) - ours
        self.cpu += self._cpu() - daemons

    def _cpu(self) -> float:
        return sum(each.cpu() for each in self.programs)

    def clear(self) -> None:
        self.cpu = self.seconds = self.busy = 0.0
        self.latencies = []

    def tell(self) -> str:
        assert not self.peers.repeats, f"{self.peers.repeats} events came twice"
        p50, p99 = percentiles(self.latencies)
        return (
            f"{len(self.programs)} sharing the port: {len(self.latencies) / self.seconds:.0f}"
            f" events/s, 202 p50 {p50:.1f} ms, p99 {p99:.1f} ms;"
            f" daemons {self.cpu / self.seconds:.0%}, peers {self.busy / self.seconds:.0%}"
            " of a core"
        )

    def rate(self) -> float:
        return len(self.latencies) / self.seconds


@asynccontextmanager
async def group(number: int, calls: int, latency: float) -> AsyncIterator[Group]:
    """Start daemons at one port."""
    peers, port = Peers(latency), free_port()
    await peers.start()
    programs: list[Program] = []
    with tempfile.TemporaryDirectory() as folder:
        try:
            for each in range(number):
                admin = free_port()
                settings = {
                    "listen": f"tcp:{port}:interface=127.0.0.1:reusePort=yes",
                    "admin": f"tcp:{admin}:interface=127.0.0.1",
                }
                where = Path(folder) / str(each)
                ports = (port, admin)
                programs.append(
                    await asyncio.to_thread(
                        Program, "daemon", where, peers.model, peers.sink, calls, settings, ports
                    )
                )
            yield Group(programs, peers)
        finally:
            for program in programs:
                await asyncio.to_thread(program.stop)
            peers.stop()


async def measure(
    numbers: Sequence[int], calls: int, latency: float, events: int, rounds: int
) -> list[float]:
    """Measure groups of daemons in short turns; the ratios of the last to the first."""
    ratios = []
    slices = max(1, min(MOST_SLICES, events // max(calls * 4, 1)))
    async with AsyncExitStack() as stack:
        groups = [
            await stack.enter_async_context(group(number, calls, latency)) for number in numbers
        ]
        for each in groups:
            await each.take(max(calls, events // 4), calls)
        for number in range(rounds):
            for each in groups:
                each.clear()
            for _ in range(slices):
                for each in groups:
                    await each.take(events // slices, calls)
            for each in groups:
                print(f"  round {number + 1}, {each.tell()}", flush=True)
            ratios.append(groups[-1].rate() / groups[0].rate())
    return ratios


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--processes", type=int, default=2, help="that are compared with one")
    options.add_argument("--calls", type=int, default=256, help="prompts under way at once")
    options.add_argument("--latency", type=float, default=0.05, help="of the model, in seconds")
    options.add_argument("--events", type=int, default=6000, help="a round and group")
    options.add_argument("--rounds", type=int, default=5)
    given = options.parse_args()
    allow_many_files()
    ratios = asyncio.run(
        measure((1, given.processes), given.calls, given.latency, given.events, given.rounds)
    )
    print(f"cores: {os.cpu_count()}, which the load generator shares")
    print(f"events/s, {given.processes} processes to one: {Ratio.of(ratios)}")


if __name__ == "__main__":
    main()
