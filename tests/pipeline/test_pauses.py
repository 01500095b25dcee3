"""What is paused, and that its work waits."""

from typing import Any
from unittest.mock import Mock

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.logger import capturedLogs, formatEvent

from chatgpt_source.errors import JournalUnavailable, Permanent, Transient
from chatgpt_source.journal import Pause, Recovered
from chatgpt_source.journal.pause import ASKING, INTAKE
from chatgpt_source.journal.sqlite import SqliteJournal, open_beside
from chatgpt_source.pipeline.pauses import LOOK_EVERY, Pauses, in_words
from chatgpt_source.prompt import State
from tests.clocks import Clocks
from tests.journal.common import at_once
from tests.pipeline.test_pipeline import CONFIG, PipelineTestCase

AGAIN = Transient("down", status=503)
NO = Permanent("no", status=400)
WHO = "alice"


class PausesTestCase(PipelineTestCase):
    config = attrs.evolve(CONFIG, dead_letter="http://letters", give_up_after=600.0)

    def pause(self, what: str) -> Any:
        return self.successResultOf(Deferred.fromCoroutine(self.pipeline.pauses.pause(what, WHO)))

    def resume(self, what: str) -> bool:
        return self.successResultOf(Deferred.fromCoroutine(self.pipeline.pauses.resume(what, WHO)))

    def beside(self) -> SqliteJournal:
        """The journal as the command has it."""
        opened = open_beside(self.path)
        self.addCleanup(opened.close)
        return SqliteJournal(opened, self.clock, at_once)

    def told(self, doing: Any) -> list[str]:
        with capturedLogs() as logged:
            doing()
        return [line for line in map(formatEvent, logged) if line and "operator " in line]


class AskingTests(PausesTestCase):
    def test_nothing_is_asked_until_it_is_resumed(self) -> None:
        self.post("p1")
        self.pause(ASKING)
        self.post("p2", "p3")
        self.model.answer()
        self.pass_time(10)
        self.assertEqual((self.model.under_way, len(self.model.calls)), ([], 1))
        self.assertEqual(self.states("p1", "p2", "p3"), ["answered", "accepted", "accepted"])
        self.assertEqual(len(self.target.under_way), 1)  # what was under way goes on
        self.assertTrue(self.resume(ASKING))
        self.assertEqual([each.id for each in self.model.under_way], ["p2", "p3"])
        self.assertFalse(self.resume(ASKING))

    def test_a_pause_holds_before_it_is_on_disk(self) -> None:
        writing: Deferred[Any] = Deferred()
        self.patch(self.journal, "pause", lambda *_: writing)
        pausing = Deferred.fromCoroutine(self.pipeline.pauses.pause(ASKING, WHO))
        self.post("p1")
        self.assertEqual(self.model.calls, [])
        writing.errback(JournalUnavailable("full", retry_after=1))
        self.failureResultOf(pausing, JournalUnavailable)
        self.pass_time(3)
        self.assertEqual(len(self.model.under_way), 1)

    def test_nobody_gives_up_because_of_it(self) -> None:
        self.post("p1", "p2")
        self.model.answer(AGAIN)
        self.pause(ASKING)
        self.clock.advance(700)
        self.model.answer(AGAIN)  # of a call that was under way
        self.pass_time(3)
        self.assertEqual(self.states("p1", "p2"), ["accepted", "accepted"])
        self.resume(ASKING)
        for _ in range(2):
            self.pass_time(61)
            self.assertEqual(len(self.model.under_way), 2)
            self.model.answer(AGAIN)
            self.model.answer(AGAIN)
        self.assertEqual(self.states("p1", "p2"), ["accepted", "accepted"])
        for _ in range(10):
            self.pass_time(61)
            while self.model.under_way:
                self.model.answer(AGAIN)
        self.assertEqual(self.states("p1", "p2"), ["failed", "failed"])
        self.assertIn("after `give_up_after`", self.record("p1").error)

    def test_a_deadline_goes_on(self) -> None:
        self.pause(ASKING)
        self.post("p1", deadline=self.clock.seconds() + 60)
        self.pass_time(63)
        self.assertEqual(self.states("p1"), ["failed"])
        self.assertIn("its deadline passed", self.record("p1").error)


