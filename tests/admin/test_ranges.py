"""The ranges: their columns, and what is told of them."""

from datetime import datetime
from zoneinfo import ZoneInfo

from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.admin.ranges import LATEST, RANGES, Column, Past, Range, merged, total
from chatgpt_source.journal.period import HOUR, MINUTE, Period
from tests.journal.common import NOON

BERLIN, KOLKATA = ZoneInfo("Europe/Berlin"), ZoneInfo("Asia/Kolkata")
DAYS = {"1h": 1 / 24, "24h": 1, "7d": 7, "30d": 30}


def past_of(wanted: Range, *periods: Period, now: float = NOON, zone: ZoneInfo = BERLIN) -> Past:
    """A range in which some things happened."""
    columns = []
    for start in wanted.starts(now, zone):
        inside = [each for each in periods if start <= each.start < start + wanted.column]
        columns.append(Column(start, wanted.column, total(inside)))
    return Past(wanted, zone, now, columns)


class RangeTests(SynchronousTestCase):
    def test_each_is_as_long_as_its_name_and_ends_now(self) -> None:
        for name, each in RANGES.items():
            starts = each.starts(NOON + 7, BERLIN)
            self.assertEqual(len(starts) * each.column, DAYS[name] * 86400)
            self.assertLessEqual(starts[-1], NOON + 7)
            self.assertGreater(starts[-1] + each.column, NOON + 7)
            self.assertEqual(each.column % each.step, 0)
            self.assertEqual(each.columns % each.row, 0)
            self.assertTrue(all(start % each.step == 0 for start in starts))

    def test_columns_begin_with_the_days_of_the_zone(self) -> None:
        for start in RANGES["30d"].starts(NOON, BERLIN):
            self.assertEqual(datetime.fromtimestamp(start, BERLIN).hour % 6, 0)
        for start in RANGES["7d"].starts(NOON, KOLKATA):  # whose hours begin at half past
            local = datetime.fromtimestamp(start, KOLKATA)
            self.assertEqual((local.hour % 2, local.minute), (0, 30))


class PastTests(SynchronousTestCase):
    def test_what_nobody_knows_is_not_zero(self) -> None:
        past = past_of(LATEST, Period(MINUTE, int(NOON) - 60), Period(MINUTE, int(NOON)))
        known = [each.period is not None for each in past.columns]
        self.assertEqual(known, [False] * 58 + [True, True])
        told = [each.to_dict()["accepted"] for each in past.columns]
        self.assertEqual(told, [None] * 58 + [0, 0])
        self.assertIsNone(past_of(LATEST).total.period)
        self.assertEqual(past_of(LATEST).period.accepted, 0)

    def test_totals_and_rows(self) -> None:
        start = int(NOON) - 59 * 60
        past = past_of(LATEST, *(Period(MINUTE, start + n * 60, accepted=n) for n in range(60)))
        self.assertEqual(past.period.accepted, 1770)
        self.assertEqual([row.period.accepted for row in past.rows if row.period][:2], [10, 35])
        self.assertEqual(len(past.rows), 12)

    def test_labels_in_the_zone(self) -> None:
        self.assertEqual(past_of(LATEST).labels[-1], "13:00")
        self.assertEqual(past_of(RANGES["24h"]).labels[0], "13:15")
        self.assertEqual(past_of(RANGES["7d"]).labels[-1], "Fri 15 Jan, 12:00")

    def test_ticks(self) -> None:
        self.assertEqual(
            past_of(LATEST).ticks, {14: "12:15", 29: "12:30", 44: "12:45", 59: "13:00"}
        )
        told = [*past_of(RANGES["24h"]).ticks.values()]
        self.assertEqual(told, ["18:00", "00:00", "06:00", "12:00"])
        week = past_of(RANGES["7d"])
        self.assertEqual([*week.ticks.values()], ["Sat", "Sun", "Mon", "Tue", "Wed", "Thu", "Fri"])
        self.assertEqual({week.times[at].hour for at in week.ticks}, {0})
        self.assertEqual(len(past_of(RANGES["30d"]).ticks), 6)

    def test_ticks_where_clocks_change(self) -> None:
        summer = datetime(2027, 3, 31, 12, tzinfo=BERLIN).timestamp()
        told = past_of(RANGES["7d"], now=summer).ticks
        self.assertEqual([*told.values()], ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"])

    def test_for_json(self) -> None:
        period = Period(HOUR, int(NOON) - 3600, accepted=3, backlog=2, used=9)
        period.refused["quota"] = 2
        period.latencies.add(1)
        told = past_of(RANGES["7d"], period).to_dict()
        self.assertEqual((told["range"], told["timezone"]), ("7d", "Europe/Berlin"))
        self.assertEqual(told["to"], "2027-01-15T13:00:00Z")
        last = told["columns"][-1]
        self.assertEqual((last["start"], last["seconds"]), ("2027-01-15T11:00:00Z", 7200))
        self.assertEqual((last["accepted"], last["failed"]), (3, 0))
        self.assertEqual((last["refused"], last["backlog"], last["used"]), ({"quota": 2}, 2, 9))
        self.assertLess(abs(last["latency"]["median"] - 1), 0.05)
        self.assertIsNone(told["columns"][0]["refused"])

    def test_merged(self) -> None:
        one = Column(0, 60, Period(MINUTE, 0, accepted=1))
        both = merged([one, Column(60, 60)])
        assert both.period is not None
        self.assertEqual((both.start, both.seconds, both.period.accepted), (0, 120, 1))
        self.assertIsNot(both.period, one.period)
