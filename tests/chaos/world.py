"""A daemon, its peers and its callers, and what befalls them; `proofs` says what must hold then."""

import json
import random
import re
import signal
import sqlite3
import sys
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from attrs import define, field, frozen
from twisted.internet import reactor
from twisted.internet.defer import CancelledError
from twisted.internet.error import ConnectError
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from tests.chaos.disk import LimitedFiles, SmallDisk
from tests.chaos.schedule import LONG, Step, schedule, small_disk
from tests.e2e.processes import Answer, Daemon, Wire, call, free_port, together, until
from tests.fakes.openai import FakeOpenAI, api_error, completion, prompt_of
from tests.fakes.server import Fault, Received, Reply
from tests.fakes.target import FakeTarget

CONCURRENCY = 16
CALLERS = 8
LIMIT_A_SECOND = 40
"""Units the day has for each second of the run: fewer than the callers ask for."""
PAST_DRAIN = "stopping with calls under way"
MARK = re.compile(r"MARK-(\w+)-\d+-[0-9a-f]+-END")
FATES = {
    "cursed": "the model resets the connection at each ask",
    "refused": "the model answers 400",
    "empty": "the model answers nothing, and bills it",
    "unwanted": "the target answers 400",
}


@define
class Sent:
    """A prompt that a caller sent, perhaps again and again with its key.

    Attributes:
        mark: What tells it from all others, wherever it turns up.
        ids: The ids of its 202s.
        refusals: The statuses of its refusals.
        unanswered: How often nobody said what became of it.
        cut_off: Whether its body never was sent to the end.
        broken: Refusals that came after a 202.
        cancelled: What its DELETEs got.
        wrong: What was wrong with its responses, in words.
    """

    mark: str
    text: str = field(repr=False)
    key: str | None = None
    ids: list[str] = field(factory=list)
    refusals: list[int] = field(factory=list)
    unanswered: int = 0
    cut_off: bool = False
    broken: list[int] = field(factory=list)
    cancelled: list[int] = field(factory=list)
    wrong: list[str] = field(factory=list)


@define
class Cut:
    """An end of the daemon that may have come between a 2xx and its commit."""

    began: float
    ended: float
    why: str


@frozen
class Taken:
    """An event that the target answered with a 2xx."""

    id: str
    at: float


class Target(FakeTarget):
    """A target that notes when it took what."""

    def __init__(self, reactor: Any) -> None:
        super().__init__(reactor)
        self.taken: list[Taken] = []

    def answered(self, request: Received) -> None:
        super().answered(request)
        if 200 <= request.reply.status < 300:
            self.taken.append(Taken(request.document["id"], request.at))

    async def go_down(self) -> None:
        """Close the port, but not between an answer and its last byte."""
        self.script = lambda _: Reply(fault=Fault.RESET)
        await until(lambda: not self._answering, "the target's last answer")
        for _ in range(3):
            await deferLater(reactor, 0)  # what was answered leaves
        await self.stop()


def mark_in(text: str) -> str:
    """The mark in a prompt, an answer or an event."""
    match = MARK.search(text)
    assert match, text[:200]
    return match[0]


