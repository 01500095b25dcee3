"""The daemon as its users start it, a twistd process, and those who call it.

The fakes run in the test's own process, on its reactor, so the tests are `async` and wait for
nothing by sleeping: `until` asks again and again, and gives up after a while.
"""

import json
import mmap
import os
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from inspect import isawaitable
from pathlib import Path
from typing import Any

import treq
import yaml
from attrs import frozen
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import ProcessProtocol, Protocol
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from twisted.web.client import Agent, HTTPConnectionPool
from twisted.web.http_headers import Headers

from tests.e2e.forks import ROOT, Fork
from tests.fakes.openai import FakeOpenAI
from tests.fakes.target import FakeTarget
from tests.ports import free_port

TWISTD = Path(sys.executable).with_name("twistd")
PATIENCE = 20.0
"""Seconds anything may take that must come about; far more than it does."""
STARTED = 60.0
"""Seconds that a start may take, for which a process may import all it needs."""
POLL = 0.03
DAY = 86400.0
LONG = 15.0
"""Seconds that few tests take."""

RUN_TWISTD = "from twisted.scripts.twistd import run; run()"
SHIFTED_CLOCK = """
from tests.e2e import shifted_clock
shifted_clock.go_by({path!r})
"""
FILE_LIMITS = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
"""
SLOW_NAME = """
import socket, time
_find = socket.getaddrinfo
def _find_slowly(name, *arguments, **options):
    if name != {name!r}:
        return _find(name, *arguments, **options)
    time.sleep({seconds})
    raise socket.gaierror(socket.EAI_AGAIN, "no name server answered")
socket.getaddrinfo = _find_slowly
"""
ACTIVATED = """
import os
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES="prompts")
"""
READ_AT_ONCE = ("LANG", "LC_", "LD_", "MALLOC_", "PYTHON")
"""Beginnings of the names of variables that are read before a program's own code runs."""
JOURNAL_COMMAND = "from chatgpt_source.journal.command import main; main()"
HANGING_DISK = """
import os, sqlite3, time
class _Hanging(sqlite3.Connection):
    def execute(self, sql, *values):
        while sql == "COMMIT" and os.path.exists({path!r}):
            time.sleep(0.02)
        return super().execute(sql, *values)
_connect = sqlite3.connect
sqlite3.connect = lambda *given, **named: _connect(*given, factory=_Hanging, **named)
"""
SLOW_UPGRADE = """
import os, sqlite3
class _Slow(sqlite3.Connection):
    def execute(self, sql, *values):
        while sql.startswith("PRAGMA user_version = ") and os.path.exists({path!r}):
            super().execute(
                "WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n LIMIT 50000)"
                " SELECT count(*) FROM n"
            ).fetchone()
        return super().execute(sql, *values)
_connect = sqlite3.connect
sqlite3.connect = lambda *given, **named: _connect(*given, factory=_Slow, **named)
"""
LOG_TO_STDOUT = "--logger=chatgpt_source.log.stdout"

_POOL = HTTPConnectionPool(reactor, persistent=False)


async def until(
    condition: Callable[[], Any], what: str = "a condition", timeout: float = PATIENCE
) -> Any:
    """Wait until a condition, plain or `async`, holds; returns its value."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        value = await value if isawaitable(value) else value
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout} s for {what}")
        await deferLater(reactor, POLL)


async def throughout(seconds: float, condition: Callable[[], Any], what: str) -> None:
    """See that a condition holds all the time: that nothing happens can only be waited for."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert condition(), what
        await deferLater(reactor, POLL)


def together(*coroutines: Any) -> "Deferred[list[Any]]":
    """Run coroutines at once; what they return, or the first exception."""
    running = gatherResults([Deferred.fromCoroutine(c) for c in coroutines], consumeErrors=True)

    def unwrap(failure: Failure) -> Any:
        failure.value.subFailure.raiseException()

    return running.addErrback(unwrap)


def wait_out_midnight() -> None:
    """Wait if a day (UTC) is about to end, so that a test's prompts are all of one."""
    left = DAY - time.time() % DAY
    if left < LONG:
        time.sleep(left)


def alive(pid: int) -> bool:
    """Whether a process runs; an orphan may stay a zombie where nothing reaps it."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return not Path("/proc/self").exists()


def worked(pid: int) -> float:
    """The seconds for which a process has worked, whatever else the machine does."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


