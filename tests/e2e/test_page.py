"""The status page in a browser, beside a daemon at work."""

from itertools import product
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from tests.e2e.browser import AXE, DESKTOP, ENTER, ESCAPE, PHONE, SHIFT_TAB, TAB, browser, missing
from tests.e2e.processes import Clock, Daemon, DaemonCase, call, free_port, until
from tests.fakes.openai import answer_to, api_error, completion, prompt_of
from tests.fakes.server import Received, Reply

SMALL = (320, 256)
"""A window of 1280 by 1024 at a zoom of 400 % (WCAG, 1.4.10)."""
OPEN = "for (const each of document.querySelectorAll('details')) each.open = true"


class BrowserCase(DaemonCase):
    skip = missing()
    credentials = ""

    async def with_page(self, daemon_clock: Clock | None = None, **settings: Any) -> Daemon:
        """A daemon that runs and has the page, and a browser that has seen nothing of it."""
        self.admin = free_port()
        admin = f"tcp:{self.admin}:interface=127.0.0.1"
        daemon = self.daemon(clock=daemon_clock, admin=admin, **settings)
        await daemon.start()
        await self.do("look", "about:blank")
        await self.do("complaints")
        return daemon

    async def do(self, name: str, *arguments: Any, **options: Any) -> Any:
        """Have the browser do something."""
        return await deferToThread(lambda: getattr(browser(), name)(*arguments, **options))

    async def look(self, path: str = "/", size: tuple[int, int] = DESKTOP, **how: Any) -> None:
        await self.do("look", f"http://{self.credentials}127.0.0.1:{self.admin}{path}", size, **how)

    async def shows(self, id_: str, *texts: str) -> str:
        """Wait until an element shows some texts."""
        seen = ""

        async def there() -> bool:
            nonlocal seen
            seen = await self.do("text", id_)
            return all(text in seen for text in texts)

        try:
            await until(there)
        except AssertionError:
            raise AssertionError(f"{texts} are not in {seen!r}") from None
        return seen

    async def live(self) -> None:
        """Wait until the page is live; from then on it must not be loaded again."""
        await self.shows("live-text", "Live")
        await self.do("run", "window.loadedOnce = true")

    async def assert_not_reloaded(self) -> None:
        self.assertTrue(await self.do("run", "return window.loadedOnce === true"))

    async def assert_no_complaints(self) -> None:
        self.assertEqual(await self.do("complaints"), [])

    async def tab_to(self, wanted: str) -> list[str]:
        """Press Tab until an element has the focus; what had it on the way."""
        passed = []
        for _ in range(60):
            await self.do("press", TAB)
            name, outline = await self.do("focus")
            self.assertEqual(outline == "none", name == "body", f"{name} shows no focus")
            if name == wanted:
                return passed
            passed.append(name)
        raise AssertionError(f"{wanted} can't be reached: {passed}")

    async def gone(self, id_: str) -> bool:
        return not await self.do("visible", id_)

    async def failed_prompt(self, daemon: Daemon) -> str:
        self.openai.queue(api_error(400))
        prompt_id = await daemon.accepted("bad")
        await daemon.reaches(prompt_id, "failed")
        return prompt_id


