"""Opens the journal at a start, waits for it if it must, and answers requests meanwhile.

A journal in a file may still be another daemon's: Kubernetes, for example, starts a deleted pod's
successor while the pod still drains. One of an earlier schema is changed, which may take minutes. A
database may be down for as long as it likes.
"""

from collections.abc import Callable
from functools import partial

from attrs import define, field
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from chatgpt_source.errors import JournalInUse, JournalUnreachable
from chatgpt_source.health.trouble import Level
from chatgpt_source.http.server import BoundedRequest, Problem, to_json
from chatgpt_source.journal.engine import Engine, Opened
from chatgpt_source.log import get_logger

log = get_logger(__name__)

PATIENCE = 30.0
"""Seconds that a start waits for another daemon to release the journal."""
TRY_EVERY = 0.25
RECONNECT_EVERY = 2.0
"""Seconds between two attempts to reach a database."""
RETRY_AFTER = 5
"""Seconds after which a caller may try again."""

_UNKNOWN = dict.fromkeys(("openai", "target", "quota", "backlog", "failures"), "unknown")


@define(eq=False, repr=False)
class Starting:
    """A start that is not complete.

    Args:
        engine: Opens the journal.
        clock: The time.
        in_thread: Runs a function in the journal's thread.
    """

    _engine: Engine
    _clock: IReactorTime
    _in_thread: Callable[[Callable[[], Opened]], Deferred[Opened]]
    _does: str = field(init=False, default="waiting for the journal")
    _told: str | None = field(init=False, default=None)
    _opening: Deferred[None] = field(init=False, factory=lambda: succeed(None))
    _stopped: bool = field(init=False, default=False)

    async def open(self) -> Opened:
        """Open the journal; of a file, at once if nobody uses it and nothing takes long.

        Raises:
            JournalInUse: If another daemon still uses it after `PATIENCE`.
            JournalError: If it can't be used.
        """
        if self._engine.is_remote:
            return await self._open_remote()
        try:
            opened = await self._open_file()
        except JournalInUse:
            opened = await self._open_when_free()
        self._does = "taking up what is unfinished in the journal"
        return opened

    def stop(self) -> Deferred[None]:
        """End work on the journal's file that takes long; fires once it has ended."""
        self._stopped = True
        return self._opening

    async def _open_file(self) -> Opened:
        work = self._engine.long_work()
        if work is None:
            return self._engine.open()
        self._does, began = work, self._clock.seconds()
        log.warn("{work}: no prompts are accepted until that is done", work=work)
        opening = self._in_thread(partial(self._engine.open, lambda: self._stopped))
        waiter: Deferred[Opened] = Deferred()  # who cancels this does not end the other
        self._opening = opening.chainDeferred(waiter)
        opened = await waiter
        log.info("{work} took {seconds:.1f} s", work=work, seconds=self._clock.seconds() - began)
        return opened

    async def _open_when_free(self) -> Opened:
        log.warn(
            "waiting for the daemon that uses journal {path}, {seconds:.0f} s at most",
            path=self._engine.location,
            seconds=PATIENCE,
        )
        for _ in range(int(PATIENCE / TRY_EVERY) - 1):
            await self._wait_for_the_other()
            try:
                return await self._open_file()
            except JournalInUse:
                continue
        await self._wait_for_the_other()
        return await self._open_file()

    def _wait_for_the_other(self) -> Deferred[None]:
        self._does = "waiting for the daemon that uses the journal"
        return deferLater(self._clock, TRY_EVERY)

    async def _open_remote(self) -> Opened:
        self._does = "waiting for the journal's database"
        while True:
            try:
                return await self._in_thread(self._engine.open)
            except JournalUnreachable as error:
                if self._told != str(error):
                    self._told = str(error)
                    log.warn("{reason}; trying again until it can", reason=self._told)
            await deferLater(self._clock, RECONNECT_EVERY)

    async def answer(self, request: BoundedRequest) -> None:
        """Answer a request that comes before the start is complete.

        Raises:
            Problem: For all requests but probes.
        """
        why = "" if self._told is None else f": {self._told}"
        doing = f"starting: {self._does}{why}"
        if request.method in {b"GET", b"HEAD"}:
            if request.route() == "/healthz":
                request.answer(200, to_json({"status": "ok"}))
                return
            if request.route() == "/readyz":
                checks = {"journal": doing, **_UNKNOWN}
                health = Level.UNKNOWN if self._told is None else Level.RED
                told = {"status": "not ready", "health": health.value, "checks": checks}
                request.answer(503, to_json(told))
                return
        retry_after = {"Retry-After": str(RETRY_AFTER)}
        raise Problem(503, f"{doing}; try later", retry_after, word="starting")
