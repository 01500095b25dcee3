"""Models and targets that make trouble for more than the calls made to them."""

import signal
import time
from collections import Counter
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.protocol import Factory, Protocol

from tests.e2e.processes import Daemon, DaemonCase, free_port, together, until, worked
from tests.fakes.openai import answer_to, completion, prompt_of
from tests.fakes.server import Reply

NAME = "target.test"
PROMPT_SECONDS = 8.0
"""Seconds in which a prompt is answered on a busy machine; else it takes some hundredths."""


class NameTests(DaemonCase):
    """A target whose name servers do not answer, and a model that has a name."""

    def setUp(self):
        super().setUp()
        self.openai.script = lambda request: completion(
            answer_to(prompt_of(request)), headers={"Connection": "close"}
        )

    async def test_a_name_that_takes_long_holds_up_no_others(self):
        config = self.config(
            target=f"http://{NAME}:9/",
            base_url=f"http://localhost:{self.openai.port}/v1",
            drain_timeout=1,
        )
        daemon = Daemon(self, config, slow_name=(NAME, 12.0))
        await daemon.start()
        for number in range(30):  # each takes a look at the target's name
            await daemon.accepted(f"first {number}")
        await until(lambda: len(self.openai.asks) == 30, "thirty asks")
        for number in range(5):
            prompt_id = await daemon.accepted(f"second {number}")
            started = time.monotonic()
            await daemon.reaches(prompt_id, "answered")
            self.assertLess(time.monotonic() - started, PROMPT_SECONDS)
        started = time.monotonic()
        await daemon.stop(signal.SIGTERM)
        self.assertLess(time.monotonic() - started, 1 + PROMPT_SECONDS)


class ClosingTests(DaemonCase):
    """Peers that close each connection soon after an answer, so that the next request meets it."""

    PROMPTS = 300

    async def test_no_prompt_fails_and_none_is_answered_twice(self):
        answered, delivered = Counter(), Counter()

        def script(request):
            return completion(answer_to(prompt_of(request)), delay=0.01)

        self.openai.script = script
        self.openai.answered = lambda request: answered.update(
            [prompt_of(request)] if request.method == "POST" else []
        )
        self.openai.lingers = self.target.lingers = 0.02
        daemon = self.daemon(concurrency=8, everyday_limit=10 * self.PROMPTS)
        await daemon.start()
        prompts = [f"prompt {number}" for number in range(self.PROMPTS)]
        ids = [await daemon.accepted(prompt) for prompt in prompts]

        def arrived():
            return len({event["id"] for event in self.target.events}) == len(ids)

        await until(arrived, "every event", 60)  # before 300 ask for their records all the time

        async def end(prompt_id):
            return await daemon.reaches(
                prompt_id, lambda record: record["state"] in {"delivered", "failed"}
            )

        records = await together(*(end(prompt_id) for prompt_id in ids))
        delivered.update(event["id"] for event in self.target.events)
        self.assertEqual(Counter(record["state"] for record in records), {"delivered": len(ids)})
        self.assertEqual({record["asks"] for record in records}, {1})
        self.assertEqual(answered, Counter(prompts))
        self.assertEqual(set(delivered), set(ids))
        self.assertLessEqual(max(Counter(map(prompt_of, self.openai.asks)).values()), 2)
        self.assert_fair()


class Flood(Factory):
    """Answers each request, which it does not read, with the same bytes."""

    noisy = False

    def __init__(self, answer):
        self.answer = answer
        self.connections = []

    def buildProtocol(self, _):
        return _Flooding(self)


class _Flooding(Protocol):
    def __init__(self, flood):
        self.flood = flood

    def connectionMade(self):
        self.flood.connections.append(self)

    def dataReceived(self, data):
        if data.startswith(b"POST"):
            self.transport.write(self.flood.answer)


class FloodTests(DaemonCase):
    """Answers that take long to read."""

    CALLS = 64

    async def flooded(self, answer, words):
        """Ask for an answer so many times at once; how long it let others wait, what it took.

        The first is its own time, whatever else the machine does.
        """
        flood = Flood(answer)
        port = reactor.listenTCP(free_port(), flood, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        daemon = self.daemon(
            base_url=f"http://127.0.0.1:{port.getHost().port}/v1", concurrency=self.CALLS
        )
        process = await daemon.start()
        before = peak(process.transport.pid)
        ids = [await daemon.accepted(f"prompt {number}") for number in range(self.CALLS)]
        waits = []

        async def all_told():
            started = worked(process.transport.pid)
            await daemon.get("/healthz")
            waits.append(worked(process.transport.pid) - started)
            records = [await daemon.record(prompt_id) for prompt_id in ids[-2:] + ids[:2]]
            return all(record["error"] and words in record["error"] for record in records)

        await until(all_told, f"all to end so: {words}; it said {daemon.text[-500:]}", 40)
        taken = peak(process.transport.pid) - before
        await daemon.kill()
        for connection in flood.connections:
            connection.transport.abortConnection()
        return max(waits), taken

    async def test_in_tiny_chunks(self):
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        answer = head + b"2\r\nxx\r\n" * 2**20 + b"0\r\n\r\n"
        waited, taken = await self.flooded(answer, "too many chunks")
        self.assertLess(waited, 0.5)
        self.assertLess(taken, 32 * 2**20)

    async def test_of_many_members(self):
        body = b'{"choices": [' + b"[]," * 600_000 + b"[]]}"
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        waited, taken = await self.flooded(answer, "too many members")
        self.assertLess(waited, 0.5)
        self.assertLess(taken, 64 * 6 * 2**20)


class MetadataTests(DaemonCase):
    async def test_what_a_provider_says_of_a_call_is_bounded(self):
        """A model's name of a megabyte would stand in the journal as long as the prompt does."""
        mark = b"ECHOMARK"
        reply = completion("the answer").body.replace(b'"gpt-6-luna"', b'"%b"' % (mark * 10**5))
        self.openai.script = lambda _: Reply(200, reply, {"Content-Type": "application/json"})
        daemon = self.daemon(include=["model", "usage"])
        await daemon.start()
        prompt_id = await daemon.accepted("what is vanus")
        await daemon.reaches(prompt_id, "delivered")
        await daemon.stop()
        for name, content in daemon.files().items():
            self.assertNotIn(mark, content, name)
        (event,) = self.target.events
        self.assertEqual(event["data"]["usage"]["total_tokens"], 7)


def peak(pid):
    """The most memory a process had, in bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024
