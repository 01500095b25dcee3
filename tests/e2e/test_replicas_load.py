"""Three replicas under load: the limit is exact, and an update is not noticed."""

import itertools
import json
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from attrs import Factory, define, field
from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory as ProtocolFactory
from twisted.trial.unittest import TestCase

from tests.e2e.fleet import PATIENCE, TAKEOVER, Fleet
from tests.e2e.line import Joint
from tests.e2e.processes import Daemon, call, free_port, together, until
from tests.fakes.server import Reply
from tests.journal.postgres_server import server

LIMIT = 500
PROMPTS = 1500
CALLERS = 64
KEYS = 100


@define(eq=False)
class Balancer:
    """One port for several replicas: a connection goes to the next that takes it.

    Attributes:
        port: Where it listens.
        ports: Those of the replicas that are ready.
    """

    ports: list[int] = Factory(list)
    port: int = 0
    turn: int = 0
    _listening: IListeningPort | None = field(init=False, default=None)

    def start(self) -> None:
        """Listen."""
        factory = ProtocolFactory()
        factory.noisy = False
        factory.buildProtocol = self._accepted
        self._listening = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.port = self._listening.getHost().port

    async def stop(self) -> None:
        """Listen no more."""
        if self._listening is not None:
            await self._listening.stopListening()

    def _accepted(self, _address: Any) -> Joint:
        near = Joint()
        self._connect(near, len(self.ports))
        return near

    def _connect(self, near: Joint, left: int) -> None:
        self.turn += 1
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", self.ports[self.turn % len(self.ports)])

        def refused(_: Any) -> None:
            if left:
                self._connect(near, left - 1)
            else:
                near.transport.abortConnection()

        connectProtocol(endpoint, Joint()).addCallbacks(near.join, refused)


