"""The page's section of the history."""

import json
from typing import Any

import attrs

from chatgpt_source.admin import past
from chatgpt_source.admin.ranges import LATEST, RANGES, Past
from chatgpt_source.admin.view import Query
from chatgpt_source.journal.period import MINUTE, Period
from chatgpt_source.prompt import State
from tests.admin.test_page import PageTestCase, Reader
from tests.admin.test_ranges import past_of
from tests.journal.common import NOON

HOSTILE = "<script>"


def minute(before: int = 0, **counts: Any) -> Period:
    return Period(MINUTE, int(NOON) - 60 * before, **counts)


class SectionTestCase(PageTestCase):
    def part(self, name: str, seen: Past) -> Reader:
        return self.read(past.section(seen)[name]())

    def told(self, name: str, seen: Past) -> list[str]:
        """What the columns of a figure say."""
        (canvas,) = (
            each for each in self.part(name, seen).all("div") if each.get("role") == "slider"
        )
        words: list[str] = json.loads(canvas["data-told"] or "")
        return words


class RangesTests(SectionTestCase):
    def test_links(self) -> None:
        read = self.read(past.ranges(Query(State.FAILED, range=RANGES["24h"])))
        links = {each["id"]: each for each in read.all("a")}
        self.assertEqual([*links], ["range-1h", "range-24h", "range-7d", "range-30d"])
        self.assertEqual(links["range-7d"]["href"], "?state=failed&range=7d#past-title")
        self.assertEqual(links["range-1h"]["href"], "?state=failed#past-title")
        self.assertEqual([n for n, a in links.items() if "aria-current" in a], ["range-24h"])
        self.assertEqual(read.text, "The last 1 hThe last 24 hThe last 7 dThe last 30 d")


class FigureTests(SectionTestCase):
    def test_the_ids_are_those_of_the_parts(self) -> None:
        for seen in (past_of(LATEST), past_of(LATEST, minute(accepted=1))):
            for name in past.PARTS:
                self.assertEqual(self.part(name, seen).elements[0][1]["id"], name)

    def test_prompts(self) -> None:
        seen = past_of(
            LATEST,
            minute(1, accepted=1200, delivered=3, failed=2),
            minute(accepted=1, cancelled=4, redriven=5),
        )
        text = self.part("traffic", seen).text
        for each in ("Accepted 1,201", "Delivered 3", "Failed 2", "At most 1,200 a minute."):
            self.assertIn(each, text)
        told = self.told("traffic", seen)
        self.assertEqual(told[-2], "12:59: 1,200 accepted, 3 delivered, 2 failed")
        self.assertEqual(
            told[-1], "13:00: 1 accepted, 0 delivered, 0 failed, 4 cancelled, 5 redriven"
        )
        self.assertEqual(told[0], "12:01: no data")

    def test_latency(self) -> None:
        period = minute()
        for seconds in (1, 10):
            period.latencies.add(seconds)
        seen = past_of(LATEST, minute(1), period)
        told = self.told("latency", seen)
        self.assertEqual(
            told[-2:], ["12:59: none delivered", "13:00: median 0.98 s, 95th percentile 9.9 s"]
        )
        self.assertIn("Median 0.98 s95th percentile 9.9 s", self.part("latency", seen).text)

    def test_backlog(self) -> None:
        seen = past_of(LATEST, minute(2, backlog=1), minute(1), minute(backlog=0))
        told = self.told("waiting", seen)
        self.assertEqual(
            told[-3:],
            ["12:58: 1 prompt waiting", "12:59: not known", "13:00: 0 prompts waiting"],
        )
        self.assertIn("At the end 0", self.part("waiting", seen).text)

    def test_refused_by_reason_only_if_any_was(self) -> None:
        self.assertIn("hidden", self.part("refusals", past_of(LATEST)).elements[0][1])
        period = minute(1)
        period.refused.update({"too_large": 2, "quota": 1, HOSTILE: 1})
        seen = past_of(LATEST, period, minute())
        read = self.part("refusals", seen)
        self.assertIn("too large 2quota 1<script> 1", read.text)
        self.assertEqual(read.all("script"), [])
        told = self.told("refusals", seen)
        self.assertEqual(
            told[-2:], ["12:59: 2 too large, 1 quota, 1 <script>", "13:00: none refused"]
        )

    def test_tokens_only_if_there_are_any(self) -> None:
        self.assertIn("hidden", self.part("tokens", past_of(LATEST)).elements[0][1])
        seen = past_of(LATEST, minute(input_tokens=12000, output_tokens=30))
        self.assertIn("Of prompts 12,000Of answers 30", self.part("tokens", seen).text)
        self.assertEqual(self.told("tokens", seen)[-1], "13:00: 12,000 of prompts, 30 of answers")

    def test_money_only_where_there_are_prices(self) -> None:
        seen = past_of(LATEST, minute(cost=1.5))
        self.assertIn("hidden", self.part("money", seen).elements[0][1])
        priced = attrs.evolve(seen, is_priced=True)
        text = self.part("money", priced).text
        self.assertIn("In all $1.50", text)
        self.assertNotIn("without a price", text)
        self.assertEqual(self.told("money", priced)[-1], "13:00: $1.50")
        some = attrs.evolve(past_of(LATEST, minute(unpriced=2)), is_priced=True)
        self.assertIn("Answers without a price 2", self.part("money", some).text)

    def test_what_hatching_means_where_there_is_some(self) -> None:
        self.assertIn("no data", self.part("gaps", past_of(LATEST)).text)
        whole = past_of(LATEST, *(minute(number) for number in range(60)))
        self.assertEqual(self.part("gaps", whole).text, "")


class TableTests(SectionTestCase):
    def test_some_columns_a_row(self) -> None:
        one, two = minute(1, accepted=1, backlog=4), minute(accepted=10, delivered=2, cost=0.5)
        one.latencies.add(1)
        one.refused["quota"] = 7
        read = self.part("numbers", past_of(LATEST, one, two))
        self.assertEqual(len(read.all("tr")), 13)
        self.assertIn("12:561120740.98 s0.98 s00", read.text)
        self.assertIn("12:51no data", read.text)
        self.assertEqual(len(read.all("th")), 10 + 12)
        self.assertNotIn("Cost", read.text)

    def test_with_prices(self) -> None:
        seen = attrs.evolve(past_of(LATEST, minute(cost=0.5)), is_priced=True)
        read = self.part("numbers", seen)
        self.assertIn("Cost", read.text)
        self.assertIn("$0.50", read.text)
