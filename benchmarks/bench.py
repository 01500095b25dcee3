"""All figures of docs/benchmarks.md, measured and written in one run of about 20 minutes.

python benchmarks/bench.py [--rounds 5] [--waiting 1000000] [--out docs]
"""

import argparse
import asyncio
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Coroutine
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import recovery
import scenarios
from attrs import frozen
from compare import Figures, Ratio, allow_many_files, compare, median, ratio

from chatgpt_source import __version__

Measure = Callable[[], Coroutine[Any, Any, float]]
ROOT = Path(__file__).parent.parent
MOST_CALLS = 9_900
"""Calls under way that a hard limit of 20,000 open files allows."""


@frozen
class Comparison:
    """The daemon beside a rival, at a number of calls under way and a latency of the model.

    Attributes:
        calls: The calls.
        latency: The latency in seconds.
        rival: The rival's name.
        cpu: The ratio of CPU an event.
        daemon: The daemon's figures.
        other: The rival's.
    """

    calls: int
    latency: float
    rival: str
    cpu: Ratio
    daemon: Figures
    other: Figures


LOADS = (
    ("relay", 64, 0.0, 4000),
    ("relay", 64, 0.05, 4000),
    ("relay", 64, 0.5, 1200),
    ("relay", 6000, 0.0, 9000),
    ("relay", 6000, 0.5, 9000),
    ("fastapi", 64, 0.05, 600),
)
"""Rival, calls under way, latency in seconds, events a round."""


def comparisons(rounds: int) -> list[Comparison]:
    """The daemon beside its rivals."""
    done = []
    for rival, calls, latency, events in LOADS:
        print(f"{rival}, {calls} calls under way, {latency * 1e3:.0f} ms:", flush=True)
        found = compare([rival], calls, latency, events, rounds)
        ours, theirs = found["daemon"], found[rival]
        cpu = ratio(ours, theirs)
        done.append(Comparison(calls, latency, rival, cpu, median(ours), median(theirs)))
    return done


def alone(rounds: int, saturated: float, waiting: int) -> list[tuple[str, str]]:
    """What is measured of the daemon alone: names and figures, in words."""

    def ratio_of(measure: Measure) -> str:
        return str(Ratio.of([asyncio.run(measure()) for _ in range(rounds)]))

    def accepted(figures: dict[str, float]) -> str:
        return f"{figures['median_202_ms']:.1f} and {figures['slowest_202_ms']:.1f} ms"

    starts, of_relay = (
        [asyncio.run(scenarios.start(name)) for _ in range(rounds)] for name in ("daemon", "relay")
    )
    p50, p99 = asyncio.run(scenarios.accepted(saturated / 2, 20))
    empty, full = (recovery.measure(prompts, 200) for prompts in (0, waiting))
    rows = [
        (
            "CPU an event with 2,000 idle kept connections, to that with 8",
            ratio_of(scenarios.idle_ratio),
        ),
        (
            "CPU an event in binary mode, signed and traced, to a plain one",
            ratio_of(scenarios.features_ratio),
        ),
        (
            f"202s at half of the saturated rate, {saturated / 2:.0f} a second",
            f"p50 {p50:.1f} ms, p99 {p99:.1f} ms",
        ),
        (
            "From the start to the first response",
            f"{statistics.median(seconds for seconds, _ in starts):.2f} s",
        ),
        (
            "Idle memory, and that of the relay",
            " and ".join(
                f"{statistics.median(memory for _, memory in each):.0f} MiB"
                for each in (starts, of_relay)
            ),
        ),
        (
            f"Memory with {MOST_CALLS:,} calls under way",
            f"{asyncio.run(scenarios.in_flight(MOST_CALLS)):.0f} MiB",
        ),
        (
            f"Start to ready with {waiting:,} prompts waiting, and with none",
            f"{full['ready_s']:.2f} s, {empty['ready_s']:.2f} s",
        ),
        (
            f"Memory with {waiting:,} prompts waiting, and with none",
            f"{full['memory_mib']:.0f} MiB, {empty['memory_mib']:.0f} MiB",
        ),
        (
            f"202s, median and slowest of 50, with {waiting:,} prompts waiting, and with none",
            f"{accepted(full)}, {accepted(empty)}",
        ),
        ("In a cgroup of half a core and 512 MiB", asyncio.run(scenarios.with_limits(150, 60))),
    ]
    for name, figure in rows:
        print(f"{name}: {figure}", flush=True)
    return rows


def machine() -> str:
    """What was measured, where and when, in words."""
    packages = ("twisted", "treq", "httptools", "fastapi", "uvicorn", "openai", "httpx")
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    described = subprocess.run(
        ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"],
        capture_output=True,
        text=True,
        check=False,
    )
    today, commit = datetime.now(timezone.utc).date(), described.stdout.strip() or "unknown"
    return (
        f"{today}, {os.cpu_count()} cores of a shared virtual machine"
        f" ({platform.machine()}, Linux {platform.release().split('-')[0]}), Python"
        f" {platform.python_version()}, {versions}; chatgpt-source {__version__}, commit {commit}"
    )


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--waiting", type=int, default=1_000_000, help="prompts in the journal")
    options.add_argument("--out", type=Path, default=ROOT / "docs")
    given = options.parse_args()
    import report  # noqa: PLC0415 - needs the extra `bench`

    allow_many_files()
    compared = comparisons(given.rounds)
    rows = alone(given.rounds, compared[0].daemon.per_second, given.waiting)
    command = " ".join(["python", "benchmarks/bench.py", *sys.argv[1:]])
    report.write(given.out, machine(), command, compared, rows)


if __name__ == "__main__":
    main()
