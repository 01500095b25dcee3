"""The CloudEvent call: what is sent, and what each answer of the target means."""

import itertools
import json
from datetime import datetime, tzinfo
from typing import Any

import attrs
import standardwebhooks.webhooks
from standardwebhooks.webhooks import Webhook, WebhookVerificationError
from treq.client import HTTPClient
from treq.testing import RequestTraversalAgent
from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectionRefusedError as Refused
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import ResponseNeverReceived
from twisted.web.http_headers import Headers
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from chatgpt_source.config.secret import Secret
from chatgpt_source.delivery.event import encode
from chatgpt_source.delivery.target import MOST_BYTES, TIMEOUT, Target
from chatgpt_source.errors import CallError, PeerFailure, Permanent, PossiblyBilled, Transient
from chatgpt_source.http.client import Client, NoReply, NotSent, Reply
from chatgpt_source.prompt import Answer, Delivery, Prompt, Trace

NOW = 1795176000.0  # 2026-11-20T12:00:00Z
EVENT = b'{"specversion": "1.0", "data": {"content": "EVENTMARK"}}'

DELIVERY = Delivery("p1", EVENT, NOW, 1, NOW)


class StoppedTime(datetime):
    """The time by which the reference library verifies."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:
        return cls.fromtimestamp(NOW, tz)


class Receiver(Resource):
    """Answers what it is told to, and notes what it was sent."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.status = 202
        self.headers: dict[str, str] = {}
        self.body = b"TARGETMARK"
        self.hangs = False
        self.got: list[tuple[bytes, bytes, Headers, bytes]] = []

    def render(self, request: Request) -> bytes | int:
        self.got.append(
            (request.method, request.uri, request.requestHeaders, request.content.read())
        )
        request.setResponseCode(self.status)
        for name, value in self.headers.items():
            request.setHeader(name, value)
        return NOT_DONE_YET if self.hangs else self.body


