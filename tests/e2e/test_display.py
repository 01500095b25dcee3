"""The Display sink as its users start it: a twistd process."""

import errno
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.e2e.processes import free_port

ROOT = Path(__file__).parent.parent.parent
TWISTD = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()"]
EVENT = {"specversion": "1.0", "id": "1", "source": "/tests", "type": "t"}
STRUCTURED = {"content-type": "application/cloudevents+json"}
BATCH = {"content-type": "application/cloudevents-batch+json"}
BINARY = {**{f"ce-{name}": value for name, value in EVENT.items()}, "content-type": "text/plain"}
PATIENCE = 30


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {PATIENCE} s for: {what}")
        time.sleep(0.02)


def accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError as error:
        return error.errno != errno.ESRCH
    state = Path(f"/proc/{pid}/stat")  # an orphan may stay a zombie where nothing reaps it
    return not (state.exists() and state.read_text().rpartition(")")[2].split()[0] == "Z")


def status_of_get(port: int, path: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


def post(port: int, headers: dict[str, str], body: Any) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request(
            "POST", "/", body if isinstance(body, bytes) else json.dumps(body), headers
        )
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


class ProcessCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.dir = Path(self.mktemp()).absolute()
        self.dir.mkdir(parents=True)
        self.out, self.err = self.dir / "out", self.dir / "err"
        self.port = free_port()

    def command(self, *how: str) -> list[str]:
        return [*TWISTD, *how, "cloudevents-display", "--port", str(self.port)]

    def environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(ROOT)}

    def start(self, *how: str, stdout: Any = None) -> "subprocess.Popen[bytes]":
        with self.out.open("wb") as out, self.err.open("wb") as err:
            process = subprocess.Popen(
                self.command("--nodaemon", "--pidfile=", *how),
                cwd=self.dir,
                env=self.environment(),
                stdout=stdout or out,
                stderr=err,
            )
        self.addCleanup(process.wait, PATIENCE)
        self.addCleanup(process.kill)
        wait_until(lambda: process.poll() is not None or accepts(self.port), "the port to open")
        self.assertIsNone(process.poll(), self.err.read_text())
        return process

    def start_second(self, *how: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            self.command(*how),
            cwd=self.dir,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )


class ProcessTests(ProcessCase):
    def test_prints_what_it_receives(self) -> None:
        process = self.start("--logfile", "log")
        event = {**EVENT, "data": {"content": "Grüße"}}
        self.assertEqual(post(self.port, STRUCTURED, event), (200, b""))
        self.assertEqual(post(self.port, BINARY, "grüße".encode()), (200, b""))
        self.assertEqual(post(self.port, BATCH, [EVENT, event]), (200, b""))
        status, problem = post(self.port, STRUCTURED, {})
        self.assertEqual((status, json.loads(problem)["title"]), (400, "Bad Request"))
        binary = {**EVENT, "datacontenttype": "text/plain", "data": "grüße"}
        expected = "".join(
            json.dumps(shown, indent=2, ensure_ascii=False) + "\n"
            for shown in (event, binary, EVENT, event)
        )
        self.assertEqual(self.out.read_text("utf-8"), expected)
        process.send_signal(signal.SIGTERM)
        self.assertIn(process.wait(PATIENCE), (0, -signal.SIGTERM))
        self.assertEqual(self.err.read_text(), "")
        log = (self.dir / "log").read_text()
        self.assertIn("event 1: id '1', type 't'", log)
        self.assertIn("4 events, with a batch of 2", log)
        for unwanted in ("Gr", "HTTP/1.1", "Traceback"):  # no data, no access log
            self.assertNotIn(unwanted, log)

    def test_the_log_may_share_stdout(self) -> None:
        self.start()
        self.assertEqual(post(self.port, STRUCTURED, EVENT), (200, b""))
        wait_until(lambda: "event 1: id '1'" in self.out.read_text(), "the log line")
        self.assertIn(json.dumps(EVENT, indent=2) + "\n", self.out.read_text())

    def test_busy_port_is_one_line(self) -> None:
        self.start()
        for how in (["--nodaemon", "--pidfile="], ["--pidfile", "second.pid"]):
            second = self.start_second(*how)
            self.assertEqual(second.returncode, 1)
            self.assertRegex(
                second.stdout + second.stderr,
                rf"\Aport {self.port} can't be listened on \(Address already in use\): .+\n\Z",
            )
            self.assertFalse((self.dir / "second.pid").exists())

    def test_bad_port(self) -> None:
        self.port = 0
        bad = self.start_second("--nodaemon", "--pidfile=")
        self.assertEqual(bad.returncode, 1)
        last = (bad.stdout + bad.stderr).splitlines()[-1]
        self.assertRegex(last, "--port must be a whole number from 1 to 65535, not '0'$")
        self.assertNotIn("Traceback", bad.stdout + bad.stderr)

    def test_daemonised(self) -> None:
        started = self.start_second("--pidfile", "display.pid", "--logfile", "log")
        self.assertEqual((started.returncode, started.stdout + started.stderr), (0, ""))
        pid = int((self.dir / "display.pid").read_text())
        self.addCleanup(lambda: alive(pid) and os.kill(pid, signal.SIGKILL))
        wait_until(lambda: accepts(self.port), "the port to open")
        self.assertEqual(post(self.port, STRUCTURED, EVENT), (200, b""))
        self.assertIn("event 1: id '1'", (self.dir / "log").read_text())
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda: not alive(pid), "the daemon to end")

    def test_reader_of_stdout_is_gone(self) -> None:
        reading, writing = os.pipe()
        process = self.start("--logfile", "log", stdout=writing)
        os.close(writing)
        os.close(reading)
        for _ in range(3):
            status, problem = post(self.port, STRUCTURED, EVENT)
            self.assertEqual(status, 500)
            self.assertIn("Broken pipe", json.loads(problem)["detail"])
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE)
        log = (self.dir / "log").read_text() + self.err.read_text()
        self.assertEqual(log.count("events can't be printed"), 1)
        self.assertNotIn("Traceback", log)


