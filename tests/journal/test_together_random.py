"""Random groups come to the same as their operations one by one: results, and every table."""

import shutil
from collections.abc import Callable
from enum import Enum, auto
from itertools import chain, repeat
from pathlib import Path
from random import Random
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.journal import (
    Answered,
    AuditEntry,
    Batched,
    Delivered,
    Failed,
    Journal,
    Postponed,
    Terms,
    Underway,
    outcomes,
)
from chatgpt_source.journal.attempts import Attempt, Kind
from chatgpt_source.journal.sqlite import SqliteJournal, open_journal
from chatgpt_source.journal.sqlite.rows import Owner
from chatgpt_source.journal.submission import Key, Submission
from chatgpt_source.prompt import (
    DEAD_LETTER,
    NOWHERE,
    TARGET,
    Answer,
    Ask,
    Delivery,
    Details,
    Leftover,
    Prompt,
    Tier,
    Trace,
)
from tests.clocks import Clocks
from tests.contracts.driver import DAY, NOON, PEERS
from tests.journal.common import Threads, at_once

SEEDS = 4
GROUPS = 25
MOST = 40
"""Operations in a group at the most."""


class Kinds(Enum):
    """What an operation is, as the transaction of a group sees it."""

    ACCEPT = auto()
    ANSWER = auto()
    DELIVER = auto()
    WRITE = auto()
    READ = auto()


Drawing = tuple[Kinds, Callable[[Journal], Deferred[Any]]]
TOMORROW = attrs.evolve(DAY, date="2027-01-16")