@frozen
class Answer:
    """What a call brought back."""

    status: int
    headers: Headers
    body: bytes

    def header(self, name: str) -> str | None:
        """The first value of a header."""
        return (self.headers.getRawHeaders(name) or [None])[0]

    def json(self) -> Any:
        """The body's JSON."""
        return json.loads(self.body)


async def call(
    method: str,
    url: str,
    body: bytes | str = b"",
    headers: Mapping[str, str] | None = None,
    timeout: float = PATIENCE,
) -> Answer:
    """Make one HTTP call, on a connection of its own."""
    response = await treq.request(
        method,
        url,
        data=body.encode() if isinstance(body, str) else body,
        headers=Headers({name: [value] for name, value in (headers or {}).items()}),
        allow_redirects=False,
        agent=Agent(reactor, pool=_POOL),
        timeout=timeout,
    )
    content = await response.content().addTimeout(timeout, reactor)
    return Answer(response.code, response.headers, content)


class Wire(Protocol):
    """A connection to write bytes to, for what no HTTP client would send."""

    def __init__(self) -> None:
        self.received = b""
        self.closed = False

    @classmethod
    async def connect(cls, where: int | IStreamClientEndpoint) -> "Wire":
        """Connect to a port of this machine, or elsewhere."""
        if isinstance(where, int):
            where = TCP4ClientEndpoint(reactor, "127.0.0.1", where)
        return await connectProtocol(where, cls())

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, _reason: Failure) -> None:
        self.closed = True

    def send(self, data: bytes) -> None:
        """Write bytes."""
        self.transport.write(data)

    async def answer(self) -> Answer:
        """Take the next whole response off what was received."""
        await until(self._has_answer, "a whole response")
        head, _, rest = self.received.partition(b"\r\n\r\n")
        status, _, fields = head.partition(b"\r\n")
        headers = Headers()
        for line in fields.split(b"\r\n"):
            name, _, value = line.partition(b":")
            headers.addRawHeader(name, value.strip())
        length = int(headers.getRawHeaders("content-length")[0])
        self.received = rest[length:]
        return Answer(int(status.split()[1]), headers, rest[:length])

    def _has_answer(self) -> bool:
        head, end, rest = self.received.partition(b"\r\n\r\n")
        lengths = [
            int(line.partition(b":")[2])
            for line in head.lower().split(b"\r\n")
            if line.startswith(b"content-length:")
        ]
        return bool(end) and len(rest) >= lengths[0]

    def close(self) -> None:
        """Hang up."""
        self.transport.abortConnection()


class Clock:
    """The time a daemon goes by; it runs on, and can be set while the daemon runs."""

    def __init__(self, path: Path, instant: float) -> None:
        self.path = path
        path.write_bytes(bytes(16))
        with path.open("r+b") as file:
            self._offsets = mmap.mmap(file.fileno(), 16)
        self.step(instant - time.time())

    def advance(self, seconds: float) -> None:
        """Let so much time pass."""
        self._add(8, seconds)
        self.step(seconds)

    def step(self, seconds: float) -> None:
        """Set the wall clock forward, or back, while no time passes."""
        self._add(0, seconds)

    def now(self) -> float:
        """The wall clock's time."""
        return time.time() + self._offset(0)

    def _offset(self, at: int) -> float:
        return struct.unpack_from("d", self._offsets, at)[0]

    def _add(self, at: int, seconds: float) -> None:
        struct.pack_into("d", self._offsets, at, self._offset(at) + seconds)


class Running(ProcessProtocol):
    """A process that was started: what it says, and how it ends."""

    def __init__(self, output: bytearray) -> None:
        self._all = output
        self.output = bytearray()
        self.status: int | None = None
        """Its exit status, or minus the signal that ended it; None while it runs."""

    def outReceived(self, data: bytes) -> None:
        self.output += data
        self._all += data

    errReceived = outReceived

    def processEnded(self, reason: Failure) -> None:
        ended = reason.value
        self.status = -ended.signal if ended.signal else ended.exitCode

    @property
    def text(self) -> str:
        """Its stdout and stderr as they came."""
        return self.output.decode("utf-8", "replace")

    def signal(self, number: int) -> None:
        """Send a signal, if it still runs."""
        with suppress(ProcessExitedAlready):
            self.transport.signalProcess(number)

    async def end(self, timeout: float = PATIENCE) -> int:
        """Wait for its end; returns `status`."""
        await until(
            lambda: self.status is not None, f"the end of it; it said: {self.text}", timeout
        )
        return self.status


