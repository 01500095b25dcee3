"""Fails if the daemon's CPU an event, as a ratio to the bare relay's, has risen.

    python benchmarks/guard.py [--update]

The better of three rounds counts, and may be 1.15 times the ratio in `baseline.json`. Whoever
changes that ratio says why in the commit.
"""

import argparse
import json
import sys
from pathlib import Path

from compare import allow_many_files, compare, ratio

BASELINE = Path(__file__).with_name("baseline.json")
ALLOWED = 1.15
CALLS, LATENCY, EVENTS, ROUNDS = 64, 0.0, 6000, 3


def verdict(measured: float, kept: float) -> tuple[bool, str]:
    """Whether a ratio may be as it is, and a line that says so."""
    most = kept * ALLOWED
    line = (
        f"CPU an event, to the bare relay's: {measured:.2f}; kept: {kept:.2f}, at most {most:.2f}"
    )
    return measured <= most, line


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--update", action="store_true", help="keep the measured ratio")
    given = options.parse_args()
    allow_many_files()
    found = compare(["relay"], CALLS, LATENCY, EVENTS, ROUNDS)
    measured = ratio(found["daemon"], found["relay"])
    if given.update:
        BASELINE.write_text(json.dumps({"cpu_to_relay": round(measured.median, 2)}) + "\n")
    fine, line = verdict(measured.least, json.loads(BASELINE.read_text())["cpu_to_relay"])
    print(line)
    sys.exit(not fine)


if __name__ == "__main__":
    main()
