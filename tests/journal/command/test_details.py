"""A prompt, call by call, as text."""

from pathlib import Path
from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.journal import DeadLetter, Detail, Record
from chatgpt_source.journal.attempts import Attempt, Kind
from chatgpt_source.journal.command.details import details
from chatgpt_source.prompt import State, Tier
from chatgpt_source.terminal import Look
from tests.journal.example import EXAMPLE

ROOT = Path(__file__).parents[3]
NOON = 1_800_014_400.0
RECORD = Record("p1", State.FAILED, NOON, NOON + 5, NOON + 40, 2, 1, "the target answered 400")
ASKS = (
    Attempt(Kind.ASK, 1, "model", NOON, 1.25, "again", 500, "the model answered 500"),
    Attempt(Kind.ASK, 2, "model", NOON + 3, 2.0, "answered", 200, None, "req-1"),
)
SENT = Attempt(Kind.DELIVERY, 1, "target", NOON + 5, 0.5, "failed", 400, "the target answered 400")
DETAIL = Detail(RECORD, (*ASKS, SENT), tier=Tier.STANDARD, answered_by="model", ask_seconds=2.0)


def lines(detail: Detail = DETAIL, look: Look | None = None) -> list[str]:
    return list(details(detail, look or Look()))


class DetailsTests(SynchronousTestCase):
    def test_the_facts_that_are_known(self) -> None:
        told = lines()
        self.assertEqual(told[0], "id:            p1")
        self.assertIn("failed:        2027-01-15T12:00:40Z", told)
        self.assertIn("ask_seconds:   2.0", told)
        self.assertEqual([each for each in told if "source" in each or each.endswith("-")], [])

    def test_the_calls(self) -> None:
        table = lines()[lines().index("") + 1 :]
        expected = [
            "CALL           STARTED                  TOOK  STATUS  OUTCOME       OF",
            "ask 1          2027-01-15T12:00:00Z   1.25 s     500  again         model",
            "    the model answered 500",
            "ask 2          2027-01-15T12:00:03Z   2.00 s     200  answered      model",
            "delivery 1     2027-01-15T12:00:05Z   0.50 s     400  failed        target",
            "    the target answered 400",
        ]
        self.assertEqual(table, expected)

    def test_no_call_starts_after_its_answer(self) -> None:
        late = attrs.evolve(ASKS[1], started=NOON + 3.9)
        told = lines(attrs.evolve(DETAIL, attempts=(ASKS[0], late, SENT)))
        row = "ask 2          2027-01-15T12:00:03Z   2.00 s     200  answered      model"
        self.assertIn(row, told)

    def test_the_docs_show_one(self) -> None:
        told = "\n".join(lines(EXAMPLE, Look(80))).splitlines()
        self.assertLessEqual(max(map(len, told)), 80)
        docs = (ROOT / "docs/operations.md").read_text("utf-8")
        self.assertIn("```\n" + "\n".join(told) + "\n```", docs)

    def test_one_without_calls_has_no_table(self) -> None:
        told = lines(Detail(attrs.evolve(RECORD, asks=0, deliveries=0)))
        self.assertNotIn("", told)

    def test_calls_of_other_kinds(self) -> None:
        calls = (
            Attempt(Kind.DEAD_LETTER, 10, "dead_letter", NOON, 86400.0, "again", None, "slow"),
            Attempt(Kind.POLL, 2, "model.spare", NOON, 0.0, "lost"),
        )
        told = "\n".join(lines(Detail(RECORD, calls)))
        self.assertIn("dead letter 10  2027-01-15T12:00:00Z  86400 s       -  again", told)
        self.assertIn("poll 2         2027-01-15T12:00:00Z   0.00 s       -  lost", told)

    def test_those_that_are_not_listed(self) -> None:
        self.assertEqual([each for each in lines() if "not listed" in each], [])
        for calls, told in ((ASKS, "1 call is not listed"), ((), "3 calls are not listed")):
            self.assertEqual(lines(Detail(RECORD, calls))[-1], told)

    def test_one_that_is_under_way_is_no_call_yet(self) -> None:
        def unlisted(state: State, due: float | None, **parts: Any) -> int:
            record = attrs.evolve(RECORD, state=state, deliveries=0, next_attempt=due)
            return Detail(record, ASKS[:1], **parts).unlisted

        self.assertEqual(unlisted(State.ACCEPTED, None), 0)
        self.assertEqual(unlisted(State.ACCEPTED, NOON), 1)
        self.assertEqual(unlisted(State.SUBMITTED, None, batch=3), 0)
        self.assertEqual(unlisted(State.FAILED, None), 1)

    def test_a_dead_letter(self) -> None:
        for letter, told in (
            (DeadLetter("delivered", 1), "delivered, 1 call"),
            (DeadLetter("waiting", 0, None, NOON), "waiting, 0 calls, the next 2027-01-15T12:00"),
            (DeadLetter("failed", 2, "why"), "failed, 2 calls: why"),
        ):
            text = "\n".join(lines(attrs.evolve(DETAIL, dead_letter=letter)))
            self.assertIn(f"dead_letter:   {told}", text)

    def test_no_line_is_wider_than_the_terminal(self) -> None:
        long = "the model answered 400: " + "a word and another " * 20
        call = attrs.evolve(ASKS[0], error=long, peer="model." + "x" * 40)
        detail = attrs.evolve(
            DETAIL, record=attrs.evolve(RECORD, error=long), attempts=[call], source="/s" * 100
        )
        for width in (40, 80):
            told = "\n".join(lines(detail, Look(width))).splitlines()
            self.assertLessEqual(max(map(len, told)), width)
            self.assertEqual(" ".join(" ".join(told).split()).count("a word and another"), 40)
        self.assertTrue(lines(detail, Look(3)))

    def test_colours(self) -> None:
        told = "\n".join(lines(look=Look(80, colour=True)))
        for word, code in (("again", 33), ("answered", 32), ("failed", 31)):
            self.assertIn(f"\x1b[{code}m{word}\x1b[0m", told)
