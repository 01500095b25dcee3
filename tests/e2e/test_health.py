"""The first line of the page: true at a glance, and what to do about it."""

import signal
import time
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from tests.e2e.browser import AXE, DESKTOP, ENTER, PHONE, TAB
from tests.e2e.processes import Daemon, call, throughout, until
from tests.e2e.test_page import BrowserCase
from tests.fakes.openai import api_error
from tests.fakes.server import Reply

NEW_YORK, AUCKLAND = "America/New_York", "Pacific/Auckland"
HIDE = """
Object.defineProperty(document, "hidden", { value: true });
document.dispatchEvent(new Event("visibilitychange"));
"""
WATCH_FOR_UNKNOWN = """
window.wasUnknown = false;
new MutationObserver(() => { window.wasUnknown ||= !document.getElementById("unheard").hidden; })
  .observe(document.getElementById("unheard"), { attributes: true });
"""
SET_AHEAD = """
const now = performance.now.bind(performance);
performance.now = () => now() + %d;
"""
QUIET = 5_000
"""Milliseconds without a word after which nothing is known."""
GLANCE = 10_000
"""Milliseconds between two looks of a page that nobody sees."""
WATCH_FOR_TALK = """
window.talk = 0;
new MutationObserver((changes) => { window.talk += changes.length; })
  .observe(document.getElementById("health-said"),
    { attributes: true, characterData: true, childList: true, subtree: true });
"""


class HealthCase(BrowserCase):
    async def level(self) -> str:
        """The level that the headline has; grey if nothing is heard."""
        shown = "return document.getElementById('health').className.split(' ')[1]"
        unheard = await self.do("visible", "unheard")
        return "unheard" if unheard else str(await self.do("run", shown))

    async def is_at(self, level: str, timeout: float = 20) -> None:
        async def there() -> bool:
            return await self.level() == level

        await until(there, f"the level {level}", timeout)

    async def title(self) -> str:
        return str(await self.do("run", "return document.title"))

    async def judged(self) -> dict[str, Any]:
        """What /api/status says of the health."""
        url = f"http://127.0.0.1:{self.admin}/api/status"
        health: dict[str, Any] = (await call("GET", url)).json()["health"]
        return health

    async def well(self, **settings: Any) -> Daemon:
        """A daemon that has delivered an event, and a page that says that all is well."""
        daemon = await self.with_page(**settings)
        await daemon.reaches(await daemon.accepted("good"), "delivered")
        await self.look()
        await self.live()
        await self.is_at("green")
        return daemon

    async def held(self, prompts: int = 3) -> Daemon:
        """A daemon whose key is refused, and the page that says so."""
        self.openai.script = lambda _: api_error(401, code="invalid_api_key")
        daemon = await self.with_page()
        for n in range(prompts):
            await daemon.accepted(f"{n}")
        await self.look()
        await self.live()
        await self.is_at("red")
        return daemon


class SinkTests(HealthCase):
    async def test_one_that_refuses_all_is_never_green(self) -> None:
        self.target.script = lambda _: Reply(400)
        clock = self.clock(time.time())
        daemon = await self.with_page(daemon_clock=clock)
        for n in range(12):
            await daemon.reaches(await daemon.accepted(f"{n}"), "failed")
        await self.look()
        await self.live()
        await self.is_at("red")
        told = "Nothing succeeds: all of the last 12 prompts failed, most often: the target ans"
        await self.shows("health", told, "12 failed prompts in the journal", "Show these prompts")
        self.assertEqual(await self.title(), "● 1 trouble – ChatGPT Source")
        await daemon.kill()
        await daemon.start()
        await self.shows("live-text", "Live")
        await self.is_at("red")
        await daemon.live(3600)  # nothing comes any more
        await self.look()
        await self.live()
        self.assertEqual(await self.level(), "red")
        self.assertEqual((await daemon.get("/readyz")).json()["health"], "red")
        metrics = (await call("GET", f"http://127.0.0.1:{self.admin}/metrics")).body
        self.assertIn(b'chatgpt_source_health{level="red"} 1.0', metrics)
        self.target.script = lambda _: Reply(200)
        await daemon.operate("redrive", "--all")
        await until(lambda: len(self.target.events) == 12, "all events")
        await self.is_at("unknown")  # the model was not asked since the start
        await daemon.accepted("one more")
        await self.is_at("green")
        await self.do("complaints")

    async def test_leads_to_the_prompts_of_the_reason(self) -> None:
        self.target.script = lambda _: Reply(400)
        daemon = await self.with_page()
        for n in range(3):
            await daemon.reaches(await daemon.accepted(f"{n}"), "failed")
        await self.look()
        await self.live()
        await self.is_at("red")
        await self.do("click", "of-failures")
        await self.shows("listing", "the target answered 400")
        search = await self.do("run", "return location.search")
        self.assertEqual(search, "?state=failed&reason=the+target+answered+400")


