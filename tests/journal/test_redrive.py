"""What an operator does to a journal, and dead letters."""

import os

from chatgpt_source.errors import NotRedriven, QuotaUsedUp
from chatgpt_source.prompt import State
from tests.journal.common import DAY, NOON, JournalTestCase, prompt


class FailedTestCase(JournalTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.journal.recover(2, "UTC")

    def fail_asked(self, name: str = "p1", *, give_back: bool = True) -> None:
        self.accept(prompt(name))
        self.asks()
        self.set_aside(name, give_back=give_back)

    def fail_answered(self, name: str = "p1") -> None:
        self.accept(prompt(name))
        self.asks()
        self.answer(name, claim=True)
        self.set_aside(name, give_back=False)

    def set_aside(
        self, name: str = "p1", *, give_back: bool = False, letter: bytes | None = None
    ) -> None:
        now = self.clock.seconds()
        self.successResultOf(
            self.journal.failed(name, now, "why", give_back=give_back, letter=letter)
        )

    def redrive(self, name: str = "p1") -> State:
        state: State = self.successResultOf(self.journal.redrive(name))
        return state


class RedriveTests(FailedTestCase):
    def test_asked_again_takes_a_unit_of_today(self) -> None:
        self.fail_asked()
        self.assertEqual(self.used(), 0)
        self.clock.advance(86400)
        self.assertEqual(self.redrive(), State.ACCEPTED)
        self.assertEqual((self.used(), self.used("2027-01-16")), (0, 1))
        (ask,) = self.asks().claimed
        self.assertEqual(ask.prompt, prompt())
        self.assertEqual((ask.attempt, ask.total, ask.since), (1, 2, NOON + 86400))
        self.set_aside(give_back=True)
        self.assertEqual(self.used("2027-01-16"), 0)

    def test_asked_again_forgets_what_was_billed_before(self) -> None:
        self.accept(prompt())
        self.asks()
        self.successResultOf(self.journal.postpone("p1", NOON, "why", maybe_billed=True, held=NOON))
        self.asks()
        self.set_aside(give_back=True)
        self.assertEqual(self.used(), 1)
        self.redrive()
        (ask,) = self.asks().claimed
        self.assertEqual((ask.maybe_billed, ask.held), (0, None))
        self.set_aside(give_back=True)
        self.assertEqual(self.used(), 1)  # the new one came back

    def test_refused_when_none_is_left(self) -> None:
        self.fail_asked()
        self.accept(prompt("p2"), prompt("p3"))
        self.failureResultOf(self.journal.redrive("p1"), QuotaUsedUp)
        self.assertEqual(self.record().state, State.FAILED)
        self.assertEqual(self.used(), 2)

    def test_delivered_again_takes_none(self) -> None:
        self.fail_answered()
        self.accept(prompt("p2"))  # the day is used up
        self.clock.advance(5)
        self.assertEqual(self.redrive(), State.ANSWERED)
        self.assertEqual(self.used(), 2)
        (delivery,) = self.deliveries().claimed
        self.assertEqual(delivery.event, b"the event")
        self.assertEqual((delivery.attempt, delivery.since), (1, NOON + 5))
        self.assertEqual(self.record().deliveries, 2)
        self.assertEqual([ask.prompt.id for ask in self.asks().claimed], ["p2"])

    def test_only_what_failed(self) -> None:
        self.accept(prompt())
        self.failureResultOf(self.journal.redrive("p1"), NotRedriven)
        self.failureResultOf(self.journal.redrive("nobody"), NotRedriven)

    def test_is_a_backlog_again_and_not_pruned(self) -> None:
        self.fail_answered()
        self.redrive()
        self.successResultOf(self.journal.prune(NOON + 10))
        self.assertEqual(self.successResultOf(self.journal.tally(DAY.date)).backlog, 1)

    def test_a_journal_no_daemon_has_used(self) -> None:
        self.fail_asked()
        self.opened.connection.execute("DELETE FROM terms")
        self.failureResultOf(self.journal.redrive("p1"), NotRedriven)


class PurgeTests(FailedTestCase):
    def test_forgets_a_failed_prompt(self) -> None:
        self.fail_asked()
        self.assertTrue(self.successResultOf(self.journal.purge("p1")))
        self.assertIsNone(self.record())
        texts = self.opened.connection.execute("SELECT count(*) FROM texts").fetchone()
        self.assertEqual(texts, (0,))

    def test_leaves_all_others(self) -> None:
        self.accept(prompt())
        self.assertFalse(self.successResultOf(self.journal.purge("p1")))
        self.assertFalse(self.successResultOf(self.journal.purge("nobody")))
        self.assertEqual(self.asks().claimed[0].prompt.text, "what is vanus")


class RecordsTests(FailedTestCase):
    def page(self, state: State | None, after: str = "", most: int = 2) -> list[str]:
        position = int(after.removeprefix("p") or 0)
        records = self.successResultOf(self.journal.records(state, position, most))
        return [record.id for record in records]

    def test_in_pages(self) -> None:
        self.fail_asked("p1")
        self.accept(prompt("p2"))
        self.fail_asked("p3")
        self.fail_asked("p4")
        self.assertEqual(self.page(None), ["p1", "p2"])
        self.assertEqual(self.page(None, "p2"), ["p3", "p4"])
        self.assertEqual(self.page(None, "p4"), [])
        self.assertEqual(self.page(State.FAILED), ["p1", "p3"])
        self.assertEqual(self.page(State.FAILED, "p3"), ["p4"])
        self.successResultOf(self.journal.purge("p3"))  # the place of one that is gone stays
        self.assertEqual(self.page(State.FAILED, "p3"), ["p4"])


class LatestTests(FailedTestCase):
    def page(self, state: State | None, before: int | None = None, most: int = 2) -> list[str]:
        records = self.successResultOf(self.journal.latest(state, before, most))
        return [record.id for record in records]

    def test_the_latest_first_in_pages(self) -> None:
        self.assertEqual(self.page(None), [])
        for name in ("p1", "p3", "p4"):
            self.fail_asked(name)
        self.accept(prompt("p5"), prompt("p6"))
        self.assertEqual(self.page(None), ["p6", "p5"])
        self.assertEqual(self.page(None, 4), ["p4", "p3"])
        self.assertEqual(self.page(None, 1), [])
        self.assertEqual(self.page(State.FAILED), ["p4", "p3"])
        self.assertEqual(self.page(State.FAILED, 2), ["p1"])

    def test_of_each_state(self) -> None:
        self.accept(*(prompt(f"p{n}") for n in range(4)))
        self.asks(1)
        self.answer("p0")
        self.successResultOf(self.journal.delivered("p1"))
        self.fail_asked("p9")
        for state, expected in (
            (State.ANSWERED, ["p0"]),
            (State.DELIVERED, ["p1"]),
            (State.ACCEPTED, ["p3", "p2"]),
            (State.FAILED, ["p9"]),
        ):
            self.assertEqual(self.page(state), expected)

    def test_the_failed_are_found_without_a_look_at_the_others(self) -> None:
        db = self.opened.connection
        statements: list[str] = []
        db.set_trace_callback(statements.append)
        self.page(State.FAILED)
        (query,) = statements
        plan = [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {query}")]
        self.assertTrue(any("INDEX failures" in step for step in plan), plan)


class OldestTests(FailedTestCase):
    def oldest(self) -> float | None:
        oldest: float | None = self.successResultOf(self.journal.oldest())
        return oldest

    def test_of_those_that_wait(self) -> None:
        self.assertIsNone(self.oldest())
        self.fail_asked("p0")
        self.assertIsNone(self.oldest())
        self.accept(*(prompt(f"p{n}", accepted=NOON + n) for n in (1, 2, 3)))
        self.assertEqual(self.oldest(), NOON + 1)
        self.asks(1)  # one under way waits, too
        self.assertEqual(self.oldest(), NOON + 1)
        self.answer("p1")
        self.assertEqual(self.oldest(), NOON + 1)
        self.successResultOf(self.journal.delivered("p1"))
        self.assertEqual(self.oldest(), NOON + 2)


class LetterTests(FailedTestCase):
    def letters(self, now: float | None = None) -> list[tuple[str, bytes, int]]:
        at = self.clock.seconds() if now is None else now
        claims = self.successResultOf(self.journal.claim_letters(at, 10))
        return [(each.id, each.event, each.attempt) for each in claims.claimed]

    def setUp(self) -> None:
        super().setUp()
        self.accept(prompt())
        self.asks()
        self.set_aside(letter=b"a letter")

    def test_claimed_once(self) -> None:
        self.assertEqual(self.letters(), [("p1", b"a letter", 1)])
        self.assertEqual(self.letters(), [])

    def test_without_one(self) -> None:
        self.fail_asked("p2")
        self.assertEqual([name for name, *_ in self.letters()], ["p1"])

    def test_a_claim_is_taken_up_after_a_crash(self) -> None:
        self.letters()
        self.crash()
        self.assertEqual(self.letters(), [("p1", b"a letter", 2)])

    def test_postponed(self) -> None:
        self.letters()
        self.successResultOf(self.journal.letter_ended("p1", NOON, NOON + 5))
        self.assertEqual(self.letters(), [])
        claims = self.successResultOf(self.journal.claim_letters(NOON, 10))
        self.assertEqual(claims.next_due, NOON + 5)
        self.assertEqual(self.letters(NOON + 5), [("p1", b"a letter", 2)])

    def test_done(self) -> None:
        self.letters()
        self.successResultOf(self.journal.letter_ended("p1", NOON, None))
        self.crash()
        self.assertEqual(self.letters(), [])
        self.assertEqual(self.record().state, State.FAILED)

    def test_an_old_call_does_not_end_a_new_letter(self) -> None:
        self.letters()
        self.redrive()
        self.asks()
        self.clock.advance(5)
        self.set_aside(letter=b"a new letter")
        self.successResultOf(self.journal.letter_ended("p1", NOON, None))
        self.assertEqual(self.letters(), [("p1", b"a new letter", 1)])

    def test_a_redrive_takes_it_back(self) -> None:
        self.letters()
        self.redrive()
        self.successResultOf(self.journal.letter_ended("p1", NOON, NOON))  # its call ends meanwhile
        self.assertEqual(self.letters(NOON + 10), [])


class KeyTests(JournalTestCase):
    def admit_with(self, key: str, name: str, text: str = "what is vanus") -> tuple[str, int, bool]:
        admitted = self.successResultOf(self.admit(prompt(name, text), 5, key=key))
        return admitted.id, admitted.left, admitted.repeated

    def test_the_same_again(self) -> None:
        self.assertEqual(self.admit_with("k", "p1"), ("p1", 4, False))
        self.assertEqual(self.admit_with("k", "p2"), ("p1", 4, True))
        self.assertEqual(self.used(), 1)
        self.assertIsNone(self.record("p2"))

    def test_in_one_group(self) -> None:
        repeats = [self.admit(prompt(f"p{n}"), 5, key="k") for n in range(5)]
        self.assertEqual({self.successResultOf(each).id for each in repeats}, {"p0"})

    def test_survives_a_crash_and_midnight(self) -> None:
        self.admit_with("k", "p1")
        self.clock.advance(86400)
        self.crash()
        self.assertEqual(self.admit_with("k", "p2")[0], "p1")

    def test_looked_up_before_quota_backlog_and_drain(self) -> None:
        self.admit_with("k", "p1")
        again = self.admit(prompt("p2"), 1, 1, key="k", draining=True)
        self.assertEqual(self.successResultOf(again).id, "p1")

    def test_other_keys_are_other_prompts(self) -> None:
        self.assertEqual(self.admit_with("a", "p1")[0], "p1")
        self.assertEqual(self.admit_with("b", "p2")[0], "p2")

    def test_kept_as_long_as_the_record(self) -> None:
        self.admit_with("k", "p1")
        self.successResultOf(self.journal.delivered("p1"))
        self.assertEqual(self.admit_with("k", "p2")[0], "p1")
        self.successResultOf(self.journal.prune(NOON + 1))
        self.assertEqual(self.admit_with("k", "p3")[0], "p3")

    def test_neither_key_nor_text_can_be_read_or_guessed_from_the_file(self) -> None:
        self.admit_with("a-secret-key", "p1", "a secret text")
        self.successResultOf(self.journal.delivered("p1"))
        self.successResultOf(self.journal.close())
        content = self.path.read_bytes()
        self.assertNotIn(b"secret-key", content)
        self.assertNotIn(b"secret text", content)
        first = self.digest_in_new_journal()
        self.assertNotEqual(first, self.digest_in_new_journal())

    def digest_in_new_journal(self) -> bytes:
        self.path = self.path.with_name(f"{self.path.name}-{os.urandom(4).hex()}")
        self.journal = self.open()
        self.admit_with("k", "p1")
        row = self.opened.connection.execute("SELECT digest FROM keys").fetchone()
        return bytes(row[0])
