"""Waits at a start for another daemon to release the journal, and answers requests meanwhile.

Kubernetes, for example, starts a deleted pod's successor while the pod still drains.
"""

from contextlib import suppress
from pathlib import Path

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from chatgpt_source.errors import JournalInUse
from chatgpt_source.http.server import BoundedRequest, Problem, to_json
from chatgpt_source.journal.engine import OpenJournal, open_journal
from chatgpt_source.log import get_logger

log = get_logger(__name__)

PATIENCE = 30.0
"""Seconds that a start waits for the journal."""
TRY_EVERY = 0.25
RETRY_AFTER = 5
"""Seconds after which a caller may try again."""

_WAITING = "starting: waiting for the daemon that uses the journal"
_UNKNOWN = dict.fromkeys(("openai", "target", "quota", "backlog", "failures"), "unknown")


async def open_when_free(path: Path, clock: IReactorTime) -> OpenJournal:
    """Wait for a journal in use, then open it.

    Raises:
        JournalInUse: If it is still in use after `PATIENCE`.
        JournalError: If it can't be used.
    """
    log.warn(
        "waiting for the daemon that uses journal {path}, {seconds:.0f} s at most",
        path=str(path),
        seconds=PATIENCE,
    )
    for _ in range(int(PATIENCE / TRY_EVERY) - 1):
        await deferLater(clock, TRY_EVERY)
        with suppress(JournalInUse):
            return open_journal(path)
    await deferLater(clock, TRY_EVERY)
    return open_journal(path)


async def answer(request: BoundedRequest) -> None:
    """Answer a request that comes before the start is complete.

    Raises:
        Problem: For all requests but probes.
    """
    if request.method in {b"GET", b"HEAD"}:
        if request.route() == "/healthz":
            request.answer(200, to_json({"status": "ok"}))
            return
        if request.route() == "/readyz":
            checks = {"journal": _WAITING, **_UNKNOWN}
            request.answer(503, to_json({"status": "not ready", "checks": checks}))
            return
    raise Problem(503, f"{_WAITING}; try later", {"Retry-After": str(RETRY_AFTER)}, word="starting")
