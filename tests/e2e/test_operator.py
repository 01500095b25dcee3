"""What an operator does on the page at night: many failures, one prompt, a pause."""

import sqlite3
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from itertools import product
from typing import Any
from uuid import UUID

from chatgpt_source.clock import rfc3339
from tests.e2e.browser import AXE, DESKTOP, ENTER, PHONE
from tests.e2e.processes import Daemon, until
from tests.e2e.test_page import BrowserCase
from tests.fakes.openai import answer_to, api_error, completion, prompt_of
from tests.fakes.server import Received, Reply

REASONS = {
    "the model answered 400: `context_length_exceeded`": 5000,
    "the model answered 400: it refuses this prompt": 1000,
    "its time is up: `give_up_after` is reached (the model answered 503)": 2000,
    "the target answered 413: it does not take this event": 1500,
    "the model refused to answer": 499,
    "the answer is not in the form that `response_format` describes": 1,
}
FILL = """
INSERT INTO prompts (id, state, day, accepted, ended, since, asks, error)
VALUES (?, 'failed', '2026-01-01', ?, ?, 0, 1, ?)
"""
ADD_TEXT = "INSERT INTO texts (seq, prompt, source, type) VALUES (?, 'what is vanus', 's', 't')"
HOUR = 3600.0


def fill(daemon: Daemon, reasons: Mapping[str, int]) -> None:
    """Put failed prompts into the journal of a daemon that does not run."""
    now, number = time.time(), 0
    with closing(sqlite3.connect(daemon.dir / "journal.sqlite")) as db, db:
        for reason, many in reasons.items():
            for _ in range(many):
                number += 1
                prompt_id = str(UUID(int=number << 96, version=4))
                row = (prompt_id, now - 2 * HOUR, now - HOUR + number / 10, reason)
                db.execute(ADD_TEXT, (db.execute(FILL, row).lastrowid,))


class OperatorCase(BrowserCase):
    async def confirm(self, button: str, *texts: str) -> None:
        """Click a button that asks first, read what it asks, and say yes."""
        await self.do("click", button)
        await self.shows("sure", *texts)
        await self.do("click", "sure-yes")

    async def rows(self, place: str) -> Sequence[str]:
        script = f"return [...document.querySelectorAll('#{place} tbody tr')].map(e => e.innerText)"
        return [" ".join(row.split()) for row in await self.do("run", script)]

    async def has_rows(self, place: str, number: int) -> bool:
        return len(await self.rows(place)) == number

    async def named(self, place: str, text: str, kind: str) -> str:
        """The id of a button or link in the row that has a text."""
        script = (
            f"for (const row of document.querySelectorAll('#{place} tr'))"
            f" if (row.innerText.includes({text!r})) return row.querySelector({kind!r}).id"
        )
        return str(await self.do("run", script))