class Drawn:
    """Draws operations, knowing only what earlier ones came to.

    Attributes:
        hand: Claims, some of which have ended already.
        breaks: Whether some can't be done at all, so that all of their group are done one by one.
    """

    def __init__(self, seed: int, *, breaks: bool) -> None:
        self.random = Random(seed)
        self.breaks = breaks
        self.hand: list[Ask | Delivery] = []
        self.now = NOON
        self.names: list[str] = []

    def group(self) -> list[Drawing]:
        kinds = [self.random.choice(self.KINDS) for _ in range(self.random.randint(1, MOST))]
        return [getattr(self, kind)() for kind in kinds]

    def some(self, *choices: Any) -> Any:
        return self.random.choice(choices)

    def is_so(self, chance: float) -> bool:
        return self.random.random() < chance

    def rarely(self) -> bool:
        return self.is_so(0.03)

    def breaks_now(self) -> bool:
        return self.breaks and self.is_so(0.01)

    def name(self) -> str:
        return self.random.choice(self.names[-30:] or ["none"])

    def text(self) -> str:
        size = self.some(1, 1, 1, 1, 2047, 2048, 2049, 5000, 2**20 if self.rarely() else 2)
        return self.some("a", "nul \0", "'\"", "\N{SNAKE}") * size

    def when(self) -> float | None:
        return self.some(None, None, None, self.now - 5, self.now + 1 / 3, self.now)

    def prompt(self) -> Prompt:
        name = f"p{len(self.names)}"
        if self.breaks_now() and self.names:
            name = self.name()  # which the tables refuse
        self.names.append(name)
        return Prompt(
            name,
            self.text(),
            "\ud800" if self.breaks_now() else "a-source",
            "a-type",
            self.some(self.now, self.now + 0.1234567),
            self.some(None, None, Trace("00-1", self.some(None, "s"))),
            self.some(TARGET.setting, TARGET.setting, NOWHERE, "other"),
            self.some(Details(), Details(), Details(metadata={"m": "x" * self.some(1, 4000)})),
            self.when(),
            self.when(),
            self.when(),
            self.some(*[Tier.STANDARD] * 5, Tier.FLEX, Tier.BATCH),
        )

    def submission(self, *, any_content: bool) -> Submission:
        each = self.prompt()
        if self.is_so(0.3):
            each = attrs.evolve(each, text="the same", details=Details(), source="a-source")
        word = self.some(None, None, None, *"abcdefgh", str(self.random.randint(0, 40)))
        if word and self.breaks_now():
            word = "\ud800"
        key = Key((word,), any_content) if word else None
        return Submission(each, key, self.some(None, None, self.now + 9))

    def accept(self) -> Drawing:
        any_content = self.is_so(0.5)
        submissions = [
            self.submission(any_content=any_content) for _ in range(self.some(1, 1, 1, 2, 3))
        ]
        terms = Terms(
            self.some(DAY, DAY, TOMORROW),
            self.random.randint(0, 200),
            self.random.randint(0, 60),
            draining=self.rarely(),
            paused=self.rarely(),
        )
        claim = self.is_so(0.7)
        return Kinds.ACCEPT, lambda journal: journal.accept(submissions, terms, claim=claim)

    def claim(self) -> Drawing:
        now, most = self.now, self.random.randint(1, 6)
        tier, to = self.some(*Tier), self.some(TARGET.setting, "other", DEAD_LETTER.setting)
        return Kinds.WRITE, self.some(
            lambda journal: journal.claim_asks(now, most, tier),
            lambda journal: journal.claim_asks(now, most),
            lambda journal: journal.claim_expired(now, most),
            lambda journal: journal.claim_submitted(now, most),
            lambda journal: journal.claim_deliveries(to, now, most),
        )

    def calls(self, kind: Kind) -> list[Attempt]:
        many = self.some(0, 1, 1, 2)
        words = ("answered", "retried", "failed")
        return [
            Attempt(
                *(kind, self.random.randint(1, 30), "peer", self.now, 0.5, self.some(*words)),
                self.some(None, 200, 2**70 if self.breaks_now() else 503),
                self.some(None, "why"),
            )
            for _ in range(many)
        ]

    def taken(self, kind: type) -> Any:
        held = [each for each in self.hand if isinstance(each, kind)]
        if not held:
            return None
        each = self.random.choice(held)
        if self.is_so(0.7):
            self.hand.remove(each)
        if self.is_so(0.1):
            each = attrs.evolve(each, token=each.token + self.some(-1, 1, 100))
        return each

    def leftover(self) -> Leftover | None:
        return self.some(None, None, Leftover("kept", self.some(None, "other"), stop=True))

    def answered(self) -> Drawing:
        ask = self.taken(Ask)
        if ask is None:
            return self.accept()
        event = self.some(b"e", b"\xff\0", b"x" * 2048, b"y" * 2049)
        usage = {"prompt_tokens": self.some(1, 2**70, None, "no")}
        answer = Answer("text", request_id=self.some(None, "r"), usage=usage)
        outcome = Answered(answer, event, self.some(0, 60), self.calls(Kind.ASK))
        now, claim, leftover = self.now, self.is_so(0.5), self.leftover()
        return Kinds.ANSWER, lambda journal: journal.ask_ended(
            ask, outcome, now, claim=claim, leftover=leftover
        )

    def unanswered(self) -> Drawing:
        ask = self.taken(Ask)
        if ask is None:
            return self.claim()
        calls, now = self.calls(Kind.ASK), self.now
        outcome = self.some(
            Postponed(now + self.some(-1, 1), "later", self.is_so(0.5), calls=calls),
            Failed("why", self.is_so(0.5), self.some(None, b"letter", b"l" * 3000)),
            Underway("resp", now, calls=calls),
            Batched(1),
        )
        return Kinds.WRITE, lambda journal: journal.ask_ended(ask, outcome, now)

    def delivered(self) -> Drawing:
        delivery = self.taken(Delivery)
        if delivery is None or delivery.destination == DEAD_LETTER.setting:
            return self.undelivered()
        outcome = Delivered(self.some(0, 60), self.calls(Kind.DELIVERY))
        now, leftover = self.now, self.leftover()
        return Kinds.DELIVER, lambda journal: journal.delivery_ended(
            delivery, outcome, now, leftover=leftover
        )

    def undelivered(self) -> Drawing:
        delivery = self.taken(Delivery)
        if delivery is None:
            return self.claim()
        calls, now = self.calls(Kind.DELIVERY), self.now
        outcome = self.some(
            Postponed(now + self.some(-1, 1), "later", calls=calls),
            Failed("why", give_back=False, dead_letter=self.some(None, b"letter", b"l" * 3000)),
        )
        if delivery.destination == DEAD_LETTER.setting:
            outcome = self.some(outcome, Delivered())
        return Kinds.WRITE, lambda journal: journal.delivery_ended(delivery, outcome, now)

    def other(self) -> Drawing:
        name, now, wanted = self.name(), self.now, self.now + 9
        return self.some(
            (Kinds.WRITE, lambda journal: journal.cancel(name)),
            (Kinds.WRITE, lambda journal: journal.redrive(name)),
            (Kinds.WRITE, lambda journal: journal.purge(name)),
            (Kinds.WRITE, lambda journal: journal.kept(name, wanted)),
            (Kinds.WRITE, lambda journal: journal.unneeded(name)),
            (Kinds.READ, lambda journal: journal.record(name)),
            (Kinds.READ, lambda journal: journal.detail(name)),
            (Kinds.READ, lambda journal: journal.tally(DAY.date)),
            (Kinds.READ, lambda journal: journal.tally_tiers()),
            (Kinds.WRITE, lambda journal: journal.audit(AuditEntry("who", f"did {now}"))),
            (Kinds.WRITE, lambda journal: journal.open_batch("key")),
            (Kinds.WRITE, lambda journal: journal.pause("intake", "who")),
        )

    KINDS = (
        *("accept",) * 5,
        *("claim",) * 2,
        *("answered",) * 4,
        *("delivered",) * 4,
        *("unanswered", "undelivered", "other", "other"),
    )


class RandomTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clocks()
        self.clock.advance(NOON)
        self.patch(outcomes, "MOST_DELAY", 0.0)

    def journals(self) -> tuple[Any, Any, Threads]:
        """Two that have the same secret: one for groups, one for one operation at a time."""
        path = Path(self.mktemp())
        open_journal(path).close()
        beside = Path(f"{path}.beside")
        shutil.copy(path, beside)
        threads = Threads(self.clock)
        grouped = self.opened(path, threads.defer)
        return grouped, self.opened(beside, at_once), threads

    def opened(self, path: Path, in_thread: Any) -> Any:
        opened = open_journal(path)
        self.addCleanup(opened.close)
        journal = SqliteJournal(opened, self.clock, in_thread)
        self.successResultOf(journal.recover(100, "UTC", PEERS, 60.0))
        journal._background.stop()
        return journal

    def test_same_as_one_by_one(self) -> None:
        for seed in range(SEEDS):
            self.same_as_one_by_one(seed, breaks=False)

    def test_same_where_some_break(self) -> None:
        """What is done again takes other tokens, so all have the same one here."""
        for seed in range(SEEDS):
            self.same_as_one_by_one(seed, breaks=True)

    def same_as_one_by_one(self, seed: int, *, breaks: bool) -> None:
        drawn, (grouped, alone, threads) = Drawn(seed, breaks=breaks), self.journals()
        if breaks:
            for each in (grouped, alone):
                each._run = Owner(each.owner, repeat(1))
        begun: list[str] = []
        grouped._opened.connection.set_trace_callback(
            lambda sql: begun.append(sql) if sql.startswith("BEGIN") else None
        )
        for place in range(GROUPS):
            group = drawn.group()
            grouped.probe()  # the others wait for it, and ride in one group
            started = [call(grouped) for _, call in group]
            threads.work()
            begun.clear()
            threads.work()
            self.assertEqual(threads.waiting, [])
            self.assertTrue(breaks or len(begun) <= 1)
            order = in_order(group, is_broken=len(begun) > 1)
            told = {each: outcome(group[each][1](alone)) for each in order}
            for number, (kind, _) in enumerate(group):
                found = outcome(started[number])
                where = f"seed {seed}, group {place}, {kind}"
                self.assertEqual(described(found), described(told[number]), where)
                drawn.hand += claimed(found)
            self.assertEqual(dump(grouped), dump(alone), f"seed {seed}, group {place}")
            self.consistent(grouped)
            drawn.now += drawn.some(0, 0, 1, 5)
            self.clock.advance(drawn.now - self.clock.seconds())

    def consistent(self, journal: Any) -> None:
        db = journal._opened.connection
        counted = dict(db.execute("SELECT state, count(*) FROM prompts GROUP BY state"))
        kept = dict(db.execute("SELECT state, n FROM counts WHERE n <> 0"))
        self.assertEqual(kept, counted)
        self.assertEqual(db.execute("PRAGMA foreign_key_check").fetchall(), [])
        lost = db.execute(
            "SELECT id FROM long_texts WHERE id / 4 NOT IN (SELECT seq FROM texts)"
        ).fetchall()
        self.assertEqual(lost, [])


def in_order(group: list[Drawing], *, is_broken: bool) -> list[int]:
    """The places of a group's operations, in the order in which they are done."""
    if is_broken:
        return sorted(range(len(group)), key=lambda place: group[place][0] is Kinds.READ)
    order: list[int] = []
    together: dict[Kinds, list[int]] = {}
    for place, (kind, _) in enumerate(group):
        if kind is Kinds.WRITE:
            order += [*chain(*together.values()), place]
            together.clear()
        elif kind is not Kinds.READ:
            together.setdefault(kind, []).append(place)
    order += chain(*together.values())
    return order + [place for place, (kind, _) in enumerate(group) if kind is Kinds.READ]


def outcome(done: Deferred[Any]) -> Any:
    found: list[Any] = []
    done.addBoth(found.append)
    return found[0]


def described(found: Any) -> str:
    return repr(getattr(found, "value", found))


def claimed(found: Any) -> list[Any]:
    if isinstance(found, list):
        return [each.ask for each in found if each.ask is not None]
    delivery = getattr(found, "delivery", None)
    return [*getattr(found, "claimed", ()), *([delivery] if delivery is not None else ())]


def dump(journal: Any) -> dict[str, Any]:
    db = journal._opened.connection
    tables = [
        name
        for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        if name not in {"probes", "sqlite_sequence"}
    ]
    return {name: sorted(map(repr, db.execute(f"SELECT * FROM {name}"))) for name in tables}
