"""What the SQLite journal does costs the same, however many prompts are in it.

SQLite's steps are counted, not time: a query that reads all prompts takes more with each of them.
"""

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred

from chatgpt_source.journal import MOST_COUNTED, PeerState
from chatgpt_source.journal.sqlite import SqliteJournal, upkeep, wipe
from chatgpt_source.prompt import MODEL, State
from tests.contracts.driver import TO
from tests.journal.common import DAY, NOON, PEERS, JournalTestCase, at_once, prompt

SOME = MOST_COUNTED + 500
MANY = 4 * SOME
UNIT = 10
"""Steps that are counted as one."""

_FILL = (
    "WITH RECURSIVE n (n) AS (SELECT 1 + (SELECT coalesce(max(seq), 0) FROM prompts)"
    " UNION ALL SELECT n + 1 FROM n LIMIT ?1)"
)


class ManyTestCase(JournalTestCase):
    def fill(self, count: int) -> None:
        """Put prompts into the journal, before all others."""

    def steps(self, run: Callable[[], Deferred[Any]]) -> int:
        """How many steps SQLite takes for a call."""
        counted = 0

        def count() -> None:
            nonlocal counted
            counted += 1

        db = self.opened.connection
        db.set_progress_handler(count, UNIT)
        try:
            self.successResultOf(run())
        finally:
            db.set_progress_handler(None, UNIT)
        return counted

    def grow(self, calls: dict[str, Callable[[], Deferred[Any]]]) -> None:
        """Require that each call takes as many steps with many prompts as with some."""
        self.fill(SOME)
        few = {name: self.steps(run) for name, run in calls.items()}
        self.fill(MANY - SOME)
        many = {name: self.steps(run) for name, run in calls.items()}
        more = {name: many[name] - few[name] for name in calls}
        self.assertEqual({name: n for name, n in more.items() if n * UNIT > MANY - SOME}, {})

    def fill_prompts(self, state: State, count: int, *columns: str) -> None:
        """Put prompts in a state into the journal; the others among the `columns` are as if new."""
        values = dict.fromkeys(("due", "accepted", "since"), str(NOON - 1))
        values |= dict(each.split(" = ") for each in columns)
        self.opened.connection.execute(
            f"{_FILL} INSERT INTO prompts (seq, id, state, day, {', '.join(values)})"
            f" SELECT n, 'many-' || n, '{state.value}', '{DAY.date}', {', '.join(values.values())}"
            " FROM n",
            (count,),
        )
        self.opened.connection.execute(
            "INSERT INTO texts (seq, prompt, source, type, event, size)"
            " SELECT seq, 'text', 's', 't', x'65', 10 FROM prompts"
            " WHERE seq NOT IN (SELECT seq FROM texts)"
        )

    def start(self, **peers: str) -> Deferred[Any]:
        journal = SqliteJournal(self.opened, self.clock, at_once)
        return journal.recover(self.everyday_limit, "UTC", {**PEERS, **peers}, self.keep)

    def remembered(self, peer: str) -> Deferred[Any]:
        self.successResultOf(self.journal.remember(peer, PeerState("held")))
        return self.start(**{peer: "other settings"})

    @property
    def calls(self) -> dict[str, Callable[[], Deferred[Any]]]:
        """What a daemon does at its start, now and then, and for each prompt; claims come last."""
        journal = self.journal
        return {
            "start": self.start,
            "start with other settings": lambda: self.remembered(MODEL),
            "start with another target": lambda: self.remembered(TO),
            "tally": lambda: journal.tally(DAY.date),
            "tally of tiers": journal.tally_tiers,
            **{f"latest {state}": self.latest_in(state) for state in (None, *State)},
            "waiting": lambda: journal.waiting(TO, NOON),
            "ends": lambda: journal.ends(0.0, 100),
            "prune": lambda: journal.prune(NOON - 100),
            "lapse": lambda: journal._read(lambda db: upkeep.has_lapsed(db, NOON)),
            "wipe": lambda: journal._read(wipe.wipe, None),
            "expired": lambda: journal.claim_expired(NOON, 5),
            "submitted": lambda: journal.claim_submitted(NOON, 5),
            "leftovers": lambda: journal.claim_leftovers(NOON, 5),
            "accept": lambda: self.admit(prompt(f"new-{self.count()}"), 10**6, 10**6),
            "asks": lambda: journal.claim_asks(NOON, 5),
            "deliveries": lambda: journal.claim_deliveries(TO, NOON, 5),
        }

    def latest_in(self, state: State | None) -> Callable[[], Deferred[Any]]:
        return lambda: self.journal.latest(state, None, 50)

    def count(self) -> int:
        (number,) = self.opened.connection.execute("SELECT count(*) FROM prompts").fetchone()
        return int(number)


class WaitingTests(ManyTestCase):
    def test_to_be_asked(self) -> None:
        self.fill = lambda count: self.fill_prompts(State.ACCEPTED, count)
        self.grow(self.calls)

    def test_to_be_sent_in_batches(self) -> None:
        self.fill = lambda count: self.fill_prompts(
            State.ACCEPTED, count, "tier = 'batch'", f"deadline = {NOON * 2}"
        )
        self.grow(self.calls)

    def test_to_be_delivered(self) -> None:
        self.fill = self.answer_many
        self.grow(self.calls)

    def answer_many(self, count: int) -> None:
        self.fill_prompts(State.ANSWERED, count, "due = NULL")
        self.opened.connection.execute(
            "INSERT INTO outbox (seq, destination, due, since)"
            f" SELECT seq, '{TO}', {NOON - 1}, {NOON - 1} FROM prompts"
            " WHERE seq NOT IN (SELECT seq FROM outbox) AND state = 'answered'"
        )

    def test_the_oldest_behind_many_that_are_not_to_be_asked_yet(self) -> None:
        later = f"not_before = {NOON + 60}"
        self.fill = lambda count: self.fill_prompts(
            State.ACCEPTED, count, later, f"due = {NOON + 60}"
        )
        self.grow({"tally": lambda: self.journal.tally(DAY.date)})
        self.accept(prompt("p1", accepted=NOON - 9), max_backlog=2 * MANY)
        self.accept(prompt("p2", accepted=NOON - 5), max_backlog=2 * MANY)
        self.assertEqual(self.successResultOf(self.journal.tally(DAY.date)).oldest, NOON - 9)


class EndedTests(ManyTestCase):
    def test_delivered(self) -> None:
        self.fill = lambda count: self.fill_prompts(
            State.DELIVERED, count, "due = NULL", f"ended = {NOON - 1}"
        )
        self.grow(self.calls)
