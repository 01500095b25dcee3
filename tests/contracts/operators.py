"""What `Journal` promises to operators, as tests that every engine passes."""

import attrs

from chatgpt_source.errors import Draining, Paused
from chatgpt_source.journal import (
    AuditEntry,
    Failed,
    FailureGroup,
    Key,
    Pause,
    Submission,
    reason_of,
)
from chatgpt_source.prompt import State
from tests.contracts.driver import NOON, prompt
from tests.contracts.journal import Contract

ERRORS = {
    "p1": "the target answered 400",
    "p2": "the model refused it: content_filter",
    "p3": "the target answered 400",
    "p4": "the model can't be reached: after `give_up_after`",
    "p5": "the target answered 4001",
    "p6": "the model refused it: invalid_value (while others succeed)",
}
REFUSED = "the model refused it"


class GroupContract(Contract):
    """Failed prompts are grouped by the reason without its details."""

    def fail_all(self) -> None:
        self.accept(*(prompt(name) for name in (*ERRORS, "p7")))
        for name, error in ERRORS.items():
            self.clock.advance(1)
            self.fail_it(name, error)

    def groups(self, most: int = 10) -> list[FailureGroup]:
        return list(self.successResultOf(self.journal.failure_groups(most)))

    def named(self, reason: str, before: int | None = None, most: int = 10) -> list[str]:
        found = self.successResultOf(self.journal.latest(None, before, most, reason))
        return [each.id for each in found]

    def test_groups_the_largest_first(self) -> None:
        self.fail_all()
        self.assertEqual(
            self.groups(),
            [
                FailureGroup(REFUSED, 2, NOON + 2, NOON + 6),
                FailureGroup("the target answered 400", 2, NOON + 1, NOON + 3),
                FailureGroup("the model can't be reached", 1, NOON + 4, NOON + 4),
                FailureGroup("the target answered 4001", 1, NOON + 5, NOON + 5),
            ],
        )
        self.assertEqual(self.groups(2), self.groups()[:2])

    def test_groups_are_those_of_their_reasons(self) -> None:
        self.fail_all()
        for group in self.groups():
            own = [name for name, error in ERRORS.items() if reason_of(error) == group.reason]
            self.assertEqual(self.named(group.reason), own[::-1])

    def test_no_group(self) -> None:
        self.fail_all()
        for name in ERRORS:
            self.successResultOf(self.journal.purge(name))
        self.assertEqual(self.groups(), [])

    def test_a_group_is_read_in_pages(self) -> None:
        self.fail_all()
        (record,) = self.successResultOf(self.journal.latest(State.FAILED, None, 1, REFUSED))
        self.assertEqual((record.id, record.error), ("p6", ERRORS["p6"]))
        self.assertEqual(self.named(REFUSED, before=record.position), ["p2"])
        self.assertEqual(self.named("the model"), [])

    def test_who_is_redriven_is_in_no_group(self) -> None:
        self.fail_all()
        self.successResultOf(self.journal.redrive("p2"))
        self.assertEqual(self.named(REFUSED), ["p6"])
        self.assertEqual(self.groups()[0].reason, "the target answered 400")
        self.end_of("p2", Failed("another one: code"))
        self.assertEqual(self.named("another one"), ["p2"])

    def test_a_reason_of_any_kind(self) -> None:
        for error in ("", ": ", " (", "a: b (c", "a (b: c", "ä: ö", "a:b(c"):
            self.accept(prompt(error))
            self.fail_it(error, error)
            self.assertIn(error, self.named(reason_of(error)), error)
            self.successResultOf(self.journal.purge(error))


class KeyedContract(Contract):
    """A prompt is found by the key that it came with."""

    def test_found_by_its_key(self) -> None:
        keys = [Key(("caller", "k")), Key(("k",)), Key(("k2",), any_content=True)]
        for n, key in enumerate(keys):
            self.successResultOf(self.admit_all(Submission(prompt(f"p{n}"), key)))
        for n, key in enumerate(keys):
            self.assertEqual(self.successResultOf(self.journal.ids_of([key])), [f"p{n}"])
        self.assertEqual(self.successResultOf(self.journal.ids_of(keys[::-1])), ["p0", "p1", "p2"])
        unknown = [Key(("k3",)), Key(("k", "caller"))]
        self.assertEqual(self.successResultOf(self.journal.ids_of(unknown)), [])


