"""The journal in PostgreSQL that is copied to: each page is one transaction."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any

import psycopg
from attrs import frozen
from psycopg import errors
from psycopg.rows import tuple_row

from chatgpt_source.errors import JournalError
from chatgpt_source.journal.copying.source import Page, Rows, Shift, Source, Values
from chatgpt_source.journal.postgres import schema
from chatgpt_source.journal.postgres.accept import IN_BACKLOG
from chatgpt_source.journal.postgres.connect import Database, connect, reason_of
from chatgpt_source.journal.postgres.link import database_date
from chatgpt_source.journal.postgres.recovery import STARTS
from chatgpt_source.journal.postgres.session import Connection, Row, Session

LOCK = 0x63677063
"""The advisory lock that one copy at a time has."""
SESSION = {
    "idle_in_transaction_session_timeout": "60s",  # nobody waits for its rows
    "lock_timeout": "3s",  # a copy that was killed holds the lock until the server knows of it
    "tcp_keepalives_idle": "5",  # and it is to know soon, even of a machine that is gone
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
}
"""What differs from other connections."""
_UNREADABLE = "\ufffd"
"""What stands for a NUL, which no text in PostgreSQL can have."""
_TO_DROP = "drop its tables (docs/replicas.md says how), and copy again"
_USE = """
SELECT (SELECT count(*) FROM owners WHERE NOT ended AND until >= clock_timestamp()) AS users,
    pg_sequence_last_value('owners_id_seq') AS owner,
    EXISTS (SELECT 1 FROM prompts) OR EXISTS (SELECT 1 FROM leftovers)
        OR EXISTS (SELECT 1 FROM batches) OR EXISTS (SELECT 1 FROM days WHERE used > 0) AS filled
