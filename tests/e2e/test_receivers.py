"""How events reach receivers that are not ours: other SDKs, webhooks, Knative, private TLS."""

import json
import os
import shutil
from pathlib import Path

from standardwebhooks.webhooks import Webhook
from twisted.internet import reactor
from twisted.trial.unittest import SkipTest

from tests.certificates import issue
from tests.e2e.processes import Daemon, DaemonCase, Running, until
from tests.fakes.server import Fault, Reply

JS = Path(__file__).parent.parent / "js"
PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
OVERRIDES = json.dumps({"extensions": {"cluster": 'caf\u00e9 "1" 100%', "env": "prod"}})


class OtherSdkTests(DaemonCase):
    """The receiver is CloudEvents' SDK for JavaScript, in a process of its own."""

    async def start_receiver(self) -> int:
        node = shutil.which("node")
        if node is None or not (JS / "node_modules" / "cloudevents").is_dir():
            raise SkipTest("no node, or `npm install` in tests/js was not run (make test does)")
        self.receiver = Running(bytearray())
        reactor.spawnProcess(
            self.receiver, node, [node, "receiver.js"], env=dict(os.environ), path=str(JS)
        )
        self.addCleanup(self.end_receiver)
        await until(self.lines, "the receiver's port")
        return self.lines()[0]["port"]

    async def end_receiver(self) -> None:
        self.receiver.signal(9)
        await self.receiver.end()

    def lines(self) -> list[dict]:
        whole = self.receiver.text.rpartition("\n")[0]
        return [json.loads(line) for line in whole.splitlines()]

    async def test_both_modes(self):
        port = await self.start_receiver()
        for number, mode in enumerate(("structured", "binary"), 1):
            daemon = self.daemon(
                target=f"http://127.0.0.1:{port}/", content_mode=mode, include=["prompt"]
            )
            daemon.environ["K_CE_OVERRIDES"] = OVERRIDES
            await daemon.start()
            prompt_id = await daemon.accepted(
                'What is "caf\u00e9"?\n\U0001f600',
                {
                    "vanus-source": "/a/b?c=%20#d",
                    "vanus-type": "com.example \u00e4nswer \u20ac",
                    "traceparent": PARENT,
                    "tracestate": "rojo=1,congo=t61rcWkgMzE",
                },
            )
            await daemon.reaches(prompt_id, "delivered")
            await until(lambda number=number: len(self.lines()) > number, "the event")
            self.assertEqual(set(self.lines()[-1]), {"event"}, self.lines()[-1])
            event = self.lines()[-1]["event"]
            record = await daemon.record(prompt_id)
            time = event.pop("time")
            self.assertEqual(time[:23], record["accepted"][:23])  # the SDK keeps milliseconds
            self.assertEqual(
                event,
                {
                    "specversion": "1.0",
                    "id": prompt_id,
                    "source": "/a/b?c=%20#d",
                    "type": "com.example \u00e4nswer \u20ac",
                    "datacontenttype": "application/json",
                    "cluster": 'caf\u00e9 "1" 100%',
                    "env": "prod",
                    "traceparent": PARENT,
                    "tracestate": "rojo=1,congo=t61rcWkgMzE",
                    "data": {
                        "content": 'You asked: What is "caf\u00e9"?\n\U0001f600',
                        "prompt": 'What is "caf\u00e9"?\n\U0001f600',
                    },
                },
            )
            await daemon.stop()


class TraceTests(DaemonCase):
    async def test_goes_along_and_survives_a_restart(self):
        self.openai.queue(Reply(503), Reply(503))
        self.target.queue(Reply(503))
        daemon = self.daemon()
        await daemon.start()
        headers = {"traceparent": PARENT, "tracestate": "rojo=1"}
        prompt_id = await daemon.accepted("text", headers)
        await until(lambda: self.openai.asks, "the first ask")
        await daemon.kill()
        await daemon.start()
        await until(lambda: self.target.requests, "the first delivery")
        await daemon.kill()
        await daemon.start()
        await daemon.reaches(prompt_id, "delivered")
        self.assertGreaterEqual(len(self.openai.asks), 3)
        self.assertGreaterEqual(len(self.target.requests), 2)
        for request in (*self.openai.asks, *self.target.requests):
            sent = (request.header("traceparent"), request.header("tracestate"))
            self.assertEqual(sent, (PARENT, "rojo=1"))
        for event in self.target.events:
            self.assertEqual((event["traceparent"], event["tracestate"]), (PARENT, "rojo=1"))

    async def test_none_where_the_caller_sent_none(self):
        daemon = self.daemon()
        await daemon.start()
        await daemon.reaches(await daemon.accepted("text"), "delivered")
        await daemon.reaches(await daemon.accepted("text", {"traceparent": "x"}), "delivered")
        for request in (*self.openai.asks, *self.target.requests):
            self.assertIsNone(request.header("traceparent"))
        for event in self.target.events:
            self.assertNotIn("traceparent", event)


