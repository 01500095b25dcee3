"""What the journal does, each as a function of the connection, run inside a transaction."""

import hashlib
import hmac
import json
import os
import sqlite3
from collections.abc import Sequence
from typing import Any
from zoneinfo import ZoneInfo

from chatgpt_source.journal import (
    Admitted,
    Ask,
    AskClaims,
    Delivery,
    DeliveryClaims,
    End,
    Record,
    Tally,
    Terms,
)
from chatgpt_source.journal.sqlite.schema import AT_ONCE, NOT_YET, UNDER_WAY
from chatgpt_source.journal.sqlite.transact import RETRY_AFTER
from chatgpt_source.prompt import (
    Answer,
    BacklogFull,
    Draining,
    KeyReused,
    NotRedriven,
    Prompt,
    QuotaUsedUp,
    State,
    Trace,
)
from chatgpt_source.quota import Day, day_at
from chatgpt_source.retry import LONGEST_RETRY_AFTER

PRUNE_STEP = 500
"""Records forgotten in one transaction, so that no commit waits long for the broom."""

MOST_ROWS_REWRITTEN = 2000
MOST_BYTES_REWRITTEN = 4 * 2**20
"""More texts than that are not written anew, so that no commit waits long for the broom."""

_BEYOND = 2**63 - 1
"""A `seq` that none has."""

_OF_ID = "seq = (SELECT seq FROM prompts WHERE id = ?)"


def accept(
    db: sqlite3.Connection, prompt: Prompt, terms: Terms, key: str | None, now: float
) -> Admitted:
    """Admit a prompt, which is due from `now` on; see `Journal.accept`."""
    used = units(db, terms.day.date)
    if key is not None and (known := _known(db, prompt, key)) is not None:
        return Admitted(known, max(0, terms.limit - used), repeated=True)
    if terms.draining:
        raise Draining("the daemon is stopping", retry_after=RETRY_AFTER)
    _take_unit(db, terms.day, terms.limit, prompt.accepted)
    if tally(db).backlog >= terms.max_backlog:
        raise BacklogFull(f"{terms.max_backlog} prompts wait already", retry_after=RETRY_AFTER)
    seq = db.execute(
        "INSERT INTO prompts (id, state, due, day, accepted, since)"
        " VALUES (?, 'accepted', ?, ?, ?, ?)",
        (prompt.id, now, terms.day.date, prompt.accepted, now),
    ).lastrowid
    db.execute(
        "INSERT INTO texts (seq, prompt, source, type, traceparent, tracestate)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (seq, prompt.text, prompt.source, prompt.type, *_columns(prompt.trace)),
    )
    if key is not None:
        db.execute(
            "INSERT INTO keys VALUES (?, ?, ?)", (_digest(db, key), _fingerprint(db, prompt), seq)
        )
    return Admitted(prompt.id, terms.limit - used - 1)


def _columns(trace: Trace | None) -> tuple[str | None, str | None]:
    return (None, None) if trace is None else (trace.parent, trace.state)


def _trace(parent: str | None, state: str | None) -> Trace | None:
    return None if parent is None else Trace(parent, state)


def _known(db: sqlite3.Connection, prompt: Prompt, key: str) -> str | None:
    row = db.execute(
        "SELECT id, fingerprint FROM keys JOIN prompts USING (seq) WHERE digest = ?",
        (_digest(db, key),),
    ).fetchone()
    if row is None:
        return None
    prompt_id, fingerprint = row
    if not hmac.compare_digest(fingerprint, _fingerprint(db, prompt)):
        raise KeyReused
    return str(prompt_id)


def _digest(db: sqlite3.Connection, *words: str) -> bytes:
    """A hash that only this journal's secret makes: nobody can test a guess against it."""
    (secret,) = db.execute("SELECT value FROM secret").fetchone()
    digest = hmac.new(secret, digestmod=hashlib.sha256)
    for word in words:
        raw = word.encode("utf-8")
        digest.update(len(raw).to_bytes(8, "big") + raw)
    return digest.digest()


def _fingerprint(db: sqlite3.Connection, prompt: Prompt) -> bytes:
    return _digest(db, prompt.text, prompt.source, prompt.type)


