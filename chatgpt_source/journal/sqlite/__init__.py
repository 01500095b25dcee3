"""The journal in one SQLite file: WAL, `synchronous=FULL`, one connection on one thread.

`operations` says what is done to the tables, `transact` how a group of operations commits, `file`
how the file is opened; here they are put together as a `Journal`.
"""

import sqlite3
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from typing import TypeVar

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from chatgpt_source.journal import Admitted, AskClaims, DeliveryClaims, Record, Tally, Terms
from chatgpt_source.journal.group import GroupCommit
from chatgpt_source.journal.sqlite import operations as do
from chatgpt_source.journal.sqlite.file import (
    OpenJournal,
    check_journal,
    open_beside,
    open_journal,
)
from chatgpt_source.journal.sqlite.transact import RETRY_AFTER, transact
from chatgpt_source.log import get_logger
from chatgpt_source.prompt import Answer, JournalError, JournalUnavailable, Prompt, State

__all__ = ["OpenJournal", "SqliteJournal", "check_journal", "open_beside", "open_journal"]

log = get_logger(__name__)

Result = TypeVar("Result")
InThread = Callable[[Callable[[], None]], Deferred[None]]

WIPE_AFTER = 30.0
"""Seconds from a delivery until its texts are gone from the write-ahead log too."""
WIPE_RETRY = 5.0
READ_PATIENCE = 0.9
"""Seconds that one who asks waits for an answer; what is shown once a second is asked for so."""
WRITE_PATIENCE = 10.0
"""Seconds that a caller waits until what is to be written for it is begun."""
KEEP_DAYS = 8 * 86400.0
"""Seconds the count of a day is kept at the least, whatever `keep` says."""


