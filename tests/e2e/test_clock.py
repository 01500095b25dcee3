"""A wall clock that is set while the daemon runs: what waits goes on, and no day is lost."""

import time
from datetime import datetime

from tests.e2e.processes import DaemonCase, Wire, until
from tests.fakes.openai import api_error, prompt_of
from tests.fakes.server import Fault, Reply

HOUR, DAY = 3600.0, 86400.0
SECRET = "a text that nobody is to find again"


def instant(text):
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


class SteadyTests(DaemonCase):
    """What waits goes by a steady clock, so that much of it comes due within the seconds told."""

    async def started(self, **settings):
        self.time = self.clock(time.time())
        daemon = self.daemon(clock=self.time, **settings)
        await daemon.start()
        return daemon

    def asks_of(self, prompt):
        return [ask for ask in self.openai.asks if prompt_of(ask) == prompt]

    async def test_set_back_an_hour(self):
        daemon = await self.started(openai_timeout=5)
        await daemon.reaches(await daemon.accepted(SECRET), "delivered")
        slow = await Wire.connect(daemon.port)
        slow.send(b"POST / HTTP/1.1\r\nHost: x\r\n")
        self.openai.queue(Reply(fault=Fault.HANG))
        stuck = await daemon.accepted("stuck")
        await until(lambda: self.asks_of("stuck"), "the first call")
        self.time.step(-HOUR)
        await daemon.reaches(await daemon.accepted("meanwhile"), "delivered")
        await daemon.live(6)
        await until(lambda: len(self.asks_of("stuck")) == 2, "a second call after openai_timeout")
        await daemon.reaches(stuck, "delivered")
        await daemon.live(30)
        await until(lambda: slow.closed, "the end of a connection that is too slow")
        self.assertIn(b" 408 ", slow.received)
        await until(
            lambda: not any(SECRET.encode() in raw for raw in daemon.files().values()),
            "the end of a delivered text",
        )
        await daemon.live(60)
        await until(lambda: "the clock was set back by 3600 s" in daemon.text, "a warning")

    async def test_set_back_an_hour_while_a_peer_holds(self):
        revoked = True
        self.openai.script = lambda request: (
            api_error(401) if revoked else self.openai.default(request)
        )
        daemon = await self.started()
        held = await daemon.accepted("held")
        await daemon.reaches(held, lambda record: record["error"])
        self.time.step(-HOUR)
        revoked = False
        await daemon.live(31)
        await daemon.reaches(held, "delivered")
        self.assertEqual(len(self.asks_of("held")), 2)

    async def test_restarted_after_it_was_set_back(self):
        self.openai.queue(Reply(503, headers={"Retry-After": "3600"}))
        daemon = await self.started()
        later = await daemon.accepted("later")
        await daemon.reaches(later, lambda record: record["error"])
        await daemon.stop()
        self.time.step(-2 * DAY)
        await daemon.start()
        await daemon.reaches(later, "delivered")

    async def test_set_forward_while_the_command_redrives(self):
        self.target.queue(Reply(400))
        daemon = await self.started()
        failed = await daemon.accepted("failed")
        await daemon.reaches(failed, "failed")
        # The command's clock is not the daemon's: it is an hour ahead.
        self.time.step(-HOUR)
        status, told = await daemon.operate("redrive", failed)
        self.assertEqual(status, 0, told)
        await daemon.reaches(failed, "delivered")


class WallTests(DaemonCase):
    async def test_ten_days_ahead_for_a_moment(self):
        """Today's count stays, and so does what is known of today's prompts."""
        clock = self.clock(time.time() // DAY * DAY + DAY / 2)
        daemon = self.daemon(clock=clock, everyday_limit=5, timezone="UTC")
        await daemon.start()
        key = {"Idempotency-Key": "once"}
        first = await daemon.accepted("once", key)
        for _ in range(4):
            await daemon.accepted("text")
        await daemon.reaches(first, "delivered")
        clock.step(10 * DAY)
        await daemon.live(70)  # so that the sweep has been there
        await until(lambda: "the clock was set forward" in daemon.text, "a warning")
        ahead = await daemon.accepted("ahead")
        clock.step(-10 * DAY)
        statuses = [(await daemon.post("text")).status for _ in range(5)]
        self.assertEqual(statuses, [429] * 5)
        self.assertEqual(await daemon.accepted("once", key), first)
        self.assertEqual((await daemon.record(first))["state"], "delivered")
        await daemon.reaches(ahead, "delivered")

    async def test_what_is_told_is_the_wall_clocks(self):
        clock = self.clock(time.time())
        daemon = self.daemon(clock=clock)
        await daemon.start()
        clock.step(-HOUR)
        prompt_id = await daemon.accepted("text")
        record = await daemon.reaches(prompt_id, "delivered")
        now = clock.now()
        for name in ("accepted", "answered", "delivered"):
            self.assertLess(abs(instant(record[name]) - now), 60, name)
        (event,) = self.target.events
        self.assertLess(abs(instant(event["time"]) - now), 60)
