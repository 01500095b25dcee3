"""A minute, and the histogram of its latencies."""

import json
from collections import Counter

import attrs
from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.journal.period import HOUR, MINUTE, SAMPLES, SUMS, Latencies, Merging, Period


def assert_near(case: SynchronousTestCase, seconds: float | None, wanted: float) -> None:
    case.assertLess(abs((seconds or 0) / wanted - 1), 0.045)


class LatenciesTests(SynchronousTestCase):
    def test_none(self) -> None:
        self.assertIsNone(Latencies().quantile(0.5))

    def test_within_four_percent(self) -> None:
        for seconds in (0.0013, 0.02, 0.5, 1.0, 7.7, 86400.0):
            latencies = Latencies()
            latencies.add(seconds)
            for share in (0.0, 0.5, 0.95, 1.0):
                assert_near(self, latencies.quantile(share), seconds)

    def test_median_and_percentile(self) -> None:
        latencies = Latencies()
        for number in range(1, 101):
            latencies.add(number)
        assert_near(self, latencies.quantile(0.5), 50)
        assert_near(self, latencies.quantile(0.95), 95)

    def test_bounded_whatever_comes(self) -> None:
        latencies = Latencies()
        for exponent in range(-400, 300):
            latencies.add(10.0**exponent)
        latencies.add(-5.0)  # a clock that was put back
        self.assertLessEqual(len(latencies), 300)


class PeriodTests(SynchronousTestCase):
    def test_every_member_is_a_sum_or_a_sample(self) -> None:
        names = {each.name for each in attrs.fields(Period)}
        others = {"step", "start", "owner", "refused", "latencies", "sampled"}
        self.assertEqual(names, {*SUMS, *SAMPLES, *others})

    def test_sums(self) -> None:
        one = Period(MINUTE, 60, accepted=1, failed=3, cost=0.5, refused=Counter(quota=1))
        two = Period(MINUTE, 120, accepted=4, delivered=5, cost=0.25, refused=Counter(quota=2))
        one.latencies.add(1)
        two.latencies.add(100)
        one.add(two)
        self.assertEqual((one.accepted, one.delivered, one.failed, one.cost), (5, 5, 3, 0.75))
        self.assertEqual((one.start, one.refused), (60, {"quota": 3}))
        assert_near(self, one.latencies.quantile(1), 100)
        assert_near(self, two.latencies.quantile(0), 100)

    def test_of_samples_the_latest(self) -> None:
        one = Period(MINUTE, 60, backlog=9, used=3)
        one.add(Period(MINUTE, 120, backlog=2))
        self.assertEqual((one.backlog, one.used), (2, 3))

    def test_of_samples_of_one_time_the_larger(self) -> None:
        one = Period(MINUTE, 60, backlog=2)
        one.add(Period(MINUTE, 60, backlog=9, used=1))
        one.add(Period(MINUTE, 60, backlog=3))
        self.assertEqual((one.backlog, one.used), (9, 1))

    def test_of_samples_of_one_time_the_one_that_was_taken_later(self) -> None:
        """A daemon that was killed had a backlog, and its successor has none any more."""
        killed = Period(HOUR, 3600, backlog=5000, used=6000, sampled=3700.0)
        now = Period(HOUR, 3600, backlog=0, used=6000, sampled=3750.5)
        for first, second in ((killed, now), (now, killed)):
            one = Period(HOUR, 3600)
            for each in (first, second):
                one.add(each)
            self.assertEqual((one.backlog, one.used, one.sampled), (0, 6000, 3750.5))

    def test_an_empty_one_takes_no_room(self) -> None:
        self.assertEqual(Period(MINUTE, 60).to_json(), "{}")
        self.assertEqual(json.loads(Period(MINUTE, 60, backlog=0).to_json()), {"backlog": 0})

    def test_what_another_release_knows_besides_is_left_out(self) -> None:
        found = Period.from_json(MINUTE, 60, 1, '{"accepted":2,"new":{"a":1}}')
        self.assertEqual(found, Period(MINUTE, 60, accepted=2))

    def test_none_has_the_owner_of_another(self) -> None:
        owners = {Period(MINUTE, 60).owner for _ in range(1000)}
        self.assertEqual(len(owners), 1000)
        self.assertTrue(all(0 < owner < 2**63 for owner in owners))

    def test_rows_of_one_time_are_added_up(self) -> None:
        merging = Merging(MINUTE)
        for owner, text in enumerate(('{"accepted":1}', '{"accepted":2,"backlog":4}')):
            merging.add(60, owner, text)
        self.assertEqual(merging.merged, {60: Period(MINUTE, 60, accepted=3, backlog=4)})
