"""How fast prompts are accepted: 202s a second and their latency, with the commit and without it.

Two doors run in one process, alike but for the journal: one commits to disk with
`synchronous=FULL` before each 202, the other answers without writing anything. They are loaded by
turns from another process, so that what the machine does besides meets both; the last column is
what the promise costs.

    python benchmarks/accept.py [--seconds 3] [--rounds 3] [--folder .]
"""

import argparse
import multiprocessing
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from attrs import define, field
from daemon import medians
from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from chatgpt_source.config import Config
from chatgpt_source.config.secret import Secret
from chatgpt_source.health.judge import Judge
from chatgpt_source.health.recent import Recent
from chatgpt_source.health.refusals import Refusals
from chatgpt_source.http.server import BoundedSite
from chatgpt_source.intake.api import Intake
from chatgpt_source.intake.health import Health
from chatgpt_source.intake.waiting import Waiters
from chatgpt_source.journal import Admitted
from chatgpt_source.journal.sqlite.engine import SqliteEngine
from chatgpt_source.log import set_level
from chatgpt_source.pipeline import Pipeline
from chatgpt_source.quota import Calendar

CALLERS = (1, 16, 64, 256)
CONFIG = Config(target="http://x", token=Secret("t"), everyday_limit=10**9, max_backlog=10**9)
REQUEST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 13\r\n\r\nwhat is vanus"


class Unwritten:
    """A journal that forgets at once."""

    fault = None
    is_shared = False
    date = property(lambda _: time.time())
    claim_asks = claim_expired = claim_submitted = claim_leftovers = None  # nothing is asked

    def accept(self, submissions: Any, *_: object, **__: object) -> Deferred[list[Admitted]]:
        return succeed([Admitted(each.prompt.id, 1) for each in submissions])


def serve(folder: str, ports: Any) -> None:
    from twisted.internet import reactor  # noqa: PLC0415 - each process its own

    set_level("error")
    threads = ThreadPool(1, 1)
    threads.start()
    opened = SqliteEngine(Path(folder) / "journal.sqlite").open()
    real = opened(reactor, lambda run: deferToThreadPool(reactor, threads, run))
    for journal in (real, Unwritten()):
        calendar = Calendar(CONFIG.timezone)
        pipeline = Pipeline(reactor, journal, CONFIG, None, {"target": None})
        observed = Recent(reactor), Refusals(reactor)
        judge = Judge(reactor, CONFIG, calendar, journal, pipeline, *observed)
        waiters = Waiters(reactor)
        intake = Intake(reactor, CONFIG, calendar, journal, pipeline, Health(judge), waiters)
        site = BoundedSite(reactor, intake.answer, CONFIG.max_body_size)
        ports.put(reactor.listenTCP(0, site, interface="127.0.0.1").getHost().port)
    reactor.run()


@define
class Load:
    until: float
    latencies: list[float] = field(factory=list)


class Caller(Protocol):
    """Sends the next request once the last is answered."""

    def __init__(self, load: Load) -> None:
        self.load = load

    def connectionMade(self) -> None:
        self.send()

    def send(self) -> None:
        self.started = time.perf_counter()
        self.received = b""
        self.transport.write(REQUEST)

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        if not self.received.endswith(b"}"):
            return
        assert self.received.startswith(b"HTTP/1.1 202"), self.received
        now = time.perf_counter()
        self.load.latencies.append(now - self.started)
        if now < self.load.until:
            self.send()
        else:
            self.transport.loseConnection()


def call(port: int, callers: int, seconds: float, results: Any) -> None:
    from twisted.internet import reactor  # noqa: PLC0415 - each process its own

    load = Load(time.perf_counter() + seconds)
    factory = Factory.forProtocol(lambda: Caller(load))
    factory.noisy = False
    for _ in range(callers):
        TCP4ClientEndpoint(reactor, "127.0.0.1", port).connect(factory)
    reactor.callLater(seconds + 1, reactor.stop)
    reactor.run()
    results.put(load.latencies)


def measure(port: int, callers: int, seconds: float) -> tuple[float, float, float]:
    """202s a second, and the median and 99th percentile of their latency in ms."""
    results: Any = multiprocessing.Queue()
    caller = multiprocessing.Process(target=call, args=(port, callers, seconds, results))
    caller.start()
    latencies = sorted(results.get(timeout=seconds + 30))
    caller.join()
    at = len(latencies)
    return at / seconds, latencies[at // 2] * 1e3, latencies[at * 99 // 100] * 1e3


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=3)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--folder", help="where the journal is made (default: a temporary one)")
    given = options.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        ports: Any = multiprocessing.Queue()
        server = multiprocessing.Process(target=serve, args=(folder, ports), daemon=True)
        server.start()
        committed, unwritten = ports.get(timeout=30), ports.get(timeout=30)
        print(
            "callers   committed: 202/s   p50 ms   p99 ms   unwritten: 202/s   p50 ms   p99 ms"
            "   ratio of 202/s"
        )
        for callers in CALLERS:
            rows = [
                (
                    measure(committed, callers, given.seconds),
                    measure(unwritten, callers, given.seconds),
                )
                for _ in range(given.rounds)
            ]
            (rate, p50, p99), (rate_, p50_, p99_) = medians(rows)
            print(
                f"{callers:7}   {rate:16.0f} {p50:8.2f} {p99:8.2f}   {rate_:16.0f} {p50_:8.2f}"
                f" {p99_:8.2f}   {rate / rate_:14.2f}",
                flush=True,
            )
        server.kill()  # it has threads that would stay


if __name__ == "__main__":
    sys.exit(main())
