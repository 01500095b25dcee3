"""Accepted means delivered, whatever happens: a daemon under a random schedule of faults."""

import os
import random
import time
from collections import Counter
from pathlib import Path

from twisted.trial.unittest import TestCase

from tests.chaos.proofs import Files, all_of
from tests.chaos.schedule import LONG, SHORT, repeat, schedule
from tests.chaos.world import World, say

SEED = os.environ.get("CHAOS_SEED")
MINUTES = float(os.environ.get("CHAOS_MINUTES") or 0)
SECONDS = float(os.environ.get("CHAOS_SECONDS") or LONG)


class ChaosCase(TestCase):
    async def prove(self, seed: int, seconds: float) -> World:
        world = World(self, seed, seconds)
        try:
            await world.run()
            ids = [id_ for prompt in world.sent for id_ in set(prompt.ids)]
            records = {}
            for id_ in ids:
                answer = await world.daemon.get(f"/prompts/{id_}")
                records[id_] = answer.json() if answer.status == 200 else None
            await world.stop()
            wrong = all_of(world, records, Files.of(world))
        except Exception as error:
            raise AssertionError(f"{error}\n{self.report(world)}") from error
        if wrong:
            told = "\n".join(wrong[:20])
            self.fail(f"{len(wrong)} things do not hold:\n{told}\n{self.report(world)}")
        await world.end()
        return world

    def report(self, world: World) -> str:
        log = Path(self.mktemp()).absolute()
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(world.daemon.text)
        return (
            f"what happened: {', '.join(world.faults)}\nthe daemon's log: {log}\n"
            f"to repeat it: {repeat(world.seed, world.seconds)}"
        )


class ShortTests(ChaosCase):
    timeout = 100

    async def test_seed_1(self):
        await self.prove(1, SHORT)

    async def test_seed_2(self):
        await self.prove(2, SHORT)

    def test_the_schedule_is_the_seed_s(self):
        self.assertEqual(schedule(5, LONG), schedule(5, LONG))
        self.assertNotEqual(schedule(5, LONG), schedule(6, LONG))


class LongTests(ChaosCase):
    """`make chaos`: the seed that is asked for, or fresh ones for some minutes."""

    timeout = 60 * MINUTES + 600
    if not (SEED or MINUTES):
        skip = "it takes minutes: `make chaos` runs it"

    async def test_seeds(self):
        end = time.monotonic() + 60 * MINUTES
        seed = int(SEED) if SEED else random.SystemRandom().randrange(10**9)
        while True:
            say(f"\nchaos: {repeat(seed, SECONDS)}")
            began = time.monotonic()
            world = await self.prove(seed, SECONDS)
            say(told(world, time.monotonic() - began))
            if SEED or time.monotonic() > end:
                return
            seed = random.SystemRandom().randrange(10**9)


def told(world: World, seconds: float) -> str:
    """A run in a line."""
    faults = ", ".join(f"{n} {fault}" for fault, n in sorted(Counter(world.faults).items()))
    taken = Counter(taken.id for taken in world.target.taken)
    return (
        f"  holds after {seconds:.0f} s: {len(world.sent)} prompts sent,"
        f" {len({id_ for prompt in world.sent for id_ in prompt.ids})} got a 202,"
        f" {sum(map(bool, (prompt.refusals for prompt in world.sent)))} were refused,"
        f" {sum(prompt.unanswered for prompt in world.sent)} unanswered,"
        f" {taken.total() - len(taken)} delivered again, {len(world.cuts)} crashes; {faults}"
    )
