"""What the journal makes of a wall clock that is set: dates follow it, what waits does not."""

from typing import Any

from chatgpt_source.prompt import State
from tests.clocks import Clocks
from tests.journal.common import ANSWER, NOON, JournalTestCase, prompt

HOUR = 3600.0


class SteadyTests(JournalTestCase):
    def postpone(self, name: str, until: float) -> None:
        self.successResultOf(self.journal.postpone(name, until, "why", held=self.clock.seconds()))

    def letters(self) -> Any:
        return self.successResultOf(self.journal.claim_letters(self.clock.seconds(), 10))

    def fail(self, name: str = "p1", letter: bytes | None = None) -> None:
        now = self.clock.seconds()
        done = self.journal.failed(name, now, "why", give_back=False, letter=letter)
        self.successResultOf(done)

    def restart(self, seconds: float) -> None:
        """Start anew, the wall clock set by so much: the steady one begins with its time."""
        began = self.clock.wall() + seconds
        self.clock = Clocks()
        self.clock.advance(began)
        self.crash()

    def test_dates_are_the_wall_clocks(self) -> None:
        self.clock.step(-HOUR)
        self.accept(prompt("p1", accepted=self.clock.wall()), prompt("p2"))
        self.asks()
        self.answer(claim=True)
        self.clock.advance(1)
        self.successResultOf(self.journal.delivered("p1"))
        record = self.record()
        self.assertEqual(
            (record.accepted, record.answered, record.delivered),
            (NOON - HOUR, NOON - HOUR, NOON - HOUR + 1),
        )
        self.fail("p2")
        self.successResultOf(self.journal.prune(NOON - HOUR + 0.5))
        self.assertIsNotNone(self.record("p2"))
        self.successResultOf(self.journal.prune(NOON - HOUR + 1.5))
        self.assertIsNone(self.record("p2"))

    def test_what_waits_is_due_by_the_steady_clock(self) -> None:
        self.clock.step(-HOUR)
        self.accept(prompt("p1", accepted=self.clock.wall()))
        (ask,) = self.asks().claimed
        self.assertEqual((ask.since, ask.prompt.accepted), (NOON, NOON - HOUR))
        self.clock.step(2 * HOUR)
        self.accept(prompt("p2", accepted=self.clock.wall()))
        self.assertEqual(len(self.asks().claimed), 1)
        self.answer("p1")
        self.assertEqual(self.deliveries().claimed[0].since, NOON)

    def test_after_a_restart_nothing_waits_longer_than_it_can(self) -> None:
        self.accept(*(prompt(f"p{n}") for n in range(5)))
        self.asks(2)
        self.postpone("p0", NOON + 10)
        self.postpone("p1", NOON + HOUR)
        self.clock.advance(20)
        self.asks(2)  # p2 and p0 are under way when it ends
        self.restart(-2 * HOUR)
        claimed = self.asks().claimed
        self.assertEqual({ask.prompt.id for ask in claimed}, {f"p{n}" for n in range(5)})
        began = self.clock.seconds()
        self.assertEqual({ask.since for ask in claimed}, {began})
        self.assertTrue(all(ask.held is None or ask.held <= began for ask in claimed))

    def test_after_a_restart_a_peer_that_asked_for_time_gets_it(self) -> None:
        self.accept(prompt())
        self.asks()
        self.postpone("p1", NOON + HOUR)
        for seconds in (0.0, 10.0):
            self.restart(seconds)
            claims = self.asks()
            self.assertEqual((claims.claimed, claims.next_due), ([], NOON + HOUR))

    def test_after_a_restart_letters_too(self) -> None:
        self.accept(prompt("p1"), prompt("p2"))
        self.asks()
        for name in ("p1", "p2"):
            self.fail(name, b"a letter")
        self.letters()
        self.successResultOf(self.journal.letter_ended("p1", NOON, NOON + HOUR))
        self.restart(-2 * HOUR)
        claimed = self.letters().claimed
        self.assertEqual({letter.id for letter in claimed}, {"p1", "p2"})
        self.assertEqual({letter.since for letter in claimed}, {self.clock.seconds()})

    def test_a_letters_time_runs_from_the_failure(self) -> None:
        self.accept(prompt())
        self.asks()
        self.clock.advance(50)
        self.clock.step(-HOUR)
        self.fail(letter=b"a letter")
        (letter,) = self.letters().claimed
        self.assertEqual(letter.since, NOON + 50)
        until = NOON + 60
        self.successResultOf(self.journal.letter_ended("p1", letter.since, until))
        self.assertEqual(self.letters().next_due, until)

    def test_a_redrive_is_due_whatever_its_clock_says(self) -> None:
        """It may be the command's, which goes by the wall clock."""
        self.journal.recover(100, "UTC")
        self.accept(prompt())
        self.asks()
        self.fail()
        steady = self.clock
        for step in (-2 * HOUR, 2 * HOUR):
            self.journal._clock = ahead = Clocks()
            ahead.advance(steady.seconds() + step)
            self.assertEqual(self.successResultOf(self.journal.redrive("p1")), State.ACCEPTED)
            self.journal._clock = self.clock = steady
            self.clock.advance(7)
            (ask,) = self.asks().claimed
            self.assertEqual((ask.attempt, ask.since), (1, self.clock.seconds()))
            self.postpone("p1", self.clock.seconds())
            self.clock.advance(7)
            self.assertEqual(self.asks().claimed[0].since, ask.since)
            self.fail()

    def test_of_a_redrive_a_drain_makes_no_first_attempt(self) -> None:
        self.accept(prompt())
        self.asks()
        self.answer(claim=True)
        self.fail()
        self.successResultOf(self.journal.redrive("p1"))
        self.assertEqual(self.deliveries(untried_since=self.clock.seconds()).claimed, [])
        self.assertEqual(len(self.deliveries().claimed), 1)

    def test_an_answer_is_of_the_date_it_came_on(self) -> None:
        self.accept(prompt())
        self.asks()
        self.clock.step(5)
        now = self.clock.seconds()
        done = self.journal.answered("p1", ANSWER, b"the event", now, claim=False)
        self.successResultOf(done)
        self.assertEqual(self.record().answered, NOON + 5)
