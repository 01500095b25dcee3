"""The Display sink: what it takes, what it prints, and what it says to the rest."""

import base64
import json
import os
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from functools import partial
from io import StringIO, TextIOWrapper
from queue import SimpleQueue
from typing import Any, BinaryIO, cast

import treq
from cloudevents.core.bindings.http import to_binary, to_structured
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.application.service import IService
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactor, StringTransport
from twisted.logger import capturedLogs, formatEvent
from twisted.python import usage
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.client import Agent, HTTPConnectionPool
from twisted.web.http_headers import Headers

from chatgpt_source import display
from chatgpt_source.cloudevent import is_source, is_string
from chatgpt_source.display import (
    MAX_BODY,
    DisplayService,
    DisplaySite,
    Options,
    printer,
    rendering,
)
from chatgpt_source.display.printer import PATIENCE, Printer, Unread
from chatgpt_source.display.rendering import render_events
from chatgpt_source.http.listen.probe import probe_port
from chatgpt_source.http.listen.string import PortUnavailable
from chatgpt_source.http.server import Problem
from chatgpt_source.http.server.events import check_event, parse_json, read_events
from chatgpt_source.log import lines
from tests.http.server.test_events import BATCH, CE, EVENT, STRUCTURED, RefusalCase, read


def render_event(event: Any, encoding: str | None) -> str:
    text = render_events([event], encoding)
    assert text.endswith("}\n")
    return text[:-1]


class RenderTests(RefusalCase):
    def test_deep_data(self) -> None:
        deep = b'{"specversion":"1.0","id":"1","source":"/","type":"t","data":%b}'
        for depth in (100, 300, 500, 900, 970, 990, 2000):
            body = deep % (b"[" * depth + b"]" * depth)
            try:
                rendered = render_event(check_event(parse_json(body)), None)
            except Problem as error:
                self.assertIn("deeply", error.detail)
                self.assertGreater(depth, 300)
            else:
                self.assertEqual(rendered.count("["), depth)

    def test_too_deep_to_print(self) -> None:
        data: list[Any] = []
        for _ in range(10_000):
            data = [data]
        self.refused("deeply", render_event, {**EVENT, "data": data}, None)

    def test_too_long_when_indented(self) -> None:
        deep = json.loads("[" * 100 + "]" * 100)
        self.patch(rendering, "MAX_TEXT", 200_000)
        event = {**EVENT, "data": [deep] * 5}
        self.assertEqual(render_events([event], None).count("["), 501)
        self.refused("over 200000", render_events, [event] * 2, None, status=413)

    def test_readable(self) -> None:
        self.assertEqual(render_event({"a": "ü"}, None), '{\n  "a": "ü"\n}')

    def test_what_the_stream_or_terminal_cannot_take(self) -> None:
        for text, encoding in (("\ud800", None), ("ü", "ascii"), ("\x9b\x7f\x1b[2J", None)):
            rendered = render_event({"data": text}, encoding)
            self.assertTrue(rendered.isascii() and rendered.replace("\n", "").isprintable())
            self.assertEqual(json.loads(rendered), {"data": text})


strings = st.text(st.characters(codec="utf-8"), min_size=1).filter(is_string)
uris = st.text("abcXYZ019-._~:/?@!$&'()*+,;=", min_size=1).filter(is_source)
times = st.datetimes(
    timezones=st.integers(-1439, 1439).map(lambda m: timezone(timedelta(minutes=m)))
)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
attributes = st.fixed_dictionaries(
    {"id": strings, "source": uris, "type": strings, "specversion": st.just("1.0"), "time": times},
    optional={"subject": strings, "ext": strings, "dataschema": uris.map("urn:x".__add__)},
)


