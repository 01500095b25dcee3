"""The journal in a file that is copied: locked against daemons, and read in pages."""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import frozen

from chatgpt_source.errors import JournalError, JournalInUse
from chatgpt_source.journal import digests
from chatgpt_source.journal.sqlite.file import OpenJournal, open_stopped
from chatgpt_source.journal.sqlite.schema import VERSION, version_of
from chatgpt_source.journal.sqlite.texts import Part
from chatgpt_source.prompt import DEAD_LETTER

ROWS = 2000
"""Rows of a page at the most."""
BYTES = 4 * 2**20
"""Bytes of text with which a page is full."""

Values = tuple[Any, ...]


@frozen
class Rows:
    """Rows of a table.

    Attributes:
        table: Its name.
        columns: What each has.
        rows: The rows.
    """

    table: str
    columns: Sequence[str]
    rows: Iterable[Values]


@frozen
class Page:
    """What is copied in one transaction.

    Attributes:
        last: The number of its last row.
        tables: Its rows, in the order in which they can be written.
    """

    last: int
    tables: Sequence[Rows]


@frozen
class Shift:
    """How instants are converted.

    Attributes:
        now: The time by the clock of the source's daemon, as its next start would have it.
        ahead: What makes an instant of that clock one of the target's.
    """

    now: float
    ahead: float


def _later(*columns: str) -> dict[str, str]:
    """SQL for instants by the target's clock."""
    return {each: f"{each} + :ahead" for each in columns}


def _same(*columns: str) -> dict[str, str]:
    return {each: each for each in columns}


def _released(*columns: str) -> dict[str, str]:
    """SQL for instants that are no later than now where there is a claim, as that ends."""
    return {
        each: f"CASE WHEN owner IS NULL THEN {each} ELSE min({each}, :now) END + :ahead"
        for each in columns
    }


_PROMPTS = {
    **_same("seq", "id", "state", "day", "accepted", "answered", "ended"),
    **_released("due", "since", "held"),
    **_same("tries", "asks", "deliveries", "possibly_billed"),
    "billed": "billed OR (owner IS NOT NULL AND state = 'accepted')",
    **_same("error", "target", "request_id", "submitted", "polls", "missing"),
    **_later("not_before", "deadline", "ends", "needed_until", "kept_until", "missing_since"),
    **_same("provider", "tier", "batch"),
    **_same("ask_seconds", "answered_by", "input_tokens", "output_tokens"),
    **_same("sent_seconds", "sent_status"),
}
_TEXTS = {
    "prompt": f"CAST({Part.PROMPT.whole} AS BLOB)",
    "event": Part.EVENT.whole,
    "letter": Part.LETTER.whole,
    "details": Part.DETAILS.whole,
    **_same("source", "type", "traceparent", "tracestate"),
}
_OUTBOX = {
    **_same("seq", "destination", "attempts", "error"),
    **_released("due", "since", "held"),
}
_KEYS = _same("digest", "fingerprint", "seq")
_ATTEMPTS = {
    **_same("seq", "kind", "place", "number", "peer", "started", "seconds", "outcome", "status"),
    **_same("error", "request_id"),
}
_LEFTOVERS = {
    **_same("id", "submitted", "provider", "stop", "forget", "tries"),
    **_released("due", "since"),
}
_FEW = {
    "terms": _same("id", "everyday_limit", "timezone"),
    "days": _same("day", "used"),
    "batches": {
        **_same("id", "key", "created", "file", "remote", "results", "cancelled"),
        **_later("deadline"),
    },
    "peers": {
        **_same("name", "fingerprint", "held", "misses", "failing"),
        **_later("since", "probe_at", "throttled_until"),
    },
    "history": {**_same("step", "start", "counts"), "owner": "-owner"},  # no owner of the copy
    "pauses": _same("what", "who", "since", "resumed"),
    "audit": _same("id", "who", "did"),
}
"""Tables that are copied whole: there are few rows of each."""


