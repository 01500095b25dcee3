"""What is a trouble, of which level, in which words."""

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.health import checks
from chatgpt_source.health.recent import Failures
from chatgpt_source.health.refusals import CALLERS_OWN, TurnedAway
from chatgpt_source.health.trouble import Level, Trouble, line
from chatgpt_source.telemetry.observer import RefusalReason
from tests.health.test_trouble import TIMES
from tests.journal.common import NOON


class ChecksTestCase(SynchronousTestCase):
    def one(self, trouble: Trouble | None) -> Trouble:
        assert trouble is not None
        return trouble


class JournalTests(ChecksTestCase):
    def test_that_can_be_used(self) -> None:
        self.assertIsNone(checks.of_journal(None, None))

    def test_that_can_not(self) -> None:
        for fault, unread, expected in (
            ("disk full", None, "the journal can't be written: disk full"),
            (None, "it is gone", "the journal can't be read: it is gone"),
            ("disk full", "it is gone", "the journal can't be read: it is gone"),
        ):
            trouble = self.one(checks.of_journal(fault, unread))
            self.assertEqual((trouble.what, trouble.level), (expected, Level.RED))


class FailuresTests(ChecksTestCase):
    def of(self, failed: int, ended: int) -> Trouble:
        failures = Failures(failed, ended, NOON - 60, "the target answered 400")
        return self.one(checks.of_failures(failures, 504, TIMES))

    def test_none(self) -> None:
        self.assertIsNone(checks.of_failures(None, 0, TIMES))

    def test_level_and_words(self) -> None:
        for failed, ended, level, words in (
            (1, 1, Level.AMBER, "the last prompt failed: the target answered 400"),
            (2, 2, Level.AMBER, "2 of the last 2 prompts failed, most often: the target answ"),
            (3, 3, Level.RED, "nothing succeeds: all of the last 3 prompts failed, most often"),
            (9, 10, Level.AMBER, "9 of the last 10 prompts failed"),
        ):
            trouble = self.of(failed, ended)
            self.assertEqual(trouble.level, level, words)
            self.assertIn(words, trouble.what)

    def test_of_some_targets(self) -> None:
        failures = Failures(5, 5, NOON, "why", ["target", "billing"])
        trouble = self.one(checks.of_failures(failures, 5, TIMES))
        self.assertIn("5 prompts for the target and the target `billing` failed", trouble.what)

    def test_leads_to_those_of_the_reason(self) -> None:
        trouble = self.of(3, 3)
        query = {"state": "failed", "reason": "the target answered 400"}
        self.assertEqual((trouble.prompts, trouble.since), (query, NOON - 60))
        self.assertIn("504 failed prompts", trouble.meaning)


class QuotaTests(ChecksTestCase):
    def of(self, used: int) -> Trouble | None:
        return checks.of_quota(used, 100, NOON + 3600, TIMES)

    def test_from_four_fifths_on(self) -> None:
        self.assertIsNone(self.of(79))
        for used, what, meaning in (
            (80, "80 of the day's 100 prompts are used up", "20 are left until midnight in Europe"),
            (100, "all 100 prompts of the day are used up", "callers get 429 until midnight in"),
            (150, "all 100 prompts of the day are used up", "callers get 429"),
        ):
            trouble = self.one(self.of(used))
            self.assertEqual((trouble.level, trouble.what), (Level.AMBER, what))
            self.assertIn(meaning, trouble.meaning)
            self.assertIn("`everyday_limit`", trouble.advice)


class BacklogTests(ChecksTestCase):
    def of(self, backlog: int, due: float | None = None, **more: Any) -> list[str]:
        found = checks.of_backlog(backlog, 10, due, TIMES, **more)
        self.assertTrue(all(each.level is Level.AMBER for each in found))
        return [each.what for each in found]

    def test_full(self) -> None:
        self.assertEqual(self.of(9), [])
        self.assertEqual(self.of(10), ["10 prompts wait, as many as `max_backlog` allows"])

    def test_ages(self) -> None:
        self.assertEqual(self.of(1, NOON + 99), [])
        self.assertEqual(self.of(1, NOON - 299), [])
        self.assertEqual(
            self.of(1, NOON - 300), ["the backlog ages: a call has been due for 5 min"]
        )
        self.assertEqual(len(self.of(10, NOON - 300)), 2)

    def test_drains(self) -> None:
        told = self.of(10, NOON - 300, draining=True)
        self.assertEqual(told, ["stopping: nothing more is accepted"])


class CallersTests(ChecksTestCase):
    def test_each_reason_has_words(self) -> None:
        for reason in set(RefusalReason) - CALLERS_OWN:
            self.assertIn(reason, checks.REFUSED)

    def test_how_many_and_why(self) -> None:
        self.assertIsNone(checks.of_refusals(None, TIMES))
        counts = {RefusalReason.BACKLOG: 2, RefusalReason.QUOTA: 1000}
        trouble = self.one(checks.of_refusals(TurnedAway(NOON - 60, counts), TIMES))
        self.assertEqual(
            trouble.what,
            "1,002 requests turned away in the last 15 min"
            " (1,000 as the day was used up, 2 as the backlog was full)",
        )
        self.assertEqual((trouble.level, trouble.since), (Level.AMBER, NOON - 60))
        alone = self.one(checks.of_refusals(TurnedAway(NOON, {RefusalReason.PAUSED: 1}), TIMES))
        told = "1 request turned away in the last 15 min, as the intake was paused"
        self.assertEqual(alone.what, told)


class PauseTests(ChecksTestCase):
    def test_what_it_means(self) -> None:
        for what, meaning in (
            ("intake", "callers get 503"),
            ("asking", "prompts are accepted, and wait"),
            ("target.billing", "its events wait"),
        ):
            trouble = checks.of_pause(what, "it", "me", NOON)
            self.assertEqual((trouble.what, trouble.level), ("it is paused", Level.AMBER))
            self.assertIn(meaning, trouble.meaning)

    def test_of_a_target_that_is_not_set(self) -> None:
        trouble = checks.of_pause("target.biling", "it", "me", NOON, is_set=False)
        self.assertEqual(trouble.meaning, "the settings have no target of this name")
        self.assertIn("resume `target.biling` and pause that", trouble.advice)

    def test_who_did_it_is_for_operators(self) -> None:
        trouble = checks.of_pause("asking", "asking", "me", NOON)
        self.assertEqual(trouble.told, "asking is paused by me")
        self.assertIn("paused by me (since", line(trouble, TIMES))
        self.assertIn("paused (since", line(trouble, TIMES, public=True))
