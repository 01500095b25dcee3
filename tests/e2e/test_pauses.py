"""Pauses, and failures by reason, of real daemons: under load, over crashes, beside the command."""

import base64
import json
import time
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater

from chatgpt_source.journal import Failed, Submission, Terms
from chatgpt_source.journal.sqlite import SqliteJournal, open_journal
from chatgpt_source.prompt import Prompt
from chatgpt_source.quota import Day
from tests.e2e.processes import Answer, Daemon, call, free_port, throughout, together, until, worked
from tests.e2e.test_admin import OURS, AdminCase
from tests.e2e.test_replicas import ReplicasCase
from tests.fakes.server import Reply

NOTICED = 2.0
"""Seconds in which a daemon notices what another, or the command, has paused."""
ALICE = {"Authorization": f"Basic {base64.b64encode(b'alice:pa55word-of-alice').decode()}"}


class PausesCase(AdminCase):
    async def act(self, path: str, headers: Any = None) -> Answer:
        return await self.ask_admin(path, "POST", headers={**OURS, **(headers or {})})

    async def paused(self, headers: Any = None) -> list[str]:
        status = (await self.ask_admin("/api/status", headers=headers)).json()
        return [f"{each['what']} by {each['who']}" for each in status["paused"]]

    def audited(self, daemon: Daemon) -> list[str]:
        """What the log says that operators did."""
        whole = daemon.text.rpartition("\n")[0]
        lines = [json.loads(line)["message"] for line in whole.splitlines() if line[:1] == "{"]
        return [line for line in lines if line.startswith("operator ")]


class AskingTests(PausesCase):
    async def load(self, daemon: Daemon, ids: list[str], is_over: list[bool]) -> None:
        while not is_over:
            ids.append(await daemon.accepted(f"prompt {len(ids)}"))

    async def test_under_load_over_a_crash(self) -> None:
        daemon = self.daemon(everyday_limit=100_000, log_format="json")
        await daemon.start()
        ids: list[str] = []
        is_over: list[bool] = []
        callers = [Deferred.fromCoroutine(self.load(daemon, ids, is_over)) for _ in range(4)]
        await until(lambda: len(self.openai.asks) > 20, "some load")
        answer = await self.act("/api/pause/asking")
        self.assertEqual((answer.status, answer.json()["what"]), (200, "asking"))

        async def are_over() -> bool:
            return (await self.scrape())['calls_under_way{peer="model"}'] == 0

        await until(are_over, "the ends of the calls that were under way")
        asked, accepted = len(self.openai.asks), len(ids)
        await throughout(
            NOTICED, lambda: len(self.openai.asks) <= asked + 1, "a new call at the model"
        )
        self.assertGreater(len(ids), accepted + 10)
        is_over.append(True)
        await gatherResults(callers)
        status, word, checks = await daemon.checks()
        self.assertEqual((status, word), (200, "degraded"))
        self.assertIn("asking is paused", checks["paused"])
        health = (await self.ask_admin("/api/status")).json()["health"]
        self.assertEqual(health["level"], "amber")
        self.assertIn("Asking is paused by an operator without credentials", str(health))
        self.assertEqual((await self.scrape())['paused{what="asking"}'], 1)
        await daemon.kill()
        asked = len(self.openai.asks)
        await daemon.start()
        self.assertEqual(await self.paused(), ["asking by an operator without credentials"])
        await throughout(
            NOTICED, lambda: len(self.openai.asks) == asked, "a new call after the start"
        )
        self.assertEqual((await self.act("/api/resume/asking")).status, 200)
        delivered = set(ids)
        await until(lambda: delivered <= {each["id"] for each in self.target.events}, "all", 60)
        self.assertEqual(await self.paused(), [])
        await until(lambda: len(self.audited(daemon)) == 2, "the line of the second")
        self.assertEqual(
            self.audited(daemon),
            [
                "operator without credentials paused asking",
                "operator without credentials resumed asking",
            ],
        )
        self.assert_fair()


class ReceiverTests(PausesCase):
    async def test_one_target_of_two(self) -> None:
        other = type(self.target)(reactor)
        other.start()
        self.addCleanup(other.stop)
        daemon = self.daemon(targets={"audit": {"url": other.origin}}, drain_timeout=20)
        await daemon.start()
        await self.act("/api/pause/target.audit")
        held = await daemon.accepted("held", {"vanus-target": "audit"})
        await daemon.reaches(await daemon.accepted("delivered"), "delivered")
        await daemon.reaches(held, "answered")
        began = time.monotonic()
        await daemon.stop()
        self.assertLess(time.monotonic() - began, 15)  # it waits for nothing that is paused
        await daemon.start()
        await daemon.reaches(await daemon.accepted("delivered too"), "delivered")
        self.assertEqual(other.requests, [])
        self.assertEqual((await daemon.record(held))["state"], "answered")
        await self.act("/api/resume/target.audit")
        await daemon.reaches(held, "delivered")


