"""Three replicas on one journal, under a random schedule of faults: what is promised holds."""

import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from attrs import frozen
from twisted.internet import reactor
from twisted.internet.error import ConnectError
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from tests.chaos.world import say
from tests.e2e.fleet import LEASE, Fleet, go_on, stop
from tests.e2e.line import DOWN, UP, Line
from tests.e2e.processes import call, together, until
from tests.e2e.test_replicas import CAREFUL
from tests.fakes.openai import api_error, completion, prompt_of
from tests.fakes.server import Fault, Received, Reply
from tests.journal.postgres_server import Server, ask, begin

SEED = os.environ.get("CHAOS_SEED")
MINUTES = float(os.environ.get("CHAOS_MINUTES") or 0)
SHORT, LONG = 6.0, 60.0
"""Seconds in which there are faults."""
REPLICAS = 3
CONCURRENCY = 8
Rows = Mapping[str, tuple[Any, ...]]
UNEXPECTED = ("Traceback", "nobody foresaw", "Unhandled")
CALLERS = 12
UNITS_A_SECOND = 25
LIVE_LONG = 22.0
"""Seconds of a fault that outlasts a lease."""
SETTLE = 120.0
KINDS = {"plain": 70, "cancel": 8, "wait": 8, "refused": 4, "cursed": 4, "keys": 6}


@frozen
class Step:
    """One fault: `pause` seconds after the one before it, for `lasts` seconds, to a replica."""

    pause: float
    fault: str
    lasts: float
    whom: int


FAULTS: Mapping[str, Sequence[str]] = {
    "replica": ("kill", "kill", "term", "pause", "cut", "cut up", "cut down", "reset"),
    "server": ("restart fast", "restart immediate", "terminate"),
    "model": ("500", "429", "reset", "hang", "slow"),
    "target": ("500", "reset", "slow"),
}
_PAUSES = {"replica": (0.2, 1.5), "server": (2.0, 6.0), "model": (0.3, 1.5), "target": (0.5, 2.0)}


def schedule(seed: int, seconds: float) -> Mapping[str, Sequence[Step]]:
    """What happens: a pure function of the seed."""
    return {track: list(_track(seed, seconds, track)) for track in FAULTS}


def _track(seed: int, seconds: float, track: str) -> Any:
    chance = random.Random(f"{seed}/{track}")
    passed = 0.0
    while True:
        lasts = chance.uniform(0.2, 1.5)
        if track == "replica" and seconds >= LONG and chance.random() < 0.25:
            lasts = chance.uniform(LEASE - 4, LIVE_LONG)
        step = Step(
            chance.uniform(*_PAUSES[track]),
            chance.choice(FAULTS[track]),
            lasts,
            chance.randrange(REPLICAS),
        )
        passed += step.pause + step.lasts
        if passed > seconds:
            return
        yield step


