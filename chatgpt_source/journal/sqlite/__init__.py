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
from chatgpt_source.journal.group import GroupCommit, Operation
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
WATCH_EVERY = 2.0
"""Seconds between two looks whether the file is still where it was."""
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
        self._group: GroupCommit[sqlite3.Connection] = GroupCommit(in_thread, self._transact)
        self._watch_call: IDelayedCall | None = None
        self._wipe_call: IDelayedCall | None = None
        self._closing = False
        self.fault: str | None = None

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
        self._watch_later()
        return failing

    # What the rooms ask for; each method's meaning is `Journal`'s.

    def accept(self, prompt: Prompt, terms: Terms, key: str | None = None) -> Deferred[Admitted]:
        return self._write(lambda db: do.accept(db, prompt, terms, key))

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
        return self._write(lambda db: do.redrive(db, prompt_id, now))

    def purge(self, prompt_id: str) -> Deferred[bool]:
        return self._write(lambda db: do.purge(db, prompt_id)).addCallback(self._wiping)

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
        if self._watch_call is not None and self._watch_call.active():
            self._watch_call.cancel()
        forgot = self._wipe_call is not None and self._wipe_call.active()
        if self._wipe_call is not None and forgot:
            self._wipe_call.cancel()
        await self._group.when_idle()
        if forgot or self._opened.lock is not None:  # an operator who only looked wipes nothing
            await self._in_thread(self._wipe_at_last)
        self._opened.close()

    # How the thread is used.

    def _transact(self, group: Sequence[Operation[sqlite3.Connection]]) -> None:
        """Run a group on the file that the path names, and on no other."""
        loss = self._opened.loss()
        if loss is None:
            transact(self._opened.connection, group)
            loss = self._opened.loss()  # what is committed now may be found by no start
        if loss is not None:
            for operation in group:
                operation.error = JournalUnavailable(loss, retry_after=RETRY_AFTER)

    def _watch_later(self) -> None:
        if not self._closing:
            self._watch_call = self._clock.callLater(WATCH_EVERY, self._watch)

    def _watch(self) -> None:
        """Find out, where nobody writes, that the file was lost, or is there again."""
        seen: Deferred[None] = self._read(lambda _: None).addCallbacks(
            lambda _: self.probe() if self.fault is not None else None, self._unwell
        )
        seen.addBoth(lambda _: self._watch_later())

    def _write(self, run: Callable[[sqlite3.Connection], Result]) -> Deferred[Result]:
        if self._closing:
            return fail(JournalUnavailable("the journal is closed", retry_after=RETRY_AFTER))
        return self._group.submit(run, writes=True).addCallbacks(self._well, self._unwell)

    def _read(self, run: Callable[[sqlite3.Connection], Result]) -> Deferred[Result]:
        if self._closing:
            return fail(JournalUnavailable("the journal is closed", retry_after=RETRY_AFTER))
        return self._group.submit(run, writes=False)

    def _well(self, result: Result) -> Result:
        if self.fault is not None:
            log.info("journal {path} can be written again", path=self.location)
            self.fault = None
        return result

    def _unwell(self, failure: Failure) -> Failure:
        error = failure.value
        if isinstance(error, JournalUnavailable):
            if self.fault is None:
                log.error(
                    "journal {path} can't be written: {reason}; accepting no prompts until it can",
                    path=self.location,
                    reason=error.reason,
                )
            self.fault = error.reason
        return failure

    def _wiping(self, result: Result) -> Result:
        self._wipe_later(WIPE_AFTER)
        return result

    def _wipe_later(self, delay: float) -> None:
        if not self._closing and (self._wipe_call is None or not self._wipe_call.active()):
            self._wipe_call = self._clock.callLater(delay, self._wipe)

    def _wipe(self) -> None:
        self._read(do.wipe).addCallbacks(
            lambda done: None if done else self._wipe_later(WIPE_RETRY),
            lambda _: self._wipe_later(WIPE_RETRY),
        )

    def _wipe_at_last(self) -> None:
        db = self._opened.connection
        with suppress(sqlite3.Error):  # a full disk, say: the next start wipes
            do.wipe(db)