class IntakeTests(PausesCase):
    async def test_refuses_and_says_for_how_long(self) -> None:
        daemon = self.daemon(max_wait=10, admin_auth={"basic": {"alice": "pa55word-of-alice"}})
        await daemon.start()
        key = {"Idempotency-Key": "k"}
        first = await daemon.accepted("hello", key)
        await self.act("/api/pause/intake", ALICE)
        self.assertEqual(await self.paused(ALICE), ["intake by alice"])
        for path, body, headers in (
            ("/", "hello", {}),
            ("/", "hello", {"Prefer": "wait=5"}),
            ("/prompts", '{"prompt": "hello"}', {"Content-Type": "application/json"}),
            (
                "/",
                "hello",
                {f"ce-{name}": "x" for name in ("id", "source", "type")}
                | {"ce-specversion": "1.0", "Content-Type": "text/plain"},
            ),
        ):
            answer = await call("POST", f"http://127.0.0.1:{daemon.port}{path}", body, headers)
            detail = self.assert_problem(answer, 503)
            self.assertIn("an operator has paused the intake", detail)
            self.assertEqual(answer.header("Retry-After"), "60")
        self.assertEqual(await daemon.accepted("hello", key), first)
        await daemon.reaches(first, "delivered")
        self.assertEqual((await daemon.get(f"/prompts/{first}", "DELETE")).status, 409)
        status, word, checks = await daemon.checks()
        self.assertEqual((status, word), (200, "degraded"))
        self.assertNotIn("alice", str(checks))  # everybody may read it
        metrics = (await self.ask_admin("/metrics", headers=ALICE)).body.decode()
        self.assertIn('chatgpt_source_prompts_refused_total{reason="paused"} 4.0', metrics)
        self.assertIn('chatgpt_source_paused{what="intake"} 1.0', metrics)
        await self.act("/api/resume/intake", ALICE)
        await daemon.accepted("hello")
        await until(lambda: "operator alice paused intake" in daemon.text, "its line")
        self.assertNotIn("pa55word", daemon.text)


class CommandTests(PausesCase):
    async def test_beside_a_daemon(self) -> None:
        daemon = self.daemon(log_format="json")
        await daemon.start()
        status, told = await daemon.operate("pause", "asking")
        self.assertEqual(status, 0, told)
        await until(lambda: self.audited(daemon), "the pause")
        prompt_id = await daemon.accepted("hello")
        (paused,) = await self.paused()
        self.assertRegex(paused, r"^asking by .+ \(chatgpt-source-journal\)$")
        status, told = await daemon.operate("paused", "--json")
        self.assertEqual(json.loads(told)["what"], "asking")
        await throughout(1.0, lambda: not self.openai.asks, "a call")
        status, told = await daemon.operate("resume", "asking")
        self.assertEqual(status, 0, told)
        await daemon.reaches(prompt_id, "delivered")
        who = paused.partition(" by ")[2]
        await until(lambda: len(self.audited(daemon)) == 2, "the line of the second")
        self.assertEqual(
            self.audited(daemon),
            [f"operator {who} paused asking", f"operator {who} resumed asking"],
        )
        status, _ = await daemon.operate("resume", "asking")
        self.assertEqual(status, 1)

    async def test_of_a_stopped_daemon(self) -> None:
        daemon = self.daemon()
        await daemon.start()
        await daemon.stop()
        status, told = await daemon.operate("pause", "intake")
        self.assertEqual(status, 0, told)
        await daemon.start()
        self.assert_problem(await daemon.post("hello"), 503)


class ReplicasTests(ReplicasCase):
    async def test_each_hears_of_it(self) -> None:
        ports = [free_port(), free_port()]
        replicas = [
            self.replica(admin=f"tcp:{port}:interface=127.0.0.1", everyday_limit=1000)
            for port in ports
        ]
        await together(*(each.start() for each in replicas))
        await together(*(until(each.is_ready, "a replica") for each in replicas))

        async def act(number: int, path: str) -> None:
            url = f"http://127.0.0.1:{ports[number]}{path}"
            self.assertEqual((await call("POST", url, headers=OURS)).status, 200)

        await act(0, "/api/pause/asking")
        await until(lambda: "paused asking" in replicas[1].text, "the other")
        ids = await together(*(replicas[n % 2].accepted(f"prompt {n}") for n in range(20)))
        await throughout(NOTICED, lambda: not self.asked, "a call to the model")
        late = self.replica(everyday_limit=1000)
        await late.start()
        await until(late.is_ready, "a late replica")
        await throughout(1.0, lambda: not self.asked, "a call of a replica that came later")
        await act(1, "/api/resume/asking")
        await until(lambda: len(self.target.events) == 20, "all events")
        self.assertEqual({each["id"] for each in self.target.events}, set(ids))
        self.assertEqual(len(self.asked), 20)
        for each in (*replicas[:1], late):
            await until(lambda each=each: "resumed asking" in each.text, "the news")