class FailuresTests(OperatorCase):
    async def failures(self) -> Daemon:
        """A daemon with thousands of failures, and a browser that shows them."""
        daemon = await self.with_page(everyday_limit=20_000)
        await daemon.stop()
        fill(daemon, REASONS)
        await daemon.start()
        await self.look()
        await self.live()
        await self.shows("states", "10,000")
        return daemon

    async def test_ten_thousand_of_five_reasons(self) -> None:
        daemon = await self.failures()
        rows = await self.rows("failures")
        wanted = (
            "6,000 The model answered 400 ",
            "2,000 Its time is up ",
            "1,500 The target answered 413 ",
            "499 The model refused to answer ",
            "1 The answer is not in the form that response_format describes ",
        )
        for row, beginning in zip(rows, wanted, strict=True):
            self.assertTrue(row.startswith(beginning), row)
            self.assertIn(" min ago", row)
        await self.do("click", await self.named("failures", "Its time is up", "a"))
        await self.shows("chips", "Failed: its time is up")
        for row in await self.rows("listing"):
            self.assertIn("its time is up", row)
        redrive = await self.named("failures", "refused to answer", "[data-kind=redrive]")
        await self.confirm(redrive, "Redrive 499 prompts?", "20,000 of them are left")
        await self.shows("said-failures", "Taken up again: 499.")
        purge = await self.named("failures", "Its time is up", "[data-kind=purge]")
        await self.confirm(purge, "Purge 2,000 prompts?", "can’t be undone")
        await self.shows("said-failures", "Purged: 2,000.")
        await self.shows("listing", "No prompt is failed for this reason any more.")
        await until(lambda: self.has_rows("failures", 3), "three reasons")
        await self.shows("states", "7,501", "Delivered\n499")
        self.assertEqual(len(self.openai.asks), 499)
        self.assertIn("operator without credentials purged 2,000 failed prompts", daemon.text)
        await self.assert_not_reloaded()
        await self.assert_no_complaints()

    async def test_all_of_them(self) -> None:
        await self.failures()
        await self.confirm("purge-all", "Purge 10,000 failed prompts?", "can’t be undone")
        await self.shows("said-failures", "Purged: 10,000.")
        await until(lambda: self.gone("failures"), "no failures", timeout=30)
        await until(lambda: self.has_focus("failures-title"), "the focus on what is left")

    async def has_focus(self, id_: str) -> bool:
        return bool((await self.do("focus"))[0] == id_)

    async def test_a_page_with_them_is_accessible_and_narrow(self) -> None:
        daemon = await self.failures()
        await self.confirm("pause-intake", "Pause: Intake?", "503")
        await self.shows("controls", "Paused by an operator without credentials since ")
        failed = "/?state=failed&reason=the+model+answered+400"
        for path, size in product(("/", failed, "/?q=00", "/?prompt=unknown"), (DESKTOP, PHONE)):
            await self.look(path, size)
            await self.live()
            for dark in (False, True):
                await self.do("theme", dark=dark)
                width = await self.do("run", "return document.documentElement.scrollWidth")
                self.assertLessEqual(width, size[0], path)
                if AXE.exists():
                    self.assertEqual(await self.do("violations"), [], (path, dark, size))
        self.assertEqual(daemon.text.count("Traceback"), 0)


class PromptTests(OperatorCase):
    async def test_by_keyboard(self) -> None:
        daemon = await self.with_page()
        failed = await self.failed_prompt(daemon)
        await self.look("/?state=failed")
        await self.live()
        await self.tab_to(f"show-{failed}")
        await self.do("press", ENTER)
        await self.live()
        await self.shows("prompt", failed, "failed", "ago", "The model answered 400")
        await self.shows("attempts", "ask 1", "failed", "400", "The model answered 400"[4:])
        await self.shows("facts", "Target", "standard")
        title = await self.do("run", "return document.title")
        self.assertTrue(title.startswith(f"{failed[:8]} failed – "), title)
        passed = await self.tab_to("copy-whole-id")
        self.assertEqual((passed[0], passed[-1]), ("skip", "back"))
        await self.do("press", ENTER)
        await self.shows("said-prompt", f"Copied: {failed}")
        await self.tab_to(f"redrive-this-{failed}")
        await self.do("press", ENTER)
        await self.shows("said-prompt", "is taken up again")
        await self.shows("prompt", "delivered")
        await self.shows("attempts", "ask 2", "answered", "delivery 1", "delivered")
        title = await self.do("run", "return document.title")
        self.assertTrue(title.startswith(f"{failed[:8]} delivered – "), title)
        await self.assert_not_reloaded()
        await self.tab_to("back")
        await self.do("press", ENTER)
        await self.shows("listing", "No prompt is failed.")
        await self.assert_no_complaints()

    async def test_purge(self) -> None:
        daemon = await self.with_page()
        failed = await self.failed_prompt(daemon)
        await self.look(f"/?prompt={failed}")
        await self.live()
        await self.confirm("purge-this", f"Purge prompt {failed[:8]}?", "can’t be undone")
        await self.shows("said-prompt", "is purged.")
        await self.shows("prompt", "No prompt has this id")
        self.assertFalse(await self.do("visible", "attempts"))
        await self.assert_no_complaints()

    async def test_cancel_one_that_waits(self) -> None:
        daemon = await self.with_page()
        later = rfc3339(time.time() + HOUR)
        body = f'{{"prompt": "later", "not_before": "{later}"}}'
        waits = (await daemon.post(body, {"Content-Type": "application/json"}, "/prompts")).json()
        waits = waits["id"]
        await self.look(f"/?prompt={waits}")
        await self.live()
        await self.shows("attempts", "There was no call for it yet.")
        await self.confirm("cancel-this", f"Cancel prompt {waits[:8]}?", "no event is sent")
        await self.shows("said-prompt", "is cancelled.")
        await self.shows("prompt", "cancelled")
        self.assertEqual((await daemon.record(waits))["state"], "cancelled")
        await self.assert_no_complaints()

    async def test_it_is_live(self) -> None:
        asked: list[Received] = []

        def answer(request: Received) -> Reply:
            asked.append(request)
            done = len(asked) > 2
            return completion(answer_to(prompt_of(request))) if done else api_error(503)

        self.openai.script = answer
        daemon = await self.with_page()
        prompt_id = await daemon.accepted("what is vanus")
        await self.look(f"/?prompt={prompt_id}")
        await self.live()
        await self.shows("attempts", "ask 3", "answered", "transient failure", "503")
        await self.shows("steps", "Delivered at")
        await self.assert_not_reloaded()
        await self.assert_no_complaints()

    async def test_an_unknown_one_is_not_found(self) -> None:
        await self.with_page()
        await self.look("/?prompt=no-such-id")
        await self.shows("prompt", "no-such-id", "No prompt has this id")
        self.assertIn("404", "".join(await self.do("complaints")))


