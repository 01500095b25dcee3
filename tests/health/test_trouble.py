"""The judgement: which level, and what stands first."""

from zoneinfo import ZoneInfo

from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.health.times import Times
from chatgpt_source.health.trouble import Level, Trouble, judged, line
from tests.journal.common import NOON

TIMES = Times(NOON, 0.0, ZoneInfo("Europe/Berlin"))


class JudgedTests(SynchronousTestCase):
    def test_the_level(self) -> None:
        red, amber = Trouble("a", Level.RED, "x"), Trouble("b", Level.AMBER, "y")
        for troubles, untried, level, headline in (
            ([], None, Level.GREEN, "All is well"),
            ([], "Nothing tried yet", Level.UNKNOWN, "Nothing tried yet"),
            ([amber], None, Level.AMBER, "Y"),
            ([amber], "Nothing tried yet", Level.AMBER, "Y"),
            ([amber, red], None, Level.RED, "X, and 1 more trouble"),
            ([amber, red, amber], None, Level.RED, "X, and 2 more troubles"),
        ):
            judgement = judged(troubles, untried)
            self.assertEqual((judgement.level, judgement.headline), (level, headline))

    def test_red_before_amber_and_before_warnings_then_the_oldest(self) -> None:
        given = [
            Trouble("f", Level.AMBER, "x", 0.5, is_warning=True),
            Trouble("e", Level.AMBER, "x"),
            Trouble("d", Level.AMBER, "x", 1.0),
            Trouble("b", Level.RED, "x", 3.0),
            Trouble("a", Level.RED, "x", 2.0),
            Trouble("c", Level.RED, "x"),
        ]
        self.assertEqual([each.check for each in judged(given).troubles], [*"abcdef"])


class LineTests(SynchronousTestCase):
    def test_what_there_is_of_it(self) -> None:
        for told, expected in (
            ({}, "the target is gone"),
            ({"since": NOON - 60}, "the target is gone (since 12:59)"),
            ({"since": NOON - 86400}, "the target is gone (since 2027-01-14 13:00)"),
            ({"advice": "check it"}, "the target is gone: check it"),
            ({"meaning": "all wait"}, "the target is gone. All wait"),
            ({"next_try": NOON + 90}, "the target is gone. The next try is at 13:01"),
            ({"next_try": NOON}, "the target is gone. The next try is due"),
        ):
            trouble = Trouble("target", Level.RED, "the target is gone", **told)
            self.assertEqual(line(trouble, TIMES), expected)