class HeadersTests(DaemonCase):
    async def test_headers_and_signatures(self):
        secret = self.file("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n")
        daemon = self.daemon(
            target_headers={"Authorization": {"env": "SINK_AUTH"}, "X-Team": "a"},
            signing_secret=[{"file": str(secret)}, "whsec_c2Vjb25k"],
        )
        daemon.environ["SINK_AUTH"] = "Bearer sink"
        self.target.queue(Reply(503))
        await daemon.start()
        prompt_id = await daemon.accepted("text")
        await daemon.reaches(prompt_id, "delivered")
        self.assertEqual(len(self.target.requests), 2)
        for request in self.target.requests:
            self.assertEqual(request.header("authorization"), "Bearer sink")
            self.assertEqual(request.header("x-team"), "a")
            headers = {
                name: request.header(name)
                for name in ("webhook-id", "webhook-timestamp", "webhook-signature")
            }
            self.assertEqual(headers["webhook-id"], prompt_id)
            for key in ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_c2Vjb25k"):
                self.assertEqual(Webhook(key).verify(request.body, headers)["id"], prompt_id)
        self.assertIsNone(self.openai.asks[0].header("x-team"))

    async def test_the_dead_letters_receiver_gets_none_of_them(self):
        self.openai.script = lambda _: Reply(400)
        daemon = self.daemon(
            dead_letter=self.target.origin,
            target_headers={"Authorization": "Bearer sink"},
            signing_secret="whsec_c2Vjb25k",
        )
        daemon.environ["K_CE_OVERRIDES"] = OVERRIDES
        await daemon.start()
        await daemon.reaches(await daemon.accepted("text"), "failed")
        await until(lambda: self.target.events, "the dead letter")
        (letter,) = self.target.requests
        self.assertIsNone(letter.header("authorization"))
        self.assertIsNone(letter.header("webhook-signature"))
        self.assertEqual(letter.document["env"], "prod")


class PrivateAuthorityTests(DaemonCase):
    """A target with TLS whose authority only the settings know."""

    def setUp(self) -> None:
        super().setUp()
        self.authority = issue(None)
        certificate = issue("localhost", self.authority)
        factory = self.target._factory
        listening = reactor.listenSSL(0, factory, certificate.options(), interface="127.0.0.1")
        self.addCleanup(listening.stopListening)
        self.url = f"https://localhost:{listening.getHost().port}/"

    async def test_ca_file(self):
        file = self.file(self.authority.pem.decode())
        daemon = self.daemon(target=self.url, ca_file=str(file))
        await daemon.start()
        await daemon.reaches(await daemon.accepted("text"), "delivered")

    async def test_of_the_platform(self):
        config = self.config()
        del config["target"]
        daemon = Daemon(
            self, config, K_SINK=self.url, K_CA_CERTS=self.authority.pem.decode("ascii")
        )
        await daemon.start()
        await daemon.reaches(await daemon.accepted("text"), "delivered")

    async def test_not_trusted(self):
        daemon = self.daemon(target=self.url)
        await daemon.start()
        record = await daemon.reaches(await daemon.accepted("text"), lambda r: r["error"])
        self.assertIn("its TLS certificate is not trusted", record["error"])
        self.assertEqual(self.target.requests, [])


class BodyTests(DaemonCase):
    async def test_an_answer_of_any_length_is_taken(self):
        """What a target says after its 2xx does not matter, however long it goes on."""
        self.target.queue(
            Reply(200, b"x" * 2**20), Reply(202, b"x", fault=Fault.ENDLESS), Reply(204)
        )
        daemon = self.daemon()
        await daemon.start()
        for _ in range(3):
            await daemon.reaches(await daemon.accepted("text"), "delivered")
        self.assertEqual(len(self.target.requests), 3)