class PauseTests(OperatorCase):
    async def test_pause_and_resume(self) -> None:
        daemon = await self.with_page()
        await self.look()
        await self.live()
        await self.do("click", "pause-intake")
        await self.shows("sure", "Pause: Intake?", "503")
        await self.do("press", ENTER)  # the focus is on the button that changes nothing
        self.assertEqual((await self.do("focus"))[0], "pause-intake")
        await daemon.accepted("still taken")
        await self.confirm("pause-intake", "Pause: Intake?")
        await self.shows("controls", "Paused by an operator without credentials since ")
        answer = await daemon.post("refused")
        self.assertEqual(answer.status, 503)
        await self.do("click", "resume-intake")
        await self.shows("control-intake", "not paused")
        await daemon.accepted("taken again")
        await self.assert_not_reloaded()
        await self.assert_no_complaints()

    async def test_several_are_all_told_and_ended_where_they_are_told(self) -> None:
        await self.with_page()
        await self.look()
        await self.live()
        for what, name in (("asking", "Asking"), ("target", "Target")):
            await self.confirm(f"pause-{what}", f"Pause: {name}?")
            await self.shows("controls", f"Resume\n{name}")
            self.assertEqual((await self.do("focus"))[0], f"resume-{what}")
        await self.shows("health", "Asking is paused by", "Delivery to the target is paused by")
        title = await self.do("run", "return document.title")
        self.assertEqual(title, "◐ 2 troubles – ChatGPT Source")
        await self.do("click", "end-paused-asking")
        await self.shows("said-health", "Asking: resumed.")
        await self.do("click", "end-paused-target")
        await self.shows("health", "Nothing tried yet.")
        await self.assert_no_complaints()


class ZoneTests(OperatorCase):
    async def test_all_times_are_the_daemons_wherever_the_browser_is(self) -> None:
        daemon = await self.with_page(timezone="Asia/Tokyo")
        failed = await self.failed_prompt(daemon)
        self.addCleanup(self.do, "zone", "")
        seen: list[Any] = []
        for zone in ("America/New_York", "Europe/Berlin"):
            await self.do("zone", zone)
            await self.look(f"/?state=failed&prompt={failed}")
            await self.live()
            facts = await self.shows("facts", "Accepted")
            seen.append(facts.split("\n")[1])
            await self.shows("prompt", seen[-1][:5])
        self.assertEqual(seen[0], seen[1])
        await daemon.kill()
        told = await self.shows("unheard", "Unknown: last heard at ")
        tokyo = time.time() + 9 * HOUR
        times = {time.strftime("%H:%M:%S", time.gmtime(tokyo - ago)) for ago in range(300)}
        self.assertIn(told.partition("last heard at ")[2][:8], times)
        await self.do("complaints")