def _take_unit(db: sqlite3.Connection, day: Day, limit: int, now: float) -> None:
    if units(db, day.date) >= limit:
        raise QuotaUsedUp(
            f"the day's limit of {limit} prompts is used up", retry_after=day.end - now
        )
    db.execute(
        "INSERT INTO days VALUES (?, 1) ON CONFLICT (day) DO UPDATE SET used = used + 1",
        (day.date,),
    )


def claim_asks(db: sqlite3.Connection, now: float, most: int) -> AskClaims:
    """Claim accepted prompts; see `Journal.claim_asks`."""
    rows = db.execute(
        "SELECT seq, id, prompt, source, type, accepted, traceparent, tracestate, tries, asks,"
        " min(since, ?), maybe_billed, held FROM prompts JOIN texts USING (seq)"
        " WHERE state = 'accepted' AND due <= ? ORDER BY due, seq LIMIT ?",
        (now, now, most),
    ).fetchall()
    _claim(db, now, "due = ?, tries = tries + 1, asks = asks + 1", [seq for seq, *_ in rows])
    claimed = [
        Ask(
            Prompt(id_, text, source, type_, accepted, _trace(parent, state)),
            tries + 1,
            asks + 1,
            *others,
        )
        for _, id_, text, source, type_, accepted, parent, state, tries, asks, *others in rows
    ]
    return AskClaims(claimed, _next_due(db, State.ACCEPTED))


def claim_deliveries(
    db: sqlite3.Connection, now: float, most: int, untried_since: float | None
) -> DeliveryClaims:
    """Claim answered prompts; see `Journal.claim_deliveries`."""
    rows = db.execute(
        "SELECT seq, id, event, min(since, ?), tries, accepted, traceparent, tracestate,"
        " json_extract(answer, '$.request_id'), held"
        " FROM prompts JOIN texts USING (seq)"
        " WHERE state = 'answered' AND due <= ? AND (? IS NULL OR deliveries = 0 AND since >= ?)"
        " ORDER BY due, seq LIMIT ?",
        (now, now, untried_since, untried_since, most),
    ).fetchall()
    change = "due = ?, tries = tries + 1, deliveries = deliveries + 1"
    _claim(db, now, change, [row[0] for row in rows])
    return DeliveryClaims(
        [
            Delivery(id_, event, since, tries + 1, accepted, _trace(parent, state), *others)
            for _, id_, event, since, tries, accepted, parent, state, *others in rows
        ],
        _next_due(db, State.ANSWERED),
    )


def claim_letters(db: sqlite3.Connection, now: float, most: int) -> DeliveryClaims:
    """Claim dead letters; see `Journal.claim_letters`."""
    rows = db.execute(
        "SELECT seq, id, letter, min(since, ?), letters, accepted, traceparent, tracestate, held"
        " FROM prompts JOIN texts USING (seq)"
        " WHERE letter_due <= ? ORDER BY letter_due, seq LIMIT ?",
        (now, now, most),
    ).fetchall()
    _claim(db, now, "letter_due = ?, letters = letters + 1", [seq for seq, *_ in rows])
    (due,) = db.execute(
        "SELECT min(letter_due) FROM prompts WHERE letter_due IS NOT NULL"
    ).fetchone()
    return DeliveryClaims(
        [
            Delivery(id_, letter, since, letters + 1, accepted, _trace(parent, state), held=held)
            for _, id_, letter, since, letters, accepted, parent, state, held in rows
        ],
        _before_claimed(due),
    )


def _claim(db: sqlite3.Connection, now: float, change: str, seqs: Sequence[int]) -> None:
    db.executemany(
        f"UPDATE prompts SET {change}, since = min(since, ?) WHERE seq = ?",
        [(UNDER_WAY, now, seq) for seq in seqs],
    )


def _next_due(db: sqlite3.Connection, state: State) -> float | None:
    (due,) = db.execute(
        "SELECT min(due) FROM prompts WHERE state = ? AND due IS NOT NULL", (state.value,)
    ).fetchone()
    return _before_claimed(due)


def _before_claimed(due: float | None) -> float | None:
    return None if due is None or due >= UNDER_WAY else due


