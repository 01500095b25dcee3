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

from attrs import frozen
from daemon import percentiles
from peers import load
from programs import cpu_of, running

SETTLE = 0.3
"""Seconds in which a program ends what it does after the last event."""


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


async def measure(name: str, calls: int, latency: float, events: int) -> Figures:
    """Start a program, warm it up, and measure it; each event must arrive."""
    async with running(name, calls, latency) as (program, peers):
        await load(peers, program.port, max(calls, events // 4), calls)
        await asyncio.sleep(SETTLE)
        cpu, ours, began = program.cpu(), cpu_of(os.getpid()), time.perf_counter()
        latencies = await load(peers, program.port, events, calls)
        took = time.perf_counter() - began
        busy = (cpu_of(os.getpid()) - ours) / took
        await asyncio.sleep(SETTLE)
        spent = program.cpu() - cpu
        memory = program.peak_memory()
        assert not peers.repeats, f"{peers.repeats} events came twice"
    p50, p99 = percentiles(latencies)
    return Figures(spent / events * 1e3, events / took, p50, p99, memory, busy)


def compare(
    rivals: Sequence[str], calls: int, latency: float, events: int, rounds: int
) -> dict[str, list[Figures]]:
    """The figures of each round, of the daemon and of each rival."""
    found: dict[str, list[Figures]] = {name: [] for name in ("daemon", *rivals)}
    for number in range(rounds):
        for name, figures in found.items():
            figures.append(asyncio.run(measure(name, calls, latency, events)))
            print(f"  round {number + 1}, {name}: {figures[-1]}", flush=True)
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