class LoadTests(TestCase):
    """Scenarios that run side by side, each with replicas, a model and a target of its own."""

    timeout = 300

    async def test_three_replicas_under_load(self) -> None:
        await together(
            self.limit_is_exact(), self.rolling_update(), self.all_at_once(), self.all_redrive()
        )

    async def limit_is_exact(self) -> None:
        """Through two kills and a start."""
        fleet = Fleet(self, server().schema(), everyday_limit=LIMIT)
        fleet.openai.delay = 0.1
        replicas = await fleet.begin(3)
        ports = [each.port for each in replicas]
        statuses: Counter[int] = Counter()
        texts = iter(range(PROMPTS))

        async def caller(number: int) -> None:
            turned = ports[number % 3 :] + ports[: number % 3]
            for text in texts:
                statuses[await fleet.send(f"prompt {text}", turned, timeout=10)] += 1

        async def killer() -> None:
            await until(lambda: len(fleet.ids) > LIMIT / 4, "prompts", PATIENCE)
            await replicas[0].kill()
            await fleet.more(LIMIT // 4)
            await replicas[1].kill()
            await fleet.start(replicas[0])

        await together(killer(), *map(caller, range(CALLERS)))
        self.assertEqual(statuses, {202: LIMIT, 429: PROMPTS - LIMIT})
        self.assertEqual(len(set(fleet.ids.values())), LIMIT)
        await fleet.settled(TAKEOVER + PATIENCE)
        fleet.assert_kept()
        self.assertEqual(len(fleet.delivered), LIMIT)
        self.assertLessEqual(max(fleet.openai.asked.values()), 2)
        answers = await together(*(each.post("one more") for each in (replicas[0], replicas[2])))
        self.assertEqual([answer.status for answer in answers], [429, 429])

    async def rolling_update(self) -> None:
        """It is not noticed."""
        fleet = Fleet(self, server().schema(), max_wait=20)
        fleet.openai.delay = 0.2
        replicas = await fleet.begin(3)
        balancer = Balancer([each.port for each in replicas])
        balancer.start()
        self.addCleanup(balancer.stop)
        load = fleet.load([balancer], callers=12, timeout=PATIENCE)
        async with load, self.waiters(fleet, balancer):
            for old in replicas:
                await fleet.more(30)
                new = fleet.replica()
                await fleet.start(new)
                balancer.ports.append(new.port)
                balancer.ports.remove(old.port)
                self.assertIn(await old.stop(), {0, -15})
                self.assertNotIn("with calls under way", old.text)
            await fleet.more(30)
        await fleet.settled()
        fleet.assert_kept()
        fleet.assert_once()
        self.assertEqual(fleet.lost, 0, "connections that ended without an answer")
        self.assertLessEqual(set(fleet.refused), {503})

    @asynccontextmanager
    async def waiters(self, fleet: Fleet, balancer: Balancer) -> AsyncIterator[None]:
        """Let callers wait for answers all the time."""
        is_over = False
        told: Counter[int] = Counter()

        async def waiter(mine: int) -> None:
            for n in itertools.count():
                if is_over:
                    return
                text = f"waits {mine}/{n}"
                url = f"http://127.0.0.1:{balancer.port}/"
                answer = await call("POST", url, text, {"Prefer": "wait=20"})
                told[answer.status] += 1
                if answer.status == 503:
                    self.assertTrue(answer.header("retry-after"))
                    continue
                self.assertIn(answer.status, {200, 202}, answer.body)
                fleet.ids[text] = answer.json()["id"]
                if answer.status == 200:
                    self.assertIn(text, answer.json()["data"]["content"])

        running = together(*map(waiter, range(4)))
        try:
            yield
            is_over = True
            await running
            self.assertGreater(told[200], 10)
        finally:
            running.addErrback(lambda _: None)  # likewise
            running.cancel()

    async def all_at_once(self) -> None:
        """Keys, events, those who wait, cancels and redrives, all at the same time."""
        fleet = Fleet(
            self, server().schema(), reply=60, max_wait=60, send_event_attempts=1, keep_answers=3600
        )
        replicas = await fleet.begin(3)
        await together(
            *(self.same_key(fleet, replicas, f"key {n}") for n in range(KEYS)),
            *(self.same_event(fleet, replicas, f"event-{n}") for n in range(KEYS)),
            *(self.all_wait(fleet, replicas, f"wait {n}") for n in range(KEYS // 5)),
            *(self.all_want_a_reply(replicas, f"reply-{n}") for n in range(KEYS // 5)),
            *(self.all_cancel(replicas, f"cancel {n}") for n in range(KEYS // 5)),
        )
        await fleet.settled()
        fleet.assert_kept()
        fleet.assert_once()

    async def same_key(self, fleet: Fleet, replicas: Sequence[Daemon], text: str) -> None:
        await together(*(fleet.send(text, [each.port]) for each in replicas))  # one id, or it fails

    async def same_event(self, fleet: Fleet, replicas: Sequence[Daemon], name: str) -> None:
        answers = await together(*(self.post_event(each, name) for each in replicas))
        self.assertEqual({answer.status for answer in answers}, {202})
        (where,) = {answer.header("location") for answer in answers}
        fleet.ids[name] = where.rpartition("/")[2]

    async def post_event(self, replica: Daemon, name: str, **headers: str) -> Any:
        event = {"specversion": "1.0", "id": name, "source": "/races", "type": "asked"}
        event["data"] = name
        fields = {"Content-Type": "application/cloudevents+json", **headers}
        return await self.post(replica, json.dumps(event), fields)

    async def post(self, replica: Daemon, body: str, headers: dict[str, str]) -> Any:
        """POST, and be patient: all come at once."""
        return await call("POST", f"http://127.0.0.1:{replica.port}/", body, headers, PATIENCE)

    async def all_wait(self, fleet: Fleet, replicas: Sequence[Daemon], text: str) -> None:
        headers = {"Idempotency-Key": f'"{text}"', "Prefer": "wait=60"}
        answers = await together(*(self.post(each, text, headers) for each in replicas))
        self.assertEqual({answer.status for answer in answers}, {200}, answers)
        ((id_, content),) = {
            (answer.json()["id"], answer.json()["data"]["content"]) for answer in answers
        }
        self.assertIn(text, content)
        fleet.ids[text] = id_

    async def all_want_a_reply(self, replicas: Sequence[Daemon], name: str) -> None:
        """The reply is the only delivery, whoever has asked."""
        answers = await together(
            *(self.post_event(each, name, Prefer="reply") for each in replicas)
        )
        self.assertEqual({answer.status for answer in answers}, {200}, answers)
        ((content,),) = [{answer.json()["data"]["content"] for answer in answers}]
        self.assertIn(name, content)

    async def all_cancel(self, replicas: Sequence[Daemon], text: str) -> None:
        body = json.dumps({"prompt": text, "not_before": "30m"})
        answer = await replicas[0].post(body, {"Content-Type": "application/json"}, "/prompts")
        prompt_id = answer.json()["id"]
        urls = [f"http://127.0.0.1:{each.port}/prompts/{prompt_id}" for each in replicas]
        answers = await together(*(call("DELETE", url) for url in urls))
        self.assertEqual({answer.status for answer in answers}, {204}, answers)
        for each in replicas:
            self.assertEqual((await each.record(prompt_id))["state"], "cancelled")

    async def all_redrive(self) -> None:
        fleet = Fleet(self, server().schema(), send_event_attempts=1)
        replicas = [await self.with_admin(fleet) for _ in range(3)]
        fleet.target.script = lambda _: Reply(500)
        for number in range(30):
            await fleet.send(f"prompt {number}", [replicas[number % 3][0].port])
        for id_ in fleet.ids.values():
            await replicas[0][0].reaches(id_, "failed")
        fleet.target.script = fleet.target.default
        ours = {"X-Requested-With": "chatgpt-source"}
        urls = [
            f"{admin}/api/prompts/{id_}/redrive"
            for id_ in fleet.ids.values()
            for _, admin in replicas
        ]
        answers = await together(*(call("POST", url, headers=ours) for url in urls))
        redriven = [answer for answer in answers if answer.status < 300]
        self.assertEqual(len(redriven), 30, Counter(answer.status for answer in answers))
        await fleet.settled()
        fleet.assert_kept()
        fleet.assert_once()

    async def with_admin(self, fleet: Fleet) -> tuple[Daemon, str]:
        admin = free_port()
        (replica,) = await fleet.begin(1, admin=f"tcp:{admin}:interface=127.0.0.1")
        return replica, f"http://127.0.0.1:{admin}"