@frozen
class Source:
    """A journal in a file, which no daemon and no operator changes meanwhile.

    Attributes:
        opened: The open file.
        secret: The journal's secret.
    """

    opened: OpenJournal
    secret: bytes

    @property
    def db(self) -> sqlite3.Connection:
        """SQLite's connection."""
        return self.opened.connection

    def mark(self) -> bytes:
        """A digest of how far the journal has come: another one once it was used again."""
        last_use = self.db.execute(
            "SELECT (SELECT max(id) FROM owners), (SELECT count FROM probes),"
            " (SELECT max(seq) FROM prompts)"
        ).fetchone()
        counts = self.db.execute("SELECT state, n FROM counts ORDER BY state").fetchall()
        return digests.digest(self.secret, "copy", repr((last_use, counts)))

    def count(self) -> int:
        """How many prompts there are."""
        (number,) = self.db.execute("SELECT sum(n) FROM counts").fetchone()
        return int(number)

    def few(self, shift: Shift) -> list[Rows]:
        """The tables with few rows."""
        return [
            Rows(table, list(columns), self._select(columns, f"FROM {table}", shift).fetchall())
            for table, columns in _FEW.items()
        ]

    def leftovers(self, after: int, shift: Shift) -> Iterator[Page]:
        """The leftovers after one, in pages."""
        found = self._select(
            _LEFTOVERS, "FROM leftovers WHERE id > :after ORDER BY id", shift, after=after
        )
        while rows := found.fetchmany(ROWS):
            yield Page(rows[-1][0], [Rows("leftovers", list(_LEFTOVERS), rows)])

    def prompts(self, after: int, shift: Shift) -> Iterator[Page]:
        """The prompts after one, with all that is theirs, in pages."""
        found = self._select(
            {**_PROMPTS, "text": "texts.seq", **_TEXTS},
            "FROM prompts LEFT JOIN texts USING (seq) WHERE seq > :after ORDER BY seq",
            shift,
            after=after,
        )
        prompts: list[Values] = []
        texts: list[Values] = []
        sizes: dict[int, tuple[int, int]] = {}
        in_page = 0
        for row in found:
            of_prompt, (with_text, *of_text) = row[: len(_PROMPTS)], row[len(_PROMPTS) :]
            prompt, event, letter, details = (_length(each) for each in of_text[:4])
            prompts.append((*of_prompt, prompt + details))
            sizes[row[0]] = (event, letter)
            if with_text is not None:
                texts.append((row[0], *of_text))
            in_page += prompt + event + letter + details
            if len(prompts) >= ROWS or in_page >= BYTES:
                yield self._page(prompts, texts, sizes, shift)
                prompts, texts, sizes, in_page = [], [], {}, 0
        if prompts:
            yield self._page(prompts, texts, sizes, shift)

    def _page(
        self,
        prompts: list[Values],
        texts: list[Values],
        sizes: dict[int, tuple[int, int]],
        shift: Shift,
    ) -> Page:
        first, last = prompts[0][0], prompts[-1][0]
        between = "WHERE seq BETWEEN :first AND :last ORDER BY seq"
        events = [
            (*row, sizes[row[0]][row[1] == DEAD_LETTER.setting])
            for row in self._select(
                _OUTBOX, f"FROM outbox {between}", shift, first=first, last=last
            )
        ]
        keys = self._select(_KEYS, f"FROM keys {between}", shift, first=first, last=last)
        attempts = self._select(
            _ATTEMPTS, f"FROM attempts {between}", shift, first=first, last=last
        )
        return Page(
            last,
            [
                Rows("prompts", [*_PROMPTS, "size"], prompts),
                Rows("texts", ["seq", *_TEXTS], texts),
                Rows("outbox", [*_OUTBOX, "size"], events),
                Rows("keys", list(_KEYS), keys.fetchall()),
                Rows("attempts", list(_ATTEMPTS), attempts.fetchall()),
            ],
        )

    def numbers(self) -> dict[tuple[str, str], int]:
        """The last number that was given, by table and column."""
        last = {
            (table, column): self.db.execute(f"SELECT max({column}) FROM {table}").fetchone()[0]
            for table, column in (("prompts", "seq"), ("leftovers", "id"), ("audit", "id"))
        }
        # A batch that is gone leaves its number here.
        given = self.db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'batches'").fetchone()
        last["batches", "id"] = given and given[0]
        return {where: number for where, number in last.items() if number is not None}

    def _select(
        self, columns: dict[str, str], of: str, shift: Shift, **values: int
    ) -> sqlite3.Cursor:
        what = ", ".join(columns.values())
        return self.db.execute(
            f"SELECT {what} {of}", {"now": shift.now, "ahead": shift.ahead, **values}
        )


@contextmanager
def opened(path: Path) -> Iterator[Source]:
    """The journal at `path`, locked as by its daemon, and unchanged while it is open.

    Raises:
        JournalError: If it can't be copied.
    """
    try:
        found = open_stopped(path)
    except JournalInUse:
        raise JournalError(f"journal {path} is in use by a daemon: stop that first") from None
    try:
        known = version_of(found.connection)
        if known < VERSION:
            raise JournalError(
                f"journal {path} was written by an earlier release (schema {known}, this one"
                f" copies {VERSION}): start this release's daemon on it once, and stop it"
            )
        found.connection.execute("BEGIN IMMEDIATE")  # an operator's command has to wait
        (secret,) = found.connection.execute("SELECT value FROM secret").fetchone()
        yield Source(found, secret)
    except sqlite3.Error as error:  # its text may have a prompt's
        reason = getattr(error, "sqlite_errorname", type(error).__name__)
        raise JournalError(
            f"journal {path} can't be read ({reason}): is it in use, or damaged?"
        ) from None
    finally:
        found.close()


def _length(text: str | bytes | None) -> int:
    """The bytes of a text."""
    return len(text.encode()) if isinstance(text, str) else len(text or b"")