class PromptTests(BrowserCase):
    async def test_a_prompt_is_seen_to_go_its_way(self) -> None:
        asked, sent = Deferred(), Deferred()

        async def answer(request: Received) -> Reply:
            await asked
            return completion(answer_to(prompt_of(request)))

        async def take(_: Received) -> Reply:
            await sent
            return Reply(200)

        self.openai.script, self.target.script = answer, take
        await self.with_page()
        await self.look()
        await self.live()
        await self.do("write", "text", "what is vanus\n<b>&amp;")
        await self.do("click", "send")
        await self.shows("sent", "Accepted as ")
        await self.shows("way", "Asking the model")
        await self.shows("quota", "1 of 100 prompts used today")
        await self.do("write", "text", "half a thought")
        asked.callback(None)
        await self.shows("way", "Answered at", "Delivering the event")
        sent.callback(None)
        await self.shows("way", "Delivered at")
        await self.shows("listing", "delivered", "1 ask, 1 delivery")
        await self.shows("states", "Nothing waits.")
        self.assertEqual([prompt_of(r) for r in self.openai.asks], ["what is vanus\n<b>&amp;"])
        kept = "return [document.activeElement.id, document.getElementById('text').value]"
        self.assertEqual(await self.do("run", kept), ["text", "half a thought"])
        await self.assert_not_reloaded()
        await self.assert_no_complaints()

    async def test_one_that_fails_says_why_and_is_redriven(self) -> None:
        self.openai.queue(api_error(400))
        await self.with_page()
        await self.look()
        await self.live()
        await self.do("write", "text", "what is vanus")
        await self.do("click", "send")
        await self.shows("way", "Failed", "The model answered 400: it refuses this prompt")
        (prompt,) = self.openai.asks
        self.assertEqual(prompt_of(prompt), "what is vanus")
        await self.shows("listing", "failed")
        button = "return document.querySelector('#listing button').id"
        await self.do("click", await self.do("run", button))
        await self.shows("said-prompts", "is taken up again")
        await self.shows("way", "Delivered at", "2 asks")
        await self.assert_not_reloaded()
        await self.assert_no_complaints()

    async def test_one_that_is_refused_says_why(self) -> None:
        daemon = await self.with_page(everyday_limit=1)
        await daemon.accepted("first")
        await self.look()
        await self.live()
        await self.shows("quota", "Used up")
        await self.do("write", "text", "second")
        await self.do("click", "send")
        await self.shows("sent", "Not accepted: ", "midnight")
        kept = "return document.getElementById('text').value"
        self.assertEqual(await self.do("run", kept), "second")

    async def test_behind_a_password(self) -> None:
        self.credentials = "me:a-long-password@"
        await self.with_page(admin_auth={"basic": {"me": "a-long-password"}})
        await self.look()
        await self.live()
        await self.do("write", "text", "what is vanus")
        await self.do("click", "send")
        await self.shows("way", "Delivered at")
        await self.assert_no_complaints()


class ListTests(BrowserCase):
    async def test_filter_and_history(self) -> None:
        daemon = await self.with_page()
        await daemon.reaches(await daemon.accepted("good"), "delivered")
        failed = await self.failed_prompt(daemon)
        await self.look()
        await self.live()
        await self.shows("listing", "delivered", "failed")
        await self.do("click", "filter-failed")
        await until(lambda: self.only("failed"), "the failed alone")
        await self.do("run", "history.back()")
        await self.shows("listing", "delivered", "failed")
        await self.do("click", "tile-failed")
        await until(lambda: self.only("failed"), "the failed alone")
        self.assertEqual((await self.do("focus"))[0], "prompts-title")
        await self.assert_not_reloaded()
        await self.do("click", f"show-{failed}")
        await self.shows("prompt", failed, "The model answered 400")
        self.assertEqual(
            await self.do("run", "return location.search"), f"?state=failed&prompt={failed}"
        )
        await self.do("click", "back")
        self.assertTrue(await self.only("failed"))
        await self.assert_no_complaints()

    async def test_search(self) -> None:
        daemon = await self.with_page()
        key = {"Idempotency-Key": "an-order-of-ours"}
        wanted = await daemon.accepted("wanted", key)
        other = await daemon.accepted("other")
        await daemon.reaches(other, "delivered")
        await self.look()
        await self.live()
        for word in (wanted, wanted[:8], "an-order-of-ours"):
            await self.do("run", "document.getElementById('q').value = ''")
            await self.do("write", "q", word)
            await self.do("press", ENTER)
            await self.shows("chips", f"Found by {word}")
            await self.shows("listing", wanted[:8])
            self.assertNotIn(other[:8], await self.do("text", "listing"))
            self.assertEqual((await self.do("focus"))[0], "q")
        await self.do("click", "chip-q")
        await self.shows("listing", wanted[:8], other[:8])
        await self.do("write", "q", "-no-such-thing")
        await self.do("click", "find")
        await self.shows("listing", "No prompt has an id that begins so")
        await self.assert_not_reloaded()
        await self.assert_no_complaints()

    async def only(self, state: str) -> bool:
        script = "return [...document.querySelectorAll('#listing .badge')].map(e => e.innerText)"
        return set(await self.do("run", script)) == {state}

    async def test_pages(self) -> None:
        daemon = await self.with_page()
        for number in range(27):
            await daemon.accepted(f"{number}")
        await self.look()
        await self.live()
        rows = "return document.querySelectorAll('#listing tbody tr').length"
        self.assertEqual(await self.do("run", rows), 25)
        await self.do("click", "older")
        await self.shows("pages", "Latest")
        self.assertEqual(await self.do("run", rows), 2)

    async def test_without_the_script(self) -> None:
        daemon = await self.with_page()
        failed = await self.failed_prompt(daemon)
        await self.do("scripts", allowed=False)
        try:
            await self.look()
            self.assertIn("needs JavaScript", await self.do("text", "try"))
            self.assertIn("chatgpt-source-journal", await self.do("text", "controls-place"))
            self.assertRegex(await self.do("text", "live"), r"this was so at \d\d:\d\d:\d\d;")
            self.assertFalse(await self.do("visible", "form"))
            self.assertNotIn("Redrive", await self.do("text", "prompts"))
            await self.do("click", "filter-delivered")
            await self.shows("listing", "No prompt is delivered.")
            await self.do("write", "q", failed[:6])
            await self.do("click", "find")
            await self.shows("listing", failed[:8])
            await self.do("click", f"show-{failed}")
            await self.shows("attempts", "ask 1", "400")
            self.assertNotIn("Redrive", await self.do("text", "prompt"))
        finally:
            await self.do("scripts", allowed=True)