class PauseContract(Contract):
    """What is paused stays so, over restarts, until it is resumed."""

    def paused(self) -> dict[str, Pause]:
        return dict(self.successResultOf(self.journal.pauses()))

    def test_nothing_is_paused(self) -> None:
        self.assertEqual(self.paused(), {})
        self.assertEqual(self.restart().pauses, {})

    def test_paused_over_a_restart(self) -> None:
        asking = self.successResultOf(self.journal.pause("asking", "alice"))
        self.assertEqual(asking, Pause("asking", "alice", NOON))
        self.clock.advance(5)
        target = self.successResultOf(self.journal.pause("target.audit", "bob"))
        both = {"asking": asking, "target.audit": target}
        self.assertEqual(self.paused(), both)
        self.assertEqual(self.restart().pauses, both)
        self.assertEqual(self.paused(), both)

    def test_the_first_pause_counts(self) -> None:
        first = self.successResultOf(self.journal.pause("asking", "alice"))
        self.clock.advance(5)
        self.assertEqual(self.successResultOf(self.journal.pause("asking", "bob")), first)
        self.assertEqual(self.paused(), {"asking": first})

    def test_who_resumed_is_known(self) -> None:
        self.assertIsNone(self.successResultOf(self.journal.resume("asking", "bob")))
        self.successResultOf(self.journal.pause("asking", "alice"))
        self.successResultOf(self.journal.pause("intake", "alice"))
        self.clock.advance(5)
        resumed = self.successResultOf(self.journal.resume("asking", "bob"))
        self.assertEqual(resumed, Pause("asking", "bob", NOON + 5, resumed=True))
        self.assertIsNone(self.successResultOf(self.journal.resume("asking", "carol")))
        self.assertEqual(self.paused()["asking"], resumed)
        self.assertFalse(self.paused()["intake"].resumed)
        self.assertEqual(self.restart().pauses, self.paused())

    def test_paused_again(self) -> None:
        self.successResultOf(self.journal.pause("asking", "alice"))
        self.successResultOf(self.journal.resume("asking", "bob"))
        self.clock.advance(5)
        again = self.successResultOf(self.journal.pause("asking", "carol"))
        self.assertEqual(again, attrs.evolve(again, who="carol", since=NOON + 5, resumed=False))
        self.assertEqual(self.paused(), {"asking": again})


class AuditContract(Contract):
    """What commands have done is told once, in order."""

    def has_entries(self) -> bool:
        return self.successResultOf(self.journal.has_audit_entries())

    def audit_entries(self) -> list[AuditEntry]:
        return list(self.successResultOf(self.journal.take_audit_entries()))

    def test_is_told_once_and_in_order(self) -> None:
        self.assertEqual((self.has_entries(), self.audit_entries()), (False, []))
        entries = [AuditEntry("alice", f"purged p{n}") for n in range(3)]
        for each in entries:
            self.successResultOf(self.journal.audit(each))
        self.assertTrue(self.has_entries())
        self.restart()
        self.assertEqual(self.audit_entries(), entries)
        self.assertEqual((self.has_entries(), self.audit_entries()), (False, []))

    def test_some_at_a_time(self) -> None:
        for n in range(150):
            self.successResultOf(self.journal.audit(AuditEntry("alice", f"purged p{n}")))
        first = self.audit_entries()
        self.assertTrue(0 < len(first) < 150)
        self.assertEqual(len(first) + len(self.audit_entries()), 150)


class PausedIntakeContract(Contract):
    def test_takes_no_unit(self) -> None:
        refusal = self.failureResultOf(self.admit(prompt(), paused=True), Paused)
        self.assertEqual((refusal.value.word, refusal.value.retry_after), ("paused", 60))
        self.assertEqual((self.used(), self.record()), (0, None))

    def test_a_repeat_gets_the_first_answer(self) -> None:
        self.successResultOf(self.admit(prompt("p1"), key="k"))
        again = self.successResultOf(self.admit(prompt("p2"), key="k", paused=True))
        self.assertEqual((again.id, again.repeated), ("p1", True))

    def test_one_that_stops_says_that(self) -> None:
        self.failureResultOf(self.admit(prompt(), paused=True, draining=True), Draining)


class OperatorsContract(
    GroupContract, KeyedContract, PauseContract, AuditContract, PausedIntakeContract
):
    """All of it, for an engine's test case to inherit."""
