"""Looking at a journal changes nothing of it, whoever uses it."""

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import attrs
from twisted.trial.unittest import SkipTest

from chatgpt_source.errors import JournalError
from chatgpt_source.journal.seen import Seen
from chatgpt_source.journal.sqlite import open_journal
from chatgpt_source.journal.sqlite.look import look
from chatgpt_source.journal.sqlite.schema import VERSION
from chatgpt_source.prompt import State
from tests.journal.common import DAY, NOON, JournalTestCase, prompt


class LookTests(JournalTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.path = self.path.absolute()
        self.accept(*(prompt(f"p{n}") for n in range(1, 7)))
        claimed = self.asks(4).claimed
        self.assertEqual(len(claimed), 4)
        self.answer("p1")
        self.answer("p2", claim=True)
        self.deliver("p2")
        self.fail_it("p3", give_back=True)
        self.postpone("p4", NOON + 60)

    def look(self, path: Path | None = None, **options: Any) -> Seen:
        return look(path or self.path, DAY.date, NOON, **options)

    def files(self, path: Path) -> dict[str, bytes]:
        """What is on disk; `-shm` is no more than an index of the log, made at need."""
        found = path.parent.glob(f"{path.name}*")
        return {file.name: file.read_bytes() for file in found if not file.name.endswith("-shm")}

    def assert_seen(self, seen: Seen, *, in_use: bool) -> None:
        counts = {State.ACCEPTED: 3, State.ANSWERED: 1, State.DELIVERED: 1, State.FAILED: 1}
        counts |= {State.SUBMITTED: 0, State.CANCELLED: 0}
        self.assertEqual(
            seen,
            Seen(str(self.path), int(in_use), False, VERSION, VERSION, counts, 2, 1, 5),  # noqa: FBT003 - as it is
            (seen, counts),
        )

    def test_beside_a_daemon(self) -> None:
        before = self.files(self.path)
        self.assertIn(f"{self.path.name}-wal", before)
        self.assert_seen(self.look(), in_use=True)
        self.assertEqual(self.files(self.path), before)
        self.asks()  # the daemon can go on writing

    def test_after_a_clean_stop(self) -> None:
        self.successResultOf(self.journal.close())
        before = set(self.path.parent.iterdir())
        content = self.files(self.path)
        self.assert_seen(self.look(), in_use=False)
        self.assertEqual(set(self.path.parent.iterdir()), before)
        self.assertEqual(self.files(self.path), content)

    def test_after_a_crash(self) -> None:
        """What a crash leaves is the files as they were, with what was committed in the log."""
        left = Path(self.mktemp()).absolute()
        left.mkdir()
        for end in ("", "-wal", "-shm"):
            shutil.copy(f"{self.path}{end}", left / f"{self.path.name}{end}")
        path = left / self.path.name
        before = self.files(path)
        self.assertGreater(len(before[f"{path.name}-wal"]), 1000)
        seen = self.look(path)
        self.assertEqual((seen.users, seen.used, seen.prompts[State.FAILED]), (0, 5, 1))
        self.assertEqual(self.files(path), before)

    def test_what_was_claimed_when_it_crashed_is_taken_up_at_once(self) -> None:
        self.asks(1)
        self.assertEqual(self.look().to_ask, 2)

    def test_what_is_not_to_be_asked_yet_is_not_counted(self) -> None:
        self.accept(attrs.evolve(prompt("p7"), not_before=NOON + 86400))
        self.assertEqual(self.look().to_ask, 2)

    def test_the_lock_is_let_go(self) -> None:
        self.shut(self.opened)
        self.look()
        with closing(open_journal(self.path)):
            pass

    def test_none_yet(self) -> None:
        path = Path(self.mktemp()).absolute()
        self.assertEqual(self.look(path), Seen(str(path), current=VERSION))
        self.assertEqual(list(path.parent.glob(f"{path.name}*")), [])

    def test_an_empty_file(self) -> None:
        path = Path(self.mktemp()).absolute()
        path.touch()
        self.assertIsNone(self.look(path).schema)
        self.assertEqual(path.read_bytes(), b"")

    def assert_mistake(self, path: Path, *words: str) -> None:
        text = str(self.assertRaises(JournalError, self.look, path))
        self.assertEqual(len(text.splitlines()), 1)
        for word in (str(path), *words):
            self.assertIn(word, text)

    def test_no_such_folder(self) -> None:
        for as_writer in (True, False):
            with self.assertRaisesRegex(JournalError, "create its folder"):
                self.look(Path("/nonexistent/journal.sqlite"), as_writer=as_writer)

    def test_a_folder(self) -> None:
        path = Path(self.mktemp()).absolute()
        path.mkdir()
        self.assert_mistake(path)

    def test_not_a_database(self) -> None:
        path = Path(self.mktemp()).absolute()
        path.write_bytes(b"this is not a database\n" * 100)
        self.assert_mistake(path, "not a database")

    def test_another_programs(self) -> None:
        path = Path(self.mktemp()).absolute()
        with closing(sqlite3.connect(path)) as database:
            database.execute("CREATE TABLE theirs (x)")
        self.assert_mistake(path, "another program's")

    def test_a_newer_schema(self) -> None:
        self.successResultOf(self.journal.close())
        with closing(sqlite3.connect(self.path)) as database:
            database.execute("PRAGMA user_version = 999")
        self.assert_mistake(self.path, "newer", "999")

    def test_a_damaged_one(self) -> None:
        self.successResultOf(self.journal.close())
        content = bytearray(self.path.read_bytes())
        content[8192:] = b"\xff" * (len(content) - 8192)
        self.path.write_bytes(content)
        self.assert_mistake(self.path, "restore it")

    def test_one_that_can_not_be_written(self) -> None:
        if os.getuid() == 0:
            raise SkipTest("root writes everything")
        self.path.chmod(0o400)
        self.assert_mistake(self.path, "writable")
        self.look(as_writer=False)