class KeyboardTests(BrowserCase):
    async def test_all_by_keyboard(self) -> None:
        daemon = await self.with_page()
        failed = await self.failed_prompt(daemon)
        await self.look()
        await self.live()
        passed = await self.tab_to("redrive-all")
        self.assertEqual(passed[0], "skip")
        self.assertNotIn("table-summary", passed)  # what is urgent comes first
        await self.do("press", ENTER)
        self.assertEqual((await self.do("focus"))[0], "sure-no")
        self.assertIn("100 of them are left", await self.do("text", "sure-text"))
        await self.do("press", ENTER)  # no harm done by one key too many
        self.assertEqual((await self.do("focus"))[0], "redrive-all")
        self.assertEqual((await daemon.record(failed))["state"], "failed")
        await self.do("press", ENTER)
        await self.do("press", SHIFT_TAB)
        self.assertEqual((await self.do("focus"))[0], "sure-yes")
        await self.do("press", ENTER)
        await self.shows("said-failures", "Taken up again: 1.")
        await self.shows("listing", "delivered")
        await until(lambda: self.gone("failures"), "no failures")
        # What has the focus stays from here on.
        passed = await self.tab_to("text")
        self.assertLess(passed.index("tile-failed"), passed.index("q"))
        self.assertLess(passed.index("q"), passed.index("filter-all"))
        await self.do("press", *"what is vanus")
        self.assertEqual(await self.tab_to("send"), [])
        await self.do("press", ENTER)
        await self.shows("way", "Delivered at")
        self.assertEqual((await self.do("focus"))[0], "send")
        self.assertEqual(await self.tab_to("close"), ["way-whole"])
        await self.assert_not_reloaded()
        await self.assert_no_complaints()

    async def test_escape_leaves_all_as_it_is(self) -> None:
        daemon = await self.with_page()
        failed = await self.failed_prompt(daemon)
        await self.look()
        await self.live()
        await self.tab_to("redrive-all")
        await self.do("press", ENTER)
        await self.do("press", ESCAPE)
        self.assertEqual((await self.do("focus"))[0], "redrive-all")
        self.assertEqual((await daemon.record(failed))["state"], "failed")
        await self.do("press", ENTER)
        await self.do("press", SHIFT_TAB)
        await self.do("press", ENTER)
        await self.shows("said-failures", "Taken up again: 1.")

    async def test_a_focus_whose_place_is_gone(self) -> None:
        daemon = await self.with_page()
        failed = await self.failed_prompt(daemon)
        await self.look("/?state=failed")
        await self.live()
        await self.tab_to(f"redrive-row-{failed}")
        await self.do("press", ENTER)
        await self.shows("listing", "No prompt is failed.")
        self.assertEqual((await self.do("focus"))[0], "prompts-title")