def recover(db: sqlite3.Connection, now: float) -> None:
    """Make what a crash left claimed due again, in its old place; its ask may have been billed.

    A daemon's steady clock begins with the wall clock's time: where that was set back since the
    last one, instants lie in the future. None is left there, and nothing is due later than can be.
    """
    for due, states in (("due", "'accepted', 'answered'"), ("letter_due", "'failed'")):
        db.execute(
            f"UPDATE prompts SET {due} = CASE WHEN {due} = :under_way THEN min(since, :now)"
            f" WHEN {due} > :latest THEN :now ELSE {due} END,"
            f" billed = billed OR state = 'accepted' AND {due} = :under_way,"
            f" since = min(since, :now), held = min(held, :now)"
            f" WHERE state IN ({states}) AND {due} > :now",
            {"under_way": UNDER_WAY, "now": now, "latest": now + LONGEST_RETRY_AFTER},
        )


def failing(db: sqlite3.Connection) -> list[State]:
    """The states that prompts wait in whose last attempt failed."""
    return [
        state
        for state in (State.ACCEPTED, State.ANSWERED)
        if db.execute(
            "SELECT 1 FROM prompts WHERE state = ? AND due IS NOT NULL AND error IS NOT NULL",
            (state.value,),
        ).fetchone()
    ]


def answered(
    db: sqlite3.Connection,
    prompt_id: str,
    answer: Answer,
    event: bytes,
    now: float,
    date: float,
    *,
    claim: bool,
) -> None:
    """Keep an answer that came on a date; see `Journal.answered`."""
    told = {
        "model": answer.model,
        "finish_reason": answer.finish_reason,
        "request_id": answer.request_id,
        "usage": answer.usage,
    }
    db.execute(
        "UPDATE prompts SET state = 'answered', due = ?, answered = ?, since = ?, answer = ?,"
        " tries = ?, deliveries = deliveries + ?, error = NULL, held = NULL WHERE id = ?",
        (UNDER_WAY if claim else now, date, now, json.dumps(told), claim, claim, prompt_id),
    )
    db.execute(f"UPDATE texts SET event = ? WHERE {_OF_ID}", (event, prompt_id))


def delivered(db: sqlite3.Connection, prompt_id: str, date: float) -> None:
    """End a prompt well on a date; see `Journal.delivered`."""
    db.execute(
        "UPDATE prompts SET state = 'delivered', due = NULL, ended = ?, error = NULL WHERE id = ?",
        (date, prompt_id),
    )
    db.execute(f"DELETE FROM texts WHERE {_OF_ID}", (prompt_id,))


def failed(
    db: sqlite3.Connection,
    prompt_id: str,
    now: float,
    date: float,
    error: str,
    *,
    give_back: bool,
    letter: bytes | None,
) -> None:
    """Set a prompt aside on a date; see `Journal.failed`."""
    db.execute(
        "UPDATE prompts SET state = 'failed', due = NULL, ended = ?, since = ?, error = ?,"
        " letter_due = ?, letters = 0, held = NULL WHERE id = ?",
        (date, now, error, None if letter is None else now, prompt_id),
    )
    db.execute(f"UPDATE texts SET letter = ? WHERE {_OF_ID}", (letter, prompt_id))
    if give_back:
        db.execute(
            "UPDATE days SET used = used - 1"
            " WHERE day = (SELECT day FROM prompts WHERE id = ? AND NOT billed) AND used > 0",
            (prompt_id,),
        )


def postpone(
    db: sqlite3.Connection,
    prompt_id: str,
    until: float,
    error: str,
    *,
    maybe_billed: bool,
    held: float | None,
) -> None:
    """Let a claimed prompt wait; see `Journal.postpone`."""
    db.execute(
        "UPDATE prompts SET due = ?, error = ?, maybe_billed = maybe_billed + ?,"
        " billed = billed OR ?, held = coalesce(held, ?) WHERE id = ?",
        (until, error, maybe_billed, maybe_billed, held, prompt_id),
    )


def letter_ended(
    db: sqlite3.Connection, prompt_id: str, since: float, until: float | None, held: float | None
) -> None:
    """Let a dead letter wait, or be done with it; see `Journal.letter_ended`."""
    changed = db.execute(
        "UPDATE prompts SET letter_due = ?, held = coalesce(held, ?)"
        " WHERE id = ? AND letter_due = ? AND since = ?",
        (until, held, prompt_id, UNDER_WAY, since),
    )
    if until is None and changed.rowcount:
        db.execute(f"UPDATE texts SET letter = NULL WHERE {_OF_ID}", (prompt_id,))