"""


@frozen
class Progress:
    """How far the copy has come.

    Attributes:
        shift: How instants are converted, from the first start of the copy on.
        leftovers: The last leftover that was copied.
        prompts: The last prompt that was copied.
        is_whole: Whether the copy has ended.
    """

    shift: Shift
    leftovers: int
    prompts: int
    is_whole: bool


@frozen
class Target:
    """A journal in PostgreSQL, which no daemon uses.

    Attributes:
        connection: A connection to it, with the lock.
    """

    connection: Connection

    def begin(self, source: Source, now: float, date: float) -> Progress:
        """Begin a copy, or go on with it.

        Args:
            source: What is copied.
            now: The time by the clock of the source's daemon.
            date: The time by the database's clock.

        Raises:
            JournalError: If the target has something else, or is in use.
        """
        with self.connection.transaction():
            # A start takes this lock, too; after it, the copy's row lets no owner in.
            self.connection.execute("SELECT pg_advisory_xact_lock(%s)", (STARTS,))
            self.connection.execute("LOCK TABLE owners IN EXCLUSIVE MODE")
            use, copy = self._one(_USE), self._one("SELECT * FROM copy")
            _require_fit(use, copy, source, bytes(self._one("SELECT value FROM secret")["value"]))
            if copy:
                shift = Shift(copy["began"] - copy["ahead"], copy["ahead"])
                return Progress(
                    shift, copy["leftovers"], copy["prompts"], copy["whole"] is not None
                )
            # One that is paused, its lease over, is to begin anew; then the row keeps it out.
            self.connection.execute("UPDATE owners SET ended = TRUE WHERE NOT ended")
            clock = Session(self.connection)
            clock.set_clock(date, now, now)
            shift = Shift(now, clock.offset)
            self.connection.execute(
                "INSERT INTO copy (id, source, began, ahead, owner) VALUES (1, %s, %s, %s, %s)",
                (source.mark(), now + shift.ahead, shift.ahead, use["owner"]),
            )
            self.connection.execute("UPDATE secret SET value = %s", (source.secret,))
            for rows in source.few(shift):
                self.connection.execute(f"DELETE FROM {rows.table}".encode())
                self._write(rows)
        return Progress(shift, 0, 0, is_whole=False)

    def add(self, what: str, page: Page) -> None:
        """Write a page, and that the copy has come so far with `what`."""
        with self.connection.transaction():
            for rows in page.tables:
                self._write(rows)
            self.connection.execute(f"UPDATE copy SET {what} = %s".encode(), (page.last,))

    def settle(self, last: Mapping[tuple[str, str], int]) -> None:
        """Write what follows from what was copied; `last` are the last numbers that were given."""
        with self.connection.transaction():
            for (table, column), number in last.items():
                self.connection.execute(
                    "SELECT setval(pg_get_serial_sequence(%s, %s), %s)", (table, column, number)
                )
            self.connection.execute("DELETE FROM ended_counts")
            self.connection.execute(
                "INSERT INTO ended_counts SELECT state, count(*) FROM prompts"
                f" WHERE NOT {IN_BACKLOG} GROUP BY state"
            )

    def end(self) -> None:
        """Let daemons start."""
        # Without statistics, their first statements would read whole tables.
        self.connection.execute("ANALYZE prompts, texts, outbox, keys, leftovers")
        self.connection.execute("UPDATE copy SET whole = clock_timestamp() WHERE whole IS NULL")

    def rows(self, query: str, *values: object) -> Sequence[Values]:
        """The rows of a query."""
        with self.connection.cursor(row_factory=tuple_row) as cursor:
            return cursor.execute(query.encode(), values or None).fetchall()

    def _one(self, query: str) -> Row:
        """The first row of a query; empty if it has none."""
        return self.connection.execute(query.encode()).fetchone() or {}

    def _write(self, rows: Rows) -> None:
        query = f"COPY {rows.table} ({', '.join(rows.columns)}) FROM STDIN"
        with self.connection.cursor().copy(query.encode()) as into:
            for row in rows.rows:
                into.write_row([_storable(each) for each in row])


def _lock(connection: Connection) -> None:
    try:
        connection.execute("SELECT pg_advisory_lock(%s)", (LOCK,))
    except errors.LockNotAvailable:
        raise JournalError("another copy to it is under way: wait for its end") from None


def _require_fit(use: Row, copy: Row, source: Source, secret: bytes) -> None:
    """Require the target to be empty, or to have a part of this very copy."""
    if not copy and use["users"]:
        raise JournalError(
            "a daemon uses it, or was killed less than 20 s ago: copy to a database that none uses"
        )
    if not copy and use["filled"]:
        raise JournalError("it has prompts of its own: copy to an empty database")
    if copy and secret != source.secret:
        raise JournalError(f"another journal was copied to it: use another database, or {_TO_DROP}")
    if copy and copy["whole"] and use["owner"] != copy["owner"]:
        raise JournalError(
            "this journal was copied to it already, and a daemon has started on it since:"
            " there is nothing to copy"
        )
    if copy and bytes(copy["source"]) != source.mark():
        raise JournalError(f"{source.opened.path} was used since its copy began: {_TO_DROP}")


def _storable(value: Any) -> Any:
    if isinstance(value, str) and "\0" in value:
        return value.replace("\0", _UNREADABLE)
    return value


@contextmanager
def opened(database: Database) -> Iterator[Target]:
    """The journal in a database, locked against other copies; its tables are created if needed.

    Raises:
        JournalError: If it can't be used, now or later.
    """
    where = f"journal {database.location}"
    try:
        with closing(connect(database.conninfo)) as connection:
            for name, value in SESSION.items():
                connection.execute("SELECT set_config(%s, %s, FALSE)", (name, value))
            _lock(connection)
            schema.require(connection, whole=False)
            yield Target(connection)
    except JournalError as error:
        raise JournalError(f"{where} can't be copied to: {error}") from None
    except psycopg.Error as error:
        raise JournalError(f"{where} can't be copied to: {reason_of(error)}") from None


def copy(
    source: Source,
    target: Target,
    has_copied: Callable[[int], None] = lambda _: None,
    now: Callable[[], float] = time.time,
    date_by: Callable[[Connection], float] = database_date,
) -> bool:
    """Copy all that is not copied yet; daemons can't start until `Target.end`.

    Returns whether there was something to do: an earlier run may have come to the end.

    Args:
        source: The journal in a file.
        target: The journal in PostgreSQL.
        has_copied: Called after each transaction with the number of prompts that it added, and
            at first with the number of those that were there.
        now: The time by the clock of the source's daemon.
        date_by: The time by the database's clock.

    Raises:
        JournalError: If the target has something else, or is in use.
    """
    progress = target.begin(source, now(), date_by(target.connection))
    has_copied(target.rows("SELECT count(*) FROM prompts")[0][0])
    if progress.is_whole:
        return False
    for page in source.leftovers(progress.leftovers, progress.shift):
        target.add("leftovers", page)
        has_copied(0)
    for page in source.prompts(progress.prompts, progress.shift):
        target.add("prompts", page)
        has_copied(len(list(page.tables[0].rows)))
    target.settle(source.numbers())
    return True