class ReceiverTests(PausesTestCase):
    def test_a_target(self) -> None:
        self.pause("target")
        self.post("p1")
        self.model.answer()
        self.post("p2")
        self.model.answer(NO)
        self.pass_time(10)
        self.assertEqual((self.target.calls, self.states("p1", "p2")), ([], ["answered", "failed"]))
        self.assertEqual(len(self.dead_letters.under_way), 1)  # another receiver
        self.resume("target")
        self.assertEqual(len(self.target.under_way), 1)
        self.target.answer()
        self.assertEqual(self.states("p1"), ["delivered"])

    def test_dead_letters(self) -> None:
        self.pause("dead_letter")
        self.post("p1")
        self.model.answer(NO)
        self.pass_time(10)
        self.assertEqual(self.dead_letters.calls, [])
        self.resume("dead_letter")
        self.assertEqual(len(self.dead_letters.under_way), 1)

    def test_nobody_gives_up_because_of_it(self) -> None:
        self.post("p1")
        self.model.answer()
        self.target.answer(AGAIN)
        self.pause("target")
        self.clock.advance(700)
        self.resume("target")
        self.target.answer(AGAIN)
        self.assertEqual(self.states("p1"), ["answered"])

    def test_a_stop_leaves_its_events_and_ends(self) -> None:
        self.post("p1", "p2")
        self.pause("target")
        self.pause(ASKING)
        stopping = Deferred.fromCoroutine(self.pipeline.drain())
        self.assertNoResult(stopping)
        self.model.answer()
        self.model.answer()
        self.successResultOf(stopping)
        self.assertEqual((self.target.calls, self.states("p1", "p2")), ([], ["answered"] * 2))

    def test_a_stop_with_its_call_under_way(self) -> None:
        self.post("p1")
        self.model.answer()
        self.pause("target")
        stopping = Deferred.fromCoroutine(self.pipeline.drain())
        self.assertNoResult(stopping)
        self.target.answer()
        self.successResultOf(stopping)
        self.assertEqual(self.states("p1"), ["delivered"])


