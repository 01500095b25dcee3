"""Replicas on one journal, between a model and a target of their own, and what those have seen."""

import itertools
import json
import signal
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore
from twisted.internet.error import ConnectError
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase
from twisted.web.server import Request

from tests.e2e.line import Line
from tests.e2e.processes import POLL, Answer, Daemon, call, free_port, together, until
from tests.fakes.batches import FakeBatches
from tests.fakes.openai import completion, prompt_of
from tests.fakes.server import Received
from tests.fakes.target import FakeTarget

LEASE = 20.0
TAKEOVER = LEASE + 6
"""Seconds in which another takes over: the lease, a look every second, and a busy machine."""
PATIENCE = 60.0
_STARTS = DeferredSemaphore(3)
"""Starts at once, so that none takes too long on a small machine."""


class Model(FakeBatches):
    """A model that gives no two asks the same answer, so that a second one would show.

    Attributes:
        delay: Seconds that each answer takes.
        held: What a prompt begins with that is not answered.
        hung_up: Whose callers hung up before they were answered, by the prompt, and when.
    """

    def __init__(self, reactor: Any) -> None:
        super().__init__(reactor)
        self.delay = 0.0
        self.held = "held"
        self.hung_up: dict[str, list[float]] = defaultdict(list)

    @property
    def asked(self) -> Counter[str]:
        """How often each prompt was asked."""
        return Counter(map(prompt_of, self.asks))

    def at(self, prompt: str) -> list[float]:
        """When a prompt was asked."""
        return [each.at for each in self.asks if prompt_of(each) == prompt]

    def default(self, request: Received) -> Any:
        if request.path != "/v1/chat/completions":
            return super().default(request)
        prompt = prompt_of(request)
        if self.held and prompt.startswith(self.held):
            return Deferred()
        return completion(f"{len(self.asks)}. answer to {prompt}", delay=self.delay)

    def _handle(self, request: Request) -> None:
        body = request.content.read()
        request.content.seek(0)
        finished = request.notifyFinish()
        finished.addErrback(lambda _: self._gone(body))
        super()._handle(request)

    def _gone(self, body: bytes) -> None:
        try:
            prompt = json.loads(body)["messages"][-1]["content"]
        except (ValueError, LookupError, TypeError):
            return
        self.hung_up[prompt].append(self._reactor.seconds())


