"""How fast the two engines of the journal are: prompts a second, and the CPU of each.

Each prompt is accepted and claimed, answered, and delivered, in an engine with its group commit in
a thread of its own, as in the daemon. SQLite and PostgreSQL take turns, so that what the machine
does besides meets both; the ratio of a round is PostgreSQL's to SQLite's. The PostgreSQL server is
started here, on the same cores; its CPU is all its processes'.

    python benchmarks/journal.py [--under-way 1 16 64 256] [--seconds 2] [--rounds 5]
    python benchmarks/journal.py --processes 1 2 4     # what sharing one day's row costs
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any
from unittest import SkipTest

from attrs import define
from programs import cpu_of_all
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import react
from twisted.internet.threads import deferToThread, deferToThreadPool
from twisted.python.threadpool import ThreadPool

from chatgpt_source.journal import Answered, Delivered, Submission, Terms
from chatgpt_source.journal.engine import engine_of
from chatgpt_source.prompt import Answer, Prompt
from chatgpt_source.quota import Day

ROOT = Path(__file__).parent.parent
SETTINGS = "max_connections=50"
"""The server's; all else is its default, so it syncs each commit to disk, as SQLite does here."""
ANSWER = Answer("an answer", "gpt", "stop", "req-1", {"total_tokens": 7})
EVENT = b'{"specversion": "1.0", "data": "%s"}' % (b"x" * 400)


@define
class Round:
    """What one engine did in a round: prompts a second, and the CPU of each, in ms."""

    rate: float
    cpu: float
    server: float = 0.0

    @property
    def whole(self) -> float:
        return self.cpu + self.server


class Engine:
    """One engine in some processes of its own.

    Args:
        place: The journal's path or URL.
        processes: How many share it.
        server: The server's process, if it has one.
    """

    def __init__(self, place: str, processes: int, server: int | None = None) -> None:
        self._server = server
        self._workers = [
            subprocess.Popen(
                [sys.executable, __file__, "--work", place],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )
            for _ in range(processes)
        ]
        self.run(4, 0.5)

    def run(self, under_way: int, seconds: float, *, own_days: bool = False) -> Round:
        before = self._server_cpu()
        for number, each in enumerate(self._workers):
            day = f"day {number if own_days else ''}"
            print(json.dumps([under_way, seconds, day]), file=each.stdin, flush=True)
        told = [json.loads(each.stdout.readline()) for each in self._workers]
        prompts = sum(count for count, _, _ in told)
        rate = sum(count / took for count, took, _ in told)
        cpu = sum(used for _, _, used in told)
        used = self._server_cpu() - before
        return Round(rate, cpu * 1e3 / prompts, used * 1e3 / prompts)

    def _server_cpu(self) -> float:
        return 0.0 if self._server is None else cpu_of_all(self._server)

    def close(self) -> None:
        for each in self._workers:
            each.stdin.close()
            each.wait(30)


def work(place: str) -> None:
    """A process of an engine: reads rounds from the standard input, writes what they came to."""
    react(_work, (place,))


def _work(reactor: Any, place: str) -> Deferred[None]:
    return Deferred.fromCoroutine(_rounds(reactor, place))


async def _rounds(reactor: Any, place: str) -> None:
    threads = ThreadPool(1, 1)
    threads.start()
    try:
        await _read_rounds(reactor, place, partial(deferToThreadPool, reactor, threads))
    finally:
        threads.stop()


async def _read_rounds(reactor: Any, place: str, in_thread: Any) -> None:
    journal = engine_of(place).open()(reactor, in_thread)
    await journal.recover(10**9, "UTC", {}, 0.0)
    while line := await deferToThread(sys.stdin.readline):
        under_way, seconds, name = json.loads(line)
        terms = Terms(Day(name, 0.0, 2e9), 10**9, 10**9)
        began, used = time.perf_counter(), time.process_time()
        callers = [
            Deferred.fromCoroutine(_call(reactor, journal, terms, began + seconds))
            for _ in range(under_way)
        ]
        counts = await gatherResults(callers)
        took = time.perf_counter() - began
        print(json.dumps([sum(counts), took, time.process_time() - used]), flush=True)
    await journal.close()


