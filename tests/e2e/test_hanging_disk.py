"""A disk that hangs: everybody is told so, little is held, and nothing is lost or doubled."""

import time
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SkipTest

from tests.e2e.processes import (
    Daemon,
    DaemonCase,
    Wire,
    call,
    free_port,
    throughout,
    together,
    until,
)

SOON = 8.0
"""Seconds an answer may take that is to come within 1 s, on a machine that is busy besides."""
PATIENCE = 10.0
"""Seconds that a prompt waits for a disk that may be slow, no more."""
LARGE = 2**20
CALLERS = 150
FEW_FILES = 512
WIDE = "\U0001f600".encode() + b"x" * (LARGE - 4)
"""Text that takes four times as much as a Python string."""
MANY = 60
MOST_MORE = 100 * 2**20
"""Bytes that the daemon may grow by, which is less than what its callers send."""


def memory(pid):
    """Bytes of memory that a process uses."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096
    except FileNotFoundError:
        raise SkipTest("no /proc to read its memory from") from None


def peak(pid):
    """The most bytes of memory that a process has used."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        raise SkipTest("no /proc to read its memory from") from None
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def files(pid):
    """How many files, connections among them, a process has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def posting(body):
    return b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body


class HangingDiskTests(DaemonCase):
    async def hang(self, files=None, clock=None, **settings):
        """A daemon that has delivered one prompt, and whose disk hangs with a second."""
        flag = self.file("")
        flag.unlink()
        self.admin = free_port()
        config = self.config(admin=f"tcp:{self.admin}:interface=127.0.0.1", **settings)
        daemon = Daemon(self, config, hangs=flag, files=files, clock=clock)
        process = await daemon.start()
        self.first = await daemon.accepted("the first")
        await daemon.reaches(self.first, "delivered")
        await self.asked("/metrics")
        flag.touch()
        self.addCleanup(flag.unlink, missing_ok=True)
        begun = await Wire.connect(daemon.port)
        begun.send(posting(b"the second"))
        await until(self.unready, "a disk that is seen to hang")
        return daemon, process, flag, begun

    async def unready(self):
        return (await self.asked("/api/status")).json()["status"] == "not ready"

    async def ready(self):
        return (await self.asked("/api/status")).json()["status"] == "ready"

    async def asked(self, path, status=200, port=None):
        """What is answered, and that it is soon."""
        began = time.monotonic()
        answer = await call("GET", f"http://127.0.0.1:{port or self.admin}{path}")
        self.assertLess(time.monotonic() - began, SOON, path)
        self.assertEqual(answer.status, status, (path, answer.body))
        return answer

    async def test_everybody_is_told(self):
        clock = self.clock(time.time())
        daemon, _, flag, begun = await self.hang(clock=clock)
        waiting = Deferred.fromCoroutine(daemon.post("the third"))
        await throughout(1, lambda: not waiting.called, "it waits: the disk may be slow, no more")
        ready = await self.asked("/readyz", 503, daemon.port)
        self.assertRegex(ready.json()["checks"]["journal"], "has not answered for [0-9]+ s")
        await self.asked("/healthz", 200, daemon.port)
        await self.asked(f"/prompts/{self.first}", 503, daemon.port)
        metrics = (await self.asked("/metrics")).body.decode()
        self.assertIn("chatgpt_source_journal_writable 0.0\n", metrics)
        self.assertIn("chatgpt_source_quota_used 1.0\n", metrics)
        status = (await self.asked("/api/status")).json()
        self.assertRegex(status["troubles"][0], "The journal .* has not answered for [0-9]+ s")
        self.assertEqual(status["quota"]["used"], 1)
        await self.asked("/api/prompts", 503)
        self.assertIn(b"has not answered", (await self.asked("/")).body)
        clock.advance(PATIENCE)
        self.assertIn("has not answered for", self.assert_problem(await waiting, 503))
        for answer in await together(*(daemon.post("the fourth") for _ in range(20))):
            self.assert_problem(answer, 503)
            self.assertTrue(answer.header("retry-after"))
        flag.unlink()
        self.assertEqual((await begun.answer()).status, 202)
        await until(self.ready, "a journal that is seen to have healed")
        await until(lambda: len(self.target.events) == 2, "the events")
        self.assertEqual((await self.asked("/api/status")).json()["quota"]["used"], 2)
        await daemon.accepted("the fifth")
        self.assertEqual(daemon.text.count("can't be written"), 1)
        self.assert_fair()

    async def test_those_who_wait_do_not_keep_probes_out(self):
        daemon, _, _, begun = await self.hang(files=(FEW_FILES, FEW_FILES))
        wires = []

        async def fill(number):
            for _ in range(number):
                wires.append(await Wire.connect(daemon.port))
                wires[-1].send(posting(b"waits"))

        await fill(FEW_FILES - 200)
        for _ in range(3):
            await fill(5)  # one of those who had not sent yet may have made room
            await self.asked("/healthz", 200, daemon.port)
            await self.asked("/readyz", 503, daemon.port)
        refused = [wire.received for wire in wires if wire.received]
        self.assertTrue(all(answer.startswith(b"HTTP/1.1 503 ") for answer in refused), refused)
        self.assertGreater(sum(not wire.closed for wire in wires), 100)
        for wire in (*wires, begun):
            wire.close()

    async def test_those_who_hang_up_take_their_prompts_along(self):
        daemon, process, flag, begun = await self.hang()
        before, opened = memory(process.transport.pid), files(process.transport.pid)
        body = b"x" * LARGE
        for _ in range(CALLERS // 10):
            wires = [await Wire.connect(daemon.port) for _ in range(10)]
            for wire in wires:
                wire.send(posting(body))
            for wire in wires:
                wire.transport.loseConnection()  # once it has sent
            await until(lambda wires=wires: all(wire.closed for wire in wires), "ends")
            await until(lambda: files(process.transport.pid) <= opened, "the daemon to know of it")
        await self.asked("/healthz", 200, daemon.port)
        self.assertLess(memory(process.transport.pid) - before, MOST_MORE)
        flag.unlink()
        self.assertEqual((await begun.answer()).status, 202)
        await until(self.ready, "a journal that is seen to have healed")
        await daemon.accepted("the last")
        await until(lambda: len(self.target.events) >= 3, "the events")
        self.assertEqual((await self.asked("/api/status")).json()["quota"]["used"], 3)
        self.assertEqual(len(self.openai.asks), 3)

    async def test_wide_text_takes_no_more_room(self):
        daemon, process, flag, begun = await self.hang(concurrency=4)
        before = memory(process.transport.pid)
        wires = [await Wire.connect(daemon.port) for _ in range(MANY)]
        for wire in wires:
            wire.send(posting(WIDE))
        await self.asked("/readyz", 503, daemon.port)
        flag.unlink()
        for wire in (begun, *wires):
            self.assertEqual((await wire.answer()).status, 202)
            wire.close()
        await until(lambda: len(self.target.events) == MANY + 2, "the events", timeout=60)
        self.assertLess(peak(process.transport.pid) - before, 3 * MANY * LARGE)
