"""Journals in PostgreSQL that earlier versions made."""

import contextlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from chatgpt_source.errors import JournalError
from tests.contracts.driver import prompt
from tests.journal.postgres_case import PostgresTestCase
from tests.journal.postgres_server import server

with contextlib.suppress(ImportError):  # the tests are skipped then: `server` says why
    from psycopg.rows import tuple_row

    from chatgpt_source.journal.postgres import open_journal
    from chatgpt_source.journal.postgres.connect import Database, connect

_COLUMNS = """
SELECT table_name, column_name, data_type, is_nullable, column_default
FROM information_schema.columns WHERE table_schema = current_schema() ORDER BY 1, 2
"""
_INDEXES = """
SELECT replace(indexdef, current_schema(), '') FROM pg_indexes
WHERE schemaname = current_schema() ORDER BY 1
"""
_CONSTRAINTS = """
SELECT conrelid::regclass::text, pg_get_constraintdef(oid) FROM pg_constraint
WHERE connamespace = current_schema()::regnamespace ORDER BY 1, 2
"""


class UpgradeTests(PostgresTestCase):
    """A journal of an earlier version is made one of this, while its daemons go on."""

    def make_version_1(self) -> Any:
        """A journal of version 1, with a prompt that failed and one that waits."""
        self.url = server().schema()
        connection = connect(Database(self.url).conninfo)
        self.addCleanup(connection.close)
        connection.execute(Path(__file__).with_name("postgres_version_1.sql").read_bytes())
        connection.execute("INSERT INTO secret VALUES (sha256('a secret'))")
        connection.execute("INSERT INTO probes VALUES (0)")
        for name, state, error in (
            ("failed", "failed", "the model answered 400: it refuses this prompt"),
            ("waiting", "accepted", None),
        ):
            connection.execute(
                "INSERT INTO prompts (id, state, due, day, accepted, ended, since, target, tier,"
                " size, error) VALUES (%s, %s, 0, '2023-03-28', 1, 2, 1, 'target', 'standard', 4,"
                " %s)",
                (name, state, error),
            )
            connection.execute(
                "INSERT INTO texts (seq, prompt, source, type) SELECT seq, 'text', 'source',"
                " 'type' FROM prompts WHERE id = %s",
                (name,),
            )
        return connection

    def start(self) -> None:
        """This release's daemon starts."""
        self.journal = self.open_journal()
        self.recover(self.journal)

    def shape(self, url: str) -> list[Any]:
        """The tables, their indexes and constraints."""
        connection = connect(Database(url).conninfo)
        self.addCleanup(connection.close)
        with connection.cursor(row_factory=tuple_row) as cursor:
            return [
                cursor.execute(query.encode()).fetchall()
                for query in (_COLUMNS, _INDEXES, _CONSTRAINTS)
            ]

    def test_the_tables_are_those_of_a_new_one(self) -> None:
        new = self.shape(self.url)
        self.make_version_1()
        self.start()
        self.assertEqual(self.shape(self.url), new)

    def test_what_was_in_it_goes_on(self) -> None:
        old = self.make_version_1()
        self.start()
        self.assertEqual(old.execute("SELECT version FROM schema").fetchone(), {"version": 2})
        self.assertEqual(
            self.record("failed").error, "the model answered 400: it refuses this prompt"
        )
        self.assertEqual([ask.prompt.id for ask in self.asks().claimed], ["waiting"])
        self.accept(prompt("new"))

    def test_a_daemon_of_version_1_goes_on(self) -> None:
        old = self.make_version_1()
        old.execute("PREPARE move AS UPDATE prompts SET error = 'again' WHERE id = $1")
        self.start()
        old.execute("EXECUTE move ('waiting')")
        self.assertEqual(self.record("waiting").error, "again")

    def test_two_that_start_at_once_upgrade_it_once(self) -> None:
        self.make_version_1()
        with ThreadPoolExecutor(2) as pool:
            for opened in pool.map(lambda _: open_journal(Database(self.url)), range(2)):
                opened[1].close()

    def test_an_operator_upgrades_nothing(self) -> None:
        old = self.make_version_1()
        error = self.assertRaises(JournalError, open_journal, Database(self.url), beside=True)
        self.assertIn("let this release's daemon start", str(error))
        self.assertEqual(old.execute("SELECT version FROM schema").fetchone(), {"version": 1})

    def test_an_upgrade_that_fails_changes_nothing(self) -> None:
        old = self.make_version_1()
        old.execute("CREATE TABLE pauses (in_the_way integer)")
        self.assertRaises(JournalError, open_journal, Database(self.url))
        self.assertEqual(old.execute("SELECT version FROM schema").fetchone(), {"version": 1})
        found = old.execute("SELECT to_regclass('history') AS history").fetchone()
        self.assertEqual(found, {"history": None})
