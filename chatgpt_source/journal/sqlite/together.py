"""Many operations of a kind at once: a few statements for all of a group, not a few for each.

Each statement gives the interpreter's lock away, and waits for it while the main thread is busy.
And SQLite prepares for a statement whose triggers may fail: that costs twice as much as a row.
"""

import json
import sqlite3
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import chain
from typing import Any, Generic, TypeVar

from attrs import frozen

from chatgpt_source.journal.group_commit import Operation

ROWS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
"""For how many rows a statement is kept prepared; it gets NULLs for those that are missing."""

Result = TypeVar("Result")
Operations = Sequence[Operation[sqlite3.Connection]]


class Together(ABC, Generic[Result]):
    """A request of a kind that has statements for many; called, it is done alone."""

    @staticmethod
    @abstractmethod
    def all_of(db: sqlite3.Connection, requests: Sequence[Any]) -> Sequence[Result | Exception]:
        """Do all such requests of a group; returns what each comes to.

        For a request that is refused, and so has written nothing, that is the exception. If one
        can't be done, this raises an exception, and is called again for each of them alone.
        """

    def __call__(self, db: sqlite3.Connection) -> Result:
        """Do it alone."""
        (outcome,) = self.all_of(db, [self])
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


@frozen
class ForMany:
    """A statement that reads the table `given`; its columns are named here.

    It may get more rows than were given: those have NULL alone.
    """

    sql: str
    columns: tuple[str, ...]

    def run(self, db: sqlite3.Connection, rows: Sequence[Sequence[object]]) -> list[Any]:
        """Run it for some rows of values; returns its own rows."""
        found = []
        for start in range(0, len(rows), ROWS[-1]):
            part = rows[start : start + ROWS[-1]]
            size = ROWS[bisect_left(ROWS, len(part))]
            nulls = [None] * (len(self.columns) * (size - len(part)))
            statement = _statement(self.sql, self.columns, size)
            found += db.execute(statement, [*chain.from_iterable(part), *nulls]).fetchall()
        return found


@cache
def _statement(sql: str, columns: tuple[str, ...], size: int) -> str:
    row = f"({', '.join('?' * len(columns))})"
    return f"WITH given ({', '.join(columns)}) AS (VALUES {', '.join([row] * size)}) {sql}"


def insert(table: str, *columns: str) -> ForMany:
    """The statement that inserts many rows; the first column is not NULL."""
    names = ", ".join(columns)
    sql = f"INSERT INTO {table} ({names}) SELECT {names} FROM given WHERE {columns[0]} IS NOT NULL"
    return ForMany(sql, columns)


def held(
    db: sqlite3.Connection, lookup: ForMany, claims: Sequence[tuple[object, ...]]
) -> list[int | None]:
    """The `seq` of each claim that is held, else None; of equal claims, the first one alone is.

    Args:
        db: The database.
        lookup: Gets a place and the values of each claim, and returns the `seq` by place as JSON:
            in one row, as each row costs another wait.
        claims: The values of each claim.
    """
    places: dict[tuple[object, ...], int] = {}
    for place, claim in enumerate(claims):
        places.setdefault(claim, place)
    found: dict[str, int] = {}
    for (some,) in lookup.run(db, [(place, *claim) for claim, place in places.items()]):
        found.update(json.loads(some))
    return [found.get(str(place)) for place in range(len(claims))]


def in_order(operations: Operations) -> Iterator[Operations]:
    """What is done at a time: those of each kind together, up to one that has no kind."""
    kinds: dict[type[Together[Any]], list[Operation[sqlite3.Connection]]] = {}
    for each in operations:
        if isinstance(each.run, Together):
            kinds.setdefault(type(each.run), []).append(each)
        else:
            yield from kinds.values()
            kinds.clear()
            yield [each]
    yield from kinds.values()


def outcomes(db: sqlite3.Connection, operations: Operations) -> Sequence[object]:
    """Do operations at a time; returns what each comes to, if refused the exception."""
    first = operations[0].run
    if isinstance(first, Together):
        return type(first).all_of(db, [each.run for each in operations])
    return [first(db)]
