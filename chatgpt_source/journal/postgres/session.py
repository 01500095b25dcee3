"""A connection as operations see it: statements, and instants by the database's clock."""

from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import psycopg
from attrs import define, field, frozen
from psycopg.errors import Diagnostic

from chatgpt_source.journal.group_commit import Operation
from chatgpt_source.prompt import State

Row = dict[str, Any]
Connection = psycopg.Connection[Row]
Cursor = psycopg.Cursor[Row]
Result = TypeVar("Result")


@frozen
class Last:
    """A statement after which an operation sends no other, so that a COMMIT may follow it.

    Attributes:
        cursor: The statement.
        again: A query for the same rows, should they be lost with the result of the COMMIT.
        values: Its values.
    """

    cursor: Cursor
    again: str
    values: Mapping[str, object]


Steps = Generator[Cursor | Last, list[Row], Result]
"""An operation: it yields each statement whose rows it needs, and returns its result."""

DELIVERED, ANSWERED, CLAIM, ACCEPT, OTHER = range(5)
"""The order of a group's operations: all processes lock rows in this order."""


class Together:
    """A request of a kind that has statements for all of a group.

    Attributes:
        rank: Its place in a group.
    """

    rank: ClassVar[int]

    @staticmethod
    def all_of(db: "Session", operations: Sequence[Operation[Any]]) -> Steps[None]:
        """Do all such operations of a group; sets the outcome of each."""
        raise NotImplementedError


MOST_CLAIMED = 2 * 2**20
"""Bytes of text in one claim, to keep its transaction short."""
_CRUDE = 1.0
"""The error in seconds of an offset that gives way to a better one."""
_EXACT = 1024
"""Parts of a second in an offset: a sum of such numbers is exact, so instants come back equal."""


@define(eq=False, repr=False)
class Session:
    """A connection, with whose claims it makes.

    Attributes:
        connection: The connection.
        secret: The journal's secret.
        offset: What makes an instant of this process one of the database's clock.
        error: The most by which it may be wrong; `-inf`: it is not known yet.
        owner: The id of this run's row in `owners`; None: it claims nothing.
        backlog: How many prompts waited when they were last counted, and those admitted since.
        counted: When that was.
        peers_known: The version of what is known of each peer already.
        returned: How many units the current group gives back to each day.
        ended: How many prompts of the current group have ended in each state, where a statement
            does not count them itself.
        unconfirmed: Whether a COMMIT went on without its synchronous standby.
        differs: Whether others that live have had another limit, or another time zone.
        sweep_after: When others that live have had time to renew their leases.
    """

    connection: Connection
    secret: bytes = field(default=b"", repr=False)
    offset: float = 0.0
    error: float = float("-inf")
    owner: int | None = None
    backlog: int = 0
    counted: float = float("-inf")
    peers_known: dict[str, int] = field(factory=dict)
    returned: Counter[str] = field(factory=Counter)
    ended: Counter[State] = field(factory=Counter)
    unconfirmed: bool = False
    sweep_after: float = 0.0
    differs: bool = False

    def execute(
        self, query: str, values: Sequence[object] | Mapping[str, object] | None = None
    ) -> Cursor:
        """Send a statement; within a pipeline, its rows are there once the operation yields."""
        return self.connection.execute(query.encode(), values)

    def notice(self, notice: Diagnostic) -> None:
        """Look for the warning of a COMMIT whose wait for its standby was cancelled.

        It succeeds all the same; the warning has no SQLSTATE of its own, and its text varies.
        """
        if notice.source_function == "SyncRepWaitForLSN":
            self.unconfirmed = True

    def set_clock(self, database: float, before: float, after: float) -> None:
        """Follow the database's clock, which showed `database` between two instants.

        What the round trip explains changes nothing, so that instants come back equal. The offset
        is rounded, so that they survive both ways unchanged.
        """
        measured = round((database - (before + after) / 2) * _EXACT) / _EXACT
        error = (after - before) / 2 + 1 / _EXACT
        is_better = error * 4 < self.error and self.error > _CRUDE
        if is_better or abs(measured - self.offset) > self.error + error:
            self.offset, self.error = measured, error

    def stored(self, instant: float | None) -> float | None:
        """An instant of this process as one of the database's clock."""
        return None if instant is None else instant + self.offset

    def at(self, instant: float) -> float:
        """As `stored`, of an instant that there is."""
        return instant + self.offset

    def steady(self, stored: float | None) -> float | None:
        """An instant of the database's clock as one of this process."""
        return None if stored is None else stored - self.offset


def rows_of(cursor: Cursor) -> list[Row]:
    """The rows of a statement that has run."""
    return cursor.fetchall() if cursor.description is not None else []


def arrays(columns: Mapping[str, str]) -> str:
    """SQL for a table of given values, one array a column; its `place` counts from 1."""
    # As text, a long value would be twice as long, and slow to make.
    form = {"prompt": "b", "event": "b"}
    given = ", ".join(f"%({name}){form.get(name, 's')}::{kind}[]" for name, kind in columns.items())
    return (
        f"given AS MATERIALIZED (SELECT * FROM unnest({given})"
        f" WITH ORDINALITY AS given ({', '.join(columns)}, place))"
    )