SIZES = {
    "the model refused it": 4000,
    "the target answered 400": 3000,
    "the model can't be reached": 2000,
    "its time is up": 900,
    "the model answered 400": 100,
}


class FailuresTests(PausesCase):
    async def fill(self, daemon: Daemon) -> None:
        """Let prompts fail in the journal of a stopped daemon."""
        opened = open_journal(daemon.dir / "journal.sqlite")
        journal = SqliteJournal(opened, reactor, lambda run: deferLater(reactor, 0, run))
        await journal.recover(100_000, "UTC", {}, 0.0)
        now = reactor.seconds()
        day = Day(time.strftime("%Y-%m-%d", time.gmtime()), now - 86400, now + 86400)
        reasons = [reason for reason, size in SIZES.items() for _ in range(size)]
        prompts = [
            Submission(Prompt(f"p{n:05}", "text", "source", "type", now))
            for n in range(len(reasons))
        ]
        await journal.accept(prompts, Terms(day, 10**6, 10**6))
        asks = (await journal.claim_asks(reactor.seconds(), len(prompts))).claimed
        self.assertEqual(len(asks), len(reasons))
        await gatherResults(
            [
                journal.ask_ended(ask, Failed(f"{reason}: code_{n}"), reactor.seconds())
                for n, (ask, reason) in enumerate(zip(asks, reasons, strict=True))
            ]
        )
        await journal.close()

    async def test_ten_thousand_of_five_reasons(self) -> None:
        daemon = self.daemon(everyday_limit=100_000, concurrency=16, timezone="UTC")
        await daemon.start()
        await daemon.stop()
        await self.fill(daemon)
        process = await daemon.start()

        async def failures() -> dict[str, int]:
            groups = (await self.ask_admin("/api/failures")).json()["groups"]
            return {each["reason"]: each["count"] for each in groups}

        self.assertEqual(await failures(), SIZES)
        took = []
        for _ in range(5):
            began = worked(process.transport.pid)
            await failures()
            took.append(worked(process.transport.pid) - began)
        self.assertLess(min(took), 0.2, took)
        few = "the%20model%20answered%20400"
        page = (await self.ask_admin(f"/api/prompts?reason={few}&limit=500")).json()
        self.assertEqual((len(page["prompts"]), page["next"]), (100, None))
        answer = await self.act(f"/api/redrive?reason={few}")
        self.assertEqual(answer.json()["redriven"], 100)
        await until(lambda: len(self.target.events) == 100, "the group's events")
        wanted = {each["id"] for each in page["prompts"]}
        self.assertEqual({each["id"] for each in self.target.events}, wanted)
        purging = Deferred.fromCoroutine(self.act("/api/purge?reason=the%20model%20refused%20it"))
        began = worked(process.transport.pid)
        await daemon.accepted("meanwhile")
        self.assertLess(worked(process.transport.pid) - began, 2)
        self.assertEqual((await purging).json()["purged"], 4000)
        left = {
            reason: size
            for reason, size in SIZES.items()
            if reason not in {"the model refused it", "the model answered 400"}
        }
        self.assertEqual(await failures(), left)
        status, told = await daemon.operate("reasons", "--json")
        reasons = [json.loads(line) for line in told.splitlines()]
        self.assertEqual({each["reason"]: each["count"] for each in reasons}, left)
        self.assertEqual(status, 0)
        self.assertNotIn("code_", daemon.text)
        self.assertIn("redrove 100 failed prompts (the model answered 400)", daemon.text)

    async def test_search(self) -> None:
        self.openai.script = lambda _: Reply(400)
        daemon = self.daemon()
        await daemon.start()
        prompt_id = await daemon.accepted("hello", {"Idempotency-Key": "order-4711"})
        await daemon.reaches(prompt_id, "failed")
        for word in (prompt_id, prompt_id[:8], "order-4711"):
            found = (await self.ask_admin(f"/api/search?q={word}")).json()["prompts"]
            self.assertEqual([each["id"] for each in found], [prompt_id])
