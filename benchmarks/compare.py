"""The daemon beside its rivals, alternating in one run: CPU, events a second, 202s, memory.

    python benchmarks/compare.py [--calls 64] [--latency 0.05] [--events 4000] [--rounds 5] [RIVAL]

A rival is `relay` (Twisted and treq), `fastapi` (FastAPI, openai, httpx), or the path of another
checkout of the daemon. The figures to trust are the medians of the ratios of each round.
"""

import argparse
import asyncio
import os
import resource
import statistics
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack

from attrs import Factory, define, frozen
from daemon import percentiles
from peers import Peers, load
from programs import Program, cpu_of, running

SETTLE = 0.3
"""Seconds in which a program ends what it does after the last event."""
MOST_SLICES = 20
"""Turns of a program in a round."""


@frozen
class Figures:
    """What one program took for one round.

    Attributes:
        cpu_ms: CPU an event.
        per_second: Events a second.
        p50_ms: The median time to a 202.
        p99_ms: Its 99th percentile.
        memory_mib: The highest resident memory.
        peers_busy: The share of a core that the peers took.
    """

    cpu_ms: float
    per_second: float
    p50_ms: float
    p99_ms: float
    memory_mib: float
    peers_busy: float

    def __str__(self) -> str:
        return (
            f"{self.cpu_ms:.3f} ms CPU an event, {self.per_second:.0f} events/s,"
            f" 202 p50 {self.p50_ms:.1f} ms, p99 {self.p99_ms:.1f} ms,"
            f" {self.memory_mib:.0f} MiB, peers {self.peers_busy:.0%} of a core"
        )


@frozen
class Ratio:
    """The ratios of some rounds, in short."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, ratios: Sequence[float]) -> "Ratio":
        return cls(statistics.median(ratios), min(ratios), max(ratios))

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.least:.2f} to {self.most:.2f})"


def ratio(daemon: Sequence[Figures], rival: Sequence[Figures]) -> Ratio:
    """The CPU of the daemon to that of a rival, over the rounds."""
    pairs = zip(daemon, rival, strict=True)
    return Ratio.of([ours.cpu_ms / theirs.cpu_ms for ours, theirs in pairs])


def median(rounds: Sequence[Figures]) -> Figures:
    """The median of each figure."""
    names = Figures.__attrs_attrs__
    return Figures(
        **{
            each.name: statistics.median(getattr(one, each.name) for one in rounds)
            for each in names
        }
    )


@define
class Taken:
    """What a program has taken in its slices so far; its prompts have these header lines."""

    program: Program
    peers: Peers
    headers: bytes = b""
    cpu: float = 0.0
    seconds: float = 0.0
    busy: float = 0.0
    latencies: list[float] = Factory(list)

    async def slice(self, events: int, calls: int) -> None:
        ours, began = cpu_of(os.getpid()), time.perf_counter()
        port, headers = self.program.port, self.headers
        self.latencies += await load(self.peers, port, events, calls, headers=headers)
        self.seconds += time.perf_counter() - began
        self.busy += cpu_of(os.getpid()) - ours

    def figures(self, events: int) -> Figures:
        assert not self.peers.repeats, f"{self.peers.repeats} events came twice"
        p50, p99 = percentiles(self.latencies)
        return Figures(
            (self.program.cpu() - self.cpu) / events * 1e3,
            events / self.seconds,
            p50,
            p99,
            self.program.peak_memory(),
            self.busy / self.seconds,
        )


async def measure(names: Sequence[str], calls: int, latency: float, events: int) -> list[Figures]:
    """Start programs, warm them up, and measure them in turns; each event must arrive."""
    async with AsyncExitStack() as stack:
        taken = []
        for name in names:
            program, peers = await stack.enter_async_context(running(name, calls, latency))
            await load(peers, program.port, max(calls, events // 4), calls)
            taken.append(Taken(program, peers))
        return await take_turns(taken, events, calls)


async def take_turns(taken: Sequence[Taken], events: int, calls: int) -> list[Figures]:
    """Measure programs that have warmed up, with so many events each.

    The turns are short, so that what else the machine does meanwhile meets all alike.
    """
    slices = max(1, min(MOST_SLICES, events // max(calls * 4, 1)))
    await asyncio.sleep(SETTLE)
    for each in taken:
        each.cpu, each.latencies = each.program.cpu(), []
    for _ in range(slices):
        for each in taken:
            await each.slice(events // slices, calls)
    await asyncio.sleep(SETTLE)
    return [each.figures(events // slices * slices) for each in taken]


def compare(
    rivals: Sequence[str], calls: int, latency: float, events: int, rounds: int
) -> dict[str, list[Figures]]:
    """The figures of each round, of the daemon and of each rival."""
    found: dict[str, list[Figures]] = {name: [] for name in ("daemon", *rivals)}
    for number in range(rounds):
        measured = asyncio.run(measure(list(found), calls, latency, events))
        for (name, figures), each in zip(found.items(), measured, strict=True):
            figures.append(each)
            print(f"  round {number + 1}, {name}: {each}", flush=True)
    return found


def allow_many_files() -> None:
    """Raise the limit of open files as far as it may be raised."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--calls", type=int, default=64, help="prompts under way at once")
    options.add_argument("--latency", type=float, default=0.05, help="of the model, in seconds")
    options.add_argument("--events", type=int, default=4000, help="a round and program")
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("rivals", nargs="*", default=["relay"], metavar="RIVAL")
    given = options.parse_args()
    allow_many_files()
    found = compare(given.rivals, given.calls, given.latency, given.events, given.rounds)
    for name in given.rivals:
        print(f"CPU an event, the daemon's to {name}'s: {ratio(found['daemon'], found[name])}")


if __name__ == "__main__":
    main()