class World:
    """Everything of one run.

    Args:
        case: Whose cleanups end it all.
        seed: Says what happens.
        seconds: How long it happens.
    """

    def __init__(self, case: TestCase, seed: int, seconds: float) -> None:
        self.seed = seed
        self.seconds = seconds
        self.limit = int(LIMIT_A_SECOND * seconds)
        self.sent: list[Sent] = []
        self.cuts: list[Cut] = []
        self.faults: list[str] = []
        self.ends: list[tuple[str, int]] = []
        self.up = False
        self.over = False
        self.openai = FakeOpenAI(reactor)
        self.target = Target(reactor)
        for fake in (self.openai, self.target):
            fake.start()
        self.openai.script = self._model
        self._model_fault: str | None = None
        self._target_fault: str | None = None
        self._chance = random.Random(f"{seed}/peers")
        disk = SmallDisk.if_possible() if seconds >= LONG and small_disk(seed) else None
        self.daemon = Daemon(
            case,
            {
                "target": self.target.origin,
                "token": "sk-test",
                "base_url": self.openai.base_url,
                "port": free_port(),
                "everyday_limit": self.limit,
                "openai_timeout": 1,
                "drain_timeout": 1.5,
                "concurrency": CONCURRENCY,
                **({"journal": str(disk.path / "journal.sqlite")} if disk else {}),
            },
        )
        self.disk = disk or LimitedFiles(self.daemon.dir)
        case.addCleanup(self.end)
        self.target.script = self._receiver

    @property
    def journal(self) -> Path:
        """The journal's file."""
        return self.disk.path / "journal.sqlite"

    # The run.

    async def run(self) -> None:
        """Let it all happen, heal everything, and wait until every prompt has come to its end."""
        await self.daemon.start()
        self.up = True
        tracks = schedule(self.seed, self.seconds)
        acts: dict[str, Callable[[Step], Any]] = {
            "process": self._befall_process,
            "model": self._befall_model,
            "target": self._befall_target,
            "disk": self._befall_disk,
        }
        callers = [self._caller(number) for number in range(CALLERS)]
        await together(
            self._end_callers(),
            *callers,
            *(self._follow(track, tracks[track], act) for track, act in acts.items()),
        )
        self.openai._queue.clear()  # resets that met no call
        await self._settled()
        await self._use_up_the_day()

    async def stop(self) -> None:
        """Stop the daemon as one should."""
        self.up = False
        process = self.daemon.process
        self.ends.append(("the last stop", await self.daemon.stop()))
        assert PAST_DRAIN not in process.text, "with nothing to do, it stopped with calls under way"

    async def end(self) -> None:
        """Leave nothing behind but files, however it went; once is enough."""
        self._call_off()
        process = self.daemon.process
        if process is not None and process.status is None:
            await self.daemon.kill()
        await self.openai.stop()
        await self.target.stop()
        self.disk.remove()

    async def _follow(self, track: str, steps: Any, act: Callable[[Step], Any]) -> None:
        for step in steps:
            await deferLater(reactor, step.pause)
            self.faults.append(f"{track}: {step.fault}")
            await act(step)

    async def _end_callers(self) -> None:
        await deferLater(reactor, self.seconds)
        self._call_off()

    def _call_off(self) -> None:
        self.over = True

    async def _settled(self) -> None:
        patience = 60 if self.seconds < LONG else 240
        await until(lambda: not self._unfinished(), "the end of every prompt", patience)

    async def _use_up_the_day(self) -> None:
        """So that all units are seen to have been there, and no more."""
        chance = random.Random(f"{self.seed}/last")
        for _ in range(2 * self.limit):
            prompt = self._prompt(chance, "plain")
            await self._post(prompt)
            if 429 in prompt.refusals:
                await self._settled()
                if self._used() >= self.limit:  # else some failed, and gave theirs back
                    return
        raise AssertionError(f"the day took more than {2 * self.limit} prompts")

    def _used(self) -> int:
        return self._asked("SELECT sum(used) FROM days")

    def _unfinished(self) -> int:
        return self._asked("SELECT sum(n) FROM counts WHERE state IN ('accepted', 'answered')")

    def _asked(self, question: str) -> int:
        with closing(sqlite3.connect(f"file:{self.journal}?mode=ro", uri=True)) as db:
            (number,) = db.execute(question).fetchone()
        return number

    # What befalls whom.

    async def _befall_process(self, step: Step) -> None:
        process = self.daemon.process
        self.up = False
        cut = Cut(reactor.seconds(), 0, step.fault)
        if step.fault.startswith("term"):
            process.signal(signal.SIGTERM)
            if step.fault != "term":
                await deferLater(reactor, step.lasts)
                process.signal(signal.SIGTERM if step.fault == "term twice" else signal.SIGKILL)
        else:
            process.signal(signal.SIGKILL)
        self.ends.append((step.fault, await process.end()))
        cut.ended = reactor.seconds()
        if step.fault != "term" or PAST_DRAIN in process.text:
            self.cuts.append(cut)
        self.disk.mend(None)
        if step.fault == "kill at start":
            cut = Cut(reactor.seconds(), 0, step.fault)
            process = self.daemon.launch(
                "--nodaemon",
                "--pidfile=",
                f"--rundir={self.daemon.dir}",
                "--logger=chatgpt_source.log.stdout",
            )
            await deferLater(reactor, step.lasts * 1.5)
            process.signal(signal.SIGKILL)
            self.ends.append((step.fault, await process.end()))
            cut.ended = reactor.seconds()
            self.cuts.append(cut)
        await self.daemon.start()
        self.up = True

    async def _befall_model(self, step: Step) -> None:
        if step.fault == "reset unread":
            self.openai.queue(*[Reply(fault=Fault.RESET_UNREAD)] * int(1 + 20 * step.lasts))
            return
        self._model_fault = step.fault
        await deferLater(reactor, step.lasts)
        self._model_fault = None

    async def _befall_target(self, step: Step) -> None:
        if step.fault == "down":
            await self.target.go_down()
        self._target_fault = step.fault
        await deferLater(reactor, step.lasts)
        self._target_fault = None
        if step.fault == "down":
            self.target.script = self._receiver
            self.target.start()

    async def _befall_disk(self, step: Step) -> None:
        if self.disk.fault:
            self.faults.append(f"no full disk: {self.disk.fault}")
            return
        process = self.daemon.process
        if not self.up or process.status is not None:
            return
        left = 0 if step.fault == "full" else 20000
        self.disk.fill(process.transport.pid, left)
        await deferLater(reactor, step.lasts)
        self.disk.mend(process.transport.pid if process.status is None else None)

    # The peers.

    def _model(self, request: Received) -> Reply:
        text = prompt_of(request)
        mark = mark_in(text)
        fate = MARK.search(text)[1]
        faults = {
            "cursed": Reply(fault=Fault.RESET),
            "refused": api_error(400),
            "empty": completion(""),
            "500": api_error(500),
            "401": api_error(401),
            "429": api_error(429, headers={"retry-after-ms": "300"}),
            "reset": Reply(fault=Fault.RESET),
            "hang": Reply(fault=Fault.HANG),
            "stall": completion("half an answer", fault=Fault.STALL),
            "cut": completion("half an answer", fault=Fault.CUT),
        }
        ended_by = faults.get(self._model_fault or "") or faults.get(fate)
        # No two asks get the same answer, so that a second one would show.
        words = f"{len(self.openai.asks)}. answer to {mark}"
        return ended_by or completion(words, delay=self._chance.uniform(0, 0.04))

    def _receiver(self, request: Received) -> Reply:
        if MARK.search(request.document["data"]["content"])[1] == "unwanted":
            return Reply(400)
        faults = {
            "500": Reply(500),
            "410": Reply(410),
            "429": Reply(429, headers={"Retry-After": "1"}),
            "reset": Reply(fault=Fault.RESET),
            "late reset": Reply(fault=Fault.RESET, delay=0.5),
            "slow": Reply(delay=0.4),
        }
        return faults.get(self._target_fault or "") or Reply(delay=self._chance.uniform(0, 0.02))

    # The callers.

    async def _caller(self, number: int) -> None:
        chance = random.Random(f"{self.seed}/caller {number}")
        keyed: list[Sent] = []
        while not self.over:
            kind = chance.choices(
                ["plain", "keyed", "again", "hang up", "event", "wait", "cancel", *FATES],
                [40, 10, 10, 6, 10, 15, 8, 2, 2, 2, 3],
            )[0]
            if kind == "hang up":
                await self._hang_up(chance)
            elif kind == "event":
                prompt = self._prompt(chance, "plain")
                prompt.key = prompt.mark
                await together(*(self._send_event(prompt) for _ in range(chance.randint(1, 3))))
            elif kind == "wait":
                await self._post(self._prompt(chance, "plain"), {"Prefer": "wait=2"})
            elif kind == "cancel":
                await self._cancel(chance)
            elif kind == "again" and keyed:
                await self._post(chance.choice(keyed))
            elif kind == "keyed":
                prompt = self._prompt(chance, "keyed")
                prompt.key = f"KEY-{prompt.mark}"
                keyed.append(prompt)
                await together(*(self._post(prompt) for _ in range(chance.randint(1, 4))))
            else:
                await self._post(self._prompt(chance, kind if kind in FATES else "plain"))
            await deferLater(reactor, chance.uniform(0, 0.1))

    def _prompt(self, chance: random.Random, kind: str) -> Sent:
        mark = f"MARK-{kind}-{len(self.sent)}-{chance.getrandbits(64):x}-END"
        filling = "and so on " * chance.choice([0, 1, 10, 2000])
        prompt = Sent(mark, f"{mark} {filling}{mark}")
        self.sent.append(prompt)
        return prompt

    async def _post(self, prompt: Sent, headers: Mapping[str, str] | None = None) -> None:
        key = {"Idempotency-Key": prompt.key} if prompt.key else {}
        await self._send(prompt, prompt.text, {**key, **(headers or {})})

    async def _send_event(self, prompt: Sent) -> None:
        event = {
            "specversion": "1.0",
            "id": prompt.mark,
            "source": "/chaos",
            "type": "asked",
            "data": {"prompt": prompt.text},
        }
        await self._send(
            prompt, json.dumps(event), {"Content-Type": "application/cloudevents+json"}
        )

    async def _cancel(self, chance: random.Random) -> None:
        prompt = self._prompt(chance, "plain")
        await self._post(prompt, {"vanus-deadline": "1h"})
        if not prompt.ids:
            return
        await deferLater(reactor, chance.uniform(0, 0.05))
        with suppress(ConnectError):
            answer = await self._call("DELETE", f"/prompts/{prompt.ids[0]}")
            if answer is not None:
                prompt.cancelled.append(answer.status)

    async def _send(self, prompt: Sent, text: str, headers: Mapping[str, str]) -> None:
        known = bool(prompt.ids)
        try:
            answer = await self._call("POST", "/", text.encode(), headers)
        except ConnectError:  # nobody listens, so nothing was sent
            await deferLater(reactor, 0.1)
            return
        if answer is None:
            prompt.unanswered += 1
        elif answer.status == 202:
            prompt.ids.append(answer.header("location").rpartition("/")[2])
        elif answer.status == 200:
            prompt.ids.append(answer.json()["id"])
            if prompt.mark not in answer.json()["data"]["content"]:
                prompt.wrong.append("it got another's answer")
        elif "Prefer" not in headers or answer.status not in {410, 502, 504}:
            prompt.refusals.append(answer.status)
            if known and answer.status != 503:
                prompt.broken.append(answer.status)
        else:
            prompt.unanswered += 1  # it was accepted, and failed: the answer names no id

    async def _call(
        self, method: str, path: str, body: bytes = b"", headers: Any = None
    ) -> Answer | None:
        """A response; None if nobody said what became of the request."""
        try:
            return await call(method, f"http://127.0.0.1:{self.daemon.port}{path}", body, headers)
        except (CancelledError, ConnectError):
            raise
        except Exception:  # noqa: BLE001 - it dies in many ways
            return None

    async def _hang_up(self, chance: random.Random) -> None:
        prompt = self._prompt(chance, "plain")
        body = prompt.text.encode()
        request = (
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain; charset=utf-8\r\n"
            b"Content-Length: %d\r\n\r\n" % len(body)
        ) + body
        prompt.cut_off = chance.random() < 0.5
        try:
            wire = await Wire.connect(self.daemon.port)
        except ConnectError:
            return
        if prompt.cut_off:
            wire.send(request[: chance.randrange(len(request))])
        else:
            prompt.unanswered += 1
            wire.send(request)
        await deferLater(reactor, chance.uniform(0, 0.01))
        wire.transport.loseConnection() if chance.random() < 0.5 else wire.close()


def say(words: str) -> None:
    """Tell whoever watches."""
    sys.stdout.write(f"{words}\n")
    sys.stdout.flush()
