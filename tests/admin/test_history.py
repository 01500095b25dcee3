"""What is counted, and how it gets into the journal."""

from typing import Any, cast

import attrs
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.admin.costs import Costs
from chatgpt_source.admin.history import MOST_AT_ONCE, MOST_UNWRITTEN, WRITE_EVERY, History
from chatgpt_source.config import Price
from chatgpt_source.journal.period import HOUR, MINUTE, Period
from chatgpt_source.prompt import Answer, State
from chatgpt_source.telemetry.observer import RefusalReason
from tests.clocks import Clocks
from tests.door import CONFIG
from tests.fakes.history import Counting, HistoryJournal
from tests.journal.test_period import assert_near
from tests.telemetry.outcomes import ended, tell

START = 1_800_000_000  # an hour's, and so a minute's


class HistoryTestCase(SynchronousTestCase):
    prices: Any = ()

    def setUp(self) -> None:
        self.clock = Clocks()
        self.clock.advance(START + 30)
        self.journal, self.counting = HistoryJournal(), Counting()
        self.history = self.make()

    def make(self) -> History:
        config = attrs.evolve(CONFIG, model="luna", prices=dict(self.prices))
        history = History(
            cast(Any, self.clock), cast(Any, self.journal), cast(Any, self.counting), Costs(config)
        )
        history.start()
        self.addCleanup(history.stop)
        return history

    def accept(self) -> None:
        self.history.accepted(prompt_id="p", size=1, seconds=0.0)

    def end(self, state: State, after: float = 0.0, **more: Any) -> None:
        now = self.clock.seconds()
        tell(self.history, ended(state, accepted=now - after, date=now, **more))

    def answer(self, answer: Answer, **more: Any) -> None:
        self.history.asked(cast(Any, ended(State.ANSWERED, answer=answer, **more)))

    def pass_time(self, seconds: float) -> None:
        self.clock.pump([1.0] * int(seconds))

    def kept(self, step: int = MINUTE) -> list[Period]:
        """What the journal has."""
        return list(self.successResultOf(self.journal.history(step, 0, 2**40)))

    def accepted(self, step: int = MINUTE) -> dict[int, int]:
        return {each.start - START: each.accepted for each in self.kept(step)}


class CountTests(HistoryTestCase):
    @property
    def minute(self) -> Period:
        return self.history.open(MINUTE)[-1]

    def test_what_happens(self) -> None:
        self.accept()
        self.end(State.ANSWERED)
        self.end(State.DELIVERED, 2)
        self.end(State.FAILED, 3)
        self.history.cancelled(prompt_id="p")
        self.history.redriven(prompt_id="p", state=State.ACCEPTED)
        self.history.repeated()
        self.history.refused(reason=RefusalReason.QUOTA)
        self.history.refused(reason=RefusalReason.QUOTA)
        minute = self.minute
        told = (minute.accepted, minute.delivered, minute.failed, minute.cancelled)
        self.assertEqual(told, (1, 1, 1, 1))
        self.assertEqual((minute.redriven, minute.repeated, minute.refused), (1, 1, {"quota": 2}))
        self.assertEqual((minute.start, minute.latencies.total()), (START, 1))
        assert_near(self, minute.latencies.quantile(1), 2)

    def test_answers_at_half_the_price(self) -> None:
        for tier in ("flex", "default", "batch", None):
            self.answer(Answer("x", service_tier=tier))
        self.assertEqual(self.minute.cheap, 2)

    def test_tokens_by_the_names_of_either_api(self) -> None:
        self.answer(Answer("x", usage={"prompt_tokens": 3, "completion_tokens": 4}))
        self.answer(Answer("x", usage={"input_tokens": 10, "output_tokens": 20}))
        self.answer(Answer("x", usage={"input_tokens": "10", "output_tokens": -1}))
        self.assertEqual((self.minute.input_tokens, self.minute.output_tokens), (13, 24))
        self.assertEqual((self.minute.cost, self.minute.unpriced), (0, 0))


class CostTests(HistoryTestCase):
    prices: Any = (("luna", Price(1.0, 10.0)),)

    def test_what_answers_cost(self) -> None:
        usage = {"prompt_tokens": 1_000_000, "completion_tokens": 100_000}
        self.answer(Answer("x", "luna-2026-03-01", usage=usage))
        self.answer(Answer("x", "luna", usage=usage, service_tier="flex"))
        minute = self.history.open(MINUTE)[-1]
        self.assertEqual((minute.cost, minute.unpriced), (3.0, 0))

    def test_answers_without_a_price_are_counted(self) -> None:
        self.prices = (("other", Price(1.0, 10.0)),)
        self.history = self.make()
        self.answer(Answer("x", "luna", usage={"prompt_tokens": 10}))
        minute = self.history.open(MINUTE)[-1]
        self.assertEqual((minute.cost, minute.unpriced), (0.0, 1))