class TryNowTests(HealthCase):
    async def test_a_key_that_was_mended(self) -> None:
        daemon = await self.held()
        await self.shows(
            "health",
            "The model answered 401 (invalid_api_key).",
            "3 prompts wait, and none fails meanwhile.",
            "The next try is at ",
            "Check token; then try it now.",
        )
        (trouble,) = (await self.judged())["troubles"]
        self.assertEqual((trouble["peer"], trouble["level"]), ("model", "red"))
        asked = len(self.openai.asks)
        await self.do("click", "try-model")
        await self.shows("said-health", "The model is called now.")
        await until(lambda: len(self.openai.asks) == asked + 1, "another call")  # refused still
        await self.is_at("red")
        told = await self.shows("said-health", "Not yet: The model answered 401 (invalid_api_key).")
        self.assertRegex(told, r"^Tried at \d\d:\d\d:\d\d\. Not yet")
        self.openai.script = lambda _: api_error(503)
        await self.do("click", "try-model")
        await self.shows("said-health", "Not yet: The model answered 503.")
        self.openai.script = self.openai.default
        await self.do("click", "try-model")
        await self.is_at("green", 8)
        await self.shows("said-health", "It answers again.")
        await until(lambda: len(self.target.events) == 3, "all that waited", 5)
        self.assertIn("operator without credentials tries model now", daemon.text)
        await self.assert_not_reloaded()

    async def test_by_keyboard(self) -> None:
        await self.held(1)
        self.openai.script = self.openai.default
        for _ in range(10):
            await self.do("press", TAB)
            name, outline = await self.do("focus")
            if name == "try-model":
                break
        self.assertEqual(name, "try-model")
        self.assertNotEqual(outline, "none")
        await self.do("press", ENTER)
        await self.is_at("green", 8)
        self.assertEqual((await self.do("focus"))[0], "health-title")

    async def test_not_twice_at_once_though_the_page_lives_on(self) -> None:
        daemon = await self.held(1)
        await self.do("run", "window.calls = 0; window.fetch = () => new Promise(() => calls++)")
        await self.do("click", "try-model")
        await daemon.accepted("one more")
        await self.shows("health", "2 prompts wait")
        await self.do("click", "try-model")
        disabled = "return document.getElementById('try-model').ariaDisabled"
        self.assertEqual(await self.do("run", disabled), "true")
        self.assertEqual(await self.do("run", "return calls"), 1)

    async def test_it_counts_down_and_says_it_once(self) -> None:
        await self.held(1)
        await self.do("run", WATCH_FOR_TALK)
        left = "return document.querySelector('#health [data-at]').textContent"
        seen = set()

        async def counts() -> bool:
            seen.add(await self.do("run", left))
            return len(seen) >= 4

        await until(counts, "a countdown")
        self.assertTrue(all(each.startswith("in ") for each in seen), seen)
        self.assertEqual(await self.do("run", "return window.talk"), 0)


