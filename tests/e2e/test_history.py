"""The history: what survives a restart, and its charts in a browser."""

import sqlite3
import time
from contextlib import closing
from itertools import product
from typing import Any

from chatgpt_source.journal.period import HOUR, MINUTE, Period
from tests.e2e.browser import AXE, DESKTOP, PHONE, TAB
from tests.e2e.processes import Clock, Daemon, DaemonCase, call, free_port, throughout, until
from tests.e2e.test_page import BrowserCase
from tests.fakes.openai import api_error
from tests.journal.postgres_server import server

SECONDS = 6.0
"""Seconds in which all that is counted is written, if the disk is well."""
LEFT, RIGHT, HOME, END = "\ue012", "\ue014", "\ue011", "\ue010"  # as WebDriver writes them


def fill(daemon: Daemon, *periods: Period) -> None:
    """Put periods into the journal of a daemon that is stopped."""
    with closing(sqlite3.connect(daemon.dir / "journal.sqlite")) as db, db:
        db.executemany(
            "INSERT INTO history VALUES (?, ?, ?, ?)", [each.to_row() for each in periods]
        )


def busy(step: int, start: int, number: int = 1) -> Period:
    """A period in which something happened."""
    period = Period(step, start, accepted=5 * number, delivered=3 * number, failed=number)
    period.refused["quota"] = number
    period.backlog, period.used = number, 10
    period.input_tokens, period.output_tokens = 1000 * number, 400
    period.cost, period.cheap = 0.01 * number, 1
    for seconds in (0.05, 0.8, 1.5 * number):
        period.latencies.add(seconds)
    return period


class KeptCase(DaemonCase):
    async def with_admin(self, clock: Clock | None = None, **settings: Any) -> Daemon:
        self.admin = free_port()
        where = f"tcp:{self.admin}:interface=127.0.0.1"
        daemon = self.daemon(clock=clock, admin=where, **settings)
        await daemon.start()
        await until(daemon.is_ready, "a journal that is open")
        return daemon

    async def history(self, wanted: str = "1h", admin: int | None = None) -> list[dict[str, Any]]:
        """The columns of which something is known."""
        url = f"http://127.0.0.1:{admin or self.admin}/api/history?range={wanted}"
        columns: list[dict[str, Any]] = (await call("GET", url)).json()["columns"]
        return [each for each in columns if each["accepted"] is not None]

    async def sums(self, *names: str, wanted: str = "1h", admin: int | None = None) -> list[int]:
        columns = await self.history(wanted, admin)
        return [sum(each[name] for each in columns) for name in names]

    async def work(self, daemon: Daemon) -> None:
        """Two prompts are delivered, one fails, one is refused."""
        for _ in range(2):
            await daemon.reaches(await daemon.accepted("good"), "delivered")
        self.openai.queue(api_error(400))
        await daemon.reaches(await daemon.accepted("bad"), "failed")
        self.assertEqual((await daemon.post(" ")).status, 400)

    async def assert_worked(self, times: int = 1, admin: int | None = None) -> None:
        for wanted in ("1h", "24h", "7d", "30d"):
            told = await self.sums("accepted", "delivered", "failed", wanted=wanted, admin=admin)
            self.assertEqual(told, [3 * times, 2 * times, times], wanted)
            columns = await self.history(wanted, admin)
            refused = sum(each["refused"].get("invalid", 0) for each in columns)
            self.assertEqual(refused, times)
            self.assertTrue(any(each["latency"] for each in columns))

    def written(self, daemon: Daemon) -> int:
        """The failures of all minutes in its journal."""
        with closing(sqlite3.connect(daemon.dir / "journal.sqlite")) as db:
            (count,) = db.execute(
                "SELECT sum(counts ->> 'failed') FROM history WHERE step = 60"
            ).fetchone()
        return count or 0