class LookTests(BrowserCase):
    async def world(self) -> list[str]:
        """A daemon with everything to see, and the paths of its pages."""
        daemon = await self.with_page(everyday_limit=10)
        await daemon.reaches(await daemon.accepted("good"), "delivered")
        failed = await self.failed_prompt(daemon)
        self.openai.script = lambda _: api_error(401)
        held = await daemon.accepted("held")
        await daemon.reaches(held, lambda record: record["error"])
        return [f"/?tried={failed}", f"/?state=failed&prompt={failed}", f"/?prompt={held}"]

    async def test_both_themes_on_phone_and_desktop(self) -> None:
        paths = await self.world()
        grounds = set()
        for path, size in product(paths, (SMALL, PHONE, DESKTOP)):
            await self.look(path, size)
            await self.live()
            await self.do("run", OPEN)
            for dark in (False, True):
                await self.do("theme", dark=dark)
                wide = "return document.documentElement.scrollWidth"
                self.assertLessEqual(await self.do("run", wide), size[0], (path, size, dark))
                ground = "return getComputedStyle(document.body).backgroundColor"
                grounds.add((dark, await self.do("run", ground)))
            await self.assert_no_complaints()
        self.assertEqual(len(grounds), 2)
        self.assertEqual(len({ground for _, ground in grounds}), 2)

    async def test_accessible(self) -> None:
        paths = await self.world()
        for path, size in product(paths, (PHONE, DESKTOP)):
            await self.look(path, size)
            await self.live()
            await self.shows("health", "The model answered 401", "Check token")
            await self.do("run", OPEN)
            for dark in (False, True):
                await self.do("theme", dark=dark)
                self.assertEqual(await self.do("violations"), [], (path, size, dark))
        await self.look(paths[0])
        await self.live()
        await self.do("click", "redrive-all")
        self.assertEqual(await self.do("violations"), [])

    async def test_accessible_when_empty(self) -> None:
        await self.with_page()
        await self.look()
        await self.live()
        await self.shows("health", "Nothing tried yet.")
        for dark in (False, True):
            await self.do("theme", dark=dark)
            self.assertEqual(await self.do("violations"), [], dark)

    for each in (test_accessible, test_accessible_when_empty):
        if not AXE.exists():
            each.skip = "no axe-core: `make test` installs it where there is npm"  # type: ignore[attr-defined]


class LiveTests(BrowserCase):
    async def title(self) -> str:
        return str(await self.do("run", "return document.title"))

    async def test_failures_are_told(self) -> None:
        self.target.script = lambda _: Reply(400)
        daemon = await self.with_page()
        await self.look()
        await self.live()
        for n in range(5):
            await daemon.reaches(await daemon.accepted(f"{n}"), "failed")
        told = await self.shows("health", "Nothing succeeds: all of the last 5 prompts failed")
        self.assertIn("most often: the target answered 400", told)
        self.assertEqual(await self.title(), "● 1 trouble – ChatGPT Source")
        status, word, checks = await daemon.checks()
        self.assertEqual((status, word), (200, "degraded"))
        self.assertIn("all of the last 5 prompts failed", checks["failures"])
        admin = f"http://127.0.0.1:{self.admin}"
        self.assertIn(
            "the last 5", (await call("GET", f"{admin}/api/status")).json()["troubles"][0]
        )
        metrics = (await call("GET", f"{admin}/metrics")).body
        self.assertIn(b"chatgpt_source_recent_failure_ratio 1.0", metrics)
        await daemon.kill()
        await daemon.start()
        await self.shows("health", "all of the last 5 prompts failed")  # it is not forgotten

    async def test_lost_and_found(self) -> None:
        daemon = await self.with_page()
        await self.look()
        await self.live()
        await self.do("write", "text", "half a thought")
        await daemon.stop(timeout=5)  # an open stream does not hold it up
        await self.shows("live-text", "Not live since")
        await daemon.start()
        await self.shows("live-text", "Live")
        await daemon.accepted("after")
        await self.shows("states", "Delivered\n1")
        kept = "return document.getElementById('text').value"
        self.assertEqual(await self.do("run", kept), "half a thought")
        await self.assert_not_reloaded()
        await self.do("complaints")  # the browser tells of connections that were refused
