"""The charts, as SVG."""

import json
import re
from xml.etree import ElementTree as ET

from twisted.trial.unittest import SynchronousTestCase
from twisted.web.template import Tag, flattenString

from chatgpt_source.admin import charts
from chatgpt_source.admin.charts import Axis


class ChartsTestCase(SynchronousTestCase):
    def parse(self, tag: Tag) -> ET.Element:
        html = self.successResultOf(flattenString(None, tag))
        return ET.fromstring(html)

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


class BarsTests(ChartsTestCase):
    def test_rows_on_one_scale(self) -> None:
        plot = charts.bars({"one": [0, 10], "two": [5, 0]}, 10, "10")
        self.assertEqual(self.heights(plot.paths["one"]), [42.0])
        self.assertEqual(self.heights(plot.paths["two"]), [21.0])
        self.assertTrue(plot.paths["one"].startswith("M1."))
        self.assertTrue(plot.paths["two"].startswith("M0."))
        self.assertEqual(plot.lines, [(0.08, "10"), (0.58, "10"), (1.0, "0")])

    def test_little_among_much_can_be_seen(self) -> None:
        plot = charts.bars({"one": [10**6, 1]}, 10**6, "1 M")
        self.assertEqual(self.heights(plot.paths["one"]), [92.0, 1.5])

    def test_nothing_yet(self) -> None:
        plot = charts.bars({"one": [0, 0]}, 0, "0")
        self.assertEqual((plot.paths, plot.lines), ({"one": ""}, [(1.0, "0")]))


class SpansTests(ChartsTestCase):
    def test_from_median_to_percentile_on_a_logarithmic_scale(self) -> None:
        plot = charts.spans([None, (0.1, 10.0), (1.0, 1.0)])
        self.assertEqual([told for _, told in plot.lines], ["10 s", "1 s", "0.1 s"])
        depths = [depth for depth, _ in plot.lines]
        self.assertAlmostEqual(depths[1] - depths[0], depths[2] - depths[1])
        self.assertEqual(depths[-1], 1.0)
        self.assertEqual(self.heights(plot.paths["span"]), [92.0, 1.5])
        self.assertEqual(self.heights(plot.paths["median"]), [2.5, 2.5])
        self.assertTrue(plot.paths["span"].startswith("M1."))

    def test_the_scale_fits(self) -> None:
        def told(low: float, high: float) -> list[str]:
            return [label for _, label in charts.spans([(low, high)]).lines]

        self.assertEqual(told(0.02, 0.05), ["0.1 s", "10 ms"])
        self.assertEqual(told(1.0, 1.0), ["10 s", "1 s"])
        self.assertEqual(told(0.0001, 0.0001), ["10 ms", "1 ms"])
        self.assertEqual(told(30, 4000), ["6 h", "1 h", "10 min", "1 min", "10 s"])
        self.assertEqual(told(10**8, 10**9), ["7 d", "1 d"])
        self.assertEqual(told(0.0005, 10**9), ["7 d", "6 h", "10 min", "10 s", "0.1 s", "1 ms"])

    def test_nothing_was_delivered(self) -> None:
        plot = charts.spans([None, None])
        self.assertEqual(plot.paths, {"span": "", "median": ""})
        self.assertEqual([told for _, told in plot.lines], ["10 ms"])


class ChartTests(ChartsTestCase):
    def chart(self, known: str, **ticks: str) -> ET.Element:
        axis = Axis(
            [each == "x" for each in known],
            1_800_000_000,
            60,
            {int(at[1:]): told for at, told in ticks.items()},
        )
        plot = charts.bars({"one": [1] * len(known)}, 1, "1")
        told = [f"no. {number}: <b>" for number in range(len(known))]
        return self.parse(charts.chart("some", plot, axis, told))

    def canvas(self, chart: ET.Element) -> ET.Element:
        (found,) = (each for each in chart.iter("div") if each.get("role") == "slider")
        return found

    def test_it_can_be_walked_through(self) -> None:
        canvas = self.canvas(self.chart("xxx"))
        told = [canvas.get(f"aria-value{name}") for name in ("min", "max", "now", "text")]
        self.assertEqual(told, ["0", "2", "2", "no. 2: <b>"])
        self.assertEqual((canvas.get("tabindex"), canvas.get("id")), ("0", "some-canvas"))
        self.assertEqual(canvas.get("aria-labelledby"), "some-title")
        words = json.loads(canvas.get("data-told") or "")
        self.assertEqual(words, ["no. 0: <b>", "no. 1: <b>", "no. 2: <b>"])
        self.assertEqual(canvas.get("data-first"), "1800000000")
        self.assertEqual(canvas.get("data-seconds"), "60")

    def test_what_is_not_known_is_hatched(self) -> None:
        def hatched(known: str) -> list[tuple[str | None, str | None]]:
            rects = self.chart(known).iter("rect")
            return [(r.get("x"), r.get("width")) for r in rects if r.get("class") == "unknown"]

        self.assertEqual(hatched("xx"), [])
        self.assertEqual(hatched("--x-"), [("0.00%", "50.00%"), ("75.00%", "25.00%")])

    def test_times_and_scale(self) -> None:
        svgs = [*self.chart("x" * 10, _2="12:15", _5="12:30", _9="12:45").iter("svg")]
        told = [[(t.text, t.get("x")) for t in svg.iter("text")] for svg in svgs]
        self.assertEqual(told[0], [("1", "100%"), ("0", "100%")])
        self.assertEqual(told[-1], [("12:15", "20.00%"), ("12:30", "50.00%")])  # no room for more
        self.assertTrue(all(svg.get("aria-hidden") for svg in (svgs[0], svgs[1], svgs[-1])))
