"""Operations side by side: each sends a statement, all results come back in one round trip."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
from attrs import define, field, frozen

from chatgpt_source.journal.group_commit import Operation
from chatgpt_source.journal.postgres.session import (
    CLAIM,
    Connection,
    Cursor,
    Last,
    Session,
    Steps,
    Together,
    rows_of,
)

Operations = Sequence[Operation[Session]]


@frozen
class Ranked:
    """An operation with its place in a group; all processes lock rows in that order."""

    rank: int
    steps: Callable[[Session], Steps[Any]]

    def __call__(self, db: Session) -> Steps[Any]:
        """Begin it."""
        return self.steps(db)


def rank_of(operation: Operation[Session]) -> int:
    """An operation's place in its group."""
    return operation.run.rank  # type: ignore[attr-defined, no-any-return]


def begin(db: Session, operations: Operations) -> list[Steps[None]]:
    """What sets the outcome of each operation, in the order in which all processes lock rows.

    Those of a kind that has statements for many at once are taken together. A claim that nobody
    waits for any more is left out: while this owner lives, nobody else would get it.
    """
    begun: list[tuple[int, Steps[None]]] = []
    together: dict[type[Together], list[Operation[Session]]] = {}
    for each in operations:
        each.result = each.error = None
        request: Any = each.run
        if each.waiter.called and rank_of(each) == CLAIM:
            continue
        if isinstance(request, Together):
            together.setdefault(type(request), []).append(each)
        else:
            begun.append((rank_of(each), _alone(db, each)))
    begun += [(kind.rank, _all(db, some, kind)) for kind, some in together.items()]
    return [steps for _, steps in sorted(begun, key=lambda each: each[0])]


def _alone(db: Session, operation: Operation[Session]) -> Steps[None]:
    try:
        operation.result = yield from operation.run(db)
    except (psycopg.Error, UnicodeError):
        raise
    except Exception as error:  # noqa: BLE001 - a refusal or a bug fails this operation alone
        operation.error = error


def _all(db: Session, operations: Operations, kind: type[Together]) -> Steps[None]:
    try:
        yield from kind.all_of(db, operations)
    except (psycopg.Error, UnicodeError):
        raise
    except Exception as error:  # noqa: BLE001 - likewise
        for each in operations:
            each.error = error


@define
class UnderWay:
    """Operations side by side, each with the statement that it has sent."""

    sent: list[tuple[Steps[None], Cursor | Last]] = field(factory=list)

    def begin(self, some: Sequence[Steps[None]]) -> None:
        """Let some send their first statements."""
        for steps in some:
            with suppress(StopIteration):
                self.sent.append((steps, next(steps)))

    def until_last(self, pipeline: psycopg.Pipeline) -> None:
        """Go on until all have sent their last statements; those have not come back then."""
        while not all(isinstance(cursor, Last) for _, cursor in self.sent):
            pipeline.sync()
            self.go_on()

    def go_on(self) -> None:
        """Let each have its rows, which must be there, and go on."""
        sent, self.sent = self.sent, []
        for steps, cursor in sent:
            rows = rows_of(cursor.cursor if isinstance(cursor, Last) else cursor)
            with suppress(StopIteration):
                self.sent.append((steps, steps.send(rows)))

    def go_on_without_rows(self, db: Session) -> None:
        """Let each go on whose last rows were lost; they are read again."""
        while self.sent:
            steps, last = self.sent[0]
            assert isinstance(last, Last)  # else there was no COMMIT  # noqa: S101
            rows = db.execute(last.again, last.values).fetchall()
            del self.sent[0]
            with suppress(StopIteration):
                steps.send(rows)


@contextmanager
def pipelined(connection: Connection) -> Iterator[psycopg.Pipeline]:
    """A pipeline that is left in silence after an error, as psycopg logs what follows from one."""
    errors: list[Exception] = []
    try:
        with connection.pipeline() as pipeline:
            try:
                yield pipeline
            except Exception as first:  # noqa: BLE001 - it is raised below
                errors.append(first)
    except psycopg.Error as second:
        errors.append(second)
    if errors:
        raise errors[0]
