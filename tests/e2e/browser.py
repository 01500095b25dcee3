"""A headless Chromium that tests look at the page with, as a user or by keyboard alone.

Its calls block, so they belong in a thread: the fakes answer on the reactor meanwhile.
"""

import atexit
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from tests.e2e.processes import ROOT

try:
    from selenium import webdriver
    from selenium.common.exceptions import (
        NoSuchElementException,
        StaleElementReferenceException,
        WebDriverException,
    )
    from selenium.webdriver.chrome.service import Service
    from selenium.webdriver.common.by import By
except ImportError:
    webdriver = None

AXE = ROOT / "tests/js/node_modules/axe-core/axe.min.js"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
_OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)
TAB, ENTER, SHIFT, ESCAPE = "\ue004", "\ue007", "\ue008", "\ue00c"  # as WebDriver writes them
SHIFT_TAB = SHIFT + TAB
PHONE, DESKTOP = (360, 740), (1200, 900)
_STRICT = (
    "color-contrast-enhanced",
    "identical-links-same-purpose",
    "meta-refresh-no-exceptions",
    "target-size",
)
"""The rules for level AAA, and of WCAG 2.2, that axe-core does not look for by itself."""
_FOCUSED = """
const at = document.activeElement, style = getComputedStyle(at);
return [at.id || at.className || at.tagName.toLowerCase(), style.outlineStyle];
"""


def missing() -> str | None:
    """What there is not that these tests need; None if all is there."""
    if CHROMIUM is None or DRIVER is None:
        return "no browser: install Debian's chromium and chromium-driver"
    return None if webdriver else "no selenium: `make test` installs it"


class Browser:
    """One browser, with a folder of its own."""

    def __init__(self) -> None:
        self._folder = tempfile.mkdtemp(prefix="browser-")
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        for option in (*_OPTIONS, f"--user-data-dir={self._folder}"):
            options.add_argument(option)
        environ = {"PATH": os.environ["PATH"], "HOME": self._folder}
        self.driver = webdriver.Chrome(options, Service(DRIVER, env=environ))
        self.driver.set_script_timeout(30)

    def end(self) -> None:
        """Close it."""
        self.driver.quit()
        shutil.rmtree(self._folder, ignore_errors=True)

    def look(self, url: str, size: tuple[int, int] = DESKTOP, *, dark: bool = False) -> None:
        """Open a page, in a window of a size."""
        width, height = size
        scale = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", scale)
        self.theme(dark=dark)
        self.driver.get(url)

    def theme(self, *, dark: bool) -> None:
        """Prefer dark pages, or light ones, of the one that is open as well."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})

    def scripts(self, *, allowed: bool) -> None:
        """Allow pages their scripts, or do not."""
        self.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": not allowed})

    def run(self, script: str) -> Any:
        """Run JavaScript in the page; returns what it returns."""
        return self.driver.execute_script(script)

    def text(self, id_: str) -> str:
        """The text that an element shows; none while another page takes the place of its own."""
        try:
            return self.driver.find_element(By.ID, id_).text
        except (NoSuchElementException, StaleElementReferenceException):
            return ""
        except WebDriverException as error:
            if "does not belong to the document" not in str(error):
                raise
            return ""

    def click(self, id_: str) -> None:
        """Click an element."""
        self.driver.find_element(By.ID, id_).click()

    def write(self, id_: str, text: str) -> None:
        """Type into an element, after what is in it."""
        self.driver.find_element(By.ID, id_).send_keys(text)

    def press(self, *keys: str) -> None:
        """Press keys, wherever the focus is."""
        chain = webdriver.ActionChains(self.driver)
        for key in keys:
            if key == SHIFT_TAB:
                chain.key_down(SHIFT).send_keys(TAB).key_up(SHIFT)
            else:
                chain.send_keys(key)
        chain.perform()

    def visible(self, id_: str) -> bool:
        """Whether an element can be seen."""
        return self.driver.find_element(By.ID, id_).is_displayed()

    def focus(self) -> tuple[str, str]:
        """Which element has the focus, by its id, class or name, and the style of its outline."""
        name, outline = self.run(_FOCUSED)
        return name, outline

    def complaints(self) -> list[str]:
        """What the console has got since it was last asked."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def zone(self, name: str) -> None:
        """Live in a time zone; an empty name is this machine's own."""
        self.driver.execute_cdp_cmd("Emulation.setTimezoneOverride", {"timezoneId": name})

    def hover(self, x: float, y: float) -> None:
        """Move the mouse to a point of the window."""
        event = {"type": "mouseMoved", "x": x, "y": y}
        self.driver.execute_cdp_cmd("Input.dispatchMouseEvent", event)

    def tap(self, x: float, y: float) -> None:
        """Tap with a finger on a point of the window."""
        for kind, points in (("touchStart", [{"x": x, "y": y}]), ("touchEnd", [])):
            event = {"type": kind, "touchPoints": points}
            self.driver.execute_cdp_cmd("Input.dispatchTouchEvent", event)

    def violations(self, part: str = "html") -> list[str]:
        """What axe-core finds wrong with a part of the page: which rule, where."""
        if not self.run("return 'axe' in window"):
            self.run(Path(AXE).read_text(encoding="utf-8"))
        found = self.driver.execute_async_script(
            "axe.run(arguments[0], {rules: arguments[1], resultTypes: ['violations']})"
            ".then((found) => arguments[2](found.violations))",
            part,
            {rule: {"enabled": True} for rule in _STRICT},
        )
        return [
            f"{each['id']}: {each['help']}: {[node['html'][:200] for node in each['nodes']]}"
            for each in found
        ]


@cache
def browser() -> Browser:
    """The one browser of this process, which starts it and ends it."""
    started = Browser()
    atexit.register(started.end)
    return started
