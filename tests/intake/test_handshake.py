"""The handshake of CloudEvents webhooks."""

from typing import Any

import attrs

from chatgpt_source.config import Credentials
from chatgpt_source.config.secret import Secret
from chatgpt_source.intake.auth import Guard
from chatgpt_source.intake.origin import AccessPolicy
from tests.door import CONFIG, ParsedResponse
from tests.intake.memory_door import MemoryDoorTestCase

GRID = "eventgrid.azure.net"


class HandshakeTests(MemoryDoorTestCase):
    config = attrs.evolve(CONFIG, webhook_origins=(GRID,))

    def setUp(self) -> None:
        super().setUp()
        guard = Guard(Credentials((Secret("token"),), {}))
        self.site.admits = AccessPolicy(guard).refusal

    def ask(self, origin: str = GRID, path: str = "/", **more: Any) -> ParsedResponse:
        return self.request("OPTIONS", path, WebHook_Request_Origin=origin, **more)

    def test_granted_without_credentials(self) -> None:
        for origin in (GRID, GRID.upper()):
            answer = self.ask(origin)
            self.assertEqual((answer.status, answer.body), (200, b""))
            self.assertEqual(answer.headers["webhook-allowed-origin"], GRID)
            self.assertEqual(answer.headers["allow"], "POST")
            self.assertNotIn("webhook-allowed-rate", answer.headers)

    def test_the_rate(self) -> None:
        for asked, allowed in (("120", "120"), ("*", "*"), ("many", "*"), ("0", "*")):
            answer = self.ask(WebHook_Request_Rate=asked)
            self.assertEqual(answer.headers["webhook-allowed-rate"], allowed)

    def test_any_origin(self) -> None:
        self.site.handler = attrs.evolve(
            self.intake, config=attrs.evolve(self.config, webhook_origins=("*",))
        ).answer
        self.assertEqual(self.ask("who.example").headers["webhook-allowed-origin"], "*")

    def test_not_granted(self) -> None:
        for origin in ("who.example", "", f"{GRID}\r\nWebHook-Request-Origin: {GRID}"):
            answer = self.ask(origin)
            self.assert_problem(answer, 405)
            self.assertIn("`webhook_origins` does not list", answer.json["detail"])
            self.assertEqual(answer.headers["allow"], "POST")
            self.assertNotIn("webhook-allowed-origin", answer.headers)

    def test_nothing_else_is_open(self) -> None:
        self.assert_problem(self.request("OPTIONS", "/"), 401)
        self.assert_problem(self.ask(path="/prompts/p"), 401)
        self.assert_problem(self.post(WebHook_Request_Origin=GRID), 401)
