"""A session's link to its database, which breaks now and then."""

from collections.abc import Callable

from attrs import frozen
from twisted.internet.interfaces import IReactorTime

from chatgpt_source.journal.postgres.connect import Database, connect
from chatgpt_source.journal.postgres.recovery import LEASE
from chatgpt_source.journal.postgres.session import Connection, Session

STEP = 2.0
"""Seconds by which the database's clock may gain or lose before it counts as set."""


def database_date(connection: Connection) -> float:
    """The database's clock."""
    row = connection.execute("SELECT extract(epoch FROM clock_timestamp())::float8 AS at")
    found = row.fetchone()
    return float(found["at"]) if found else 0.0


@frozen(eq=False, repr=False)
class Link:
    """Connects a session, and measures its database's clock; all in the journal's thread.

    Args:
        database: The database.
        session: What operations see.
        clock: The time.
        date_by: The database's clock.
    """

    _database: Database
    _session: Session
    _clock: IReactorTime
    _date_by: Callable[[Connection], float] = database_date

    def reconnect(self) -> None:
        """Give the session another connection."""
        self._session.connection = connect(self._database.conninfo)
        self._session.sweep_after = self._clock.seconds() + LEASE

    def settle(self) -> None:
        """Read what a session needs besides its connection."""
        connection = self._session.connection
        connection.add_notice_handler(self._session.notice)
        row = connection.execute("SELECT value FROM secret").fetchone()
        self._session.secret = bytes(row["value"]) if row else b""
        self.measure()

    def measure(self) -> None:
        """Measure the offset of the database's clock."""
        db = self._session
        before, was, is_known = self._clock.seconds(), db.offset, db.error > 0
        date = self._date_by(db.connection)
        after = self._clock.seconds()
        db.set_clock(date, before, after)
        if is_known and abs(db.offset - was) > STEP:  # all leases may seem to be over, or to go on
            db.sweep_after = max(db.sweep_after, after + LEASE)