class LibraryTests(SynchronousTestCase):
    """What the library writes is read back as it was."""

    def same(self, event: CloudEvent, shown: dict[str, Any]) -> None:
        sent = dict(event.get_attributes())
        got = {name: value for name, value in shown.items() if name not in ("data", "data_base64")}
        written = got["time"].replace("Z", "+00:00")
        # Python 3.10 reads 3 or 6 decimals, and the library writes none or 6.
        self.assertEqual(datetime.fromisoformat(written), sent["time"])
        self.assertEqual({**got, "time": 0}, {**sent, "time": 0})

    @settings(deadline=None)
    @given(attributes, json_values, st.binary())
    def test_structured(self, attributes: dict[str, Any], value: Any, octets: bytes) -> None:
        for data, content_type in ((value, "application/json"), (octets, "image/png")):
            event = CloudEvent({**attributes, "datacontenttype": content_type}, data)
            message = to_structured(event, JSONFormat())
            [shown] = read(message.body, message.headers)
            self.same(event, shown)
            self.assertEqual(json.loads(render_event(shown, None)), shown)
            if isinstance(data, bytes):
                self.assertEqual(base64.b64decode(shown["data_base64"]), data)
            else:
                self.assertEqual(shown.get("data"), data)

    @settings(deadline=None)
    @given(attributes, json_values, strings, st.binary(min_size=1))
    def test_binary(self, attributes: dict[str, Any], value: Any, text: str, octets: bytes) -> None:
        for data, content_type in (
            (json.dumps(value).encode(), "application/json"),
            (text.encode(), "text/plain"),
            (octets, "image/png"),
        ):
            event = CloudEvent({**attributes, "datacontenttype": content_type}, data)
            message = to_binary(event, JSONFormat())
            [shown] = read(message.body, message.headers)
            self.same(event, shown)
            self.assertEqual(json.loads(render_event(shown, None)), shown)
            if content_type == "application/json":
                self.assertEqual(shown["data"], value)
            elif "data" in shown:
                self.assertEqual(shown["data"].encode(), data)
            else:
                self.assertEqual(base64.b64decode(shown["data_base64"]), data)

    @settings(deadline=None)
    @given(
        st.dictionaries(
            st.sampled_from([*CE, "content-type", "ce-time", "ce-data", "ce-x"]), st.text()
        ),
        st.sampled_from([STRUCTURED, BATCH, "application/json", "text/plain", None]),
        st.binary() | json_values.map(lambda value: json.dumps(value).encode()),
    )
    def test_anything_else_is_refused(
        self, fuzz: dict[str, str], content_type: str | None, body: bytes
    ) -> None:
        known = {**CE, **({"content-type": content_type} if content_type else {})}
        headers = {**known, **{name: text.replace("\0", "") for name, text in fuzz.items()}}
        raw = {name: [text.encode(errors="replace")] for name, text in headers.items()}
        try:
            events = read_events(Headers(cast(Any, raw)), body)
        except Problem as error:
            self.assertIn(error.status, (400, 415))
            json.dumps(error.detail).encode()
        else:
            for event in events:
                self.assertEqual(json.loads(render_event(event, None)), event)