class KeptTests(KeptCase):
    async def test_a_restart_keeps_it(self) -> None:
        daemon = await self.with_admin()
        await self.work(daemon)
        await self.assert_worked()
        await daemon.stop()
        self.assertEqual(self.written(daemon), 1)
        await daemon.start()
        await self.assert_worked()
        await self.work(daemon)
        await self.assert_worked(2)

    async def test_a_crash_loses_seconds_at_the_most(self) -> None:
        clock = self.clock(time.time())
        daemon = await self.with_admin(clock)
        await self.work(daemon)
        clock.advance(SECONDS)
        await until(lambda: self.written(daemon) == 1, "a write")
        await daemon.accepted("lost")
        await daemon.kill()
        await daemon.start()
        failed = await self.sums("failed", "delivered")
        self.assertEqual(failed[0], 1)
        self.assertGreaterEqual(failed[1], 2)

    async def test_nothing_is_kept_without_the_site(self) -> None:
        daemon = self.daemon()
        await daemon.start()
        await self.work(daemon)
        await daemon.stop()
        self.assertEqual(self.written(daemon), 0)

    async def test_what_is_too_old_is_deleted(self) -> None:
        clock = self.clock(time.time())
        daemon = await self.with_admin(clock)
        await daemon.stop()
        minute = int(clock.now()) // MINUTE * MINUTE
        fill(daemon, *(busy(MINUTE, minute - hours * HOUR) for hours in (2, 24, 26, 100)))
        await daemon.start()
        clock.step(40 * 24 * 3600)  # ahead, for a while
        await daemon.live(900)
        clock.step(-40 * 24 * 3600)

        async def is_pruned() -> bool:
            await daemon.live(60)  # it prunes once a minute
            return self.written(daemon) == 2

        await until(is_pruned, "the end of the older ones")
        self.assertEqual(await self.sums("failed", wanted="24h"), [1])

    async def test_what_answers_cost(self) -> None:
        prices = {"gpt-6-luna": {"input": 1_000_000, "output": 0}}
        daemon = await self.with_admin(prices=prices)
        await self.work(daemon)
        (cost, tokens) = await self.sums("cost", "input_tokens")
        self.assertGreater(tokens, 0)
        self.assertEqual(cost, tokens)
        metrics = (await call("GET", f"http://127.0.0.1:{self.admin}/metrics")).body.decode()
        self.assertIn(f"chatgpt_source_cost_dollars_total {float(tokens)}", metrics)

    async def test_a_disk_that_hangs_holds_nothing_up_and_loses_nothing(self) -> None:
        clock = self.clock(time.time())
        daemon = await self.with_admin(clock)
        await self.work(daemon)
        hanging = sqlite3.connect(daemon.dir / "journal.sqlite", isolation_level=None)
        hanging.execute("BEGIN IMMEDIATE")
        self.assertEqual((await daemon.post(" ")).status, 400)
        clock.advance(SECONDS)
        await throughout(0.5, lambda: not self.written(daemon), "a write")
        self.assertEqual(await self.sums("accepted"), [3])
        hanging.execute("ROLLBACK")
        hanging.close()
        await until(lambda: self.written(daemon) == 1, "a write")
        columns = await self.history()
        self.assertEqual(sum(each["refused"].get("invalid", 0) for each in columns), 2)


class SharedTests(KeptCase):
    """Two daemons that share a journal."""

    async def test_each_shows_the_sum(self) -> None:
        url = server().schema()
        one = await self.with_admin(journal=url)
        first = self.admin
        await self.assert_none()
        other = await self.with_admin(journal=url)
        await self.work(one)
        await self.work(other)

        async def both(admin: int) -> bool:
            return await self.sums("accepted", admin=admin) == [6]

        for admin in (first, self.admin):
            await until(lambda admin=admin: both(admin), "the other's", timeout=30)
            await self.assert_worked(2, admin)
        await one.kill()
        await other.stop()
        await one.start()
        await until(one.is_ready, "a journal that is open")
        await self.assert_worked(2, first)

    async def assert_none(self) -> None:
        self.assertEqual(await self.sums("accepted"), [0])


