"""The journal's counts, however long it takes to tell them."""

from typing import Any, cast

from chatgpt_source.config import Config
from chatgpt_source.config.secret import Secret
from chatgpt_source.journal.counts import Counted, Counts
from chatgpt_source.journal.executor import READ_PATIENCE
from chatgpt_source.prompt import State
from chatgpt_source.quota import Calendar
from tests.journal.common import NOON, JournalTestCase, Threads, prompt

ZONE = Config(target="http://x", token=Secret("t")).timezone


class CountsTests(JournalTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.counts = Counts(cast(Any, self.clock), Calendar(ZONE), self.journal)

    def hang(self) -> Threads:
        threads = Threads(self.clock)
        self.journal._executor._group._in_thread = threads.defer
        return threads

    def test_as_they_are(self) -> None:
        self.accept(prompt("p1"), prompt("p2", accepted=NOON + 1))
        counted = self.successResultOf(self.counts.read())
        self.assertEqual((counted.tally.oldest, counted.at, counted.trouble), (NOON, NOON, None))
        self.assertEqual((counted.tally.used, counted.tally.prompts[State.ACCEPTED]), (2, 2))

    def test_one_read_for_all(self) -> None:
        threads = self.hang()
        first = self.counts.read()
        rest = [self.counts.read() for _ in range(50)]
        self.assertEqual(
            (len(threads.waiting), len(self.journal._executor._group._waiting)), (1, 0)
        )
        while threads.waiting:
            threads.work()
        self.assertEqual(self.successResultOf(first).at, NOON)
        self.assertEqual(len({id(self.successResultOf(each)) for each in rest}), 1)

    def test_one_that_does_not_answer(self) -> None:
        self.accept(prompt("p1"))
        self.successResultOf(self.counts.read())
        threads = self.hang()
        looks = [self.counts.read() for _ in range(3)]
        self.clock.pump([0.1] * round(READ_PATIENCE * 10 + 1))
        for look in looks:
            counted = self.successResultOf(look)
            self.assertEqual((counted.tally.used, counted.at), (1, NOON))
            self.assertEqual(counted.trouble, "it has not answered for 1 s")
        self.clock.advance(11)
        self.assertIn("for 12 s", self.successResultOf(self.counts.read()).trouble)
        threads.work()
        look = self.counts.read()
        while threads.waiting:
            threads.work()
        self.assertIsNone(self.successResultOf(look).trouble)

    def test_one_that_never_did(self) -> None:
        self.opened.connection.close()
        counted = self.successResultOf(self.counts.read())
        self.assertEqual(counted, Counted(trouble=counted.trouble))
        self.assertIn("removed", counted.trouble)