def redrive(db: sqlite3.Connection, prompt_id: str, date: float) -> State:
    """Take a failed prompt up again, for a unit of the date's day; see `Journal.redrive`."""
    row = db.execute(
        "SELECT state, event IS NOT NULL FROM prompts JOIN texts USING (seq) WHERE id = ?",
        (prompt_id,),
    ).fetchone()
    if row is None or row[0] != State.FAILED:
        raise NotRedriven("it is not a failed prompt of this journal")
    state = State.ANSWERED if row[1] else State.ACCEPTED
    if state is State.ACCEPTED:
        terms = db.execute("SELECT everyday_limit, timezone FROM terms").fetchone()
        if terms is None:
            raise NotRedriven("no daemon has used this journal yet")
        day = day_at(date, ZoneInfo(terms[1]))
        _take_unit(db, day, terms[0], date)
        db.execute("UPDATE prompts SET day = ?, billed = 0 WHERE id = ?", (day.date, prompt_id))
    db.execute(
        "UPDATE prompts SET state = ?, due = ?, since = ?, ended = NULL, tries = 0,"
        " maybe_billed = 0, held = NULL, letter_due = NULL WHERE id = ?",
        (state.value, AT_ONCE, NOT_YET, prompt_id),
    )
    db.execute(f"UPDATE texts SET letter = NULL WHERE {_OF_ID}", (prompt_id,))
    return state


def purge(db: sqlite3.Connection, prompt_id: str) -> bool:
    """Forget a failed prompt; see `Journal.purge`."""
    db.execute(
        f"DELETE FROM texts WHERE {_OF_ID}"
        " AND seq IN (SELECT seq FROM prompts WHERE state = 'failed')",
        (prompt_id,),
    )
    gone = db.execute("DELETE FROM prompts WHERE id = ? AND state = 'failed'", (prompt_id,))
    return gone.rowcount > 0


def keep_terms(db: sqlite3.Connection, everyday_limit: int, timezone: str) -> None:
    """Write down what a redrive has to know."""
    db.execute("INSERT OR REPLACE INTO terms VALUES (1, ?, ?)", (everyday_limit, timezone))


_RECORD = "SELECT seq, id, state, accepted, answered, ended, asks, deliveries, error FROM prompts"


def record(db: sqlite3.Connection, prompt_id: str) -> Record | None:
    """What is known of a prompt; see `Journal.record`."""
    row = db.execute(f"{_RECORD} WHERE id = ?", (prompt_id,)).fetchone()
    return None if row is None else _record(row)


def records(db: sqlite3.Connection, state: State | None, after: int, most: int) -> list[Record]:
    """A page of what is known; see `Journal.records`."""
    rows = db.execute(
        f"{_RECORD} WHERE (? IS NULL OR state = ?) AND seq > ? ORDER BY seq LIMIT ?",
        (state, state, after, most),
    )
    return [_record(row) for row in rows]


def latest(
    db: sqlite3.Connection, state: State | None, before: int | None, most: int
) -> list[Record]:
    """A page of what is known, backwards; see `Journal.latest`."""
    of_state = "TRUE" if state is None else f"state = '{state.value}'"
    if state in {State.ACCEPTED, State.ANSWERED}:
        of_state += " AND due IS NOT NULL"  # as all of these are: so it is found in `work`
    page = f"SELECT seq FROM prompts WHERE {of_state} AND seq < ? ORDER BY seq DESC LIMIT ?"
    rows = db.execute(
        f"{_RECORD} WHERE seq IN ({page}) ORDER BY seq DESC",
        (_BEYOND if before is None else before, most),
    )
    return [_record(row) for row in rows]


def oldest(db: sqlite3.Connection) -> float | None:
    """When the oldest prompt that waits was accepted; see `Journal.oldest`."""
    row = db.execute(
        "SELECT accepted FROM prompts WHERE seq = (SELECT min(seq) FROM prompts"
        " WHERE state IN ('accepted', 'answered') AND due IS NOT NULL)"
    ).fetchone()
    return row[0] if row else None


