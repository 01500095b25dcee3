"""Daemons that share a port: both get callers, and a stop of one resets none of them."""

import re
import signal
from collections import Counter

from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.error import ConnectError

from tests.e2e.processes import (
    LOG_TO_STDOUT,
    STARTED,
    Daemon,
    DaemonCase,
    Wire,
    call,
    free_port,
    throughout,
    together,
    until,
)
from tests.fakes.openai import answer_to, completion, prompt_of

ENDED_WELL = (0, -signal.SIGTERM)
CALLERS = 12
ARRIVED = r"(?m)^chatgpt_source_prompts_arrived_total\S* (\S+)$"


class SharedPortTests(DaemonCase):
    def setUp(self):
        super().setUp()
        self.port = free_port()

    def make(self, **settings):
        """A daemon at the shared port, with an admin site of its own."""
        admin = free_port()
        config = self.config(
            listen=f"tcp:{self.port}:interface=127.0.0.1:reusePort=yes",
            admin=f"tcp:{admin}:interface=127.0.0.1",
            everyday_limit=100_000,
            **settings,
        )
        del config["port"]
        daemon = Daemon(self, config)
        daemon.port, daemon.admin = self.port, admin
        return daemon

    async def start(self):
        """Start one; its admin site says when it is ready, as the port may be the other's."""
        daemon = self.make()
        process = daemon.launch("--nodaemon", "--pidfile=", f"--rundir={daemon.dir}", LOG_TO_STDOUT)
        await until(lambda: self.has_started(daemon, process), "a start", STARTED)
        return daemon

    async def has_started(self, daemon, process):
        assert process.status is None, process.text
        try:
            return (await self.metrics(daemon)).status == 200
        except CancelledError:
            raise
        except Exception:  # noqa: BLE001 - it may fail in many ways while nobody listens
            return False

    async def metrics(self, daemon):
        return await call("GET", f"http://127.0.0.1:{daemon.admin}/metrics")

    async def arrived(self, daemon):
        """How many prompts arrived at one of them."""
        text = (await self.metrics(daemon)).body.decode()
        return sum(map(float, re.findall(ARRIVED, text)))

    async def test_a_stop_resets_no_caller(self):
        # The stop waits for the calls under way, so the last callers have time to be answered.
        self.openai.script = lambda request: completion(answer_to(prompt_of(request)), delay=0.3)
        first, second = await self.start(), await self.start()
        outcomes, going = Counter(), True

        async def outcome(text):
            try:
                return (await first.post(text)).status
            except Exception as error:  # noqa: BLE001 - it is counted
                return repr(error)

        async def caller(name):
            while going:
                outcomes[await outcome(f"prompt of {name}")] += 1

        callers = gatherResults([Deferred.fromCoroutine(caller(n)) for n in range(CALLERS)])
        await until(lambda: outcomes[202] > 200, "202s")
        for daemon in (first, second):
            self.assertGreater(await self.arrived(daemon), 20)
        self.assertIn(await first.stop(), ENDED_WELL)
        before = outcomes[202]
        await until(lambda: outcomes[202] > before + 100, "202s of the other")
        going = False
        await callers
        self.assertLessEqual(set(outcomes), {202, 503}, outcomes)
        self.assert_fair()

    async def test_who_waits_to_be_accepted_is_answered_at_a_stop(self):
        first, _ = await self.start(), await self.start()
        for _ in range(CALLERS):  # after these, Twisted accepts few at a turn
            await first.accepted("text")
        first.process.signal(signal.SIGSTOP)  # so that half of the callers wait at its socket
        callers = await together(*(Wire.connect(self.port) for _ in range(4 * CALLERS)))
        for caller in callers:
            caller.send(b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 4\r\n\r\ntext")
        first.process.signal(signal.SIGTERM)
        first.process.signal(signal.SIGCONT)
        statuses = Counter([(await caller.answer()).status for caller in callers])
        self.assertIn(await first.process.end(), ENDED_WELL)
        for caller in callers:
            caller.close()
        self.assertLessEqual(set(statuses), {202, 503}, statuses)
        self.assert_fair()

    async def test_a_kept_connection_is_closed_at_a_stop(self):
        held = Deferred()

        async def hold(request):
            waiter = Deferred()
            held.addCallback(lambda _: waiter.callback(None))
            await waiter
            return completion(answer_to(prompt_of(request)))

        self.openai.script = hold
        daemon = await self.start()
        wire = await Wire.connect(self.port)
        request = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\ntext"
        wire.send(request)
        self.assertEqual((await wire.answer()).status, 202)
        await until(lambda: self.openai.asks, "an ask")
        daemon.process.signal(signal.SIGTERM)
        await until(lambda: self.is_refused(self.port), "a closed port")
        wire.send(request)
        answer = await wire.answer()
        self.assert_problem(answer, 503)
        self.assertEqual(answer.header("connection"), "close")
        await until(lambda: wire.closed, "a closed connection")
        held.callback(None)
        self.assertIn(await daemon.process.end(), ENDED_WELL)

    async def test_a_stop_waits_for_the_request_of_who_has_connected(self):
        daemon = await self.start()
        wire = await Wire.connect(self.port)
        daemon.process.signal(signal.SIGTERM)
        await until(lambda: self.is_refused(self.port), "a closed port")
        await throughout(0.2, lambda: not wire.closed, "it has ended the connection")
        wire.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nlate")
        answer = await wire.answer()
        self.assertEqual(answer.status, 202, answer.body)
        self.assertIn(await daemon.process.end(), ENDED_WELL)

    async def is_refused(self, port):
        try:
            (await Wire.connect(port)).close()
        except ConnectError:
            return True

    async def test_a_check_beside_them(self):
        await self.start()
        process = self.make().launch(arguments=("chatgpt-source", "--check"))
        self.assertEqual(await process.end(), 0, process.text)
        where = f"tcp:{self.port}:interface=127.0.0.1:reusePort=yes"
        self.assertIn(f"listens:  {where}\n", process.text)
        alone = self.daemon(port=self.port).launch(arguments=("chatgpt-source", "--check"))
        self.assertEqual(await alone.end(), 1, alone.text)
        self.assertIn(f"port {self.port} can't be listened on", alone.text)

    async def test_beside_one_that_does_not_share(self):
        other = self.daemon(port=self.port)
        await other.start()
        for status, text in await self.make().fail_both_ways():
            self.assertEqual(status, 1, text)
            self.assertIn("by what does not share it", text)
