"""The journal in one SQLite file: WAL, `synchronous=FULL`, one connection on one thread."""

import json
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, fail, gatherResults
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from chatgpt_source.journal import Ask, AskClaims, Delivery, DeliveryClaims, Record, Tally
from chatgpt_source.journal.group import GroupCommit
from chatgpt_source.journal.sqlite.file import OpenJournal, check_journal, open_journal
from chatgpt_source.journal.sqlite.schema import UNDER_WAY
from chatgpt_source.journal.sqlite.transact import RETRY_AFTER, transact
from chatgpt_source.log import get_logger
from chatgpt_source.prompt import (
    Answer,
    BacklogFull,
    JournalError,
    JournalUnavailable,
    Prompt,
    QuotaUsedUp,
    State,
)
from chatgpt_source.quota import Day

__all__ = ["OpenJournal", "SqliteJournal", "check_journal", "open_journal"]

log = get_logger(__name__)

Result = TypeVar("Result")
InThread = Callable[[Callable[[], None]], Deferred[None]]

WIPE_AFTER = 30.0
"""Seconds from a delivery until its texts are gone from the write-ahead log too."""
WIPE_RETRY = 5.0
PRUNE_STEP = 500
"""Records forgotten in one transaction, so that no commit waits long for the broom."""
KEEP_DAYS = 8 * 86400.0
"""Seconds the count of a day is kept at the least, whatever `keep` says."""


