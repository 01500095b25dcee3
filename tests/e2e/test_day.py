"""The day: its limit is exact, whatever comes at once, restarts, or turns the clocks."""

import re
from collections import Counter
from datetime import datetime
from zoneinfo import ZoneInfo

from tests.e2e.processes import DaemonCase, together, until
from tests.fakes.openai import api_error, prompt_of
from tests.fakes.server import Reply

USED_UP = "https://iana.org/assignments/http-problem-types#quota-exceeded"
DAY = 86400
NEW_YORK = "America/New_York"


def at(local, zone):
    return datetime.fromisoformat(local).replace(tzinfo=ZoneInfo(zone)).timestamp()


def rate(answer):
    """`r` and `t` of RateLimit."""
    match = re.fullmatch(r'"daily";r=(\d+);t=(\d+)', answer.header("ratelimit"))
    return int(match[1]), int(match[2])


class DayTests(DaemonCase):
    def assert_used_up(self, answer):
        self.assert_problem(answer, 429, USED_UP)
        left, seconds = rate(answer)
        self.assertEqual(left, 0)
        self.assertIn(int(answer.header("retry-after")) - seconds, {0, 1})
        self.assertTrue(answer.header("ratelimit-policy"))

    async def test_101_at_once(self):
        daemon = self.daemon()
        await daemon.start()
        answers = await together(*(daemon.post(f"prompt {n}") for n in range(101)))
        self.assertEqual(Counter(a.status for a in answers), {202: 100, 429: 1})
        (refused,) = (a for a in answers if a.status == 429)
        self.assert_used_up(refused)
        self.assertGreater(rate(refused)[1], 0)
        self.assertLessEqual(rate(refused)[1], 86400)
        admitted = [a for a in answers if a.status == 202]
        self.assertEqual(sorted(rate(a)[0] for a in admitted), list(range(100)))
        ids = {a.json()["id"] for a in admitted}
        await until(lambda: len(self.target.events) >= 100, "100 events")
        self.assertEqual({event["id"] for event in self.target.events}, ids)
        self.assertEqual(len(self.openai.asks), 100)
        await self.used_up_but_ready(daemon)
        # Neither a stop nor a crash is a new day.
        await daemon.stop()
        await daemon.start()
        self.assert_used_up(await daemon.post("one more"))
        await daemon.kill()
        await daemon.start()
        self.assert_used_up(await daemon.post("one more"))
        await self.used_up_but_ready(daemon)
        self.assertEqual(len(self.openai.asks), 100)
        self.assert_fair()

    async def used_up_but_ready(self, daemon):
        status, word, checks = await daemon.checks()
        self.assertEqual((status, word), (200, "degraded"))
        self.assertEqual(
            [name for name in checks if checks[name] not in {"ok", "unknown"}], ["quota"]
        )

    async def test_midnight(self):
        await together(self.midnight("UTC"), self.midnight(NEW_YORK))
        self.assert_fair()

    async def midnight(self, zone):
        night = at("2026-12-02T00:00", zone)
        clock = self.clock(at("2026-12-01T22:59", zone))
        daemon = self.daemon(clock=clock, everyday_limit=3, timezone=zone)
        await daemon.start()
        before = [await daemon.post("text") for _ in range(4)]
        self.assertEqual([a.status for a in before], [202, 202, 202, 429])
        await daemon.live_until(night - 2)
        statuses = []

        async def admitted():
            sent = clock.now()
            answer = await daemon.post("text")
            statuses.append(answer.status)
            if answer.status == 429:
                self.assertLess(sent, night)
                self.assert_used_up(answer)
                self.assertLessEqual(rate(answer)[1], 2)
                return False
            # Nobody was let in a moment early, and the new day has its three.
            self.assertGreaterEqual(clock.now(), night)
            self.assertEqual(rate(answer)[0], 2)
            self.assertLessEqual(rate(answer)[1], 86400)
            return True

        await until(admitted, "midnight")
        after = [await daemon.post("text") for _ in range(3)]
        self.assertEqual([a.status for a in after], [202, 202, 429])

    async def test_nights_on_which_the_clocks_turn(self):
        clock = self.clock(at("2026-11-01T00:30", NEW_YORK))
        daemon = self.daemon(clock=clock, everyday_limit=1, timezone=NEW_YORK)
        await daemon.start()
        for local, status, hours in (
            ("2026-11-01T00:30", 202, 24.5),  # put back at 2:00: this day has 25 hours
            ("2026-11-01T23:59", 429, 1 / 60),
            ("2026-11-02T00:00", 202, 24),
            ("2027-03-14T00:30", 202, 22.5),  # put forward: 23 hours
            ("2027-03-14T23:00", 429, 1),
            ("2027-03-15T00:00", 202, 24),
        ):
            await daemon.live_until(at(local, NEW_YORK))
            answer = await daemon.post("text")
            self.assertEqual(answer.status, status, local)
            left, seconds = rate(answer)
            self.assertEqual(left, 0)
            self.assertLessEqual(seconds, hours * 3600)
            self.assertGreater(seconds, hours * 3600 - 30, local)

    async def test_restart_in_another_day(self):
        clock = self.clock(at("2026-12-01T12:00", "UTC"))
        daemon = self.daemon(clock=clock, everyday_limit=1)
        await daemon.start()
        await daemon.accepted("text")
        await daemon.stop()
        clock.advance(DAY / 2)
        await daemon.start()
        await daemon.accepted("text")
        self.assertEqual((await daemon.post("text")).status, 429)

    async def test_a_unit_is_given_back(self):
        replies = {
            "refused": api_error(400, "too long", code="context_length_exceeded"),
            "unreadable": Reply(200, b"<html>"),
        }
        self.openai.script = lambda request: replies[prompt_of(request)]
        daemon = self.daemon(everyday_limit=1)
        await daemon.start()
        for _ in range(3):
            await daemon.reaches(await daemon.accepted("refused"), "failed")
        self.assertEqual((await daemon.checks())[2]["quota"], "ok")
        # A 200 may have been billed: its unit is spent.
        await daemon.reaches(await daemon.accepted("unreadable"), "failed")
        self.assert_used_up(await daemon.post("refused"))

    async def test_given_back_to_the_day_it_was_of(self):
        clock = self.clock(at("2026-12-01T12:00", "UTC"))
        daemon = self.daemon(clock=clock, everyday_limit=1)
        self.openai.queue(Reply(503, headers={"Retry-After": "3"}))
        await daemon.start()
        old = await daemon.accepted("of yesterday")
        await daemon.reaches(old, lambda record: record["error"])
        self.openai.script = lambda request: api_error(
            400 if prompt_of(request) == "of yesterday" else 503, headers={"Retry-After": "600"}
        )
        await daemon.live_until(at("2026-12-02T00:00", "UTC"))
        await daemon.accepted("of today")
        await daemon.reaches(old, "failed")
        self.assert_used_up(await daemon.post("one more"))
