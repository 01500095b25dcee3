"""What the daemon takes alone: memory, time to start, latency, and the price of its features."""

import asyncio
import secrets
from base64 import b64encode
from contextlib import AsyncExitStack
from pathlib import Path

import daemon
from compare import SETTLE, Taken, take_turns
from peers import Peers, load
from programs import Program, running

CGROUPS = Path("/sys/fs/cgroup")
FEW_IDLE, MOST_IDLE = 8, 2000
"""Idle connections that are compared."""
IDLE_TURNS = 10
TRACED = b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n"


async def cpu_ms(program: Program, peers: Peers, events: int, calls: int) -> float:
    """CPU an event, in ms."""
    cpu = program.cpu()
    await load(peers, program.port, events, calls)
    await asyncio.sleep(SETTLE)
    return (program.cpu() - cpu) / events * 1e3


async def start(name: str) -> tuple[float, float]:
    """Seconds from a program's start to an answered request, and its idle memory in MiB."""
    async with running(name, 64) as (program, _):
        await asyncio.sleep(3)
        return program.start_seconds, program.memory()


async def idle_ratio() -> float:
    """CPU an event with many idle connections to the model, to that with few, in turns."""
    async with AsyncExitStack() as stack:
        beginning = [running("daemon", MOST_IDLE) for _ in range(2)]
        many, few = [await stack.enter_async_context(each) for each in beginning]
        for program, peers in (many, few):
            await load(peers, program.port, 1000, FEW_IDLE)
        turns = [
            (await _with_idle(*many, MOST_IDLE), await _with_idle(*few, FEW_IDLE))
            for _ in range(IDLE_TURNS)
        ]
    of_many, of_few = map(sum, zip(*turns, strict=True))
    return of_many / of_few


async def _with_idle(program: Program, peers: Peers, connections: int) -> float:
    """CPU an event, while the daemon keeps so many idle connections: it closes them after 4 s."""
    for _ in range(5):
        peers.hold = connections
        await load(peers, program.port, connections, connections)
        await load(peers, program.port, 300, FEW_IDLE)  # until the burst has left the caches
        taken = await cpu_ms(program, peers, 500, FEW_IDLE)
        if peers.connected >= connections:
            return taken
    raise RuntimeError(f"800 events take more than 4 s, and {connections} idle connections closed")


async def features_ratio() -> float:
    """CPU an event in binary mode, signed and traced, to that of a plain one, in turns."""
    secret = "whsec_" + b64encode(secrets.token_bytes(32)).decode("ascii")
    settings = {"content_mode": "binary", "signing_secret": secret}
    async with (
        running("daemon", 64, 0.0, settings) as featured,
        running("daemon", 64) as plain,
    ):
        both = [Taken(*featured, headers=TRACED), Taken(*plain)]
        for each in both:
            await each.slice(1000, 64)
        ours, theirs = await take_turns(both, 4000, 64)
        return ours.cpu_ms / theirs.cpu_ms


async def in_flight(calls: int) -> float:
    """The memory in MiB with so many calls under way at once."""
    async with running("daemon", calls) as (program, peers):
        seen: list[float] = []
        peers.hold, peers.on_hold = calls, lambda: seen.append(program.memory())
        await load(peers, program.port, calls, calls)
        (memory,) = seen
        return memory


async def accepted(rate: float, seconds: float) -> tuple[float, float]:
    """The median time to a 202 and its 99th percentile, in ms, at a rate a second."""
    async with running("daemon", 64) as (program, peers):
        await load(peers, program.port, 1000, 64)
        return daemon.percentiles(await daemon.load(program.port, rate, seconds))


async def with_limits(rate: float, seconds: float) -> str:
    """Whether half a core and 512 MiB take so many events a second, in words."""
    group = _limited_group()
    if group is None:
        return "not measured: no cgroup can be made here"
    async with running("daemon", 64, 0.05) as (program, peers):
        for folder in group:
            (folder / "cgroup.procs").write_text(str(program.process.pid))
        before = len(peers.events)
        latencies = await daemon.load(program.port, rate, seconds)
        at_end = len(peers.events) - before
        await peers.until(before + len(latencies))
        p50, p99 = daemon.percentiles(latencies)
        memory = program.peak_memory()
    for folder in group:
        folder.rmdir()
    return (
        f"{rate:.0f} prompts/s for {seconds:.0f} s: {at_end} of {len(latencies)} events were there"
        f" with the last 202, the rest later; 202 p50 {p50:.1f} ms, p99 {p99:.0f} ms;"
        f" {memory:.0f} MiB"
    )


def _limited_group() -> list[Path] | None:
    """A new cgroup of half a core and 512 MiB; two folders with version 1."""
    limits = {
        "cpu.max": "50000 100000",
        "memory.max": str(512 * 2**20),
        "cpu.cfs_period_us": "100000",
        "cpu.cfs_quota_us": "50000",
        "memory.limit_in_bytes": str(512 * 2**20),
    }
    folders, written = [], set()
    try:
        for root in (CGROUPS, CGROUPS / "cpu", CGROUPS / "memory"):
            if (root / "cgroup.procs").exists():
                folder = root / "chatgpt-source-benchmark"
                folder.mkdir(exist_ok=True)
                folders.append(folder)
                found = [name for name in limits if (folder / name).exists()]
                for name in found:
                    (folder / name).write_text(limits[name])
                written.update(found)
    except OSError:
        return None
    is_limited = {"cpu.max", "memory.max"} <= written or (
        {"cpu.cfs_quota_us", "memory.limit_in_bytes"} <= written
    )
    return folders if is_limited else None
