"""The journal against a simple model, with crashes and full disks at every step of a commit."""

import contextlib
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID

from attrs import define, frozen
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.errors import JournalUnavailable
from chatgpt_source.journal import (
    Answered,
    Delivered,
    Failed,
    Key,
    PeerState,
    Postponed,
    Submission,
    Terms,
    outcomes,
)
from chatgpt_source.journal.sqlite import OpenJournal, SqliteJournal, open_journal
from chatgpt_source.journal.sqlite.texts import Part
from chatgpt_source.prompt import Ask, Prompt
from chatgpt_source.quota import day_at
from tests.chaos.model import COLUMNS, LIMIT, MAX_BACKLOG, ROW, UTC, Claim, Model, Refused
from tests.contracts.driver import ANSWER, NOON, PEERS

LONG = bool(os.environ.get("CHAOS_MINUTES") or os.environ.get("CHAOS_SEED"))
FULL = "database or disk is full"
NAMES = ("journal.sqlite", "journal.sqlite-wal")


@frozen
class Copy:
    """The files of a database as a crash would leave them."""

    files: tuple[bytes, ...]

    @classmethod
    def of(cls, folder: Path) -> "Copy":
        """Those of a database that may be in use."""
        paths = [folder / name for name in NAMES]
        return cls(tuple(path.read_bytes() if path.exists() else b"" for path in paths))

    def torn(self, after: "Copy", share: float) -> "Copy":
        """With the first part of a write-ahead log that was being written when power went."""
        old, new = self.files[1], after.files[1]
        at = int(len(new) * share)
        return Copy((self.files[0], new[:at] + old[at:]))

    def put(self, folder: Path) -> Path:
        """Write them into an empty folder."""
        for name, content in zip(NAMES, self.files, strict=True):
            if content:
                (folder / name).write_bytes(content)
        return folder / NAMES[0]


class Watched:
    """A connection that can be looked at, and can fail, at each of its steps."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.step: Callable[[str], None] = lambda _: None

    def execute(self, sql: str, *arguments: Any) -> Any:
        self.step(sql)
        return self._connection.execute(sql, *arguments)

    def executemany(self, sql: str, arguments: Any) -> Any:
        self.step(sql)
        return self._connection.executemany(sql, arguments)

    def set_progress_handler(self, handler: Any, often: int) -> None:
        self._connection.set_progress_handler(handler, often)

    @property
    def total_changes(self) -> int:
        return self._connection.total_changes

    def close(self) -> None:
        self._connection.close()


class Thread:
    """The journal's thread: works at once, but can be held up."""

    def __init__(self) -> None:
        self._held: list[tuple[Callable[[], None], Deferred[None]]] | None = None

    def __call__(self, run: Callable[[], None]) -> "Deferred[None]":
        if self._held is None:
            return succeed(run())
        done: Deferred[None] = Deferred()
        self._held.append((run, done))
        return done

    def hold(self) -> None:
        self._held = []

    def release(self) -> None:
        held, self._held = self._held or [], None
        for run, done in held:
            run()
            done.callback(None)


@define
class Riding:
    """An operation that rides the next commit, and what is to come of it."""

    run: Callable[[Any], "Deferred[Any]"]
    expected: Any
    outcome: Any = None


def snapshot(path: Path) -> Any:
    """All there is in a journal's file, as `Model.snapshot` has it."""
    with closing(sqlite3.connect(path)) as db:
        return snapshot_of(db)


