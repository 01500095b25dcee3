"""How a daemon starts with many prompts waiting: time to ready, first 202s, and memory.

An empty journal and one with PROMPTS accepted prompts are started one after the other; the model
they ask accepts connections and says nothing, so that `concurrency` calls are under way.

    python benchmarks/recovery.py [--prompts 200000] [--bytes 200]
"""

import argparse
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

from programs import ROOT, memory_of

from chatgpt_source.journal.sqlite import open_journal

STEP = 200_000
"""Prompts in one statement."""
IDS = (
    "substr(h, 1, 8) || '-' || substr(h, 9, 4) || '-4' || substr(h, 14, 3)"
    " || '-a' || substr(h, 18, 3) || '-' || substr(h, 21)"
)
"""SQL for a random UUID, from 32 random hexadecimal digits."""


def fill(path: Path, prompts: int, size: int) -> None:
    """Put accepted prompts into a new journal, a millisecond after each other.

    It is one transaction that nothing can roll back and no disk has to confirm: a million prompts
    take about 10 s. The tables are those that as many 202s would make, ids in random order too.
    """
    opened = open_journal(path)
    db, now = opened.connection, time.time()
    for pragma in (
        "journal_mode = OFF",
        "synchronous = OFF",
        "foreign_keys = OFF",
        f"cache_size = {-20_000 - prompts // 8}",  # KiB: the index of the ids fits
    ):
        db.execute(f"PRAGMA {pragma}").fetchall()
    db.execute("BEGIN")
    (counts,) = db.execute("SELECT sql FROM sqlite_master WHERE name = 'count_new'").fetchone()
    db.execute("DROP TRIGGER count_new")
    for first in range(0, prompts, STEP):
        db.execute(
            "WITH RECURSIVE some (n, h) AS (SELECT ?1 + 1, lower(hex(randomblob(16))) UNION ALL"
            " SELECT n + 1, lower(hex(randomblob(16))) FROM some WHERE n < ?2)"
            " INSERT INTO prompts (seq, id, state, due, day, accepted, since)"
            f" SELECT n, {IDS}, 'accepted', ?3 + n * 1e-3, '2026-01-01', ?3 + n * 1e-3,"
            " ?3 + n * 1e-3 FROM some",
            (first, min(first + STEP, prompts), now - prompts * 1e-3),
        )
    db.execute(
        "INSERT INTO texts (seq, prompt, source, type, size)"
        " SELECT seq, ?1, 's', 't', ?2 FROM prompts",
        ("x" * size, size + 2),
    )
    db.execute("UPDATE counts SET n = ? WHERE state = 'accepted'", (prompts,))
    db.execute(counts)
    db.execute("COMMIT")
    db.execute("PRAGMA journal_mode = WAL").fetchall()
    opened.close()
    os.sync()  # else the disk is busy with it while a start is measured


def silent_model() -> int:
    """A port that accepts connections and answers nothing."""
    server = socket.create_server(("127.0.0.1", 0), backlog=1024)
    kept = []

    def accept() -> None:
        while True:
            kept.append(server.accept())

    threading.Thread(target=accept, daemon=True).start()
    return int(server.getsockname()[1])


def request(port: int, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", body, timeout=10) as answer:
        return answer.status, answer.read()


def start(folder: Path, model: int) -> dict[str, float]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = folder / "config.yml"
    config.write_text(
        f"target: http://127.0.0.1:{model}\ntoken: t\nport: {port}\nmax_backlog: 100000000\n"
        f"base_url: http://127.0.0.1:{model}/v1\neveryday_limit: 1000000\n"
    )
    environ = {**os.environ, "CONNECTOR_CONFIG": str(config), "PYTHONPATH": str(ROOT)}
    twistd = Path(sys.executable).with_name("twistd")
    began = time.perf_counter()
    daemon = subprocess.Popen(
        [twistd, "--nodaemon", "--pidfile=", f"--rundir={folder}", "chatgpt-source"],
        env=environ,
        stdout=subprocess.DEVNULL,
    )
    try:
        while True:
            try:
                status, body = request(port, "/readyz")
                break
            except OSError:
                if time.perf_counter() - began > 60:
                    raise
                time.sleep(0.01)
        ready = time.perf_counter() - began
        assert (status, json.loads(body)["checks"]["journal"]) == (200, "ok"), body
        latencies = []
        for _ in range(50):
            posted = time.perf_counter()
            assert request(port, "/", b"what is vanus")[0] == 202
            latencies.append((time.perf_counter() - posted) * 1e3)
        time.sleep(5)
        return {
            "ready_s": ready,
            "first_202_ms": latencies[0],
            "median_202_ms": statistics.median(latencies),
            "slowest_202_ms": max(latencies),
            "memory_mib": memory_of(daemon.pid),
        }
    finally:
        daemon.send_signal(signal.SIGKILL)
        daemon.wait()


def measure(prompts: int, size: int) -> dict[str, float]:
    """The figures of a start with so many prompts waiting, each of so many bytes."""
    with tempfile.TemporaryDirectory() as folder:
        fill(Path(folder) / "journal.sqlite", prompts, size)
        return start(Path(folder), silent_model())


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--prompts", type=int, default=200_000)
    options.add_argument("--bytes", type=int, default=200, help="of each prompt's text")
    given = options.parse_args()
    rows = {}
    for name, prompts in (("empty", 0), ("full", given.prompts)):
        rows[name] = measure(prompts, given.bytes)
        shown = "  ".join(f"{key}={value:.2f}" for key, value in rows[name].items())
        print(f"{prompts:>8} waiting: {shown}", flush=True)
    ratio = rows["full"]["memory_mib"] / rows["empty"]["memory_mib"]
    print(f"memory, full to empty: {ratio:.2f}")


if __name__ == "__main__":
    main()
