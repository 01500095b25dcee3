"""Journals that earlier versions wrote."""

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from itertools import count
from pathlib import Path

import attrs

from chatgpt_source.errors import JournalError, JournalInUse, KeyReused, NotRedriven
from chatgpt_source.journal import AuditEntry, Detail
from chatgpt_source.journal.sqlite import (
    SqliteJournal,
    backup,
    check_journal,
    file,
    long_work,
    open_beside,
    open_journal,
    upgrade,
)
from chatgpt_source.journal.sqlite.lock import lock_journal
from chatgpt_source.journal.sqlite.look import look
from chatgpt_source.journal.sqlite.schema import APPLICATION_ID, VERSION
from chatgpt_source.journal.sqlite.upgrade import UpgradeStopped
from chatgpt_source.prompt import Prompt, State, Tier, Trace
from tests.journal.common import DAY, NOON, JournalTestCase, at_once, prompt


class UpgradeTests(JournalTestCase):
    """A journal of an earlier version is made one of this, with all that is in it."""

    def make_version_1(self) -> None:
        self.shut(self.opened)
        self.path.unlink()
        script = Path(__file__).with_name("version_1.sql").read_text()
        old = sqlite3.connect(self.path)
        old.executescript(script)
        old.execute("INSERT INTO secret VALUES (1, ?)", (bytes(32),))
        for seq, state in enumerate(("accepted", "answered", "failed"), 1):
            old.execute(
                "INSERT INTO prompts (seq, id, state, due, day, accepted, answered, since, answer)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (seq, state, state, NOON, DAY.date, NOON, NOON, NOON, '{"request_id": "req-1"}'),
            )
            old.execute(
                "INSERT INTO texts VALUES (?, 'text', 'source', 'type', ?, NULL)", (seq, b"event")
            )
        old.execute("INSERT INTO days VALUES (?, 7)", (DAY.date,))
        old.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        old.execute("PRAGMA user_version = 1")
        old.commit()
        old.close()

    def test_what_was_in_it_goes_on(self) -> None:
        self.make_version_1()
        self.journal = self.open()
        (version,) = self.opened.connection.execute("PRAGMA user_version").fetchone()
        self.assertEqual(version, VERSION)
        (ask,) = self.asks().claimed
        self.assertEqual(ask.prompt, Prompt("accepted", "text", "source", "type", NOON))
        (delivery,) = self.deliveries().claimed
        self.assertEqual((delivery.id, delivery.event), ("answered", b"event"))
        self.assertEqual((delivery.trace, delivery.request_id), (None, "req-1"))
        self.assertEqual(self.used(), 7)
        self.accept(prompt("new"))
        self.deliver("answered")
        self.clock.advance(60)  # the wipe writes the texts anew
        self.assertEqual(self.asks().claimed[0].prompt.id, "new")

    def test_the_tables_are_those_of_a_new_one(self) -> None:
        new = self.columns()
        self.make_version_1()
        self.journal = self.open()
        self.assertEqual(self.columns(), new)

    def test_the_indexes_are_those_of_a_new_one(self) -> None:
        query = "SELECT name, sql FROM sqlite_master WHERE type = 'index' ORDER BY name"
        new = self.opened.connection.execute(query).fetchall()
        self.make_version_1()
        self.journal = self.open()
        self.assertEqual(self.opened.connection.execute(query).fetchall(), new)

    def columns(self) -> dict[str, list[tuple[str, str]]]:
        db = self.opened.connection
        tables = [
            name
            for (name,) in db.execute(
                "SELECT name FROM sqlite_master WHERE sql LIKE 'CREATE TABLE%'"
            )
        ]
        return {
            table: [row[1:3] for row in db.execute(f"PRAGMA table_info({table})")]
            for table in tables
        }

    def test_an_operator_may_look_into_an_old_one(self) -> None:
        self.make_version_1()
        beside = SqliteJournal(open_beside(self.path), self.clock, at_once)
        records = self.successResultOf(beside.records(None, 0, 10))
        self.assertEqual([each.id for each in records], ["accepted", "answered", "failed"])
        self.assertEqual(self.successResultOf(beside.record("failed")), records[2])
        self.assertEqual(self.successResultOf(beside.detail("failed")), Detail(records[2]))
        refusal = self.failureResultOf(beside.redrive("failed"), NotRedriven)
        self.assertIn("let this release's daemon start", str(refusal.value))
        self.successResultOf(beside.close())

    def test_an_operator_may_copy_an_old_one(self) -> None:
        self.make_version_1()
        copy = self.path.with_name("copy")
        with closing(open_beside(self.path)) as opened:
            backup.back_up(opened.connection, copy)
        self.assertEqual(look(copy.absolute(), DAY.date, NOON).schema, 1)

    def test_an_operator_may_purge_in_an_old_one(self) -> None:
        self.make_version_1()
        beside = SqliteJournal(open_beside(self.path), self.clock, at_once)
        self.assertTrue(self.successResultOf(beside.purge("failed")))
        self.successResultOf(beside.audit(AuditEntry("alice", "purged failed")))
        self.successResultOf(beside.close())
        self.journal = self.open()
        self.assertIsNone(self.record("failed"))