class World:
    """Everything of one run.

    Attributes:
        crashes: How often claims may have been lost: at kills and stops, and in long faults.
        done: What happened, in order.
    """

    def __init__(self, case: TestCase, database: Server, seed: int, seconds: float) -> None:
        self.seed, self.seconds, self.database = seed, seconds, database
        self.limit = int(UNITS_A_SECOND * seconds)
        self.fleet = Fleet(
            case,
            database.url,
            everyday_limit=self.limit,
            openai_timeout=2,
            drain_timeout=1.5,
            concurrency=CONCURRENCY,
            max_wait=20,
        )
        self.lines = [Line(database.port) for _ in range(REPLICAS)]
        for line in self.lines:
            line.start()
            case.addCleanup(line.stop)
        self.replicas = [self.fleet.behind(line) for line in self.lines]
        self.ports = [each.port for each in self.replicas]
        self.fleet.openai.script = self._model
        self.fleet.target.script = self._receiver
        self.done: list[str] = []
        self.cancelled: set[str] = set()
        self.crashes = 0
        self.over = False
        self._model_fault: str | None = None
        self._target_fault: str | None = None

    async def run(self) -> None:
        """Let it all happen, heal everything, and wait until every prompt has come to its end."""
        await self.fleet.start(*self.replicas)
        tracks = schedule(self.seed, self.seconds)
        acts: Mapping[str, Callable[[Step], Any]] = {
            "replica": self._befall_replica,
            "server": self._befall_server,
            "model": self._befall_model,
            "target": self._befall_target,
        }
        await together(
            self._end_callers(),
            *(self._caller(number) for number in range(CALLERS)),
            *(self._follow(track, tracks[track], act) for track, act in acts.items()),
        )
        await together(
            *(
                until(lambda each=each: self.fleet.is_ready(each), "a replica", SETTLE)
                for each in self.replicas
            )
        )
        await self._settle()
        await self._use_up_the_day()
        await self._settle()

    async def _follow(self, track: str, steps: Any, act: Callable[[Step], Any]) -> None:
        for step in steps:
            await deferLater(reactor, step.pause)
            self.done.append(f"{track}: {step.fault} {step.lasts:.1f} s")
            await act(step)

    async def _end_callers(self) -> None:
        await deferLater(reactor, self.seconds)
        self.over = True

    async def asked(self, question: str) -> list[tuple[Any, ...]]:
        """What the database says."""
        return await deferToThread(ask, self.database, question)

    async def _settle(self) -> None:
        """Wait until no prompt waits, or say which ones do."""
        going = "FROM prompts WHERE state IN ('accepted', 'submitted', 'answered')"

        async def is_settled() -> bool:
            return await self.asked(f"SELECT count(*) {going}") == [(0,)]

        try:
            await until(is_settled, "the end of every prompt", SETTLE)
        except AssertionError as error:
            left = await self.asked(f"SELECT id, state, owner, token, error {going} LIMIT 5")
            raise AssertionError(f"{error}, as {left}") from None

    async def _use_up_the_day(self) -> None:
        """So that all units are seen to have been there, and no more."""
        for first in range(0, 2 * self.limit, CALLERS):
            texts = (f"plain last {number}" for number in range(first, first + CALLERS))
            if 429 in await together(*(self.fleet.send(text, self.ports) for text in texts)):
                return
        raise AssertionError("the day has no end")

    # What befalls whom.

    async def _befall_replica(self, step: Step) -> None:
        replica, line = self.replicas[step.whom], self.lines[step.whom]
        ways = {"cut": (UP, DOWN), "cut up": (UP,), "cut down": (DOWN,)}
        if step.fault in ways:
            self.crashes += step.lasts > LEASE / 2
            line.cut(*ways[step.fault])
            await deferLater(reactor, step.lasts)
            line.mend()
        elif step.fault == "reset":
            line.reset()
        elif step.fault == "pause":
            self.crashes += step.lasts > LEASE / 2
            stop(replica)
            await deferLater(reactor, step.lasts)
            go_on(replica)
        else:
            self.crashes += 1
            await (replica.kill() if step.fault == "kill" else replica.stop())
            await deferLater(reactor, min(step.lasts, 1))
            await self.fleet.start(replica)

    async def _befall_server(self, step: Step) -> None:
        if step.fault == "terminate":
            ours = "application_name LIKE 'chatgpt-source %'"
            await self.asked(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {ours}")
            return
        await deferToThread(self.database.control, "stop", "-m", step.fault.rpartition(" ")[2])
        await deferToThread(self.database.start)

    async def _befall_model(self, step: Step) -> None:
        self._model_fault = step.fault
        await deferLater(reactor, step.lasts)
        self._model_fault = None

    async def _befall_target(self, step: Step) -> None:
        self._target_fault = step.fault
        await deferLater(reactor, step.lasts)
        self._target_fault = None

    # The peers.

    def _model(self, request: Received) -> Reply:
        prompt = prompt_of(request)
        answer = completion(f"{len(self.fleet.openai.asks)}. answer to {prompt}", delay=0.05)
        fate = prompt.partition(" ")[0]
        faults = {
            "refused": api_error(400),
            "cursed": Reply(fault=Fault.RESET),
            "500": api_error(500),
            "429": api_error(429, headers={"retry-after-ms": "300"}),
            "reset": Reply(fault=Fault.RESET),
            "hang": Reply(fault=Fault.HANG),
            "slow": completion(f"{len(self.fleet.openai.asks)}. answer to {prompt}", delay=1),
        }
        return faults.get(self._model_fault or "") or faults.get(fate) or answer

    def _receiver(self, _request: Received) -> Reply:
        faults = {"500": Reply(500), "reset": Reply(fault=Fault.RESET), "slow": Reply(delay=0.5)}
        return faults.get(self._target_fault or "") or Reply()

    # The callers.

    async def _caller(self, number: int) -> None:
        chance = random.Random(f"{self.seed}/caller {number}")
        count = 0
        while not self.over:
            count += 1
            (kind,) = chance.choices([*KINDS], [*KINDS.values()])
            text = f"{kind} {number}/{count}"
            ports = chance.sample(self.ports, REPLICAS)
            if kind == "cancel":
                await self._cancel(text, ports)
            elif kind == "keys":
                await together(*(self._send(text, [port, *ports]) for port in ports))
            elif kind == "wait":
                await self._send(text, ports, {"Prefer": "wait=1"})
            else:
                await self._send(text, ports)
            await deferLater(reactor, chance.uniform(0, 0.2))

    async def _send(self, text: str, ports: Sequence[int], headers: Any = None) -> None:
        if headers is None:
            await self.fleet.send(text, ports, timeout=4)
            return
        fields = {"Idempotency-Key": f'"{text}"', **headers}
        try:
            answer = await call("POST", f"http://127.0.0.1:{ports[0]}/", text, fields, 6)
        except Exception:  # noqa: BLE001 - it dies in many ways
            answer = None
        if answer is not None and answer.status == 200:
            told = answer.json()
            assert text in told["data"]["content"], "another's answer"
            assert self.fleet.ids.setdefault(text, told["id"]) == told["id"]
        await self.fleet.send(text, ports, timeout=4)  # the same prompt, whatever became of it

    async def _cancel(self, text: str, ports: Sequence[int]) -> None:
        await self._send(text, ports)
        if text not in self.fleet.ids:
            return
        url = f"http://127.0.0.1:{ports[-1]}/prompts/{self.fleet.ids[text]}"
        try:
            answer = await call("DELETE", url, timeout=4)
        except (ConnectError, Exception):  # noqa: BLE001 - likewise
            return
        assert answer.status in {204, 409, 503}, answer
        if answer.status == 204:
            self.cancelled.add(self.fleet.ids[text])


async def wrong_with(world: World) -> list[str]:
    """What does not hold, in words."""
    found = await world.asked("SELECT id, state, error, billed, answered FROM prompts")
    rows = {row[0]: row[1:] for row in found}
    ((used,),) = await world.asked("SELECT sum(used)::integer FROM days")
    return [
        *_kept(world, rows),
        *_counted(world, rows, used),
        *_asked_too_often(world),
        *_said(world),
    ]


def _kept(world: World, rows: Rows) -> Iterator[str]:
    fleet = world.fleet
    arrived = set(fleet.delivered)
    for text, id_ in fleet.ids.items():
        state, error = rows.get(id_, (None, None))[:2]
        if state not in {"delivered", "failed", "cancelled"}:
            yield f"{text} got a 202 and is {state}"
        if (state == "delivered") != (id_ in arrived):
            yield f"{text} is {state}, and arrived: {id_ in arrived}"
        if state == "failed" and not error:
            yield f"{text} has failed without a reason"
        if id_ in world.cancelled and state != "cancelled":
            yield f"{text} was cancelled, and is {state}"
    known = set(fleet.ids.values())
    yield from (f"{id_} arrived, but nobody was told of it" for id_ in arrived - known)
    yield from (f"{id_} is in the journal alone: {rows[id_]}" for id_ in set(rows) - known)
    for id_, contents in fleet.contents().items():
        if len(contents) > 1:
            yield f"{id_} has {len(contents)} contents"


def _counted(world: World, rows: Rows, used: int) -> Iterator[str]:
    given_back = sum(not _spent(*row) for row in rows.values())
    if used != len(rows) - given_back:
        yield f"{used} units used, of {len(rows)} prompts with {given_back} given back"
    if used != world.limit:
        yield f"{used} of {world.limit} units were used when a 429 came"


def _spent(state: str, error: str | None, billed: Any, answered: Any) -> bool:
    if state == "delivered" or answered is not None:
        return True
    return billed or (error or "").startswith("the model did not answer")


def _asked_too_often(world: World) -> Iterator[str]:
    """What was answered once is asked again only after a crash."""
    answered = Counter(
        prompt_of(ask)
        for ask in world.fleet.openai.asks
        if ask.reply is not None and ask.reply.status == 200 and ask.reply.fault is Fault.NONE
    )
    for text, times in answered.items():
        if times > 1 + world.crashes:
            yield f"{text} was answered {times} times, at {world.crashes} crashes"
    again = answered.total() - len(answered)
    if again > world.crashes * CONCURRENCY:
        yield f"{again} were answered again, at {world.crashes} crashes"


def _said(world: World) -> Iterator[str]:
    yield from world.fleet.openai.complaints + world.fleet.target.complaints
    for replica in world.replicas:
        for word in UNEXPECTED:
            if word in replica.text:
                at = replica.text.index(word)
                yield f"a replica said: {replica.text[max(0, at - 300) : at + 2000]}"


class ReplicasCase(TestCase):
    async def prove(self, seed: int, seconds: float) -> World:
        database = await deferToThread(begin, CAREFUL)
        try:
            world = World(self, database, seed, seconds)
            try:
                await world.run()
                wrong = await wrong_with(world)
            except Exception as error:
                raise AssertionError(f"{error}\n{self.report(world)}") from error
            if wrong:
                told = "\n".join(wrong[:20])
                self.fail(f"{len(wrong)} things do not hold:\n{told}\n{self.report(world)}")
            for each in world.replicas:
                await each.kill()
        finally:
            await deferToThread(database.end)
        return world

    def report(self, world: World) -> str:
        logs = []
        for replica in world.replicas:
            log = replica.dir / "log"
            log.write_text(replica.text)
            logs.append(str(log))
        return (
            f"what happened: {', '.join(world.done)}\nthe replicas' logs: {', '.join(logs)}\n"
            f"to repeat it: CHAOS_SEED={world.seed} .venv/bin/trial {__name__}.LongTests"
        )


class ShortTests(ReplicasCase):
    timeout = 240

    async def test_a_seed(self) -> None:
        say(told(await self.prove(1, SHORT), SHORT))

    def test_the_schedule_is_the_seed_s(self) -> None:
        self.assertEqual(schedule(5, LONG), schedule(5, LONG))
        self.assertNotEqual(schedule(5, LONG), schedule(6, LONG))


class LongTests(ReplicasCase):
    """`make chaos`: the seed that is asked for, or fresh ones for some minutes."""

    timeout = 60 * MINUTES + 900
    if not (SEED or MINUTES):
        skip = "it takes minutes: `make chaos` runs it"

    async def test_seeds(self) -> None:
        end = time.monotonic() + 60 * MINUTES
        while True:
            seed = int(SEED) if SEED else random.SystemRandom().randrange(10**9)
            say(f"\nchaos of replicas: CHAOS_SEED={seed}")
            began = time.monotonic()
            world = await self.prove(seed, LONG)
            say(told(world, time.monotonic() - began))
            if SEED or time.monotonic() > end:
                return


def told(world: World, seconds: float) -> str:
    """A run in a line."""
    fleet = world.fleet
    faults = Counter(each.rpartition(" ")[0].rpartition(" ")[0] for each in world.done)
    return (
        f"  holds after {seconds:.0f} s: {len(fleet.ids)} accepted, {len(fleet.delivered)}"
        f" delivered, {sum(fleet.delivered.values()) - len(fleet.delivered)} of them again,"
        f" {len(world.cancelled)} cancelled, {fleet.lost} calls lost,"
        f" refused: {dict(fleet.refused)}; {dict(faults)}"
    )