def snapshot_of(db: Any) -> Any:
    names = ["id", "state", *COLUMNS, "event", "letter", "keys", "owner"]
    rows = db.execute(
        f"SELECT seq, id, state, {', '.join(COLUMNS)}, {Part.EVENT.whole}, {Part.LETTER.whole},"
        " (SELECT count(*) FROM keys WHERE keys.seq = prompts.seq), owner IS NOT NULL,"
        f" {Part.PROMPT.whole}, source, type"
        " FROM prompts LEFT JOIN texts USING (seq) ORDER BY seq"
    ).fetchall()
    outbox: dict[int, Any] = {}
    for seq, to, owner, *values in db.execute(
        f"SELECT seq, destination, owner IS NOT NULL, {', '.join(ROW)} FROM outbox"
    ).fetchall():
        row = {**dict(zip(ROW, values, strict=True)), "owner": owner}
        outbox.setdefault(seq, {})[to] = row
    entries = []
    for seq, *row in rows:
        *values, text, source, type_ = row
        known = None if text is None else (text, source, type_)
        entry = {**dict(zip(names, values, strict=True)), "text": known}
        entries.append({**entry, "outbox": outbox.get(seq, {})})
    days = dict(db.execute("SELECT day, used FROM days").fetchall())
    counts = dict(db.execute("SELECT state, n FROM counts").fetchall())
    kept = db.execute(
        "SELECT name, held, since, misses, probe_at, throttled_until, failing FROM peers"
    )
    return entries, days, counts, {name: tuple(state) for name, *state in kept.fetchall()}


texts = st.sampled_from(["TEXT-ONE", "TEXT-TWO", "TEXT-TWO" + " and so on" * 2000])
keys = st.none() | st.sampled_from(["key a", "key b", "key c"])
letters = st.none() | st.just(b"a letter")
most = st.integers(1, 4)
ways = st.sampled_from(["well", "well", "well", "failed", "given back", "later", "twice"])
waits = st.sampled_from([0.0, 1.0, 40.0, 90000.0])


def told(claim: Any) -> tuple[str, int]:
    """A claim's id and attempt."""
    return (claim.prompt if isinstance(claim, Ask) else claim).id, claim.attempt


