"""Whoever reads the log may stop doing so: that costs lines, and nothing else."""

import json
import os
import signal
import time

from twisted.internet.threads import deferToThread

from tests.e2e.processes import Daemon, DaemonCase, Wire, together, until
from tests.fakes.server import Fault, Reply

FLOOD = 1500
"""Requests on each of four connections, whose lines are more than may wait."""


class Reader:
    """The far end of a daemon's standard output, read when it is told to."""

    def __init__(self, case):
        self._read, self.stdout = os.pipe()
        case.addCleanup(os.close, self._read)
        case.addCleanup(self.release)
        self.lines = []

    def release(self):
        """Leave the near end to the daemon alone."""
        if self.stdout is not None:
            os.close(self.stdout)
            self.stdout = None

    def read(self):
        """Read on, to the end, in a thread."""
        self.release()

        def all_lines():
            with os.fdopen(os.dup(self._read)) as pipe:
                self.lines.extend(json.loads(line) for line in pipe)

        return deferToThread(all_lines)


class UnreadTests(DaemonCase):
    def unread(self, **settings):
        reader = Reader(self)
        return reader, Daemon(self, self.config(**settings), stdout=reader.stdout)

    async def flood(self, daemon):
        """Have many lines logged."""
        wire = await Wire.connect(daemon.port)
        for _ in range(FLOOD // 50):
            wire.send(b"GET /prompts/none HTTP/1.1\r\nHost: x\r\n\r\n" * 50)
            await until(lambda: wire.received.count(b"HTTP/1.1 404") == 50, "50 answers")
            wire.received = b""
        wire.close()

    async def test_prompts_go_on_and_a_stop_ends_in_order(self):
        _, daemon = self.unread(everyday_limit=1000)
        process = await daemon.start()
        ids = []
        for _ in range(10):
            ids += await together(*(daemon.accepted("text") for _ in range(30)))
        await until(lambda: len(self.target.events) == 300, "all events")
        self.assertTrue(await daemon.answers())
        await together(*(self.flood(daemon) for _ in range(4)))
        began = time.monotonic()
        daemon.process.signal(signal.SIGTERM)
        self.assertEqual(await process.end(), -signal.SIGTERM)
        self.assertLess(time.monotonic() - began, 15)
        self.assertEqual(process.text, "")
        await daemon.start()
        self.assertEqual((await daemon.record(ids[-1]))["state"], "delivered")

    async def test_spans_on_the_console_hold_nothing_up(self):
        reader = Reader(self)
        settings = self.config(everyday_limit=1000)
        daemon = Daemon(self, settings, stdout=reader.stdout, OTEL_TRACES_EXPORTER="console")
        await daemon.start()
        for _ in range(3):
            await together(*(daemon.accepted("text") for _ in range(30)))
        await until(lambda: len(self.target.events) == 90, "all events")
        self.assertTrue(await daemon.answers())
        reading = reader.read()
        await daemon.stop(timeout=5)
        await reading
        spans = [line for line in reader.lines if "name" in line]
        self.assertEqual(len(spans), 3 * 90)

    async def test_what_was_lost_is_told_once_it_is_read_again(self):
        reader, daemon = self.unread()
        process = await daemon.start()
        prompt_id = await daemon.accepted("the first")
        await together(*(self.flood(daemon) for _ in range(4)))
        reading = reader.read()
        await until(lambda: any("dropped" in line["message"] for line in reader.lines), "the word")
        await daemon.accepted("the last")
        await until(lambda: reader.lines[-1]["message"].startswith("delivered"), "the last line")
        await daemon.stop()
        await reading
        self.assertEqual(process.text, "")
        self.assertIn(f"accepted: id={prompt_id}", str(reader.lines))
        lost = sum(line.get("lines", 0) for line in reader.lines)
        asked = [line for line in reader.lines if line.get("route") == "/prompts/<id>"]
        self.assertEqual(len(asked) + lost, 4 * FLOOD)
        self.assertEqual(reader.lines[-1]["message"], "stopped")
        times = [line["time"] for line in reader.lines]
        self.assertEqual(times, sorted(times))


class EndTests(DaemonCase):
    async def test_the_last_lines_of_a_healthy_end_are_written(self):
        daemon = self.daemon()
        await daemon.start()
        await daemon.stop()
        self.assertIn('"stopped"', daemon.process.text)

    async def test_a_second_signal_loses_none(self):
        self.openai.script = lambda _: Reply(fault=Fault.HANG)
        daemon = self.daemon(drain_timeout=60)
        process = await daemon.start()
        prompt_id = await daemon.accepted("text")
        process.signal(signal.SIGTERM)

        async def stopping():
            return not await daemon.answers()

        await until(stopping, "a drain")
        self.assertEqual(await daemon.stop(), 128 + signal.SIGTERM)
        self.assertIn(f"accepted: id={prompt_id}", process.text)