class SiteTests(SynchronousTestCase):
    """The site over an in-memory connection."""

    def setUp(self) -> None:
        self.out = StringIO()
        self.connect(self.out)

    def connect(self, out: Any) -> None:
        self.clock = Clock()
        self.site = DisplaySite(out, cast(Any, self.clock))
        self.site.doStart()
        self.addCleanup(self.site.doStop)
        self.transport = StringTransport()
        self.channel = cast(Protocol, self.site.buildProtocol(None))
        self.channel.makeConnection(self.transport)
        self.addCleanup(self.channel.connectionLost, Failure(ConnectionResetError()))

    def send(
        self,
        method: str = "POST",
        path: str = "/",
        headers: dict[str, str] | None = None,
        body: bytes = b"",
        *,
        chunked: bool = False,
    ) -> tuple[int, Headers, bytes]:
        framing = (
            {"transfer-encoding": "chunked"} if chunked else {"content-length": str(len(body))}
        )
        head_lines = [f"{method} {path} HTTP/1.1", "host: x"]
        head_lines += [f"{name}: {value}" for name, value in {**(headers or {}), **framing}.items()]
        self.transport.clear()
        self.channel.dataReceived("\r\n".join([*head_lines, "", ""]).encode())
        for start in range(0, len(body), 1 << 20):
            piece = body[start : start + (1 << 20)]
            self.channel.dataReceived(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
        if chunked:
            self.channel.dataReceived(b"0\r\n\r\n")
        head, _, content = self.transport.value().partition(b"\r\n\r\n")
        status, *fields = head.split(b"\r\n")
        got = Headers()
        for name, value in (field.split(b": ", 1) for field in fields):
            got.addRawHeader(name, value)
        return int(status.split()[1]), got, content

    def post(self, event: Any, content_type: str = STRUCTURED) -> tuple[int, Headers, bytes]:
        body = json.dumps(event).encode()
        return self.send("POST", "/", {"content-type": content_type}, body)

    def problem(self, answer: tuple[int, Headers, bytes], status: int, says: str) -> Headers:
        code, headers, body = answer
        self.assertEqual(code, status)
        self.assertEqual(headers.getRawHeaders("content-type"), ["application/problem+json"])
        problem = json.loads(body)
        self.assertEqual(set(problem), {"type", "title", "status", "detail"})
        self.assertEqual((problem["type"], problem["status"]), ("about:blank", status))
        self.assertRegex(problem["detail"], says)
        return headers

    def printed(self) -> list[Any]:
        decoder, text, found = json.JSONDecoder(), self.out.getvalue(), []
        while text:
            value, end = decoder.raw_decode(text)
            found.append(value)
            self.assertEqual(text[end], "\n")
            text = text[end + 1 :]
        return found

    def test_prints_and_counts(self) -> None:
        code, _, body = self.post(EVENT)
        self.assertEqual((code, body), (200, b""))
        self.assertEqual(self.out.getvalue(), json.dumps(EVENT, indent=2) + "\n")
        second = {**EVENT, "id": "2"}
        self.assertEqual(self.post([second, EVENT], BATCH)[0], 200)
        self.assertEqual(self.post([], BATCH)[0], 200)
        self.assertEqual(self.send("POST", "/any/path?x", CE, b"hello")[0], 200)
        self.assertEqual(self.printed(), [EVENT, second, EVENT, {**EVENT, "data": "hello"}])
        self.assertEqual(self.site.display.count, 4)

    def test_form_bodies_are_data(self) -> None:
        kind = "application/x-www-form-urlencoded"
        self.send("POST", "/", {**CE, "content-type": kind}, b"a=b&c")
        self.assertEqual(self.printed(), [{**EVENT, "datacontenttype": kind, "data": "a=b&c"}])
        broken = {**CE, "content-type": "multipart/form-data"}
        self.assertEqual(self.send("POST", "/", broken, b"no boundary")[0], 200)

    def test_malformed(self) -> None:
        self.problem(self.post({}), 400, "missing: specversion, id, source, type")
        self.problem(self.post("<x/>", "application/cloudevents+xml"), 415, "can't be read")
        self.problem(self.post([EVENT, {}], BATCH), 400, "index 1")
        deep = b'{"specversion":"1.0","id":"1","source":"/","type":"t","data":%b}'
        body = deep % (b"[" * 100_000 + b"]" * 100_000)
        self.problem(self.send("POST", "/", {"content-type": STRUCTURED}, body), 400, "deeply")
        self.assertEqual((self.out.getvalue(), self.site.display.count), ("", 0))
        self.assertEqual(self.post(EVENT)[0], 200)

    def test_methods(self) -> None:
        for method in ("GET", "PUT", "DELETE", "PATCH", "BREW"):
            headers = self.problem(self.send(method), 405, "POST")
            self.assertEqual(headers.getRawHeaders("allow"), ["OPTIONS, POST"])
        self.assertEqual(self.send("GET", "/healthz")[0], 200)
        self.assertEqual(self.send("HEAD", "/healthz")[0], 200)
        headers = self.problem(self.send("PUT", "/healthz"), 405, "GET")
        self.assertEqual(headers.getRawHeaders("allow"), ["GET, HEAD, OPTIONS, POST"])

    def test_webhook_handshake(self) -> None:
        for sent, origin in (({"WebHook-Request-Origin": "a.example"}, "a.example"), ({}, "*")):
            code, headers, _ = self.send("OPTIONS", "/", sent)
            self.assertEqual(code, 200)
            self.assertEqual(headers.getRawHeaders("webhook-allowed-origin"), [origin])
            self.assertEqual(headers.getRawHeaders("webhook-allowed-rate"), ["*"])
            self.assertEqual(headers.getRawHeaders("allow"), ["POST"])

    def test_body_limit(self) -> None:
        for chunked in (False, True):
            headers = {**CE, "content-type": "text/plain"}
            answer = self.send("POST", "/", headers, b"x" * (MAX_BODY + 1), chunked=chunked)
            self.problem(answer, 413, str(MAX_BODY))
            self.assertEqual(self.out.getvalue(), "")
        fits = self.send("POST", "/", headers, b"x" * MAX_BODY, chunked=True)
        self.assertEqual(fits[0], 200)

    def test_excess_is_not_held(self) -> None:
        head = f"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: {MAX_BODY * 3}\r\n\r\n"
        self.channel.dataReceived(head.encode())
        for _ in range(40):
            self.channel.dataReceived(b"x" * (1 << 20))
        [request] = cast(Any, self.channel).requests
        self.assertEqual(request.content.getvalue(), b"")
        self.assertEqual(self.transport.value(), b"")

    def test_broken_output(self) -> None:
        class Broken(StringIO):
            working = False

            def write(self, text: str) -> int:
                if not self.working:
                    raise BrokenPipeError(32, "Broken pipe")
                return super().write(text)

        self.out = out = Broken()
        self.connect(out)
        for _ in range(2):
            self.problem(self.post(EVENT), 500, "Broken pipe")
        self.assertEqual(self.site.display.count, 0)
        out.working = True
        self.assertEqual(self.post(EVENT)[0], 200)
        self.assertEqual((self.printed(), self.site.display.count), ([EVENT], 1))
        out.close()
        self.problem(self.post(EVENT), 500, "closed file")

    def test_narrow_output(self) -> None:
        with open("out", "wb") as raw:  # noqa: PTH123 - trial runs in a directory of its own
            self.connect(TextIOWrapper(cast(BinaryIO, raw), "ascii", newline="\n"))
            self.assertEqual(self.post({**EVENT, "data": "ü"})[0], 200)
        with open("out", "rb") as written:  # noqa: PTH123
            self.assertIn(b'"data": "\\u00fc"\n', written.read())


class ThreadClock(Clock):
    """A clock that others' threads may have calls made on."""

    def __init__(self) -> None:
        super().__init__()
        self.from_threads: SimpleQueue[Callable[[], None]] = SimpleQueue()

    def callFromThread(self, call: Callable[..., None], *args: Any) -> None:
        self.from_threads.put(partial(call, *args))


class PrinterTests(SynchronousTestCase):
    """On a pipe."""

    def setUp(self) -> None:
        self.read, write = os.pipe()
        self.out = os.fdopen(write, "w")
        self.addCleanup(self.shut)
        self.clock = ThreadClock()
        self.printer = Printer(self.out, self.clock)
        os.set_blocking(write, False)
        self.filled = 0
        try:
            while True:
                self.filled += os.write(write, b"-" * 4096)
        except BlockingIOError:
            os.set_blocking(write, True)

    def shut(self) -> None:
        os.close(self.read)
        shared = lines._shared.pop(self.out.fileno())
        shared.flush(20)  # an error ends what still waits
        self.out.close()

    def print(self, data: bytes) -> "Deferred[None]":
        return Deferred.fromCoroutine(self.printer.print(data))

    def drain(self, size: int) -> bytes:
        got = b""
        while len(got) < size:
            got += os.read(self.read, size - len(got))
        return got

    def empty(self) -> None:
        self.drain(self.filled)

    def call(self) -> None:
        """Make the next call from a thread."""
        self.clock.from_threads.get(timeout=20)()

    def print_at_last(self, data: bytes) -> "Deferred[None]":
        """Print where there is room; the thread may be about to end what it did, and print it."""
        printing = self.print(data)
        if not printing.called:
            self.call()
        return printing

    def test_it_waits_until_it_is_printed(self) -> None:
        printing = self.print(b"data")
        self.assertNoResult(printing)
        self.empty()
        self.call()
        self.successResultOf(printing)
        self.assertEqual(self.drain(4), b"data")
        self.successResultOf(self.print_at_last(b"more"))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_it_does_not_wait_long_and_is_not_printed_then(self) -> None:
        first, second = self.print(b"first"), self.print(b"second")
        self.clock.advance(PATIENCE)
        self.failureResultOf(first, Unread)
        self.failureResultOf(second, Unread)
        self.failureResultOf(self.print(b"third"), Unread)  # at once
        self.empty()
        self.successResultOf(self.print_at_last(b"fourth"))
        self.assertEqual(self.drain(6), b"fourth")

    def test_what_was_begun_is_printed_once(self) -> None:
        self.empty()
        large = b"x" * 300_000
        for _ in range(2):
            printing = self.print(large)
            self.assertNoResult(printing)
            self.clock.advance(PATIENCE)
            self.failureResultOf(printing, Unread)
        waiting = self.print(large)
        self.assertEqual(self.drain(300_000), large)
        self.call()
        self.successResultOf(waiting)
        self.successResultOf(self.print_at_last(b"next"))
        self.assertEqual(self.drain(4), b"next")

    def test_what_was_begun_may_be_printed_before_it_is_sent_again(self) -> None:
        self.empty()
        large = b"x" * 300_000
        self.failureResultOf(self.late(large), Unread)
        self.drain(300_000)
        self.call()
        self.successResultOf(self.print(large))
        again = self.print(large)  # that is another
        self.assertNoResult(again)
        self.drain(300_000)
        self.call()
        self.successResultOf(again)

    def late(self, data: bytes) -> "Deferred[None]":
        printing = self.print(data)
        self.clock.advance(PATIENCE)
        return printing

    def test_what_waits_is_bounded(self) -> None:
        self.patch(printer, "MOST_WAITING", 1000)
        first, second = self.print(b"x" * 2000), self.print(b"y")
        self.assertNoResult(first)
        self.failureResultOf(second, Unread)
        self.empty()
        self.call()
        self.successResultOf(first)
        self.drain(2000)

    def test_the_reader_goes(self) -> None:
        printing = self.print(b"data")
        os.close(self.read)
        self.call()
        self.failureResultOf(printing, BrokenPipeError)
        self.failureResultOf(self.print_at_last(b"data"), BrokenPipeError)
        self.read = os.open(os.devnull, os.O_RDONLY)

    def test_a_stop(self) -> None:
        self.successResultOf(Deferred.fromCoroutine(self.printer.stop()))
        printing = self.print(b"data")
        stopping = Deferred.fromCoroutine(self.printer.stop())
        self.clock.pump([0.02] * 20)
        self.assertNoResult(stopping)
        self.clock.pump([0.02] * 20)
        self.successResultOf(stopping)
        self.failureResultOf(printing, Unread)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class ServiceTests(SynchronousTestCase):
    def test_options(self) -> None:
        for args, port in (([], 8080), (["--port", "31081"], 31081), (["-p", "65535"], 65535)):
            options = Options()
            options.parseOptions(args)
            self.assertEqual(options["port"], port)
        for bad in ("0", "65536", "-1", "x", "", "8_0", "٣", "9" * 5000, "0000011111"):
            with self.assertRaisesRegex(
                usage.UsageError, r"^--port must be .*65535, not '[^\n]*'$"
            ):
                Options().parseOptions(["--port", bad])

    def test_listens_while_it_runs(self) -> None:
        memory = MemoryReactor()
        site = DisplaySite(StringIO(), cast(Any, Clock()))
        service = DisplayService(cast(Any, memory), 31081, "::", site)
        with capturedLogs() as logged:
            service.privilegedStartService()
            service.startService()
        self.assertEqual(memory.tcpServers, [(31081, site, 1024, "::")])
        ready = "the Display sink prints the events that arrive at port 31081"
        self.assertEqual([formatEvent(each) for each in logged], [ready])
        self.assertIsNone(self.successResultOf(service.stopService()))

    def test_stops_without_a_start(self) -> None:
        service = DisplayService(
            cast(Any, MemoryReactor()), 1, "::", DisplaySite(StringIO(), cast(Any, Clock()))
        )
        self.assertIsNone(self.successResultOf(service.stopService()))


class PortTests(TestCase):
    """Over a real port."""

    def listen(self, interface: str) -> int:
        site = DisplaySite(StringIO(), cast(Any, reactor))
        service = DisplayService(cast(Any, reactor), 0, interface, site)
        service.privilegedStartService()
        service.startService()
        self.addCleanup(service.stopService)
        self.site = site
        return cast(Any, service._listening).getHost().port

    def test_post(self) -> Deferred[None]:
        async def run() -> None:
            port = self.listen("127.0.0.1")
            pool = HTTPConnectionPool(reactor, persistent=False)
            client = treq.client.HTTPClient(Agent(reactor, pool=pool))
            response = await client.post(f"http://127.0.0.1:{port}/", data=b"hello", headers=CE)
            self.assertEqual(response.code, 200)
            self.assertEqual(await response.content(), b"")
            self.assertEqual(self.site.display.count, 1)

        return Deferred.fromCoroutine(run())

    def test_busy_port(self) -> None:
        port = self.listen(probe_port(0))
        options = Options()
        options.parseOptions(["--port", str(port)])
        error = self.assertRaises(SystemExit, display.makeService, options)
        self.assertRegex(str(error.code), rf"^port {port} .* \(Address already in use\): [^\n]+$")
        self.assertRaises(PortUnavailable, self.listen_on, port)

    def listen_on(self, port: int) -> None:
        site = DisplaySite(StringIO(), cast(Any, reactor))
        DisplayService(cast(Any, reactor), port, "::", site).privilegedStartService()

    def test_makes_a_service(self) -> None:
        options = Options()
        options.parseOptions(["--port", "31081"])
        self.patch(display, "probe_port", lambda _port: "::")
        self.assertTrue(IService.providedBy(display.makeService(options)))
