"""What the tests of the PostgreSQL journal share: journals in a schema, connections with faults."""

import contextlib
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.contracts.driver import JournalDriver
from tests.journal.common import at_once
from tests.journal.postgres_server import server

with contextlib.suppress(ImportError):  # the tests are skipped then: `server` says why
    import psycopg

    from chatgpt_source.journal.postgres import (
        PostgresJournal,
        open_journal,
    )
    from chatgpt_source.journal.postgres.connect import Database


class Opening:
    """Opens journals in a schema of the test's own; their database's clock is the test's."""

    addCleanup: Any
    clock: Any
    ahead = 0.0
    """Seconds by which the database's clock is ahead."""

    def open_journal(self, in_thread: Any = at_once, clock: Any = None, date: Any = None) -> Any:
        if not hasattr(self, "url"):
            self.url = server().schema()
        opened = open_journal(Database(self.url))
        own = clock or self.clock
        date = date or (lambda: own.seconds() + self.ahead)
        journal = PostgresJournal(opened, own, in_thread, lambda _: date())
        self.addCleanup(self.shut, journal)
        return journal

    def shut(self, journal: Any) -> None:
        """Whatever its connection is by then."""
        journal._session.connection.close()

    def end_leases(self) -> None:
        """Let time pass for all owners."""
        _, connection = open_journal(Database(self.url))
        connection.execute("UPDATE owners SET until = '-infinity'")
        connection.close()

    def open_second(self) -> Any:
        self.end_leases()
        return self.open_journal()

    def abandon(self, journal: Any) -> None:
        journal._session.connection.close()
        journal._background.stop()
        self.end_leases()


class PostgresTestCase(Opening, JournalDriver, SynchronousTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.journal = self.open_journal()
        self.recover(self.journal)

    def another(self) -> Any:
        journal = self.open_journal()
        self.recover(journal)
        return journal

    def claimed_by(self, journal: Any, most: int = 10) -> list[Any]:
        return list(self.successResultOf(journal.claim_asks(self.clock.seconds(), most)).claimed)


class LostCommit:
    """A connection that is lost during the next COMMIT."""

    def __init__(self, real: Any, *, arrives: bool) -> None:
        self._real = real
        self._arrives = arrives
        self._sent = False
        self.sent: list[tuple[Any, Any]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def execute(self, query: Any, values: Any = None) -> Any:
        self._sent = query in {"COMMIT", b"COMMIT"}
        self.sent.append((query, values))
        return self._real.execute(query if self._arrives or not self._sent else "ROLLBACK", values)

    @contextlib.contextmanager
    def pipeline(self) -> Any:
        with self._real.pipeline() as pipeline:
            yield pipeline
            if self._sent and self._arrives:
                pipeline.sync()
            if self._sent:
                self._real.close()


class LastWords:
    """A connection whose server ends the session after the next COMMIT, and says so."""

    def __init__(self, real: Any) -> None:
        self._real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    @contextlib.contextmanager
    def pipeline(self) -> Any:
        with self._real.pipeline() as pipeline:
            yield pipeline
        raise psycopg.errors.AdminShutdown("terminating connection")


class AtCommit:
    """A connection during whose next COMMIT something happens."""

    def __init__(self, real: Any, act: Any) -> None:
        self._real = real
        self._act = act

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def execute(self, query: Any, values: Any = None) -> Any:
        if query in {"COMMIT", b"COMMIT"}:
            self._act()
        return self._real.execute(query, values)


class Counted:
    """A connection that counts statements, and round trips in a pipeline before its end."""

    def __init__(self, real: Any) -> None:
        self.real = real
        self.statements = self.syncs = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def execute(self, query: Any, values: Any = None) -> Any:
        self.statements += 1
        return self.real.execute(query, values)

    @contextlib.contextmanager
    def pipeline(self) -> Any:
        with self.real.pipeline():
            yield self

    def sync(self) -> None:
        self.syncs += 1
        self.real._pipeline.sync()