class SqliteJournal:
    """A `Journal` in a SQLite file.

    Args:
        opened: The file, open and locked; closed by `close`.
        clock: Says when to wipe.
        in_thread: Runs a function in the journal's own thread.
    """

    def __init__(self, opened: OpenJournal, clock: IReactorTime, in_thread: InThread) -> None:
        self._opened = opened
        self._clock = clock
        self._in_thread = in_thread
        self._group: GroupCommit[sqlite3.Connection] = GroupCommit(
            in_thread, lambda group: transact(opened.connection, group)
        )
        self._wipe_call: IDelayedCall | None = None
        self._closing = False
        self.fault: str | None = None

    @property
    def location(self) -> str:
        """The file's path."""
        return str(self._opened.path)

    # What the rooms ask for; each method's meaning is `Journal`'s.

    def recover(self, now: float) -> None:
        """Make what a crash left claimed due again; call before anything else.

        Raises:
            JournalError: If the journal can't be written.
        """
        try:
            self._opened.connection.execute(
                "UPDATE prompts SET due = ? WHERE state IN ('accepted', 'answered') AND due = ?",
                (now, UNDER_WAY),
            )
        except sqlite3.Error as error:
            raise JournalError(f"journal {self.location} can't be written: {error}") from error

    def accept(self, prompt: Prompt, day: Day, limit: int, max_backlog: int) -> Deferred[int]:
        def run(db: sqlite3.Connection) -> int:
            db.execute("INSERT OR IGNORE INTO days VALUES (?, 0)", (day.date,))
            (used,) = db.execute("SELECT used FROM days WHERE day = ?", (day.date,)).fetchone()
            if used >= limit:
                raise QuotaUsedUp(
                    f"the day's limit of {limit} prompts is used up",
                    retry_after=day.end - prompt.accepted,
                )
            if _counts(db).backlog >= max_backlog:
                raise BacklogFull(f"{max_backlog} prompts wait already", retry_after=RETRY_AFTER)
            db.execute("UPDATE days SET used = used + 1 WHERE day = ?", (day.date,))
            seq = db.execute(
                "INSERT INTO prompts (id, state, due, day, accepted)"
                " VALUES (?, 'accepted', ?, ?, ?)",
                (prompt.id, prompt.accepted, day.date, prompt.accepted),
            ).lastrowid
            db.execute(
                "INSERT INTO texts (seq, prompt, source, type) VALUES (?, ?, ?, ?)",
                (seq, prompt.text, prompt.source, prompt.type),
            )
            return limit - int(used) - 1

        return self._write(run)

    def claim_asks(self, now: float, most: int) -> Deferred[AskClaims]:
        def run(db: sqlite3.Connection) -> AskClaims:
            rows = db.execute(
                "SELECT seq, id, prompt, source, type, accepted, asks, maybe_billed, held"
                " FROM prompts JOIN texts USING (seq)"
                " WHERE state = 'accepted' AND due <= ? ORDER BY due, seq LIMIT ?",
                (now, most),
            ).fetchall()
            _claim(db, "asks", [seq for seq, *_ in rows])
            return AskClaims(
                [
                    Ask(Prompt(id_, text, source, type_, accepted), asks + 1, billed, held)
                    for _, id_, text, source, type_, accepted, asks, billed, held in rows
                ],
                _next_due(db, State.ACCEPTED),
            )

        return self._write(run)

    def claim_deliveries(
        self, now: float, most: int, *, untried_since: float | None
    ) -> Deferred[DeliveryClaims]:
        def run(db: sqlite3.Connection) -> DeliveryClaims:
            rows = db.execute(
                "SELECT seq, id, event, answered, deliveries FROM prompts JOIN texts USING (seq)"
                " WHERE state = 'answered' AND due <= ?"
                " AND (? IS NULL OR deliveries = 0 AND answered >= ?)"
                " ORDER BY due, seq LIMIT ?",
                (now, untried_since, untried_since, most),
            ).fetchall()
            _claim(db, "deliveries", [seq for seq, *_ in rows])
            return DeliveryClaims(
                [
                    Delivery(id_, event, answered, deliveries + 1)
                    for _, id_, event, answered, deliveries in rows
                ],
                _next_due(db, State.ANSWERED),
            )

        return self._write(run)

    def answered(
        self, prompt_id: str, answer: Answer, event: bytes, now: float, *, claim: bool
    ) -> Deferred[None]:
        told = json.dumps(
            {
                "model": answer.model,
                "finish_reason": answer.finish_reason,
                "request_id": answer.request_id,
                "usage": dict(answer.usage) if answer.usage is not None else None,
            }
        )

        def run(db: sqlite3.Connection) -> None:
            db.execute(
                "UPDATE prompts SET state = 'answered', due = ?, answered = ?, answer = ?,"
                " deliveries = ?, error = NULL WHERE id = ?",
                (UNDER_WAY if claim else now, now, told, int(claim), prompt_id),
            )
            db.execute(f"UPDATE texts SET event = ? WHERE {_OF_ID}", (event, prompt_id))

        return self._write(run)

    def delivered(self, prompt_id: str, now: float) -> Deferred[None]:
        def run(db: sqlite3.Connection) -> None:
            db.execute(
                "UPDATE prompts SET state = 'delivered', due = NULL, ended = ?, error = NULL"
                " WHERE id = ?",
                (now, prompt_id),
            )
            db.execute(f"DELETE FROM texts WHERE {_OF_ID}", (prompt_id,))

        return self._write(run).addCallback(lambda _: self._wipe_later(WIPE_AFTER))

    def failed(self, prompt_id: str, now: float, error: str, *, give_back: bool) -> Deferred[None]:
        def run(db: sqlite3.Connection) -> None:
            db.execute(
                "UPDATE prompts SET state = 'failed', due = NULL, ended = ?, error = ?"
                " WHERE id = ?",
                (now, error, prompt_id),
            )
            if give_back:
                db.execute(
                    "UPDATE days SET used = used - 1"
                    " WHERE day = (SELECT day FROM prompts WHERE id = ?) AND used > 0",
                    (prompt_id,),
                )

        return self._write(run)

    def postpone(
        self,
        prompt_id: str,
        until: float,
        error: str,
        *,
        maybe_billed: bool = False,
        held: float | None = None,
    ) -> Deferred[None]:
        def run(db: sqlite3.Connection) -> None:
            db.execute(
                "UPDATE prompts SET due = ?, error = ?, maybe_billed = maybe_billed + ?,"
                " held = coalesce(?, held) WHERE id = ?",
                (until, error, int(maybe_billed), held, prompt_id),
            )

        return self._write(run)

    def record(self, prompt_id: str) -> Deferred[Record | None]:
        def run(db: sqlite3.Connection) -> Record | None:
            row = db.execute(
                "SELECT state, accepted, answered, ended, asks, deliveries, error"
                " FROM prompts WHERE id = ?",
                (prompt_id,),
            ).fetchone()
            if row is None:
                return None
            state, accepted, answered, ended, asks, deliveries, error = row
            delivered = ended if state == State.DELIVERED else None
            return Record(
                prompt_id, State(state), accepted, answered, delivered, asks, deliveries, error
            )

        return self._read(run)

    def tally(self, day: str) -> Deferred[Tally]:
        return self._read(lambda db: _counts(db, day))

    async def _prune(self, before: float) -> None:
        def step(db: sqlite3.Connection) -> int:
            old = "SELECT seq FROM prompts WHERE ended < ? ORDER BY ended LIMIT ?"
            db.execute(f"DELETE FROM texts WHERE seq IN ({old})", (before, PRUNE_STEP))
            gone = db.execute(f"DELETE FROM prompts WHERE seq IN ({old})", (before, PRUNE_STEP))
            return gone.rowcount

        while await self._write(step) == PRUNE_STEP:
            pass
        self._wipe_later(WIPE_AFTER)

    def prune(self, before: float) -> Deferred[None]:
        def days(db: sqlite3.Connection) -> None:
            db.execute(
                "DELETE FROM days WHERE day < date(?, 'unixepoch')",
                (min(before, self._clock.seconds() - KEEP_DAYS),),
            )

        done = gatherResults(
            [Deferred.fromCoroutine(self._prune(before)), self._write(days)], consumeErrors=True
        )
        return done.addCallback(_ignore)

    def probe(self) -> Deferred[None]:
        return self._write(lambda db: _ignore(db.execute("UPDATE probes SET count = count + 1")))

    async def _close(self) -> None:
        self._closing = True
        if self._wipe_call is not None and self._wipe_call.active():
            self._wipe_call.cancel()
        await self._group.when_idle()
        with suppress(sqlite3.Error):  # a full disk: the next start wipes
            await self._in_thread(self._checkpoint)
        self._opened.close()

    def close(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._close())

    # How the thread is used.

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

    def _wipe_later(self, delay: float) -> None:
        if not self._closing and (self._wipe_call is None or not self._wipe_call.active()):
            self._wipe_call = self._clock.callLater(delay, self._wipe)

    def _wipe(self) -> None:
        self._read(_truncated).addCallbacks(
            lambda done: None if done else self._wipe_later(WIPE_RETRY),
            lambda _: self._wipe_later(WIPE_RETRY),
        )

    def _checkpoint(self) -> None:
        _truncated(self._opened.connection)


_OF_ID = "seq = (SELECT seq FROM prompts WHERE id = ?)"


def _claim(db: sqlite3.Connection, counter: str, seqs: Sequence[int]) -> None:
    db.executemany(
        f"UPDATE prompts SET due = ?, {counter} = {counter} + 1 WHERE seq = ?",
        [(UNDER_WAY, seq) for seq in seqs],
    )


def _next_due(db: sqlite3.Connection, state: State) -> float | None:
    (due,) = db.execute(
        "SELECT min(due) FROM prompts WHERE state = ? AND due IS NOT NULL", (state.value,)
    ).fetchone()
    return None if due is None or due >= UNDER_WAY else float(due)


def _counts(db: sqlite3.Connection, day: str = "") -> Tally:
    used = db.execute("SELECT used FROM days WHERE day = ?", (day,)).fetchone()
    return Tally(
        {State(state): n for state, n in db.execute("SELECT state, n FROM counts")},
        used[0] if used else 0,
    )


def _truncated(db: sqlite3.Connection) -> bool:
    """Empty the write-ahead log, where wiped text lives on; False if a reader was in the way."""
    (busy, *_) = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return not busy


def _ignore(_: Any) -> None:
    pass
