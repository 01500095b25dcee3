"""Callers who send more than anybody can answer at once: the others are served all the same."""

import time

from tests.e2e.processes import DaemonCase, Wire, until

CONNECTIONS = 60
READ = 64 * 2**10
"""Bytes that one read of the daemon's brings."""
SOON = 2.0
"""Seconds an answer may take here; far more than it does, far less than what all of them take."""

FLOODS = {
    "no such method": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "no such path": b"HEAD /x HTTP/1.1\r\nHost: x\r\n\r\n",
    "blank": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n ",
}
CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


class Deaf(Wire):
    """One who sends, and counts what it is answered."""

    answers = 0

    def dataReceived(self, data: bytes) -> None:
        self.answers += data.count(b"HTTP/1.1 ")


class PipelineTests(DaemonCase):
    async def slowest(self, daemon, seconds=2.0):
        """The longest that /healthz takes meanwhile."""
        slowest, end = 0.0, time.monotonic() + seconds
        while time.monotonic() < end:
            began = time.monotonic()
            self.assertEqual((await daemon.get("/healthz")).status, 200)
            slowest = max(slowest, time.monotonic() - began)
        return slowest

    async def flood(self, raw):
        daemon = self.daemon(log_config={"log_level": "error"})
        await daemon.start()
        wires = [await Deaf.connect(daemon.port) for _ in range(CONNECTIONS)]
        for wire in wires:
            wire.send(raw)
        slowest = await self.slowest(daemon)
        for wire in wires:
            wire.close()
        self.assertLess(slowest, SOON)
        await daemon.stop()
        return wires

    async def test_many_requests_at_once(self):
        for name, raw in FLOODS.items():
            with self.subTest(name):
                wires = await self.flood(raw * (READ // len(raw)))
                counts = [wire.answers for wire in wires]
                self.assertGreater(min(counts), 0)
                self.assertLess(max(counts) - min(counts), max(counts) / 2 + 20, counts)

    async def test_a_body_in_tiny_chunks(self):
        await self.flood(CHUNKED + b"1\r\nx\r\n" * (4 * READ // 6))

    async def test_all_are_answered_in_order(self):
        daemon = self.daemon()
        await daemon.start()
        wire = await Wire.connect(daemon.port)
        paths = [b"/healthz", b"/x", b"/", b"/readyz"] * 100
        wire.send(b"".join(b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % path for path in paths))
        answers = [(await wire.answer()).status for _ in paths]
        self.assertEqual(answers, [200, 404, 405, 200] * 100)
        await until(lambda: not wire.received, "no more")
        wire.close()
