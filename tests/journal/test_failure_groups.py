"""The failures by reason, read no more often than is cheap."""

from collections.abc import Sequence
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.errors import JournalUnavailable
from chatgpt_source.journal import FailureGroup, reason_of
from chatgpt_source.journal.failure_groups import MOST, SHARE, FailureGroups

WHY = [FailureGroup("why", 2, 1.0, 2.0)]


class Slow:
    """A journal that answers when told to."""

    def __init__(self) -> None:
        self.reads: list[Deferred[Sequence[FailureGroup]]] = []

    def failure_groups(self, most: int) -> Deferred[Sequence[FailureGroup]]:
        assert most == MOST
        self.reads.append(Deferred())
        return self.reads[-1]


class GroupsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock, self.journal = Clock(), Slow()
        self.groups = FailureGroups(self.clock, cast(Any, self.journal))

    def read(self, took: float, result: Any = WHY) -> Any:
        """A reading that takes so long; callers at the same time share it."""
        number = len(self.journal.reads)
        waiting = [self.groups.read() for _ in range(3)]
        self.assertEqual(len(self.journal.reads), number + 1)
        self.clock.advance(took)
        self.journal.reads[-1].callback(result)
        return [self.successResultOf(each) for each in waiting]

    def test_a_long_reading_is_kept_for_long(self) -> None:
        self.assertEqual(self.read(0.5), [WHY] * 3)
        self.clock.advance(0.5 * SHARE - 0.01)
        self.assertEqual(self.successResultOf(self.groups.read()), WHY)
        self.clock.advance(0.02)
        self.assertEqual(self.read(0.001, []), [[], [], []])
        self.clock.advance(0.0011 * SHARE)
        self.read(0.001)

    def test_after_a_redrive_it_is_read_anew(self) -> None:
        self.read(0.5)
        self.groups.forget()
        self.read(0.5, [])

    def test_what_was_read_during_a_redrive_is_read_anew(self) -> None:
        first = self.groups.read()
        self.groups.forget()
        self.clock.advance(1)
        later = self.groups.read()
        self.journal.reads[-1].callback(WHY)
        self.assertEqual(self.successResultOf(first), WHY)
        self.assertNoResult(later)
        self.journal.reads[-1].callback([])
        self.assertEqual(self.successResultOf(later), [])

    def test_a_journal_that_cant_be_read(self) -> None:
        for each in [self.groups.read(), self.groups.read()]:
            self.journal.reads[-1].errback(JournalUnavailable("hangs", retry_after=1))
            self.failureResultOf(each, JournalUnavailable)
        self.read(0.001)


class ReasonTests(SynchronousTestCase):
    def test_without_its_details(self) -> None:
        for error, reason in (
            ("the target answered 400", "the target answered 400"),
            ("the model refused it: content_filter (as ever)", "the model refused it"),
            ("the model answered 400 (a_code): it refuses it", "the model answered 400 (a_code)"),
            ("the model answered 400 (b_code): it refuses it", "the model answered 400 (b_code)"),
            ("a:b(c", "a:b(c"),
            ("", ""),
        ):
            self.assertEqual(reason_of(error), reason)