class SqliteJournal:
    """A `Journal` in a SQLite file.

    Args:
        opened: The file, open; closed by `close`.
        clock: Says when to wipe.
        in_thread: Runs a function in the journal's own thread.
    """

    def __init__(self, opened: OpenJournal, clock: IReactorTime, in_thread: InThread) -> None:
        self._opened = opened
        self._clock = clock
        self._in_thread = in_thread
        self._group: GroupCommit[sqlite3.Connection] = GroupCommit(
            in_thread, lambda group: transact(opened.connection, group), clock
        )
        self._wipe_call: IDelayedCall | None = None
        self._closing = False
        self._fault: str | None = None

    @property
    def fault(self) -> str | None:
        if self._group.silent_for >= READ_PATIENCE:
            return self._group.silence().reason
        return self._fault

    @property
    def location(self) -> str:
        """The file's path."""
        return str(self._opened.path)

    def recover(self, everyday_limit: int, timezone: str) -> Collection[State]:
        """Begin a daemon's time: make what a crash left claimed due, note its terms, wipe soon.

        Returns:
            The states that prompts wait in whose last attempt failed.

        Raises:
            JournalError: If the journal can't be written.
        """
        db = self._opened.connection
        try:
            db.execute("BEGIN IMMEDIATE")
            do.recover(db)
            do.keep_terms(db, everyday_limit, timezone)
            failing = do.failing(db)
            db.execute("COMMIT")
        except sqlite3.Error as error:
            raise JournalError(f"journal {self.location} can't be written: {error}") from error
        self._wipe_later(WIPE_RETRY)
        return failing

    # What the rooms ask for; each method's meaning is `Journal`'s.

    def accept(self, prompt: Prompt, terms: Terms, key: str | None = None) -> Deferred[Admitted]:
        return self._write(lambda db: do.accept(db, prompt, terms, key), WRITE_PATIENCE)

    def claim_asks(self, now: float, most: int) -> Deferred[AskClaims]:
        return self._write(lambda db: do.claim_asks(db, now, most))

    def claim_deliveries(
        self, now: float, most: int, *, untried_since: float | None
    ) -> Deferred[DeliveryClaims]:
        return self._write(lambda db: do.claim_deliveries(db, now, most, untried_since))

    def claim_letters(self, now: float, most: int) -> Deferred[DeliveryClaims]:
        return self._write(lambda db: do.claim_letters(db, now, most))

    def answered(
        self, prompt_id: str, answer: Answer, event: bytes, now: float, *, claim: bool
    ) -> Deferred[None]:
        return self._write(lambda db: do.answered(db, prompt_id, answer, event, now, claim=claim))

    def delivered(self, prompt_id: str, now: float) -> Deferred[None]:
        return self._write(lambda db: do.delivered(db, prompt_id, now)).addCallback(self._wiping)

    def failed(
        self,
        prompt_id: str,
        now: float,
        error: str,
        *,
        give_back: bool,
        letter: bytes | None = None,
    ) -> Deferred[None]:
        return self._write(
            lambda db: do.failed(db, prompt_id, now, error, give_back=give_back, letter=letter)
        )

    def postpone(
        self,
        prompt_id: str,
        until: float,
        error: str,
        *,
        maybe_billed: bool = False,
        held: float | None = None,
    ) -> Deferred[None]:
        return self._write(
            lambda db: do.postpone(
                db, prompt_id, until, error, maybe_billed=maybe_billed, held=held
            )
        )

    def letter_ended(self, prompt_id: str, since: float, until: float | None) -> Deferred[None]:
        return self._write(lambda db: do.letter_ended(db, prompt_id, since, until))

    def record(self, prompt_id: str) -> Deferred[Record | None]:
        return self._read(lambda db: do.record(db, prompt_id))

    def records(self, state: State | None, after: int, most: int) -> Deferred[Sequence[Record]]:
        return self._read(lambda db: do.records(db, state, after, most))

    def latest(
        self, state: State | None, before: int | None, most: int
    ) -> Deferred[Sequence[Record]]:
        return self._read(lambda db: do.latest(db, state, before, most))

    def oldest(self) -> Deferred[float | None]:
        return self._read(do.oldest)

    def tally(self, day: str) -> Deferred[Tally]:
        return self._read(lambda db: do.tally(db, day))

    def redrive(self, prompt_id: str, now: float) -> Deferred[State]:
        return self._write(lambda db: do.redrive(db, prompt_id, now), WRITE_PATIENCE)

    def purge(self, prompt_id: str) -> Deferred[bool]:
        purging = self._write(lambda db: do.purge(db, prompt_id), WRITE_PATIENCE)
        return purging.addCallback(self._wiping)

    def prune(self, before: float) -> Deferred[None]:
        return Deferred.fromCoroutine(self._prune(before))

    async def _prune(self, before: float) -> None:
        days = min(before, self._clock.seconds() - KEEP_DAYS)
        await self._write(lambda db: do.prune_days(db, days))
        while pruned := await self._write(lambda db: do.prune(db, before)):
            self._wipe_later(WIPE_AFTER)
            if pruned < do.PRUNE_STEP:
                break

    def probe(self) -> Deferred[None]:
        return self._write(do.probe)

    def close(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._close())

    async def _close(self) -> None:
        self._closing = True
        forgot = self._wipe_call is not None and self._wipe_call.active()
        if self._wipe_call is not None and forgot:
            self._wipe_call.cancel()
        await self._group.when_idle()
        self._group.stop()
        if forgot or self._opened.lock is not None:  # an operator who only looked wipes nothing
            await self._in_thread(self._wipe_at_last)
        self._opened.close()

    # How the thread is used.

    def _write(
        self, run: Callable[[sqlite3.Connection], Result], patience: float | None = None
    ) -> Deferred[Result]:
        return self._submit(run, patience, writes=True).addCallbacks(self._well, self._unwell)

    def _read(self, run: Callable[[sqlite3.Connection], Result]) -> Deferred[Result]:
        return self._submit(run, READ_PATIENCE, writes=False)

    def _submit(
        self,
        run: Callable[[sqlite3.Connection], Result],
        patience: float | None,
        *,
        writes: bool,
    ) -> Deferred[Result]:
        if self._closing:
            return fail(JournalUnavailable("the journal is closed", retry_after=RETRY_AFTER))
        return self._group.submit(run, writes=writes, patience=patience)

    def _well(self, result: Result) -> Result:
        if self._fault is not None:
            log.info("journal {path} can be written again", path=self.location)
            self._fault = None
        return result

    def _unwell(self, failure: Failure) -> Failure:
        error = failure.value
        if isinstance(error, JournalUnavailable):
            if self._fault is None:
                log.error(
                    "journal {path} can't be written: {reason}; accepting no prompts until it can",
                    path=self.location,
                    reason=error.reason,
                )
            self._fault = error.reason
        return failure

    def _wiping(self, result: Result) -> Result:
        self._wipe_later(WIPE_AFTER)
        return result

    def _wipe_later(self, delay: float) -> None:
        if not self._closing and (self._wipe_call is None or not self._wipe_call.active()):
            self._wipe_call = self._clock.callLater(delay, self._wipe)

    def _wipe(self) -> None:
        self._submit(do.wipe, None, writes=False).addCallbacks(
            lambda done: None if done else self._wipe_later(WIPE_RETRY),
            lambda _: self._wipe_later(WIPE_RETRY),
        )

    def _wipe_at_last(self) -> None:
        db = self._opened.connection
        with suppress(sqlite3.Error):  # a full disk, say: the next start wipes
            do.wipe(db)
