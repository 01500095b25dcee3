"""The page's section about batches, its line about the daemon, and counts that are old."""

from typing import Any

import attrs

from chatgpt_source.admin import batches, daemon, fragments
from chatgpt_source.admin.daemon import Daemon
from chatgpt_source.admin.tiers import SeenBatch, SeenTiers
from chatgpt_source.journal import Batch
from chatgpt_source.prompt import Tier
from tests.admin.test_page import SHOWN, PageTestCase, Reader
from tests.journal.common import NOON

WAITING = {Tier.STANDARD: 2, Tier.FLEX: 0, Tier.BATCH: 1}
GATHERED = SeenBatch(Batch(2, "key-2", NOON - 90), 1)
SENT = SeenBatch(
    Batch(1, "key-1", NOON - 7200, NOON + 86400, "file-1", "batch_1"),
    1500,
    deadline=NOON + 86400,
    trouble="the model answered 503: try `again`",
    next_try=NOON + 40,
)
TIERS = SeenTiers(WAITING, [SENT, GATHERED], at=NOON, offered=True)


class SectionTests(PageTestCase):
    def section(self, **changes: Any) -> str:
        return self.text(batches.section(attrs.evolve(TIERS, **changes), NOON, SHOWN.zone))

    def test_there_are_some(self) -> None:
        told = self.section()
        for part in (
            "1 prompt to be put into a batch; 1,501 in 2 batches.",
            "batch_1",
            "submitted (with the provider)",
            "1,500",
            "2 h ago",
            "The model answered 503: try again",
            "in 40 s",
            "no. 2",
            "gathering (taking prompts)",
        ):
            self.assertIn(part, told)
        self.assertNotIn("As of", told)

    def test_a_trouble(self) -> None:
        told = self.section(trouble="the model has no room for batches", next_try=NOON + 600)
        self.assertIn("The model has no room for batches; the next try is in 10 min.", told)
        self.assertIn(
            "8 prompts waiting for the flex", self.section(waiting={**WAITING, Tier.FLEX: 8})
        )

    def test_the_last_known(self) -> None:
        self.assertIn("As of 12:55", self.section(at=NOON - 300, is_old=True))
        self.assertIn("can't be read", self.section(at=None, waiting={}, batches=[]))

    def test_a_few_of_many(self) -> None:
        told = self.section(batches=[SENT] * (batches.MOST + 1))
        self.assertIn(f"The {batches.MOST} oldest are shown.", told)
        self.assertEqual(told.count("batch_1"), batches.MOST)

    def test_where_there_are_none_it_is_hidden(self) -> None:
        for shown, tiers in (
            (False, SeenTiers()),
            (False, attrs.evolve(TIERS, batches=[], offered=False)),
            (True, attrs.evolve(TIERS, batches=[])),
            (True, attrs.evolve(TIERS, offered=False)),
        ):
            read = self.read(batches.section(tiers, NOON, SHOWN.zone))
            self.assertEqual("hidden" not in read.all("section")[0], shown)

    def test_it_is_on_the_page(self) -> None:
        page = Reader(self.page(attrs.evolve(SHOWN, tiers=TIERS)))
        self.assertIn("1,501 in 2 batches", page.text)
        self.assertEqual(page.open, [])


class DaemonTests(PageTestCase):
    POD = Daemon("source-chatgpt-x2x5p", 12, 7, 3, shared=True)

    def test_one_of_some(self) -> None:
        told = self.text(daemon.fragment(self.POD))
        self.assertIn("answered by source-chatgpt-x2x5p, process 12, one of 3 daemons", told)
        self.assertIn(daemon.OWN, told)
        told = self.text(daemon.fragment(attrs.evolve(self.POD, daemons=None)))
        self.assertIn(", one on this journal.", told)

    def test_one_with_a_file(self) -> None:
        alone = attrs.evolve(self.POD, shared=False, daemons=1)
        self.assertEqual(
            self.text(daemon.fragment(alone)), "answered by source-chatgpt-x2x5p, process 12"
        )


class OldCountsTests(PageTestCase):
    def test_they_have_their_time(self) -> None:
        for age, told in ((0, False), (4, False), (300, True)):
            shown = attrs.evolve(SHOWN, counted=NOON - age)
            self.assertEqual("As of 12:55" in self.text(fragments.states(shown)), told)
            self.assertEqual("as of 12:55" in self.text(fragments.quota(shown)), told)
        self.assertNotIn("As of", self.text(fragments.states(SHOWN)))