class Command(Running):
    """A process that says what is wrong apart from the rest."""

    def __init__(self) -> None:
        super().__init__(bytearray())
        self.errors = bytearray()

    def errReceived(self, data: bytes) -> None:
        self.errors += data


class Daemon:
    """A daemon's folder, its config, and its processes, one after the other.

    Args:
        case: Its cleanups end all processes.
        config: The config file: a mapping, or the text itself; None for none.
        clock: Its time, if not everybody's.
        files: The soft and hard limit of open files it is started with.
        inherits: A socket it is passed as systemd does.
        stdout: What it has as standard output instead of our ear.
        slow_name: A name that can't be resolved, and the seconds until that is found out.
        hangs: While there is such a file, no commit to the journal comes to its end.
        slow_upgrade: While there is such a file, no change of the journal's schema does.
        forked: Whether its processes may be forked off one that has imported all it needs, which
            takes a tenth of the time; otherwise they run the script `twistd`, as its users do.
        environ: What its environment has besides.
    """

    def __init__(
        self,
        case: TestCase,
        config: Mapping[str, Any] | str | bytes | None,
        *,
        clock: Clock | None = None,
        files: tuple[int, int] | None = None,
        inherits: socket.socket | None = None,
        stdout: int | None = None,
        slow_name: tuple[str, float] | None = None,
        hangs: Path | None = None,
        slow_upgrade: Path | None = None,
        forked: bool = True,
        **environ: str,
    ) -> None:
        self.dir = Path(case.mktemp()).absolute()
        self.dir.mkdir(parents=True)
        self.config_file = self.dir / "config.yml"
        self.environ = environ
        self.output = bytearray()
        """All its processes said, on stdout and stderr."""
        self.process: Running | None = None
        self.headers: Mapping[str, str] = {}
        """What each GET carries, like credentials."""
        self.port = config.get("port", 8080) if isinstance(config, Mapping) else 8080
        self.clock = clock
        self._case = case
        self._may_fork = forked and not (inherits or stdout is not None or slow_name)
        self._prelude = ""
        if files:
            self._prelude += FILE_LIMITS.format(soft=files[0], hard=files[1])
        self._files = {0: "w", 1: "r" if stdout is None else stdout, 2: "r"}
        if slow_name:
            self._prelude += SLOW_NAME.format(name=slow_name[0], seconds=slow_name[1])
        if hangs:
            self._prelude += HANGING_DISK.format(path=str(hangs))
        if slow_upgrade:
            self._prelude += SLOW_UPGRADE.format(path=str(slow_upgrade))
        if inherits:
            self._prelude += ACTIVATED
            self._files[3] = inherits.fileno()
        if config is not None:
            text = yaml.safe_dump(dict(config)) if isinstance(config, Mapping) else config
            self.config_file.write_bytes(text if isinstance(text, bytes) else text.encode())
            self.environ.setdefault("CONNECTOR_CONFIG", str(self.config_file))

    def launch(self, *options: str, arguments: Sequence[str] = ("chatgpt-source",)) -> Running:
        """Start twistd with options, and do not wait for anything."""
        self.process = Running(self.output)
        given = [*options, *arguments]
        environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **self.environ}
        prelude = self._prelude
        if self._may_fork and not any(name.startswith(READ_AT_ONCE) for name in self.environ):
            argv, clock = [str(TWISTD), *given], self.clock.path if self.clock else None
            Fork(self.process, prelude + RUN_TWISTD, argv, environ, self.dir, clock)
        else:
            if self.clock:
                prelude = SHIFTED_CLOCK.format(path=str(self.clock.path)) + prelude
            program = [str(TWISTD)]
            if prelude:
                program = [sys.executable, "-c", prelude + RUN_TWISTD]
            reactor.spawnProcess(
                self.process,
                program[0],
                [*program, *given],
                env=environ,
                path=str(self.dir),
                childFDs=self._files,
            )
        self._case.addCleanup(self._kill, self.process)
        return self.process

    async def start(self, *options: str) -> Running:
        """Start in the foreground, with our log on stdout unless options say otherwise."""
        process = self.launch(
            "--nodaemon", "--pidfile=", f"--rundir={self.dir}", *(options or [LOG_TO_STDOUT])
        )
        await until(lambda: self.answers(process), f"a start; it said: {process.text}", STARTED)
        return process

    async def start_daemonised(self) -> int:
        """Start in the background; returns its pid."""
        process = self.launch(f"--rundir={self.dir}", f"--pidfile={self.dir}/twistd.pid")
        status = await process.end(STARTED)
        assert (status, process.text) == (0, ""), (status, process.text)
        pidfile = self.dir / "twistd.pid"
        await until(lambda: pidfile.exists() and pidfile.read_text(), "a pidfile")
        pid = int(pidfile.read_text())
        self._case.addCleanup(kill, pid)
        await until(self.answers, "a start in the background", STARTED)
        return pid

    async def fail(
        self, *options: str, arguments: Sequence[str] = ("chatgpt-source",)
    ) -> tuple[int, str]:
        """Start what can't start; returns its exit status and what it said."""
        options = options or ("--nodaemon", "--pidfile=", LOG_TO_STDOUT)
        process = self.launch(*options, arguments=arguments)
        return await process.end(STARTED), process.text

    async def fail_both_ways(self, *options: str) -> list[tuple[int, str]]:
        """Start what can't start, in the foreground and in the background."""
        foreground = ("--nodaemon", "--pidfile=", f"--rundir={self.dir}", LOG_TO_STDOUT, *options)
        background = (f"--rundir={self.dir}", f"--pidfile={self.dir}/twistd.pid", *options)
        ends = [await self.fail(*foreground), await self.fail(*background)]
        left = self.dir / "twistd.pid"
        if left.exists():
            pid = int(left.read_text())
            self._case.addCleanup(kill, pid)
            await until(lambda: not alive(pid), "the end of what failed in the background")
        return ends

    async def stop(self, number: int = signal.SIGTERM, timeout: float = PATIENCE) -> int:
        """Send a signal and wait for the end."""
        self.process.signal(number)
        return await self.process.end(timeout)

    async def kill(self) -> None:
        """End it as a crash would."""
        await self.stop(signal.SIGKILL)
        for _ in range(3):  # what it has sent is accepted, read, and told to the fakes
            await deferLater(reactor, 0)

    async def is_ready(self) -> bool:
        """Whether /readyz says so."""
        return (await self.get("/readyz")).status == 200

    async def live(self, seconds: float) -> None:
        """Let so much time pass for it.

        A commit that was under way seems to have hung all that time, and the daemon refuses
        prompts until it has ended.
        """
        assert self.clock is not None, "it goes by everybody's time"
        self.clock.advance(seconds)
        await until(self.is_ready, "a journal that has lived through the jump")

    async def live_until(self, instant: float) -> None:
        """Let its time pass until `instant`."""
        assert self.clock is not None, "it goes by everybody's time"
        await self.live(instant - self.clock.now())

    async def answers(self, process: Running | None = None) -> bool:
        """Whether /healthz answers; an early end is an error."""
        if process is not None and process.status is not None:
            raise AssertionError(f"it ended with {process.status} and said: {process.text}")
        try:
            return (await self.get("/healthz")).status == 200
        except CancelledError:
            raise
        except Exception:  # noqa: BLE001 - it may fail in many ways while nobody listens
            return False

    async def post(
        self, body: bytes | str, headers: Mapping[str, str] | None = None, path: str = "/"
    ) -> Answer:
        """POST a prompt."""
        return await call("POST", f"http://127.0.0.1:{self.port}{path}", body, headers)

    async def get(self, path: str, method: str = "GET") -> Answer:
        """GET a page."""
        return await call(method, f"http://127.0.0.1:{self.port}{path}", headers=self.headers)

    async def accepted(self, body: bytes | str, headers: Mapping[str, str] | None = None) -> str:
        """POST a prompt that must be accepted; returns its id."""
        answer = await self.post(body, headers)
        assert answer.status == 202, (answer.status, answer.body)
        return answer.json()["id"]

    async def record(self, prompt_id: str) -> dict[str, Any]:
        """What GET /prompts/<id> says."""
        answer = await self.get(f"/prompts/{prompt_id}")
        assert answer.status == 200, (answer.status, answer.body)
        return answer.json()

    async def reaches(
        self, prompt_id: str, condition: Callable[[dict[str, Any]], Any] | str
    ) -> dict[str, Any]:
        """Wait until a prompt is in a state, or a condition holds of its record."""
        record: dict[str, Any] = {}

        async def there() -> bool:
            record.update(await self.record(prompt_id))
            if isinstance(condition, str):
                return record["state"] == condition
            return bool(condition(record))

        try:
            await until(there)
        except AssertionError:
            raise AssertionError(f"{record} is not {condition}; it said: {self.text}") from None
        return record

    async def operate(
        self, *argv: str, journal: str | None = None, failing: bool = False
    ) -> tuple[int, str]:
        """Run `chatgpt-source-journal` on its journal; its exit status and what it printed.

        Only if it is `failing` may it print errors, which are returned as well.
        """
        where = journal or self.dir / "journal.sqlite"
        command = Command()
        argv = ("chatgpt-source-journal", "--json", f"--journal={where}", *argv)
        environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
        Fork(command, JOURNAL_COMMAND, argv, environ, Path.cwd())
        status = await command.end()
        assert failing or not command.errors, command.errors
        return status, command.output.decode() + command.errors.decode()

    async def checks(self) -> tuple[int, str, dict[str, str]]:
        """What GET /readyz says: HTTP status, status, checks."""
        answer = await self.get("/readyz")
        return answer.status, answer.json()["status"], answer.json()["checks"]

    @property
    def text(self) -> str:
        """All its processes said."""
        return self.output.decode("utf-8", "replace")

    def files(self) -> dict[str, bytes]:
        """The files in its folder and what is in them."""
        return {path.name: path.read_bytes() for path in self.dir.iterdir() if path.is_file()}

    async def _kill(self, process: Running) -> None:
        process.signal(signal.SIGKILL)
        await process.end()


