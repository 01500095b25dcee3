"""A backup: whole or not there at all."""

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from chatgpt_source.errors import JournalError
from chatgpt_source.journal.sqlite import backup, check_journal, open_beside
from chatgpt_source.journal.sqlite.backup import BackupStopped
from tests.journal.common import JournalTestCase, prompt


def back_up(journal: Path, to: Path, is_stopped: Callable[[], bool] = lambda: False) -> int:
    """As the command does."""
    with closing(open_beside(journal)) as opened:
        return backup.back_up(opened.connection, to, is_stopped)


class BackupTests(JournalTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.copy = self.folder / "copy"
        self.accept(*(prompt(f"p{n}", "text " * 100) for n in range(60)), limit=10_000)

    def why(self) -> str:
        message = str(self.assertRaises(JournalError, back_up, self.path, self.copy))
        self.assertNotIn("\n", message)
        self.assertIn(str(self.copy), message)
        return message

    def test_has_all_and_is_private(self) -> None:
        before = os.umask(0)
        self.addCleanup(os.umask, before)
        size = back_up(self.path, self.copy)
        self.assertEqual(self.copy.stat().st_size, size)
        self.assertEqual(self.copy.stat().st_mode & 0o777, 0o600)
        self.assertEqual(list(self.folder.iterdir()), [self.copy])
        with closing(sqlite3.connect(self.copy)) as db:
            self.assertEqual(db.execute("SELECT count(*) FROM prompts").fetchone(), (60,))
        check_journal(self.copy)

    def test_nothing_is_overwritten(self) -> None:
        self.copy.write_text("somebody's")
        self.assertIn("exists already", self.why())
        self.assertEqual(self.copy.read_text(), "somebody's")

    def test_not_even_what_came_meanwhile(self) -> None:
        self.patch(backup, "_verify", lambda *_: self.copy.write_text("somebody's"))
        self.assertIn("exists already", self.why())
        self.assertEqual(self.copy.read_text(), "somebody's")
        self.assertEqual(list(self.folder.iterdir()), [self.copy])

    def test_where_there_are_no_hard_links(self) -> None:
        def refuse(*_: object) -> None:
            raise PermissionError(1, "Operation not permitted")

        self.patch(backup.os, "link", refuse)
        back_up(self.path, self.copy)
        check_journal(self.copy)

    def test_given_up(self) -> None:
        asked: list[None] = []

        def is_stopped() -> bool:
            asked.append(None)
            return len(asked) > 1

        self.patch(backup, "OFTEN", 100)
        self.assertRaises(BackupStopped, back_up, self.path, self.copy, is_stopped)
        self.assertEqual(list(self.folder.iterdir()), [])

    def test_no_room(self) -> None:
        self.patch(backup, "ROOM", 2**60)
        self.assertIn("make room", self.why())
        self.assertEqual(list(self.folder.iterdir()), [])

    def test_a_name_that_is_not_utf8(self) -> None:
        self.copy = self.folder / os.fsdecode(b"copy\xff")
        back_up(self.path, self.copy)
        self.assertEqual(list(self.folder.iterdir()), [self.copy])
        check_journal(self.copy)

    def test_no_folder(self) -> None:
        self.copy = self.folder / "none" / "copy"
        self.assertIn("No such file", self.why())

    def test_no_journal(self) -> None:
        self.assertRaises(JournalError, back_up, self.folder / "none", self.copy)
        self.assertEqual(list(self.folder.iterdir()), [])

    def test_the_daemon_writes_on(self) -> None:
        def write() -> bool:
            self.accept(prompt(f"q{len(written)}"), limit=10_000, max_backlog=10_000)
            written.append(None)
            return False

        written: list[None] = []
        self.patch(backup, "OFTEN", 50)
        back_up(self.path, self.copy, write)
        self.assertGreater(len(written), 3)
        opened = open_beside(self.copy)
        self.addCleanup(opened.close)
        (count,) = opened.connection.execute("SELECT count(*) FROM prompts").fetchone()
        self.assertEqual(count, 60)
