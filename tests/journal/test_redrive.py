"""What an operator does to a journal, and idempotency keys: what is SQLite's own."""

import os

from chatgpt_source.errors import NotRedriven
from tests.journal.common import JournalTestCase, prompt


class RedriveTests(JournalTestCase):
    def test_a_journal_no_daemon_has_used(self) -> None:
        self.accept(prompt())
        self.fail_it()
        self.opened.connection.execute("DELETE FROM terms")
        self.failureResultOf(self.journal.redrive("p1"), NotRedriven)

    def test_purge_forgets_all_rows(self) -> None:
        self.accept(prompt("p1", "x" * 5000))
        self.fail_it(dead_letter=b"l")
        self.successResultOf(self.journal.purge("p1"))
        for table in ("prompts", "texts", "long_texts", "outbox"):
            found = self.opened.connection.execute(f"SELECT count(*) FROM {table}").fetchone()
            self.assertEqual(found, (0,), table)


class KeyTests(JournalTestCase):
    def admit_with(self, key: str, name: str, text: str = "what is vanus") -> None:
        self.successResultOf(self.admit(prompt(name, text), 5, key=key))

    def test_neither_key_nor_text_can_be_read_or_guessed_from_the_file(self) -> None:
        self.admit_with("a-secret-key", "p1", "a secret text")
        self.deliver("p1")
        self.successResultOf(self.journal.close())
        content = self.path.read_bytes()
        self.assertNotIn(b"secret-key", content)
        self.assertNotIn(b"secret text", content)
        first = self.digest_in_new_journal()
        self.assertNotEqual(first, self.digest_in_new_journal())

    def digest_in_new_journal(self) -> bytes:
        self.path = self.path.with_name(f"{self.path.name}-{os.urandom(4).hex()}")
        self.journal = self.open()
        self.admit_with("k", "p1")
        row = self.opened.connection.execute("SELECT digest FROM keys").fetchone()
        return bytes(row[0])