class JournalMachine(RuleBasedStateMachine):
    """Operations ride commits in groups; a crash or a full disk may befall the next."""

    @initialize(sizes=st.lists(st.sampled_from([1, 1, 1, 2, 3, 5]), min_size=7, max_size=7))
    def begin(self, sizes: list[int]) -> None:
        self.sizes = sizes
        self.groups = 0
        self.fate: Callable[[], None] = self.commit
        self.clock = Clock()
        self.clock.advance(NOON)
        self.folder = Path(tempfile.mkdtemp(prefix="journal-machine-"))
        self.number = 0
        self.riding: list[Riding] = []
        self.before = Model()
        self.claims: dict[int, Any] = {}
        self.open(self.folder / NAMES[0])
        self.after = self.before.copy()

    def open(self, path: Path) -> None:
        opened = open_journal(path)
        self.db = Watched(opened.connection)
        self.opened = OpenJournal(path, self.db, opened.lock)
        self.thread = Thread()
        self.journal = SqliteJournal(self.opened, self.clock, self.thread)
        found: list[Any] = []
        self.journal.recover(LIMIT, "UTC", PEERS, 0).addCallback(found.append)
        assert [recovered.peers for recovered in found] == [self.before.recover(self.now)]

    @property
    def now(self) -> float:
        return self.clock.seconds()

    def ride(self, run: Callable[[Any], Any], expected: Any = None) -> None:
        self.riding.append(Riding(run, expected))
        if len(self.riding) >= self.sizes[self.groups % len(self.sizes)]:
            self.groups += 1
            fate, self.fate = self.fate, self.commit
            fate()

    # What the rooms ask for.

    @rule(text=texts, key=keys, draining=st.sampled_from([False] * 7 + [True]))
    def accept(self, text: str, key: str | None, draining: bool) -> None:  # noqa: FBT001
        self.accept_one(text, key, draining=draining)

    def accept_one(self, text: str, key: str | None, *, draining: bool) -> None:
        self.number += 1
        prompt = Prompt(str(UUID(int=self.number)), f"{self.number} {text}", "s", "t", self.now)
        if key is not None:
            prompt = Prompt(prompt.id, text, "s", "t", self.now)  # so that it may come again
        terms = Terms(day_at(self.now, UTC), LIMIT, MAX_BACKLOG, draining)
        submission = Submission(prompt, None if key is None else Key((key,)))
        self.ride(
            lambda journal: journal.accept([submission], terms).addCallback(
                lambda admitted: next((each.id, each.left, each.repeated) for each in admitted)
            ),
            self.after.accept(prompt, key, draining=draining),
        )

    @rule(kind=st.sampled_from(["ask", "ask", "target", "dead_letter"]), most=most, ago=waits)
    def claim(self, kind: str, most: int, ago: float) -> None:
        self.claim_some(kind, most, self.now - ago if ago else None)

    def claim_some(self, kind: str, most: int, since: float | None = None) -> None:
        now = self.now

        def run(journal: Any) -> "Deferred[Any]":
            if kind == "ask":
                claims = journal.claim_asks(now, most)
            else:
                claims = journal.claim_deliveries(kind, now, most, untried_since=since)
            return claims.addCallback(
                lambda claims: (self.taken(claims.claimed, numbers), claims.next_due)
            )

        before = self.after.number
        expected = self.after.claim(kind, now, most, None if kind == "ask" else since)
        numbers = range(before + 1, self.after.number + 1)
        self.ride(run, expected)

    def taken(self, claimed: Any, numbers: Any) -> list[tuple[str, int]]:
        """Note what was claimed under the model's numbers; returns it as the model tells it."""
        self.claims.update(zip(numbers, claimed, strict=False))
        return [told(each) for each in claimed]

    # Two alike, so that prompts come far.

    @rule(how=ways, which=st.integers(0, 5), wait=waits, letter=letters)
    def work(self, how: str, which: int, wait: float, letter: bytes | None) -> None:
        self.proceed(how, which, wait, letter)

    @rule(how=ways, which=st.integers(0, 5), wait=waits, letter=letters)
    def work_on(self, how: str, which: int, wait: float, letter: bytes | None) -> None:
        self.proceed(how, which, wait, letter)

    def proceed(self, how: str, which: int, wait: float, letter: bytes | None) -> None:
        """End one of the calls under way, or begin some."""
        if not self.after.hand:
            self.claim_what_waits()
            return
        claim = self.after.hand[which % len(self.after.hand)]
        if how == "twice":  # it ends again later, under a token that is no longer its own
            self.postpone(claim, 0.0, possibly_billed=False, held=False)
            self.claim_some(claim.kind, 4)
            return
        self.after.hand.remove(claim)
        if how == "later":
            self.postpone(claim, wait, possibly_billed=which % 2 == 0, held=which % 3 == 0)
        elif how != "well":
            self.failed(claim, letter, give_back=claim.kind == "ask" and how == "given back")
        elif claim.kind == "ask":
            self.answered(claim, delivers=which % 3 > 0)
        else:
            self.delivered(claim)

    def claim_what_waits(self) -> None:
        entries = self.after.entries.values()
        kinds = {kind for e in entries for kind, row in e.outbox.items() if row.due <= self.now}
        if any(e.state == "accepted" and e.due <= self.now for e in entries):
            kinds.add("ask")
        if kinds:
            self.claim_some(max(kinds), 3)
        else:
            self.accept_one("TEXT-MORE", None, draining=False)

    def end(self, held: Claim, outcome: Any, kept: bool, **options: Any) -> None:  # noqa: FBT001
        """End a claim of the model's; whether it is to be kept is known."""
        now, number = self.now, self.after.number

        def run(journal: Any) -> "Deferred[Any]":
            work = self.claims[held.number]
            if held.kind == "ask":
                ended = journal.ask_ended(work, outcome, now, **options)
            else:
                ended = journal.delivery_ended(work, outcome, now)
            return ended.addCallback(self.note_delivery, number)

        self.ride(run, kept)

    def note_delivery(self, ended: Any, number: int) -> bool:
        if ended.delivery is not None:
            self.claims[number] = ended.delivery
        kept: bool = ended.kept
        return kept

    def answered(self, claim: Claim, *, delivers: bool) -> None:
        event = f"the event of {claim.id}".encode()
        kept = self.after.answered(claim, event, self.now, delivers=delivers)
        self.end(claim, Answered(ANSWER, event), kept, claim=delivers)

    def delivered(self, claim: Claim) -> None:
        self.end(claim, Delivered(), self.after.delivered(claim, self.now))

    def failed(self, claim: Claim, letter: bytes | None, *, give_back: bool) -> None:
        kept = self.after.failed(claim, self.now, "why", letter, give_back=give_back)
        self.end(claim, Failed("why", give_back, letter), kept)

    def postpone(self, claim: Claim, wait: float, *, possibly_billed: bool, held: bool) -> None:
        until, since = self.now + wait, self.now if held else None
        kept = self.after.postpone(
            claim, until, "for now", possibly_billed=possibly_billed, held=since
        )
        self.end(claim, Postponed(until, "for now", possibly_billed, since), kept)

    @rule(peer=st.sampled_from(list(PEERS)), misses=st.integers(0, 3))
    def remember(self, peer: str, misses: int) -> None:
        state = PeerState("held", NOON, misses)
        self.after.remember(peer, state)
        self.ride(lambda journal: journal.remember(peer, state))

    @precondition(lambda self: self.has_failed())
    @rule(data=st.data())
    def redrive(self, data: Any) -> None:
        id_ = data.draw(self.mostly_failed())
        self.ride(lambda journal: journal.redrive(id_), self.after.redrive(id_, self.now))

    @precondition(lambda self: self.has_failed())
    @rule(data=st.data())
    def purge(self, data: Any) -> None:
        id_ = data.draw(self.mostly_failed())
        self.ride(lambda journal: journal.purge(id_), self.after.purge(id_))

    @precondition(lambda self: self.after.entries)
    @rule(data=st.data())
    def cancel(self, data: Any) -> None:
        id_ = data.draw(st.sampled_from(list(self.after.entries)))
        self.ride(lambda journal: journal.cancel(id_), self.after.cancel(id_, self.now))

    def has_failed(self) -> bool:
        return any(entry.state == "failed" for entry in self.after.entries.values())

    def mostly_failed(self) -> Any:
        failed = [e.id for e in self.after.entries.values() if e.state == "failed"]
        return st.sampled_from([*failed * 3, *self.after.entries])

    # What becomes of a group.

    def commit(self) -> None:
        self.run()
        self.check_outcomes()
        self.keep(self.after)

    @rule(
        what=st.sampled_from(["crash", "full", "full for good", "nothing", "nothing", "nothing"]),
        at=st.integers(0, 60),
        share=st.floats(0, 1),
    )
    def befall(self, what: str, at: int, share: float) -> None:
        """Something happens to the next commit."""
        if what == "crash":
            self.fate = lambda: self.crashed(at, share)
        elif what != "nothing":
            self.fate = lambda: self.filled(at, for_good=what == "full for good")

    def crashed(self, at: int, share: float) -> None:
        copies: list[Copy] = []
        self.db.step = lambda _: copies.append(Copy.of(self.folder))
        self.run()
        self.db.step = lambda _: None
        copies.append(Copy.of(self.folder))
        if len(copies) > 1:
            copies.append(copies[-2].torn(copies[-1], share))
        states = [self.before.snapshot(), self.after.snapshot()]
        found = [self.state_of(copy) for copy in dict.fromkeys(copies)]
        for state in found:
            assert state in states, f"a crash left {state}, which is none of {states}"
        assert self.state_of(copies[0]) == states[0], "it was written before its transaction"
        copy = copies[at % len(copies)]
        self.before = self.after if self.state_of(copy) == states[1] else self.before
        self.end_run()
        self.open(copy.put(self.new_folder()))
        self.keep(self.before)

    def filled(self, at: int, *, for_good: bool) -> None:
        steps = 0

        def fail(sql: str) -> None:
            nonlocal steps
            steps += 1
            if sql != "ROLLBACK" and (steps - 1 == at or (for_good and steps > at)):
                raise sqlite3.OperationalError(FULL)

        self.db.step = fail
        self.run()
        self.db.step = lambda _: None
        failed = [
            isinstance(each.outcome, Failure) and each.outcome.check(JournalUnavailable) is not None
            for each in self.riding
        ]
        if for_good and any(failed):
            assert all(failed), "some of a group that could not be written were"
            assert self.journal.fault == FULL
            self.keep(self.before)
        else:
            self.check_outcomes()
            self.keep(self.after)

    @precondition(lambda self: not self.riding)
    @rule(
        what=st.sampled_from(["nothing", "nothing", "prune", "restart"]),
        seconds=st.sampled_from([0.0, 1.0, 35.0, 43200.0, 86400.0]),
        ago=waits,
    )
    def meanwhile(self, what: str, seconds: float, ago: float) -> None:
        self.clock.advance(seconds)
        if what == "prune":
            assert self.outcome_of(self.journal.prune(self.now - ago)) is None
            self.after.prune(self.now - ago)
            self.keep(self.after)
        elif what == "restart":
            self.close()
            self.open(self.folder / NAMES[0])
            self.keep(self.before)

    # How they are run and compared.

    def run(self) -> None:
        """Run what rides as one group."""
        self.thread.hold()
        # The thread is busy with it, so that all others ride together.
        self.journal.tally("").addErrback(lambda failure: failure.trap(JournalUnavailable))
        for each in self.riding:
            each.run(self.journal).addBoth(lambda outcome, each=each: self.note(each, outcome))
        self.thread.release()
        self.clock.advance(0)  # the turns that a group leaves before the next

    def note(self, riding: Riding, outcome: Any) -> None:
        riding.outcome = outcome

    def check_outcomes(self) -> None:
        for each in self.riding:
            if isinstance(each.expected, Refused):
                assert isinstance(each.outcome, Failure), (each.outcome, each.expected)
                assert each.outcome.check(each.expected.kind), (each.outcome, each.expected)
            else:
                assert each.outcome == each.expected, (each.outcome, each.expected)

    def keep(self, model: Model) -> None:
        """This is how it is now."""
        model.committed()
        self.before, self.after = model, model.copy()
        self.riding = []

    def outcome_of(self, deferred: "Deferred[Any]") -> Any:
        found: list[Any] = []
        deferred.addBoth(found.append)
        self.clock.advance(0)
        (outcome,) = found
        return outcome

    def state_of(self, copy: Copy) -> Any:
        with tempfile.TemporaryDirectory(prefix="journal-machine-") as folder:
            return snapshot(copy.put(Path(folder)))

    def new_folder(self) -> Path:
        shutil.rmtree(self.folder)
        self.folder = Path(tempfile.mkdtemp(prefix="journal-machine-"))
        return self.folder

    def close(self) -> None:
        """Close it; no file may hold a text that is no more."""
        assert self.outcome_of(self.journal.close()) is None
        kept = {entry.id for entry in self.before.entries.values() if entry.text}
        content = b"".join(path.read_bytes() for path in self.folder.iterdir())
        events = {f"the event of {UUID(int=n)}".encode() for n in range(1, self.number + 1)}
        for event in events:
            if event in content:
                assert event.split()[-1].decode() in kept, f"{event!r} can be read"
        if not kept:
            assert b"TEXT-" not in content, "a text can be read"
            assert b"a letter" not in content, "a letter can be read"
        assert b"key a" not in content, "a key can be read"

    def end_run(self) -> None:
        """End as a crash does."""
        for call in self.clock.getDelayedCalls():
            call.cancel()
        with contextlib.suppress(OSError):
            self.opened.close()

    @invariant()
    def is_as_the_model_says(self) -> None:
        if hasattr(self, "db") and not self.riding:
            found, expected = snapshot_of(self.db), self.before.snapshot()
            assert found == expected, (found, expected)
            for day, used in self.before.days.items():
                assert 0 <= used <= LIMIT, (day, used)
            claimed = [(each.kind, each.id) for each in self.before.hand if self.holds(each)]
            assert len(set(claimed)) == len(claimed), claimed

    def holds(self, claim: Claim) -> bool:
        return self.before.holders.get((claim.kind, claim.id)) == claim.number

    def teardown(self) -> None:
        if hasattr(self, "db"):
            self.end_run() if self.riding else self.close()
            shutil.rmtree(self.folder)


class JournalMachineTests(SynchronousTestCase):
    timeout = 60 if not LONG else 1200

    def test_it_does_as_the_model(self) -> None:
        self.patch(outcomes, "MOST_DELAY", 0.0)
        run_state_machine_as_test(
            JournalMachine,
            settings=settings(
                max_examples=1500 if LONG else 120,
                stateful_step_count=60 if LONG else 40,
                derandomize=not LONG,
                database=None,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
