"""What goes wrong and when: a pure function of the seed."""

import random
from collections.abc import Mapping, Sequence

from attrs import frozen

SHORT = 4.0
"""Seconds of a run that fit into everybody's `trial tests`."""
LONG = 20.0


@frozen
class Step:
    """One fault: `pause` seconds after the one before it, for `lasts` seconds."""

    pause: float
    fault: str
    lasts: float


FAULTS = {
    "process": ("kill", "kill", "kill at start", "term", "term", "term twice", "term, kill"),
    "model": ("500", "429", "reset", "reset unread", "hang", "stall", "cut"),
    "target": ("500", "429", "reset", "late reset", "slow", "down"),
    "disk": ("full", "nearly full"),
}
HOLDS = {"model": ("401",), "target": ("410",)}
"""Faults after which the daemon waits for 30 s: for those who have the time."""

_PAUSES = {"process": (0.3, 1.3), "model": (0.3, 1.2), "target": (0.3, 1.2), "disk": (0.8, 2.5)}
_LASTS = {"process": (0.0, 0.8), "model": (0.2, 0.8), "target": (0.2, 0.8), "disk": (0.2, 1.0)}


def schedule(seed: int, seconds: float) -> Mapping[str, Sequence[Step]]:
    """What happens to the process, to the model, to the target and to the disk."""
    holding = seconds >= LONG and random.Random(f"{seed}/holds").random() < 0.3
    return {
        track: list(_track(seed, seconds, track, faults + (HOLDS.get(track, ()) * holding)))
        for track, faults in FAULTS.items()
    }


def _track(seed: int, seconds: float, track: str, faults: Sequence[str]):
    chance = random.Random(f"{seed}/{track}")
    passed = 0.0
    while True:
        step = Step(
            chance.uniform(*_PAUSES[track]), chance.choice(faults), chance.uniform(*_LASTS[track])
        )
        passed += step.pause + step.lasts
        if passed > seconds:
            return
        yield step


def small_disk(seed: int) -> bool:
    """Whether the journal is to lie on a disk of its own that can be filled."""
    return random.Random(f"{seed}/disk kind").random() < 0.5


def repeat(seed: int, seconds: float) -> str:
    """The command that runs a seed again."""
    return f"CHAOS_SEED={seed} CHAOS_SECONDS={seconds:g} make chaos"