class DeliveryTests(SynchronousTestCase):
    url = "http://target.example/in/box?a=%2F"

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        self.receiver = Receiver()
        self.agent = RequestTraversalAgent(self.receiver)
        self.target = Target(Client(self.clock, HTTPClient(self.agent)), self.clock, self.url)

    def deliver(self, delivery: Delivery = DELIVERY) -> Deferred[int]:
        done = Deferred.fromCoroutine(self.target.deliver(delivery))
        self.agent.flush()
        return done

    def failure(self) -> CallError:
        error = self.failureResultOf(self.deliver(), CallError).value
        for mark in ("EVENTMARK", "TARGETMARK", "target.example"):
            self.assertNotIn(mark, str(error))
        return error

    def test_what_is_sent(self) -> None:
        self.successResultOf(self.deliver())
        ((method, uri, headers, body),) = self.receiver.got
        self.assertEqual((method, uri, body), (b"POST", b"/in/box?a=%2F", EVENT))
        self.assertEqual(headers.getRawHeaders(b"content-type"), [b"application/cloudevents+json"])
        self.assertFalse(headers.hasHeader(b"authorization"))
        self.assertEqual([n for n, _ in headers.getAllRawHeaders() if n.startswith(b"Ce-")], [])

    def test_same_bytes_each_time(self) -> None:
        for _ in range(3):
            self.successResultOf(self.deliver())
        self.assertEqual({body for *_, body in self.receiver.got}, {EVENT})

    def test_on_a_connection_of_its_own_from_the_second_attempt_on(self) -> None:
        kept, fresh = Receiver(), Receiver()
        agents = [HTTPClient(RequestTraversalAgent(receiver)) for receiver in (kept, fresh)]
        client = Client(self.clock, agents[0], fresh=agents[1])
        self.target = Target(client, self.clock, self.url)
        for attempt, counts in ((1, (1, 0)), (2, (1, 1)), (3, (1, 2))):
            self.deliver(attrs.evolve(DELIVERY, attempt=attempt))
            self.assertEqual((len(kept.got), len(fresh.got)), counts)

    def again(self, **settings: Any) -> None:
        client = Client(self.clock, HTTPClient(self.agent))
        self.target = Target(client, self.clock, self.url, **settings)

    def sent(self, delivery: Delivery = DELIVERY) -> tuple[Headers, bytes]:
        self.receiver.got.clear()
        self.successResultOf(self.deliver(delivery))
        ((_, _, headers, body),) = self.receiver.got
        return headers, body

    def test_binary_mode(self) -> None:
        self.again(mode="binary")
        event = encode(Prompt("p1", "text", "/s", "a b", NOW), Answer("EVENTMARK"))
        headers, body = self.sent(Delivery("p1", event, NOW, 1, NOW))
        self.assertEqual(body, b'{"content": "EVENTMARK"}')
        for name, value in (("ce-id", "p1"), ("ce-type", "a%20b"), ("ce-specversion", "1.0")):
            self.assertEqual(headers.getRawHeaders(name), [value])
        self.assertEqual(headers.getRawHeaders("content-type"), ["application/json"])

    def test_trace(self) -> None:
        trace = Trace("00-a-b-01", "x=1")
        for mode in ("structured", "binary"):
            self.again(mode=mode)
            event = encode(Prompt("p1", "text", "/s", "t", NOW, trace), Answer("EVENTMARK"))
            headers, _ = self.sent(Delivery("p1", event, NOW, 1, NOW, trace))
            self.assertEqual(headers.getRawHeaders("traceparent"), ["00-a-b-01"])
            self.assertEqual(headers.getRawHeaders("tracestate"), ["x=1"])
            self.assertEqual(
                headers.getRawHeaders("ce-traceparent"), ["00-a-b-01"] if mode == "binary" else None
            )

    def test_headers(self) -> None:
        self.again(headers={"Authorization": Secret("Bearer b"), "X-One": Secret("")})
        headers, _ = self.sent()
        self.assertEqual(headers.getRawHeaders("authorization"), ["Bearer b"])
        self.assertEqual(headers.getRawHeaders("x-one"), [""])

    def test_signature(self) -> None:
        secrets = ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_c2Vjb25k"]
        for mode, count in itertools.product(("structured", "binary"), (1, 2)):
            event = encode(Prompt("p1", "text", "/s", "t", NOW), Answer("EVENTMARK"))
            self.again(mode=mode, signing=[Secret(secret) for secret in secrets[:count]])
            headers, body = self.sent(Delivery("p1", event, NOW, 1, NOW))
            named = {
                name: headers.getRawHeaders(name)[0]
                for name in ("webhook-id", "webhook-timestamp", "webhook-signature")
            }
            self.assertEqual(
                (named["webhook-id"], len(named["webhook-signature"].split())), ("p1", count)
            )
            self.assertEqual(named["webhook-timestamp"], str(int(NOW)))
            for secret in secrets[:count]:
                reference = Webhook(secret)
                self.patch(standardwebhooks.webhooks, "datetime", StoppedTime)
                self.assertEqual(json.loads(body), reference.verify(body.decode(), named))
            with self.assertRaises(WebhookVerificationError):
                Webhook("whsec_b3RoZXI=").verify(body.decode(), named)

    def test_any_2xx_is_delivered(self) -> None:
        for status in (200, 201, 202, 203, 204, 205, 206, 207, 226, 299):
            self.receiver.status = status
            self.receiver.body = b"" if status in {204, 205} else b"TARGETMARK"
            self.assertEqual(self.successResultOf(self.deliver()), status)

    def test_each_class(self) -> None:
        for kind, statuses in {
            Transient: (404, 408, 409, 429, 500, 501, 502, 503, 504, 511, 599),
            PeerFailure: (401, 403, 410),
            Permanent: (300, 301, 302, 303, 307, 308, 400, 402, 405, 406, 411, 413, 415, 422, 451),
        }.items():
            for status in statuses:
                self.receiver.status = status
                error = self.failure()
                self.assertIs(type(error), kind, status)
                self.assertEqual(error.status, status)
                self.assertIn(f"the target answered {status}", error.reason)

    def test_redirect_is_not_followed(self) -> None:
        self.receiver.headers = {"location": "http://target.example/elsewhere"}
        for status in (301, 302, 303, 307, 308):
            self.receiver.status = status
            self.receiver.got.clear()
            self.assertIs(type(self.failure()), Permanent)
            self.assertEqual(len(self.receiver.got), 1)

    def test_retry_after(self) -> None:
        self.receiver.status = 503
        for value, wait in {
            "7": 7.0,
            "Fri, 20 Nov 2026 12:00:09 GMT": 9.0,
            "TARGETMARK": None,
            "86400": 3600.0,
        }.items():
            self.receiver.headers = {"retry-after": value}
            self.assertEqual(self.failure().retry_after, wait)

    def test_no_answer(self) -> None:
        class Silent:
            async def post(self, *_: object, **given: object) -> Reply:
                asked.append(given)
                raise NoReply("no answer in time")

        asked: list[dict[str, object]] = []
        self.target = Target(Silent(), self.clock, self.url)  # type: ignore[arg-type]
        error = self.failure()
        self.assertIs(type(error), Transient)
        self.assertNotIsInstance(error, PossiblyBilled)
        self.assertEqual(error.reason, "the target did not answer: no answer in time")
        self.assertEqual(asked, [{"timeout": 30.0, "most": MOST_BYTES, "fresh": False}])
        self.assertEqual(TIMEOUT, 30.0)

    def test_not_reached(self) -> None:
        class Down:
            async def post(self, *_: object, **__: object) -> Reply:
                raise NotSent("connection refused")

        self.target = Target(Down(), self.clock, self.url)  # type: ignore[arg-type]
        error = self.failure()
        self.assertIs(type(error), Transient)
        self.assertEqual(error.reason, "the target can't be reached: connection refused")
        self.assertIsNone(error.status)

    def test_a_2xx_counts_whatever_comes_after_it(self) -> None:
        class Cut:
            async def post(self, *_: object, **__: object) -> Reply:
                return Reply(202, Headers(), b"", "was cut short")

        self.target = Target(Cut(), self.clock, self.url)  # type: ignore[arg-type]
        self.assertEqual(self.successResultOf(self.deliver()), 202)

    def test_failures_of_the_agent(self) -> None:
        for failure, words in (
            (Failure(Refused("TARGETMARK")), "the target can't be reached: connection refused"),
            (
                Failure(ResponseNeverReceived([Failure(Refused("TARGETMARK"))])),
                "the target can't be reached: connection refused",
            ),
        ):
            self.agent.request = lambda *_, failure=failure, **__: fail(failure)
            self.assertEqual(self.failure().reason, words)

    def test_timeout(self) -> None:
        class Hanging:
            def request(self, *_: object, **__: object) -> Deferred[object]:
                return Deferred()

        self.target = Target(Client(self.clock, Hanging()), self.clock, self.url)  # type: ignore[arg-type]
        done = self.deliver()
        self.clock.advance(TIMEOUT - 0.1)
        self.assertNoResult(done)
        self.clock.advance(0.2)
        self.assertIs(type(self.failureResultOf(done).value), Transient)
        self.assertEqual(self.clock.getDelayedCalls(), [])