class JournalTests(PausesTestCase):
    """A pause is in the journal: of a restart, of the command, of other daemons."""

    def test_the_first_claim_after_a_start_respects_it(self) -> None:
        self.post("p1")
        self.pause(ASKING)
        self.pipeline.end()
        self.crash()
        recovered = self.recovered
        self.assertEqual(list(recovered.pauses), [ASKING])
        with capturedLogs() as logged:
            self.begin(recovered)
        self.assertIn("asking is paused by alice", map(formatEvent, logged))
        self.pass_time(5)
        self.assertEqual(len(self.model.calls), 1)
        self.resume(ASKING)
        self.assertEqual(len(self.model.under_way), 1)

    def test_each_in_words(self) -> None:
        for what, words in (
            (INTAKE, "the intake"),
            (ASKING, "asking"),
            ("target", "delivery to the target"),
            ("target.billing", "delivery to the target `billing`"),
            ("dead_letter", "delivery to the dead letter's receiver"),
        ):
            self.assertEqual(in_words(what), words)

    def test_the_command_is_heard_within_a_second(self) -> None:
        beside = self.beside()
        self.successResultOf(beside.pause(ASKING, "root (chatgpt-source-journal)"))
        told = self.told(lambda: self.clock.advance(LOOK_EVERY))
        self.assertEqual(told, ["operator root (chatgpt-source-journal) paused asking"])
        self.assertEqual(self.told(lambda: self.pass_time(5)), [])
        self.post("p1")
        self.assertEqual(self.model.calls, [])
        (pause,) = self.pipeline.pauses.current
        self.assertEqual((pause.what, pause.who), (ASKING, "root (chatgpt-source-journal)"))
        self.successResultOf(beside.resume(ASKING, "bob (chatgpt-source-journal)"))
        told = self.told(lambda: self.clock.advance(LOOK_EVERY))
        self.assertEqual(told, ["operator bob (chatgpt-source-journal) resumed asking"])
        self.assertEqual(len(self.model.under_way), 1)

    def test_its_own_are_told_once(self) -> None:
        self.assertEqual(self.told(lambda: self.pause(INTAKE)), ["operator alice paused intake"])
        self.assertEqual(self.told(lambda: self.pause(INTAKE)), [])
        self.assertEqual(self.told(lambda: self.pass_time(3)), [])
        self.assertTrue(self.pipeline.pauses.is_paused(INTAKE))

    def test_a_look_that_began_earlier_ends_no_pause(self) -> None:
        looking: Deferred[Any] = Deferred()
        self.patch(self.journal, "pauses", lambda: looking)
        self.clock.advance(LOOK_EVERY)
        self.pause(ASKING)
        self.resume(ASKING)
        again = self.pause(ASKING)
        looking.callback({ASKING: attrs.evolve(again, resumed=True)})
        self.assertTrue(self.pipeline.pauses.is_paused(ASKING))

    def test_a_journal_that_cant_be_read_ends_no_pause(self) -> None:
        self.pause(ASKING)
        self.opened.connection.close()
        self.pass_time(3)
        self.assertTrue(self.pipeline.pauses.is_paused(ASKING))

    def test_in_order(self) -> None:
        for what in ("target", INTAKE, ASKING, "dead_letter"):
            self.pause(what)
        self.successResultOf(self.journal.pause("target.gone", WHO))
        self.clock.advance(LOOK_EVERY)
        self.assertEqual(
            [each.what for each in self.pipeline.pauses.current],
            [INTAKE, ASKING, "target", "dead_letter", "target.gone"],
        )
        self.assertEqual(list(self.pipeline.pauses.what), [INTAKE, ASKING, "target", "dead_letter"])

    def test_long_ago_is_no_reason_to_go_on_for_ever(self) -> None:
        self.pause(ASKING)
        self.resume(ASKING)
        self.clock.advance(10_000)
        self.post("p1")
        self.clock.advance(700)
        self.model.answer(AGAIN)
        self.assertEqual(self.states("p1"), [State.FAILED.value])

    def test_who_comes_after_it_has_waited_since_then_alone(self) -> None:
        self.pause(ASKING)
        self.resume(ASKING)
        self.clock.advance(10_000)
        self.post("p1")
        self.model.answer(AGAIN)
        self.assertEqual(self.states("p1"), [State.ACCEPTED.value])

    def test_a_clock_that_is_set_makes_nothing_wait_for_ever(self) -> None:
        for before_the_start in (True, False):
            clock = Clocks()
            clock.advance(10_000)
            journal = Mock(date=clock.wall())
            pauses = Pauses(clock, journal, ["target"])
            resumed = Pause(ASKING, WHO, clock.wall() - 50, resumed=True)
            journal.resume = Mock(return_value=succeed(resumed))
            pauses.start({ASKING: resumed} if before_the_start else {})
            self.successResultOf(Deferred.fromCoroutine(pauses.resume(ASKING, WHO)))
            self.assertEqual(pauses.waited(ASKING, 0.0, clock.seconds()), 50)
            clock.step(-86_400)
            self.assertEqual(pauses.waited(ASKING, 0.0, clock.seconds() + 700), 750)
            self.assertEqual(pauses.waited(ASKING, clock.seconds() - 3, clock.seconds()), 3)
            pauses.stop()

    def test_another_daemon_s_clock_does_not_matter(self) -> None:
        clock = Clocks()
        clock.advance(10_000)
        pauses = Pauses(clock, Mock(date=clock.wall() - 600), ["target"])
        pauses.start({ASKING: Pause(ASKING, WHO, clock.wall() - 650, resumed=True)})
        self.assertEqual(pauses.waited(ASKING, 0.0, clock.seconds()), 50)
        pauses.stop()

    def test_a_start_with_nothing(self) -> None:
        self.assertEqual(Recovered({}, ()).pauses, {})