class Version2TestCase(JournalTestCase):
    """A journal that 0.2.0 wrote, with prompts in every state."""

    LONG = "\0" + "é" * 5000

    def make_version_2(self) -> None:
        self.shut(self.opened)
        self.path.unlink()
        old = sqlite3.connect(self.path)
        old.executescript(Path(__file__).with_name("version_2.sql").read_text())
        old.execute("UPDATE texts SET event = ? WHERE seq = 5", (b"e" * 9000,))
        old.execute("UPDATE texts SET prompt = ? WHERE seq = 2", (self.LONG,))
        old.execute("UPDATE prompts SET answer = ? WHERE seq = 8", ('{"model": "a marked echo"}',))
        old.commit()
        old.close()

    def copies(self) -> list[Path]:
        return sorted(self.path.parent.glob(f"{self.path.name}.*backup*"))


class FromVersion2Tests(Version2TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.new = schema_of(self.opened.connection)
        self.make_version_2()
        self.journal = self.open()

    def test_has_the_tables_of_a_new_one(self) -> None:
        self.assertEqual(schema_of(self.opened.connection), self.new)
        faults = self.opened.connection.execute("PRAGMA foreign_key_check").fetchall()
        self.assertEqual(faults, [])
        (check,) = self.opened.connection.execute("PRAGMA integrity_check").fetchone()
        self.assertEqual(check, "ok")
        self.assertEqual(self.opened.connection.execute("PRAGMA foreign_keys").fetchone(), (1,))

    def test_all_goes_on(self) -> None:
        for when in ("at once", "after a crash"):
            with self.subTest(when=when):
                self.check_all()
            self.crash()

    def check_all(self) -> None:
        asks = {ask.prompt.id: ask for ask in self.asks(now=NOON + 60).claimed}
        self.assertEqual(set(asks), {"accepted", "nul", "claimed", "postponed"})
        self.assertEqual(asks["accepted"].prompt.trace, Trace("00-a-b-01", "x=1"))
        self.assertEqual(asks["accepted"].prompt.text, "what is vanus")
        self.assertEqual(asks["nul"].prompt.text, self.LONG)
        self.assertEqual((asks["postponed"].possibly_billed, asks["postponed"].held), (1, NOON))
        (delivery,) = self.deliveries().claimed
        told = (delivery.id, delivery.event, delivery.request_id)
        self.assertEqual(told, ("answered", b"e" * 9000, "req-1"))
        (dead_letter,) = self.dead_letters().claimed
        self.assertEqual((dead_letter.id, dead_letter.event), ("failed", b"a letter"))
        self.assertEqual((self.used(), self.record("delivered").delivered), (7, NOON + 1))
        tally = self.successResultOf(self.journal.tally(DAY.date)).prompts
        self.assertEqual([tally[state] for state in State], [4, 0, 1, 1, 2, 0])
        again = attrs.evolve(prompt("new"), text="answered one")
        self.assertEqual(self.successResultOf(self.admit(again, key="key b")).id, "answered")
        self.failureResultOf(self.admit(again, key="key a"), KeyReused)

    def test_what_failed_can_be_taken_up_again(self) -> None:
        for name, state in (("failed", State.ACCEPTED), ("undelivered", State.ANSWERED)):
            self.assertEqual(self.successResultOf(self.journal.redrive(name)), state)
        (delivery, _) = self.deliveries().claimed
        self.assertEqual((delivery.event, delivery.request_id), (b"undelivered event", "req-1"))

    def test_sizes_are_in_bytes_and_long_texts_apart(self) -> None:
        db = self.opened.connection
        sizes = dict(db.execute("SELECT seq, size FROM texts").fetchall())
        others = len("a-sourcea-type")
        self.assertEqual(sizes[1], len("what is vanus") + others + len("00-a-b-01x=1"))
        self.assertEqual((sizes[2], sizes[5]), (others, len("answered one") + others))
        self.assertEqual(sizes[6], len("failed one") + others + len("a letter"))
        long = db.execute("SELECT id, size, text FROM long_texts ORDER BY id").fetchall()
        self.assertEqual(long, [(2 * 4, 10001, self.LONG), (5 * 4 + 1, 9000, b"e" * 9000)])
        self.assertEqual(db.execute("SELECT prompt FROM texts WHERE seq = 2").fetchone(), ("",))


class EchoTests(Version2TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.make_version_2()
        self.journal = self.open()

    def test_what_the_provider_said_is_gone_where_it_was_delivered(self) -> None:
        """But from the copy, which is what the journal was."""
        self.clock.advance(60)
        holding = [
            file
            for file in self.path.parent.glob(self.path.name + "*")
            if b"a marked echo" in file.read_bytes()
        ]
        self.assertEqual(holding, self.copies())


class FromVersion3Tests(FromVersion2Tests):
    """The same journal, once it was of version 3."""

    version = 3

    def make_version_2(self) -> None:
        self.shut(self.opened)
        self.path.unlink()
        with closing(sqlite3.connect(self.path)) as old:
            name = f"version_{self.version}.sql"
            old.executescript(Path(__file__).with_name(name).read_text())

    def test_sizes_are_in_bytes_and_long_texts_apart(self) -> None:
        long = self.opened.connection.execute("SELECT id, size FROM long_texts ORDER BY id")
        self.assertEqual(long.fetchall(), [(2 * 4, 10001), (5 * 4 + 1, 9000)])

    def test_an_operator_may_look_into_an_old_one(self) -> None:
        self.make_version_2()
        beside = SqliteJournal(open_beside(self.path), self.clock, at_once)
        records = self.successResultOf(beside.records(None, 0, 10))
        self.assertEqual([each.target for each in records], ["target"] * 8)
        told = [self.successResultOf(beside.detail(each.id)) for each in records]
        self.assertEqual(told, list(map(Detail, records)))
        seen = look(self.path, DAY.date, NOON + 60)
        self.assertEqual((seen.schema, seen.to_ask, seen.to_deliver), (self.version, 4, 1))
        self.assertTrue(self.successResultOf(beside.purge("failed")))
        self.successResultOf(beside.close())


class FromVersion4Tests(FromVersion3Tests):
    """The same journal, once it was of version 4."""

    version = 4


class FromVersion5Tests(FromVersion4Tests):
    """The same journal, once it was of version 5."""

    version = 5

    def test_an_open_batch_goes_on(self) -> None:
        self.make_version_2()
        with closing(sqlite3.connect(self.path)) as old:
            old.execute("INSERT INTO batches (id, key, created, remote) VALUES (7, 'key', 1, 'r')")
            old.execute(
                "UPDATE prompts SET state = 'submitted', due = NULL, batch = 7 WHERE seq = 1"
            )
            old.commit()
        self.journal = self.open()
        (batch,) = self.successResultOf(self.journal.claim_batches())
        self.assertEqual((batch.id, batch.key, batch.remote), (7, "key", "r"))
        claims = self.successResultOf(self.journal.claim_batched(7, self.clock.seconds(), 10))
        self.assertEqual([ask.prompt.id for ask in claims.claimed], ["accepted"])


class FromVersion6Tests(FromVersion5Tests):
    """The same journal, once it was of version 6."""

    version = 6

    def test_counts_what_waits_for_each_tier(self) -> None:
        self.make_version_2()
        with closing(sqlite3.connect(self.path)) as old:
            old.execute("UPDATE prompts SET tier = 'batch' WHERE state = 'accepted'")
            old.commit()
        self.journal = self.open()
        waiting = self.successResultOf(self.journal.tally_tiers()).waiting
        self.assertEqual(waiting, {Tier.STANDARD: 0, Tier.FLEX: 0, Tier.BATCH: 4})


class CopyTests(Version2TestCase):
    """Before an upgrade there is a copy, which an earlier release can start from."""

    def setUp(self) -> None:
        super().setUp()
        self.make_version_2()
        self.db = sqlite3.connect(self.path)
        self.before = list(self.db.iterdump())
        self.db.close()

    def test_is_what_the_journal_was_and_private(self) -> None:
        mask = os.umask(0)
        self.addCleanup(os.umask, mask)
        self.open()
        (copy,) = self.copies()
        self.assertEqual(copy.name, f"{self.path.name}.schema-2.backup")
        self.assertEqual(copy.stat().st_mode & 0o777, 0o600)
        with closing(sqlite3.connect(copy)) as db:
            self.assertEqual(list(db.iterdump()), self.before)
            self.assertEqual(db.execute("PRAGMA user_version").fetchone(), (2,))

    def test_a_journal_of_this_version_is_not_copied(self) -> None:
        self.open()
        (copy,) = self.copies()
        copy.unlink()
        self.crash()
        self.assertEqual(self.copies(), [])

    def test_one_that_is_there_stays(self) -> None:
        name = f"{self.path.name}.schema-2.backup"
        self.path.with_name(name).write_text("an operator's")
        self.open()
        self.assertEqual(
            [copy.name for copy in self.copies()],
            [f"{self.path.name}.schema-2-2.backup", name],
        )
        self.assertEqual(self.path.with_name(name).read_text(), "an operator's")

    def test_what_a_killed_start_left_of_one_is_removed(self) -> None:
        left = [
            self.path.with_name(f".{self.path.name}.schema-2.backup.abc.partial{end}")
            for end in ("", "-journal")
        ]
        another = self.path.with_name(".a-backup.abc.partial")
        for each in (*left, another):
            each.touch()
        self.open()
        self.assertEqual([each.exists() for each in (*left, another)], [False, False, True])

    def assert_untouched(self) -> None:
        with closing(sqlite3.connect(self.path)) as db:
            self.assertEqual(list(db.iterdump()), self.before)
        self.assertEqual(self.copies(), [])

    def test_no_room(self) -> None:
        self.patch(backup, "ROOM", 2**60)
        message = str(self.assertRaises(JournalError, open_journal, self.path))
        self.assertRegex(message, rf"^journal {self.path.resolve()} is of schema 2.* make room$")
        self.assertNotIn("\n", message)
        self.assert_untouched()

    def test_an_upgrade_that_fails(self) -> None:
        with closing(sqlite3.connect(self.path)) as db:
            db.execute("CREATE TABLE prompts_4 (in_the_way)")
        message = str(self.assertRaises(JournalError, open_journal, self.path))
        self.assertIn(f"is of schema 2, and can't be changed to {VERSION} (", message)
        self.assertNotIn("\n", message)
        with closing(sqlite3.connect(self.path)) as db:
            db.execute("DROP TABLE prompts_4")
        self.assert_untouched()

    def test_a_look_upgrades_nothing(self) -> None:
        seen = look(self.path, DAY.date, NOON)
        self.assertEqual((seen.schema, seen.to_ask, seen.to_deliver), (2, 3, 1))
        self.assert_untouched()

    def test_nor_does_the_check_before_a_start(self) -> None:
        check_journal(self.path)
        with closing(sqlite3.connect(self.path)) as db:
            self.assertEqual(db.execute("PRAGMA user_version").fetchone(), (2,))
            db.execute("UPDATE probes SET count = count - 1")
            db.commit()
        self.assert_untouched()

    def test_both_say_that_there_is_no_room(self) -> None:
        self.patch(backup, "ROOM", 2**60)
        for check in (check_journal, lambda path: look(path, DAY.date, NOON)):
            message = str(self.assertRaises(JournalError, check, self.path))
            self.assertRegex(
                message, rf"^journal {self.path.resolve()} is of schema 2.* make room$"
            )
            self.assert_untouched()
        look(self.path, DAY.date, NOON, as_writer=False)


class LongWorkTests(Version2TestCase):
    """What takes long when a journal is opened is known before, and can be stopped."""

    def setUp(self) -> None:
        super().setUp()
        self.make_version_2()

    def test_an_upgrade(self) -> None:
        self.assertEqual(long_work(self.path), f"changing the journal's schema from 2 to {VERSION}")

    def test_nothing(self) -> None:
        self.open()
        self.shut(self.opened)
        self.assertIsNone(long_work(self.path))
        self.assertIsNone(long_work(self.path.with_name("none")))
        self.assertIsNone(long_work(self.path.parent))
        for content in (b"", b"no journal" * 100):
            self.path.write_bytes(content)
            self.assertIsNone(long_work(self.path))

    def test_not_while_another_daemon_uses_it(self) -> None:
        lock = lock_journal(self.path.resolve())
        self.addCleanup(lock.close)
        self.assertRaises(JournalInUse, long_work, self.path)

    def test_not_of_a_newer_one(self) -> None:
        with closing(sqlite3.connect(self.path)) as db:
            db.execute(f"PRAGMA user_version = {VERSION + 1}")
        self.assertIsNone(long_work(self.path))

    def test_a_log_that_a_killed_daemon_left(self) -> None:
        self.open()
        copy = Path(self.mktemp())
        for end in ("", "-wal"):
            shutil.copy(f"{self.path}{end}", f"{copy}{end}")
        self.assertIsNone(long_work(copy))
        self.patch(file, "LONG_LOG", 10)
        self.assertRegex(long_work(copy) or "", r"^reading the \d+ MiB that the last run left in")
        log = Path(f"{copy}-wal").read_bytes()
        check_journal(copy)
        self.assertEqual(Path(f"{copy}-wal").read_bytes(), log)
        with closing(open_journal(copy)):
            self.assertRaises(JournalInUse, long_work, copy)

    def test_stopped_at_any_time_it_has_done_nothing(self) -> None:
        for module in (backup, upgrade):
            self.patch(module, "OFTEN", 1)
        whole = Path(self.mktemp())
        shutil.copy(self.path, whole)
        looks = count()
        with closing(open_journal(whole, lambda: next(looks) < 0)):
            all_looks = next(looks)
        before = self.content()
        for at in range(0, all_looks, all_looks // 40):
            looks = count()
            self.assertRaises(
                UpgradeStopped,
                open_journal,
                self.path,
                lambda: next(looks) >= at,  # noqa: B023
            )
            self.assertEqual(self.content(), before)
            self.assertEqual(list(self.path.parent.glob(f"*{self.path.name}.schema*")), [])
        with closing(open_journal(self.path)):
            self.assertEqual(len(self.copies()), 1)

    def test_the_copy_and_the_change_are_stopped_each(self) -> None:
        for module in (backup, upgrade):
            self.patch(module, "OFTEN", 1)
        before = self.content()
        for begun in (f".{self.path.name}.schema-2.*.partial", f"{self.path.name}.schema-2.backup"):
            with self.subTest(begun=begun):
                self.assertRaises(UpgradeStopped, open_journal, self.path, self.once_there(begun))
                self.assertEqual(self.content(), before)
                self.assertEqual(list(self.path.parent.glob(f"*{self.path.name}.schema*")), [])

    def once_there(self, pattern: str) -> Callable[[], bool]:
        """Whether to stop: from when a file was there on."""
        seen: list[Path] = []

        def is_stopped() -> bool:
            seen.extend(self.path.parent.glob(pattern))
            return bool(seen)

        return is_stopped

    def content(self) -> list[str]:
        with closing(sqlite3.connect(self.path)) as db:
            return list(db.iterdump())


class FormatTests(Version2TestCase):
    """What is under way when a daemon of 0.2.0 ends."""

    def test_an_operator_sees_it_without_a_next_attempt(self) -> None:
        self.make_version_2()
        with closing(sqlite3.connect(self.path)) as db:
            db.execute("UPDATE prompts SET due = 1e18 WHERE seq = 5")
            db.commit()
        beside = SqliteJournal(open_beside(self.path), self.clock, at_once)
        records = self.successResultOf(beside.records(None, 0, 10))
        told = {each.id: each.to_dict()["next_attempt"] for each in records}
        self.assertEqual((told["claimed"], told["answered"]), (None, None))
        self.assertIsNotNone(told["accepted"])
        self.successResultOf(beside.close())

    def test_what_was_claimed_is_due_and_may_have_been_billed(self) -> None:
        self.make_version_2()
        with closing(sqlite3.connect(self.path)) as db:
            db.execute("UPDATE prompts SET due = 1e18, tries = 2, deliveries = 3 WHERE seq = 5")
            db.execute("UPDATE prompts SET letter_due = 1e18, letters = 4 WHERE seq = 6")
            db.commit()
        self.journal = self.open()
        self.assertEqual(self.record("answered").deliveries, 3)
        (delivery,), (dead_letter,) = self.deliveries().claimed, self.dead_letters().claimed
        self.assertEqual((delivery.attempt, delivery.since), (3, NOON))
        self.assertEqual((dead_letter.attempt, dead_letter.since), (5, NOON))
        self.assertEqual(self.record("answered").deliveries, 4)
        for name, used in (("accepted", 6), ("claimed", 6), ("postponed", 6)):
            self.fail_it(name, give_back=True) if name != "postponed" else None
            self.assertEqual(self.used(), used, name)


def schema_of(db: sqlite3.Connection) -> list[tuple[str, str, str]]:
    """Tables with their columns; indexes and triggers with their SQL."""
    found = []
    for kind, name, sql in db.execute("SELECT type, name, sql FROM sqlite_master ORDER BY name"):
        if kind == "table":
            columns = db.execute(
                f"SELECT name, type, \"notnull\", pk FROM pragma_table_info('{name}')"
            )
            found.append((kind, name, str(columns.fetchall())))
        else:
            found.append((kind, name, sql))
    return found
