"""What was forgotten is in none of the journal's files any more, and nobody waits long for that."""

import random
import sqlite3

import attrs

from chatgpt_source.journal import Delivered
from chatgpt_source.journal.sqlite import SqliteJournal, open_beside
from chatgpt_source.journal.sqlite.background import WIPE_AFTER, WIPE_RETRY
from chatgpt_source.journal.sqlite.texts import SHORT
from chatgpt_source.journal.sqlite.upkeep import PRUNE_BYTES, let_lapse, prune
from chatgpt_source.journal.sqlite.wipe import MOST_BYTES_REWRITTEN, MOST_ROWS_REWRITTEN, wipe
from chatgpt_source.prompt import NOWHERE, Details
from tests.journal.common import NOON, JournalTestCase, at_once, prompt


class PrivacyTests(JournalTestCase):
    SECRET = b"a marked secret"

    def files(self) -> dict[str, bytes]:
        found = self.path.parent.glob(self.path.name + "*")
        return {file.name: file.read_bytes() for file in found}

    def holding(self) -> list[str]:
        return [name for name, content in self.files().items() if self.SECRET in content]

    def deliver_text(self, text: str) -> None:
        self.accept(prompt(text=text))
        self.asks()
        event = b"event: " + text.encode()
        self.answer(event=event, claim=True)
        self.deliver()

    def test_files_are_the_owners_alone(self) -> None:
        self.accept(prompt())
        modes = {
            file.name: file.stat().st_mode & 0o777
            for file in self.path.parent.glob(self.path.name + "*")
        }
        self.assertEqual(len(modes), 4)  # the file, -wal, -shm and .lock
        self.assertEqual(set(modes.values()), {0o600})

    def test_a_looser_file_is_tightened(self) -> None:
        self.shut(self.opened)
        self.path.chmod(0o644)
        self.journal = self.open()
        self.test_files_are_the_owners_alone()

    def test_wiped_from_all_files_soon_after_delivery(self) -> None:
        for size in (1, 300):
            with self.subTest(size=size):
                self.deliver_text(self.SECRET.decode() * size)
                self.assertNotEqual(self.holding(), [])
                self.clock.advance(WIPE_AFTER)
                self.assertEqual(self.holding(), [])
                self.opened.connection.execute("DELETE FROM prompts")

    def test_what_is_deleted_meanwhile_does_not_put_it_off(self) -> None:
        self.clock.advance(WIPE_AFTER)
        self.deliver_text(self.SECRET.decode())
        for n in range(int(WIPE_AFTER / 2)):
            self.clock.advance(2)
            self.accept(prompt(f"other {n}"))
            self.deliver(f"other {n}")
        self.assertEqual(self.holding(), [])

    def test_only_after_something_was_deleted(self) -> None:
        self.clock.advance(WIPE_AFTER)
        statements: list[str] = []
        self.opened.connection.set_trace_callback(statements.append)
        self.clock.pump([2] * int(WIPE_AFTER))
        self.assertEqual([each for each in statements if "checkpoint" in each], [])

    def test_no_copy_stays_in_the_gaps_of_pages(self) -> None:
        """SQLite leaves some when it moves rows; found by chance, with this seed."""
        chance, waiting, texts = random.Random(15), [], {}
        keep = chance.choice([8, 16, 40, 100, 300])
        for n in range(1500):
            name = str(n)
            texts[name] = f"MARK-{n}-{chance.getrandbits(64):x}"
            text = f"{texts[name]} " + "and so on " * chance.choice([0, 1, 10, 2000])
            self.accept(prompt(name, text), limit=2000, max_backlog=2000)
            waiting.append(name)
            while len(waiting) > keep:
                done = waiting.pop(chance.randrange(len(waiting)))
                event = b"ev " * 80 + texts[done].encode()
                self.answer(done, event=event, claim=True)
                if chance.random() >= 0.06:
                    self.deliver(done)
                    del texts[done]
                    texts[f"delivered {done}"] = event[240:].decode()
        self.successResultOf(self.journal.close())
        content = b"".join(self.files().values())
        delivered = [mark for name, mark in texts.items() if name.startswith("delivered")]
        self.assertGreater(len(delivered), 1000)
        self.assertEqual([mark for mark in delivered if mark.encode() in content], [])

    def test_wiped_at_close(self) -> None:
        self.deliver_text(self.SECRET.decode())
        self.successResultOf(self.journal.close())
        self.assertEqual(self.holding(), [])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_reader_in_the_way_only_delays_it(self) -> None:
        self.deliver_text(self.SECRET.decode())
        self.opened.connection.execute("PRAGMA busy_timeout = 1")
        reader = sqlite3.connect(self.path)
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM prompts").fetchone()
        self.clock.advance(WIPE_AFTER)
        reader.close()
        self.clock.advance(WIPE_AFTER)
        self.assertEqual(self.holding(), [])