LOG_LINE = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z (info|warn|error) .*\n")


class Pipe:
    """A standard output that is read when it is told to."""

    def __init__(self, case: SynchronousTestCase) -> None:
        self._reading, self.stdout = os.pipe()
        self._text = bytearray()
        self._thread = threading.Thread(target=self._read_all, daemon=True)
        case.addCleanup(self._end)

    def _end(self) -> None:
        if self._thread.ident is not None:
            self._thread.join(PATIENCE)
        os.close(self._reading)

    def read(self) -> None:
        """Read on, until the other end is closed."""
        self._thread.start()

    def _read_all(self) -> None:
        while data := os.read(self._reading, 2**16):
            self._text += data

    def close(self) -> None:
        os.close(self.stdout)

    def events(self) -> list[Any]:
        """What was printed between the log's lines, once nobody writes any more."""
        self._thread.join(PATIENCE)
        lines = self._text.decode().splitlines(keepends=True)
        text = "".join(line for line in lines if not LOG_LINE.fullmatch(line))
        decoder, found, at = json.JSONDecoder(), [], 0
        while at < len(text):
            event, at = decoder.raw_decode(text, at)
            found.append(event)
            at += 1  # the newline
        return found


class UnreadTests(ProcessCase):
    """Nobody reads stdout, for a while."""

    def start_unread(self, *how: str) -> "tuple[subprocess.Popen[bytes], Pipe]":
        pipe = Pipe(self)
        process = self.start(*how, stdout=pipe.stdout)
        pipe.close()
        return process, pipe

    def send(self, number: int, size: int = 500) -> int:
        event = {**EVENT, "id": str(number), "data": "x" * size}
        began = time.monotonic()
        status, body = post(self.port, STRUCTURED, event)
        self.assertLess(time.monotonic() - began, 10)
        if status != 200:
            self.assertEqual(status, 503)
            self.assertIn("the output is not read", json.loads(body)["detail"])
        return status

    def send_until_printed(self, number: int, size: int = 500) -> None:
        wait_until(lambda: self.send(number, size) == 200, f"event {number} to be printed")

    def stop(self, process: "subprocess.Popen[bytes]") -> None:
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        process.wait(20)
        self.assertLess(time.monotonic() - began, 15)
        self.assertEqual(self.err.read_text(), "")

    def test_senders_are_told_and_each_event_is_printed_once(self) -> None:
        for how in ([], ["--logfile", "log"]):
            process, pipe = self.start_unread(*how)
            with ThreadPoolExecutor(16) as pool:
                sending = pool.map(self.send, range(300))
                self.assertEqual(status_of_get(self.port, "/healthz"), 200)
                statuses = list(sending)
                self.assertEqual(status_of_get(self.port, "/healthz"), 200)
                self.assertEqual(set(statuses), {200, 503})
                pipe.read()
                refused = [number for number in range(300) if statuses[number] != 200]
                list(pool.map(self.send_until_printed, refused))
            self.stop(process)
            printed = sorted(int(event["id"]) for event in pipe.events())
            self.assertEqual(printed, list(range(300)))

    def test_an_event_that_does_not_fit_at_once(self) -> None:
        process, pipe = self.start_unread()
        self.assertEqual(self.send(1, 200_000), 503)
        self.assertEqual(self.send(2), 503)
        pipe.read()
        for number, size in ((1, 200_000), (2, 500), (3, 3_000_000)):
            self.send_until_printed(number, size)
        self.stop(process)
        sizes = [(event["id"], len(event["data"])) for event in pipe.events()]
        self.assertEqual(sizes, [("1", 200_000), ("2", 500), ("3", 3_000_000)])

    def test_a_stop_does_not_wait_for_a_reader(self) -> None:
        process, pipe = self.start_unread()
        self.assertEqual(self.send(1, 200_000), 503)
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(self.send, 1, 200_000)  # its first try is not printed whole
            wait_until(lambda: status_of_get(self.port, "/healthz") == 200, "an answer")
            self.stop(process)
            self.assertIsInstance(waiting.exception(PATIENCE) or waiting.result(), (OSError, int))
        pipe.read()

    def test_a_refusal_says_when_to_come_back(self) -> None:
        _, pipe = self.start_unread()
        self.send(1, 200_000)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        self.addCleanup(connection.close)
        connection.request("POST", "/", json.dumps(EVENT), STRUCTURED)
        answer = connection.getresponse()
        self.assertEqual((answer.status, answer.getheader("Retry-After")), (503, "5"))
        self.assertEqual(answer.getheader("Content-Type"), "application/problem+json")
        pipe.read()