class Fleet:
    """Replicas on one journal.

    Args:
        case: Its cleanups end everything.
        url: The journal.
        settings: Settings of all replicas.

    Attributes:
        replicas: Those that were started.
        ids: The ids of the prompts that were accepted, by their texts.
        refused: The statuses of refusals.
        lost: How often a call got no answer.
    """

    def __init__(self, case: TestCase, url: str, **settings: Any) -> None:
        self.case = case
        self.url = url
        self.settings = settings
        self.openai = Model(reactor)
        self.target = FakeTarget(reactor)
        self.replicas: list[Daemon] = []
        self.ids: dict[str, str] = {}
        self.refused: Counter[int] = Counter()
        self.lost = 0
        self._loads = itertools.count()
        for fake in (self.openai, self.target):
            fake.start()
            case.addCleanup(fake.stop)

    def replica(self, url: str | None = None, **settings: Any) -> Daemon:
        """Another replica, that is not started."""
        config = {
            "target": self.target.origin,
            "token": "sk-test",
            "base_url": self.openai.base_url,
            "port": free_port(),
            "everyday_limit": 100_000,
            "journal": url or self.url,
            **self.settings,
            **settings,
        }
        daemon = Daemon(self.case, config, clock=config.pop("clock", None))
        self.replicas.append(daemon)
        return daemon

    def behind(self, line: Line) -> Daemon:
        """A replica whose database is at the other end of a line."""
        return self.replica(self.url.replace(f":{line.to}/", f":{line.port}/"))

    async def start(self, *replicas: Daemon) -> None:
        """Start replicas, and wait until they are ready."""
        await together(*map(self._start, replicas))

    async def _start(self, replica: Daemon) -> None:
        await _STARTS.acquire()
        try:
            process = await replica.start()
            await until(lambda: self.is_ready(replica), "a replica", PATIENCE)
            assert process.status is None, replica.text[-3000:]
        finally:
            _STARTS.release()

    async def is_ready(self, replica: Daemon) -> bool:
        """Whether a replica is ready; one that has ended is an error."""
        assert replica.process.status is None, f"it has ended: {replica.text[-3000:]}"
        try:
            return await replica.is_ready()
        except CancelledError:
            raise
        except Exception:  # noqa: BLE001 - it dies in many ways
            return False

    async def begin(self, number: int, **settings: Any) -> list[Daemon]:
        """So many that are ready."""
        begun = [self.replica(**settings) for _ in range(number)]
        await self.start(*begun)
        return begun

    # The callers.

    async def send(
        self,
        text: str,
        ports: Sequence[int],
        headers: Mapping[str, str] | None = None,
        timeout: float = PATIENCE,
    ) -> int:
        """Send a prompt with a key, to one after the other, until it is accepted or has no unit.

        Args:
            text: The prompt, which is also its key.
            ports: Where to send it.
            headers: Further header fields.
            timeout: The seconds that a call may take.
        """
        for port in itertools.cycle(ports):
            fields = {"Idempotency-Key": f'"{text}"', **(headers or {})}
            try:
                answer = await call("POST", f"http://127.0.0.1:{port}/", text, fields, timeout)
            except CancelledError:
                raise
            except ConnectError:
                await deferLater(reactor, POLL)
                continue
            except Exception:  # noqa: BLE001 - it dies in many ways
                self.lost += 1
                await deferLater(reactor, POLL)
                continue
            self._note(text, answer)
            if answer.status != 503:
                return answer.status
            await deferLater(reactor, POLL)
        raise AssertionError("there is no port")

    def _note(self, text: str, answer: Answer) -> None:
        if answer.status == 202:
            told = answer.json()["id"]
            assert self.ids.setdefault(text, told) == told, f"{text} has two ids"
            return
        self.refused[answer.status] += 1
        assert answer.status in {429, 503}, (answer.status, answer.body)
        assert answer.header("retry-after"), answer.body
        assert answer.json()["detail"], answer.body

    @asynccontextmanager
    async def load(
        self,
        replicas: Sequence[Any],
        callers: int = 8,
        pause: float = 0.02,
        timeout: float = 3,
    ) -> AsyncIterator[None]:
        """Let callers send prompts all the time, each to a replica after the other.

        Args:
            replicas: Where they send them.
            callers: How many they are.
            pause: The seconds that each waits after an answer.
            timeout: The seconds that a call may take.
        """
        is_over = False
        ports = [each.port for each in replicas]
        number = next(self._loads)

        async def caller(mine: int) -> None:
            turned = ports[mine % len(ports) :] + ports[: mine % len(ports)]
            for n in itertools.count():
                if is_over:
                    return
                await self.send(f"prompt {number}/{mine}/{n}", turned, timeout=timeout)
                await deferLater(reactor, pause)

        running = together(*map(caller, range(callers)))
        try:
            yield
            is_over = True
            await running
        finally:
            running.addErrback(lambda _: None)  # it was raised, or something was before it
            running.cancel()

    async def more(self, number: int, timeout: float = PATIENCE) -> None:
        """Wait until so many more were accepted."""
        enough = len(self.ids) + number
        await until(lambda: len(self.ids) >= enough, f"{number} more prompts", timeout)

    # What must hold.

    def contents(self) -> dict[str, set[str]]:
        """The contents that were sent to the target, by the event's id."""
        found: dict[str, set[str]] = defaultdict(set)
        for request in self.target.requests:
            if isinstance(request.document, dict):
                found[request.document["id"]].add(request.document["data"]["content"])
        return found

    @property
    def delivered(self) -> Counter[str]:
        """How often each event was delivered."""
        return Counter(event["id"] for event in self.target.events)

    async def settled(self, timeout: float = PATIENCE) -> None:
        """Wait until all that was accepted is delivered."""
        wanted = set(self.ids.values())
        try:
            await until(lambda: wanted <= set(self.delivered), "all events", timeout)
        except AssertionError:
            missing = sorted(wanted - set(self.delivered))
            raise AssertionError(
                f"{len(missing)} of {len(wanted)} events are missing, as {missing[:3]};"
                f" the replicas said: {self.said()}"
            ) from None

    def assert_kept(self) -> None:
        """See that each prompt accepted has one event, of one content, and that nobody is wrong."""
        case = self.case
        case.assertEqual(set(self.delivered), set(self.ids.values()))
        twice = {id_: each for id_, each in self.contents().items() if len(each) > 1}
        case.assertEqual(twice, {}, "events with two contents")
        case.assertEqual(self.openai.complaints + self.target.complaints, [])
        for replica in self.replicas:
            for word in ("Traceback", "nobody foresaw", "Unhandled"):
                case.assertNotIn(word, replica.text)

    def assert_once(self) -> None:
        """See that nothing was asked twice, or delivered twice."""
        self.case.assertEqual(_more_than_once(self.openai.asked), {}, "asked twice")
        self.case.assertEqual(_more_than_once(self.delivered), {}, "delivered twice")

    def said(self) -> str:
        """The ends of what the replicas said."""
        return "\n--\n".join(each.text[-3000:] for each in self.replicas)


def _more_than_once(counted: Counter[str]) -> dict[str, int]:
    return {each: times for each, times in counted.items() if times > 1}


def stop(daemon: Daemon) -> None:
    """Let a process stand still."""
    daemon.process.signal(signal.SIGSTOP)


def go_on(daemon: Daemon) -> None:
    """Let it go on."""
    daemon.process.signal(signal.SIGCONT)