class ForgottenTests(JournalTestCase):
    """Nothing that anybody wrote of a prompt outlives it, long or short, whatever else waits."""

    MARK = "a marked secret"

    def assert_forgotten(self) -> None:
        self.clock.advance(WIPE_AFTER)
        self.assertEqual(self.holding(), [])
        self.opened.connection.execute("DELETE FROM prompts")

    def holding(self) -> list[str]:
        files = self.path.parent.glob(self.path.name + "*")
        return [file.name for file in files if self.MARK.encode() in file.read_bytes()]

    def sizes(self) -> list[int]:
        """From short ones, by both sides of the limit, to long ones."""
        length = len(self.MARK)
        return [1, SHORT // length, SHORT // length + 1, 300, 70000]

    def fail_text(self, size: int) -> None:
        text = self.MARK * size
        self.accept(prompt(text=text))
        self.asks()
        self.fail_it(give_back=True, dead_letter=text.encode())

    def test_what_a_prompt_has_besides(self) -> None:
        for size in self.sizes():
            with self.subTest(size=size):
                details = Details(metadata={"note": self.MARK * size})
                self.accept(attrs.evolve(prompt(), details=details))
                self.crash()
                self.assertEqual(self.asks().claimed[0].prompt.details, details)
                self.deliver("p1")
                self.assert_forgotten()

    def test_delivered(self) -> None:
        for size in self.sizes():
            with self.subTest(size=size):
                text = self.MARK * size
                self.accept(prompt(text=text))
                self.assertEqual(self.asks().claimed[0].prompt.text, text)
                event = text.encode()
                self.answer(event=event)
                self.assertEqual(self.deliveries().claimed[0].event, event)
                self.deliver("p1")
                self.assert_forgotten()

    def test_finished_and_not_kept(self) -> None:
        for size in self.sizes():
            with self.subTest(size=size):
                self.clock.advance(WIPE_AFTER)
                self.accept(attrs.evolve(prompt(text=self.MARK * size), target=NOWHERE))
                self.answer(event=self.MARK.encode() * size)
                self.clock.advance(WIPE_AFTER)
                self.assert_forgotten()

    def test_purged(self) -> None:
        for size in self.sizes():
            with self.subTest(size=size):
                self.fail_text(size)
                self.successResultOf(self.journal.purge("p1"))
                self.assert_forgotten()

    def test_pruned(self) -> None:
        for size in self.sizes():
            with self.subTest(size=size):
                self.fail_text(size)
                self.dead_letters()
                self.deliver()
                self.successResultOf(self.journal.prune(self.clock.seconds() + 1))
                self.assertIsNone(self.record())
                self.assert_forgotten()

    def test_a_dead_letter_that_was_delivered(self) -> None:
        for size in self.sizes():
            with self.subTest(size=size):
                self.accept(prompt())
                dead_letter = (self.MARK * size).encode()
                self.fail_it(give_back=True, dead_letter=dead_letter)
                (claim,) = self.dead_letters().claimed
                self.assertEqual(claim.event, dead_letter)
                self.deliver()
                self.assert_forgotten()

    def test_long_ones_while_many_wait(self) -> None:
        many = [prompt(f"q{n}") for n in range(MOST_ROWS_REWRITTEN + 1)]
        self.accept(*many, limit=10**6, max_backlog=10**6)
        for name in ("p1", "p2", "p3"):
            self.accept(
                prompt(name, self.MARK * 1000, accepted=NOON - 1),
                limit=10**6,
                max_backlog=10**6,
            )
        self.assertEqual(len(self.asks(3).claimed), 3)
        for name in ("p1", "p3", "p2"):
            self.answer(name)
            self.deliver(name)
        self.assert_forgotten()


class BriefTests(JournalTestCase):
    """A wipe holds nobody up, whatever waits."""

    def rows_written_by_a_wipe(self) -> int:
        before = self.opened.connection.total_changes
        self.assertTrue(wipe(self.opened.connection))
        return self.opened.connection.total_changes - before

    def test_long_texts_are_not_touched(self) -> None:
        for start in ("", "\0", "é"):
            with self.subTest(start=start):
                text = start + "x" * 10**6
                self.accept(*(prompt(f"{start}{n}", text) for n in range(9)))
                sizes = self.opened.connection.execute("SELECT max(size) FROM texts").fetchone()
                self.assertLess(sizes, (50,))
                rows = self.opened.connection.execute("SELECT count(*) FROM texts").fetchone()[0]
                self.assertEqual(self.rows_written_by_a_wipe(), 2 * rows)

    def test_nor_are_they_forgotten_all_at_once(self) -> None:
        count = 3 * PRUNE_BYTES // 10**6
        for n in range(count):
            self.accept(prompt(f"{n}", "x" * 10**6))
            self.fail_it(f"{n}", give_back=True)
        db = self.opened.connection
        steps = [prune(db, NOON + 1) for _ in range(5)]
        self.assertEqual(steps, [5, 5, 2, 0, 0])
        self.assertEqual(db.execute("SELECT count(*) FROM long_texts").fetchone(), (0,))

    def test_nor_once_they_are_kept_no_more(self) -> None:
        count = 3 * PRUNE_BYTES // 10**6
        for n in range(count):
            self.accept(prompt(f"{n}", "x" * 10**6))
            self.answer(f"{n}", claim=True)
            self.end_of(f"{n}", Delivered(keep=30))
        db = self.opened.connection
        steps = [let_lapse(db, NOON + 30) for _ in range(5)]
        self.assertEqual(steps, [5, 5, 2, 0, 0])
        self.assertEqual(db.execute("SELECT count(*) FROM long_texts").fetchone(), (0,))

    def test_nor_are_many_rows(self) -> None:
        rows = MOST_ROWS_REWRITTEN + 1
        self.accept(*(prompt(f"{n}") for n in range(rows)), limit=rows, max_backlog=rows)
        self.assertEqual(self.rows_written_by_a_wipe(), 0)
        self.opened.connection.execute("DELETE FROM texts WHERE seq = 1")
        self.assertEqual(self.rows_written_by_a_wipe(), 2 * (rows - 1))

    def test_nor_are_rows_that_are_large_together(self) -> None:
        """Counted in bytes, up to the end of the text."""
        text = "\0" + "é" * (SHORT // 2 - 1)
        rows = MOST_BYTES_REWRITTEN // (2 * SHORT)
        self.accept(*(prompt(f"{n}", text) for n in range(rows)), limit=rows, max_backlog=rows)
        self.assertEqual(self.rows_written_by_a_wipe(), 2 * rows)
        for n in range(rows):
            self.answer(f"{n}", event=b"e" * SHORT, claim=True)
        self.assertEqual(self.rows_written_by_a_wipe(), 0)


class DisturbedTests(JournalTestCase):
    """Another process forgets something and can't wipe: the daemon does."""

    MARK = "a marked secret"

    def test_purged_while_somebody_reads(self) -> None:
        self.accept(prompt(text=self.MARK))
        self.asks()
        self.fail_it(give_back=True)
        self.look_for(WIPE_AFTER * 4)
        reader = sqlite3.connect(self.path, isolation_level=None)
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM prompts").fetchone()
        beside = SqliteJournal(open_beside(self.path), self.clock, at_once)
        self.assertTrue(self.successResultOf(beside.purge("p1")))
        self.successResultOf(beside.close())
        self.look_for(WIPE_AFTER * 4)
        self.assertNotEqual(self.holding(), [])
        reader.close()
        self.look_for(WIPE_RETRY + 2)
        self.assertEqual(self.holding(), [])

    def look_for(self, seconds: float) -> None:
        """As a daemon does that has nothing to do."""
        for _ in range(int(seconds / 2)):
            self.clock.advance(2)
            self.successResultOf(self.journal.claim_asks(NOON, 1))

    def holding(self) -> list[str]:
        files = self.path.parent.glob(self.path.name + "*")
        return [file.name for file in files if self.MARK.encode() in file.read_bytes()]
