"""Compare what two journals have."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from attrs import frozen

from chatgpt_source.journal.copying.source import Source
from chatgpt_source.journal.copying.target import Target
from chatgpt_source.journal.sqlite.texts import Part

PAGE = 5000
"""Rows that are looked up at a time."""


def _by(column: str, table: str, what: str) -> str:
    """SQL that counts a table's rows by a column; SQLite's GROUP BY would keep all in memory."""
    count = f"SELECT count(*) FROM {table} WHERE {column} = given"
    given = f"SELECT DISTINCT {column} AS given FROM {table}"
    return f"SELECT '{what} ' || given, ({count}) FROM ({given}) AS found ORDER BY 1"


_COUNTS = (
    _by("state", "prompts", "prompts"),
    "SELECT 'units of ' || day, used FROM days ORDER BY 1",
    _by("destination", "outbox", "events for"),
    "SELECT 'attempts to deliver', coalesce(sum(attempts), 0) FROM outbox",
    "SELECT 'keys', count(*) FROM keys",
    "SELECT 'calls', count(*) FROM attempts",
    "SELECT 'batches', count(*) FROM batches",
    "SELECT 'leftovers', count(*) FROM leftovers",
    "SELECT 'peers', count(*) FROM peers",
    "SELECT 'pauses', count(*) FROM pauses",
    "SELECT 'audit entries', count(*) FROM audit",
    "SELECT 'periods of the history', count(*) FROM history",
)
"""What is counted in either journal by the same query."""
_BYTES = {
    "bytes of prompts": Part.PROMPT,
    "bytes of events": Part.EVENT,
    "bytes of dead letters": Part.LETTER,
}
_STORED = ", ".join(f"length(CAST({each.whole} AS BLOB))" for each in _BYTES.values())
_COPIED = ", ".join(f"sum(octet_length({each.column}))" for each in _BYTES.values())
_EQUAL = {
    "prompts": ("seq", "id", "state", "day"),
    "outbox": ("seq", "destination", "attempts"),
    "keys": ("digest", "fingerprint", "seq"),
    "pauses": ("what", "who", "since", "resumed"),
    "history": ("start", "step", "abs(owner)", "counts"),  # a copy's has no owner: see `source`
}
"""By table, the columns that are compared row by row, the first the one that orders them."""


@frozen
class Count:
    """How many there are of something in each journal."""

    what: str
    source: int
    target: int

    @property
    def is_same(self) -> bool:
        """Whether there are as many."""
        return self.source == self.target


def compare(
    source: Source, target: Target, go_on: Callable[[], None] = lambda: None
) -> list[Count]:
    """Count what both journals have, and look up each row of some tables of the source.

    `go_on` is called now and then, and may raise an exception.
    """
    told = []
    for query in _COUNTS:
        told += _both(dict(source.db.execute(query).fetchall()), dict(target.rows(query)))
    told += _bytes(source, target, go_on)
    for table, columns in _EQUAL.items():
        told.append(_found(source, target, table, columns, go_on))
    return told


def _both(source: Mapping[str, int], target: Mapping[str, int]) -> list[Count]:
    names = dict.fromkeys([*source, *target])
    return [Count(each, int(source.get(each, 0)), int(target.get(each, 0))) for each in names]


def _bytes(source: Source, target: Target, go_on: Callable[[], None]) -> list[Count]:
    """The bytes of the texts; some at a time, so that no statement takes long."""
    here, there = Counter[str](), Counter[str]()
    rows = source.db.execute(f"SELECT seq, {_STORED} FROM texts ORDER BY seq")
    after = -1
    while page := rows.fetchmany(PAGE):
        for sizes in page:
            here.update({what: size or 0 for what, size in zip(_BYTES, sizes[1:], strict=True)})
        last = page[-1][0]
        between = "WHERE seq > %s AND seq <= %s"
        (sums,) = target.rows(f"SELECT {_COPIED} FROM texts {between}", after, last)
        there.update({what: int(size or 0) for what, size in zip(_BYTES, sums, strict=True)})
        after = last
        go_on()
    return [Count(what, here[what], there[what]) for what in _BYTES]


def _found(
    source: Source,
    target: Target,
    table: str,
    columns: Sequence[str],
    go_on: Callable[[], None],
) -> Count:
    """How many rows of the source there are, and how many of these the target has."""
    names, by = ", ".join(columns), columns[0]
    rows = source.db.execute(f"SELECT {names} FROM {table} ORDER BY {by}")
    number = found = 0
    while page := rows.fetchmany(PAGE):
        number += len(page)
        first, last = page[0][0], page[-1][0]
        # SQLite sorts texts by their bytes; a database in PostgreSQL, as its language does.
        key = f'{by} COLLATE "C"' if isinstance(first, str) else by
        between = f"WHERE {key} BETWEEN %s AND %s"
        copied = target.rows(f"SELECT {names} FROM {table} {between}", first, last)
        found += len(set(page).intersection(copied))
        go_on()
    return Count(f"{table}, row by row", number, found)
