"""The charts, as SVG."""

import re
from collections import Counter
from xml.etree import ElementTree as ET

from twisted.trial.unittest import SynchronousTestCase
from twisted.web.template import Tag, flattenString

from chatgpt_source.admin import charts
from chatgpt_source.admin.history import COUNTED, Minute
from chatgpt_source.admin.view import Hour


def minutes(*counts: tuple[int, int, int]) -> list[Minute]:
    stretch = [Minute(number * 60.0) for number in range(60 - len(counts))]
    return stretch + [
        Minute(3600.0, Counter(dict(zip(COUNTED, each, strict=True)))) for each in counts
    ]


TIMES = [f"12:{number:02}" for number in range(60)]


class ChartsTestCase(SynchronousTestCase):
    def parse(self, tag: Tag) -> ET.Element:
        html = self.successResultOf(flattenString(None, tag))
        return ET.fromstring(html)

    def text(self, element: ET.Element, name: str) -> str:
        found = element.find(name)
        assert found is not None
        return found.text or ""

    def heights(self, path: str) -> list[float]:
        return [float(height) for height in re.findall(r"v-([0-9.]+)", path)]


class GaugeTests(ChartsTestCase):
    def filled(self, share: float) -> str | None:
        svg = self.parse(charts.gauge(share, "fine", "told"))
        self.assertEqual((svg.get("role"), svg.get("aria-label")), ("img", "told"))
        fills = [p.get("stroke-dasharray") for p in svg if "fill" in (p.get("class") or "")]
        return fills[0] if fills else None

    def test_filled(self) -> None:
        self.assertEqual(self.filled(0.25), "25.0 200")
        self.assertEqual(self.filled(1.5), "100.0 200")

    def test_empty_has_no_dot(self) -> None:
        self.assertIsNone(self.filled(0))


class TrafficTests(ChartsTestCase):
    def test_rows_on_one_scale(self) -> None:
        svg = self.parse(charts.traffic(Hour(minutes((10, 5, 0), (0, 0, 1)), TIMES, 0)))
        paths = {p.get("class"): p.get("d") or "" for p in svg.iter("path")}
        self.assertEqual(self.heights(paths["accepted"]), [34.0])
        self.assertEqual(self.heights(paths["delivered"]), [17.0])
        self.assertEqual(self.heights(paths["failed"]), [3.4])
        self.assertTrue(paths["accepted"].startswith("M58."))
        self.assertTrue(paths["failed"].startswith("M59."))

    def test_little_among_much_can_be_seen(self) -> None:
        svg = self.parse(charts.traffic(Hour(minutes((10**6, 0, 1)), TIMES, 0)))
        failed = next(p for p in svg.iter("path") if p.get("class") == "failed")
        self.assertEqual(self.heights(failed.get("d") or ""), [1.5])

    def test_told_in_words(self) -> None:
        svg = self.parse(charts.traffic(Hour(minutes((1200, 5, 1)), TIMES, 0)))
        self.assertEqual(svg.get("aria-labelledby"), svg[0].get("id"))
        self.assertEqual(svg.get("aria-describedby"), svg[1].get("id"))
        self.assertEqual(
            self.text(svg, "desc"),
            "1,200 accepted, 5 delivered, 1 failed; at most 1,200 in a minute.",
        )

    def test_each_minute_has_a_hint(self) -> None:
        svg = self.parse(charts.traffic(Hour(minutes((4, 3, 2)), TIMES, 59)))
        hints = [self.text(r, "title") for r in svg.iter("rect") if r.get("class") == "hint"]
        self.assertEqual(len(hints), 60)
        self.assertEqual(hints[59], "12:59: 4 accepted, 3 delivered, 2 failed")
        self.assertEqual(hints[58], "12:58: before the start")

    def test_nothing_yet(self) -> None:
        svg = self.parse(charts.traffic(Hour(minutes(), TIMES, 0)))
        self.assertIn("0 accepted", self.text(svg, "desc"))


class LatencyTests(ChartsTestCase):
    def test_from_median_to_percentile(self) -> None:
        stretch = minutes((0, 2, 0))
        for seconds in (1, 10):
            stretch[-1].latencies.add(seconds)
        svg = self.parse(charts.latency(Hour(stretch, TIMES, 0)))
        paths = {p.get("class"): p.get("d") or "" for p in svg.iter("path")}
        self.assertEqual(len(self.heights(paths["span"])), 1)
        self.assertGreater(self.heights(paths["span"])[0], 100)
        self.assertEqual(self.heights(paths["median"]), [3.0])
        self.assertRegex(
            self.text(svg, "desc"), "Half took at most 0.98 s, 95 of 100 at most 9.9 s."
        )

    def test_nothing_yet(self) -> None:
        svg = self.parse(charts.latency(Hour(minutes(), TIMES, 0)))
        self.assertEqual(self.text(svg, "desc"), "Nothing was delivered.")
        self.assertEqual([p.get("d") for p in svg.iter("path") if p.get("class") == "span"], [""])


class TableTests(ChartsTestCase):
    def test_five_minutes_a_row(self) -> None:
        stretch = minutes((1, 2, 3), (10, 20, 30))
        stretch[-1].latencies.add(1)
        table = self.parse(charts.table(Hour(stretch, TIMES, 0)))
        rows = [["".join(cell.itertext()) for cell in row] for row in table.iter("tr")]
        self.assertEqual(len(rows), 13)
        self.assertEqual(rows[0][:4], ["From", "Accepted", "Delivered", "Failed"])
        self.assertEqual(rows[-1], ["12:55", "11", "22", "33", "0.98 s", "0.98 s"])
        self.assertEqual(rows[1], ["12:00", "0", "0", "0", "–", "–"])