async def kill(pid: int) -> None:
    """End a process that is no child of ours."""
    if alive(pid):
        os.kill(pid, signal.SIGKILL)
    await until(lambda: not alive(pid), "the end of a process")


class DaemonCase(TestCase):
    """Tests with a fake model, a fake target, and daemons between them.

    Attributes:
        forked: Whether their processes may be forked.
    """

    timeout = 300  # of a test that hangs: what it waits for has a bound of its own
    forked = True

    def setUp(self) -> None:
        wait_out_midnight()
        self.openai = FakeOpenAI(reactor)
        self.target = FakeTarget(reactor)
        for fake in (self.openai, self.target):
            fake.start()
            self.addCleanup(fake.stop)

    def config(self, **settings: Any) -> dict[str, Any]:
        """A config between the fakes, on a port of its own."""
        return {
            "target": self.target.origin,
            "token": "sk-test",
            "base_url": self.openai.base_url,
            "port": free_port(),
            **settings,
        }

    def daemon(self, *, clock: Clock | None = None, **settings: Any) -> Daemon:
        """A daemon between the fakes."""
        return Daemon(self, self.config(**settings), clock=clock, forked=self.forked)

    def file(self, text: str) -> Path:
        """A file that holds a text."""
        path = Path(self.mktemp()).absolute()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def clock(self, instant: float) -> Clock:
        """A clock that says `instant` now."""
        path = Path(self.mktemp()).absolute()
        path.parent.mkdir(parents=True, exist_ok=True)
        return Clock(path, instant)

    def assert_problem(self, answer: Answer, status: int, kind: str = "about:blank") -> str:
        """Check a refusal's form (RFC 9457); returns its detail."""
        self.assertEqual(answer.status, status, answer.body)
        self.assertEqual(answer.header("content-type"), "application/problem+json")
        problem = answer.json()
        self.assertEqual(set(problem), {"type", "title", "status", "detail"})
        self.assertEqual((problem["status"], problem["type"]), (status, kind))
        self.assertTrue(problem["title"])
        self.assertTrue(problem["detail"])
        return problem["detail"]

    def assert_fair(self) -> None:
        """Check that the daemon sent nothing a real peer would object to."""
        self.assertEqual(self.openai.complaints + self.target.complaints, [])
