"""The history as it is read: of all who counted, and what is not in the journal yet."""

from typing import Any, cast

from twisted.internet.defer import Deferred

from chatgpt_source.admin.archive import AGAIN, ANEW, PAGE, Archive
from chatgpt_source.admin.history import WRITE_EVERY
from chatgpt_source.admin.ranges import LATEST, RANGES, Past, Range
from chatgpt_source.journal.period import HOUR, MINUTE, Period
from tests.admin.test_history import START, HistoryTestCase
from tests.admin.test_ranges import BERLIN


class ArchiveTestCase(HistoryTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.archive = Archive(cast(Any, self.clock), cast(Any, self.journal), self.history, BERLIN)

    def past(self, wanted: Range = LATEST) -> Past:
        return self.successResultOf(Deferred.fromCoroutine(self.archive.past(wanted)))

    def seen(self, wanted: Range = LATEST) -> dict[int, int]:
        """What was accepted in the columns of which something is known."""
        return {
            each.start - START: each.period.accepted
            for each in self.past(wanted).columns
            if each.period is not None
        }

    def other(self, *accepted: int, step: int = MINUTE, before: int = 0) -> None:
        """What another one has counted in its last periods."""
        last = int(self.clock.wall()) // step * step - before * step
        for number, count in enumerate(reversed(accepted)):
            start = last - number * step
            self.journal.put(Period(step, start, accepted=count, owner=start))


class ReadTests(ArchiveTestCase):
    def test_what_is_counted_is_seen_at_once(self) -> None:
        self.assertEqual(self.seen(), {0: 0})
        self.accept()
        self.assertEqual(self.seen(), {0: 1})
        for each in RANGES.values():
            self.assertEqual(sum(self.seen(each).values()), 1, each.name)

    def test_how_many_wait_now(self) -> None:
        for number in (8, 3):
            self.counting.backlog = number
            last = self.past().columns[-1].period
            assert last is not None
            self.assertEqual(last.backlog, number)

    def test_it_is_counted_once_whatever_is_written_already(self) -> None:
        for number in range(200):
            self.accept()
            self.assertEqual(sum(self.seen().values()), number + 1)
            self.pass_time(3)
        self.assertEqual(sum(self.seen(RANGES["24h"]).values()), 200)
        self.assertEqual(sum(self.seen(RANGES["7d"]).values()), 200)
        self.assertEqual(self.seen()[0], 10)

    def test_of_a_run_before_this_one(self) -> None:
        self.other(4, 5, before=1)
        self.assertEqual(self.seen(), {-120: 4, -60: 5, 0: 0})
        self.accept()
        self.other(3)  # a run that has ended in this minute
        self.pass_time(AGAIN)
        self.assertEqual(self.seen(), {-120: 4, -60: 5, 0: 4})

    def test_of_replicas(self) -> None:
        self.assertEqual(self.seen(), {0: 0})
        self.other(2)
        self.accept()
        self.pass_time(AGAIN)
        self.assertEqual(self.seen(), {0: 3})
        self.other(7)
        self.pass_time(AGAIN)
        self.assertEqual(self.seen(), {0: 8})
        self.pass_time(60)
        self.accept()
        self.other(7, 2)
        self.pass_time(AGAIN)
        self.assertEqual(self.seen(), {0: 8, 60: 3})
        self.assertEqual([*self.seen(RANGES["24h"]).values()], [11])

    def test_of_one_that_could_not_write_for_a_while(self) -> None:
        self.seen()
        self.pass_time(1800)
        self.seen()
        self.other(9, before=25)
        self.pass_time(AGAIN)
        self.assertEqual(sum(self.seen().values()), 0)
        self.pass_time(ANEW)
        self.assertEqual(sum(self.seen().values()), 9)

    def test_not_more_often_than_it_has_to_be(self) -> None:
        self.seen()
        day = len(self.journal.reads)
        self.assertEqual(day, 13)
        self.assertTrue(
            all(until - since <= (PAGE + 2) * 60 for since, until in self.journal.reads)
        )
        for _ in range(30):
            self.accept()
            self.seen()
            self.seen(RANGES["24h"])
            self.pass_time(1)
        again = self.journal.reads[day:]
        self.assertEqual(len(again), 2)
        self.assertTrue(all(until - since <= 600 for since, until in again))

    def test_nobody_looks(self) -> None:
        self.pass_time(600)
        self.assertEqual(self.journal.reads, [])
        self.assertEqual(self.archive._known[MINUTE].merged, {})

    def test_a_column_that_is_over_is_added_up_once(self) -> None:
        self.other(*range(120), before=1)
        self.past(RANGES["24h"])
        columns = self.past(RANGES["24h"]).columns
        self.pass_time(1)
        again = self.past(RANGES["24h"]).columns
        same = [one is other for one, other in zip(columns, again, strict=True)]
        self.assertEqual(same, [True] * 95 + [False])

    def test_hours(self) -> None:
        self.other(*range(1, 101), step=HOUR, before=1)
        month, week = self.past(RANGES["30d"]), self.past(RANGES["7d"])
        self.assertEqual((month.period.accepted, week.period.accepted), (5050, 5050))
        self.assertEqual(sum(each.period is not None for each in week.columns), 51)

    def test_what_is_too_old_is_forgotten(self) -> None:
        for _ in range(27):
            self.seen()
            self.accept()
            self.pass_time(3600)
            self.past(RANGES["24h"])
        self.assertLess(len(self.archive._known[MINUTE].merged), 1510)
        self.assertEqual(
            {*self.archive._columns["24h"]} - {*RANGES["24h"].starts(self.clock.wall(), BERLIN)},
            set(),
        )


class TroubleTests(ArchiveTestCase):
    def test_a_journal_that_can_not_be_read(self) -> None:
        self.other(4, before=1)
        self.assertEqual(self.seen(), {-60: 4, 0: 0})
        self.journal.fault = True
        for _ in range(3):
            self.pass_time(AGAIN)
            self.accept()
            self.assertEqual(self.seen()[-60], 4)
        self.assertEqual(sum(self.seen().values()), 7)

    def test_one_that_was_never_read(self) -> None:
        self.journal.fault = True
        self.accept()
        self.assertEqual(self.seen(), {0: 1})

    def test_a_minute_that_is_written_while_it_is_read(self) -> None:
        self.seen()
        self.accept()
        self.pass_time(AGAIN)
        self.journal.hold = hold = Deferred()
        reading = Deferred.fromCoroutine(self.archive.past(LATEST))
        self.assertNoResult(reading)
        self.pass_time(60)  # the minute is over, and what was read leaves it out
        hold.callback(None)
        last = self.successResultOf(reading).columns[-2:]
        self.assertEqual([each.period and each.period.accepted for each in last], [1, 0])
        self.assertEqual(self.seen(), {0: 1, 60: 0})
        self.pass_time(AGAIN)
        self.assertEqual(self.seen(), {0: 1, 60: 0})

    def test_two_who_look_at_once_read_it_once(self) -> None:
        self.journal.hold = hold = Deferred()
        both = [Deferred.fromCoroutine(self.archive.past(LATEST)) for _ in range(2)]
        hold.callback(None)
        for each in both:
            self.successResultOf(each)
        self.assertEqual(len(self.journal.reads), 13)

    def test_a_clock_that_is_set(self) -> None:
        self.accept()
        self.pass_time(WRITE_EVERY)
        self.seen()
        self.clock.step(86400 * 2)
        self.accept()
        self.assertEqual(self.seen(), {86400 * 2: 1})
        self.pass_time(WRITE_EVERY)
        self.clock.step(-86400 * 2)
        self.accept()
        self.pass_time(AGAIN + WRITE_EVERY)
        self.assertEqual(self.seen(), {0: 2})
