"""The texts of callers and peers: short ones in `texts`, long ones in `long_texts`.

When SQLite moves a row to another page, it leaves a copy in the old page's gap. Of a row longer
than a page it moves the beginning alone, and `secure_delete` overwrites the pages of the rest when
the row is deleted. So a row of `long_texts` begins with a page of zeros: SQLite never copies the
text after it.
"""

import sqlite3
from collections.abc import Iterable
from enum import IntEnum

from chatgpt_source.journal.sqlite.together import ForMany, insert
from chatgpt_source.prompt import Prompt, Trace

SHORT = 2048
"""Bytes of a text in a row of `texts` at the most."""


class Part(IntEnum):
    """The texts of a prompt; each is a column of `texts`."""

    PROMPT = 0
    EVENT = 1
    LETTER = 2
    DETAILS = 3

    @property
    def column(self) -> str:
        """Its column; empty if the text is in `long_texts`."""
        return self.name.lower()

    @property
    def whole(self) -> str:
        """An SQL expression for the text, for a query that joins `texts`."""
        empty = "x''" if self in {Part.EVENT, Part.LETTER} else "''"
        long = f"(SELECT text FROM long_texts WHERE id = seq * 4 + {self.value})"
        return f"CASE {self.column} WHEN {empty} THEN {long} ELSE {self.column} END"


_ADD = insert(
    *("texts", "seq", "prompt", "source", "type"),
    *("traceparent", "tracestate", "details", "size"),
)
_SET_EVENT = ForMany(
    "UPDATE texts SET event = given.event, size = texts.size + given.size FROM given"
    " WHERE texts.seq = given.seq",
    ("seq", "event", "size"),
)


def add(db: sqlite3.Connection, prompts: Iterable[tuple[int, Prompt]]) -> None:
    """Store the texts of prompts by `seq`, their details, and the attributes of their events."""
    rows = []
    for seq, prompt in prompts:
        text = place(db, seq, Part.PROMPT, prompt.text)
        details = prompt.details.to_json()
        trace = (None, None) if prompt.trace is None else (prompt.trace.parent, prompt.trace.state)
        others = (
            *(prompt.source, prompt.type, *trace),
            None if details is None else place(db, seq, Part.DETAILS, details),
        )
        rows.append((seq, text, *others, size_of([text, *others])))
    _ADD.run(db, rows)


def set_events(db: sqlite3.Connection, events: Iterable[tuple[int, bytes]]) -> None:
    """Store the events of answered prompts, by `seq`."""
    kept = [(seq, place(db, seq, Part.EVENT, event)) for seq, event in events]
    _SET_EVENT.run(db, [(seq, event, len(event)) for seq, event in kept])


def set_dead_letter(db: sqlite3.Connection, seq: int, dead_letter: bytes) -> None:
    """Store a failed prompt's dead letter."""
    kept = place(db, seq, Part.LETTER, dead_letter)
    db.execute(
        "UPDATE texts SET letter = ?, size = size + ? WHERE seq = ?", (kept, size_of([kept]), seq)
    )


def forget_dead_letter(db: sqlite3.Connection, seq: int) -> None:
    """Delete a prompt's dead letter, if it has one."""
    db.execute("UPDATE texts SET letter = NULL WHERE seq = ? AND letter IS NOT NULL", (seq,))


def trace_of(row: sqlite3.Row) -> Trace | None:
    """The trace of a prompt's request, from its row of `texts`."""
    parent = row["traceparent"]
    return None if parent is None else Trace(parent, row["tracestate"])


def settle(db: sqlite3.Connection) -> None:
    """Store the sizes of an earlier version's texts, and move the long ones to `long_texts`."""
    others = "source, type, traceparent, tracestate"
    columns = ", ".join(part.column for part in Part)
    unsettled = f"SELECT seq, {others}, {columns} FROM texts WHERE size IS NULL LIMIT 1"
    while (row := db.execute(unsettled).fetchone()) is not None:
        seq, short, texts = row[0], row[1 : -len(Part)], row[-len(Part) :]
        kept = [
            None if text is None else place(db, seq, part, text)
            for part, text in zip(Part, texts, strict=True)
        ]
        db.execute(
            f"UPDATE texts SET ({columns}, size) = (?, ?, ?, ?, ?) WHERE seq = ?",
            (*kept, size_of([*short, *kept]), seq),
        )


def place(db: sqlite3.Connection, seq: int, part: Part, text: str | bytes) -> str | bytes:
    """Store a text in `long_texts` if it is long; returns the value for its column."""
    size = size_of([text])
    if size <= SHORT:
        return text
    db.execute(
        "INSERT OR REPLACE INTO long_texts"
        " VALUES (?, ?, zeroblob((SELECT page_size FROM pragma_page_size)), ?)",
        (seq * 4 + part, size, text),
    )
    return text[:0]


def size_of(texts: Iterable[str | bytes | None]) -> int:
    """The bytes of all the texts together, as SQLite stores them."""
    return sum(
        len(text.encode("utf-8")) if isinstance(text, str) else len(text) if text else 0
        for text in texts
    )