def ends(db: sqlite3.Connection, since: float, most: int) -> list[End]:
    """How the last prompts ended; see `Journal.ends`."""
    rows = db.execute(
        "SELECT id, state, ended, error FROM prompts WHERE ended >= ? ORDER BY ended DESC LIMIT ?",
        (since, most),
    )
    return [End(id_, State(state), at, error) for id_, state, at, error in rows]


def _record(row: tuple[Any, ...]) -> Record:
    seq, id_, state, accepted, answered_, ended, asks, deliveries, error = row
    delivered_ = ended if state == State.DELIVERED else None
    return Record(id_, State(state), accepted, answered_, delivered_, asks, deliveries, error, seq)


def tally(db: sqlite3.Connection, day: str = "") -> Tally:
    """How many prompts are in each state, and the units spent of `day`."""
    counts = {State(state): n for state, n in db.execute("SELECT state, n FROM counts")}
    return Tally(counts, units(db, day))


def units(db: sqlite3.Connection, day: str) -> int:
    """The units spent of a day."""
    row = db.execute("SELECT used FROM days WHERE day = ?", (day,)).fetchone()
    return row[0] if row else 0


def due(db: sqlite3.Connection, state: State, now: float) -> int:
    """The prompts in a state that a daemon that starts now takes up at once."""
    (count,) = db.execute(
        "SELECT count(*) FROM prompts WHERE state = ? AND (due <= ? OR due > ?)",
        (state.value, now, now + LONGEST_RETRY_AFTER),  # what `recover` makes due
    ).fetchone()
    return int(count)


def prune(db: sqlite3.Connection, before: float) -> int:
    """Forget some prompts that ended before an instant; returns how many."""
    old = "SELECT seq FROM prompts WHERE ended < ? AND letter_due IS NULL ORDER BY ended LIMIT ?"
    db.execute(f"DELETE FROM texts WHERE seq IN ({old})", (before, PRUNE_STEP))
    return db.execute(f"DELETE FROM prompts WHERE seq IN ({old})", (before, PRUNE_STEP)).rowcount


def prune_days(db: sqlite3.Connection, before: float) -> None:
    """Forget the count of the days before an instant."""
    db.execute("DELETE FROM days WHERE day < date(?, 'unixepoch')", (before,))


def probe(db: sqlite3.Connection) -> None:
    """Write something."""
    db.execute("UPDATE probes SET count = count + 1")


def wipe(db: sqlite3.Connection) -> bool:
    """Leave nothing of a forgotten text in any file; False if something was in the way.

    `secure_delete` overwrites a row that is deleted, but neither the copies of it that stayed in
    the gaps of pages when SQLite moved it to another, nor those in the write-ahead log. The former
    go with their page, when the texts that are left are written anew; the latter when the log is
    emptied. Runs outside a transaction.
    """
    rewritten = True
    try:
        db.execute("BEGIN IMMEDIATE")
        _rewrite_texts(db)
        db.execute("COMMIT")
    except sqlite3.Error:  # a full disk, say: the log can be emptied all the same
        rewritten = False
        if db.in_transaction:
            db.execute("ROLLBACK")
    (patience,) = db.execute("PRAGMA busy_timeout").fetchone()
    db.execute("PRAGMA busy_timeout = 0")  # everybody would wait for that reader
    try:
        (busy, *_) = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    finally:
        db.execute(f"PRAGMA busy_timeout = {patience}")
    return rewritten and not busy


def _rewrite_texts(db: sqlite3.Connection) -> None:
    rows, size = db.execute(
        "SELECT count(*), sum(length(prompt) + coalesce(length(event), 0)"
        " + coalesce(length(letter), 0)) FROM (SELECT * FROM texts LIMIT ?)",
        (MOST_ROWS_REWRITTEN + 1,),
    ).fetchone()
    (_, _, path), *_ = db.execute("PRAGMA database_list")
    disk = os.statvfs(path)
    fits = (size or 0) * 4 + 2**20 < disk.f_bavail * disk.f_frsize
    if rows <= MOST_ROWS_REWRITTEN and (size or 0) <= MOST_BYTES_REWRITTEN and fits:
        texts = db.execute("SELECT * FROM texts ORDER BY seq").fetchall()
        db.execute("DELETE FROM texts")
        db.executemany("INSERT INTO texts VALUES (?, ?, ?, ?, ?, ?, ?, ?)", texts)
