"""Daemons that share a port, and a journal: compared with one that has its journal in a file.

    python benchmarks/sharing.py [--replicas 1 2 4] [--files 2] [--calls 64] [--rounds 5]

`--replicas` share a journal in PostgreSQL, whose server is started here; `--files` have a journal
each. The callers, the model, the target and the server use the same cores: with fewer free ones
than processes, the ratio of the events a second is that of the machine. CPU is what holds anywhere.
The figures to trust are the medians of the ratios of each round.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import Factory, define
from compare import MOST_SLICES, Ratio, allow_many_files
from daemon import percentiles
from peers import Peers, load
from programs import ROOT, Program, cpu_of, cpu_of_all, free_port

if TYPE_CHECKING:
    from tests.journal.postgres_server import Server


@define
class Group:
    """Daemons at one port, with their peers, and what they have taken so far."""

    name: str
    programs: Sequence[Program]
    peers: Peers
    server: int | None = None
    cpu: float = 0.0
    server_cpu: float = 0.0
    seconds: float = 0.0
    busy: float = 0.0
    latencies: list[float] = Factory(list)

    async def take(self, events: int, calls: int) -> None:
        """Send prompts, and wait for their events."""
        daemons, ours, began = self._cpu(), cpu_of(os.getpid()), time.perf_counter()
        server = self._server_cpu()
        self.latencies += await load(self.peers, self.programs[0].port, events, calls)
        self.seconds += time.perf_counter() - began
        self.busy += cpu_of(os.getpid()) - ours
        self.cpu += self._cpu() - daemons
        self.server_cpu += self._server_cpu() - server

    def _cpu(self) -> float:
        return sum(each.cpu() for each in self.programs)

    def _server_cpu(self) -> float:
        return 0.0 if self.server is None else cpu_of_all(self.server)

    def clear(self) -> None:
        self.cpu = self.server_cpu = self.seconds = self.busy = 0.0
        self.latencies = []

    def tell(self) -> str:
        assert not self.peers.repeats, f"{self.peers.repeats} events came twice"
        p50, p99 = percentiles(self.latencies)
        return (
            f"{self.name}: {self.rate():.0f} events/s, 202 p50 {p50:.1f} ms, p99 {p99:.1f} ms;"
            f" CPU an event {self.cost(self.cpu):.2f} ms, the server's"
            f" {self.cost(self.server_cpu):.2f} ms; peers {self.busy / self.seconds:.0%} of a core"
        )

    def rate(self) -> float:
        return len(self.latencies) / self.seconds

    def cost(self, cpu: float) -> float:
        """CPU an event, in ms."""
        return cpu * 1e3 / len(self.latencies)

    def whole(self) -> float:
        """CPU an event with the server's, in ms."""
        return self.cost(self.cpu + self.server_cpu)


@asynccontextmanager
async def group(
    number: int, calls: int, latency: float, server: "Server | None" = None
) -> AsyncIterator[Group]:
    """Start daemons at one port; with a server, they share a journal there."""
    journal = {} if server is None else {"journal": server.schema()}
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
                    **journal,
                }
                where = Path(folder) / str(each)
                ports = (port, admin)
                programs.append(
                    await asyncio.to_thread(
                        Program, "daemon", where, peers.model, peers.sink, calls, settings, ports
                    )
                )
            where = "a journal each" if server is None else "one journal in PostgreSQL"
            name = f"{number} with {'a file' if number == 1 and server is None else where}"
            yield Group(name, programs, peers, None if server is None else server.pid)
        finally:
            for program in programs:
                await asyncio.to_thread(program.stop)
            peers.stop()


async def measure(given: argparse.Namespace, server: "Server | None") -> None:
    """Measure groups of daemons in short turns; prints the ratios of each to the first."""
    slices = max(1, min(MOST_SLICES, given.events // max(given.calls * 4, 1)))
    async with AsyncExitStack() as stack:

        async def begin_group(number: int, server: "Server | None" = None) -> Group:
            return await stack.enter_async_context(
                group(number, given.calls, given.latency, server)
            )

        groups = [await begin_group(1)]
        groups += [await begin_group(number) for number in given.files]
        groups += [await begin_group(number, server) for number in given.replicas]
        rates: list[list[float]] = [[] for _ in groups]
        costs: list[list[float]] = [[] for _ in groups]
        for each in groups:
            await each.take(max(given.calls, given.events // 4), given.calls)
        for number in range(given.rounds):
            for each in groups:
                each.clear()
            for _ in range(slices):
                for each in groups:
                    await each.take(given.events // slices, given.calls)
            for place, each in enumerate(groups):
                print(f"  round {number + 1}, {each.tell()}", flush=True)
                rates[place].append(each.rate() / groups[0].rate())
                costs[place].append(each.whole() / groups[0].whole())
        for place, each in enumerate(groups[1:], 1):
            print(
                f"{each.name}, to one with a file: events/s {Ratio.of(rates[place])};"
                f" CPU an event, the server's too, {Ratio.of(costs[place])}"
            )


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--replicas", type=int, nargs="*", default=[], help="share a journal")
    options.add_argument("--files", type=int, nargs="*", default=[], help="with a journal each")
    options.add_argument("--calls", type=int, default=64, help="prompts under way at once")
    options.add_argument("--latency", type=float, default=0.0, help="of the model, in seconds")
    options.add_argument("--events", type=int, default=6000, help="a round and group")
    options.add_argument("--rounds", type=int, default=5)
    given = options.parse_args()
    if not given.files and not given.replicas:
        given.replicas = [1, 2, 4]
    allow_many_files()
    server = None
    if given.replicas:
        sys.path.insert(0, str(ROOT))
        from tests.journal.postgres_server import begin  # noqa: PLC0415 - from the root

        server = begin("max_connections=50")
    try:
        print(f"cores: {os.cpu_count()}, which the load generator shares")
        asyncio.run(measure(given, server))
    finally:
        if server is not None:
            server.end()


if __name__ == "__main__":
    main()
