"""The admin site of a real daemon: it adds up, it guards itself, it stays to the end of a stop."""

import signal
import socket
from collections import deque
from collections.abc import Mapping
from typing import Any

from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families
from twisted.trial.unittest import SkipTest

from tests.admin.common import OPENMETRICS, samples
from tests.e2e.processes import (
    Answer,
    Daemon,
    DaemonCase,
    Wire,
    call,
    free_port,
    together,
    until,
)
from tests.fakes.openai import api_error, prompt_of
from tests.fakes.server import Fault, Reply

OURS = {"X-Requested-With": "chatgpt-source"}


class AdminCase(DaemonCase):
    def daemon(self, **settings: Any) -> Daemon:  # type: ignore[override]
        self.admin_port = free_port()
        endpoint = f"tcp:{self.admin_port}:interface=127.0.0.1"
        return super().daemon(**{"admin": endpoint, **settings})

    async def ask_admin(
        self,
        path: str,
        method: str = "GET",
        body: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        return await call(method, f"http://127.0.0.1:{self.admin_port}{path}", body, headers)

    async def scrape(self) -> dict[str, float]:
        plain = await self.ask_admin("/metrics")
        also = await self.ask_admin("/metrics", headers={"Accept": OPENMETRICS})
        found = samples(text_string_to_metric_families(plain.body.decode()))
        names = set(samples(openmetrics.text_string_to_metric_families(also.body.decode())))
        self.assertEqual(set(found), names)
        return found


class NumbersTests(AdminCase):
    async def test_they_add_up(self):
        plan = {f"again {n}": [api_error(500)] for n in range(4)}
        plan |= {f"refused {n}": [api_error(400)] for n in range(3)}
        plan |= {f"well {n}": [] for n in range(13)}
        asks = {prompt: deque(replies) for prompt, replies in plan.items()}
        self.openai.script = lambda request: (
            asks[prompt_of(request)].popleft()
            if asks[prompt_of(request)]
            else self.openai.default(request)
        )
        self.target.queue(*[Reply(503)] * 5)
        daemon = self.daemon()
        await daemon.start()
        ids = {prompt: await daemon.accepted(prompt) for prompt in plan}
        self.assertEqual((await daemon.post(" ")).status, 400)
        await together(
            *(
                daemon.reaches(each, "failed" if "refused" in prompt else "delivered")
                for prompt, each in ids.items()
            )
        )
        expected = {
            "prompts_accepted_total": 20,
            "prompts_failed_total": 3,
            'prompts_refused_total{reason="invalid"}': 1,
            'asks_total{outcome="answered"}': 17,
            'asks_total{outcome="again"}': 4,
            'asks_total{outcome="failed"}': 3,
            'deliveries_total{outcome="delivered"}': 17,
            'deliveries_total{outcome="again"}': 5,
            'tokens_total{direction="input"}': 17 * 3,
            'tokens_total{direction="output"}': 17 * 4,
            "wait_seconds_count": 20,
            "ask_seconds_count": 24,
            "delivery_seconds_count": 22,
            "accepted_to_delivered_seconds_count": 17,
        }
        kept = {
            'prompts{state="delivered"}': 17,
            'prompts{state="failed"}': 3,
            "backlog": 0,
            "backlog_oldest_age_seconds": 0,
            "quota_used": 17,
            "quota_limit": 100,
            'circuit_open{peer="model"}': 0,
            'calls_under_way{peer="target"}': 0,
        }
        found = await self.scrape()
        self.assertEqual({name: found[name] for name in expected | kept}, expected | kept)
        await daemon.stop()
        await daemon.start()
        found = await self.scrape()
        self.assertEqual({name: found[name] for name in kept}, kept)
        self.assertEqual({name for name in expected if found[name]}, set())

    async def test_the_state_in_words_and_a_redrive(self):
        self.openai.queue(api_error(400), api_error(401))
        daemon = self.daemon()
        await daemon.start()
        prompt_id = await daemon.accepted("text")
        await daemon.reaches(prompt_id, "failed")
        path = f"/api/prompts/{prompt_id}"
        answer = await self.ask_admin(f"{path}/redrive", "POST", headers=OURS)
        self.assertEqual(answer.json(), {"id": prompt_id, "state": "accepted"})
        await daemon.reaches(prompt_id, lambda record: record["asks"] == 2 and record["error"])
        told = (await self.ask_admin("/api/status")).json()
        self.assertEqual((told["status"], told["calls"]["model"]["circuit"]), ("degraded", "open"))
        self.assertRegex(
            told["troubles"][0], r"^The model answered 401 \(since [\d:]{5}\): check `token`; then"
        )
        listed = (await self.ask_admin("/api/prompts?state=accepted")).json()
        self.assertEqual([each["id"] for each in listed["prompts"]], [prompt_id])
        self.assert_problem(await self.ask_admin(f"{path}/redrive", "POST", headers=OURS), 409)

    async def test_a_prompt_to_try(self):
        daemon = self.daemon()
        await daemon.start()
        answer = await self.ask_admin("/api/prompts", "POST", "text", OURS)
        self.assertEqual(answer.status, 202)
        await daemon.reaches(answer.json()["id"], "delivered")
        record = (await self.ask_admin(answer.header("location"))).json()
        self.assertEqual(record["state"], "delivered")


class GuardTests(AdminCase):
    async def test_other_pages_and_other_names(self):
        daemon = self.daemon()
        await daemon.start()
        wire = await Wire.connect(self.admin_port)
        self.addCleanup(wire.close)
        own = f"127.0.0.1:{self.admin_port}"
        for method, host, headers, status in (
            ("GET", "evil.example", "", 403),
            ("POST", own, "", 403),
            ("POST", own, "Content-Type: text/plain\r\nOrigin: http://evil.example\r\n", 403),
            ("POST", "evil.example", "X-Requested-With: chatgpt-source\r\n", 403),
            ("OPTIONS", own, "Origin: http://evil.example\r\n", 403),
            ("POST", own, "X-Requested-With: chatgpt-source\r\n", 202),
        ):
            request = f"{method} /api/prompts HTTP/1.1\r\nHost: {host}\r\n{headers}"
            wire.send(f"{request}Content-Length: 4\r\n\r\ntext".encode())
            answer = await wire.answer()
            self.assertEqual(answer.status, status, (request, answer.body))
            self.assertIsNone(answer.header("access-control-allow-origin"))
        self.assertEqual((await self.scrape())["prompts_accepted_total"], 1)

    async def test_the_prompt_port_has_none_of_it(self):
        daemon = self.daemon()
        await daemon.start()
        for path in ("/metrics", "/api/status", "/api/prompts"):
            self.assert_problem(await daemon.get(path), 404)


class ElsewhereTests(AdminCase):
    """What comes by an address that others reach, as it does from another pod of a cluster."""

    def other_address(self) -> str:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            try:
                sender.connect(("192.0.2.1", 9))  # which sends nothing
            except OSError:
                raise SkipTest("this machine has no address but its loopback's") from None
            return sender.getsockname()[0]

    async def test_nobody_spends_without_a_password(self):
        there = self.other_address()
        for kind in ("tcp", "tcp6"):
            port = free_port()
            daemon = self.daemon(admin=f"{kind}:{port}")
            process = await daemon.start()
            site = f"http://{there}:{port}"
            for _ in range(5):
                answer = await call("POST", f"{site}/api/prompts", "text", OURS)
                self.assertIn("`admin_auth`", self.assert_problem(answer, 403))
            for path in ("/", "/api/status", "/api/prompts"):
                self.assert_problem(await call("GET", f"{site}{path}"), 403)
            told = await call("GET", f"{site}/metrics")
            self.assertIn(b"chatgpt_source_prompts_accepted_total 0.0", told.body)
            # As `kubectl port-forward` reaches it.
            here = f"http://127.0.0.1:{port}/api/prompts"
            self.assertEqual((await call("POST", here, "text", OURS)).status, 202)
            await daemon.stop()
            self.assertNotIn("admin_auth", process.text)

    async def test_with_a_password_they_may(self):
        there, port = self.other_address(), free_port()
        daemon = self.daemon(admin=f"tcp:{port}", admin_auth={"bearer": ["secret"]})
        await daemon.start()
        site = f"http://{there}:{port}/api/prompts"
        self.assert_problem(await call("POST", site, "text", OURS), 401)
        known = {"Authorization": "Bearer secret", **OURS}
        self.assertEqual((await call("POST", site, "text", known)).status, 202)


class StopTests(AdminCase):
    async def test_a_drain_can_be_watched(self):
        self.openai.queue(Reply(fault=Fault.HANG))
        daemon = self.daemon(drain_timeout=30)
        process = await daemon.start()
        await daemon.accepted("text")
        await until(lambda: self.openai.asks, "the ask")
        process.signal(signal.SIGTERM)

        async def draining():
            told = (await self.ask_admin("/api/status")).json()
            return "Stopping: nothing more is accepted" in str(told["troubles"])

        await until(draining, "the drain")
        self.assertEqual((await self.scrape())['calls_under_way{peer="model"}'], 1)
        self.assert_problem(await self.ask_admin("/api/prompts", "POST", "text", OURS), 503)
        self.assertIsNone(process.status)
        await daemon.stop()  # a second signal

    async def test_a_stop_with_callers_that_stay(self):
        daemon = self.daemon()
        process = await daemon.start()
        wire = await Wire.connect(self.admin_port)
        wire.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await wire.answer()
        self.assertEqual(await daemon.stop(timeout=10), -signal.SIGTERM)
        self.assertIn("stopped", process.text)
        self.assertNotIn("Traceback", process.text)


class StartTests(AdminCase):
    async def refuses(self, *words, **settings):
        daemon = self.daemon(**settings)
        for status, said in await daemon.fail_both_ways():
            self.assertEqual(status, 1, said)
            self.assertNotIn("Traceback", said)
            self.assertEqual(len(said.splitlines()), 1, said)
            for word in words:
                self.assertIn(word, said)

    async def test_a_busy_port(self):
        endpoint = f"tcp:{self.target.port}:interface=127.0.0.1"
        await self.refuses("`admin`", "in use", admin=endpoint)

    async def test_what_is_no_endpoint(self):
        for endpoint in ("9464", "tcp:", "tcp:x", "nothing:1", "tcp:9464:interfaces=127.0.0.1"):
            await self.refuses("`admin`", "endpoint", "tcp:", admin=endpoint)

    async def test_the_port_of_the_prompts(self):
        port = free_port()
        admin = f"tcp:{port}:interface=127.0.0.1"
        await self.refuses("`admin` must have another port", port=port, admin=admin)

    async def test_found_out_only_at_the_start(self):
        """One place by two names."""
        port = free_port()
        listen, admin = (f"tcp:{port}:interface={name}" for name in ("127.0.0.1", "localhost"))
        daemon = self.daemon(port=None, listen=listen, admin=admin)
        for status, said in await daemon.fail_both_ways():
            self.assertEqual(status, 1, said)
            self.assertNotIn("Traceback", said)
            self.assertIn("can't be listened on", said)
