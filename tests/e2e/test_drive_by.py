"""Web pages that would spend their visitor's prompts, as a browser lets them."""

from typing import Any

from tests.e2e.processes import DaemonCase, until
from tests.e2e.test_page import BrowserCase

FOREIGN = {"Sec-Fetch-Site": "cross-site", "Origin": "http://evil.example"}
SEND = """
return fetch("http://127.0.0.1:%d/", {method: "POST", mode: "no-cors", body: "spend"})
    .then((answer) => answer.type);
"""
FORM = """
const form = document.createElement("form");
form.method = "post", form.action = "http://127.0.0.1:%d/";
document.body.append(form), form.submit();
"""


class DriveByTests(DaemonCase):
    async def test_another_sites_page(self) -> None:
        daemon = self.daemon()
        await daemon.start()
        answer = await daemon.post("spend", FOREIGN)
        self.assertIn("`allow_origins`", self.assert_problem(answer, 403))
        rebound = {"Sec-Fetch-Site": "same-origin", "Host": "evil.example"}
        self.assertIn("localhost", self.assert_problem(await daemon.post("spend", rebound), 403))
        await until(lambda: daemon.text.count("why=cross_site") == 2, "their lines in the log")
        await daemon.accepted("text", {"Host": "prompts.example"})  # no browser

    async def test_those_who_may(self) -> None:
        daemon = self.daemon(allow_origins=["http://evil.example"], auth={"bearer": ["token"]})
        await daemon.start()
        known = {"Authorization": "Bearer token"}
        await daemon.accepted("text", {**FOREIGN, **known})
        await daemon.accepted("text", {"Origin": "null", **known})
        self.assert_problem(await daemon.post("text", FOREIGN), 401)
        self.assert_problem(await daemon.post("text", {"Origin": "null"}), 403)

    async def test_a_mistake(self) -> None:
        daemon = self.daemon(allow_origins=["https://app.example/"])
        for status, said in await daemon.fail_both_ways():
            self.assertEqual((status, said.count("\n")), (1, 1), said)
            self.assertIn("`allow_origins` must be a list of origins", said)
        process = daemon.launch(arguments=("chatgpt-source", "--check"))
        self.assertEqual(await process.end(), 1)
        self.assertIn("`allow_origins` must be", process.text)


class BrowserTests(BrowserCase):
    async def send(self, script: str, **settings: Any) -> int:
        """Have a page of another site send a prompt; returns how many were accepted."""
        daemon = self.daemon(**settings)
        await daemon.start()
        await self.do("look", f"http://localhost:{self.target.port}/")
        await self.do("run", script % daemon.port)
        words = ("accepted: id=", "why=cross_site")
        await until(lambda: any(word in daemon.text for word in words), "a line in the log")
        return daemon.text.count("accepted: id=")

    async def test_a_page_of_another_site(self) -> None:
        for script in (SEND, FORM):
            self.assertEqual(await self.send(script), 0)

    async def test_a_page_that_may(self) -> None:
        origin = f"http://localhost:{self.target.port}"
        self.assertEqual(await self.send(SEND, allow_origins=[origin]), 1)
