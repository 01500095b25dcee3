"""The original's config, its curl and its event, word for word; and every row of the door in."""

import re
import resource
import shlex
import shutil
import time
from datetime import datetime, timezone
from uuid import UUID

from twisted.internet.defer import Deferred
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import SkipTest

from tests.e2e.processes import Daemon, DaemonCase, Wire, call, free_port, throughout, until
from tests.fakes.openai import answer_to, completion, prompt_of
from tests.fakes.server import Fault, Reply

README_CONFIG = "target: http://localhost:31081\nport: 8082\ntoken: xxxxxx\n"
README_CURLS = (
    "curl --location --request POST 'localhost:8082' --header '' --data-raw 'what is vanus'",
    (
        "curl --location --request POST 'localhost:8082' --header 'Content-Type: text/plain'"
        " --data-raw 'what is vanus'"
    ),
)
RECORD = [
    *("id", "state", "accepted", "answered", "delivered", "failed", "asks", "deliveries", "error"),
    *("next_attempt", "request_id", "target"),
]
MEMBERS = {"specversion", "id", "source", "type", "datacontenttype", "time", "data"}


def instant(text):
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


class SeedTests(DaemonCase):
    async def test_as_in_the_original_readme(self):
        if shutil.which("curl") is None:
            raise SkipTest("curl is not installed")
        port = free_port()
        config = README_CONFIG.replace("31081", str(self.target.port)).replace("8082", str(port))
        daemon = Daemon(self, config, OPENAI_BASE_URL=self.openai.base_url)
        daemon.port = port
        await daemon.start()
        ids = []
        for curl in README_CURLS:
            words = shlex.split(curl.replace("8082", str(port)))
            out, err, status = await getProcessOutputAndValue(shutil.which("curl"), words[1:])
            self.assertEqual(status, 0, err)
            self.assertRegex(out.decode(), r'^\{"id": "[0-9a-f-]{36}", "status": "accepted"\}$')
            ids.append(re.search(rb"[0-9a-f-]{36}", out)[0].decode())
        await until(lambda: len(self.target.events) == 2, "two events")
        for event in self.target.events:
            self.assertEqual(set(event), MEMBERS)
            self.assertEqual(
                {key: event[key] for key in MEMBERS - {"id", "time"}},
                {
                    "specversion": "1.0",
                    "source": "vanus-chatGPT-source",
                    "type": "vanus-chatGPT-type",
                    "datacontenttype": "application/json",
                    "data": {"content": answer_to("what is vanus")},
                },
            )
            record = await daemon.reaches(event["id"], "delivered")
            self.assertEqual(instant(event["time"]), instant(record["accepted"]))
            self.assertLess(abs(instant(event["time"]).timestamp() - time.time()), 60)
        self.assertEqual(sorted(event["id"] for event in self.target.events), sorted(ids))
        self.assertEqual({UUID(id_).version for id_ in ids}, {4})
        for ask in self.openai.asks:
            self.assertEqual(ask.header("authorization"), "Bearer xxxxxx")
            prompt = {"role": "user", "content": "what is vanus"}
            self.assertEqual(ask.document, {"model": "gpt-6-luna", "messages": [prompt]})
        self.assert_fair()


