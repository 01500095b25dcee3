"""A journal in a PostgreSQL database, as an engine."""

from collections.abc import Callable
from contextlib import closing
from functools import partial

import psycopg
from attrs import evolve, frozen

from chatgpt_source.errors import JournalError
from chatgpt_source.journal.postgres import PostgresJournal, schema
from chatgpt_source.journal.postgres.connect import Database, connect, open_journal, reason_of
from chatgpt_source.journal.postgres.link import database_date
from chatgpt_source.journal.postgres.session import Connection
from chatgpt_source.journal.seen import Seen
from chatgpt_source.prompt import State

_COUNTS = "SELECT state, count(*) AS number FROM prompts GROUP BY state"
_SEEN = """
SELECT (SELECT count(*) FROM owners WHERE NOT ended AND until >= clock_timestamp()) AS users,
    coalesce((SELECT used FROM days WHERE day = %(day)s), 0) AS used,
    (SELECT count(*) FROM prompts WHERE state = 'accepted' AND owner IS NULL AND due <= %(now)s)
        AS to_ask,
    (SELECT count(*) FROM outbox WHERE owner IS NULL AND due <= %(now)s) AS to_deliver
"""


@frozen
class PostgresEngine:
    """An `Engine`; see there.

    Attributes:
        database: The database.
        location: Its place, for people.
    """

    database: Database
    location: str
    is_remote = True

    @classmethod
    def of(cls, url: str, password: Callable[[], str] | None) -> "PostgresEngine":
        """The engine of a database.

        Raises:
            JournalError: If the URL can't be read.
        """
        database = Database(url, password)
        return cls(database, database.location)

    def check(self, *, by_writing: bool) -> None:
        """See `Engine.check`: a start waits for the database, so there is nothing to check."""

    def look(self, day: str, now: float, *, as_writer: bool = True) -> Seen:  # noqa: ARG002 - the database says who may
        """See `Engine.look`; `now` is by the database's clock."""
        try:
            with closing(connect(self.database.conninfo)) as connection:
                return self._seen(connection, day)
        except JournalError as error:
            raise JournalError(f"journal {self.location} can't be used: {error}") from None
        except psycopg.Error as error:
            reason = f"journal {self.location} can't be opened: {reason_of(error)}"
            raise JournalError(reason) from None

    def _seen(self, connection: Connection, day: str) -> Seen:
        known = schema.version(connection)
        seen = Seen(self.location, shared=True, schema=known, current=schema.VERSION)
        if known is None:
            schema.require_fit(connection)
            return seen
        schema.require_whole(connection)
        counts = {row["state"]: row["number"] for row in connection.execute(_COUNTS)}
        values = {"day": day, "now": database_date(connection)}
        found = connection.execute(_SEEN.encode(), values).fetchone() or {}
        prompts = {state: counts.get(state.value, 0) for state in State}
        return evolve(seen, prompts=prompts, **found)

    def long_work(self) -> None:
        """See `Engine.long_work`: the network may make anything take long."""

    def open(self, is_stopped: Callable[[], bool] = lambda: False) -> "partial[PostgresJournal]":  # noqa: ARG002 - the server rolls back what is not committed
        """See `Engine.open`."""
        return partial(PostgresJournal, open_journal(self.database))

    def open_beside(self) -> "partial[PostgresJournal]":
        """See `Engine.open_beside`."""
        database = evolve(self.database, program="chatgpt-source-journal")
        return partial(PostgresJournal, open_journal(database, beside=True))
