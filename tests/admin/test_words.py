"""How the page words instants, durations and counts."""

from zoneinfo import ZoneInfo

from twisted.trial.unittest import SynchronousTestCase
from twisted.web.template import flattenString, tags

from chatgpt_source.admin.words import (
    ago,
    exactly,
    moment,
    money,
    short,
    took,
    when,
    with_code,
)
from tests.journal.common import NOON


class WordsTests(SynchronousTestCase):
    def test_ago(self) -> None:
        self.assertEqual([ago(0.4), ago(12)], ["just now", "12 s ago"])

    def test_took(self) -> None:
        told = {0.0044: "4 ms", 0.42: "0.42 s", 3.14: "3.1 s", 12.3: "12 s", 61: "1 min"}
        self.assertEqual({seconds: took(seconds) for seconds in told}, told)

    def test_moment(self) -> None:
        tag = moment(NOON, ZoneInfo("Europe/Berlin"), "noon")
        html = self.successResultOf(flattenString(None, tag)).decode()
        self.assertIn(' datetime="2027-01-15T13:00:00+01:00"', html)
        self.assertIn(' title="2027-01-15 13:00:00 CET">noon<', html)

    def test_when(self) -> None:
        def told(ahead: float) -> str:
            tag = when(NOON + ahead, NOON, ZoneInfo("Europe/Berlin"))
            html = self.successResultOf(flattenString(None, tag)).decode()
            return html.partition(">")[2].partition("<")[0]

        self.assertEqual(told(-125), "12:57, 2 min ago")
        self.assertEqual(told(0), "13:00, just now")
        self.assertEqual(told(600), "13:10, in 10 min")
        self.assertEqual(told(-86400), "2027-01-14 13:00, 1 d ago")

    def test_exactly(self) -> None:
        tag = exactly(NOON + 0.1239, NOON, ZoneInfo("Europe/Berlin"))
        html = self.successResultOf(flattenString(None, tag)).decode()
        self.assertIn(">13:00:00.123<", html)

    def test_with_code(self) -> None:
        tag = tags.p(*with_code("check `token`, or <b>"))
        html = self.successResultOf(flattenString(None, tag))
        self.assertEqual(html, b"<p>check <code>token</code>, or &lt;b&gt;</p>")

    def test_numbers_of_a_scale(self) -> None:
        for number, told in (
            (0, "0"),
            (950, "950"),
            (9_999, "9,999"),
            (12_345, "12.3 k"),
            (999_499, "999 k"),
            (999_600, "1 M"),
            (63_000_000_000, "63 G"),
            (2e12, "2 T"),
        ):
            self.assertEqual(short(number), told)

    def test_money(self) -> None:
        for dollars, told in (
            (0, "$0"),
            (0.00001, "under $0.0001"),
            (0.0031, "$0.0031"),
            (0.0125, "$0.013"),
            (0.25, "$0.25"),
            (1234.5, "$1,234.50"),
        ):
            self.assertEqual(money(dollars), told)