class DoorTests(DaemonCase):
    async def setUp(self):
        super().setUp()
        self.daemon_ = self.daemon(max_body_size=1000)
        await self.daemon_.start()

    async def wire(self):
        wire = await Wire.connect(self.daemon_.port)
        self.addCleanup(wire.close)
        return wire

    async def event_of(self, prompt_id):
        await self.daemon_.reaches(prompt_id, "delivered")
        (event,) = [event for event in self.target.events if event["id"] == prompt_id]
        return event

    async def test_accepted(self):
        answer = await self.daemon_.post("what is vanus")
        now = datetime.now(timezone.utc)
        body = answer.json()
        self.assertEqual(answer.status, 202)
        self.assertEqual(answer.header("content-type"), "application/json")
        self.assertEqual(body, {"id": body["id"], "status": "accepted"})
        self.assertEqual(answer.header("location"), f"/prompts/{body['id']}")
        self.assertEqual(answer.header("ratelimit-policy"), '"daily";q=100;w=86400')
        match = re.fullmatch(r'"daily";r=99;t=(\d+)', answer.header("ratelimit"))
        left = 86400 - (now.hour * 3600 + now.minute * 60 + now.second)
        self.assertLess(abs(int(match[1]) - left) % 86400, 30)

    async def test_event_headers(self):
        for headers, source, type_ in (
            ({"vanus-source": "/my/app", "vanus-type": "my.type"}, "/my/app", "my.type"),
            ({"Vanus-Source": "urn:x:1#a?b"}, "urn:x:1#a?b", "vanus-chatGPT-type"),
            ({"vanus-source": "", "vanus-type": ""}, "vanus-chatGPT-source", "vanus-chatGPT-type"),
            ({"vanus-type": "Grüße"}, "vanus-chatGPT-source", "Grüße"),
        ):
            event = await self.event_of(await self.daemon_.accepted("prompt", headers))
            self.assertEqual((event["source"], event["type"]), (source, type_))
            self.assertEqual(set(event), MEMBERS)
        for headers in (
            {"vanus-source": "not a uri"},
            {"vanus-source": "http://[bad"},
            {"vanus-source": "%zz"},
            {"vanus-type": "a\x01b"},
        ):
            self.assert_problem(await self.daemon_.post("prompt", headers), 400)
        self.assert_fair()

    async def test_what_is_a_prompt(self):
        for body, media_type, text in (
            ("Grüße", None, "Grüße"),
            ("Grüße", "text/plain", "Grüße"),
            ("a=b&c=%20", "application/x-www-form-urlencoded", "a=b&c=%20"),
            ('{"prompt": 1}', "application/json", '{"prompt": 1}'),
            ("Grüße", "text/plain; charset=utf-8", "Grüße"),
            ("Grüße", 'text/plain; charset="UTF-8"', "Grüße"),
            ("Grüße".encode("latin-1"), "text/plain; charset=ISO-8859-1", "Grüße"),
            ("plain", "text/plain; charset=us-ascii", "plain"),
            ("  leading and\ntrailing \n", "image/png", "  leading and\ntrailing \n"),
            ("x" * 1000, None, "x" * 1000),
        ):
            headers = {"Content-Type": media_type} if media_type else {}
            event = await self.event_of(await self.daemon_.accepted(body, headers))
            self.assertEqual(event["data"], {"content": answer_to(text)})
        self.assert_fair()

    async def test_refused(self):
        ascii_, latin, utf_16 = (
            {"Content-Type": f"text/plain; charset={name}"}
            for name in ("us-ascii", "iso-8859-1", "utf-16")
        )
        for method, path, body, headers, status in (
            ("POST", "/", "", {}, 400),
            ("POST", "/", " \r\n\t", {}, 400),
            ("POST", "/", b"\xff\xfe", {}, 400),
            ("POST", "/", "Grüße", ascii_, 400),
            ("POST", "/", "\xa0 ".encode("latin-1"), latin, 400),
            ("POST", "/", "text".encode("utf-16"), utf_16, 415),
            ("POST", "/", "text", {"Content-Type": "text/plain; charset=punycode"}, 415),
            ("POST", "/", "x" * 1001, {}, 413),
            ("POST", "/other", "text", {}, 404),
            ("POST", "/prompts", "text", {}, 415),
            ("GET", "/prompts/", "", {}, 404),
            ("GET", "/prompts/a/b", "", {}, 404),
            ("GET", "/prompts/8b5ad4a5-2e3a-4a9e-9c39-52db1d2fdc9b", "", {}, 404),
        ):
            url = f"http://127.0.0.1:{self.daemon_.port}{path}"
            answer = await call(method, url, body, headers)
            self.assert_problem(answer, status)
        for method, path, allowed in (
            ("GET", "/", "POST"),
            ("PUT", "/", "POST"),
            ("DELETE", "/", "POST"),
            ("POST", "/healthz", "GET, HEAD"),
            ("PUT", "/readyz", "GET, HEAD"),
            ("PUT", "/prompts/x", "GET, HEAD, DELETE"),
            ("PUT", "/prompts/x/event", "GET, HEAD"),
            ("GET", "/prompts", "POST"),
        ):
            url = f"http://127.0.0.1:{self.daemon_.port}{path}"
            answer = await call(method, url, "text", {})
            self.assert_problem(answer, 405)
            self.assertEqual(answer.header("allow"), allowed)
        # Refusals change nothing.
        self.assertIn("r=99;", (await self.daemon_.post("text")).header("ratelimit"))
        await until(lambda: self.target.events)
        self.assertEqual(len(self.openai.asks), 1)

    async def test_too_large_and_the_connection_lives_on(self):
        wire = await self.wire()
        next_ = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nnext"
        # Declared; the answer waits for the body's end.
        wire.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3000\r\n\r\n" + b"x" * 2999)
        wire.send(b"x" + next_)
        self.assert_problem(await wire.answer(), 413)
        self.assertEqual((await wire.answer()).status, 202)
        # Chunked.
        chunk = b"190\r\n" + b"y" * 400 + b"\r\n"
        wire.send(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk * 3)
        wire.send(b"0\r\n\r\n" + next_)
        self.assert_problem(await wire.answer(), 413)
        self.assertEqual((await wire.answer()).status, 202)
        # Chunked, but within the limit.
        wire.send(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk * 2)
        wire.send(b"0\r\n\r\n")
        self.assertEqual((await wire.answer()).status, 202)
        self.assertFalse(wire.closed)

    async def test_too_large_and_expecting_100_continue(self):
        wire = await self.wire()
        head = b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n"
        wire.send(head % 3000)
        self.assert_problem(await wire.answer(), 413)
        wire = await self.wire()
        wire.send(head % 4)
        await until(lambda: wire.received == b"HTTP/1.1 100 Continue\r\n\r\n", "the go-ahead")
        wire.received = b""
        wire.send(b"text")
        self.assertEqual((await wire.answer()).status, 202)

    async def test_far_too_large_is_closed(self):
        for head, piece in (
            (b"Content-Length: 1000000", b"x" * 400),
            (b"Transfer-Encoding: chunked", b"190\r\n" + b"x" * 400 + b"\r\n"),
        ):
            wire = await self.wire()
            wire.send(b"POST / HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n\r\n" + piece * 39)
            await self.daemon_.get("/healthz")
            self.assertEqual((wire.received, wire.closed), (b"", False))
            wire.send(piece * 3)
            self.assert_problem(await wire.answer(), 413)
            await until(lambda wire=wire: wire.closed, "the connection's end")

    async def test_absolute_target(self):
        wire = await self.wire()
        wire.send(b"POST http://x/ HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\ntext")
        self.assertEqual((await wire.answer()).status, 202)

    async def test_states(self):
        self.openai.queue(Reply(fault=Fault.HANG))
        self.target.queue(Reply(500, headers={"Retry-After": "1000"}))
        waiting = await self.daemon_.accepted("a secret prompt")
        await until(lambda: self.openai.asks, "an ask")
        answered = await self.daemon_.accepted("a secret prompt")
        await self.daemon_.reaches(answered, lambda record: record["error"])
        delivered = await self.daemon_.accepted("a secret prompt")
        await self.daemon_.reaches(delivered, "delivered")
        expected = {
            waiting: ("accepted", 1, 0, [True, False, False]),
            answered: ("answered", 1, 1, [True, True, False]),
            delivered: ("delivered", 1, 1, [True, True, True]),
        }
        for prompt_id, (state, asks, deliveries, times) in expected.items():
            answer = await self.daemon_.get(f"/prompts/{prompt_id}")
            record = answer.json()
            self.assertEqual(answer.header("content-type"), "application/json")
            self.assertEqual(
                list(record),
                RECORD,
            )
            self.assertEqual(record["id"], prompt_id)
            self.assertEqual(record["state"], state)
            self.assertEqual((record["asks"], record["deliveries"]), (asks, deliveries))
            moments = [record[name] for name in ("accepted", "answered", "delivered")]
            self.assertEqual([moment is not None for moment in moments], times)
            for moment in filter(None, moments):
                self.assertRegex(moment, r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$")
            self.assertEqual(record["error"] is not None, state == "answered")
            self.assertNotIn(b"secret", answer.body)
            head = await self.daemon_.get(f"/prompts/{prompt_id}", "HEAD")
            self.assertEqual((head.status, head.body), (200, b""))
            self.assertEqual(head.header("content-length"), str(len(answer.body)))

    async def test_health(self):
        health, ready = [await self.daemon_.get(path) for path in ("/healthz", "/readyz")]
        self.assertEqual((health.status, ready.status), (200, 200))
        told = ready.json()
        names = {"journal", "openai", "target", "quota", "backlog", "failures"}
        self.assertEqual((told["status"], set(told["checks"])), ("ready", names))
        self.assertLessEqual(set(told["checks"].values()), {"ok", "unknown"})
        self.assertEqual((await self.daemon_.get("/readyz", "HEAD")).body, b"")


class OverloadTests(DaemonCase):
    async def test_backlog_full(self):
        self.openai.script = lambda _: Reply(fault=Fault.HANG)
        daemon = self.daemon(max_backlog=2, concurrency=1)
        await daemon.start()
        for _ in range(2):
            await daemon.accepted("text")
        answer = await daemon.post("text")
        self.assert_problem(answer, 503)
        self.assertGreater(int(answer.header("retry-after")), 0)
        status, word, checks = await daemon.checks()
        self.assertEqual((status, word), (200, "degraded"))
        self.assertNotEqual(checks["backlog"], "ok")
        self.assertEqual(checks["quota"], "ok")

    async def test_callers_that_hang_up(self):
        daemon = self.daemon()
        await daemon.start()
        head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n"
        for sent in (head, head + b"te", head + b"text", head + b"text" + head):
            wire = await Wire.connect(daemon.port)
            wire.send(sent)
            wire.transport.loseConnection()
            await until(lambda wire=wire: wire.closed, "the hang-up")
        # What came in whole was accepted, though nobody heard so, or is gone.
        answer = await daemon.post("text")
        used = 100 - int(answer.header("ratelimit").partition("r=")[2].partition(";")[0])
        self.assertLessEqual(used, 3)
        await until(lambda: len(self.target.events) == used, "as many events as units")
        wire = await Wire.connect(daemon.port)
        wire.send(head + b"text" + head)
        await until(lambda: len(self.openai.asks) > used, "its call")
        wire.transport.loseConnection()
        await until(lambda: len(self.target.events) == used + 1, "its event")
        await daemon.stop()
        self.assertNotIn("nobody foresaw", daemon.text)
        self.assertNotIn("withheld", daemon.text)

    async def test_journal_that_cannot_be_written_for_a_while(self):
        if not hasattr(resource, "prlimit"):
            raise SkipTest("only Linux limits another process")
        released = Deferred()

        async def wait(request):
            await released
            return completion(answer_to(prompt_of(request)))

        self.openai.script = wait
        daemon = self.daemon()
        process = await daemon.start()
        asked = await daemon.accepted("text")
        await until(lambda: self.openai.asks, "an ask")
        pid = process.transport.pid
        before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, before[1]))  # as if the disk were full
        answer = await daemon.post("text")
        self.assert_problem(answer, 503)
        self.assertGreater(int(answer.header("retry-after")), 0)
        status, word, checks = await daemon.checks()
        self.assertEqual((status, word), (503, "not ready"))
        self.assertNotEqual(checks["journal"], "ok")
        self.assertEqual((await daemon.get("/healthz")).status, 200)
        self.assertEqual((await daemon.record(asked))["state"], "accepted")
        released.callback(None)
        # An answer is on the disk before its delivery.
        await throughout(0.5, lambda: not self.target.requests, "it delivered")
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)
        record = await daemon.reaches(asked, "delivered")
        self.assertEqual((record["asks"], record["deliveries"]), (1, 1))

        async def healed():
            return (await daemon.checks())[:2] == (200, "ready")

        await until(healed, "the journal's recovery")
        self.assertIn("r=98;", (await daemon.post("text")).header("ratelimit"))
        await until(lambda: len(self.target.events) == 2, "two events")
