"""What `Journal` promises of the history, as tests that every engine passes."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from chatgpt_source.journal.period import HOUR, MINUTE, Latencies, Period
from tests.contracts.driver import NOON
from tests.contracts.journal import Contract

START = int(NOON)
WHOLE = Period(
    MINUTE,
    START,
    7,
    accepted=1,
    delivered=2,
    failed=3,
    cancelled=4,
    redriven=5,
    repeated=6,
    cheap=7,
    unpriced=8,
    input_tokens=10**12,
    output_tokens=9,
    cost=0.25,
    refused=Counter(quota=2),
    latencies=Latencies({3: 4}),
    backlog=0,
    used=11,
    sampled=NOON + 2.5,
)


class HistoryContract(Contract):
    def keep_history(self, *periods: Period) -> None:
        self.successResultOf(self.journal.keep_history(periods))

    def read(self, step: int = MINUTE, **how: Any) -> Sequence[Period]:
        since, until = how.pop("since", 0), how.pop("until", 2**40)
        return self.successResultOf(self.journal.history(step, since, until, **how))

    def accepted(self, step: int = MINUTE, **how: Any) -> dict[int, int]:
        return {each.start - START: each.accepted for each in self.read(step, **how)}

    def test_all_of_it_survives_a_crash(self) -> None:
        self.keep_history(WHOLE)
        self.restart()
        self.assertEqual(self.read(), [WHOLE])

    def test_a_later_state_takes_the_place_of_the_one_before(self) -> None:
        self.keep_history(Period(MINUTE, START, 7, accepted=1), Period(HOUR, START, 7, failed=1))
        self.keep_history(Period(MINUTE, START, 7, accepted=3))
        self.assertEqual(self.accepted(), {0: 3})
        self.assertEqual([each.failed for each in self.read(HOUR)], [1])

    def test_of_several_owners_the_sum(self) -> None:
        self.keep_history(WHOLE)
        other = Period(MINUTE, START, 8, accepted=5, refused=Counter(quota=1, invalid=1), backlog=9)
        other.latencies.update({3: 1, 5: 1})
        self.keep_history(other, Period(MINUTE, START, -7, cost=0.5))  # as a copy has it
        (found,) = self.read()
        self.assertEqual((found.accepted, found.cost, found.failed), (6, 0.75, 3))
        self.assertEqual(found.refused, {"quota": 3, "invalid": 1})
        self.assertEqual(found.latencies, {3: 5, 5: 1})
        self.assertEqual((found.backlog, found.used), (9, 11))
        self.assertEqual(self.accepted(besides=[8]), {0: 1})
        self.assertEqual(self.accepted(besides=[7, 8, -7]), {})

    def test_a_stretch_of_time_in_order(self) -> None:
        minutes = [Period(MINUTE, START + n * 60, accepted=n) for n in (4, 0, 3, 1, 2)]
        self.keep_history(*minutes)
        self.assertEqual([*self.accepted()], [0, 60, 120, 180, 240])
        found = self.accepted(since=START + 60, until=START + 180)
        self.assertEqual(found, {60: 1, 120: 2})

    def test_old_ones_are_deleted_in_their_time(self) -> None:
        self.keep_history(
            *(Period(MINUTE, START - n * 3600) for n in range(30)),
            *(Period(HOUR, START - n * 86400) for n in range(40)),
            Period(MINUTE, START + 10**8),  # of a clock that was ahead
        )
        self.successResultOf(self.journal.prune_history(0))
        self.assertEqual((len(self.read()), len(self.read(HOUR))), (31, 40))
        self.successResultOf(self.journal.prune_history(NOON))
        self.assertEqual((len(self.read()), len(self.read(HOUR))), (27, 32))
        self.assertEqual(self.read()[0].start, START - 25 * 3600)

    def test_prompts_are_not_disturbed(self) -> None:
        self.keep_history(WHOLE)
        self.successResultOf(self.journal.prune_history(NOON))
        self.assertEqual(self.read(HOUR), [])