async def _call(reactor: Any, journal: Any, terms: Terms, until: float) -> int:
    count = 0
    while time.perf_counter() < until:
        prompt = Prompt(os.urandom(16).hex(), "what is vanus", "source", "type", time.time())
        (admitted,) = await journal.accept([Submission(prompt)], terms, claim=True)
        ask = admitted.ask
        while ask is None:
            claims = await journal.claim_asks(reactor.seconds(), 1)
            ask = claims.claimed[0] if claims.claimed else None
        ended = await journal.ask_ended(ask, Answered(ANSWER, EVENT), reactor.seconds(), claim=True)
        told = await journal.delivery_ended(ended.delivery, Delivered(), reactor.seconds())
        assert told.kept
        count += 1
    return count


def median(rounds: Sequence[Round]) -> Round:
    return Round(
        *(statistics.median(getattr(each, name) for each in rounds) for name in Round.__slots__[:3])
    )


def compare(sqlite: Engine, postgres: Engine, given: Any) -> None:
    """The engines side by side, at each number of prompts under way."""
    print("under way   SQLite/s  PostgreSQL/s  ratio (from to)     ms CPU: SQLite  ours  server")
    for under_way in given.under_way:
        pairs = []
        for n in range(given.rounds):
            order = (sqlite, postgres) if n % 2 else (postgres, sqlite)
            told = {each: each.run(under_way, given.seconds) for each in order}
            pairs.append((told[sqlite], told[postgres]))
        ratios = sorted(other.rate / one.rate for one, other in pairs)
        one, other = (median(each) for each in zip(*pairs, strict=True))
        print(
            f"{under_way:>9} {one.rate:>10.0f} {other.rate:>13.0f}  "
            f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} {ratios[-1]:.2f}) "
            f"{one.cpu:>22.2f} {other.cpu:>6.2f} {other.server:>6.2f}",
            flush=True,
        )


def share(postgres: Engine, processes: int, given: Any) -> None:
    """Processes that share one day's row, beside as many with a day each."""
    under_way = max(1, given.under_way[-1] // processes)
    pairs = []
    for n in range(given.rounds):
        order = (True, False) if n % 2 else (False, True)
        told = {own: postgres.run(under_way, given.seconds, own_days=own) for own in order}
        pairs.append((told[False], told[True]))
    ratios = sorted(one.rate / other.rate for one, other in pairs)
    shared, own = (median(each) for each in zip(*pairs, strict=True))
    print(
        f"{processes} processes, {under_way} under way in each: {shared.rate:.0f}/s with one day's"
        f" row, {own.rate:.0f}/s with a row each: {statistics.median(ratios):.2f}"
        f" ({ratios[0]:.2f} to {ratios[-1]:.2f}); {shared.cpu:.2f} + {shared.server:.2f} ms of CPU",
        flush=True,
    )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--under-way", type=int, nargs="+", default=[1, 16, 64, 256])
    options.add_argument("--processes", type=int, nargs="+", help="share one journal")
    options.add_argument("--seconds", type=float, default=2.0, help="of a round")
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--work", help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.work:
        work(given.work)
        return
    sys.path.insert(0, str(ROOT))
    from tests.journal.postgres_server import begin  # noqa: PLC0415 - from the root

    try:
        server = begin(SETTINGS)
    except SkipTest as error:
        sys.exit(str(error))
    try:
        if given.processes:
            for processes in given.processes:
                with closing(Engine(server.schema(), processes, server.pid)) as postgres:
                    share(postgres, processes, given)
            return
        with (
            tempfile.TemporaryDirectory() as folder,
            closing(Engine(str(Path(folder) / "journal.sqlite"), 1)) as sqlite,
            closing(Engine(server.schema(), 1, server.pid)) as postgres,
        ):
            compare(sqlite, postgres, given)
    finally:
        server.end()


if __name__ == "__main__":
    main()
