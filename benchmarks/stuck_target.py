"""What a target that hangs costs those who send prompts: the latency of their 202s, side by side.

Two daemons, alike but for their targets: one answers at once, the other takes each event and never
answers. Both are sent prompts at the same steady pace, by turns, so that what the machine does
besides meets both; the last column is the ratio of the two.

    python benchmarks/stuck_target.py [--pace 100] [--seconds 5] [--rounds 3]
"""

import argparse
import asyncio
import multiprocessing
import signal
import tempfile
from pathlib import Path
from typing import Any

from daemon import load, medians, percentiles, serve
from programs import QUIET, Program


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--pace", type=float, default=100, help="prompts a second")
    options.add_argument("--seconds", type=float, default=5)
    options.add_argument("--rounds", type=int, default=3)
    given = options.parse_args()
    ports: Any = multiprocessing.Queue()
    multiprocessing.Process(target=serve, args=(ports,), daemon=True).start()
    model, well, stuck = ports.get(timeout=30)
    with tempfile.TemporaryDirectory() as folder:
        daemons = [
            Program("daemon", Path(folder) / name, model, target, settings=QUIET)
            for name, target in (("well", well), ("stuck", stuck))
        ]
        try:
            rows = [
                [
                    percentiles(asyncio.run(load(daemon.port, given.pace, given.seconds)))
                    for daemon in daemons
                ]
                for _ in range(given.rounds)
            ]
        finally:
            for daemon in daemons:
                daemon.stop(signal.SIGKILL)
    (well_50, well_99), (stuck_50, stuck_99) = medians(rows)
    print(
        "          target answers: p50 ms   p99 ms   target hangs: p50 ms   p99 ms   ratio of p99"
    )
    print(
        f"{given.pace:6.0f}/s {well_50:23.2f} {well_99:8.2f} {stuck_50:22.2f} {stuck_99:8.2f}"
        f" {stuck_99 / well_99:14.2f}"
    )


if __name__ == "__main__":
    main()