class UnheardTests(HealthCase):
    async def grey_once_quiet(self) -> None:
        await self.do("run", SET_AHEAD % QUIET)
        await self.is_at("unheard", 3)
        await self.shows("unheard", "Unknown: last heard at ")
        self.assertTrue((await self.title()).startswith("○ Unknown, last heard at "))
        self.assertNotIn("All is well", await self.do("text", "main"))
        self.assertIn("Delivered\n1", await self.do("text", "states"))  # as last known

    async def test_one_that_is_killed(self) -> None:
        daemon = await self.well()
        await daemon.kill()
        await self.grey_once_quiet()
        if AXE.exists():
            self.assertEqual(await self.do("violations"), [])
        await daemon.start()
        await self.is_at("unknown")
        await self.shows("health", "Nothing tried yet.")
        self.assertEqual(await self.title(), "○ Nothing tried yet – ChatGPT Source")
        await self.do("complaints")

    async def test_one_that_is_frozen(self) -> None:
        daemon = await self.well()
        assert daemon.process is not None
        await self.do("run", WATCH_FOR_UNKNOWN)
        await throughout(8, lambda: True, "")
        self.assertFalse(await self.do("run", "return window.wasUnknown"))
        self.assertEqual(await self.level(), "green")
        daemon.process.signal(signal.SIGSTOP)
        await self.grey_once_quiet()
        daemon.process.signal(signal.SIGCONT)
        await self.is_at("green")
        self.assertEqual(await self.title(), "✓ All is well – ChatGPT Source")
        await self.assert_not_reloaded()
        await self.do("complaints")

    async def test_troubles_stay_in_sight(self) -> None:
        daemon = await self.held(1)
        await daemon.kill()
        await self.is_at("unheard")
        await self.shows("unheard", "What is below was so then.")
        await self.shows("health", "The model answered 401")
        await self.do("complaints")


class BackgroundTests(HealthCase):
    async def test_a_tab_that_nobody_sees_has_a_true_title(self) -> None:
        daemon = await self.well()
        await self.do("run", HIDE)
        self.openai.script = lambda _: api_error(401)
        await daemon.accepted("held")
        await until(self.is_judged, "the trouble")
        await self.do("run", SET_AHEAD % GLANCE)
        await until(lambda: self.titled("● 1 trouble"), "a title in the background", 5)
        await daemon.kill()
        await self.do("run", SET_AHEAD % GLANCE)
        await until(lambda: self.titled("○ Unknown, last heard at "), "a title of silence", 5)
        await self.do("complaints")

    async def is_judged(self) -> bool:
        return (await self.judged())["level"] == "red"

    async def titled(self, beginning: str) -> bool:
        return (await self.title()).startswith(beginning)


class ZoneTests(HealthCase):
    async def test_all_see_the_daemons_times(self) -> None:
        self.target.script = lambda _: Reply(400)
        daemon = await self.with_page(timezone=NEW_YORK)
        for n in range(3):
            await daemon.reaches(await daemon.accepted(f"{n}"), "failed")
        seen = {}
        try:
            for zone in (AUCKLAND, NEW_YORK):
                await self.do("zone", zone)
                await self.look()
                await self.live()
                times = "return [...document.querySelectorAll('time')].map((e) => e.title)"
                since = "return document.querySelector('#health time').textContent"
                seen[zone] = await self.do("run", since), await self.do("run", times)
            self.assertEqual(seen[AUCKLAND][0], seen[NEW_YORK][0])
            for each in (*seen[AUCKLAND][1], *seen[NEW_YORK][1]):
                self.assertRegex(each, "E[SD]T$")
            await self.do("zone", AUCKLAND)
            await self.look()
            await self.live()
            await daemon.kill()
            await self.is_at("unheard")
            heard = (await self.do("text", "unheard")).partition("last heard at ")[2][:8]
            now = datetime.now(ZoneInfo(NEW_YORK))
            told = {f"{now - timedelta(seconds=ago):%H:%M:%S}" for ago in range(300)}
            self.assertIn(heard, told)
        finally:
            await self.do("zone", "")
            await self.do("complaints")


class LookTests(HealthCase):
    async def test_accessible_and_narrow(self) -> None:
        self.target.script = lambda _: Reply(400)
        daemon = await self.with_page(everyday_limit=5)
        for n in range(3):
            await daemon.reaches(await daemon.accepted(f"{n}"), "failed")
        self.openai.script = lambda _: api_error(401, code="invalid_api_key")
        await daemon.reaches(await daemon.accepted("held"), lambda record: record["error"])
        for size in (PHONE, DESKTOP):
            await self.look("/", size)
            await self.live()
            await self.shows("health", "401", "Nothing succeeds", "of the day's 5 prompts")
            for dark in (False, True):
                await self.do("theme", dark=dark)
                wide = "return document.documentElement.scrollWidth"
                self.assertLessEqual(await self.do("run", wide), size[0], (size, dark))
                self.assertEqual(await self.do("violations"), [], (size, dark))

    if not AXE.exists():
        test_accessible_and_narrow.skip = "no axe-core: `make test` installs it where there is npm"  # type: ignore[attr-defined]
