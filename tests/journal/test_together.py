"""A group's operations of a kind are done together, and yet each for itself."""

import sqlite3
from itertools import groupby
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.errors import BacklogFull, KeyReused, QuotaUsedUp
from chatgpt_source.journal import Answered, Delivered, Failed, Postponed, Terms
from chatgpt_source.journal.sqlite.together import ROWS, ForMany
from chatgpt_source.journal.submission import Submission
from chatgpt_source.prompt import NOWHERE, Ask, Leftover, State
from tests.contracts.driver import TO
from tests.journal.common import ANSWER, DAY, NOON, JournalTestCase, prompt

MANY = 20


class TogetherTests(JournalTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.open_in_threads()

    def together(self, *starts: Any) -> list[Deferred[Any]]:
        """Start operations that ride in one group; returns what they will come to."""
        self.journal.probe()  # it is a group of its own: the others wait for it
        started = [start() for start in starts]
        self.threads.work()
        self.statements.clear()
        self.threads.work()
        self.assertEqual(self.threads.waiting, [])
        return started

    def results(self, *starts: Any) -> list[Any]:
        return [self.successResultOf(each) for each in self.together(*starts)]

    def sent(self) -> int:
        """How many statements the last group took; for each trigger one is told again."""
        return len(list(groupby(self.statements)))

    def claimed(self, *names: str, **options: Any) -> list[Ask]:
        admitted = self.results(
            *(
                lambda name=name: self.admit(attrs.evolve(prompt(name), **options), claim=True)
                for name in names
            )
        )
        return [each.ask for each in admitted]

    def ended(self, work: Any, outcome: Any, **options: Any) -> Any:
        now = self.clock.seconds()
        if isinstance(work, Ask):
            return lambda: self.journal.ask_ended(work, outcome, now, **options)
        return lambda: self.journal.delivery_ended(work, outcome, now, **options)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        return self.opened.connection.execute(query).fetchall()

    def states(self) -> dict[str, str]:
        return dict(self.rows("SELECT id, state FROM prompts"))

    def test_few_statements_for_many(self) -> None:
        names = [f"p{n}" for n in range(MANY)]
        asks = self.claimed(*names)
        self.assertLessEqual(self.sent(), 6)
        ends = self.results(*(self.ended(ask, Answered(ANSWER, b"e"), claim=True) for ask in asks))
        self.assertLessEqual(self.sent(), 6)
        self.results(*(self.ended(each.delivery, Delivered()) for each in ends))
        self.assertLessEqual(self.sent(), 5)
        self.assertEqual(set(self.states().values()), {"delivered"})
        self.assertEqual(self.rows("SELECT count(*) FROM texts"), [(0,)])
        self.assertEqual(
            dict(self.rows("SELECT state, n FROM counts WHERE n <> 0")), {"delivered": MANY}
        )
        self.assertEqual(self.rows("SELECT used FROM days"), [(MANY,)])

    def test_as_many_as_a_group_may_have(self) -> None:
        many = 3 * ROWS[-1] + 5
        names = [f"p{n}" for n in range(many)]
        terms = Terms(DAY, many, many)
        admitted = self.results(
            *(
                lambda name=name: self.admit_all(Submission(prompt(name)), terms=terms, claim=True)
                for name in names
            )
        )
        self.assertEqual([each.left for (each,) in admitted], list(range(many - 1, -1, -1)))
        ends = self.results(
            *(self.ended(one.ask, Answered(ANSWER, one.id.encode())) for (one,) in admitted)
        )
        self.assertTrue(all(each.kept for each in ends))
        found = self.rows("SELECT id, event FROM prompts JOIN texts USING (seq) ORDER BY seq")
        self.assertEqual(found, [(name, name.encode()) for name in names])

    def test_kinds_side_by_side(self) -> None:
        answered, failed, late, lost = self.claimed("answered", "failed", "late", "lost")
        (end,) = self.results(self.ended(late, Answered(ANSWER, b"late"), claim=True))
        stale = attrs.evolve(lost, token=lost.token + 100)
        told = self.results(
            self.ended(end.delivery, Delivered()),
            lambda: self.admit(prompt("new"), claim=True),
            self.ended(answered, Answered(ANSWER, b"e"), claim=True),
            self.ended(failed, Failed("why", give_back=True)),
            self.ended(stale, Answered(ANSWER, b"stale"), claim=True),
            self.ended(attrs.evolve(end.delivery, token=0), Delivered()),
            lambda: self.admit(prompt("newer")),
        )
        delivered, new, sent, gone, not_his, not_so, newer = told
        kept = [each.kept for each in (delivered, sent, gone, not_his, not_so)]
        self.assertEqual(kept, [True, True, True, False, False])
        self.assertEqual((sent.delivery.event, not_his.delivery), (b"e", None))
        self.assertEqual(
            self.states(),
            {
                "answered": "answered",
                "failed": "failed",
                "late": "delivered",
                "lost": "accepted",
                "new": "accepted",
                "newer": "accepted",
            },
        )
        self.assertEqual(self.rows("SELECT used FROM days"), [(5,)])
        self.assertEqual((new.ask.prompt.id, newer.ask), ("new", None))
        tokens = [new.ask.token, sent.delivery.token, answered.token, end.delivery.token]
        self.assertEqual(len(set(tokens)), 4)

    def test_one_refused_among_many(self) -> None:
        outcomes = self.together(*(lambda n=n: self.admit(prompt(f"p{n}"), 3) for n in range(5)))
        self.assertEqual([self.successResultOf(each).left for each in outcomes[:3]], [2, 1, 0])
        for each in outcomes[3:]:
            self.failureResultOf(each, QuotaUsedUp)
        outcomes = self.together(
            lambda: self.admit(prompt("q1"), max_backlog=4),
            lambda: self.admit_all(
                *(Submission(prompt(f"r{n}")) for n in range(2)), terms=Terms(DAY, 100, 5)
            ),
            lambda: self.admit(prompt("q2"), max_backlog=5),
        )
        self.assertEqual(self.successResultOf(outcomes[0]).id, "q1")
        self.failureResultOf(outcomes[1], BacklogFull)
        self.assertEqual(self.successResultOf(outcomes[2]).id, "q2")
        self.assertEqual(self.rows("SELECT used FROM days"), [(5,)])
        self.assertEqual(list(self.states()), ["p0", "p1", "p2", "q1", "q2"])

    def test_days_side_by_side(self) -> None:
        tomorrow = attrs.evolve(DAY, date="2027-01-16")
        self.results(
            lambda: self.admit(prompt("p1"), 1),
            lambda: self.admit(prompt("p2"), 1, day=tomorrow),
        )
        self.assertEqual(self.rows("SELECT * FROM days"), [("2027-01-15", 1), ("2027-01-16", 1)])

    def test_a_key_twice(self) -> None:
        outcomes = self.together(
            lambda: self.admit(prompt("p1"), key="k", claim=True),
            lambda: self.admit(prompt("p2"), key="k", claim=True),
            lambda: self.admit(prompt("p3", "another"), key="k"),
            lambda: self.admit(prompt("p4"), key="other", claim=True),
        )
        self.assertEqual(self.statements.count("COMMIT"), 1)
        self.failureResultOf(outcomes.pop(2), KeyReused)
        first, again, other = (self.successResultOf(each) for each in outcomes)
        self.assertEqual(
            [(each.id, each.repeated) for each in (first, again)], [("p1", False), ("p1", True)]
        )
        self.assertEqual((again.ask, again.left, other.left), (None, 99, 98))
        self.assertEqual(self.rows("SELECT count(*) FROM keys"), [(2,)])
        (known,) = self.results(lambda: self.admit(prompt("p5"), key="other"))
        self.assertEqual((known.id, known.repeated), ("p4", True))

    def test_a_claim_ends_once(self) -> None:
        (ask,) = self.claimed("p1")
        first, second = self.results(
            self.ended(ask, Answered(ANSWER, b"first"), claim=True),
            self.ended(ask, Answered(ANSWER, b"second"), claim=True),
        )
        self.assertEqual((first.kept, first.delivery.event), (True, b"first"))
        self.assertEqual((second.kept, second.delivery), (False, None))
        first, second = self.results(
            *(self.ended(first.delivery, Delivered()) for _ in range(2)),
        )
        self.assertEqual((first.kept, second.kept), (True, False))
        self.assertEqual(self.rows("SELECT deliveries FROM prompts"), [(1,)])

    def test_after_one_that_waits_none_is_claimed(self) -> None:
        told = self.results(
            lambda: self.admit(prompt("p1"), claim=True),
            lambda: self.admit(prompt("p2")),
            lambda: self.admit(prompt("p3"), claim=True),
        )
        self.assertEqual([each.ask and each.ask.prompt.id for each in told], ["p1", None, None])

    def test_one_that_breaks_fails_alone(self) -> None:
        (ask,) = self.claimed("a")
        unwritable = attrs.evolve(prompt("p2"), source="\ud800")
        outcomes = self.together(
            lambda: self.admit(prompt("p1")),
            lambda: self.admit(unwritable),
            lambda: self.admit(prompt("p3")),
            lambda: self.admit(prompt("p1")),  # an id twice: SQLite refuses
            self.ended(ask, Answered(ANSWER, b"e")),
        )
        self.failureResultOf(outcomes.pop(1), UnicodeEncodeError)
        self.failureResultOf(outcomes.pop(2))
        self.assertEqual([self.successResultOf(each).left for each in outcomes[:2]], [98, 97])
        self.assertTrue(self.successResultOf(outcomes[2]).kept)
        self.assertEqual(list(self.states()), ["a", "p1", "p3"])
        self.assertEqual(self.rows("SELECT used FROM days"), [(3,)])

    def test_one_that_breaks_before_anything_is_written_fails_alone(self) -> None:
        outcomes = self.together(
            lambda: self.admit(prompt("p1"), key="k"),
            lambda: self.admit(prompt("p2"), key="\ud800"),
            lambda: self.admit(prompt("p3"), key="l"),
        )
        self.failureResultOf(outcomes.pop(1), UnicodeEncodeError)
        self.assertEqual([self.successResultOf(each).left for each in outcomes], [99, 98])

    def test_values_are_kept_as_they_are(self) -> None:
        accepted = NOON + 0.1234567
        text = "nul \0, quote ', emoji \N{SNAKE}, "
        long = text + "x" * 5000
        prompts = [
            attrs.evolve(prompt("short", text, accepted), not_before=NOON - 1 / 3),
            prompt("long", long, accepted),
        ]
        first, second = self.results(
            *(lambda each=each: self.admit(each, claim=True) for each in prompts)
        )
        event, long_event = b"\xff\0", b"\xfe\0" * 5000
        self.results(
            self.ended(first.ask, Answered(ANSWER, event)),
            self.ended(second.ask, Answered(ANSWER, long_event)),
        )
        claims = self.journal.claim_deliveries(TO, NOON, 5)
        self.threads.work()
        found = self.successResultOf(claims).claimed
        self.assertEqual([each.event for each in found], [event, long_event])
        self.assertEqual([each.accepted for each in found], [accepted] * 2)
        self.results(*(self.ended(each, Failed("why", give_back=False)) for each in found))
        self.assertEqual(
            self.rows("SELECT not_before FROM prompts WHERE id = 'short'"), [(NOON - 1 / 3,)]
        )

    def test_what_goes_nowhere_and_what_a_provider_keeps(self) -> None:
        nowhere, kept = self.claimed("p1", "p2", target=NOWHERE)
        (sent,) = self.claimed("p3")
        told = self.results(
            self.ended(nowhere, Answered(ANSWER, b"e"), claim=True),
            self.ended(kept, Answered(ANSWER, b"e", keep=60)),
            self.ended(sent, Answered(ANSWER, b"e"), claim=True, leftover=Leftover("r1", None)),
        )
        self.assertEqual([each.delivery is None for each in told], [True, True, False])
        self.results(
            self.ended(told[2].delivery, Delivered(), leftover=Leftover("r2", None)),
        )
        self.assertEqual(set(self.states().values()), {State.DELIVERED.value})
        self.assertEqual(self.rows("SELECT id FROM prompts JOIN texts USING (seq)"), [("p2",)])
        self.assertEqual(self.rows("SELECT submitted FROM leftovers"), [("r1",), ("r2",)])

    def test_postponed_beside_answered(self) -> None:
        first, second = self.claimed("p1", "p2")
        self.results(
            self.ended(first, Postponed(NOON + 5, "why")),
            self.ended(second, Answered(ANSWER, b"e")),
        )
        self.assertEqual(self.states(), {"p1": "accepted", "p2": "answered"})


class ForManyTests(SynchronousTestCase):
    def test_each_number_of_rows(self) -> None:
        db = sqlite3.connect(":memory:")
        self.addCleanup(db.close)
        count = ForMany("SELECT count(n), sum(n) FROM given", ("n", "other"))
        for many in range(2 * ROWS[-1] + 2):
            found = count.run(db, [(n, None) for n in range(many)])
            self.assertEqual(sum(row[0] for row in found), many)
            self.assertEqual(sum(row[1] for row in found), sum(range(many)))
