"""Opens the journal at a start, waits for it if it must, and answers requests meanwhile.

A journal in a file may still be another daemon's: Kubernetes, for example, starts a deleted pod's
successor while the pod still drains. A database may be down for as long as it likes.
"""

from collections.abc import Callable

from attrs import define, field
from twisted.internet.defer import Deferred
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
    _waits_for: str = field(init=False, default="the journal")
    _told: str | None = field(init=False, default=None)

    async def open(self) -> Opened:
        """Open the journal; of a file, at once if nobody uses it.

        Raises:
            JournalInUse: If another daemon still uses it after `PATIENCE`.
            JournalError: If it can't be used.
        """
        if self._engine.is_remote:
            return await self._open_remote()
        try:
            return self._engine.open()
        except JournalInUse:
            return await self._open_when_free()

    async def _open_when_free(self) -> Opened:
        self._waits_for = "the daemon that uses the journal"
        log.warn(
            "waiting for the daemon that uses journal {path}, {seconds:.0f} s at most",
            path=self._engine.location,
            seconds=PATIENCE,
        )
        for _ in range(int(PATIENCE / TRY_EVERY) - 1):
            await deferLater(self._clock, TRY_EVERY)
            try:
                return self._engine.open()
            except JournalInUse:
                continue
        await deferLater(self._clock, TRY_EVERY)
        return self._engine.open()

    async def _open_remote(self) -> Opened:
        self._waits_for = "the journal's database"
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
        waiting = f"starting: waiting for {self._waits_for}{why}"
        if request.method in {b"GET", b"HEAD"}:
            if request.route() == "/healthz":
                request.answer(200, to_json({"status": "ok"}))
                return
            if request.route() == "/readyz":
                checks = {"journal": waiting, **_UNKNOWN}
                health = Level.UNKNOWN if self._told is None else Level.RED
                told = {"status": "not ready", "health": health.value, "checks": checks}
                request.answer(503, to_json(told))
                return
        retry_after = {"Retry-After": str(RETRY_AFTER)}
        raise Problem(503, f"{waiting}; try later", retry_after, word="starting")
