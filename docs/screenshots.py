"""Takes the README's screenshots: `make screenshots`, in about a minute.

A daemon works between a fake model and a fake target for an hour of its own clock, and a headless
Chromium looks at its page. It needs what the page's tests need.
"""

import random
import shutil
import sys
import tempfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parent))

from twisted.internet import reactor  # noqa: E402 - from here on, our own tests can be imported
from twisted.internet.defer import Deferred  # noqa: E402
from twisted.internet.task import deferLater, react  # noqa: E402
from twisted.internet.threads import deferToThread  # noqa: E402

from tests.e2e.browser import Browser, missing  # noqa: E402
from tests.e2e.processes import Clock, Daemon, free_port, together, until  # noqa: E402
from tests.fakes.openai import FakeOpenAI, answer_to, api_error, completion, prompt_of  # noqa: E402
from tests.fakes.server import Received, Reply  # noqa: E402
from tests.fakes.target import FakeTarget  # noqa: E402

ZONE = "Europe/Berlin"
MINUTES = 60
DESKTOP, PHONE = (1200, 1400), (360, 780)
ENDED = ("delivered", "failed")
NAMED = 'import socket\nsocket.gethostname = lambda: "prompts-0"\n'
"""The daemon's machine has a name that says nothing of the one that takes the pictures."""
MANY = 120
"""A prompt of more characters is too long for this model."""


class Case:
    """What a daemon needs of a test: folders, and cleaning up."""

    def __init__(self) -> None:
        self.folder = tempfile.mkdtemp(prefix="screenshots-")
        self._cleanups: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []

    def mktemp(self) -> str:
        """The name of a new folder."""
        return tempfile.mktemp(dir=self.folder)  # noqa: S306 - nobody else writes to the folder

    def addCleanup(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Have something done at the end."""
        self._cleanups.append((function, arguments))

    async def end(self) -> None:
        """Do what is to be done at the end, the latest first."""
        for function, arguments in reversed(self._cleanups):
            done = function(*arguments)
            if done is not None:
                await done
        shutil.rmtree(self.folder)


class World:
    """A model, a target, and a daemon between them, for which time passes."""

    def __init__(self, case: Case) -> None:
        self.dice = random.Random(15)  # noqa: S311 - it chooses what the pictures show
        self.openai, self.target = FakeOpenAI(reactor), FakeTarget(reactor)
        for fake in (self.openai, self.target):
            fake.start()
            case.addCleanup(fake.stop)
        self.openai.script, self.target.script = self.answer, self.take
        start = datetime(2026, 11, 26, 13, 2, 17, tzinfo=ZoneInfo(ZONE)).timestamp()
        folder = Path(case.mktemp())
        folder.mkdir()
        self.clock, self.admin = Clock(folder / "clock", start), free_port()
        config = {
            "target": self.target.origin,
            "targets": {"billing": {"url": f"{self.target.origin}/billing"}},
            "token": "sk-made-up",
            "base_url": self.openai.base_url,
            "port": free_port(),
            "admin": f"tcp:{self.admin}:interface=127.0.0.1",
            "everyday_limit": 500,
            "timezone": ZONE,
            "send_event_attempts": 3,
        }
        self.daemon = Daemon(case, config, clock=self.clock)  # type: ignore[arg-type]
        self.daemon._prelude += NAMED  # noqa: SLF001 - no test names the daemon's machine
        self.down: Reply | None = None
        """What the target `billing` says while it is down."""

    async def answer(self, request: Received) -> Reply:
        """What the model says."""
        prompt = prompt_of(request)
        if len(prompt) > MANY:
            return api_error(400, code="context_length_exceeded")
        await deferLater(reactor, min(0.9, self.dice.lognormvariate(-2, 0.6)))
        if self.dice.random() < 0.04:
            return api_error(503)
        return completion(answer_to(prompt))

    async def take(self, request: Received) -> Reply:
        """What the target says."""
        await deferLater(reactor, 0.01 + self.dice.random() / 20)
        return self.down if self.down and "billing" in request.path else Reply(200)

    async def prompt(self, text: str = "what is vanus", target: str = "") -> str:
        """Send a prompt."""
        headers = {"vanus-target": target} if target else {}
        return await self.daemon.accepted(text, headers)

    async def minute(self, number: int) -> None:
        """A minute of traffic, more at some times than at others."""
        many = self.dice.randint(1, 5) + 5 * (20 < number < 45)
        sent = [self.prompt() for _ in range(many)]
        if self.dice.random() < 0.2:
            sent.append(self.prompt("what is vanus? " * MANY))
        ids = (await together(*sent)) if sent else []
        for prompt_id in ids:
            await self.daemon.reaches(prompt_id, lambda record: record["state"] in ENDED)
        await self.daemon.live(60)

    async def live(self) -> str:
        """An hour, at whose end a target is down; returns the id of a prompt for it that failed."""
        await self.daemon.start()
        for number in range(MINUTES):
            await self.minute(number)
        self.down = Reply(503)
        failed = await self.prompt(target="billing")
        await self.daemon.reaches(failed, "failed")
        self.down = Reply(503, headers={"Retry-After": "600"})  # it waits as long as we look
        waits = await self.prompt(target="billing")
        await self.daemon.reaches(waits, lambda record: record["error"])
        await together(*(self.prompt() for _ in range(4)))
        return failed


async def take(world: World, failed: str) -> None:
    """Take the three pictures."""
    browser = await deferToThread(Browser)

    def shoot(path: str, size: tuple[int, int], *, dark: bool) -> None:
        browser.look(f"http://127.0.0.1:{world.admin}{path}", size, dark=dark)
        browser.run("document.activeElement.blur()")

    async def live() -> bool:
        text: str = await deferToThread(browser.text, "live-text")
        return text == "Live"

    try:
        for name, path, size, dark in (
            ("light", "/", DESKTOP, False),
            ("dark", f"/?state=failed&prompt={failed}", (1200, 1000), True),
            ("phone", "/", PHONE, False),
        ):
            await deferToThread(shoot, path, size, dark=dark)
            await until(live, "a live page")
            file = FOLDER / f"status-page-{name}.png"
            await deferToThread(browser.driver.save_screenshot, str(file))
            print(f"{file.relative_to(FOLDER.parent)}: {file.stat().st_size // 1024} KiB")
    finally:
        await deferToThread(browser.end)


async def main() -> None:
    """Let the daemon live, and take the pictures."""
    if lacks := missing():
        raise SystemExit(lacks)
    case = Case()
    try:
        world = World(case)
        print(f"An hour of the daemon's clock passes in {case.folder} ...")
        await take(world, await world.live())
    finally:
        await case.end()


if __name__ == "__main__":
    react(lambda _: Deferred.fromCoroutine(main()))