class BrowserTests(BrowserCase):
    async def with_history(self, **settings: Any) -> Daemon:
        """A daemon with a history of a month, with a gap, and one prompt that it delivers now."""
        daemon = await self.with_page(
            prices={"gpt-6-luna": {"input": 1, "output": 2}}, timezone="Europe/Berlin", **settings
        )
        await daemon.stop()
        minute, hour = int(time.time()) // MINUTE, int(time.time()) // HOUR
        minutes = (n for n in range(3, 1400) if not 20 < n < 30)
        fill(daemon, *(busy(MINUTE, (minute - n) * MINUTE, n % 7 + 1) for n in minutes))
        fill(daemon, *(busy(HOUR, (hour - n) * HOUR, n % 9 + 1) for n in range(3, 700)))
        await daemon.start()
        return daemon

    async def readout(self, name: str = "traffic") -> str:
        return str(await self.do("text", f"{name}-readout"))

    async def told(self, name: str = "traffic") -> list[str]:
        """What the columns of a chart say."""
        script = f"return JSON.parse(document.getElementById('{name}-canvas').dataset.told)"
        words: list[str] = await self.do("run", script)
        return words

    async def test_the_ranges(self) -> None:
        await self.with_history()
        await self.look()
        await self.live()
        hour = await self.do("text", "traffic")
        self.assertIn("a minute.", hour)
        for name, words in (("24h", "in 15 minutes."), ("7d", "in 2 hours."), ("30d", "in 6 h")):
            await self.do("click", f"range-{name}")
            await self.shows("traffic", words)
            self.assertEqual(await self.do("run", "return location.search"), f"?range={name}")
            current = "return document.querySelector('#ranges [aria-current]').id"
            here = f"range-{name}"
            await until(lambda: self.is_(current, here), "the link that is current")  # noqa: B023 - at once
        await self.do("run", "history.back()")
        await self.shows("traffic", "in 2 hours.")
        await self.assert_not_reloaded()
        await self.look("/?range=24h&state=failed")
        self.assertIn("in 15 minutes.", await self.do("text", "traffic"))
        await self.live()
        await self.do("click", "range-1h")
        await self.shows("traffic", "a minute.")
        self.assertEqual(await self.do("run", "return location.search"), "?state=failed")
        await self.assert_no_complaints()

    async def is_(self, script: str, value: Any) -> bool:
        return bool(await self.do("run", script) == value)

    async def test_without_the_script(self) -> None:
        await self.with_history()
        await self.do("scripts", allowed=False)
        try:
            await self.look()
            await self.do("click", "range-7d")
            await self.shows("traffic", "in 2 hours.")
            await self.do("click", "table-summary")
            await self.shows("numbers", "From", "Tokens in", "Cost")
        finally:
            await self.do("scripts", allowed=True)

    async def test_by_keyboard(self) -> None:
        await self.with_history()
        await self.look("/?range=7d")
        await self.live()
        top = await self.readout()
        self.assertIn("At most", top)
        await self.do("run", "document.getElementById('range-30d').focus()")
        await self.do("press", TAB)
        self.assertEqual((await self.do("focus"))[0], "traffic-canvas")
        await until(lambda: self.reads(-1), "the last column's values")
        await self.do("press", LEFT, LEFT, LEFT, LEFT)
        await until(lambda: self.reads(-5), "the values of the fifth but last")
        self.assertIn("accepted", await self.readout())
        await self.do("press", RIGHT)
        await until(lambda: self.reads(-4), "those after it")
        await self.do("press", HOME)
        await until(lambda: self.reads(0), "the first")
        await self.do("press", END)
        await until(lambda: self.reads(-1), "the last")
        now, text = await self.do(
            "run",
            "const at = document.activeElement; return [at.ariaValueNow, at.ariaValueText]",
        )
        self.assertEqual((now, text), ("83", await self.readout()))
        await self.do("press", TAB)
        self.assertEqual((await self.do("focus"))[0], "latency-canvas")
        self.assertIn("At most", await self.readout())
        await self.assert_no_complaints()

    async def reads(self, column: int, name: str = "traffic") -> bool:
        return bool(await self.readout(name) == (await self.told(name))[column])

    async def test_a_chart_that_is_read_goes_on(self) -> None:
        daemon = await self.with_history()
        await self.look()
        await self.live()
        await self.do("run", "document.getElementById('traffic-canvas').focus()")
        await self.do("press", LEFT, LEFT, LEFT, LEFT, LEFT)
        read = await self.readout()
        before = await self.do("text", "traffic")
        await daemon.reaches(await daemon.accepted("good"), "delivered")
        await until(lambda: self.changed("traffic", before), "the new count")
        self.assertEqual(await self.readout(), read)
        self.assertEqual((await self.do("focus"))[0], "traffic-canvas")

    async def changed(self, name: str, before: str) -> bool:
        return bool(await self.do("text", name) != before)

    async def test_by_touch_and_by_mouse(self) -> None:
        await self.with_history()
        for size in (PHONE, DESKTOP):
            await self.look("/?range=7d", size)
            await self.live()
            await self.do("run", "document.getElementById('latency').scrollIntoView()")
            left, width, top = await self.do(
                "run",
                "const at = document.getElementById('latency-canvas').getBoundingClientRect();"
                "return [at.left, at.width, at.top + at.height / 2]",
            )
            for column in (5, 40):
                x = left + width * (column + 0.5) / 84
                if size == PHONE:
                    await self.do("tap", x, top)
                else:
                    await self.do("hover", x, top)
                await until(lambda at=column: self.reads(at, "latency"), f"column {column}")
            self.assertIn("median", await self.readout("latency"))
        await self.do("hover", 5, 5)
        await until(lambda: self.is_text("latency-readout", ""), "nothing, as nothing is picked")
        await self.assert_no_complaints()

    async def is_text(self, id_: str, text: str) -> bool:
        return bool(await self.do("text", id_) == text)

    async def test_no_data_is_not_zero(self) -> None:
        await self.with_history()
        await self.look()
        told = await self.told()
        self.assertIn("no data", told[60 - 25])
        self.assertNotIn("no data", told[60 - 15])
        self.assertIn("Hatched: no data", await self.do("text", "past"))
        hatched = "return document.querySelectorAll('#traffic .unknown').length"
        self.assertGreater(await self.do("run", hatched), 0)

    async def test_accessible_and_not_too_wide(self) -> None:
        await self.with_history()
        for size, wanted in product((DESKTOP, PHONE), ("1h", "30d")):
            await self.look(f"/?range={wanted}", size)
            await self.live()
            await self.do("run", "document.getElementById('table').open = true")
            for dark in (False, True):
                await self.do("theme", dark=dark)
                wide = "return document.documentElement.scrollWidth"
                self.assertLessEqual(await self.do("run", wide), size[0], (size, wanted))
                if AXE.exists():
                    found = await self.do("violations", "#past")
                    self.assertEqual(found, [], (size, dark, wanted))
        await self.assert_no_complaints()