class WriteTests(HistoryTestCase):
    def test_what_changed_is_written_soon(self) -> None:
        self.pass_time(WRITE_EVERY)
        self.accept()
        self.pass_time(WRITE_EVERY)
        self.assertEqual((self.accepted(), self.accepted(HOUR)), ({0: 1}, {0: 1}))
        written = len(self.journal.writes)
        self.pass_time(2 * WRITE_EVERY)
        self.assertEqual(len(self.journal.writes), written)
        self.accept()
        self.pass_time(WRITE_EVERY)
        self.assertEqual((self.accepted(), self.accepted(HOUR)), ({0: 2}, {0: 2}))

    def test_minutes_add_up_to_hours(self) -> None:
        for _ in range(90):
            self.accept()
            self.end(State.DELIVERED, 1)
            self.pass_time(60)
        self.assertEqual(self.accepted(HOUR), {0: 60, 3600: 30})
        hours = self.kept(HOUR)
        self.assertEqual([each.latencies.total() for each in hours], [60, 30])
        self.assertEqual({*self.accepted().values()}, {0, 1})

    def test_an_idle_minute_is_known_too(self) -> None:
        self.pass_time(300)
        self.assertEqual([*self.accepted()], [0, 60, 120, 180, 240, 300])
        self.assertLess(len(self.journal.writes), 10)

    def test_samples(self) -> None:
        self.counting.backlog = 5
        self.accept()
        self.pass_time(WRITE_EVERY)
        (minute,), (hour,) = self.kept(), self.kept(HOUR)
        self.assertEqual((minute.backlog, minute.used), (5, 7))
        self.assertEqual((hour.backlog, hour.used), (5, 7))
        self.assertEqual(minute.sampled, START + 30 + WRITE_EVERY)

    def test_the_backlog_of_a_daemon_that_was_killed(self) -> None:
        for backlog in (5, 1):
            self.counting.backlog = backlog
            self.history = self.make()
            self.accept()
            self.pass_time(WRITE_EVERY)
            self.history.stop()
        for step in (MINUTE, HOUR):
            self.assertEqual(self.kept(step)[-1].backlog, 1)

    def test_no_samples_of_what_can_not_be_read(self) -> None:
        self.counting.trouble = "the disk is broken"
        self.history = self.make()
        self.accept()
        self.pass_time(2 * WRITE_EVERY)
        self.assertEqual(self.history.open(MINUTE)[-1].backlog, None)

    def test_at_a_stop(self) -> None:
        self.pass_time(WRITE_EVERY)
        self.accept()
        self.history.stop()
        self.successResultOf(self.write())
        self.assertEqual(self.accepted(), {0: 1})

    def write(self) -> Any:
        return Deferred.fromCoroutine(self.history.write())

    def test_what_can_not_be_written_is_written_later(self) -> None:
        self.journal.fault = True
        for _ in range(5):
            self.accept()
            self.pass_time(60)
        self.assertEqual(self.journal.rows.keys() & {(MINUTE, START + 60)}, set())
        self.journal.fault = False
        self.pass_time(WRITE_EVERY)
        self.assertEqual(sum(self.accepted().values()), 5)
        self.assertEqual(self.accepted(HOUR), {0: 5})
        self.assertEqual(len(self.history.open(MINUTE)), 1)

    def test_an_outage_takes_bounded_memory_and_bounded_writes(self) -> None:
        self.journal.fault = True
        self.history.stop()
        for _ in range(MOST_UNWRITTEN + 500):
            self.accept()
            self.clock.advance(60)
        self.assertLessEqual(len(self.history._over), MOST_UNWRITTEN)
        self.journal.fault = False
        self.journal.writes.clear()
        self.history.start()
        self.pass_time(60 * WRITE_EVERY)
        self.assertLessEqual(max(self.journal.writes), MOST_AT_ONCE + 2)
        self.assertEqual(len(self.history.open(MINUTE)), 1)
        self.assertGreater(sum(self.accepted().values()), MOST_UNWRITTEN - 100)

    def test_a_run_adds_to_the_one_before(self) -> None:
        self.accept()
        self.pass_time(WRITE_EVERY)
        self.history.stop()
        self.history = self.make()
        self.accept()
        self.pass_time(WRITE_EVERY)
        self.assertEqual((self.accepted(), self.accepted(HOUR)), ({0: 2}, {0: 2}))

    def test_a_clock_that_is_put_back(self) -> None:
        for _ in range(3):
            self.accept()
            self.pass_time(60)
        self.clock.step(-180)
        self.pass_time(5)
        self.accept()
        self.pass_time(60)
        counted = self.accepted()
        self.assertEqual(counted, {0: 2, 60: 1, 120: 1, 180: 0})
        self.assertEqual(self.accepted(HOUR), {0: 4})
        self.clock.step(-86400)
        self.accept()
        self.pass_time(WRITE_EVERY)
        self.assertEqual(sum(self.accepted().values()), 5)
        self.assertEqual(self.accepted(HOUR), {0: 4, -86400: 1})

    def test_a_clock_that_is_put_forward_and_back(self) -> None:
        self.accept()
        self.pass_time(WRITE_EVERY)
        self.clock.step(365 * 86400)
        self.accept()
        self.pass_time(WRITE_EVERY)
        self.clock.step(-365 * 86400)
        self.accept()
        self.pass_time(60)
        self.assertEqual(self.accepted(), {0: 2, 365 * 86400: 1, 60: 0})
        self.assertEqual(self.accepted(HOUR), {0: 2, 365 * 86400: 1})
